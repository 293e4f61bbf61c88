//! The route of a prompt: the hops that bring it to its end earliest.
//!
//! [`Sums`] reads the rows once. From its prefix sums it computes the best meeting point for any
//! start and resume point without scanning the rows again, so that [`Sums::route`] can compare all
//! pairs of resume points.

use core::ops::Range;

use super::{
    Ending, Hop, MARGIN_MS, PRIOR_ROUND_TRIP_MS, Row, SourceSet, View, left, obtainable, prior,
    sources,
};
use crate::limits::BLOCK_TOKENS;

/// Maximum number of resume points to compare. There is one at the end of each run of available
/// blocks. If a prompt has more such runs, the earliest ones are computed instead.
const MAX_STOPS: usize = 8;

/// A possible resume point: after whole blocks, or within the ending.
#[derive(Clone, Copy)]
pub(super) struct Stop<'a> {
    rows: usize,
    pub(super) resume: usize,
    pub(super) ending: Option<&'a Ending>,
}

/// The planes that a stop depends on, from a given block on.
pub(super) struct Needed {
    pub(super) rows: Range<usize>,
    pub(super) sliding: Range<usize>,
}

/// Prefix sums over the rows, so that the cost of a hop is known without scanning them.
pub(super) struct Sums<'v, 'a> {
    view: &'v View<'a>,
    /// Outstanding bytes of the planes before each row.
    bytes: [Vec<usize>; 2],
    /// For each row, one past the last earlier row whose plane is not available anywhere.
    gaps: [Vec<usize>; 2],
    /// For each row, one past the last earlier row whose plane must come from a source.
    open: [Vec<usize>; 2],
    prior: f32,
}

impl<'v, 'a> Sums<'v, 'a> {
    pub(super) fn of(view: &'v View<'a>) -> Sums<'v, 'a> {
        let prior = prior(view.sources);
        let column = |plane: usize| {
            let (mut bytes, mut gaps, mut open) = (vec![0], vec![0], vec![0]);
            for (at, row) in view.rows.iter().enumerate() {
                bytes.push(bytes[at] + left(row[plane], view.bytes[plane]));
                gaps.push(if obtainable(row[plane]) { gaps[at] } else { at + 1 });
                open.push(if sources(row[plane]) == 0 { open[at] } else { at + 1 });
            }
            (bytes, gaps, open)
        };
        let [(global, global_gaps, global_open), (sliding, sliding_gaps, sliding_open)] =
            [column(0), column(1)];
        Sums {
            view,
            bytes: [global, sliding],
            gaps: [global_gaps, sliding_gaps],
            open: [global_open, sliding_open],
            prior,
        }
    }

    /// Every possible resume point, furthest first.
    pub(super) fn stops(&self) -> impl Iterator<Item = Stop<'a>> + '_ {
        let ending = self.view.ending.map(|ending| Stop {
            rows: ending.row,
            resume: ending.row * BLOCK_TOKENS + ending.tokens,
            ending: Some(ending),
        });
        let rows = |rows: usize| Stop { rows, resume: rows * BLOCK_TOKENS, ending: None };
        let beyond = ending.map_or(0, |ending| ending.rows + 1);
        let behind = (beyond..=self.view.rows.len()).rev().map(rows);
        behind.chain(ending).chain((0..beyond.min(self.view.rows.len() + 1)).rev().map(rows))
    }

    /// The stops worth comparing: the ends of runs of available blocks.
    fn candidates(&self) -> Vec<Stop<'a>> {
        let view = self.view;
        let whole =
            |row: Option<&Row>| row.is_some_and(|row| row.iter().all(|cell| obtainable(*cell)));
        // The last block before a resume point lies in its window, so both its planes are needed.
        let run_ends = |stop: &Stop| {
            stop.ending.is_some()
                || (whole(stop.rows.checked_sub(1).map(|last| &view.rows[last]))
                    && !whole(view.rows.get(stop.rows)))
        };
        let useful = |stop: &Stop| {
            let had =
                stop.ending.is_none_or(|ending| ending.cells.iter().all(|cell| obtainable(*cell)));
            stop.resume > view.ready && stop.resume < view.total && had
        };
        self.stops().filter(run_ends).filter(useful).take(MAX_STOPS).collect()
    }

    pub(super) fn needed(&self, stop: &Stop, first: usize) -> Needed {
        let window = (self.view.first_sliding)(stop.resume) / BLOCK_TOKENS;
        let first = first.min(stop.rows);
        Needed { rows: first..stop.rows, sliding: first.max(window).min(stop.rows)..stop.rows }
    }

    /// The hops that reach the prompt's end earliest, in order; none if computing alone is as good.
    pub(super) fn route(&self) -> Vec<Hop> {
        let stops = self.candidates();
        let rest = |resume: usize| (self.view.total - resume) as f32 * self.view.ms_per_token;
        // For each stop, the remaining time and the hop to take there. Starts with the furthest
        // stop, so that later ones are known.
        let mut best: Vec<(f32, Option<(Hop, usize)>)> = Vec::with_capacity(stops.len() + 1);
        let starts = stops.iter().map(|stop| stop.resume).chain([self.view.ready]);
        for start in starts {
            let mut choice = (rest(start), None);
            for (at, (stop, beyond)) in stops.iter().zip(&best).enumerate() {
                if let Some((hop, ms)) = self.hop(start, stop)
                    && ms + beyond.0 < choice.0
                {
                    choice = (ms + beyond.0, Some((hop, at)));
                }
            }
            best.push(choice);
        }
        let mut route = Vec::new();
        let mut next = best.last().and_then(|(_, hop)| *hop);
        while let Some((hop, at)) = next {
            route.push(hop);
            next = best[at].1;
        }
        route
    }

    /// The best way from `start` to `stop`, and how long it takes. `None` if something needed is
    /// not available anywhere, or if computing all of it is as fast.
    fn hop(&self, start: usize, stop: &Stop) -> Option<(Hop, f32)> {
        let first = start.div_ceil(BLOCK_TOKENS);
        let needed = self.needed(stop, first);
        let gap = |plane: usize, range: &Range<usize>| {
            Some(self.gaps[plane][stop.rows]).filter(|gap| *gap > range.start)
        };
        let first = [gap(0, &needed.rows), gap(1, &needed.sliding)]
            .into_iter()
            .flatten()
            .fold(first, usize::max);
        if first > stop.rows || (first == stop.rows && stop.ending.is_none()) {
            return None;
        }
        let computing = |meet: usize| {
            (meet * BLOCK_TOKENS).saturating_sub(start) as f32 * self.view.ms_per_token
        };
        let fetching = |meet: usize| self.fetch_ms(stop, meet);
        // The later the meeting point, the longer computing takes and the shorter fetching.
        // Searches for the first block at which computing takes at least as long.
        let (mut low, mut high) = (first, stop.rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if computing(middle) >= fetching(middle) { high = middle } else { low = middle + 1 }
        }
        let meets = [low, low.saturating_sub(1).max(first)];
        let took = |meet: usize| computing(meet).max(fetching(meet));
        let meet = meets.into_iter().min_by(|a, b| took(*a).total_cmp(&took(*b)))?;
        let ms = took(meet);
        let alone = (stop.resume - start) as f32 * self.view.ms_per_token;
        let hop = Hop {
            meet: (meet * BLOCK_TOKENS).max(start),
            resume: stop.resume,
            fetch_ms: fetching(meet),
        };
        (ms + MARGIN_MS < alone).then_some((hop, ms))
    }

    /// Time until everything that `stop` depends on, from row `meet` on, has arrived.
    fn fetch_ms(&self, stop: &Stop, meet: usize) -> f32 {
        let needed = self.needed(stop, meet);
        let sum = |plane: usize, range: &Range<usize>| {
            self.bytes[plane][range.end] - self.bytes[plane][range.start]
        };
        let ending = stop.ending.map_or(0, |ending| {
            (0..2).map(|plane| left(ending.cells[plane], ending.bytes[plane])).sum()
        });
        let bytes = sum(0, &needed.rows) + sum(1, &needed.sliding) + ending;
        if bytes == 0 {
            return 0.0;
        }
        let holders = self.holders(stop, &needed);
        let used = || {
            (0..self.view.sources.len())
                .filter(|at| holders & (1 << at) != 0)
                .map(|at| &self.view.sources[at])
        };
        let rate: f32 = used().map(|source| source.bytes_per_ms.unwrap_or(self.prior)).sum();
        let rate = self.view.link_bytes_per_ms.map_or(rate, |link| rate.min(link));
        let trip = used()
            .map(|source| source.round_trip_ms.unwrap_or(PRIOR_ROUND_TRIP_MS))
            .fold(f32::INFINITY, f32::min);
        let asked = used().any(|source| source.in_flight > 0);
        (if asked { 0.0 } else { trip }) + bytes as f32 / rate
    }

    /// The sources that a fetch would be spread over; empty only if nothing is outstanding.
    /// Looks at a sample of the outstanding blocks: a source that holds one block of a run
    /// mostly holds the run.
    fn holders(&self, stop: &Stop, needed: &Needed) -> SourceSet {
        const SAMPLES: usize = 8;
        let sample = |range: &Range<usize>, plane: usize| {
            let stride = range.len().div_ceil(SAMPLES).max(1);
            // From each sampled row, goes back to the nearest outstanding block before it, so that
            // no run of such blocks is missed.
            let open = range
                .clone()
                .rev()
                .step_by(stride)
                .map(|row| self.open[plane][row + 1])
                .filter(|end| *end > range.start);
            open.fold(0, |set, end| set | sources(self.view.rows[end - 1][plane]))
        };
        let ending =
            stop.ending.map_or(0, |ending| sources(ending.cells[0]) | sources(ending.cells[1]));
        sample(&needed.rows, 0) | sample(&needed.sliding, 1) | ending
    }
}
