//! Networks without multicast: it is enough if one of two nodes is told of the other, it floods
//! nobody, and users are told.

use std::net::SocketAddr;

use super::sharing::{SLAB, SLOW, prompt};
use crate::sim::engine::shape_small;
use crate::sim::net::Medium;
use crate::sim::{Sim, config};

/// `nodes` nodes on a network that drops multicast. Only node 0 is told of another node: node 1.
fn filtered(nodes: u64) -> Sim {
    let mut world = Sim::new("filtered", 5, Medium::Switched, 100_000);
    world.net.filtered = true;
    world.net.told.insert(0, vec![1]);
    let shape = shape_small(64);
    // The node that is told joins first: it sends to an address that does not answer yet.
    for number in 0..nodes {
        world.join(config(number, &shape, SLAB), SLOW);
    }
    world
}

fn knows(world: &Sim, who: usize) -> usize {
    world.status(who).peers.iter().filter(|peer| peer.shares && peer.heard == "unicast").count()
}

#[test]
fn a_peer_named_on_one_side_shares_in_both_directions_within_two_intervals() {
    let mut world = filtered(2);
    let met = world.pass_until(100, 20_000, |world| knows(world, 0) == 1 && knows(world, 1) == 1);
    assert!(met.is_some(), "{:?} {:?}", world.status(0).peers, world.status(1).peers);
    for (giver, asker) in [(0, 1), (1, 0)] {
        let tokens = prompt(7 + giver as u32, 400);
        world.answer_now(giver, &tokens, 2);
        assert_eq!(
            world.answer_now(asker, &tokens, 2).figures().computed,
            1,
            "state that node {giver} computed must be reused"
        );
    }
    world.pass(300_000);
    assert_eq!((knows(&world, 0), knows(&world, 1)), (1, 1), "they must keep knowing each other");
    world.assert_quiet();
}

#[test]
fn both_sides_are_told_once_that_multicast_does_not_come_through_and_again_when_it_does() {
    let mut world = filtered(2);
    world.pass(120_000);
    for who in [0, 1] {
        let lines =
            world.notes(who).iter().filter(|note| note.contains("multicast does not come through"));
        assert_eq!(lines.count(), 1, "{:?}", world.notes(who));
    }
    world.net.filtered = false;
    world.net.told.clear();
    world.pass(60_000);
    for who in [0, 1] {
        assert!(
            world.notes(who).iter().any(|note| note.contains("multicast comes through again")),
            "{:?}",
            world.notes(who)
        );
        assert_eq!(knows(&world, who), 0, "node {who} must no longer know a peer");
        assert_eq!(world.status(who).peers.len(), 1);
    }
}

#[test]
fn one_that_is_told_of_nobody_finds_nobody_and_nobody_sends_to_an_address_that_has_not_answered() {
    let mut world = filtered(3);
    world.pass(60_000);
    assert_eq!((knows(&world, 0), knows(&world, 1), world.status(2).peers.len()), (1, 1, 0));
    // Replays what node 0 sent to node 1, from an address that no node has.
    world.recorded = Some(Vec::new());
    world.pass(12_000);
    let said: Vec<Vec<u8>> =
        world.recorded.take().unwrap().into_iter().map(|(_, bytes)| bytes).collect();
    let nobody = SocketAddr::from(([10, 9, 9, 9], 7_000));
    let to_nobody =
        |world: &Sim| world.counts.get("datagram to nobody's address").copied().unwrap_or_default();
    for bytes in said.iter().chain(&said) {
        for who in 0..3 {
            world.handle(who, crate::sim::host::Happening::Unicast { from: nobody, bytes });
        }
    }
    world.pass(60_000);
    assert_eq!(to_nobody(&world), 0);
    assert_eq!((knows(&world, 0), knows(&world, 1)), (1, 1), "nodes that know each other still do");
}
