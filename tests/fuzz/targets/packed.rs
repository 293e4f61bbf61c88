//! The packed tokenizer's file as anything. Its checksum is put right, for a stranger can do so as well.

#![no_main]

use libfuzzer_sys::fuzz_target;

use potluck::tokenizer::{Packed, Tokenizer};

fuzz_target!(|data: &[u8]| {
    let Some((text, file)) = data.split_first_chunk::<16>() else { return };
    let Some(packed) = Packed::open_unread(file.to_vec()) else { return };
    let Ok(tokenizer) = Tokenizer::from_packed(packed) else { return };
    if let Ok(tokens) = tokenizer.encode_prompt(&String::from_utf8_lossy(text)) {
        let _ = tokenizer.decode(&tokens);
    }
});
