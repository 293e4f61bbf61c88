//! Attention over pages: keys and values are written into the sequence's pages as they are kept, and read back from there, so
//! that a row found in a cache and a row just computed are the same bytes.
//!
//! For each query row the visible positions are `p + 1 - window ..= p` on a sliding layer, `0 ..= p` on a global one. Scores in
//! the order of positions, softmax over them (see `kernels::softmax`), weighted values in the order of positions, and at the end
//! one division. Nothing depends on where a prompt was cut. A page's lock is held while its rows are read or written, no longer.

use core::ops::Range;
use std::sync::Arc;

use crate::kernels::{self, Isa};
use crate::kv::{HeadSpan, KvFormat, Page, Plane, Sequence};
use crate::limits::BLOCK_TOKENS;

/// Query tokens that share one reading of the keys. With 4 heads and 8,192 positions their scores take 1 MiB.
pub(super) const QUERY_TILE: usize = 8;

/// Where a chunk of tokens attends.
#[derive(Clone, Debug)]
pub struct AttentionSite {
    /// Holds pages for every position that the chunk writes or sees: the engine has checked it.
    pub sequence: Arc<Sequence>,
    /// The layer, counted from 0.
    pub layer: usize,
    /// The position of the chunk's first token.
    pub first: usize,
    /// Query heads; a multiple of the KV heads.
    pub heads: usize,
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
pub fn write(site: &AttentionSite, keys: &[f32], values: &[f32]) {
    let shape = &site.sequence.shape;
    let (dim, heads) = (shape.head_dim(), shape.kv_heads());
    let spans: Vec<HeadSpan> = (0..heads).map(|head| shape.head_span(site.layer, head, BLOCK_TOKENS)).collect();
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
                            kernels::encode_int8(row_values, &mut before[codes], &mut after[..scales.len()]);
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
struct Query {
    /// Where its head_dim values start among the queries, and its result among the results.
    at: usize,
    visible: Range<usize>,
}

/// Attends for a chunk whose keys and values are written.
///
/// # Shapes
/// queries: tokens × heads × head_dim, turned and scaled; the result alike.
pub fn attend(isa: Isa, site: &AttentionSite, queries: &[f32]) -> Vec<f32> {
    let shape = &site.sequence.shape;
    let (dim, group) = (shape.head_dim(), site.heads / shape.kv_heads());
    let tokens = queries.len() / (site.heads * dim);
    let mut out = vec![0f32; queries.len()];
    for head in 0..shape.kv_heads() {
        let span = shape.head_span(site.layer, head, BLOCK_TOKENS);
        for start in (0..tokens).step_by(QUERY_TILE) {
            let tile = start..(start + QUERY_TILE).min(tokens);
            let tile = tile.flat_map(|token| {
                let at = move |g: usize| (token * site.heads + head * group + g) * dim;
                (0..group).map(move |g| Query { at: at(g), visible: site.visible(site.first + token) })
            });
            attend_tile(isa, site, &span, &tile.collect::<Vec<_>>(), queries, &mut out);
        }
    }
    out
}

fn attend_tile(isa: Isa, site: &AttentionSite, span: &HeadSpan, tile: &[Query], queries: &[f32], out: &mut [f32]) {
    let dim = site.sequence.shape.head_dim();
    let seen = tile[0].visible.start..tile[tile.len() - 1].visible.end;
    let mut rows = vec![0f32; BLOCK_TOKENS * dim];
    let mut weights = vec![0f32; tile.len() * seen.len()];
    let mut weights: Vec<&mut [f32]> = weights.chunks_exact_mut(seen.len()).collect();

    for block in blocks(&seen) {
        let held = within(&seen, block);
        read(isa, site, block, &span.keys, &span.key_scales, &held, &mut rows);
        for (query, weights) in tile.iter().zip(&mut weights) {
            let part = within(&query.visible, block);
            let keys = &rows[(part.start - held.start) * dim..][..part.len() * dim];
            let scores = &mut weights[part.start - seen.start..][..part.len()];
            kernels::scores(isa, &queries[query.at..query.at + dim], keys, scores);
        }
    }
    let mut totals = vec![0f32; tile.len()];
    for ((query, weights), total) in tile.iter().zip(&mut weights).zip(&mut totals) {
        kernels::softmax(isa, &mut weights[query.visible.start - seen.start..query.visible.end - seen.start], total);
    }
    for block in blocks(&seen) {
        let held = within(&seen, block);
        read(isa, site, block, &span.values, &span.value_scales, &held, &mut rows);
        for (query, weights) in tile.iter().zip(&weights) {
            let part = within(&query.visible, block);
            let values = &rows[(part.start - held.start) * dim..][..part.len() * dim];
            let weights = &weights[part.start - seen.start..][..part.len()];
            kernels::accumulate(isa, weights, values, &mut out[query.at..query.at + dim]);
        }
    }
    for (query, total) in tile.iter().zip(totals) {
        kernels::normalize(isa, &mut out[query.at..query.at + dim], total);
    }
}

/// Reads the rows `held` of one array of `block` as f32, to the start of `out`.
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
        KvFormat::Int8 => {
            kernels::decode_int8(isa, &page[slice(codes, &rows)], &page[slice(scales, &rows)], shape.head_dim(), out)
        }
    }
}
