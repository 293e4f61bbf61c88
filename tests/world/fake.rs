//! An engine without arithmetic: every row of KV is a hash over its token and over every row that attention would see, and so is the
//! next token. One wrong, missing or stale byte anywhere changes the answer.

use std::sync::Arc;

use potluck::id::TokenId;
use potluck::kv::{BlockPages, KvFormat, KvShape, Plane, Sequence};
use potluck::limits::BLOCK_TOKENS;
use potluck::node::{Job, JobDone};

use super::Engine;

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
        let layers = [Plane::Sliding, Plane::Global, Plane::Sliding];
        Arc::new(KvShape::new(&layers, 1, 32, window, KvFormat::Int8).expect("a good shape"))
    }
}

impl Engine for FakeEngine {
    fn run(&mut self, job: &Job) -> JobDone {
        self.ran.fetch_add(job.tokens.len(), std::sync::atomic::Ordering::Relaxed);
        let mut last = 0;
        for (offset, token) in job.tokens.iter().enumerate() {
            last = run_token(&job.sequence, *token, job.first + offset);
        }
        let next = job.sampling.as_ref().map(|_| TokenId((last % u64::from(self.vocabulary)) as u32));
        JobDone { id: job.id, result: Ok(next), micros: self.micros_per_token * job.tokens.len() as u64 }
    }
}

fn run_token(sequence: &Sequence, token: TokenId, position: usize) -> u64 {
    let shape = &sequence.shape;
    let mut state = mix(u64::from(token.0) << 32 | position as u64);
    for (layer, plane) in shape.layers().iter().enumerate() {
        let first = match plane {
            Plane::Global => 0,
            Plane::Sliding => shape.first_sliding(position),
        };
        for before in first..position {
            for byte in row(sequence, layer, before) {
                state = mix(state ^ u64::from(byte));
            }
        }
        write_row(sequence, layer, position, state);
    }
    state
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
