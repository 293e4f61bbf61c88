//! Limits how much of this node serving may use while it computes an answer: one token bucket for
//! all served connections, which take turns.

use core::ops::Bound::{Excluded, Unbounded};
use std::collections::BTreeSet;

use super::ConnId;
use crate::id::Millis;
use crate::limits::{MAX_CHUNK_BYTES, PACED_BYTES_PER_S};

/// Bytes that may be sent per millisecond.
const BYTES_PER_MS: i64 = (PACED_BYTES_PER_S / 1_000) as i64;

/// Most bytes that may accumulate: one chunk.
const MOST: i64 = MAX_CHUNK_BYTES as i64;

/// The bucket, and the connections waiting for it.
#[derive(Default)]
pub(super) struct Throttle {
    computing: bool,
    /// Bytes that may be sent. Negative after a send: a debt that is paid off over time.
    credit: i64,
    at: Millis,
    /// Connections waiting for their turn.
    waiting: BTreeSet<ConnId>,
    /// The connection whose turn was last.
    turn: Option<ConnId>,
    /// The connection whose turn it is.
    called: Option<ConnId>,
}

impl Throttle {
    /// Sets whether an answer is being computed. Returns the connections that no longer
    /// have to wait.
    pub(super) fn set(&mut self, computing: bool, now: Millis) -> BTreeSet<ConnId> {
        if computing && !self.computing {
            (self.credit, self.at) = (MOST, now);
        }
        self.computing = computing;
        if computing { BTreeSet::new() } else { core::mem::take(&mut self.waiting) }
    }

    /// Whether `conn` may send now; if not, it queues for its turn.
    pub(super) fn allows(&mut self, conn: ConnId, now: Millis) -> bool {
        if !self.computing {
            return true;
        }
        self.refill(now);
        // A connection that is not called queues behind those that wait.
        let its_turn = self.called.take() == Some(conn) || self.waiting.is_empty();
        let may = its_turn && self.credit > 0;
        if may {
            self.turn = Some(conn);
        } else {
            self.waiting.insert(conn);
        }
        may
    }

    /// Records that `bytes` were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        if self.computing {
            self.credit -= bytes as i64;
        }
    }

    /// The next connection in turn, if any may send now.
    pub(super) fn next(&mut self, now: Millis) -> Option<ConnId> {
        self.refill(now);
        if self.credit <= 0 {
            return None;
        }
        let after =
            self.turn.and_then(|turn| self.waiting.range((Excluded(turn), Unbounded)).next());
        let next = after.or(self.waiting.first()).copied()?;
        self.waiting.remove(&next);
        self.called = Some(next);
        Some(next)
    }

    /// The connection is gone.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.waiting.remove(&conn);
    }

    /// When the next waiting connection may send; none if none waits.
    pub(super) fn deadline(&self) -> Option<Millis> {
        let debt_ms = if self.credit > 0 { 0 } else { -self.credit / BYTES_PER_MS + 1 };
        (!self.waiting.is_empty()).then(|| self.at + Millis(debt_ms as u64))
    }

    fn refill(&mut self, now: Millis) {
        let elapsed = i64::try_from((now - self.at).0).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_add(elapsed.saturating_mul(BYTES_PER_MS)).min(MOST);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_send_at_the_rate_and_each_has_its_turn() {
        let mut throttle = Throttle::default();
        throttle.set(true, Millis(0));
        let mut sent = [0usize; 4];
        let mut now = Millis(0);
        while now < Millis(1_000) {
            for conn in 0..4 {
                throttle.waiting.insert(ConnId::In(conn));
            }
            while let Some(ConnId::In(conn)) = throttle.next(now) {
                assert!(throttle.allows(ConnId::In(conn), now), "its turn was called");
                throttle.sent(16_400);
                sent[conn as usize] += 16_400;
            }
            now = throttle.deadline().unwrap();
        }
        let total: usize = sent.iter().sum();
        assert!((12_000_000..=16_040_000).contains(&total), "{total}");
        assert!(sent.iter().all(|bytes| bytes.abs_diff(total / 4) <= 2 * 16_400), "{sent:?}");
    }

    #[test]
    fn nobody_waits_when_nothing_is_computed() {
        let mut throttle = Throttle::default();
        assert!((0..100).all(|_| throttle.allows(ConnId::In(1), Millis(0))));
        assert_eq!(throttle.deadline(), None);
        throttle.set(true, Millis(5));
        throttle.sent(100_000);
        assert!(!throttle.allows(ConnId::In(1), Millis(5)));
        assert!(throttle.deadline().unwrap() > Millis(5));
        assert_eq!(throttle.set(false, Millis(5)).len(), 1);
        assert!(throttle.allows(ConnId::In(1), Millis(5)) && throttle.deadline().is_none());
    }
}
