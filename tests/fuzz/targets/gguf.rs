//! A model file with any content, or several as its parts. The target reads the headers, what they
//! say about the model, its vocabulary and weights, and rows of each weight in its type.
//!
//! The first byte says how many files the rest is split into; two bytes before each file but the
//! last give its length.

#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;

use potluck::model::gguf::{Gguf, kept_entries};
use potluck::model::{Bytes, Weight};

/// More parts would only make the fuzzer slower.
const MOST_PARTS: usize = 3;

fuzz_target!(|data: &[u8]| {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let count = usize::from(first) % MOST_PARTS + 1;
    let mut parts = Vec::new();
    for number in 1..=count {
        let length = match rest.split_first_chunk::<2>() {
            Some((length, after)) if number < count => {
                rest = after;
                usize::from(u16::from_le_bytes(*length)).min(rest.len())
            }
            _ => rest.len(),
        };
        let (part, after) = rest.split_at(length);
        rest = after;
        // A file with tensors must be long, so zeros follow the fuzzer's bytes.
        let mut part = part.to_vec();
        part.resize(part.len() + (1 << 20), 0);
        parts.push((PathBuf::from(format!("fuzz-{number:05}-of-{count:05}.gguf")), Bytes::new(part)));
    }
    let Ok(file) = Gguf::parse_parts(parts) else { return };
    let _ = file.vocabulary();
    let entries = kept_entries(&file);
    assert!(entries.len() <= file.metadata().len());
    let Ok(config) = file.config() else { return };
    let Ok(weights) = file.weights(&config) else { return };
    let ends = |weight: &Weight| {
        for row in [0, weight.rows() - 1] {
            assert_eq!(weight.row(row).len(), weight.cols());
        }
    };
    ends(&weights.embedding);
    ends(&weights.output_norm);
    for layer in &weights.layers {
        [&layer.query, &layer.key, &layer.value, &layer.attention_output, &layer.gate, &layer.up, &layer.down].map(ends);
    }
});
