//! How a model is talked to: its own chat template, or Gemma's built-in one.

use thiserror::Error;

use super::Pattern;
use crate::id::TokenId;
use crate::tokenizer::{Said, Tokenizer, TokenizerError, trim};

/// Tokens that Gemma's form needs.
const GEMMA_NEEDS: [&str; 2] = ["<start_of_turn>", "<end_of_turn>"];

/// The form of a model's chats.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Form {
    pattern: Pattern,
    is_chat_model: bool,
}

/// Why a text cannot be put into the form.
#[derive(Debug, Error)]
pub enum FormError {
    /// The vocabulary lacks what the built-in form is made of.
    #[error("this model's vocabulary has no {0}: it cannot chat, have it complete the text (ask --raw, raw TEXT)")]
    NoTurns(&'static str),
    /// The template says so, or has no place for it.
    #[error("this model's chat template takes no system text: {0}; leave it out, or say it in the first turn")]
    NoSystem(String),
    /// The text is too long.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl Form {
    /// Of a model whose file has a chat template, which says `pattern`.
    pub fn of(pattern: Pattern) -> Form {
        Form { pattern, is_chat_model: true }
    }

    /// Gemma's. `is_chat_model` where the file has a template that cannot be followed.
    pub fn gemma(is_chat_model: bool) -> Form {
        Form { pattern: Pattern::gemma(), is_chat_model }
    }

    /// Whether the model is one for conversations: its file has a chat template.
    pub fn is_chat_model(&self) -> bool {
        self.is_chat_model
    }

    /// Whether there is a place for a system text.
    ///
    /// # Errors
    /// [`FormError::NoSystem`].
    pub fn takes_system(&self) -> Result<(), FormError> {
        self.pattern.system.as_ref().map_or_else(|reason| Err(FormError::NoSystem(reason.clone())), |_| Ok(()))
    }

    /// The tokens of a conversation's first turn, `<bos>` included, ready for the model to speak.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn first(&self, tokenizer: &Tokenizer, system: Option<&str>, text: &str) -> Result<Vec<TokenId>, FormError> {
        if let Some(lacking) = GEMMA_NEEDS.into_iter().find(|name| self.needs(name) && !tokenizer.has_control(name)) {
            return Err(FormError::NoTurns(lacking));
        }
        let text = self.text(text);
        let said = match (system, &self.pattern.system, &self.pattern.first) {
            (None, _, [before, behind]) => {
                tokenizer.encode_said(&[Said::Template(before), Said::Text(text), Said::Template(behind)])
            }
            (Some(_), Err(reason), _) => return Err(FormError::NoSystem(reason.clone())),
            (Some(system), Ok([before, between, behind]), _) => {
                let system = if self.pattern.trims_system { trim(system) } else { system };
                let (system, text) = (Said::Text(system), Said::Text(text));
                tokenizer.encode_said(&[Said::Template(before), system, Said::Template(between), text, Said::Template(behind)])
            }
        };
        let mut tokens = said?;
        tokens.splice(0..0, tokenizer.bos());
        Ok(tokens)
    }

    /// The tokens between an answer and the next one.
    ///
    /// # Errors
    /// [`FormError::Tokenizer`].
    pub fn next(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<TokenId>, FormError> {
        let [before, behind] = &self.pattern.next;
        Ok(tokenizer.encode_said(&[Said::Template(before), Said::Text(self.text(text)), Said::Template(behind)])?)
    }

    fn text<'a>(&self, text: &'a str) -> &'a str {
        if self.pattern.trims { trim(text) } else { text }
    }

    /// Whether the form is made of this token. Others than Gemma's spell what the vocabulary lacks, as their makers' tools do.
    fn needs(&self, name: &str) -> bool {
        self.pattern == Pattern::gemma() && self.pattern.next[0].contains(name)
    }
}
