//! Repeats to all what many have missed.
//!
//! A delta that is lost on its way to this node's radio is lost by everybody, and each peer would
//! pull the segment over its own connection. The first few do; then the segment is multicast, which
//! repairs the others. Likewise, a newcomer that announces itself again without having connected
//! may have missed this node's answer, so it is answered again.

use super::wire::Datagram;
use super::{Catalog, MAX_FILTER_SEGMENTS};
use crate::id::{BootId, Millis, NodeId};
use crate::limits::{ANNOUNCE_INTERVAL_MS, ANSWER_AGAIN_MS, DEMAND, DEMAND_MS, DEMAND_SHARE};

/// Counts the requests for each segment.
#[derive(Default)]
pub(super) struct Demand {
    /// The generation that the requests were for.
    generation: u64,
    since: Millis,
    asked: [usize; MAX_FILTER_SEGMENTS],
    /// Whether the segment was multicast at this generation.
    sent: [bool; MAX_FILTER_SEGMENTS],
    /// Segments due to be multicast.
    due: [bool; MAX_FILTER_SEGMENTS],
    /// No newcomer is answered again before this: nodes that start together would answer each
    /// other's answers.
    quiet_until: Millis,
}

impl Demand {
    /// Counts a request for a segment at this generation. After `enough` of them the segment
    /// becomes due, once per generation.
    fn note(&mut self, generation: u64, index: usize, enough: usize, now: Millis) {
        if generation != self.generation {
            *self = Demand {
                generation,
                since: now,
                quiet_until: self.quiet_until,
                ..Demand::default()
            };
        }
        if now >= self.since + Millis(DEMAND_MS) {
            (self.since, self.asked) = (now, [0; MAX_FILTER_SEGMENTS]);
        }
        self.asked[index] += 1;
        if self.asked[index] >= enough && !self.sent[index] {
            (self.sent[index], self.due[index]) = (true, true);
        }
    }

    fn take(&mut self) -> Option<usize> {
        let index = self.due.iter().position(|due| *due)?;
        self.due[index] = false;
        Some(index)
    }
}

impl Catalog {
    /// A segment of this node's filter as last advertised, with its generation, for a peer that
    /// asks for it over TCP.
    pub(crate) fn serve_segment(&mut self, index: usize, now: Millis) -> Option<(u64, &[u8])> {
        let generation = self.own.generation();
        if index < self.own.filter.geometry().segments() {
            self.demand.note(generation, index, DEMAND.max(self.nodes() / DEMAND_SHARE), now);
        }
        self.own_segment(index)
    }

    /// The datagram that repeats a segment many peers asked for, if one is due.
    pub(super) fn repeat_segment(&mut self, now: Millis) -> Option<Datagram> {
        let index = self.demand.take()?;
        let datagram = self.seal_segment(index);
        self.schedule.change_sent(self.nodes(), datagram.len() * (1 + self.copies.len()), now);
        Some(datagram)
    }

    /// `boot` of `node` has connected to this node.
    pub(crate) fn called_by(&mut self, node: NodeId, boot: BootId) {
        self.directory.with(node, |peer| peer.called |= peer.boot == boot);
    }

    /// A known peer has announced itself: answers it again if it may have missed this node.
    pub(super) fn answer_again(&mut self, node: NodeId, now: Millis) {
        // In a small swarm the next announcement is near anyway.
        let far = self.interval_ms() > 2 * ANNOUNCE_INTERVAL_MS;
        let is_new = far && now >= self.demand.quiet_until;
        if is_new && self.directory.get(node).is_some_and(|peer| peer.may_miss_us(now)) {
            self.demand.quiet_until = now + Millis(ANSWER_AGAIN_MS);
            self.schedule.answer(self.nodes(), &mut self.dice, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::net::{config, key, udp};
    use super::super::wire::Message;
    use super::super::{CatalogConfig, wire};
    use super::*;
    use crate::keyring::Keyring;
    use crate::kv::Plane;
    use crate::limits::FILTER_SEGMENT_BYTES;

    fn is_segment(datagram: &Datagram) -> bool {
        let mut text = Datagram::new();
        matches!(wire::open(datagram, &config(0).keys, &mut text), Ok((_, Message::Segment(_))))
    }

    /// The datagrams that are due.
    fn said(catalog: &mut Catalog, now: u64) -> Vec<Datagram> {
        core::iter::from_fn(|| catalog.poll_datagram(Millis(now))).collect()
    }

    #[test]
    fn what_many_ask_for_is_said_once_to_all_and_mends_their_filters() {
        let (mut teller, mut peer) = (Catalog::new(config(0)), Catalog::new(config(1)));
        let first = teller.poll_datagram(Millis(0)).unwrap();
        peer.proved(teller.config.node, teller.config.boot, udp(0).ip(), Millis(0));
        peer.handle(udp(0), &first, Millis(0)).unwrap();
        (0..20).for_each(|number| teller.insert(&key(number), Plane::Global, Millis(100)));
        assert!(!said(&mut teller, 400).is_empty(), "the delta that is lost");
        for asked in 1..DEMAND {
            teller.serve_segment(0, Millis(1_000 + asked as u64)).unwrap();
            teller.serve_segment(99, Millis(1_000));
            assert!(!said(&mut teller, 1_010).iter().any(is_segment), "{asked}");
        }
        teller.serve_segment(0, Millis(1_020)).unwrap();
        let again: Vec<Datagram> =
            said(&mut teller, 1_020).into_iter().filter(is_segment).collect();
        assert_eq!(again.len(), 1);
        peer.handle(udp(0), &again[0], Millis(1_021)).unwrap();
        let known =
            &peer.peer(teller.config.node).expect("known").filter.bits()[..FILTER_SEGMENT_BYTES];
        assert!(
            teller
                .own_segment(0)
                .is_some_and(|(_, told)| told == known && told.iter().any(|byte| *byte != 0))
        );
        for at in 0..10 * DEMAND as u64 {
            teller.serve_segment(0, Millis(1_030 + at));
            assert!(!said(&mut teller, 1_030 + at).iter().any(is_segment), "once a generation");
        }
    }

    #[test]
    fn few_that_ask_now_and_then_get_it_on_their_connections_only() {
        let mut teller = Catalog::new(config(0));
        for asked in 0..100 {
            let now = asked * (DEMAND_MS / DEMAND as u64 + 200);
            teller.serve_segment(0, Millis(now)).unwrap();
            assert!(!said(&mut teller, now).iter().any(is_segment), "{asked}");
        }
    }

    /// When the next regular announcement is minutes away, a lost answer must not leave a newcomer
    /// without this node until then.
    #[test]
    fn a_newcomer_that_has_not_called_is_answered_again_and_no_other() {
        let slow = |number| CatalogConfig {
            interval_ms: 300_000,
            keys: Keyring::new(b"test", []),
            ..config(number)
        };
        let again = |called: bool, first: u64| {
            let (mut old, mut newcomer) = (Catalog::new(slow(0)), Catalog::new(slow(1)));
            let mut at = first;
            let mut hears = |old: &mut Catalog, at: u64| {
                newcomer.schedule.announce_now(Millis(at));
                let greeting = newcomer.poll_datagram(Millis(at)).unwrap();
                old.handle(udp(1), &greeting, Millis(at)).unwrap();
            };
            old.proved(NodeId(1_001), BootId(2_001), udp(1).ip(), Millis(at));
            hears(&mut old, at);
            if called {
                old.called_by(NodeId(1_001), BootId(2_001));
            }
            // Drains the first answer and this node's own greetings.
            for ms in (at..at + 60_000).step_by(100) {
                said(&mut old, ms);
            }
            at += 60_000;
            hears(&mut old, at);
            (at..at + 1_000).step_by(100).map(|ms| said(&mut old, ms).len()).sum::<usize>()
        };
        assert_eq!((again(false, 5_000), again(true, 5_000)), (1, 0));
    }
}
