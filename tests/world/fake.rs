//! An engine without arithmetic: every row of KV is a hash over its token and over every row that attention would see, and so is the
//! next token. One wrong, missing or stale byte anywhere changes the answer.

use std::sync::Arc;

use potluck::id::TokenId;
use potluck::kv::{BlockPages, KvFormat, KvShape, Plane, Sequence};
use potluck::limits::BLOCK_TOKENS;
use potluck::node::{Job, JobDone};

use super::Engine;

/// A row of nothing but these bytes is no state that any model computes: the engine fails on it, as the model does on infinities.
pub const NO_NUMBER: u8 = 0xff;

/// Bytes of one row: keys, their scales, values, their scales.
type Row = Vec<u8>;

pub struct FakeEngine {
    pub micros_per_token: u64,
    /// Tokens that were run.
    pub ran: Arc<std::sync::atomic::AtomicUsize>,
    /// Answers never contain a token at or above this.
    pub vocabulary: u32,
}

impl FakeEngine {
    pub fn new(micros_per_token: u64) -> FakeEngine {
        FakeEngine { micros_per_token, ran: Arc::default(), vocabulary: 50_000 }
    }

    /// Two sliding layers and a global one; a row of 2 × 34 bytes each.
    pub fn shape(window: usize) -> Arc<KvShape> {
        FakeEngine::shape_of(&[Plane::Sliding, Plane::Global, Plane::Sliding], window)
    }

    pub fn shape_of(layers: &[Plane], window: usize) -> Arc<KvShape> {
        Arc::new(KvShape::new(layers, 1, 32, window, KvFormat::Int8).expect("a good shape"))
    }
}

impl Engine for FakeEngine {
    fn run(&mut self, job: &Job) -> JobDone {
        self.ran.fetch_add(job.tokens.len(), std::sync::atomic::Ordering::Relaxed);
        let mut last = Some(0);
        for (offset, token) in job.tokens.iter().enumerate() {
            last = last.and_then(|_| run_token(&job.sequence, *token, job.first + offset));
        }
        let next = |last: u64| job.sampling.as_ref().map(|_| TokenId((last % u64::from(self.vocabulary)) as u32));
        let result = last.map(next).ok_or_else(|| "no number".to_string());
        JobDone { id: job.id, result, micros: self.micros_per_token * job.tokens.len() as u64 }
    }
}

/// None when the state before is no number.
fn run_token(sequence: &Sequence, token: TokenId, position: usize) -> Option<u64> {
    let shape = &sequence.shape;
    let mut state = mix(u64::from(token.0) << 32 | position as u64);
    for (layer, plane) in shape.layers().iter().enumerate() {
        let first = match plane {
            Plane::Global => 0,
            Plane::Sliding => shape.first_sliding(position),
        };
        for before in first..position {
            let row = row(sequence, layer, before);
            if row.iter().all(|byte| *byte == NO_NUMBER) {
                return None;
            }
            for byte in row {
                state = mix(state ^ u64::from(byte));
            }
        }
        write_row(sequence, layer, position, state);
    }
    Some(state)
}

fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (x ^ (x >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn pages(sequence: &Sequence, position: usize) -> &BlockPages {
    &sequence.blocks[position / BLOCK_TOKENS]
}

/// Calls `each` with the four byte ranges of one row.
fn ranges(shape: &KvShape, layer: usize, position: usize) -> [std::ops::Range<usize>; 4] {
    let span = shape.head_span(layer, 0, BLOCK_TOKENS);
    let at = position % BLOCK_TOKENS;
    [span.keys, span.key_scales, span.values, span.value_scales].map(|all| {
        let len = all.len() / BLOCK_TOKENS;
        all.start + at * len..all.start + (at + 1) * len
    })
}

fn row(sequence: &Sequence, layer: usize, position: usize) -> Row {
    let plane = sequence.shape.layers()[layer];
    let page = pages(sequence, position).plane(plane).expect("a plane that attention sees is there").read();
    ranges(&sequence.shape, layer, position).into_iter().flat_map(|range| page[range].to_vec()).collect()
}

fn write_row(sequence: &Sequence, layer: usize, position: usize, state: u64) {
    let plane = sequence.shape.layers()[layer];
    let mut page = pages(sequence, position).plane(plane).expect("the plane of a token being run is there").write();
    let mut state = state;
    for range in ranges(&sequence.shape, layer, position) {
        for byte in &mut page[range] {
            state = mix(state.wrapping_add(1));
            *byte = state as u8;
        }
    }
}
