//! What a pass over one row, and over several, takes on this machine.
//!
//! A step of one row is measured all the time. What several rows take is kept as a multiple of that: other work on the machine slows both
//! alike. Multiples fade towards a guess while no draft is checked, so that one bad measurement does not end drafts for good.

use crate::limits::MAX_DRAFT_TOKENS;

/// The weight of a new measurement beside what is known.
const GAIN: f32 = 0.25;

/// How many times what is expected a measurement may say at most: a step that was suspended, or had to wait for memory, says nothing of
/// the next.
pub(super) const BELIEVED: f32 = 2.0;

/// What a row adds to a step until that is measured, as a part of a step of one row. A guess: a machine that reads its weights slowly adds
/// next to nothing, one that computes slowly a quarter.
const PRIOR_ROW: f32 = 0.15;

/// The part of what is known of several rows that each step of one row lets fade: half of it is gone after some ninety.
const FADING: f32 = 1.0 / 128.0;

/// Measured times of decode steps, by rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Costs {
    /// Microseconds of a step of one row.
    one_us: Option<f32>,
    /// `one_us` was measured on a prompt's last step, or guessed from a wider step, and not on a step of an answer: it may have waited for
    /// weights that were read for the first time.
    is_provisional: bool,
    /// How many times that a step of two rows takes, of three, and so on.
    more: [Option<f32>; MAX_DRAFT_TOKENS],
}

/// What `rows` rows are guessed to take, in steps of one.
fn prior(rows: usize) -> f32 {
    1.0 + PRIOR_ROW * (rows as f32 - 1.0)
}

impl Costs {
    /// The last step of a prompt, of one token, took `micros`: as much as a step of the answer, as far as is known.
    pub(crate) fn note_first(&mut self, micros: u64) {
        if self.one_us.is_none() || self.is_provisional {
            self.set_first((micros as f32).max(1.0));
        }
    }

    fn set_first(&mut self, one: f32) {
        // What several rows have taken stays the same.
        let before = self.one_us.unwrap_or(one);
        self.more.iter_mut().flatten().for_each(|times| *times = (*times * before / one).max(1.0));
        (self.one_us, self.is_provisional) = (Some(one), true);
    }

    /// Whether no step of an answer of one row has been measured yet.
    pub(crate) fn is_provisional(&self) -> bool {
        self.is_provisional
    }

    /// A step over `rows` rows, each of which was judged, took `micros`.
    pub(crate) fn note(&mut self, rows: usize, micros: u64) {
        let measured = (micros as f32).max(1.0);
        // Several rows are never quicker than one.
        if self.is_provisional && (rows == 1 || self.one_us.is_some_and(|one| measured < one)) {
            self.set_first(measured);
            self.is_provisional = rows > 1;
        }
        match (rows, self.one_us) {
            (0, _) => {}
            (1, one) => {
                let believed = one.map_or(measured, |one| measured.min(BELIEVED * one));
                self.one_us = Some(one.map_or(measured, |one| one + GAIN * (believed - one)));
                for (more, rows) in self.more.iter_mut().zip(2..) {
                    *more = more.map(|known| known + FADING * (prior(rows) - known));
                }
            }
            (_, None) => {}
            (_, Some(one)) => {
                let measured = (measured / one).clamp(1.0, BELIEVED * self.times(rows));
                if let Some(more) = self.more.get_mut(rows - 2) {
                    *more = Some(more.map_or(measured, |known| known + GAIN * (measured - known)));
                }
            }
        }
    }

    /// Microseconds that a step over `rows` rows takes: as measured, or else on the line between the nearest that were. None while not
    /// even one row has been measured.
    pub(crate) fn step_us(&self, rows: usize) -> Option<f32> {
        self.one_us.filter(|_| rows > 0).map(|one| one * self.times(rows))
    }

    /// The same in steps of one row.
    fn times(&self, rows: usize) -> f32 {
        let measured = |rows: usize| if rows == 1 { Some(1.0) } else { *self.more.get(rows - 2)? };
        if let Some(times) = measured(rows) {
            return times;
        }
        let (low, below) = (1..rows).rev().find_map(|rows| Some((rows, measured(rows)?))).unwrap_or((1, 1.0));
        let above = (rows + 1..=MAX_DRAFT_TOKENS + 1).find_map(|rows| Some((rows, measured(rows)?)));
        let slope = match above {
            Some((high, above)) => (above - below) / (high - low) as f32,
            None if low > 1 => (below - 1.0) / (low - 1) as f32,
            None => PRIOR_ROW,
        };
        below + slope * (rows - low) as f32
    }
}
