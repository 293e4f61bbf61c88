//! Token ids to text, at once or as they come.
//!
//! Promise: whatever the ids, the parts that a [`TextStream`] gives are the text of the whole, and each part ends between
//! characters, though a character's bytes may come in several tokens.

use super::Packed;
use crate::id::TokenId;

/// Turns tokens into text while they are being generated.
pub(crate) struct TextStream<'a> {
    packed: &'a Packed,
    /// The beginning of a character whose other bytes have not come yet: at most three bytes between calls.
    pending: Vec<u8>,
}

impl<'a> TextStream<'a> {
    pub(super) fn new(packed: &'a Packed) -> TextStream<'a> {
        TextStream { packed, pending: Vec::new() }
    }

    /// Takes the next token and gives the characters that are complete with it; often none. Bytes that can be no
    /// character become U+FFFD.
    pub(crate) fn push(&mut self, token: TokenId) -> String {
        self.packed.say(token, &mut self.pending);
        let mut text = String::new();
        loop {
            let (valid, bad) = match core::str::from_utf8(&self.pending) {
                Ok(all) => (all.len(), None),
                Err(error) => (error.valid_up_to(), error.error_len()),
            };
            let rest = self.pending.split_off(valid);
            text.push_str(&String::from_utf8_lossy(&self.pending));
            self.pending = rest;
            let Some(bad) = bad else { return text };
            text.push(char::REPLACEMENT_CHARACTER);
            self.pending.drain(..bad);
        }
    }

    /// Ends the text; a character that was never completed becomes U+FFFD.
    pub(crate) fn end(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}
