//! An attacker replays a swarm's recorded traffic, at any time and from any address: it costs a
//! counter, and no user notices.

use std::net::SocketAddr;

use potluck::id::{Fingerprint, NodeId};

use super::sharing::{prompt, swarm};
use crate::sim::engine::shape_small;
use crate::sim::{Sim, config};

const INTERVAL: u64 = 10_000;

/// An address without a node.
fn elsewhere() -> SocketAddr {
    SocketAddr::from(([10, 9, 9, 9], 7_654))
}

/// Every node's list of peers.
fn peers(world: &Sim) -> Vec<Vec<(NodeId, SocketAddr, bool)>> {
    let on = (0..world.stations.len())
        .filter(|who| world.stations[*who].power == crate::sim::world::Power::On);
    on.map(|who| {
        world.status(who).peers.iter().map(|peer| (peer.node, peer.addr, peer.shares)).collect()
    })
    .collect()
}

/// The first datagrams of a new start of a node.
fn recorded_start(world: &mut Sim, who: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let addr = world.stations[who].addr;
    world.recorded = Some(Vec::new());
    world.restart(who);
    world.pass(3_000);
    world
        .recorded
        .take()
        .unwrap_or_default()
        .into_iter()
        .filter(|(from, _)| *from == addr)
        .collect()
}

fn replay(world: &mut Sim, recorded: &[(SocketAddr, Vec<u8>)], from: Option<SocketAddr>) {
    for (addr, bytes) in recorded {
        world.multicast(from.unwrap_or(*addr), bytes);
    }
}

#[test]
fn a_node_that_is_off_is_not_brought_back_by_what_it_once_said() {
    let shape = shape_small(64);
    let mut world = swarm(3, &shape);
    world.answer_now(2, &prompt(1, 200), 1);
    let recorded = recorded_start(&mut world, 2);
    world.answer_now(2, &prompt(1, 200), 1);
    world.cut_power(2);
    world.pass(60_000);
    let before = peers(&world);
    let notes: Vec<usize> = (0..2).map(|who| world.notes(who).len()).collect();
    for from in [None, Some(elsewhere())] {
        replay(&mut world, &recorded, from);
        world.pass(2_000);
        assert_eq!(peers(&world), before);
        let answer = world.answer_now(0, &prompt(1, 200), 1);
        assert!(answer.figures().ttft_ms <= 200 * 37, "{:?}", answer.figures());
        world.pass(15_000);
    }
    assert_eq!(
        (0..2).map(|who| world.notes(who).len()).collect::<Vec<_>>(),
        notes,
        "users must not be told"
    );
    assert!(world.status(0).catalog.claims > 0);
}

/// Such a node is never asked, but the user is told about it if it is really there.
#[test]
fn a_recorded_node_of_another_model_is_neither_listed_nor_told_of() {
    let shape = shape_small(64);
    let mut world = swarm(2, &shape);
    let other = potluck::node::NodeConfig {
        fingerprint: Fingerprint([8; 16]),
        ..config(2, &shape, 1 << 20)
    };
    world.join(other, 1_000);
    world.pass(3_000);
    let told = |world: &Sim, who: usize| {
        world.notes(who).iter().filter(|note| note.contains("another model")).count()
    };
    assert_eq!(
        (0..3).map(|who| (world.status(who).peers.len(), told(&world, who))).collect::<Vec<_>>(),
        [(2, 1), (2, 1), (2, 2)]
    );
    assert_eq!(
        (0..3).map(|who| world.status(who).node_stats.peer_faults).sum::<u64>(),
        0,
        "no node may be blamed"
    );
    let recorded = recorded_start(&mut world, 2);
    world.cut_power(2);
    world.pass(60_000);
    let before = [told(&world, 0), told(&world, 1)];
    for from in [None, Some(elsewhere())] {
        replay(&mut world, &recorded, from);
        world.pass(15_000);
    }
    assert_eq!((0..2).map(|who| world.status(who).peers.len()).collect::<Vec<_>>(), [1, 1]);
    assert_eq!([told(&world, 0), told(&world, 1)], before);
    assert!(world.status(0).catalog.claims > 0);
}

#[test]
fn what_a_node_said_does_nothing_from_another_address_while_it_lives() {
    let shape = shape_small(64);
    let mut world = swarm(3, &shape);
    let recorded = recorded_start(&mut world, 2);
    let before = peers(&world);
    for _ in 0..20 {
        replay(&mut world, &recorded, Some(elsewhere()));
        replay(&mut world, &recorded, None);
        world.pass(500);
    }
    assert_eq!(peers(&world), before);
    world.answer_now(2, &prompt(1, 200), 1);
    assert_eq!(world.answer_now(0, &prompt(1, 200), 1).figures().computed, 1);
}

#[test]
fn five_old_starts_of_a_node_neither_harm_it_nor_keep_its_next_one_out() {
    let shape = shape_small(64);
    let mut world = swarm(3, &shape);
    let old: Vec<_> = (0..5).flat_map(|_| recorded_start(&mut world, 2)).collect();
    world.restart(2);
    world.pass(3_000);
    world.answer_now(2, &prompt(1, 200), 1);
    let before = peers(&world);
    for _ in 0..10 {
        replay(&mut world, &old, None);
        replay(&mut world, &old, Some(elsewhere()));
        world.pass(200);
    }
    assert_eq!(peers(&world), before);
    assert_eq!(world.answer_now(0, &prompt(1, 200), 1).figures().computed, 1);

    world.restart(2);
    for _ in 0..INTERVAL / 200 {
        replay(&mut world, &old, None);
        replay(&mut world, &old, Some(elsewhere()));
        world.pass(200);
    }
    world.answer_now(2, &prompt(3, 200), 1);
    assert_eq!(
        world.answer_now(1, &prompt(3, 200), 1).figures().computed,
        1,
        "{:?}",
        world.notes(1)
    );
    world.pass(20_000);
    world.assert_quiet();
}

#[test]
fn a_node_that_has_just_started_believes_no_recording() {
    let shape = shape_small(64);
    let mut world = swarm(3, &shape);
    let old = recorded_start(&mut world, 2);
    world.restart(2);
    world.restart(0);
    replay(&mut world, &old, None);
    replay(&mut world, &old, Some(elsewhere()));
    world.pass(3_000);
    world.answer_now(2, &prompt(1, 200), 1);
    assert_eq!(world.answer_now(0, &prompt(1, 200), 1).figures().computed, 1);
}

/// A swarm of 64 that starts at once must not drown in hellos.
#[test]
fn a_large_swarm_meets_without_a_storm() {
    const NODES: u64 = 64;
    let shape = shape_small(64);
    let mut world = Sim::calm();
    for number in 0..NODES {
        world.join(config(number, &shape, 1 << 20), 1_000);
    }
    let mut most = 0;
    for _ in 0..100 {
        let before = world.net.traffic.connects;
        world.pass(100);
        most = most.max(world.net.traffic.connects - before);
    }
    let all = |world: &Sim| {
        (0..NODES as usize).all(|who| world.status(who).peers.len() as u64 == NODES - 1)
    };
    assert!(all(&world), "all must have met");
    let connects = world.net.traffic.connects;
    assert!(connects <= NODES * (NODES - 1), "{connects} connections");
    assert!(most <= 6 * NODES, "{most} connections in a tenth of a second");
    world.pass(60_000);
    assert_eq!(world.net.traffic.connects, connects, "no more connections afterwards");
}
