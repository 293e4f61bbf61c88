//! How often the heap is asked for memory while an answer is made. A test of its own program, for it counts in the allocator.
//!
//! The weights stay where the file has them, and attention's scratch is kept from token to token. What is left is asked for anew: a
//! layer's 17 ops take some two pieces of memory each, for a tensor's values and for burn's own record of it, and its seven products
//! three each, for activations as int8. Their number depends on the layers and on nothing else. So memory does not grow with an
//! answer, and a board spends its time on weights.

#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use potluck::id::TokenId;
use potluck::kv::Sequence;
use potluck::model::convert::ConvertType;
use potluck::model::synth::{Shape, synth};
use potluck::model::{Logits, Model, Precision, open};

/// Calls of the allocator for each layer and each token, at most. (56 were counted, and 29 for a token beside its layers.)
const PER_LAYER: usize = 64;
/// For a token beside its layers: its embedding, two tables of RoPE, the last norm, the logits.
const BESIDE_LAYERS: usize = 64;

thread_local! {
    /// Calls of the allocator by this thread, and bytes that it has and has not given back.
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize) {
    CALLS.set(CALLS.get() + 1);
    HELD.set(HELD.get() + bytes);
}

// SAFETY: all that is asked of it, the system's allocator does; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        // SAFETY: as the caller's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as the caller's.
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
    println!("{least} to {most} calls a token, {layers} layers");
    assert!(most <= layers * PER_LAYER + BESIDE_LAYERS, "{most} calls of the allocator for a token of {layers} layers");
    let grown: isize = steps.iter().map(|(_, held)| held).sum();
    // Scratch for attention's scores may grow by a step; nothing else stays.
    assert!(grown <= 16 << 10, "{grown} bytes stay after {measured} tokens");
}
