//! Encodes a chat: the template's text around the messages, and the messages themselves.
//!
//! Promise: only the template can produce control tokens. Adjacent template text and message text
//! are encoded as one piece of text, as Hugging Face does, so the tokens are the same as for the
//! whole text.

use super::markers;
use super::vocabulary::at_most;
use super::{Tokenizer, TokenizerError};
use crate::id::TokenId;
use crate::limits::MAX_PROMPT_BYTES;

/// A part of the encoded text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Said<'a> {
    /// Text from a template: the names of control tokens in it become these tokens.
    Template(&'a str),
    /// Text from a person or a program: plain text.
    Text(&'a str),
}

impl Tokenizer {
    /// The ids of these parts in sequence, without `<bos>` even if a template asks for it, because
    /// it is added once at the start of the prompt.
    ///
    /// # Errors
    /// [`TokenizerError::TooLarge`] beyond [`MAX_PROMPT_BYTES`].
    pub(crate) fn encode_said(&self, parts: &[Said<'_>]) -> Result<Vec<TokenId>, TokenizerError> {
        let bytes = parts.iter().map(|part| match part {
            Said::Template(text) | Said::Text(text) => text.len(),
        });
        at_most("prompt", "bytes", bytes.sum(), MAX_PROMPT_BYTES)?;
        let (mut ids, mut plain) = (Vec::new(), String::new());
        for part in parts {
            let template = match part {
                Said::Text(text) => {
                    plain += text;
                    continue;
                }
                Said::Template(template) => template,
            };
            let mut rest = *template;
            while let Some((before, token, behind)) =
                markers::first(rest, |name| self.packed().control(name))
            {
                rest = behind;
                plain += before;
                self.encode_text(&std::mem::take(&mut plain), &mut ids)?;
                ids.extend(Some(TokenId(token)).filter(|id| Some(*id) != self.bos()));
            }
            plain += rest;
        }
        self.encode_text(&plain, &mut ids)?;
        Ok(ids)
    }

    /// Whether the vocabulary has this control token.
    pub(crate) fn has_control(&self, name: &str) -> bool {
        self.packed().control(name).is_some()
    }
}

/// Strips the characters that Python's `str.strip` does, which chat templates use.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(|character: char| {
        character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
    })
}
