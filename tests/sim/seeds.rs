//! Mixed faults: a swarm, its work and its faults are all drawn from one seed. Then the faults end,
//! and everything must converge.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use potluck::id::{Fingerprint, TokenId};
use potluck::keyring::Keyring;

use crate::sim::cast::Mischief;
use crate::sim::checks::{self, Law2, Rules};
use crate::sim::engine::{Flaw, NAMES, shape_small};
use crate::sim::faults::{DEEDS, Fault, KINDS, bad_weather};
use crate::sim::heap::{Dice, MS, Micros, SECOND};
use crate::sim::net::Medium;
use crate::sim::talk::{config, prompt};
use crate::sim::world::{Power, Sim};

/// Seeds that the test runs.
const SEEDS: u64 = 300;

/// Time for every prompt to be answered and every directory to be right once the faults end, in
/// milliseconds.
const ANSWER_MS: u64 = 600_000;
const CONVERGE_MS: u64 = 240_000;

/// A swarm drawn from the seed.
fn swarm(seed: u64, dice: &mut Dice, lies: bool, mild: bool) -> Sim {
    let medium = if dice.chance(500) { Medium::Switched } else { Medium::Air };
    // A board computes a token in the time that a line of 6 bytes per millisecond carries it.
    let rates: &[u64] =
        if mild { &[6, 20, 100, 1_000, 20_000] } else { &[3, 10, 50, 300, 2_000, 20_000] };
    let rate = rates[dice.index(rates.len())];
    let mut sim = Sim::new("mixed faults", seed, medium, rate);
    let shape = shape_small([40, 64, 200][dice.index(3)]);
    let blocks = [40, 60, 200][dice.index(3)];
    // In most runs nodes audit, in some runs everything that they fetch.
    let share = [0, 100, 2_000, 10_000][Dice::new(seed ^ 0x5a_7e).index(4)];
    for number in 0..dice.between(2, 6) {
        let mut settings = config(number, &shape, blocks * 16 * 204);
        settings.announce_interval_ms = [1_000, 5_000, 10_000][dice.index(3)];
        settings.context = 600;
        settings.audit_per_10k = share;
        if dice.chance(80) {
            sim.count("node with another model");
            settings.fingerprint = Fingerprint([8; 16]);
        }
        if dice.chance(80) {
            sim.count("node with another key");
            settings.keys = Keyring::new(b"another", []);
        }
        let ppm = if dice.chance(500) { dice.between(0, 400) as i64 - 200 } else { 0 };
        if ppm != 0 {
            sim.count("clock drifts");
        }
        let rate = dice.between(1, 40) * MS;
        settings.prefill_tokens_per_s = Some(1e6 / rate as f32);
        sim.join_with_clock(settings, rate, dice.below(SECOND * 1_000), ppm);
    }
    sim.most_events = 2_000_000;
    sim.net.segment = [64, 512, 2_000][dice.index(3)];
    sim.net.window = 4 * sim.net.segment;
    // With small slabs and silent peers a prompt may find no room.
    sim.rules = Rules {
        lies,
        refusals: true,
        law2: (!lies).then_some(Law2::PROMISED),
        own_bytes_win: true,
        ..Rules::default()
    };
    if !mild && dice.chance(700) {
        sim.net.weather = bad_weather(dice);
    }
    sim
}

/// Where peers lie, one of them may have another CPU or broken memory.
fn flaw(sim: &mut Sim, seed: u64, lies: bool) {
    let mut dice = Dice::new(seed ^ 0x00a0_d175);
    let flawed = dice.index(sim.stations.len());
    if lies && dice.chance(500) {
        let percent = dice.between(1, 100);
        let flaw = if dice.chance(700) {
            Flaw::OtherBits { percent }
        } else {
            Flaw::BadMemory { percent }
        };
        sim.count("engine is flawed");
        sim.stations[flawed].engine.flaw = Some(flaw);
    }
}

/// A prompt that shares its beginning with others.
fn draw_prompt(dice: &mut Dice) -> Vec<TokenId> {
    let mut tokens = prompt(dice.zipf(6) as u32, 240);
    tokens.truncate(dice.between(0, 240) as usize);
    tokens.extend(prompt(1_000 + dice.below(40) as u32, dice.between(1, 60) as usize));
    tokens
}

/// Runs one seed to its end. Returns how often each thing happened, the number of events,
/// and the time.
pub fn run(seed: u64) -> (BTreeMap<&'static str, u64>, u64, Micros) {
    let mut dice = Dice::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let lies = dice.chance(250);
    // In some runs faults are few, so that they meet a swarm at work.
    let mild = dice.chance(400);
    let mut sim = swarm(seed, &mut dice, lies, mild);
    let liar = (lies && dice.chance(700)).then(|| dice.index(sim.stations.len()));
    let lie = [Mischief::WrongBlock, Mischief::WrongBytes, Mischief::Poison][dice.index(3)];
    flaw(&mut sim, seed, lies);
    let lies_from = sim.now + dice.between(5, 30) * SECOND;
    let end = sim.now + dice.between(30, 150) * SECOND;
    let mut open = Vec::new();
    // Some prompts are repeated, some are answered in the manner, and some answers are sampled.
    let (mut asked, mut habit): (Vec<Vec<TokenId>>, _) = (Vec::new(), Dice::new(seed ^ 0xd4af));
    while sim.now < end {
        sim.pass(dice.between(1, 3_000));
        let who = dice.index(sim.stations.len());
        if let Some(liar) =
            liar.filter(|liar| sim.now > lies_from && sim.stations[*liar].mischief.is_none())
        {
            sim.corrupt(liar, lie);
        }
        match dice.below(10) {
            7.. if mild && dice.chance(800) => {}
            0..=5 if sim.stations[who].power == Power::On => {
                let mut tokens = draw_prompt(&mut dice);
                let mut max_tokens = dice.between(1, 20) as usize;
                if habit.chance(400) && !asked.is_empty() {
                    tokens.clone_from(&asked[habit.index(asked.len())]);
                    max_tokens += habit.below(60) as usize;
                }
                if habit.chance(300) {
                    tokens.push(TokenId(NAMES));
                    max_tokens += habit.below(40) as usize;
                }
                asked.push(tokens.clone());
                let id = match dice.chance(40) {
                    true => sim.ask_privately(who, &tokens, max_tokens),
                    false if habit.chance(300) => {
                        sim.ask_drawn(who, &tokens, max_tokens, habit.below(2))
                    }
                    false => sim.ask(who, &tokens, max_tokens),
                };
                open.push((who, id));
            }
            6 if !open.is_empty() => {
                let (who, id) = open.swap_remove(dice.index(open.len()));
                sim.stop(who, id);
            }
            7.. => sim.inflict(Fault::ALL[dice.index(Fault::ALL.len())], &mut dice, lies),
            _ => {}
        }
    }
    sim.heal();
    if sim.pass_until(1_000, ANSWER_MS, |sim| checks::all_answered(sim).is_ok()).is_none()
        && let Err(what) = checks::all_answered(&sim)
    {
        sim.fail(&what);
    }
    if sim.pass_until(1_000, CONVERGE_MS, |sim| checks::stale_pairs(sim).is_empty()).is_none() {
        sim.fail(&format!(
            "these do not know each other's filters: {:?}",
            checks::stale_pairs(&sim)
        ));
    }
    if sim.pass_until(1_000, CONVERGE_MS, |sim| checks::all_quiet(sim).is_ok()).is_none() {
        sim.assert_quiet();
    }
    if !lies
        && let Some(who) =
            (0..sim.stations.len()).find(|who| sim.status(*who).node_stats.audits_failed > 0)
    {
        sim.fail(&format!("node {who} accuses an honest node: {:?}", sim.notes(who)));
    }
    (sim.counts, sim.events, sim.now)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().expect("a number"))
}

/// `SIM_SEED` runs one seed only; `SIM_SEEDS` runs that many, starting at `SIM_FIRST`.
#[test]
fn mixed_faults_break_no_promise_and_everything_converges_afterwards() {
    if let Some(seed) = number("SIM_SEED") {
        let (counts, events, now) = run(seed);
        eprintln!("seed {seed} holds: {events} events in {} s: {counts:?}", now / SECOND);
        return;
    }
    let (first, count) = (number("SIM_FIRST").unwrap_or(1), number("SIM_SEEDS").unwrap_or(SEEDS));
    let next = AtomicU64::new(first);
    let met: Mutex<BTreeMap<&'static str, u64>> = Mutex::default();
    let broken: Mutex<Vec<u64>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                        Ok((counts, ..)) => {
                            let mut met = met.lock().expect("nobody panics with it");
                            counts
                                .into_iter()
                                .for_each(|(kind, count)| *met.entry(kind).or_default() += count);
                        }
                        Err(_) => broken.lock().expect("nobody panics with it").push(seed),
                    }
                }
            });
        }
    });
    let (met, mut broken) =
        (met.into_inner().expect("all are done"), broken.into_inner().expect("all are done"));
    broken.sort_unstable();
    eprintln!("{count} seeds from {first}: {met:#?}");
    assert!(
        broken.is_empty(),
        "{} of {count} seeds break a promise: {:?}",
        broken.len(),
        &broken[..broken.len().min(40)]
    );
    let missing: Vec<_> =
        KINDS.iter().chain(&DEEDS).filter(|kind| !met.contains_key(**kind)).collect();
    assert!(missing.is_empty() || count < SEEDS, "what never happened: {missing:?}");
}
