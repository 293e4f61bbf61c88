//! How a swarm scales: one radio with 10, 100 and 1,000 nodes, from the moment that power returns.
//!
//! Blocks are small here (204 bytes per token), because this measures what nodes announce about
//! their blocks. Datagrams, filters and their repairs have real sizes, on a radio of 21 Mbit/s
//! whose multicast runs at 1 Mbit/s.

use std::fmt::Write;
use std::time::Instant;

use potluck::id::TokenId;
use potluck::limits::BLOCK_TOKENS;

use crate::sim::checks::Rules;
use crate::sim::engine::shape_small;
use crate::sim::heap::{Dice, MS, SECOND};
use crate::sim::host::{most_peers, sized_for};
use crate::sim::net::Medium;
use crate::sim::talk::{BOARD, config, prompt};
use crate::sim::world::Sim;

/// 21 Mbit/s, in bytes per millisecond, doubled because the access point relays.
const RADIO: u64 = 2 * 2_600;
/// Capacity of each node in blocks.
const BLOCKS: usize = 200;
/// Lost datagrams per thousand, for each receiver.
const LOSS: u64 = 20;
/// Nodes to sample where examining all would take too long.
const SAMPLE: usize = 200;
/// Tokens of a prompt that others may share, and those of its own.
const SHARED: usize = 160;
const OWN: usize = 32;
/// Shared prefixes, and prompts per node.
const TOPICS: usize = 200;
const PROMPTS: usize = 2;
/// Seconds over which the prompts arrive.
const WORK_S: u64 = 240;

/// The measurements for one size: times in milliseconds of virtual time, air time per thousand.
#[derive(Default, Debug)]
struct Row {
    nodes: usize,
    memory_kb_a_node: u64,
    settled_ms: Option<u64>,
    boot_air_ms_a_node: u64,
    idle_air_per_mille: f64,
    idle_bytes_a_s_a_node: f64,
    newcomer_air_ms: u64,
    newcomer_known_95_ms: Option<u64>,
    newcomer_known_ms: Option<u64>,
    block_known_half_ms: Option<u64>,
    block_known_99_ms: Option<u64>,
    work_air_per_mille: f64,
    hit_tokens: usize,
    possible_tokens: usize,
    lost_delta_connects: u64,
    lost_delta_refused: u64,
    lost_delta_99_ms: Option<u64>,
    run_s: f64,
}

impl Row {
    fn hit_loss_percent(&self) -> f64 {
        100.0 * (1.0 - self.hit_tokens as f64 / self.possible_tokens.max(1) as f64)
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let ms = |time: Option<u64>| time.map_or("null".to_string(), |ms| ms.to_string());
        vec![
            ("nodes", self.nodes.to_string()),
            ("memory_kb_a_node", self.memory_kb_a_node.to_string()),
            ("settled_ms", ms(self.settled_ms)),
            ("boot_air_ms_a_node", self.boot_air_ms_a_node.to_string()),
            ("idle_air_per_mille", format!("{:.2}", self.idle_air_per_mille)),
            ("idle_bytes_a_s_a_node", format!("{:.1}", self.idle_bytes_a_s_a_node)),
            ("newcomer_air_ms", self.newcomer_air_ms.to_string()),
            ("newcomer_known_95_ms", ms(self.newcomer_known_95_ms)),
            ("newcomer_known_ms", ms(self.newcomer_known_ms)),
            ("block_known_half_ms", ms(self.block_known_half_ms)),
            ("block_known_99_ms", ms(self.block_known_99_ms)),
            ("work_air_per_mille", format!("{:.2}", self.work_air_per_mille)),
            ("hit_loss_percent", format!("{:.2}", self.hit_loss_percent())),
            ("lost_delta_connects", self.lost_delta_connects.to_string()),
            ("lost_delta_refused", self.lost_delta_refused.to_string()),
            ("lost_delta_99_ms", ms(self.lost_delta_99_ms)),
            ("run_s", format!("{:.1}", self.run_s)),
        ]
    }
}

/// Resident kilobytes of this process.
fn memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Nodes to examine: all, or a sample spread over all.
fn sample(nodes: usize, but: usize) -> Vec<usize> {
    let step = nodes.div_ceil(SAMPLE).max(1);
    (0..nodes).step_by(step).filter(|who| *who != but).collect()
}

/// How many of `among` know `whom` at its present generation.
fn knowing(sim: &Sim, whom: usize, among: &[usize]) -> usize {
    let (node, generation) = (sim.stations[whom].config.node, sim.status(whom).generation);
    let knows = |who: &&usize| {
        let peers = sim.status(**who).peers;
        peers.iter().any(|peer| peer.node == node && peer.current && peer.generation == generation)
    };
    among.iter().filter(knows).count()
}

/// Air time of datagrams in `ms` milliseconds, per thousand.
fn per_mille(sim: &Sim, air_before: u64, ms: u64) -> f64 {
    (sim.net.traffic.datagram_air - air_before) as f64 / ms as f64
}

fn settings(nodes: usize, number: u64) -> potluck::node::NodeConfig {
    let mut settings = config(number, &shape_small(64), BLOCKS * BLOCK_TOKENS * 204);
    settings.prefill_tokens_per_s = Some(1e6 / BOARD as f32);
    sized_for(nodes + 1, settings)
}

fn measure(nodes: usize) -> Row {
    let began = Instant::now();
    let mut row = Row { nodes, ..Row::default() };
    let memory = memory_kb();
    let mut sim = Sim::new("scale", nodes as u64, Medium::Air, RADIO);
    sim.rules = Rules { every_event: false, ..Rules::default() };
    sim.net.weather.lose = LOSS;
    let mut dice = Dice::new(9);
    boot(&mut sim, nodes, &mut dice, &mut row);
    idle(&mut sim, nodes, &mut row);
    row.memory_kb_a_node = memory_kb().saturating_sub(memory) / nodes as u64;
    new_block(&mut sim, nodes, &mut row);
    work(&mut sim, nodes, &mut dice, &mut row);
    lost_delta(&mut sim, nodes, &mut row);
    newcomer(&mut sim, nodes, &mut row);
    row.run_s = began.elapsed().as_secs_f64();
    row
}

/// Starts all nodes within ten seconds.
fn boot(sim: &mut Sim, nodes: usize, dice: &mut Dice, row: &mut Row) {
    for number in 0..nodes as u64 {
        sim.join_with_clock(settings(nodes, number), BOARD, dice.below(1_000 * SECOND), 0);
        sim.pass(dice.below(20_000 / nodes as u64 + 1));
    }
    let looked_at = sample(nodes, nodes);
    let all = |sim: &Sim| looked_at.iter().all(|who| sim.status(*who).peers.len() == nodes - 1);
    row.settled_ms = sim.pass_until(2_000, 1_200_000, all);
    row.boot_air_ms_a_node = sim.net.traffic.datagram_air / MS / nodes as u64;
}

fn idle(sim: &mut Sim, nodes: usize, row: &mut Row) {
    // The traffic of the start is over after the longest interval.
    sim.pass(300_000);
    let (air, bytes) = (sim.net.traffic.datagram_air, sim.net.traffic.datagram_bytes);
    sim.pass(300_000);
    row.idle_air_per_mille = per_mille(sim, air, 300_000);
    row.idle_bytes_a_s_a_node =
        (sim.net.traffic.datagram_bytes - bytes) as f64 / 300.0 / nodes as f64;
}

fn new_block(sim: &mut Sim, nodes: usize, row: &mut Row) {
    let tokens = prompt(1_000_000, 100);
    let id = sim.ask(0, &tokens, 1);
    sim.await_answer(0, id);
    let looked_at = sample(nodes, 0);
    let began = sim.now;
    while sim.now < began + 600 * SECOND && row.block_known_99_ms.is_none() {
        sim.pass(20 + (sim.now - began) / MS / 20);
        // Its generation rises with each delta that announces the block.
        let know = if sim.status(0).told { knowing(sim, 0, &looked_at) } else { 0 };
        if know * 2 >= looked_at.len() {
            row.block_known_half_ms.get_or_insert((sim.now - began) / MS);
        }
        if know * 100 >= looked_at.len() * 99 {
            row.block_known_99_ms = Some((sim.now - began) / MS);
        }
    }
}

/// The tokens of `prompt` that would be known if everyone knew everyone's whole blocks.
fn possible(done: &[Vec<TokenId>], prompt: &[TokenId]) -> usize {
    let common = |other: &Vec<TokenId>| {
        other.iter().zip(prompt).take_while(|(one, other)| one == other).count()
    };
    let most = done.iter().map(common).max().unwrap_or(0).min(prompt.len() - 1);
    most / BLOCK_TOKENS * BLOCK_TOKENS
}

fn work(sim: &mut Sim, nodes: usize, dice: &mut Dice, row: &mut Row) {
    let air = sim.net.traffic.datagram_air;
    let began = sim.now;
    let mut open: Vec<(usize, u64, usize, Vec<TokenId>)> = Vec::new();
    let mut done: Vec<Vec<TokenId>> = Vec::new();
    for number in 0..nodes * PROMPTS {
        sim.pass(dice.below(2 * WORK_S * 1_000 / (nodes * PROMPTS) as u64 + 1));
        let who = dice.index(nodes);
        open.retain(|(who, id, most, tokens)| {
            let Some(asked) = sim.closed_prompt(*who, *id) else { return true };
            let figures = asked.answer.as_ref().expect("closed prompts have answers").figures();
            row.hit_tokens += (figures.own + figures.from_peers()).min(*most);
            row.possible_tokens += most;
            done.push(tokens.clone());
            false
        });
        if !sim.stations[who].ledger.open.is_empty() {
            continue;
        }
        let mut tokens = prompt(dice.zipf(TOPICS) as u32, SHARED);
        tokens.extend(prompt((10_000 + number) as u32, OWN));
        let most = possible(&done, &tokens);
        open.push((who, sim.ask(who, &tokens, 1), most, tokens));
    }
    row.work_air_per_mille = per_mille(sim, air, (sim.now - began) / MS);
    sim.pass(30_000);
}

/// A delta that nobody receives: how many connect for what they missed, and when all know it.
fn lost_delta(sim: &mut Sim, nodes: usize, row: &mut Row) {
    sim.pass(120_000);
    sim.stations[1].deaf = true;
    let id = sim.ask(1, &prompt(2_000_000, 100), 1);
    sim.await_answer(1, id);
    sim.pass_until(100, 60_000, |sim| sim.status(1).told);
    sim.stations[1].deaf = false;
    let before = sim.net.traffic.clone();
    let looked_at = sample(nodes, 1);
    let began = sim.now;
    while sim.now < began + 900 * SECOND && row.lost_delta_99_ms.is_none() {
        sim.pass(100 + (sim.now - began) / MS / 20);
        if knowing(sim, 1, &looked_at) * 100 >= looked_at.len() * 99 {
            row.lost_delta_99_ms = Some((sim.now - began) / MS);
        }
    }
    row.lost_delta_connects = sim.net.traffic.connects - before.connects;
    row.lost_delta_refused = sim.net.traffic.refused - before.refused;
}

/// One more node: the air time of its greeting, and when it knows all.
fn newcomer(sim: &mut Sim, nodes: usize, row: &mut Row) {
    sim.pass(60_000);
    let (air, began) = (sim.net.traffic.datagram_air, sim.now);
    let who = sim.join_with_clock(settings(nodes, nodes as u64), BOARD, 0, 0);
    let knows = |sim: &Sim, percent: usize| sim.status(who).peers.len() * 100 >= nodes * percent;
    row.newcomer_known_95_ms = sim.pass_until(200, 900_000, |sim| knows(sim, 95));
    let rest = sim.pass_until(200, 900_000, |sim| knows(sim, 100));
    row.newcomer_known_ms = row.newcomer_known_95_ms.zip(rest).map(|(most, rest)| most + rest);
    let share = row.idle_air_per_mille * ((sim.now - began) / MS) as f64;
    row.newcomer_air_ms =
        (((sim.net.traffic.datagram_air - air) as f64 - share) / MS as f64).max(0.0) as u64;
}

/// `SIM_SCALE` lists the sizes; `SIM_OUT` is the file for the figures.
#[test]
fn how_a_swarm_scales() {
    let sizes = std::env::var("SIM_SCALE").unwrap_or_else(|_| "10".to_string());
    let mut rows = Vec::new();
    for nodes in sizes.split(',').map(|size| size.trim().parse().expect("a number of nodes")) {
        let holds = most_peers(&settings(nodes, 0));
        if nodes >= holds {
            eprintln!("{nodes} nodes: a node's tables hold {holds} peers");
            continue;
        }
        let row = measure(nodes);
        row.fields().iter().for_each(|(name, value)| eprintln!("{name:>24}  {value}"));
        eprintln!();
        rows.push(row);
    }
    let mut json = String::from("[\n");
    for (at, row) in rows.iter().enumerate() {
        let fields: Vec<String> =
            row.fields().iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        let _ = writeln!(
            json,
            "  {{{}}}{}",
            fields.join(", "),
            if at + 1 < rows.len() { "," } else { "" }
        );
    }
    json.push_str("]\n");
    if let Some(path) = std::env::var_os("SIM_OUT") {
        std::fs::write(path, json).expect("the figures must be writable");
    }
    for row in &rows {
        assert!(
            row.idle_air_per_mille <= 10.0,
            "an idle swarm takes more than 1 % of the air time: {row:?}"
        );
        assert!(row.settled_ms.is_some() && row.block_known_99_ms.is_some(), "{row:?}");
    }
}
