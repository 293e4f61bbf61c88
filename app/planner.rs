//! What to do next for a prompt: which tokens to compute, and which planes to ask which source for.
//!
//! Computing runs from the head and never waits; fetching comes from the tail. Work can resume at a token `r`, the *resume point*,
//! when the global plane of every block before it is in place, and the sliding plane of every block that a token at `r` still sees.
//! So a [`Hop`] is a pair: compute up to `meet`, where everything between `meet` and `resume` has come by then, and go on from
//! `resume`. The best hop is the one after which the prompt is done earliest, by measured rates:
//!
//! ```text
//!   ready            meet                              resume      total
//!     |---computed--->|<------------fetched--------------|--computed--|
//! ```
//!
//! [`step`] is a pure function, called anew whenever something has changed: what was planned before binds nobody. No source is
//! special: whatever can bring a plane is a [`Source`] with a rate. Nothing here has a deadline, because nothing is waited for. A
//! fetch that is slower than expected is met by computing at an earlier block, one that is faster at a later one.
//!
//! The one exception is [`Step::hold_ms`]: a step that the fetch is expected to overtake should not begin. The caller limits the time
//! that a prompt spends this way to the computing time of one block, as short as it has ever been.

use core::ops::Range;

use crate::kv::Plane;
use crate::limits::{BLOCK_TOKENS, PREFILL_STEP_TOKENS};

/// Prefill rate of a node that has not computed anything yet, in milliseconds a token: Gemma-3 270M on a Zero 2 W as published (33 to
/// 40 ms, arXiv 2602.22812).
pub(crate) const PRIOR_MS_PER_TOKEN: f32 = 37.0;

/// Goodput of a source while none has been measured, in bytes a millisecond: gigabit Ethernet. Optimism costs at most one step of
/// computing, for nothing is waited for longer.
pub(crate) const PRIOR_BYTES_PER_MS: f32 = 118e3;

/// Round trip to a source that has not been measured, in milliseconds: a quiet LAN.
pub(crate) const PRIOR_ROUND_TRIP_MS: f32 = 1.0;

/// Places to resume at that are weighed against one another. There is one at the end of each run of blocks that can be had; a prompt
/// whose blocks are here and there in more runs than this is computed past the earliest ones.
const MAX_STOPS: usize = 8;

/// How many times longer than elsewhere a plane may still take before it is asked for there instead. A factor near one would ask for
/// planes twice whenever a radio hesitates.
const IMPATIENCE: f32 = 3.0;

/// The least gain, in milliseconds, for which a plane is asked for again elsewhere: some pauses of a radio.
const IMPATIENCE_MS: f32 = 30.0;

/// What a hop must gain, in milliseconds: the handling of messages, which the estimate leaves out.
const MARGIN_MS: f32 = 1.0;

/// A set of sources, a bit for each place in [`View::sources`].
pub(crate) type SourceSet = u64;

/// Most sources of one view.
pub(crate) const MAX_VIEW_SOURCES: usize = SourceSet::BITS as usize;

/// One plane of one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cell {
    /// In memory, checked.
    Have,
    /// Asked for.
    Coming {
        /// Of which source.
        source: usize,
        /// Bytes that have not come yet.
        left: usize,
        /// Who else seems to hold it.
        others: SourceSet,
    },
    /// To be had of these sources, or of none.
    Missing(SourceSet),
}

/// Both planes of a block, by `Plane as usize`.
pub(crate) type Row = [Cell; 2];

/// A block of which the prompt shares only the first tokens: the ragged end of an earlier prompt, or the last block of this one, whose
/// last token is computed in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ending {
    /// Whole blocks before it.
    pub row: usize,
    /// Tokens that it has in common with the prompt; at least one.
    pub tokens: usize,
    /// Its planes.
    pub cells: Row,
    /// Bytes of each.
    pub bytes: [usize; 2],
}

/// Something that planes can be fetched from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Source {
    /// What it is expected to deliver, in bytes a millisecond; `None` when that has not been measured. Zero: nothing.
    pub bytes_per_ms: Option<f32>,
    /// From a question to the first bytes of the answer.
    pub round_trip_ms: Option<f32>,
    /// Bytes asked for and not here yet.
    pub in_flight: usize,
    /// Planes that it may be asked for at this moment, on top.
    pub room: usize,
}

/// All that the next step depends on.
pub(crate) struct View<'a> {
    /// Tokens of the prompt. The last is always computed, for no logits travel.
    pub total: usize,
    /// Tokens at whose end computing can go on now.
    pub ready: usize,
    /// The whole blocks before the last token, from the first on.
    pub rows: &'a [Row],
    /// A block shared in part.
    pub ending: Option<&'a Ending>,
    /// Bytes of each plane of a whole block.
    pub bytes: [usize; 2],
    /// Where planes can be had.
    pub sources: &'a [Source],
    /// Computing time of a token, in milliseconds.
    pub ms_per_token: f32,
    /// The least that it has ever been: a node that was slow a moment ago may be quick again.
    pub quickest_ms_per_token: f32,
    /// What all sources together bring at most, where that is known.
    pub link_bytes_per_ms: Option<f32>,
    /// Planes that may be asked for at this moment in all, on top.
    pub room: usize,
    /// The first token whose sliding plane is needed to go on at a token.
    pub first_sliding: &'a dyn Fn(usize) -> usize,
}

/// Which block is meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Place {
    /// The whole block of this number.
    Row(usize),
    /// The one that is shared in part.
    Ending,
}

/// A plane to ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Want {
    /// The block.
    pub place: Place,
    /// Which of its planes.
    pub plane: Plane,
    /// Whom to ask, by its place in [`View::sources`].
    pub source: usize,
}

/// Where computing and fetching are expected to meet.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Hop {
    /// Tokens that are computed until then: a multiple of the block.
    pub meet: usize,
    /// Where work goes on.
    pub resume: usize,
    /// How long the fetch still takes.
    pub fetch_ms: f32,
}

/// What to do next.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Step {
    /// The end of the next step of computing: beyond `ready`, at most `total`.
    pub compute_to: usize,
    /// The fetch is expected to be through after so many milliseconds, before the shortest step of computing would be, however quick
    /// that turns out to be.
    pub hold_ms: Option<f32>,
    /// What to ask for at once, most urgent first. A cell that is [`Cell::Coming`] is to be cancelled where it was asked for.
    pub wants: Vec<Want>,
    /// What all this is to lead to, where fetching pays.
    pub hop: Option<Hop>,
}

/// Plans the next step. `view.ready` is below `view.total`.
pub(crate) fn step(view: &View<'_>) -> Step {
    let sums = Sums::of(view);
    let route = sums.route();
    let hop = route.first().copied();
    let mut desk = Desk::new(view);
    for hop in &route {
        desk.order(hop);
    }
    let shortest = BLOCK_TOKENS as f32 * view.quickest_ms_per_token;
    let hold_ms = hop.filter(|hop| hop.meet <= view.ready && hop.fetch_ms < shortest).map(|hop| hop.fetch_ms);
    Step { compute_to: compute_to(view, hop.as_ref()), hold_ms, wants: desk.wants, hop }
}

/// The furthest token at which work can go on now, with what is in memory, at or beyond `view.ready`.
pub(crate) fn reach(view: &View<'_>) -> usize {
    // A block that is begun is finished by computing: what is in place of it says nothing of its end.
    if !view.ready.is_multiple_of(BLOCK_TOKENS) {
        return view.ready;
    }
    let sums = Sums::of(view);
    let first = view.ready.div_ceil(BLOCK_TOKENS);
    let have = |stop: &Stop| {
        let needed = sums.needed(stop, first);
        let rows = |range: Range<usize>, plane: usize| view.rows[range].iter().all(|row| row[plane] == Cell::Have);
        let ending = stop.ending.is_none_or(|ending| ending.cells.iter().all(|cell| *cell == Cell::Have));
        ending && rows(needed.rows.clone(), 0) && rows(needed.sliding, 1)
    };
    sums.stops().filter(|stop| stop.resume > view.ready).find(have).map_or(view.ready, |stop| stop.resume)
}

/// The end of the next step of computing: long steps far from where the fetch is met, short ones near it, and none over what is here.
fn compute_to(view: &View<'_>, hop: Option<&Hop>) -> usize {
    let left = hop.map_or(usize::MAX, |hop| hop.meet.saturating_sub(view.ready));
    let tokens = match left {
        _ if hop.is_none() => PREFILL_STEP_TOKENS,
        0..48 => BLOCK_TOKENS,
        48..96 => 2 * BLOCK_TOKENS,
        _ => PREFILL_STEP_TOKENS,
    };
    let end = view.ready + tokens;
    if end >= view.total { view.total } else { end - end % BLOCK_TOKENS }
}

/// A place to resume at: behind whole blocks, or within the ending.
#[derive(Clone, Copy)]
struct Stop<'a> {
    rows: usize,
    resume: usize,
    ending: Option<&'a Ending>,
}

/// The planes that a stop stands on, from a block on.
struct Needed {
    rows: Range<usize>,
    sliding: Range<usize>,
}

/// Sums over the rows, so that what a hop costs is known without going through them.
struct Sums<'v, 'a> {
    view: &'v View<'a>,
    /// Bytes that are still to come of the planes before each row.
    bytes: [Vec<usize>; 2],
    /// One past the last row before each row whose plane can be had nowhere.
    gaps: [Vec<usize>; 2],
    /// One past the last row before each row whose plane is to come from a source.
    open: [Vec<usize>; 2],
    prior: f32,
}

impl<'v, 'a> Sums<'v, 'a> {
    fn of(view: &'v View<'a>) -> Sums<'v, 'a> {
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
        let [(global, global_gaps, global_open), (sliding, sliding_gaps, sliding_open)] = [column(0), column(1)];
        Sums { view, bytes: [global, sliding], gaps: [global_gaps, sliding_gaps], open: [global_open, sliding_open], prior }
    }

    /// Every place to resume at, the furthest first.
    fn stops(&self) -> impl Iterator<Item = Stop<'a>> + '_ {
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

    /// The stops that are worth weighing: where a run of blocks that can be had ends.
    fn candidates(&self) -> Vec<Stop<'a>> {
        let view = self.view;
        let whole = |row: Option<&Row>| row.is_some_and(|row| row.iter().all(|cell| obtainable(*cell)));
        // The last block before a place to resume is seen from there, wholly.
        let run_ends = |stop: &Stop| {
            stop.ending.is_some()
                || (whole(stop.rows.checked_sub(1).map(|last| &view.rows[last])) && !whole(view.rows.get(stop.rows)))
        };
        let useful = |stop: &Stop| {
            let had = stop.ending.is_none_or(|ending| ending.cells.iter().all(|cell| obtainable(*cell)));
            stop.resume > view.ready && stop.resume < view.total && had
        };
        self.stops().filter(run_ends).filter(useful).take(MAX_STOPS).collect()
    }

    fn needed(&self, stop: &Stop, first: usize) -> Needed {
        let window = (self.view.first_sliding)(stop.resume) / BLOCK_TOKENS;
        let first = first.min(stop.rows);
        Needed { rows: first..stop.rows, sliding: first.max(window).min(stop.rows)..stop.rows }
    }

    /// The hops that lead to the prompt's end earliest, the first of them first; none where computing alone is as good.
    fn route(&self) -> Vec<Hop> {
        let stops = self.candidates();
        let rest = |resume: usize| (self.view.total - resume) as f32 * self.view.ms_per_token;
        // What remains from each stop on, and which hop is taken there: the furthest stop first, so that later ones are known.
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

    /// The best way from `start` to `stop`, and how long it takes; `None` when something on the way can be had nowhere, or when
    /// computing all of it is as quick.
    fn hop(&self, start: usize, stop: &Stop) -> Option<(Hop, f32)> {
        let first = start.div_ceil(BLOCK_TOKENS);
        let needed = self.needed(stop, first);
        let gap = |plane: usize, range: &Range<usize>| Some(self.gaps[plane][stop.rows]).filter(|gap| *gap > range.start);
        let first = [gap(0, &needed.rows), gap(1, &needed.sliding)].into_iter().flatten().fold(first, usize::max);
        if first > stop.rows || (first == stop.rows && stop.ending.is_none()) {
            return None;
        }
        let computing = |meet: usize| (meet * BLOCK_TOKENS).saturating_sub(start) as f32 * self.view.ms_per_token;
        let fetching = |meet: usize| self.fetch_ms(stop, meet);
        // Computing takes longer the later they meet, fetching shorter: the first block at which computing is not the shorter.
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
        let hop = Hop { meet: (meet * BLOCK_TOKENS).max(start), resume: stop.resume, fetch_ms: fetching(meet) };
        (ms + MARGIN_MS < alone).then_some((hop, ms))
    }

    /// How long it takes until all that `stop` stands on from row `meet` on is here.
    fn fetch_ms(&self, stop: &Stop, meet: usize) -> f32 {
        let needed = self.needed(stop, meet);
        let sum = |plane: usize, range: &Range<usize>| self.bytes[plane][range.end] - self.bytes[plane][range.start];
        let ending = stop.ending.map_or(0, |ending| (0..2).map(|plane| left(ending.cells[plane], ending.bytes[plane])).sum());
        let bytes = sum(0, &needed.rows) + sum(1, &needed.sliding) + ending;
        if bytes == 0 {
            return 0.0;
        }
        let holders = self.holders(stop, &needed);
        let used = || (0..self.view.sources.len()).filter(|at| holders & (1 << at) != 0).map(|at| &self.view.sources[at]);
        let rate: f32 = used().map(|source| source.bytes_per_ms.unwrap_or(self.prior)).sum();
        let rate = self.view.link_bytes_per_ms.map_or(rate, |link| rate.min(link));
        let trip = used().map(|source| source.round_trip_ms.unwrap_or(PRIOR_ROUND_TRIP_MS)).fold(f32::INFINITY, f32::min);
        let asked = used().any(|source| source.in_flight > 0);
        (if asked { 0.0 } else { trip }) + bytes as f32 / rate
    }

    /// The sources that a fetch would be spread over: nobody only where nothing is to come. Looking at a few of the blocks that are to
    /// come tells, for who holds one of a run mostly holds the run.
    fn holders(&self, stop: &Stop, needed: &Needed) -> SourceSet {
        const SAMPLES: usize = 8;
        let sample = |range: &Range<usize>, plane: usize| {
            let stride = range.len().div_ceil(SAMPLES).max(1);
            // From each place that is looked at to the last block before it that is to come: no run of such blocks is passed over.
            let open = range.clone().rev().step_by(stride).map(|row| self.open[plane][row + 1]).filter(|end| *end > range.start);
            open.fold(0, |set, end| set | sources(self.view.rows[end - 1][plane]))
        };
        let ending = stop.ending.map_or(0, |ending| sources(ending.cells[0]) | sources(ending.cells[1]));
        sample(&needed.rows, 0) | sample(&needed.sliding, 1) | ending
    }
}

/// Hands out wants, and keeps count of what each source has to do.
struct Desk<'v, 'a> {
    view: &'v View<'a>,
    in_flight: Vec<usize>,
    room: Vec<usize>,
    room_in_all: usize,
    prior: f32,
    wants: Vec<Want>,
}

impl<'v, 'a> Desk<'v, 'a> {
    fn new(view: &'v View<'a>) -> Desk<'v, 'a> {
        let in_flight = view.sources.iter().map(|source| source.in_flight).collect();
        let room = view.sources.iter().map(|source| source.room).collect();
        Desk { view, in_flight, room, room_in_all: view.room, prior: prior(view.sources), wants: Vec::new() }
    }

    /// Asks for what the hop stands on, from the tail on: whatever comes to be missing is met by computing, and all that lies behind
    /// it is of use. One row before the meeting point is asked for too, so that the link is not idle where computing is slower than
    /// expected.
    fn order(&mut self, hop: &Hop) {
        let view = self.view;
        let rows = hop.resume / BLOCK_TOKENS;
        let window = (view.first_sliding)(hop.resume) / BLOCK_TOKENS;
        if let Some(ending) = view.ending.filter(|_| !hop.resume.is_multiple_of(BLOCK_TOKENS)) {
            for plane in Plane::ALL {
                self.consider(Place::Ending, plane, ending.cells[plane as usize], ending.bytes[plane as usize]);
            }
        }
        let last = (hop.meet / BLOCK_TOKENS).saturating_sub(1).max(view.ready.div_ceil(BLOCK_TOKENS));
        for row in (last.min(rows)..rows).rev() {
            if self.room_in_all == 0 || self.room.iter().all(|room| *room == 0) {
                return;
            }
            for plane in Plane::ALL {
                if plane == Plane::Global || row >= window {
                    self.consider(Place::Row(row), plane, view.rows[row][plane as usize], view.bytes[plane as usize]);
                }
            }
        }
    }

    fn consider(&mut self, place: Place, plane: Plane, cell: Cell, bytes: usize) {
        let source = match cell {
            Cell::Missing(sources) => self.quickest(sources, bytes).map(|(source, _)| source),
            Cell::Coming { source, left, others } if left > 0 => self.quicker(source, others & !(1 << source), bytes),
            Cell::Have | Cell::Coming { .. } => None,
        };
        let asked = self.wants.iter().any(|want| want.place == place && want.plane == plane);
        if let Some(source) = source.filter(|_| !asked && self.room_in_all > 0) {
            self.room_in_all -= 1;
            self.in_flight[source] += bytes;
            self.room[source] -= 1;
            self.wants.push(Want { place, plane, source });
        }
    }

    /// Who would have it here first, of those that may be asked, and when.
    fn quickest(&self, sources: SourceSet, bytes: usize) -> Option<(usize, f32)> {
        let members = (0..self.view.sources.len()).filter(|at| sources & (1 << at) != 0 && self.room[*at] > 0);
        members.map(|at| (at, self.ms(at, bytes))).min_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, ms)| ms.is_finite())
    }

    /// Another source from which the plane would be here so much earlier that it is asked for there instead.
    fn quicker(&self, source: usize, others: SourceSet, bytes: usize) -> Option<usize> {
        let (other, ms) = self.quickest(others, bytes)?;
        let proven = self.view.sources[other].bytes_per_ms.is_some();
        let stays = self.in_flight[source] as f32 / self.rate(source);
        (stays == f32::INFINITY || (proven && stays > IMPATIENCE * ms + IMPATIENCE_MS)).then_some(other)
    }

    fn rate(&self, source: usize) -> f32 {
        self.view.sources[source].bytes_per_ms.unwrap_or(self.prior)
    }

    fn ms(&self, source: usize, bytes: usize) -> f32 {
        let trip = self.view.sources[source].round_trip_ms.unwrap_or(PRIOR_ROUND_TRIP_MS);
        let own = (self.in_flight[source] + bytes) as f32 / self.rate(source);
        // On a link that is full, another source is no quicker.
        let all = self.in_flight.iter().sum::<usize>() + bytes;
        trip + self.view.link_bytes_per_ms.map_or(own, |link| own.max(all as f32 / link))
    }
}

/// What is expected of a source that has not been measured: what the best of the others does, for they are on one LAN.
fn prior(sources: &[Source]) -> f32 {
    let best = sources.iter().filter_map(|source| source.bytes_per_ms).fold(0.0, f32::max);
    if best > 0.0 { best } else { PRIOR_BYTES_PER_MS }
}

fn obtainable(cell: Cell) -> bool {
    cell != Cell::Missing(0)
}

fn left(cell: Cell, bytes: usize) -> usize {
    match cell {
        Cell::Have => 0,
        Cell::Coming { left, .. } => left,
        Cell::Missing(_) => bytes,
    }
}

fn sources(cell: Cell) -> SourceSet {
    match cell {
        Cell::Have => 0,
        Cell::Coming { source, others, .. } => others | 1 << source,
        Cell::Missing(sources) => sources,
    }
}

#[cfg(test)]
mod tests;
