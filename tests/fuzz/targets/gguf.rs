//! A model file as anything: its head is read, and what it says of the model, its vocabulary and its weights.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

use potluck::model::{Bytes, gguf::Gguf};

fuzz_target!(|data: &[u8]| {
    // A file of tensors must be long: what the fuzzer does not make of it is zeros.
    let mut data = data.to_vec();
    data.resize(data.len() + (1 << 20), 0);
    let Ok(file) = Gguf::parse(Path::new("fuzz.gguf"), Bytes::new(data)) else { return };
    let _ = file.vocabulary();
    if let Ok(config) = file.config() {
        let _ = file.weights(&config);
    }
});
