//! Connections of a locked swarm: who is served, who is refused, and what people are told about it.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::world::*;
use crate::id::{BootId, Millis};
use crate::keyring::Keyring;
use crate::kv::Plane;
use crate::limits::{LEAST_PEERS, MAX_STRANGERS};
use crate::node::Event;
use crate::node::conns::{ConnEvent, Loss, WantId};
use crate::transfer::{ByeReason, Channel, Frame, Hello, encode};

fn locked(count: usize, keys: impl Fn(usize) -> Keyring) -> World {
    let mut world = World::keyed(count, keys);
    world.fill(1, 2);
    world
}

fn sesame(_: usize) -> Keyring {
    Keyring::new(b"sesame", [])
}

fn from(n: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, (n / 200) as u8, n as u8)), 5_000)
}

/// A caller sends these bytes; returns the replies.
fn say(world: &mut World, callee: usize, n: usize, bytes: &[u8]) -> Vec<u8> {
    let conn = world.call(callee, from(n));
    world.give(callee, |conns, shared, now| conns.on_bytes(conn, bytes, shared, now));
    world.told.remove(&conn).unwrap_or_default()
}

fn first(channel: &mut Channel) -> Vec<u8> {
    channel.writable();
    channel.send(|_| false).expect("a caller knocks")
}

#[test]
fn planes_travel_between_nodes_of_one_key_whichever_of_them_is_behind_with_it() {
    let old = |index: usize| {
        if index == 0 {
            Keyring::new(b"old", [])
        } else {
            Keyring::new(b"new", [b"old".as_slice()])
        }
    };
    for mut world in [locked(2, sesame), locked(2, old)] {
        let page = world.want(0, 1, 0, 1, Plane::Sliding).unwrap();
        world.run(700);
        assert!(world.holds(&page, 1, Plane::Sliding));
        assert!(
            world
                .members
                .iter()
                .all(|member| member.told.is_empty() && member.shared.stats.peer_faults == 0)
        );
    }
}

#[test]
fn nodes_of_different_keys_part_and_the_one_that_called_knows_why() {
    let mut world = locked(2, |index| Keyring::new(&[index as u8 + 1], []));
    world.want(0, 1, 0, 0, Plane::Global).unwrap();
    world.run(usize::MAX);
    assert_eq!(world.members[0].events, [ConnEvent::Lost { id: WantId(0), why: Loss::Gone }]);
    assert!(world.members[1].told.is_empty(), "a line for each call would fill the log");
    assert_eq!(world.members[1].shared.stats.peer_faults, 1);
    assert!(
        !world.members[0].conns.avoids(world.members[1].node, world.now + Millis(60_000)),
        "it may be asked again"
    );
}

#[test]
fn what_a_stranger_says_is_counted_and_told_to_nobody() {
    let mut world = locked(2, sesame);
    let good = first(&mut Channel::initiator(sesame(0).current(), [1; 32]));
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    let other = first(&mut Channel::initiator(Keyring::new(b"other", []).current(), [1; 32]));
    let mut garbage = good.clone();
    garbage.extend([0x55; 600]);
    for (n, bytes) in [bad, other, garbage, b"GET / HTTP/1.1\r\n\r\n".to_vec()].iter().enumerate() {
        say(&mut world, 1, n, bytes);
    }
    assert_eq!(world.members[1].shared.stats.peer_faults, 4);
    assert_eq!(world.members[1].told, []);
}

#[test]
fn strangers_that_play_a_recorded_handshake_stay_strangers() {
    let mut world = locked(2, sesame);
    world.introduce();
    let recorded = first(&mut Channel::initiator(sesame(0).current(), [1; 32]));
    for n in 0..40 {
        say(&mut world, 1, n, &recorded);
    }
    assert_eq!(world.members[1].shared.stats.connections_refused, 40 - MAX_STRANGERS as u64);
    let page = world.want(0, 1, 0, 0, Plane::Global).unwrap();
    world.run(usize::MAX);
    assert!(world.holds(&page, 0, Plane::Global));
}

#[test]
fn a_node_of_version_1_is_told_of_once_wherever_it_is_and_of_a_bounded_number() {
    let mut world = locked(2, sesame);
    let old = [&[27, 0, 0][..], b"PTLK", &[1, 0x82, 2, 3, 4, 5], &[6; 16]].concat();
    for n in 0..2 * LEAST_PEERS {
        (0..3).for_each(|_| {
            assert_eq!(say(&mut world, 1, n, &old), [2, 0, 12, ByeReason::Version as u8])
        });
    }
    let told = &world.members[1].told;
    assert_eq!(
        (told.len(), &told[0]),
        (LEAST_PEERS, &Event::OtherVersion { ip: from(0).ip(), older: Some(true) })
    );
}

#[test]
fn an_old_node_that_is_called_is_told_of_too() {
    let mut world = locked(2, sesame);
    world.want(0, 1, 0, 0, Plane::Global).unwrap();
    world.settle(0);
    let conn = world.wires[0].ends[0].1;
    world.give(0, |conns, shared, now| conns.on_bytes(conn, &[2, 0, 12, 3], shared, now));
    assert_eq!(world.members[0].told, [Event::OtherVersion { ip: addr(1).ip(), older: None }]);
}

#[test]
fn a_copy_of_this_nodes_identity_is_told_apart_from_this_node_itself() {
    for (boot, reason) in [(BootId(101), ByeReason::SameNode), (BootId(999), ByeReason::Twin)] {
        let mut world = locked(2, sesame);
        let mut caller = Channel::initiator(sesame(0).current(), [1; 32]);
        let conn = world.call(1, from(1));
        let knock = first(&mut caller);
        world.give(1, |conns, shared, now| conns.on_bytes(conn, &knock, shared, now));
        let answer = world.strangers[&conn].clone();
        assert_eq!(caller.received(&answer).next_frame(), Ok(None));
        caller.writable();
        let mut greeting = Some(Hello { boot, ..hello(1) });
        let sent = caller.send(|out| {
            greeting.take().map(|hello| encode(&Frame::Hello(hello), &[], out)).is_some()
        });
        world.give(1, |conns, shared, now| conns.on_bytes(conn, &sent.unwrap(), shared, now));
        let told = world.told[&conn][answer.len()..].to_vec();
        assert_eq!(
            caller.received(&told).next_frame(),
            Ok(Some((Frame::Bye { reason }, [].as_slice())))
        );
    }
}
