//! A swarm gets a new key, board by board, and must stay one swarm meanwhile.

use super::net::{CALM, Net, config, udp};
use crate::catalog::*;
use crate::keyring::SwarmSecret;
use crate::kv::Plane;
use crate::limits::ANNOUNCE_INTERVAL_MS;

const INTERVAL: u64 = ANNOUNCE_INTERVAL_MS as u64;

fn old() -> Keyring {
    Keyring::new(b"old", [])
}

fn new() -> Keyring {
    Keyring::new(b"new", [b"old".as_slice()])
}

fn tag(key: &[u8]) -> crate::id::SwarmTag {
    SwarmSecret::derive(key).tag()
}

#[test]
fn a_swarm_that_is_rekeyed_board_by_board_never_falls_apart() {
    let mut net =
        Net::new((0..4).map(|number| CatalogConfig { keys: old(), ..config(number) }), CALM, 1);
    net.run(2_000);
    for board in 0..4 {
        let keys = if board == 3 { Keyring::new(b"new", []) } else { new() };
        net.nodes[board] = Some(Catalog::new(CatalogConfig {
            boot: BootId(9_000 + board as u64),
            keys,
            ..config(board as u8)
        }));
        net.held[board].clear();
        net.run(if board == 3 { INTERVAL } else { 2_500 });
        net.insert(board, board as u64, Plane::Global);
        net.run(1_500);
        assert_eq!(net.disagreement(), None, "after board {board}");
        let former = net.node(0).peers().filter(|peer| peer.swarm == tag(b"old")).count();
        assert_eq!(former, 3 - board.min(3), "after board {board}");
    }
    // Nobody has only the old key any more: it is no longer used.
    net.run(INTERVAL);
    let sent = |net: &Net| -> (u64, u64) {
        let stats = net.node(1).stats();
        (stats.announcements_sent, stats.bytes_sent)
    };
    let before = sent(&net);
    net.run(3 * INTERVAL);
    let after = sent(&net);
    assert!(after.1 - before.1 <= (after.0 - before.0) * 130, "{before:?} {after:?}");
}

/// Two nodes that have both keys must not keep each other using the former one.
#[test]
fn a_former_key_is_spoken_while_somebody_has_no_other() {
    let mut net = Net::new(
        [CatalogConfig { keys: new(), ..config(0) }, CatalogConfig { keys: new(), ..config(1) }],
        CALM,
        1,
    );
    net.run(2_000);
    assert!((0..2).all(|index| net.node(index).former_in_use().is_empty()));
    let mut newcomer = Catalog::new(CatalogConfig { keys: old(), ..config(2) });
    let announcement = newcomer.poll_datagram(Millis(0)).unwrap();
    let now = net.now;
    net.node_mut(0).proved(NodeId(1_002), BootId(2_002), udp(2).ip(), now);
    net.node_mut(0).handle(udp(2), &announcement, now).unwrap();
    assert_eq!(net.node(0).former_in_use().len(), 1);
    let said: Vec<Datagram> =
        core::iter::from_fn(|| net.node_mut(0).poll_datagram(now + Millis(1_500))).collect();
    assert_eq!(said.len(), 2, "once under each key");
    assert!(newcomer.handle(udp(0), &said[0], Millis(5)) == Err(CatalogFault::OtherSwarm));
    assert!(newcomer.handle(udp(0), &said[1], Millis(5)) == Ok(None));
    assert_eq!(newcomer.stats().claims, 1);
    net.run(4 * INTERVAL);
    assert!(net.node(0).former_in_use().is_empty(), "the peer is gone");
}

#[test]
fn without_the_old_key_nobody_is_understood_who_has_only_that() {
    let mut net = Net::new(
        [
            CatalogConfig { keys: old(), ..config(0) },
            CatalogConfig { keys: Keyring::new(b"new", []), ..config(1) },
        ],
        CALM,
        1,
    );
    net.run(2 * INTERVAL);
    assert!((0..2).all(
        |index| net.node(index).peers().count() == 0 && net.node(index).stats().other_swarm > 0
    ));
}
