//! Who gets a place among the served connections when there are not enough.
//!
//! A peer of the swarm is known by the address that it announced itself from, even before it says
//! anything. A caller that has sent a valid hello is known too. All others are strangers: they get
//! a few places in total, and a few per address. If a place is needed, the connection that has been
//! idle longest ends, which costs its peer only a round trip. If none is idle, a known peer takes
//! the place of the caller that has been mute longest: a stranger, or a known peer that has had
//! time to say hello. A stranger may be a peer that has not been heard yet, so when the strangers'
//! places are full it takes the place of the stranger whose time has run out.

use core::net::IpAddr;

use super::ConnId;
use crate::id::Millis;
use crate::limits::{MAX_CONNECTIONS_PER_ADDRESS, MAX_SERVED_CONNECTIONS, MAX_STRANGERS};

/// Time in which a caller may say hello before another one gets its place, in milliseconds: four of
/// the worst round trips seen on an idle board's Wi-Fi. Without it, peers that connect all at once
/// would drive each other out.
const GREETING_MS: u64 = 500;

/// An occupied place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ServedConn {
    pub conn: ConnId,
    pub from: IpAddr,
    pub state: State,
}

/// The state of its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// No hello yet since it was accepted. `stranger`: from an unknown address.
    Mute { since: Millis, stranger: bool },
    /// Nothing has been requested since then.
    Idle { since: Millis },
    /// Something is being sent.
    Busy,
}

/// What happens to a caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    /// There is a free place.
    Free,
    /// The caller takes this connection's place.
    InsteadOf(ConnId),
    /// There is no place.
    Full,
}

/// Finds a place for a caller from an address at which `peers` known peers have
/// announced themselves.
pub(super) fn admit(places: &[ServedConn], from: IpAddr, peers: usize, now: Millis) -> Admission {
    let here = || places.iter().filter(|place| place.from == from);
    let instead = |victim: Option<ConnId>| victim.map_or(Admission::Full, Admission::InsteadOf);
    if here().count() >= MAX_CONNECTIONS_PER_ADDRESS * peers.max(1) {
        return instead(mutest(here(), Millis(u64::MAX)).or(idlest(here())).filter(|_| peers > 0));
    }
    let strangers =
        || places.iter().filter(|place| matches!(place.state, State::Mute { stranger: true, .. }));
    if peers == 0 && strangers().count() >= MAX_STRANGERS {
        return instead(late(strangers(), now));
    }
    if places.len() < MAX_SERVED_CONNECTIONS {
        return Admission::Free;
    }
    instead(idlest(places.iter()).or_else(|| mutest(places.iter(), now).filter(|_| peers > 0)))
}

/// The connection that has been idle longest.
fn idlest<'a>(places: impl Iterator<Item = &'a ServedConn>) -> Option<ConnId> {
    let idle = places.filter_map(|place| match place.state {
        State::Idle { since } => Some((since, place.conn)),
        _ => None,
    });
    idle.min().map(|(_, conn)| conn)
}

/// The connection that has been mute longest, of those whose time has run out.
fn late<'a>(places: impl Iterator<Item = &'a ServedConn>, now: Millis) -> Option<ConnId> {
    let late = places.filter_map(|place| match place.state {
        State::Mute { since, .. } if now - since >= Millis(GREETING_MS) => {
            Some((since, place.conn))
        }
        _ => None,
    });
    late.min().map(|(_, conn)| conn)
}

/// The connection that has been mute longest: strangers first, and others only if their
/// time has run out.
fn mutest<'a>(places: impl Iterator<Item = &'a ServedConn>, now: Millis) -> Option<ConnId> {
    let mute = places.filter_map(|place| match place.state {
        State::Mute { since, stranger } if stranger || now - since >= Millis(GREETING_MS) => {
            Some((!stranger, since, place.conn))
        }
        _ => None,
    });
    mute.min().map(|(.., conn)| conn)
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    const NOW: Millis = Millis(1_000);

    fn ip(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    fn places(count: u8, state: impl Fn(u8) -> State) -> Vec<ServedConn> {
        (0..count)
            .map(|n| ServedConn { conn: ConnId::In(n.into()), from: ip(n), state: state(n) })
            .collect()
    }

    fn mute(n: u8) -> State {
        State::Mute { since: Millis(u64::from(n)), stranger: true }
    }

    #[test]
    fn strangers_get_a_few_places_and_a_peer_always_one() {
        let strangers = places(MAX_STRANGERS as u8, mute);
        assert_eq!(admit(&strangers, ip(99), 0, Millis(499)), Admission::Full);
        assert_eq!(
            admit(&strangers, ip(99), 0, Millis(500)),
            Admission::InsteadOf(ConnId::In(0)),
            "its time has run out"
        );
        assert_eq!(admit(&strangers, ip(99), 1, NOW), Admission::Free);
        let full = places(MAX_SERVED_CONNECTIONS as u8, mute);
        assert_eq!(
            admit(&full, ip(99), 1, NOW),
            Admission::InsteadOf(ConnId::In(0)),
            "the one that has been mute longest"
        );
        let peers = places(MAX_SERVED_CONNECTIONS as u8, |n| State::Mute {
            since: Millis(700 - u64::from(n)),
            stranger: false,
        });
        assert_eq!(
            admit(&peers, ip(99), 1, NOW),
            Admission::Full,
            "peers that come together do not drive each other out"
        );
        assert_eq!(
            admit(&peers, ip(99), 1, Millis(1_169)),
            Admission::InsteadOf(ConnId::In(31)),
            "but they must say hello"
        );
        let busy = places(MAX_SERVED_CONNECTIONS as u8, |_| State::Busy);
        assert_eq!(
            admit(&busy, ip(99), 1, NOW),
            Admission::Full,
            "work under way is not dropped for other work"
        );
    }

    #[test]
    fn idle_connections_go_first_and_the_oldest_of_them() {
        let state = |n| match n {
            0..=3 => mute(n),
            20 => State::Idle { since: Millis(500) },
            21 => State::Idle { since: Millis(400) },
            _ => State::Busy,
        };
        let full = places(MAX_SERVED_CONNECTIONS as u8, state);
        assert_eq!(admit(&full, ip(99), 1, NOW), Admission::InsteadOf(ConnId::In(21)));
        assert_eq!(
            admit(&full, ip(99), 0, NOW),
            Admission::InsteadOf(ConnId::In(21)),
            "a stranger may be a peer not heard yet"
        );
        let busy =
            places(MAX_SERVED_CONNECTIONS as u8, |n| if n < 4 { mute(n) } else { State::Busy });
        assert_eq!(
            admit(&busy, ip(99), 0, NOW),
            Admission::Full,
            "but it does not end another stranger's wait"
        );
    }

    #[test]
    fn one_address_gets_a_few_places_for_each_peer_that_announced_itself_from_it() {
        let one = |count: u8, state: fn(u8) -> State| -> Vec<ServedConn> {
            places(count, state)
                .into_iter()
                .map(|place| ServedConn { from: ip(7), ..place })
                .collect()
        };
        let limit = MAX_CONNECTIONS_PER_ADDRESS as u8;
        assert_eq!(admit(&one(limit - 1, |_| State::Busy), ip(7), 0, NOW), Admission::Free);
        assert_eq!(admit(&one(limit, |_| State::Busy), ip(7), 0, NOW), Admission::Full);
        assert_eq!(admit(&one(limit, |_| State::Busy), ip(7), 1, NOW), Admission::Full);
        assert_eq!(admit(&one(limit, |_| State::Busy), ip(7), 2, NOW), Admission::Free);
        assert_eq!(
            admit(&one(limit, mute), ip(7), 1, NOW),
            Admission::InsteadOf(ConnId::In(0)),
            "a program beside the peer"
        );
        assert_eq!(
            admit(&one(limit, mute), ip(8), 0, NOW),
            Admission::Free,
            "another address is not held responsible"
        );
    }
}
