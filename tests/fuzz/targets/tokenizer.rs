//! `tokenizer.json` with any content, and any text through the resulting tokenizer: encoding and
//! decoding must not panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

use potluck::tokenizer::Tokenizer;

fuzz_target!(|data: &[u8]| {
    let Ok(json) = str::from_utf8(data) else { return };
    let Ok(tokenizer) = Tokenizer::from_json(json) else { return };
    for text in ["", "The quick brown fox", json] {
        if let Ok(tokens) = tokenizer.encode_prompt(text) {
            let _ = tokenizer.decode(&tokens);
        }
    }
});
