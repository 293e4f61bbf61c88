//! When an order to reset is sent: several times, since some datagrams get lost, and with random
//! pauses in between.

use crate::id::Millis;
use crate::limits::{RESET_GAP_MS, RESET_REPEATS};
use crate::splitmix::SplitMix64;

/// A reset order that is being repeated, or none.
#[derive(Default, Debug)]
pub(super) struct Repeater {
    left: u32,
    at: Millis,
}

impl Repeater {
    /// Starts an order: the first datagram is due at once.
    pub(super) fn start(&mut self, now: Millis) {
        *self = Repeater { left: RESET_REPEATS, at: now };
    }

    /// Whether one is due; if so, it counts as sent.
    pub(super) fn take(&mut self, dice: &mut SplitMix64, now: Millis) -> bool {
        let due = self.left > 0 && now >= self.at;
        if due {
            self.left -= 1;
            self.at = now + Millis(RESET_GAP_MS + dice.below(RESET_GAP_MS / 2 + 1));
        }
        due
    }

    /// Whether all were sent.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// When the next one is due.
    pub(super) fn deadline(&self) -> Option<Millis> {
        (self.left > 0).then_some(self.at)
    }
}
