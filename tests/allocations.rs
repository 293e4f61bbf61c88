//! Counts heap allocations during an answer. A separate test program, because it replaces the
//! global allocator.
//!
//! The weights stay in the mapped file, and attention's scratch is kept from token to token. The
//! rest is allocated anew: each of a layer's 17 ops makes about two allocations, for a tensor's
//! values and for burn's own record of it, and each of its seven products three, for activations as
//! int8. The number depends on the layers only. So memory does not grow with an answer, and a board
//! spends its time on weights.

#![expect(unsafe_code, reason = "a counting allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use potluck::id::TokenId;
use potluck::kv::Sequence;
use potluck::model::convert::ConvertType;
use potluck::model::synth::{Shape, synth};
use potluck::model::{Logits, Model, Precision, open};

/// Most allocator calls per layer and token. (Measured: 56, plus 29 per token outside its layers.)
const PER_LAYER: usize = 64;
/// Most allocator calls per token outside its layers: embedding, two RoPE tables, last
/// norm, logits.
const BESIDE_LAYERS: usize = 64;

thread_local! {
    /// Allocator calls by this thread, and the bytes that it has not yet freed.
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize) {
    CALLS.set(CALLS.get() + 1);
    HELD.set(HELD.get() + bytes);
}

// SAFETY: every call is forwarded to the system's allocator; counting touches none of its memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_decoded_token_asks_for_little_memory_and_keeps_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    synth(Shape::Demo, 3, ConvertType::Q8_0, &path, &mut |_| {}).unwrap();
    let opened = open(&path).unwrap();
    let layers = opened.config.layers.len();
    let model = Model::new(opened.config, opened.weights, Precision::INT8).unwrap();
    let vocab = model.config().vocab as u32;
    let (warm_up, measured) = (24, 40);
    let sequence = Arc::new(Sequence::private(model.kv_shape(), warm_up + measured));
    let step = |position: usize| {
        let token = TokenId(position as u32 * 7 % vocab);
        let before = (CALLS.get(), HELD.get());
        drop(model.forward(&[token], position, &sequence, Logits::Last(1)).unwrap());
        (CALLS.get() - before.0, HELD.get() - before.1)
    };
    (0..warm_up).for_each(|position| {
        step(position);
    });
    let steps: Vec<(usize, isize)> = (warm_up..warm_up + measured).map(step).collect();

    let most = steps.iter().map(|(calls, _)| *calls).max().unwrap();
    let least = steps.iter().map(|(calls, _)| *calls).min().unwrap();
    println!("{least} to {most} calls per token, {layers} layers");
    assert!(
        most <= layers * PER_LAYER + BESIDE_LAYERS,
        "{most} allocator calls for a token with {layers} layers"
    );
    let grown: isize = steps.iter().map(|(_, held)| held).sum();
    // Attention's scratch for scores may grow by one step; nothing else stays allocated.
    assert!(grown <= 16 << 10, "{grown} bytes still allocated after {measured} tokens");
}
