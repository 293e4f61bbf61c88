//! Where the state of the last hour's prompts came from, minute by minute, for the page's chart.

use crate::id::Millis;
use crate::node::Figures;

/// Minutes remembered.
pub(crate) const MINUTES: usize = 60;
const MINUTE_MS: u64 = 60_000;

/// Prompt tokens from this node's slab, from peers, and computed; then the number of answers.
pub(crate) type Minute = [u64; 4];

/// The last hour's counts; see the module header.
pub(crate) struct History {
    /// Indexed by the minute's number modulo the count, with that number.
    minutes: [(u64, Minute); MINUTES],
}

impl Default for History {
    fn default() -> History {
        History { minutes: [(0, [0; 4]); MINUTES] }
    }
}

impl History {
    /// Counts an answer that ended now.
    pub(crate) fn observe(&mut self, figures: &Figures, now: Millis) {
        let number = now.0 / MINUTE_MS;
        let (of, minute) = &mut self.minutes[(number % MINUTES as u64) as usize];
        if *of != number {
            (*of, *minute) = (number, [0; 4]);
        }
        let more = [figures.own as u64, figures.from_peers() as u64, figures.computed as u64, 1];
        minute.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }

    /// The minutes up to now, oldest first.
    pub(crate) fn minutes(&self, now: Millis) -> Vec<Minute> {
        let last = now.0 / MINUTE_MS;
        let minute = |ago: u64| {
            let number = last.checked_sub(ago)?;
            let (of, minute) = self.minutes[(number % MINUTES as u64) as usize];
            (of == number).then_some(minute)
        };
        (0..MINUTES as u64).rev().map(|ago| minute(ago).unwrap_or_default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_stands_in_its_minute_for_an_hour() {
        let (mut history, minutes) =
            (History::default(), |count: u64| Millis(count * MINUTE_MS + 7));
        let figures = Figures { own: 16, computed: 3, ..Figures::never_begun() };
        history.observe(&figures, minutes(0));
        history.observe(&figures, minutes(0));
        history.observe(&Figures { computed: 9, ..Figures::never_begun() }, minutes(2));
        let rows = history.minutes(minutes(2));
        assert_eq!(
            (rows.len(), rows[57], rows[58], rows[59]),
            (60, [32, 0, 6, 2], [0; 4], [0, 0, 9, 1])
        );
        assert_eq!(history.minutes(minutes(59))[0], [32, 0, 6, 2]);
        assert_eq!(history.minutes(minutes(60))[0], [0; 4], "it is more than an hour ago");
        history.observe(&figures, minutes(60));
        assert_eq!(
            history.minutes(minutes(60))[59],
            [16, 0, 3, 1],
            "the slot was reused for the new minute"
        );
    }
}
