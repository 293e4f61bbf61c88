//! The warnings that a node is sending: what its audits found, each repeated like an order
//! to reset.

use super::repeat::Repeater;
use super::wire::Warning;
use super::{Catalog, Event, Standing};
use crate::id::{Millis, NodeId};
use crate::limits::MAX_WARNINGS;
use crate::splitmix::SplitMix64;

/// The warnings being sent, oldest first.
#[derive(Default)]
pub(super) struct WarningQueue {
    open: heapless::Deque<(Warning, Repeater), MAX_WARNINGS>,
}

impl WarningQueue {
    /// Starts sending a warning: the first datagram is due at once. When the queue is full, the
    /// oldest warning is dropped; it has been sent often enough.
    pub(super) fn push(&mut self, warning: Warning, now: Millis) {
        if self.open.is_full() {
            self.open.pop_front();
        }
        let mut repeater = Repeater::default();
        repeater.start(now);
        self.open.push_back((warning, repeater)).expect("there is room for one warning");
    }

    /// A warning that is due, if any; it counts as sent.
    pub(super) fn take(&mut self, dice: &mut SplitMix64, now: Millis) -> Option<Warning> {
        while self.open.front().is_some_and(|(_, repeater)| repeater.is_done()) {
            self.open.pop_front();
        }
        self.open
            .iter_mut()
            .find_map(|(warning, repeater)| repeater.take(dice, now).then_some(*warning))
    }

    /// When the next one is due.
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.open.iter().filter_map(|(_, repeater)| repeater.deadline()).min()
    }
}

impl Catalog {
    /// A warning counts only if its sender's bytes would equal this node's.
    pub(super) fn handle_warning(&mut self, by: NodeId, warning: Warning) -> Option<Event> {
        self.stats.warnings_heard += 1;
        let shares =
            self.directory.get(by).is_some_and(|peer| self.standing(peer) == Standing::Shares);
        shares.then_some(Event::Warned { by, warning })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{BlockKey, BootId, NodeId};
    use crate::kv::Plane;
    use crate::limits::RESET_REPEATS;

    fn warning(accused: u64) -> Warning {
        let (boot, key) = (BootId(1), BlockKey([2; 16]));
        Warning {
            accused: NodeId(accused),
            boot,
            key,
            plane: Plane::Global,
            served: 3,
            computed: 4,
        }
    }

    /// All warnings sent until nothing is due.
    fn said(warnings: &mut WarningQueue) -> Vec<u64> {
        let (mut dice, mut said) = (SplitMix64(1), Vec::new());
        while let Some(now) = warnings.deadline() {
            said.extend(warnings.take(&mut dice, now).map(|warning| warning.accused.0));
        }
        said
    }

    #[test]
    fn every_warning_is_repeated_and_no_more_are_kept_than_there_is_room_for() {
        let mut warnings = WarningQueue::default();
        warnings.push(warning(1), Millis(5));
        assert_eq!(said(&mut warnings), vec![1; RESET_REPEATS as usize]);
        for accused in 0..10 {
            warnings.push(warning(accused), Millis(9));
        }
        let said = said(&mut warnings);
        assert_eq!(said.len(), MAX_WARNINGS * RESET_REPEATS as usize);
        assert!((6..10).all(|accused| said.contains(&accused)), "the latest are said");
    }
}
