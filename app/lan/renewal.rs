//! When the group membership is renewed. A switch that tracks group members (IGMP snooping) may
//! forget one: the kernel still believes that all is well, but nothing arrives. Leaving and
//! rejoining reports the membership again. That costs two small frames, so on a quiet network it is
//! repeated, at intervals that double up to a minute.

use crate::id::Millis;
use crate::limits::MAX_RENEWAL_GAP_MS;

/// The membership on one interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Renewal {
    /// Milliseconds of silence before the first renewal.
    timeout_ms: u64,
    gap_ms: u64,
    at: Millis,
}

impl Renewal {
    /// Joined now, on a network whose nodes announce themselves every `interval_ms`: one lost
    /// announcement is tolerated.
    pub(crate) fn new(interval_ms: u64, now: Millis) -> Renewal {
        let timeout_ms = (interval_ms + interval_ms / 2).max(1);
        Renewal { timeout_ms, gap_ms: timeout_ms, at: now + Millis(timeout_ms) }
    }

    /// A datagram of another machine arrived through the group.
    pub(crate) fn heard(&mut self, now: Millis) {
        self.gap_ms = self.timeout_ms;
        self.at = now + Millis(self.gap_ms);
    }

    /// Whether a renewal is due now; if so, the next one is scheduled.
    pub(crate) fn is_due(&mut self, now: Millis) -> bool {
        let due = now >= self.at;
        if due {
            self.gap_ms = (2 * self.gap_ms).min(MAX_RENEWAL_GAP_MS.max(self.timeout_ms));
            self.at = now + Millis(self.gap_ms);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_group_is_joined_again_soon_then_once_a_minute_and_a_lively_one_never() {
        let mut renewal = Renewal::new(10_000, Millis(0));
        let renewed: Vec<u64> =
            (0..300).filter(|second| renewal.is_due(Millis(second * 1_000))).collect();
        assert_eq!(renewed, [15, 45, 105, 165, 225, 285]);
        renewal.heard(Millis(300_000));
        assert!(!renewal.is_due(Millis(314_000)) && renewal.is_due(Millis(315_000)));
        let mut lively = Renewal::new(10_000, Millis(0));
        for second in 0..1_000 {
            if second % 10 == 0 {
                lively.heard(Millis(second * 1_000));
            }
            assert!(!lively.is_due(Millis(second * 1_000)));
        }
    }
}
