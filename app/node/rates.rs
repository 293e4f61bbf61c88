//! Measured rates: how fast this node computes and how fast each peer delivers.

use heapless::index_map::FnvIndexMap;

use crate::id::{Millis, NodeId};
use crate::limits::{BLOCK_TOKENS, MAX_PEERS};
use crate::planner::{PeerRate, PeerSpeed, Smoothed};
use crate::transfer::Sample;

/// What was seen lately. Peers beyond the table's size are forgotten, the longest known first.
#[derive(Debug, Default)]
pub(super) struct Rates {
    prefill: Smoothed,
    peers: FnvIndexMap<NodeId, PeerSpeed, MAX_PEERS>,
}

impl Rates {
    /// Nothing known but, perhaps, this node's own speed.
    pub(super) fn new(prefill_tokens_per_s: Option<f32>) -> Rates {
        let mut rates = Rates::default();
        if let Some(rate) = prefill_tokens_per_s {
            rates.prefill.update(rate, Millis(0));
        }
        rates
    }

    /// A node's own speed does not change while it is idle: the last measurement counts, however old.
    pub(super) fn prefill_tokens_per_s(&self) -> Option<f32> {
        self.prefill.latest()
    }

    pub(super) fn peer(&self, node: NodeId, now: Millis) -> PeerRate {
        self.peers.get(&node).copied().unwrap_or_default().rate(node, now)
    }

    /// A prefill step took `micros`. Steps shorter than a block say more about overheads than about the rate.
    pub(super) fn prefilled(&mut self, tokens: usize, micros: u64, now: Millis) {
        if tokens >= BLOCK_TOKENS {
            self.prefill.update(tokens as f32 * 1e6 / micros.max(1) as f32, now);
        }
    }

    /// What a connection to `node` has shown.
    pub(super) fn sample(&mut self, node: NodeId, sample: Sample, now: Millis) {
        let speed = self.speed(node);
        match sample {
            Sample::Goodput { bytes, elapsed } => speed.delivered(bytes, elapsed, now),
            Sample::RoundTrip(elapsed) => speed.answered(elapsed, now),
        }
    }

    /// The peer brought nothing of what was still wanted of it within `waited`.
    pub(super) fn late(&mut self, node: NodeId, waited: Millis, now: Millis) {
        self.speed(node).delivered(0, waited, now);
    }

    /// The peer cannot be reached, is not who it was taken for, or gives what is of no use: it is not asked for as long as a
    /// measurement is believed, whatever it was measured at before.
    pub(super) fn unusable(&mut self, node: NodeId, now: Millis) {
        self.forget(node);
        self.speed(node).delivered(0, Millis(1), now);
    }

    /// What was measured of the peer does not hold any more.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.peers.remove(&node);
    }

    fn speed(&mut self, node: NodeId) -> &mut PeerSpeed {
        if !self.peers.contains_key(&node)
            && self.peers.len() == MAX_PEERS
            && let Some(oldest) = self.peers.keys().next().copied()
        {
            self.peers.remove(&oldest);
        }
        self.peers.entry(node).or_default().expect("room was made")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_node_does_not_wait_for_peers_after_a_quiet_hour() {
        let mut rates = Rates::default();
        rates.prefilled(64, 64_000, Millis(0));
        rates.sample(NodeId(1), Sample::RoundTrip(Millis(5)), Millis(0));
        assert_eq!(rates.prefill_tokens_per_s(), Some(1_000.0));
        assert_eq!(rates.peer(NodeId(1), Millis(3_600_000)).round_trip_ms, None);
    }

    #[test]
    fn more_peers_than_the_table_holds_are_forgotten_not_fatal() {
        let mut rates = Rates::default();
        for node in 0..3 * MAX_PEERS as u64 {
            rates.sample(NodeId(node), Sample::RoundTrip(Millis(5)), Millis(0));
        }
        assert!(rates.peers.len() <= MAX_PEERS);
        assert!(rates.peer(NodeId(3 * MAX_PEERS as u64 - 1), Millis(0)).round_trip_ms.is_some());
    }
}
