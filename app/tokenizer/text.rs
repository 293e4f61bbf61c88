//! Converts token ids to text, all at once or token by token.
//!
//! Promise: for any ids, the parts returned by a [`TextStream`] add up to the text of the whole.
//! Each part ends between characters, although a character's bytes may be spread over several
//! tokens.

use super::Packed;
use crate::id::TokenId;

/// Converts tokens to text while they are being generated.
pub(crate) struct TextStream<'a> {
    packed: &'a Packed,
    /// The beginning of a character whose remaining bytes have not arrived yet: at most three bytes
    /// between calls.
    pending: Vec<u8>,
}

impl<'a> TextStream<'a> {
    pub(super) fn new(packed: &'a Packed) -> TextStream<'a> {
        TextStream { packed, pending: Vec::new() }
    }

    /// Takes the next token and returns the characters that it completes; often none. Invalid UTF-8
    /// becomes U+FFFD.
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

    /// Ends the text; an incomplete character becomes U+FFFD.
    pub(crate) fn end(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}
