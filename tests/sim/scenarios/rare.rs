//! Where announcements are rare, as in a large swarm, the repair of lost datagrams must not wait
//! for the next one.

use crate::sim::engine::shape_small;
use crate::sim::net::Medium;
use crate::sim::talk::{BOARD, SLAB, config, prompt};
use crate::sim::world::Sim;

const NODES: usize = 40;

/// Nodes that announce themselves only every five minutes; each receiver loses `lose` of a
/// thousand datagrams.
fn swarm(seed: u64, lose: u64) -> Sim {
    let mut sim = Sim::new("rare announcements", seed, Medium::Switched, 20_000);
    for number in 0..NODES as u64 {
        join(&mut sim, number);
    }
    sim.pass(300_000);
    sim.net.weather.lose = lose;
    sim
}

fn join(sim: &mut Sim, number: u64) -> usize {
    let settings = config(number, &shape_small(64), SLAB);
    sim.join(potluck::node::NodeConfig { announce_interval_ms: 300_000, ..settings }, BOARD / 100)
}

#[test]
fn a_newcomer_knows_all_within_a_minute_though_a_tenth_of_all_datagrams_is_lost() {
    for seed in 1..9 {
        let mut sim = swarm(seed, 100);
        let who = join(&mut sim, NODES as u64);
        let all = sim.pass_until(200, 60_000, |sim| sim.status(who).peers.len() == NODES);
        assert!(all.is_some(), "seed {seed}: {} of {NODES} are known", sim.status(who).peers.len());
    }
}

#[test]
fn a_delta_that_nobody_heard_is_made_up_for_though_its_node_has_used_up_its_air() {
    let mut sim = swarm(1, 20);
    for seed in 0..12 {
        sim.answer_now(1, &prompt(seed, 300), 1);
    }
    sim.pass_until(100, 120_000, |sim| sim.status(1).told).expect("everything is announced");
    sim.pass(15_000);
    sim.deafen(1, true);
    sim.answer_now(1, &prompt(100, 300), 1);
    sim.pass_until(100, 60_000, |sim| sim.status(1).told).expect("everything is announced");
    sim.deafen(1, false);
    let (node, generation) = (sim.stations[1].config.node, sim.status(1).generation);
    let knows = |sim: &Sim, who: usize| {
        let peers = sim.status(who).peers;
        peers.iter().any(|peer| peer.node == node && peer.current && peer.generation == generation)
    };
    assert!(!(0..NODES).any(|who| who != 1 && knows(&sim, who)), "nobody may have heard of it");
    let before = sim.net.traffic.connects;
    let all = sim.pass_until(100, 60_000, |sim| (0..NODES).all(|who| who == 1 || knows(sim, who)));
    let connects = sim.net.traffic.connects - before;
    eprintln!("all know after {all:?} ms and {connects} connections");
    assert!(all.is_some_and(|ms| ms <= 15_000), "{all:?}");
    assert!(
        connects < NODES as u64 * 3 / 4,
        "most must hear it by multicast: {connects} connections"
    );
}
