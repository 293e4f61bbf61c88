//! Datagrams and segments that are late, duplicated, from an earlier time, or altered on the way.

use proptest::prelude::*;

use super::holders;
use super::net::{CALM, Net, config, key, resets, udp};
use crate::catalog::*;

const NODE: NodeId = NodeId(1_000);

/// A node that has met the sender on a connection.
fn acquainted() -> Catalog {
    let mut receiver = Catalog::new(config(1));
    receiver.proved(NODE, BootId(2_000), udp(0).ip(), Millis(0));
    receiver
}

/// A sender with three datagrams: the announcement, block 1, block 2.
fn three_datagrams() -> (Catalog, [Datagram; 3]) {
    let mut sender = Catalog::new(config(0));
    let announcement = sender.poll_datagram(Millis(0)).unwrap();
    let mut delta = |number: u64, at: u64| {
        sender.insert(&key(number), Plane::Global, Millis(at));
        sender.poll_datagram(Millis(at + 250)).unwrap()
    };
    let deltas = [delta(1, 0), delta(2, 300)];
    let [first, second] = deltas;
    (sender, [announcement, first, second])
}

/// A later datagram already said which segments are wrong; going back would hide blocks again.
#[test]
fn what_comes_late_or_twice_is_not_used() {
    let (_, [announcement, first, second]) = three_datagrams();
    let mut receiver = acquainted();
    for datagram in [&announcement, &second, &first, &announcement, &second] {
        receiver.handle(udp(0), datagram, Millis(600)).unwrap();
    }
    let peer = receiver.peer(NODE).unwrap();
    assert_eq!((peer.datagrams, peer.lost, peer.generation), (2, 1, 2));
    assert_eq!(receiver.stats().overtaken, 3);
    assert_eq!(holders(&receiver, 2, Plane::Global), [NODE]);
}

#[test]
fn deltas_before_the_announcement_wait_for_it() {
    let (mut sender, [announcement, first, second]) = three_datagrams();
    let mut receiver = acquainted();
    assert_eq!(receiver.handle(udp(0), &first, Millis(300)), Ok(None));
    assert_eq!((receiver.peers().count(), receiver.stats().strangers), (0, 1));
    receiver.handle(udp(0), &announcement, Millis(300)).unwrap();
    receiver.handle(udp(0), &second, Millis(600)).unwrap();
    assert!(receiver.peer(NODE).unwrap().stale_segments() > 0);
    let pull = receiver.poll_pull(Millis(1_000)).expect("repair of what the stranger said");
    for &index in &pull.segments {
        let (generation, bytes) = sender.own_segment(index.into()).unwrap();
        receiver
            .apply_segment(NODE, pull.boot, generation, index.into(), bytes, Millis(1_010))
            .unwrap();
    }
    assert_eq!(holders(&receiver, 1, Plane::Global), [NODE]);
    let goodbye = sender.goodbye();
    assert_eq!(receiver.handle(udp(0), &goodbye, Millis(1_100)), Ok(Some(Event::Left(NODE))));
    assert_eq!(receiver.handle(udp(0), &second, Millis(1_200)), Ok(None));
    assert_eq!(receiver.peers().count(), 0);
}

/// After a reset nothing from before it may be found, not even until the new filter arrives.
#[test]
fn bits_of_an_older_epoch_are_forgotten_when_the_peer_moves_on() {
    let (mut sender, datagrams) = three_datagrams();
    let mut receiver = acquainted();
    for datagram in &datagrams {
        receiver.handle(udp(0), datagram, Millis(600)).unwrap();
    }
    assert_eq!(holders(&receiver, 1, Plane::Global), [NODE]);
    sender.set_epochs(resets(2), Millis(700));
    let announcement = sender.poll_datagram(Millis(700)).unwrap();
    assert_eq!(
        receiver.handle(udp(0), &announcement, Millis(701)),
        Ok(Some(Event::ResetSeen(resets(2))))
    );
    receiver.set_epochs(resets(2), Millis(701));
    assert_eq!(holders(&receiver, 1, Plane::Global), []);
    assert_eq!(receiver.standing(receiver.peer(NODE).unwrap()), Standing::Shares);
}

/// Segments that are out of date, of another boot or malformed are refused, and do not spoil what
/// is known.
#[test]
fn a_pulled_segment_is_checked_before_it_is_used() {
    let mut net = Net::of(2, CALM, 1);
    net.run(2_000);
    let old: Vec<u8> = net.node(0).own_segment(0).unwrap().1.to_vec();
    (0..40).for_each(|number| net.insert(0, number, Plane::Global));
    net.run(1_000);
    let (node, boot, now) = (NodeId(1_000), BootId(2_000), net.now);
    let (generation, bytes) =
        net.node(0).own_segment(0).map(|(generation, bytes)| (generation, bytes.to_vec())).unwrap();
    let puller = net.node_mut(1);
    assert_eq!(
        puller.apply_segment(node, boot, generation - 1, 0, &old, now),
        Err(CatalogFault::Outdated)
    );
    assert_eq!(
        puller.apply_segment(node, boot, generation, 0, &old, now),
        Err(CatalogFault::Digest)
    );
    assert_eq!(
        puller.apply_segment(node, BootId(1), generation, 0, &bytes, now),
        Err(CatalogFault::NotAsked)
    );
    assert_eq!(
        puller.apply_segment(NodeId(1), boot, generation, 0, &bytes, now),
        Err(CatalogFault::NotAsked)
    );
    assert_eq!(
        puller.apply_segment(node, boot, generation, 16, &bytes, now),
        Err(CatalogFault::NotAsked)
    );
    assert_eq!(
        puller.apply_segment(node, boot, generation, 0, &bytes[1..], now),
        Err(CatalogFault::NotAsked)
    );
    assert_eq!(puller.stats().pull_faults, 6);
    assert_eq!(puller.apply_segment(node, boot, generation, 0, &bytes, now), Ok(()));
    assert_eq!(net.disagreement(), None);
}

/// A segment may be pulled while newer deltas are on their way: it already contains their changes.
#[test]
fn datagrams_older_than_a_pulled_segment_do_not_undo_it() {
    let (mut sender, [announcement, first, _]) = three_datagrams();
    sender.remove(&key(1), Plane::Global, Millis(600));
    let _removal = sender.poll_datagram(Millis(900)).unwrap();
    let mut receiver = acquainted();
    receiver.handle(udp(0), &announcement, Millis(900)).unwrap();
    let boot = receiver.peer(NODE).unwrap().boot;
    for index in 0..receiver.peer(NODE).unwrap().segments() {
        let (generation, bytes) = sender.own_segment(index).unwrap();
        receiver.apply_segment(NODE, boot, generation, index, bytes, Millis(900)).unwrap();
    }
    receiver.handle(udp(0), &first, Millis(901)).unwrap();
    assert_eq!(holders(&receiver, 1, Plane::Global), [], "it was removed since");
    assert_eq!(holders(&receiver, 2, Plane::Global), [NODE]);
    assert_eq!(receiver.peer(NODE).unwrap().stale_segments(), 0);
}

proptest! {
    /// Altered datagrams cost at most a counter, and honest ones are still heard afterwards.
    #[test]
    fn altered_datagrams_never_panic(
        changes in proptest::collection::vec((5usize..200, any::<u8>()), 1..8),
        numbers in proptest::collection::vec(0u64..10_000, 1..400),
    ) {
        let (mut sender, mut receiver) = (Catalog::new(config(0)), acquainted());
        let first = sender.poll_datagram(Millis(0)).unwrap();
        receiver.handle(udp(0), &first, Millis(0)).unwrap();
        numbers.iter().for_each(|&number| sender.insert(&key(number), Plane::Global, Millis(0)));
        for at in [Millis(300), Millis(20_000)] {
            while let Some(mut datagram) = sender.poll_datagram(at) {
                for &(place, value) in &changes {
                    let place = place % datagram.len();
                    datagram[place] ^= value;
                }
                let _ = receiver.handle(udp(0), &datagram, at);
                while receiver.poll_datagram(at).is_some() {}
                let _ = receiver.poll_pull(at);
                prop_assert!(receiver.deadline().is_some_and(|deadline| deadline > at));
            }
        }
    }
}
