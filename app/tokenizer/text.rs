//! Token ids to text, at once or as they come.
//!
//! Promise: whatever the ids, the parts that a [`TextStream`] gives are the text of the whole, and each part ends between
//! characters, though a character's bytes may come in several tokens.

use super::vocabulary::byte_of;
use super::{TokenKind, Vocabulary};
use crate::id::TokenId;

/// What every token says, as bytes; nothing for tokens that steer the model.
pub(super) struct Sayings {
    bytes: Vec<u8>,
    /// Where the bytes of each token end; they begin where those of the one before end.
    ends: Vec<u32>,
}

impl Sayings {
    /// Of a vocabulary that was checked and normalised.
    pub(super) fn of(vocabulary: &Vocabulary) -> Sayings {
        let mut sayings = Sayings { bytes: Vec::new(), ends: Vec::with_capacity(vocabulary.tokens.len()) };
        for (text, kind) in vocabulary.tokens.iter().zip(&vocabulary.kinds) {
            match kind {
                TokenKind::Normal | TokenKind::UserDefined => {
                    sayings.bytes.extend_from_slice(text.replace('▁', " ").as_bytes());
                }
                TokenKind::Byte => sayings.bytes.extend(byte_of(text)),
                TokenKind::Unknown | TokenKind::Control | TokenKind::Unused => {}
            }
            sayings.ends.push(sayings.bytes.len() as u32);
        }
        sayings
    }

    /// The bytes of one token; none for an id beyond the vocabulary.
    pub(super) fn get(&self, token: TokenId) -> &[u8] {
        let at = token.0 as usize;
        let Some(end) = self.ends.get(at) else { return &[] };
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..*end as usize]
    }

    /// Tokens of the vocabulary.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }
}

/// Turns tokens into text while they are being generated.
pub struct TextStream<'a> {
    sayings: &'a Sayings,
    /// The beginning of a character whose other bytes have not come yet: at most three bytes between calls.
    pending: Vec<u8>,
}

impl<'a> TextStream<'a> {
    pub(super) fn new(sayings: &'a Sayings) -> TextStream<'a> {
        TextStream { sayings, pending: Vec::new() }
    }

    /// Takes the next token and gives the characters that are complete with it; often none. Bytes that can be no
    /// character become U+FFFD.
    pub fn push(&mut self, token: TokenId) -> String {
        self.pending.extend_from_slice(self.sayings.get(token));
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

    /// Ends the stream; a character that was never completed becomes U+FFFD.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}
