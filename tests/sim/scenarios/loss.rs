//! Lost multicast, and the air time of an idle swarm.

use crate::sim::checks;
use crate::sim::engine::shape_small;
use crate::sim::heap::Dice;
use crate::sim::talk::{SLAB, config, prompt};
use crate::sim::world::Sim;

const NODES: u64 = 6;

/// A swarm that computes more slowly than it fetches, repeats 60 prompts on other nodes, and loses
/// `per_mille` of all datagrams. Returns it, and how many tokens came from peers.
fn hits(per_mille: u64, seed: u64) -> (Sim, usize) {
    let mut sim = Sim::new("lossy multicast", seed, crate::sim::net::Medium::Switched, 20_000);
    for number in 0..NODES {
        sim.join(config(number, &shape_small(64), SLAB), 10_000);
    }
    sim.pass(15_000);
    sim.net.weather.lose = per_mille;
    let mut dice = Dice::new(seed);
    let mut hits = 0;
    for seed in 0..60 {
        let tokens = prompt(seed, 200);
        let first = dice.index(NODES as usize);
        let second = (first + 1 + dice.index(NODES as usize - 1)) % NODES as usize;
        sim.answer_now(first, &tokens, 1);
        sim.pass(dice.between(1_000, 20_000));
        hits += sim.answer_now(second, &tokens, 1).figures().from_peers();
    }
    (sim, hits)
}

#[test]
fn a_third_of_all_multicast_lost_loses_hardly_a_hit() {
    let hits_of = |per_mille| (1..=8).map(|seed| hits(per_mille, seed).1).collect::<Vec<_>>();
    let (all, lossy) = (hits_of(0), hits_of(300));
    let what = format!("{lossy:?} of {all:?} tokens come from peers at 30 % loss");
    eprintln!("{what}");
    assert!(all.iter().all(|all| *all == 60 * 199), "{what}");
    assert!(lossy.iter().sum::<usize>() * 1_000 >= 8 * 60 * 199 * 980, "{what}");
}

#[test]
fn a_swarm_that_lost_most_of_its_multicast_converges_when_it_no_longer_does() {
    let (mut sim, hits) = hits(600, 7);
    sim.net.weather.lose = 0;
    let took = sim.pass_until(100, 120_000, |sim| checks::stale_pairs(sim).is_empty());
    eprintln!("60 % loss: {hits} tokens came from peers; all is known {took:?} ms after it");
    assert!(took.is_some_and(|ms| ms <= 30_000), "{took:?}");
}

#[test]
fn three_idle_nodes_send_less_than_two_hundred_bytes_a_second_each() {
    let mut sim = Sim::swarm("idle", 3, &shape_small(64), SLAB, 20_000);
    for who in 0..3 {
        sim.answer_now(who, &prompt(who as u32, 200), 2);
    }
    sim.pass(30_000);
    let before = sim.net.traffic.datagram_bytes;
    sim.pass(300_000);
    let rate = (sim.net.traffic.datagram_bytes - before) as f64 / 300.0 / 3.0;
    assert!(rate <= 200.0, "{rate:.0} bytes a second and node");
    assert!(rate > 0.0, "nodes that send nothing are forgotten");
}
