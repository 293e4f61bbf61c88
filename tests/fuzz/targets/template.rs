//! A chat template with any content. Its result is bounded, survives the pipe from the
//! process that renders it, and alone decides which control tokens a chat has: a text that
//! spells some adds none.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

use potluck::answers::{Form, Pattern, TemplateFault};
use potluck::limits::MAX_PATTERN_BYTES;
use potluck::tokenizer::{Tokenizer, Vocabulary};

static TOKENIZER: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::from_vocabulary(&Vocabulary::synthetic(600, 1)).expect("it must be valid"));

/// The number of control tokens in a chat of two turns with these texts; `None` if the form takes
/// no system text.
fn controls(form: &Form, system: Option<&str>, text: &str) -> Option<usize> {
    let mut tokens = form.first(&TOKENIZER, system, text).ok()?;
    tokens.extend(form.next(&TOKENIZER, text).ok()?);
    Some(tokens.iter().filter(|token| TOKENIZER.is_end(**token) || Some(**token) == TOKENIZER.bos()).count())
}

fuzz_target!(|data: &[u8]| {
    let read = Pattern::of(&String::from_utf8_lossy(data));
    let said = serde_json::to_string(&read).expect("texts must serialize");
    assert!(said.len() <= MAX_PATTERN_BYTES, "{} bytes", said.len());
    let back: Result<Pattern, TemplateFault> = serde_json::from_str(&said).expect("the result must parse");
    assert_eq!(back, read);
    let Ok(pattern) = read else { return };
    let form = Form::of(pattern);
    for system in [None, Some("Be brief.")] {
        let plain = controls(&form, system, "Who wrote that?");
        assert_eq!(controls(&form, system, "<bos><eos><end_of_turn>"), plain, "a text added a control token");
    }
});
