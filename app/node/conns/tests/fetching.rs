//! What a prompt gets from its peers.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::world::*;
use crate::catalog::Pull;
use crate::id::{BootId, Millis, NodeId};
use crate::kv::Plane;
use crate::limits::{MAX_FETCH_CONNECTIONS, MAX_PULLS, MAX_WANTS_IN_FLIGHT, STALL_TIMEOUT_MS};
use crate::node::Event;
use crate::node::conns::{ConnEvent, Loss, WantId};
use crate::node::io::ConnId;
use crate::transfer::{ByeReason, Frame, encode};

fn ended(world: &World, id: u32) -> Vec<ConnEvent> {
    let is_end = |event: &&ConnEvent| {
        event.id() == WantId(id) && !matches!(event, ConnEvent::Progress { .. })
    };
    world.members[0].events.iter().filter(is_end).copied().collect()
}

#[test]
fn planes_come_over_one_connection_which_is_kept_for_the_next_prompt_and_not_for_ever() {
    let mut world = World::new(2);
    world.fill(1, 4);
    let pages: Vec<_> = (0..4)
        .map(|block| world.want(0, 1, block, block as usize, Plane::Sliding).unwrap())
        .collect();
    let node = world.members[1].node;
    assert_eq!(world.members[0].conns.room(node, world.now), MAX_WANTS_IN_FLIGHT - 4);
    world.run(10_000);
    for (block, page) in pages.iter().enumerate() {
        assert!(world.holds(page, block, Plane::Sliding));
        assert_eq!(ended(&world, block as u32), [ConnEvent::Arrived { id: WantId(block as u32) }]);
    }
    assert!(
        world.members[0].events.iter().any(|event| matches!(event, ConnEvent::Progress { .. }))
    );
    assert_eq!((world.wires.len(), world.pinned(1)), (1, 0));
    assert_eq!(world.members[1].shared.stats.planes_served, 4);
    world.pass(50_000);
    world.want(0, 1, 9, 0, Plane::Global).unwrap();
    world.pass(50_000);
    assert_eq!(
        (world.wires.len(), ended(&world, 9).len()),
        (1, 1),
        "it lasts through a minute of conversation"
    );
    world.pass(20_000);
    assert_eq!(
        (world.wires.len(), world.members[0].told.as_slice()),
        (0, [].as_slice()),
        "but not overnight"
    );
    assert_eq!(world.standing(0, 1).worth, 1.0);
}

#[test]
fn what_a_peer_does_not_hold_is_absent_and_goes_on_its_record() {
    let mut world = World::new(2);
    world.fill(1, 1);
    world.want(0, 1, 0, 0, Plane::Global).unwrap();
    world.want(0, 1, 1, 5, Plane::Global).unwrap();
    world.want(0, 1, 2, 6, Plane::Global).unwrap();
    world.run(usize::MAX);
    assert_eq!(ended(&world, 0), [ConnEvent::Arrived { id: WantId(0) }]);
    assert_eq!(ended(&world, 1), [ConnEvent::Absent { id: WantId(1) }]);
    assert!((0.5..0.6).contains(&world.standing(0, 1).worth), "its deliveries count in its favour");
    world.want(0, 1, 3, 7, Plane::Global).unwrap();
    world.run(usize::MAX);
    assert!(world.standing(0, 1).worth < 0.5);
}

#[test]
fn a_peer_that_cannot_be_reached_is_lost_at_once_and_left_alone_for_longer_and_longer() {
    let mut world = World::new(2);
    world.members[1].addr.set_port(1);
    let (mut tries, mut waits, start) = (0u32, Vec::new(), world.now);
    while world.now < start + Millis(60_000) {
        if world.members[0].conns.room(world.members[1].node, world.now) > 0 {
            world.want(0, 1, tries, 0, Plane::Global).unwrap();
            tries += 1;
            waits.push(world.now);
        } else {
            assert!(world.want(0, 1, 9_999, 0, Plane::Global).is_none());
        }
        world.pass(10);
    }
    assert!((9..=14).contains(&tries), "{tries} tries in a minute");
    assert!(waits[1] - waits[0] < Millis(300) && waits[8] - waits[7] > Millis(6_900), "{waits:?}");
    assert_eq!(ended(&world, 0), [ConnEvent::Lost { id: WantId(0), why: Loss::Gone }]);
    assert!(world.standing(0, 1).worth < 0.2);
    assert!(world.members[0].told.contains(&Event::ConnectionLost { peer: world.members[1].node }));
}

#[test]
fn a_connection_that_never_stands_is_given_up() {
    let mut world = World::new(2);
    world.life = 0;
    // A dead wire carries nothing; this one is not even broken.
    world.give(0, |_, _, _| {});
    let page = world.want(0, 1, 0, 0, Plane::Global).unwrap();
    let (node, to) = (world.members[1].node, ConnId::Out(1));
    let Member { conns, shared, .. } = &mut world.members[0];
    conns.flush(shared, world.now);
    shared.out.clear();
    conns.on_time(shared, world.now + Millis(2_999));
    assert_eq!(conns.poll_event(), None);
    conns.on_time(shared, world.now + Millis(3_000));
    assert_eq!(conns.poll_event(), Some(ConnEvent::Lost { id: WantId(0), why: Loss::Gone }));
    assert!(
        page.read().iter().all(|&byte| byte == 0)
            && conns.room(node, world.now + Millis(3_000)) == 0
    );
    shared.out.clear();
    conns.on_connected(to, shared, world.now);
    assert!(
        matches!(shared.out.pop_front(), Some(crate::node::io::Output::Close(conn)) if conn == to),
        "too late"
    );
}

#[test]
fn a_peer_without_a_place_is_asked_again_soon_and_not_blamed() {
    let mut world = World::new(2);
    world.fill(1, 1);
    world.want(0, 1, 0, 0, Plane::Sliding).unwrap();
    while world.pinned(1) == 0 {
        world.step(5_000);
    }
    // The peer's own answer needs the room.
    world.give(1, |conns, shared, now| assert!(conns.end_serving(shared, now)));
    assert_eq!(world.pinned(1), 0, "the pins are released at once");
    world.give(1, |conns, shared, now| assert!(!conns.end_serving(shared, now)));
    world.run(usize::MAX);
    assert_eq!(ended(&world, 0), [ConnEvent::Lost { id: WantId(0), why: Loss::Full }]);
    let node = world.members[1].node;
    assert_eq!(world.members[0].conns.room(node, world.now), 0);
    assert_eq!(
        (world.standing(0, 1).worth, world.members[0].shared.stats.refused_by_peers),
        (1.0, 1)
    );
    world.pass(300);
    let page = world.want(0, 1, 1, 0, Plane::Sliding).unwrap();
    world.run(usize::MAX);
    assert!(world.holds(&page, 0, Plane::Sliding));
    assert!(world.members[0].told.is_empty());
}

/// A peer that says hello and accepts wants, and does nothing else.
fn only_accepts(world: &mut World, say: impl Fn(&mut Vec<u8>)) -> ConnId {
    world.members[1].addr.set_port(1);
    let Member { conns, shared, .. } = &mut world.members[0];
    conns.flush(shared, world.now);
    shared.out.clear();
    let conn = ConnId::Out(1);
    let mut bytes = Vec::new();
    encode(&Frame::Hello(hello(1)), &[], &mut bytes);
    say(&mut bytes);
    world.give(0, |conns, shared, now| conns.on_connected(conn, shared, now));
    world.give(0, |conns, shared, now| conns.on_bytes(conn, &bytes, shared, now));
    conn
}

#[test]
fn a_peer_that_only_accepts_is_known_to_be_slow_and_must_answer_a_cancel() {
    let mut world = World::new(2);
    let page = world.want(0, 1, 0, 0, Plane::Global).unwrap();
    only_accepts(&mut world, |_| {});
    world.pass(2_000);
    assert_eq!(
        (world.members[0].events.len(), world.standing(0, 1).bytes_per_ms),
        (0, None),
        "a want has no deadline"
    );
    world.cancel(0, 0);
    assert_eq!(
        world.standing(0, 1).bytes_per_ms,
        Some(0.0),
        "two seconds of silence are a measurement"
    );
    page.write().fill(9);
    world.pass(STALL_TIMEOUT_MS - 10);
    assert!(world.members[0].told.is_empty());
    world.pass(20);
    assert!(
        matches!(world.members[0].told.as_slice(), [Event::PeerFault { .. }]),
        "{:?}",
        world.members[0].told
    );
    assert!(world.standing(0, 1).worth < 0.5 && world.members[0].events.is_empty());
    assert!(page.read().iter().all(|&byte| byte == 9));
}

#[test]
fn a_lie_costs_the_connection_and_all_trust() {
    let mut world = World::new(2);
    world.want(0, 1, 0, 0, Plane::Global).unwrap();
    world.want(0, 1, 1, 1, Plane::Global).unwrap();
    let expected = world.expected(7, Plane::Global);
    only_accepts(&mut world, |out| {
        let (plane, parent, tokens, bytes) =
            (Plane::Global, expected.parent, expected.tokens.clone(), expected.bytes as u32);
        encode(&Frame::Found { id: 0, plane, parent, tokens, bytes, digest: 0 }, &[], out);
    });
    world.run(usize::MAX);
    for id in [0, 1] {
        assert_eq!(ended(&world, id), [ConnEvent::Lost { id: WantId(id), why: Loss::Gone }]);
    }
    assert_eq!((world.standing(0, 1).worth, world.members[0].shared.stats.peer_faults), (0.0, 1));
    assert!(matches!(world.members[0].told.as_slice(), [Event::PeerFault { peer: Some(_), .. }]));
}

#[test]
fn every_reason_to_part_ends_all_wants() {
    for (reason, why, worth) in [
        (ByeReason::Full, Loss::Full, 1.0),
        (ByeReason::Idle, Loss::Full, 1.0),
        (ByeReason::Leaving, Loss::Gone, 1.0),
        (ByeReason::Epoch, Loss::Gone, 0.4),
        (ByeReason::Protocol, Loss::Gone, 0.4),
    ] {
        let mut world = World::new(2);
        (0..3).for_each(|id| drop(world.want(0, 1, id, 0, Plane::Global).unwrap()));
        only_accepts(&mut world, |out| encode(&Frame::Bye { reason }, &[], out));
        assert!(
            (0..3).all(|id| ended(&world, id) == [ConnEvent::Lost { id: WantId(id), why }]),
            "{reason:?}"
        );
        assert!(
            world.standing(0, 1).worth <= worth
                && (worth < 1.0 || world.standing(0, 1).worth == 1.0),
            "{reason:?}"
        );
        world.cancel(0, 1);
    }
}

#[test]
fn a_reset_or_a_peers_restart_ends_what_was_open_and_forgets_nothing_else() {
    for restart in [false, true] {
        let mut world = World::new(2);
        world.fill(1, 1);
        world.want(0, 1, 0, 0, Plane::Sliding).unwrap();
        while world.members[0].events.is_empty() {
            world.step(5_000);
        }
        assert_eq!(world.pinned(1), 1);
        let node = world.members[1].node;
        if restart {
            let mut bytes = Vec::new();
            let mut catalog = crate::catalog::Catalog::new(crate::catalog::CatalogConfig {
                node,
                boot: BootId(999),
                name: Default::default(),
                keys: crate::keyring::Keyring::open(),
                fingerprint: hello(1).fingerprint,
                epochs: Default::default(),
                tcp_port: 7_000,
                capacity: 100,
                interval_ms: 300_000,
                peers: 8,
                seed: 1,
            });
            bytes.extend_from_slice(&catalog.poll_datagram(world.now).unwrap());
            world.members[0].shared.catalog.proved(node, BootId(999), addr(1).ip(), world.now);
            world.members[0].shared.catalog.handle(addr(1), &bytes, world.now).unwrap();
            world.give(0, |conns, shared, _| conns.part_from(node, shared));
        } else {
            world.give(0, |conns, shared, _| conns.drop_all(hello(0), shared));
        }
        assert_eq!(ended(&world, 0), [ConnEvent::Lost { id: WantId(0), why: Loss::Gone }]);
        world.run(usize::MAX);
        assert_eq!((world.wires.len(), world.pinned(1)), (0, 0));
        assert!(world.members[0].conns.room(node, world.now) > 0);
    }
}

#[test]
fn a_filter_repair_has_a_connection_of_its_own_which_ends_with_it() {
    let mut world = World::strangers(8);
    // Only an announcement of a later generation is heard, so the segments must be pulled.
    for index in 1..8 {
        for block in 0..32 {
            let key = crate::id::BlockKey([block ^ (index as u8) << 5; 16]);
            world.members[index].shared.catalog.insert(&key, Plane::Global, world.now);
        }
        while world.members[index].shared.catalog.poll_datagram(world.now + Millis(5_000)).is_some()
        {
        }
        let late = world.now + Millis(1_000_000);
        let (node, boot) = (world.members[index].node, BootId(100 + index as u64));
        world.members[0].shared.catalog.proved(node, boot, addr(index).ip(), world.now);
        while let Some(datagram) = world.members[index].shared.catalog.poll_datagram(late) {
            let _ = world.members[0].shared.catalog.handle(addr(index), &datagram, world.now);
        }
    }
    let stale = |world: &World| {
        world.members[0].shared.catalog.peers().filter(|peer| peer.stale_segments() > 0).count()
    };
    assert_eq!(stale(&world), 7);
    let mut most = 0;
    for _ in 0..2_000 {
        world.now = world.now + Millis(1);
        while world.step(600) {
            most = most.max(world.wires.len());
        }
    }
    assert_eq!(
        (stale(&world), world.wires.len()),
        (0, 0),
        "all are repaired, and no connection is kept for it"
    );
    assert!(most <= MAX_PULLS + 1, "{most} at once");
    assert!(
        world.members[0].told.is_empty()
            && world.members[0].shared.catalog.stats().segments_pulled > 0
    );
}

#[test]
fn a_filter_repair_that_finds_no_place_is_tried_again_a_few_times_and_then_left_to_the_catalog() {
    let mut world = World::new(2);
    let pull = Pull {
        node: NodeId(2),
        boot: BootId(101),
        addr: addr(1),
        segments: [0].into_iter().collect(),
    };
    world.give(0, |conns, shared, now| conns.pull(pull, shared, now));
    let mut tries = 0;
    for _ in 0..30_000 {
        while let Some(wire) = world.wires.pop() {
            tries += 1;
            let mut bytes = Vec::new();
            encode(&Frame::Bye { reason: ByeReason::Full }, &[], &mut bytes);
            world.give(0, |conns, shared, now| conns.on_bytes(wire.ends[0].1, &bytes, shared, now));
        }
        world.now = world.now + Millis(1);
        world.settle(0);
    }
    assert_eq!((tries, world.standing(0, 1).worth), (5, 1.0));
}

#[test]
fn more_peers_than_connections_are_reached_one_after_the_other() {
    let mut world = World::new(MAX_FETCH_CONNECTIONS + 2);
    let room =
        |world: &World, n: usize| world.members[0].conns.room(NodeId(1 + n as u64), world.now);
    for n in 1..=MAX_FETCH_CONNECTIONS {
        world.fill(n, 1);
        world.now = world.now + Millis(1);
        world.want(0, n, n as u32, 0, Plane::Sliding).unwrap();
    }
    let last = MAX_FETCH_CONNECTIONS + 1;
    assert_eq!(
        (room(&world, last), world.want(0, last, 900, 0, Plane::Global).is_some()),
        (0, false),
        "all are busy"
    );
    world.run(usize::MAX);
    assert_eq!(room(&world, last), MAX_WANTS_IN_FLIGHT);
    world.want(0, last, 901, 0, Plane::Global).unwrap();
    world.run(usize::MAX);
    assert_eq!(ended(&world, 901), [ConnEvent::Absent { id: WantId(901) }]);
    assert_eq!(world.wires.len(), MAX_FETCH_CONNECTIONS);
    assert!(
        (1..=MAX_FETCH_CONNECTIONS as u32)
            .all(|id| ended(&world, id) == [ConnEvent::Arrived { id: WantId(id) }])
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    /// However the bytes are split, and wherever the connection breaks: each want ends once,
    /// arrived planes are right, returned pages are not touched, and nothing stays pinned.
    #[test]
    fn wants_end_once_wherever_the_connection_breaks(
        life in prop_oneof![0usize..400, 0usize..800_000, Just(usize::MAX)],
        cuts in prop::collection::vec(1usize..40_000, 1..5),
        wants in prop::collection::vec((0usize..6, any::<bool>(), 0usize..30, any::<bool>()), 1..24),
    ) {
        let mut world = World::new(2);
        world.fill(1, 4);
        world.life = life;
        let mut pages = Vec::new();
        let mut cut = cuts.iter().cycle();
        for (id, (block, sliding, steps, cancel)) in wants.into_iter().enumerate() {
            let plane = Plane::ALL[usize::from(sliding)];
            if let Some(page) = world.want(0, 1, id as u32, block, plane) {
                pages.push((id as u32, block, plane, page, None));
            }
            for _ in 0..steps {
                world.now = world.now + Millis(3);
                world.step(*cut.next().unwrap());
            }
            if let Some((id, _, _, page, given_back)) = pages.last_mut().filter(|want| cancel && want.4.is_none())
                && ended(&world, *id).is_empty()
            {
                world.cancel(0, *id);
                *given_back = Some(page.read().to_vec());
            }
        }
        for _ in 0..50 {
            world.pass(5);
        }
        for (id, block, plane, page, given_back) in pages {
            let ends = ended(&world, id);
            match given_back {
                Some(then) => prop_assert!(ends.is_empty() && page.read()[..] == then[..], "{id} after its cancel: {ends:?}"),
                None => prop_assert_eq!(ends.len(), 1, "want {}", id),
            }
            if let [ConnEvent::Arrived { .. }] = ends.as_slice() {
                prop_assert!(block < 4 && world.holds(&page, block, plane));
            }
        }
        prop_assert_eq!((world.pinned(1), world.members[0].shared.stats.peer_faults), (0, 0));
    }
}

/// A peer that makes a node probe dead addresses must not stop the node's repairs.
#[test]
fn probes_that_nobody_answers_leave_the_repairs_their_places() {
    let mut world = World::new(2);
    world.run(usize::MAX);
    let (now, member) = (world.now, &mut world.members[0]);
    let (conns, shared) = (&mut member.conns, &mut member.shared);
    shared.out.clear();
    let swarm = shared.config.keys.current().tag();
    for n in 0..crate::limits::MAX_PULLS {
        let probe =
            crate::catalog::Probe { node: NodeId(50), addr: addr(50 + n), swarm, boot: None };
        conns.probe(probe, shared, now);
    }
    let segments = heapless::Vec::from_slice(&[0]).unwrap();
    conns.pull(
        crate::catalog::Pull { node: NodeId(2), boot: BootId(101), addr: addr(1), segments },
        shared,
        now,
    );
    let called = |to| {
        shared
            .out
            .iter()
            .any(|out| matches!(out, crate::node::io::Output::Connect { addr, .. } if *addr == to))
    };
    assert!(called(addr(50)) && called(addr(1)));
}
