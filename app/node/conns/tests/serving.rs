//! What other nodes get from this node, and what it reserves for itself.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::world::*;
use crate::catalog::Pull;
use crate::id::{BootId, Millis, NodeId, TokenId};
use crate::kv::Plane;
use crate::limits::{
    CLOSING_MS, HANDSHAKES_PER_S, MAX_CLOSING_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS,
    MAX_CONNECTIONS_PER_NODE, MAX_SERVED_CONNECTIONS, MAX_STRANGERS, MAX_WANTS_IN_FLIGHT,
    PACED_BYTES_PER_S, RATE_LIMIT_BURST_S,
};
use crate::node::Event;
use crate::node::conns::incoming::MAX_LOOKS;
use crate::node::conns::{ConnEvent, WantId};
use crate::transfer::{ByeReason, Decoder, Frame, Hello, encode};

fn stranger(n: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, (n / 200) as u8, n as u8)), 5_000)
}

/// The last reply to a caller that is not a node.
fn last_word(bytes: &[u8]) -> Option<Frame> {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    std::iter::from_fn(|| decoder.next_frame().unwrap().map(|(frame, _)| frame)).last()
}

fn greet(
    world: &mut World,
    callee: usize,
    from: SocketAddr,
    hello: Hello,
) -> crate::node::io::ConnId {
    let conn = world.call(callee, from);
    let mut bytes = knock();
    encode(&Frame::Hello(hello), &[], &mut bytes);
    world.give(callee, |conns, shared, now| conns.on_bytes(conn, &bytes, shared, now));
    conn
}

#[test]
fn mute_strangers_do_not_keep_a_peer_out() {
    let mut world = World::new(2);
    world.fill(1, 1);
    for n in 0..4 * MAX_SERVED_CONNECTIONS {
        world.call(1, stranger(n));
    }
    let refused = 4 * MAX_SERVED_CONNECTIONS - MAX_STRANGERS;
    assert_eq!(world.members[1].shared.stats.connections_refused, refused as u64);
    let page = world.want(0, 1, 0, 0, Plane::Global).unwrap();
    world.run(usize::MAX);
    assert!(world.holds(&page, 0, Plane::Global));
    world.pass(6_000);
    assert!(world.strangers.is_empty(), "a caller that is silent for five seconds is closed");
    assert!(world.members[1].told.is_empty(), "and is not worth a log line");
    assert_eq!(world.members[1].shared.stats.peer_faults, MAX_STRANGERS as u64);
}

/// A caller that replays recorded handshakes would cost the node a curve multiplication for each.
#[test]
fn calls_from_one_address_are_answered_at_a_bounded_rate_and_no_other_address_pays_for_it() {
    let mut world = World::new(2);
    let throttled = |world: &World| world.members[1].shared.stats.connections_throttled;
    (0..1_000).for_each(|_| _ = world.call(1, stranger(1)));
    let burst = HANDSHAKES_PER_S * RATE_LIMIT_BURST_S;
    assert_eq!(throttled(&world), 1_000 - burst);
    world.pass(1_000);
    (0..1_000).for_each(|_| _ = world.call(1, stranger(1)));
    assert_eq!(throttled(&world), 2_000 - burst - HANDSHAKES_PER_S);
    world.call(1, stranger(2));
    assert_eq!(throttled(&world), 2_000 - burst - HANDSHAKES_PER_S);
}

#[test]
fn a_mute_program_beside_a_peer_does_not_keep_it_out_either() {
    let mut world = World::new(2);
    world.fill(1, 1);
    let beside = SocketAddr::new(addr(0).ip(), 999);
    for _ in 0..2 * MAX_SERVED_CONNECTIONS {
        world.call(1, beside);
    }
    let page = world.want(0, 1, 0, 0, Plane::Global).unwrap();
    world.run(usize::MAX);
    assert!(world.holds(&page, 0, Plane::Global));
    assert_eq!(world.served(1), 1);
    assert!(world.members[1].shared.stats.connections_reclaimed > 0);
}

#[test]
fn a_refused_caller_is_told_so_and_what_that_takes_is_bounded() {
    let mut world = World::new(1);
    let callers: Vec<_> =
        (0..MAX_CONNECTIONS_PER_ADDRESS + 1).map(|_| world.call(0, stranger(3))).collect();
    assert!(
        !world.strangers.contains_key(&callers[MAX_CONNECTIONS_PER_ADDRESS]),
        "told, then closed"
    );
    let Member { conns, shared, .. } = &mut world.members[0];
    // These sockets accept nothing, so the goodbye stays queued.
    let mut sent = Vec::new();
    for n in 0..100 {
        conns.on_accepted(crate::node::io::ConnId::In(1_000 + n), stranger(3), shared, world.now);
        conns.flush(shared, world.now);
        sent.extend(shared.out.drain(..));
    }
    let byes =
        sent.iter().filter(|output| matches!(output, crate::node::io::Output::Send { .. })).count();
    assert_eq!(
        (byes, sent.len()),
        (MAX_CLOSING_CONNECTIONS, 100),
        "the others are closed without a goodbye"
    );
    let told = sent.iter().find_map(|output| match output {
        crate::node::io::Output::Send { bytes, .. } => last_word(bytes),
        _ => None,
    });
    assert_eq!(told, Some(Frame::Bye { reason: ByeReason::Full }));
    conns.on_time(shared, world.now + Millis(CLOSING_MS));
    assert_eq!(shared.out.len(), MAX_CLOSING_CONNECTIONS, "closed soon if it is not read");
}

#[test]
fn a_full_table_gives_the_place_of_the_one_that_has_been_idle_longest() {
    let mut world = World::new(MAX_SERVED_CONNECTIONS + 2);
    world.fill(0, 1);
    for n in 1..=MAX_SERVED_CONNECTIONS {
        world.now = world.now + Millis(10);
        world.want(n, 0, 0, 0, Plane::Global).unwrap();
        world.run(usize::MAX);
    }
    assert_eq!(world.served(0), MAX_SERVED_CONNECTIONS);
    // The first one asks once more, so the second has been idle longest.
    world.want(1, 0, 1, 0, Plane::Sliding).unwrap();
    world.now = world.now + Millis(10);
    world.run(usize::MAX);
    let last = MAX_SERVED_CONNECTIONS + 1;
    world.want(last, 0, 0, 0, Plane::Global).unwrap();
    world.run(usize::MAX);
    assert_eq!(world.members[last].events.last(), Some(&ConnEvent::Arrived { id: WantId(0) }));
    assert_eq!(world.served(0), MAX_SERVED_CONNECTIONS);
    assert!(
        !world.wires.iter().any(|wire| wire.ends[0].0 == 2)
            && world.wires.iter().any(|wire| wire.ends[0].0 == 1)
    );
    // Nobody is blamed, and a peer that lost its place gets one when it asks again.
    assert!(world.members.iter().all(|member| member.told.is_empty()));
    world.want(2, 0, 7, 0, Plane::Sliding).unwrap();
    world.run(usize::MAX);
    assert_eq!(world.members[2].events.last(), Some(&ConnEvent::Arrived { id: WantId(7) }));
    assert_eq!(world.members[0].shared.stats.connections_refused, 0);
}

/// "Idle" would invite it to come back.
#[test]
fn who_gave_wrong_bytes_is_told_of_a_fault_and_stays_away() {
    let mut world = World::new(2);
    world.fill(0, 1);
    world.want(1, 0, 0, 0, Plane::Global).unwrap();
    world.run(usize::MAX);
    assert_eq!((world.served(0), world.standing(1, 0).worth), (1, 1.0));
    world.give(0, |conns, shared, now| conns.end_with(NodeId(2), shared, now));
    world.run(usize::MAX);
    assert_eq!(world.served(0), 0);
    assert!(world.standing(1, 0).worth < 1.0, "{:?}", world.standing(1, 0));
}

#[test]
fn a_whole_swarm_that_comes_at_once_is_served_within_seconds() {
    let mut world = World::new(64);
    world.fill(0, 1);
    for n in 1..64 {
        let pull = Pull {
            node: NodeId(1),
            boot: BootId(100),
            addr: addr(0),
            segments: [0].into_iter().collect(),
        };
        world.give(n, |conns, shared, now| conns.pull(pull, shared, now));
    }
    let began = world.now;
    let answered = |member: &Member| {
        member.shared.catalog.stats().segments_pulled + member.shared.catalog.stats().pull_faults
    };
    while !world.members[1..].iter().all(|member| answered(member) == 1) {
        // A few frames a millisecond.
        world.step(200);
        world.now = world.now + Millis(1);
        let counts: Vec<u64> = world.members[1..].iter().map(answered).collect();
        assert!(world.now < began + Millis(2_000), "{counts:?}, {} connections", world.wires.len());
    }
    world.run(usize::MAX);
    assert!(world.wires.is_empty() && (1..64).all(|n| world.standing(n, 0).worth == 1.0));
    let refused = world.members[0].shared.stats.connections_refused;
    assert!((31..100).contains(&refused), "{refused} refused");
}

#[test]
fn one_node_has_a_few_connections_however_often_it_connects() {
    let mut world = World::new(2);
    for _ in 0..10 {
        greet(&mut world, 1, addr(0), hello(0));
        world.now = world.now + Millis(1);
    }
    assert_eq!(world.strangers.len(), MAX_CONNECTIONS_PER_NODE);
    // Others cannot end them by using its id.
    for n in 0..4 {
        greet(&mut world, 1, stranger(n), hello(0));
    }
    assert_eq!(world.strangers.len(), MAX_CONNECTIONS_PER_NODE + 4);
}

#[test]
fn an_ill_caller_is_told_why_and_leaves_nothing_pinned() {
    let mut world = World::new(2);
    world.fill(1, 2);
    let conn = greet(&mut world, 1, addr(0), hello(0));
    let (key, mut bytes) = (chain(1)[0].key, Vec::new());
    (0..2)
        .for_each(|_| encode(&Frame::Want { id: 1, key, plane: Plane::Sliding }, &[], &mut bytes));
    // The socket accepts nothing more, so that the plane stays pinned.
    let Member { conns, shared, .. } = &mut world.members[1];
    conns.on_bytes(conn, &bytes, shared, world.now);
    assert_eq!(world.pinned(1), 0);
    world.settle(1);
    assert!(matches!(
        world.members[1].told.as_slice(),
        [Event::PeerFault { peer: Some(NodeId(1)), .. }]
    ));
    assert!(world.strangers.is_empty());
    // Input after the goodbye is ignored.
    world.give(1, |conns, shared, now| conns.on_bytes(conn, b"more", shared, now));
}

/// Each is a scan of the index, on the thread that everything else waits for.
#[test]
fn questions_for_drafts_cost_a_bounded_number_of_searches_a_second() {
    let mut world = World::new(2);
    world.fill(1, 2);
    let conn = greet(&mut world, 1, addr(0), hello(0));
    let parent = chain(1)[0].key;
    let ask = |world: &mut World, ids: core::ops::Range<u32>| {
        for id in ids {
            let mut bytes = Vec::new();
            encode(&Frame::DraftWant { id, parent, begun: Default::default() }, &[], &mut bytes);
            world.give(1, |conns, shared, now| conns.on_bytes(conn, &bytes, shared, now));
        }
        world.members[1].shared.stats.drafts_served
    };
    assert_eq!(ask(&mut world, 0..3 * MAX_LOOKS), u64::from(MAX_LOOKS));
    world.pass(1_000);
    assert_eq!(ask(&mut world, 1_000..1_000 + 3 * MAX_LOOKS), 2 * u64::from(MAX_LOOKS));
    assert_eq!(
        world.members[1].shared.stats.peer_faults, 0,
        "a peer that asks too often gets empty answers"
    );
}

/// Both kinds of questions share one bound, and what is said of habits comes from the table.
#[test]
fn questions_about_habits_are_answered_from_the_table_within_the_same_bound() {
    let mut world = World::new(2);
    let text: Vec<TokenId> = (1..20).map(TokenId).collect();
    (1..text.len()).for_each(|at| world.members[1].shared.habits.learn(&text[..at], text[at]));
    assert_eq!(world.ask_habits(0, 1, &text[..6]), Some(1));
    world.run(usize::MAX);
    let hint = world.members[0].conns.poll_hint().expect("an answer");
    assert_eq!((hint.node, hint.id, &hint.tokens[..]), (NodeId(2), 1, &text[6..]));
    assert_eq!(world.ask_habits(0, 1, &text[..2]), Some(2));
    world.run(usize::MAX);
    assert!(world.members[0].conns.poll_hint().expect("an answer").tokens.is_empty());
    let conn = greet(&mut world, 1, addr(0), hello(0));
    let parent = chain(1)[0].key;
    for id in 0..3 * MAX_LOOKS {
        let frame = match id % 2 {
            0 => Frame::DraftWant { id, parent, begun: Default::default() },
            _ => Frame::HabitWant { id, recent: Default::default() },
        };
        let mut bytes = Vec::new();
        encode(&frame, &[], &mut bytes);
        world.give(1, |conns, shared, now| conns.on_bytes(conn, &bytes, shared, now));
    }
    let stats = &world.members[1].shared.stats;
    assert_eq!(stats.drafts_served + stats.habits_served, 2 + u64::from(MAX_LOOKS));
    assert_eq!(stats.peer_faults, 0, "a peer that asks too often gets empty answers");
}

#[test]
fn serving_is_paced_while_an_answer_is_computed_and_all_have_their_turn() {
    let mut world = World::new(5);
    world.fill(0, 4);
    world.give(0, |conns, _, now| conns.throttle(true, now));
    let mut next = 0;
    let began = world.now;
    while world.now < began + Millis(500) {
        for n in 1..5 {
            while world.members[n].conns.room(NodeId(1), world.now) > 8 {
                world.want(n, 0, next, next as usize % 4, Plane::Sliding).unwrap();
                next += 1;
            }
        }
        world.run(usize::MAX);
        let wake = world.members[0].conns.deadline().expect("there is always more to send");
        assert!(wake > world.now, "it does not busy-wait");
        world.now = wake;
    }
    let bytes = world.expected(0, Plane::Sliding).bytes;
    let arrived = |member: &Member| {
        member.events.iter().filter(|event| matches!(event, ConnEvent::Arrived { .. })).count()
    };
    let carried: Vec<usize> =
        world.members[1..].iter().map(|member| bytes * arrived(member)).collect();
    let total: usize = carried.iter().sum();
    let most = PACED_BYTES_PER_S as usize / 2;
    assert!(total <= most + 64_000 && total > most / 2, "{total} of {most}");
    assert!(carried.iter().all(|own| own.abs_diff(total / 4) <= 8 * bytes), "{carried:?}");
    world.give(0, |conns, _, now| conns.throttle(false, now));
    let before = world.now;
    world.run(usize::MAX);
    assert_eq!(world.now, before);
    assert!(
        (1..5).all(|n| world.members[n].conns.room(NodeId(1), before) == MAX_WANTS_IN_FLIGHT),
        "unpaced, all comes at once"
    );
    assert_eq!(world.pinned(0), 0);
}
