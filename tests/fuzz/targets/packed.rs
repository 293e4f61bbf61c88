//! The packed tokenizer's file, with any bytes of a valid one changed. It is opened as if its
//! checksum had been verified, because an attacker can correct that as well.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

use potluck::tokenizer::{Packed, Tokenizer, Vocabulary};

/// A valid file.
static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/tokenizer.json");
    let vocabulary = Vocabulary::from_tokenizer_json_file(&seed).expect("the seed must be a tokenizer");
    vocabulary.pack([0; 16]).expect("the seed must be packable")
});

fuzz_target!(|data: &[u8]| {
    let Some((text, changes)) = data.split_first_chunk::<16>() else { return };
    let mut file = SOUND.clone();
    for change in changes.as_chunks::<4>().0 {
        let [low, high, bytes @ ..] = *change;
        let at = usize::from(u16::from_le_bytes([low, high])) % (file.len() - 1);
        file[at..at + 2].copy_from_slice(&bytes);
    }
    let Some(packed) = Packed::open_unread(file) else { return };
    let Ok(tokenizer) = Tokenizer::from_packed(packed) else { return };
    for text in [String::from_utf8_lossy(text).as_ref(), "then the hat ate the tea"] {
        if let Ok(tokens) = tokenizer.encode_prompt(text) {
            let _ = tokenizer.decode(&tokens);
        }
    }
});
