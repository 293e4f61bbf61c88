//! The tokens of a chat's turns: what a template says around the texts, and the texts.
//!
//! Promise: only what the template says can become a control token. Where template and text meet, they are encoded as one piece of
//! text, as Hugging Face does it, so the tokens are those of the whole.

use super::markers;
use super::vocabulary::at_most;
use super::{Tokenizer, TokenizerError};
use crate::id::TokenId;
use crate::limits::MAX_PROMPT_BYTES;

/// A part of what is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Said<'a> {
    /// What a template says: the names of control tokens in it are these tokens.
    Template(&'a str),
    /// What a person, or a program, says: plain text.
    Text(&'a str),
}

impl Tokenizer {
    /// The ids of these parts in a row, without `<bos>`, also where a template asks for it: it begins a prompt once.
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
            while let Some((before, token, behind)) = markers::first(rest, |name| self.packed().control(name)) {
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

/// What Python's `str.strip` takes away, which chat templates use.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character))
}
