//! Who may order a reset: a node, and a computer that has the key. Forged and replayed orders do
//! nothing, and in an open swarm an order drops nobody else's blocks.

use std::net::SocketAddr;

use potluck::catalog::wire::{self, Header, Message};
use potluck::catalog::{ResetClient, ResetClientConfig, ResetClientEvent};
use potluck::id::BootId;
use potluck::keyring::{Keyring, SwarmSecret};

use super::*;

#[test]
fn datagrams_from_before_a_reset_do_nothing_when_they_are_replayed() {
    let shape = shape_small(64);
    let mut world = Sim::calm();
    world.recorded = Some(Vec::new());
    for number in 0..3 {
        world.join(config(number, &shape, SLAB), SLOW);
    }
    world.pass(2_000);
    world.answer_now(0, &prompt(0, 100), 2);
    world.reset(1, true);
    world.pass(4_000);
    let old = world.recorded.take().unwrap_or_default();
    world.answer_now(0, &prompt(5, 100), 2);
    world.reset(2, false);
    world.pass(4_000);
    assert_eq!(epochs(&world, 3), [2; 3]);
    let peers: Vec<_> = (0..3).map(|node| world.status(node).peers).collect();
    let held: Vec<_> = (0..3).map(|node| blocks(&world, node)).collect();
    assert!(old.len() > 10);
    for (from, datagram) in &old {
        world.multicast(*from, datagram);
    }
    for node in 0..3 {
        assert_eq!(
            (world.status(node).peers, blocks(&world, node)),
            (peers[node].clone(), held[node]),
            "node {node}"
        );
    }
    world.pass(100);
    assert_eq!(epochs(&world, 3), [2; 3]);
}

fn stranger() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 99], 7_654))
}

#[test]
fn forged_resets_do_nothing() {
    let shape = shape_small(64);
    let mut world = swarm(3, &shape);
    let header = Header {
        swarm: SwarmSecret::derive(b"test").tag(),
        node: NodeId(77),
        boot: BootId(78),
        counter: 1,
        epochs: state(5, 5),
    };
    let forged = wire::seal(&header, &Message::Reset, &SwarmSecret::derive(b"guessed"));
    world.multicast(stranger(), &forged);
    let honest = wire::seal(&header, &Message::Reset, &SwarmSecret::derive(b"test"));
    for bit in 0..8 * honest.len() {
        let mut altered = honest.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        world.multicast(stranger(), &altered);
    }
    world.pass(100);
    assert_eq!(epochs(&world, 3), [0; 3]);
    assert!((0..3).all(|node| world.saved(node) == state(0, 0) && blocks(&world, node) > 0));
    assert!(world.status(0).catalog.forged > 300);
    world.multicast(stranger(), &honest);
    world.pass(2_500);
    assert_eq!(epochs(&world, 3), [5; 3], "from a stranger, but with the key");
}

/// `potluck reset` on a computer that is not a node.
fn client(
    world: &mut Sim,
    store: bool,
    key: &[u8],
    ms: u64,
) -> (ResetClient, Vec<ResetClientEvent>) {
    let config = ResetClientConfig {
        node: NodeId(500),
        boot: BootId(501 + world.now),
        keys: Keyring::new(key, []),
        store,
    };
    let mut client = ResetClient::new(config, world.clock());
    let mut news = Vec::new();
    for _ in 0..ms {
        world.recorded = Some(Vec::new());
        world.pass(1);
        for (_, datagram) in world.recorded.take().unwrap_or_default() {
            let _ = client.handle(&datagram);
        }
        assert!(client.deadline() > potluck::id::Millis(0));
        while let Some(datagram) = client.poll_datagram(world.clock()) {
            world.multicast(stranger(), &datagram);
        }
        news.extend(std::iter::from_fn(|| client.poll_news()));
        if client.is_done() {
            break;
        }
    }
    (client, news)
}

#[test]
fn a_computer_that_is_no_node_learns_the_epoch_and_resets_the_swarm() {
    let shape = shape_small(64);
    let mut world = swarm(3, &shape);
    for (epoch, store) in [(1, false), (2, true)] {
        let peers = world.status(0).peers.len();
        let (client, news) = client(&mut world, store, b"test", 6_000);
        assert!(client.is_done(), "{news:?}");
        let expected = state(epoch, if store { epoch } else { 0 });
        assert_eq!(news[0], ResetClientEvent::Ordered(expected));
        assert_eq!(client.nodes().collect::<Vec<_>>(), [1, 2, 3].map(|node| (NodeId(node), true)));
        assert!((0..3).all(|node| world.saved(node) == expected));
        world.pass(2_000);
        assert_eq!(world.status(0).peers.len(), peers, "it must not become a peer");
    }
    assert!((0..3).all(|node| blocks(&world, node) == 0));
}

#[test]
fn a_computer_without_the_key_hears_strangers_and_resets_nobody() {
    let shape = shape_small(64);
    let mut world = swarm(2, &shape);
    let (client, news) = client(&mut world, true, b"guessed", 12_000);
    assert_eq!((news, client.nodes().count()), (Vec::new(), 0));
    assert!(client.strangers() > 0);
    assert_eq!(epochs(&world, 2), [0; 2]);
}

/// A computer that waits for a node that cannot follow names that node.
#[test]
fn a_node_that_does_not_follow_is_named() {
    let shape = shape_small(64);
    let mut world = swarm(2, &shape);
    world.fill_card(1, true);
    let (client, _) = client(&mut world, false, b"test", 15_000);
    assert!(!client.is_done());
    assert_eq!(client.nodes().collect::<Vec<_>>(), [(NodeId(1), true), (NodeId(2), false)]);
}

/// Without a key, anyone on the network can order a reset; the damage is bounded.
#[test]
fn in_an_open_swarm_blocks_are_dropped_at_their_own_console_only() {
    let shape = shape_small(64);
    let mut world = Sim::calm();
    for number in 0..3 {
        let open =
            potluck::node::NodeConfig { keys: Keyring::open(), ..config(number, &shape, SLAB) };
        world.join(open, SLOW);
    }
    world.pass(2_000);
    for node in 0..3 {
        world.answer_now(node, &prompt(node as u32, 100), 2);
    }
    world.reset(0, true);
    world.pass(3_000);
    assert_eq!(epochs(&world, 3), [1; 3]);
    assert_eq!(blocks(&world, 0), 0);
    assert!((1..3).all(|node| blocks(&world, node) > 0));
    assert!(
        world.notes(0).iter().any(|note| note.contains("the other nodes keep their blocks")),
        "{:?}",
        world.notes(0)
    );
    assert!(
        world.notes(1).iter().any(|note| note.contains("so they are kept")),
        "{:?}",
        world.notes(1)
    );
    assert!(everybody_shares(&world, 3));
}

/// Replaying the recorded order of an earlier reset resets nobody, not even a node that was off
/// when it was given.
#[test]
fn an_old_order_does_nothing_even_to_a_node_that_was_off() {
    let shape = shape_small(64);
    let mut world = swarm(3, &shape);
    world.kill(2);
    world.recorded = Some(Vec::new());
    world.reset(0, true);
    world.pass(4_000);
    let old = world.recorded.take().unwrap_or_default();
    world.reset(1, false);
    world.pass(4_000);
    world.answer_now(0, &prompt(5, 100), 2);
    let held = [blocks(&world, 0), blocks(&world, 1)];
    world.restart(2);
    for _ in 0..3 {
        for (from, datagram) in &old {
            world.multicast(*from, datagram);
        }
        world.pass(2_000);
    }
    assert_eq!(epochs(&world, 3), [2; 3]);
    assert_eq!(world.saved(2), state(2, 1), "it must reach the swarm's epoch, which it missed");
    assert_eq!([blocks(&world, 0), blocks(&world, 1)], held);
    world.answer_now(2, &prompt(6, 100), 2);
    let held = blocks(&world, 2);
    for (from, datagram) in &old {
        world.multicast(*from, datagram);
    }
    world.pass(4_000);
    assert_eq!((epochs(&world, 3), blocks(&world, 2)), (vec![2; 3], held));
    assert!(everybody_shares(&world, 3));
}
