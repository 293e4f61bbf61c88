//! Peers in backoff: those that were full or unreachable are not asked for a while.

use std::collections::BTreeMap;

use crate::id::{Millis, NodeId};
use crate::limits::{MAX_PEERS, MAX_REFUSED_MS, REFUSED_MS};
use crate::splitmix::SplitMix64;

/// Which peers are in backoff, and until when. Bounded: a full table forgets a peer whose backoff
/// has ended, or otherwise any.
pub(super) struct Backoff {
    random: SplitMix64,
    peers: BTreeMap<NodeId, Refused>,
}

#[derive(Clone, Copy)]
struct Refused {
    /// None once the peer may be asked again.
    until: Option<Millis>,
    /// Refusals in a row.
    times: u32,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Backoff {
        Backoff { random: SplitMix64(seed), peers: BTreeMap::new() }
    }

    /// Whether the peer is in backoff.
    pub(super) fn holds(&self, node: NodeId, now: Millis) -> bool {
        self.peers.get(&node).is_some_and(|refused| refused.until.is_some_and(|until| now < until))
    }

    /// The peer was full or unreachable. Avoids it for twice as long as the last time, within about
    /// an eighth either way, so that peers that were refused together do not return together.
    /// Returns how many times in a row it was refused.
    pub(super) fn refused(&mut self, node: NodeId, now: Millis) -> u32 {
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&node) {
            let spare = self
                .peers
                .iter()
                .find(|(_, refused)| refused.until.is_none())
                .or(self.peers.iter().next());
            if let Some(spare) = spare.map(|(node, _)| *node) {
                self.peers.remove(&spare);
            }
        }
        let times = self.peers.get(&node).map_or(0, |refused| refused.times);
        let wait = (REFUSED_MS << times.min(16)).min(MAX_REFUSED_MS);
        let until = Some(now + Millis(wait - wait / 8 + self.random.below(wait / 4 + 1)));
        self.peers.insert(node, Refused { until, times: (times + 1).min(16) });
        times + 1
    }

    /// The peer serves this node, or is a different one now.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.peers.remove(&node);
    }

    /// Ends the backoffs whose time is over; returns whether there were any.
    pub(super) fn on_time(&mut self, now: Millis) -> bool {
        let over = self
            .peers
            .values_mut()
            .filter_map(|refused| refused.until.take_if(|until| now >= *until));
        over.count() > 0
    }

    /// When the next backoff ends.
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.peers.values().filter_map(|refused| refused.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_to_a_limit_and_a_success_ends_it() {
        let mut backoff = Backoff::new(3);
        let mut now = Millis(0);
        let mut waits = Vec::new();
        for _ in 0..20 {
            backoff.refused(NodeId(1), now);
            let until = backoff.deadline().unwrap();
            let before = Millis(until.0 - 1);
            backoff.on_time(before);
            assert!(backoff.holds(NodeId(1), before) && !backoff.holds(NodeId(2), before));
            backoff.on_time(until);
            assert!(!backoff.holds(NodeId(1), until) && backoff.deadline().is_none());
            waits.push((until - now).0);
            now = until;
        }
        assert!((218..=282).contains(&waits[0]) && (437..=563).contains(&waits[1]), "{waits:?}");
        assert!(waits[10..].iter().all(|wait| (7_000..=9_000).contains(wait)), "{waits:?}");
        backoff.forget(NodeId(1));
        backoff.refused(NodeId(1), now);
        assert!((backoff.deadline().unwrap() - now).0 <= 282);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_first_whom_it_does_not_hold_back() {
        let mut backoff = Backoff::new(3);
        backoff.refused(NodeId(9_000), Millis(0));
        backoff.on_time(Millis(10_000));
        for node in 0..MAX_PEERS as u64 {
            backoff.refused(NodeId(node), Millis(10_000));
        }
        assert!(backoff.peers.len() == MAX_PEERS && !backoff.peers.contains_key(&NodeId(9_000)));
        assert!((0..MAX_PEERS as u64).all(|node| backoff.holds(NodeId(node), Millis(10_000))));
        backoff.refused(NodeId(9_001), Millis(10_000));
        assert_eq!(backoff.peers.len(), MAX_PEERS);
    }
}
