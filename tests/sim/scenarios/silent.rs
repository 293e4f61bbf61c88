//! Peers that accept wants and send nothing, and peers that all ask at once.

use super::{RADIO, ROOM, computing, shape};
use crate::sim::cast::Mischief;
use crate::sim::engine::shape_small;
use crate::sim::talk::{BOARD, SLAB, config, prompt};
use crate::sim::world::Sim;

#[test]
fn a_peer_that_only_cancels_costs_a_step_at_most() {
    let mut sim = Sim::new("only cancels", 1, crate::sim::net::Medium::Switched, RADIO);
    sim.join(config(0, &shape(), ROOM), 10);
    sim.join(config(1, &shape(), ROOM), BOARD);
    sim.pass(2_000);
    for seed in 50..53 {
        sim.answer_now(0, &prompt(seed, 200), 1);
        sim.answer_now(1, &prompt(seed, 200), 1);
    }
    let prompts: Vec<_> = (1..15).map(|seed| prompt(seed, 400)).collect();
    for tokens in &prompts {
        sim.answer_now(0, tokens, 1);
    }
    sim.corrupt(0, Mischief::OnlyCancels);
    let alone = computing(400);
    let cost: Vec<u64> =
        prompts.iter().map(|tokens| sim.ttft_now(1, tokens).saturating_sub(alone)).collect();
    eprintln!("only cancels: costs {cost:?} ms a prompt, a step is {} ms", computing(64));
    assert!(cost.iter().all(|cost| *cost <= computing(64)), "{cost:?} ms");
}

#[test]
fn a_delta_that_all_have_lost_makes_no_storm() {
    let nodes = 64;
    let mut sim = Sim::new("pull storm", 1, crate::sim::net::Medium::Switched, RADIO);
    sim.rules.every_event = false;
    for number in 0..nodes {
        sim.join(config(number, &shape_small(64), SLAB), 100);
    }
    let settled = |sim: &Sim| crate::sim::checks::stale_pairs(sim).is_empty();
    assert!(sim.pass_until(1_000, 300_000, settled).is_some(), "all must know each other");
    for other in 1..nodes as usize {
        sim.cut(0, other);
    }
    sim.answer_now(0, &prompt(1, 300), 1);
    sim.net.cuts.clear();
    let before = sim.net.traffic.clone();
    let generation = sim.status(0).generation;
    let current = |sim: &Sim| {
        let knows = |who: &usize| {
            let peers = sim.status(*who).peers;
            peers.iter().any(|peer| {
                peer.node == sim.stations[0].config.node
                    && peer.current
                    && peer.generation == generation
            })
        };
        (1..nodes as usize).filter(knows).count()
    };
    let first = sim.pass_until(50, 120_000, |sim| current(sim) > 0).expect("somebody learns of it");
    let all = sim.pass_until(100, 300_000, |sim| current(sim) == nodes as usize - 1);
    let (connects, refused) =
        (sim.net.traffic.connects - before.connects, sim.net.traffic.refused - before.refused);
    let what = format!(
        "64 nodes: the first knows after {first} ms, the last {all:?} ms later; {connects} connects, {refused} refused"
    );
    eprintln!("{what}");
    assert!(
        all.is_some_and(|ms| ms <= 10_000) && connects <= 2 * (nodes - 1) && refused == 0,
        "{what}"
    );
}
