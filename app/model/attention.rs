//! Attention over pages: keys and values are written into the sequence's pages in their storage
//! format and read back from there, so that a row from the cache and a freshly computed row are the
//! same bytes.
//!
//! For each query row the visible positions are `p + 1 - window ..= p` on a sliding layer and
//! `0 ..= p` on a global one. The order of operations is fixed: scores in the order of positions,
//! softmax over them (see `kernels::softmax`), weighted values in the order of positions, and
//! finally each value times `1 / the softmax's sum`. Nothing depends on where a prompt was split. A
//! page's lock is held only while its rows are read or written.

use core::cell::RefCell;
use core::ops::Range;
use std::sync::Arc;

use crate::kernels::{self, Isa, Team};
use crate::kv::{HeadSpan, KvFormat, Page, Plane, Sequence};
use crate::limits::BLOCK_TOKENS;

/// Query tokens that share one read of the keys. With 4 heads of one KV head and 8,192 positions
/// their scores take 1 MiB.
const QUERY_TILE: usize = 8;

/// Granularity of score allocations: 16 KiB, so that a sequence that grows token by token seldom
/// needs another one.
const SCORES_STEP: usize = 4_096;

/// Upper bound on the values that each core keeps for attention with sequences of `context` tokens:
/// rows of a block, and the scores of a tile with the queries of one KV head.
pub(super) fn scratch_values(
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    context: usize,
) -> usize {
    BLOCK_TOKENS * head_dim
        + (QUERY_TILE * (heads / kv_heads) * context).next_multiple_of(SCORES_STEP)
}

/// The pages and position at which a chunk of tokens attends.
#[derive(Clone, Debug)]
pub(crate) struct AttentionSite {
    /// Holds pages for every position that the chunk writes or sees; checked by the engine.
    pub sequence: Arc<Sequence>,
    /// The layer, counted from 0.
    pub layer: usize,
    /// The position of the chunk's first token.
    pub first: usize,
    /// Query heads; a multiple of the KV heads.
    pub heads: usize,
    /// The cores that attend.
    pub team: Arc<Team>,
}

impl AttentionSite {
    fn plane(&self) -> Plane {
        self.sequence.shape.layers()[self.layer]
    }

    fn page(&self, block: usize) -> &Page {
        self.sequence.blocks[block].plane(self.plane()).expect("the engine has checked every page")
    }

    /// The positions that a query at `position` sees.
    fn visible(&self, position: usize) -> Range<usize> {
        match self.plane() {
            Plane::Global => 0..position + 1,
            Plane::Sliding => self.sequence.shape.first_sliding(position)..position + 1,
        }
    }
}

/// The part of `positions` that lies in `block`.
fn within(positions: &Range<usize>, block: usize) -> Range<usize> {
    let (start, end) = (block * BLOCK_TOKENS, (block + 1) * BLOCK_TOKENS);
    positions.start.clamp(start, end)..positions.end.clamp(start, end)
}

fn blocks(positions: &Range<usize>) -> Range<usize> {
    positions.start / BLOCK_TOKENS..positions.end.div_ceil(BLOCK_TOKENS)
}

/// The bytes of rows `rows` in an array of 16 equal rows at `array`.
fn slice(array: &Range<usize>, rows: &Range<usize>) -> Range<usize> {
    let row = array.len() / BLOCK_TOKENS;
    array.start + rows.start * row..array.start + rows.end * row
}

/// Writes the keys and values of a chunk into its pages.
///
/// # Shapes
/// keys, values: tokens × kv_heads × head_dim.
pub(crate) fn write(site: &AttentionSite, keys: &[f32], values: &[f32]) {
    let shape = &site.sequence.shape;
    let (dim, heads) = (shape.head_dim(), shape.kv_heads());
    let spans: Vec<HeadSpan> =
        (0..heads).map(|head| shape.head_span(site.layer, head, BLOCK_TOKENS)).collect();
    let written = site.first..site.first + keys.len() / (heads * dim);
    for block in blocks(&written) {
        let mut page = site.page(block).write();
        for position in within(&written, block) {
            let row = position % BLOCK_TOKENS;
            for (head, span) in spans.iter().enumerate() {
                let at = ((position - site.first) * heads + head) * dim;
                let mut put = |row_values: &[f32], codes: &Range<usize>, scales: &Range<usize>| {
                    let codes = slice(codes, &(row..row + 1));
                    match shape.format() {
                        KvFormat::F32 => kernels::encode_f32(row_values, &mut page[codes]),
                        KvFormat::Int8 => {
                            let scales = slice(scales, &(row..row + 1));
                            let (before, after) = page.split_at_mut(scales.start);
                            kernels::encode_int8(
                                row_values,
                                &mut before[codes],
                                &mut after[..scales.len()],
                            );
                        }
                    }
                };
                put(&keys[at..at + dim], &span.keys, &span.key_scales);
                put(&values[at..at + dim], &span.values, &span.value_scales);
            }
        }
    }
}

/// One query head of one token, and the positions that it sees.
struct Query<'a> {
    values: &'a [f32],
    visible: Range<usize>,
}

/// Scratch memory of a core for a tile: 16 rows as f32, and a weight for each query and position.
#[derive(Default)]
struct Scratch {
    rows: Vec<f32>,
    weights: Vec<f32>,
    /// The sum of each query's weights.
    totals: Vec<(usize, f32)>,
}

thread_local! {
    /// Kept from call to call, so that a token allocates nothing once the longest context has been
    /// seen. Every core has its own, of at most [`scratch_values`] values.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Attends for a chunk whose keys and values have been written. Distributes the queries among the
/// cores: tiles of tokens or, if there are fewer tiles than cores, the heads of a token.
///
/// # Shapes
/// queries: tokens × heads × head_dim, rotated and scaled; the result has the same shape.
pub(crate) fn attend(isa: Isa, site: &AttentionSite, queries: &[f32]) -> Vec<f32> {
    let dim = site.sequence.shape.head_dim();
    let count = queries.len() / dim;
    let run = (QUERY_TILE * site.heads).min(count.div_ceil(site.team.cores()));
    let mut out = vec![0f32; queries.len()];
    site.team.each_run(&mut out, run * dim, &|part, out| {
        SCRATCH.with_borrow_mut(|scratch| {
            attend_run(
                isa,
                site,
                part * run,
                &queries[part * run * dim..][..out.len()],
                scratch,
                out,
            )
        });
    });
    out
}

/// Attends for consecutive queries, starting with query `first` of the chunk, one KV head at a
/// time.
fn attend_run(
    isa: Isa,
    site: &AttentionSite,
    first: usize,
    queries: &[f32],
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let shape = &site.sequence.shape;
    let (dim, group) = (shape.head_dim(), site.heads / shape.kv_heads());
    for head in 0..shape.kv_heads() {
        let span = shape.head_span(site.layer, head, BLOCK_TOKENS);
        let is_of_head = |i: usize| (first + i) % site.heads / group == head;
        let query = |i: usize| Query {
            values: &queries[i * dim..][..dim],
            visible: site.visible(site.first + (first + i) / site.heads),
        };
        let tile = || (0..queries.len() / dim).filter(|i| is_of_head(*i)).map(|i| (i, query(i)));
        attend_tile(isa, site, &span, tile, scratch, out);
    }
}

fn attend_tile<'a, Tile: Iterator<Item = (usize, Query<'a>)>>(
    isa: Isa,
    site: &AttentionSite,
    span: &HeadSpan,
    tile: impl Fn() -> Tile,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let dim = site.sequence.shape.head_dim();
    let (Some((_, first)), Some((_, last))) = (tile().next(), tile().last()) else { return };
    let seen = first.visible.start..last.visible.end;
    scratch.rows.resize(BLOCK_TOKENS * dim, 0.0);
    let scores = tile().count() * seen.len();
    scratch.weights.clear();
    scratch.weights.reserve_exact(scores.next_multiple_of(SCORES_STEP));
    scratch.weights.resize(scores, 0.0);
    scratch.totals.clear();
    let Scratch { rows, weights, totals } = scratch;
    let range = |visible: &Range<usize>| visible.start - seen.start..visible.end - seen.start;

    for block in blocks(&seen) {
        let held = within(&seen, block);
        read(isa, site, block, &span.keys, &span.key_scales, &held, rows);
        for ((_, query), weights) in tile().zip(weights.chunks_exact_mut(seen.len())) {
            let part = within(&query.visible, block);
            let keys = &rows[(part.start - held.start) * dim..][..part.len() * dim];
            kernels::scores(isa, query.values, keys, &mut weights[range(&part)]);
        }
    }
    for ((i, query), weights) in tile().zip(weights.chunks_exact_mut(seen.len())) {
        let mut total = 0.0;
        kernels::softmax(isa, &mut weights[range(&query.visible)], &mut total);
        totals.push((i, total));
    }
    for block in blocks(&seen) {
        let held = within(&seen, block);
        read(isa, site, block, &span.values, &span.value_scales, &held, rows);
        for ((i, query), weights) in tile().zip(weights.chunks_exact(seen.len())) {
            let part = within(&query.visible, block);
            let values = &rows[(part.start - held.start) * dim..][..part.len() * dim];
            kernels::accumulate(isa, &weights[range(&part)], values, &mut out[i * dim..][..dim]);
        }
    }
    for (i, total) in totals.drain(..) {
        kernels::normalize(isa, &mut out[i * dim..][..dim], total);
    }
}

/// Decodes the positions `held` of one array of `block` to f32, at the start of `out`.
fn read(
    isa: Isa,
    site: &AttentionSite,
    block: usize,
    codes: &Range<usize>,
    scales: &Range<usize>,
    held: &Range<usize>,
    out: &mut [f32],
) {
    let shape = &site.sequence.shape;
    let rows = held.start - block * BLOCK_TOKENS..held.end - block * BLOCK_TOKENS;
    let out = &mut out[..held.len() * shape.head_dim()];
    let page = site.page(block).read();
    match shape.format() {
        KvFormat::F32 => kernels::decode_f32(&page[slice(codes, &rows)], out),
        KvFormat::Int8 => kernels::decode_int8(
            isa,
            &page[slice(codes, &rows)],
            &page[slice(scales, &rows)],
            shape.head_dim(),
            out,
        ),
    }
}
