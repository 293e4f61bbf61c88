//! How long a pass over one row, and over several, takes on this machine.
//!
//! A step of one row is measured all the time. The time for several rows is kept as a multiple of
//! it, since other work on the machine slows both alike. The multiples decay towards a guess while
//! no draft is checked, so one bad measurement does not end drafts for good.

use crate::limits::MAX_DRAFT_TOKENS;

/// Weight of a new measurement against the known value.
const GAIN: f32 = 0.25;

/// Cap on a measurement, as a multiple of the expected time: a step that was suspended or waited
/// for memory says nothing about the next.
pub(super) const BELIEVED: f32 = 2.0;

/// What each further row adds to a step until measured, as a fraction of a step of one row. A
/// guess: next to nothing on a machine that reads its weights slowly, a quarter on one that
/// computes slowly.
const PRIOR_ROW: f32 = 0.15;

/// How far each step of one row moves the multiples towards the guess: half of their deviation is
/// gone after some ninety steps.
const FADING: f32 = 1.0 / 128.0;

/// Measured times of decode steps, by rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Costs {
    /// Microseconds of a step of one row.
    one_us: Option<f32>,
    /// Whether `one_us` comes from a prompt's last step or from a wider step, not from a one-row
    /// step of an answer: it may include waiting for weights that were read for the first time.
    is_provisional: bool,
    /// The times for two rows, three, and so on, as multiples of one row.
    more: [Option<f32>; MAX_DRAFT_TOKENS],
}

/// The guessed time for `rows` rows, in steps of one row.
fn prior(rows: usize) -> f32 {
    1.0 + PRIOR_ROW * (rows as f32 - 1.0)
}

impl Costs {
    /// The last step of a prompt, over one token, took `micros`: the best estimate so far of a step
    /// of the answer.
    pub(crate) fn note_first(&mut self, micros: u64) {
        if self.one_us.is_none() || self.is_provisional {
            self.set_first((micros as f32).max(1.0));
        }
    }

    fn set_first(&mut self, one: f32) {
        // Keeps the times for several rows unchanged.
        let before = self.one_us.unwrap_or(one);
        self.more.iter_mut().flatten().for_each(|times| *times = (*times * before / one).max(1.0));
        (self.one_us, self.is_provisional) = (Some(one), true);
    }

    /// Whether no one-row step of an answer has been measured yet.
    pub(crate) fn is_provisional(&self) -> bool {
        self.is_provisional
    }

    /// A step over `rows` rows, all of which were judged, took `micros`.
    pub(crate) fn note(&mut self, rows: usize, micros: u64) {
        let measured = (micros as f32).max(1.0);
        // Several rows are never faster than one.
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

    /// Microseconds of a step over `rows` rows: as measured, or interpolated between the nearest
    /// measurements. `None` until one row has been measured.
    pub(crate) fn step_us(&self, rows: usize) -> Option<f32> {
        self.one_us.filter(|_| rows > 0).map(|one| one * self.times(rows))
    }

    /// The same in steps of one row.
    fn times(&self, rows: usize) -> f32 {
        let measured =
            |rows: usize| if rows == 1 { Some(1.0) } else { *self.more.get(rows - 2)? };
        if let Some(times) = measured(rows) {
            return times;
        }
        let (low, below) =
            (1..rows).rev().find_map(|rows| Some((rows, measured(rows)?))).unwrap_or((1, 1.0));
        let above =
            (rows + 1..=MAX_DRAFT_TOKENS + 1).find_map(|rows| Some((rows, measured(rows)?)));
        let slope = match above {
            Some((high, above)) => (above - below) / (high - low) as f32,
            None if low > 1 => (below - 1.0) / (low - 1) as f32,
            None => PRIOR_ROW,
        };
        below + slope * (rows - low) as f32
    }
}
