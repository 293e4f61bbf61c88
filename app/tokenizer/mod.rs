//! Text to token ids and back.

mod error;
mod json;
mod merges;
mod synthetic;
mod vocabulary;

pub use error::TokenizerError;
pub use synthetic::MIN_SYNTHETIC_TOKENS;
pub use vocabulary::{TokenKind, Vocabulary};
