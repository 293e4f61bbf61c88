//! Plans the next step of a prompt: which tokens to compute, and which planes to request from
//! which source.
//!
//! Computing runs from the head and never waits; fetching comes from the tail. Work can resume at a
//! token `r`, the *resume point*, when two things are in place: the global plane of every block
//! before it, and the sliding plane of every block that a token at `r` still sees. So a [`Hop`] is
//! a pair: compute up to `meet`, by which time everything between `meet` and `resume` has arrived,
//! and continue from `resume`. The best hop is the one after which the prompt finishes earliest, by
//! measured rates:
//!
//! ```text
//!   ready            meet                              resume      total
//!     |---computed--->|<------------fetched--------------|--computed--|
//! ```
//!
//! [`step`] is a pure function, called again whenever something changes; earlier plans bind nobody.
//! No source is special: anything that can deliver a plane is a [`Source`] with a rate. Nothing
//! here has a deadline, because nothing is waited for. Computing meets a fetch that is slower than
//! expected at an earlier block, and a faster one at a later block.
//!
//! The one exception is [`Step::hold_ms`]: a step that the fetch is expected to overtake should not
//! start. The caller limits the time that a prompt spends this way to the shortest time that
//! computing one block has ever taken.

mod requests;
mod route;
#[cfg(test)]
mod tests;

use core::ops::Range;

use crate::kv::Plane;
use crate::limits::{BLOCK_TOKENS, PREFILL_STEP_TOKENS};

use requests::Requests;
use route::{Stop, Sums};

/// Prefill time of a node that has not computed anything yet, in milliseconds per token: Gemma-3
/// 270M on a Zero 2 W as published (33 to 40 ms, arXiv 2602.22812).
pub(crate) const PRIOR_MS_PER_TOKEN: f32 = 37.0;

/// Goodput assumed while no source has been measured, in bytes per millisecond: gigabit Ethernet.
/// Optimism costs at most one compute step, because nothing is waited for longer.
pub(crate) const PRIOR_BYTES_PER_MS: f32 = 118e3;

/// Round trip assumed for a source that has not been measured, in milliseconds: a quiet LAN.
pub(crate) const PRIOR_ROUND_TRIP_MS: f32 = 1.0;

/// Minimum gain of a hop, in milliseconds. Covers message handling, which the estimate leaves out.
const MARGIN_MS: f32 = 1.0;

/// A set of sources: one bit for each index into [`View::sources`].
pub(crate) type SourceSet = u64;

/// Maximum number of sources in a view.
pub(crate) const MAX_VIEW_SOURCES: usize = SourceSet::BITS as usize;

/// One plane of one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cell {
    /// In memory, checked.
    Have,
    /// Requested.
    Coming {
        /// The source that it was requested from.
        source: usize,
        /// Bytes that have not arrived yet.
        left: usize,
        /// The other sources that seem to hold it.
        others: SourceSet,
    },
    /// Available from these sources; from none if empty.
    Missing(SourceSet),
}

/// Both planes of a block, by `Plane as usize`.
pub(crate) type Row = [Cell; 2];

/// A block of which the prompt shares only the first tokens: the ragged end of an earlier prompt,
/// or the last block of this one, whose last token is always computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ending {
    /// Number of whole blocks before it.
    pub row: usize,
    /// Number of tokens that it has in common with the prompt; at least one.
    pub tokens: usize,
    /// Its planes.
    pub cells: Row,
    /// Size of each plane, in bytes.
    pub bytes: [usize; 2],
}

/// A source of planes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Source {
    /// Its expected rate, in bytes per millisecond; `None` if it has not been measured. At zero it
    /// delivers nothing.
    pub bytes_per_ms: Option<f32>,
    /// Time from a request to the first bytes of the answer.
    pub round_trip_ms: Option<f32>,
    /// Bytes requested that have not arrived yet.
    pub in_flight: usize,
    /// Number of further planes that may be requested from it now.
    pub room: usize,
}

/// Everything that the next step depends on.
pub(crate) struct View<'a> {
    /// Number of tokens in the prompt. The last one is always computed, because logits are
    /// never fetched.
    pub total: usize,
    /// Number of tokens in place, after which computing can continue now.
    pub ready: usize,
    /// All whole blocks before the last token.
    pub rows: &'a [Row],
    /// A block that is only partly shared.
    pub ending: Option<&'a Ending>,
    /// Size of each plane of a whole block, in bytes.
    pub bytes: [usize; 2],
    /// The sources of planes.
    pub sources: &'a [Source],
    /// Computing time per token, in milliseconds.
    pub ms_per_token: f32,
    /// The shortest computing time so far: a node that was slow a moment ago may be fast again.
    pub quickest_ms_per_token: f32,
    /// The maximum rate of all sources together, if known.
    pub link_bytes_per_ms: Option<f32>,
    /// Number of further planes that may be requested now, from all sources together.
    pub room: usize,
    /// The first token whose sliding plane is needed to continue at a given token.
    pub first_sliding: &'a dyn Fn(usize) -> usize,
}

/// Identifies a block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Place {
    /// The whole block with this number.
    Row(usize),
    /// The partly shared block.
    Ending,
}

/// A plane to request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Want {
    /// The block.
    pub place: Place,
    /// The plane of that block.
    pub plane: Plane,
    /// The source to ask, as an index into [`View::sources`].
    pub source: usize,
}

/// Where computing and fetching are expected to meet.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Hop {
    /// Number of tokens computed by then, in whole blocks.
    pub meet: usize,
    /// The token from which work continues.
    pub resume: usize,
    /// How long the fetch will still take.
    pub fetch_ms: f32,
}

/// What to do next.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Step {
    /// The end of the next compute step: beyond `ready`, at most `total`.
    pub compute_to: usize,
    /// If set, do not start a compute step: the fetch is expected to finish within this many
    /// milliseconds, sooner than the shortest step would be, even at this node's best speed.
    pub hold_ms: Option<f32>,
    /// Planes to request now, most urgent first. For a cell that is [`Cell::Coming`], cancel the
    /// earlier request.
    pub wants: Vec<Want>,
    /// The hop that this leads to, if fetching pays.
    pub hop: Option<Hop>,
}

/// Plans the next step. `view.ready` must be below `view.total`.
pub(crate) fn step(view: &View<'_>) -> Step {
    let sums = Sums::of(view);
    let route = sums.route();
    let hop = route.first().copied();
    let mut requests = Requests::new(view);
    for hop in &route {
        requests.plan(hop);
    }
    let shortest = BLOCK_TOKENS as f32 * view.quickest_ms_per_token;
    let hold_ms =
        hop.filter(|hop| hop.meet <= view.ready && hop.fetch_ms < shortest).map(|hop| hop.fetch_ms);
    Step { compute_to: compute_to(view, hop.as_ref()), hold_ms, wants: requests.wants, hop }
}

/// The furthest token from which work can continue now with the state in memory, at or
/// beyond `view.ready`.
pub(crate) fn reach(view: &View<'_>) -> usize {
    // A partly filled block is finished by computing, because its cells do not tell how far
    // it is filled.
    if !view.ready.is_multiple_of(BLOCK_TOKENS) {
        return view.ready;
    }
    let sums = Sums::of(view);
    let first = view.ready.div_ceil(BLOCK_TOKENS);
    let have = |stop: &Stop| {
        let needed = sums.needed(stop, first);
        let rows = |range: Range<usize>, plane: usize| {
            view.rows[range].iter().all(|row| row[plane] == Cell::Have)
        };
        let ending =
            stop.ending.is_none_or(|ending| ending.cells.iter().all(|cell| *cell == Cell::Have));
        ending && rows(needed.rows.clone(), 0) && rows(needed.sliding, 1)
    };
    sums.stops()
        .filter(|stop| stop.resume > view.ready)
        .find(have)
        .map_or(view.ready, |stop| stop.resume)
}

/// The end of the next compute step: long steps far from the meeting point, short ones near it, and
/// none over what is already here.
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

/// The rate assumed for an unmeasured source: that of the best measured one, because all
/// are on one LAN.
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
