//! Converts text to token ids and back, exactly like Gemma's tokenizer.
//!
//! Text becomes ids in three steps: pieces that the vocabulary defines as whole (runs of newlines,
//! HTML tags) are cut out, spaces become `▁`, and byte-pair merges join characters into pieces. A
//! character without a piece is spelled in bytes. The crate `tokenizers` does the first two steps.
//! The merges run on tables in a file ([`Packed`]), because the crate's own tables would take a
//! quarter of the board's memory.
//!
//! Promises:
//! - The ids equal those of Hugging Face's `tokenizer.json` for the same text, whether the
//!   tokenizer was made from that file or from a GGUF file's vocabulary.
//! - Text never becomes a control token: the pipeline does not know them. Only this module inserts
//!   them, as ids. Their names decide which tokens these are, which one begins a prompt and which
//!   ones end an answer (`roles`), whatever a file claims.
//! - Every prompt begins with `<bos>`, once.
//! - Decoding encoded text returns the original, except that `▁` itself (U+2581) becomes a space.

mod error;
mod json;
mod markers;
mod merges;
mod packed;
mod roles;
mod synthetic;
#[cfg(test)]
mod tests;
mod text;
mod turns;
mod vocabulary;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use tokenizers::normalizers::Replace;
use tokenizers::{
    AddedToken, DecoderWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl,
};

pub(crate) use error::TokenizerError;
pub use packed::Packed;
pub(crate) use text::TextStream;
pub(crate) use turns::{Said, trim};
pub use vocabulary::{TokenKind, Vocabulary};

use crate::id::TokenId;
use crate::limits::{MAX_PROMPT_BYTES, MAX_TOKENIZER_FILE_BYTES};
use vocabulary::at_most;

/// Gemma's pre-tokenizer splits at spaces, but by then every space has become `▁`, so it is not
/// set. Neither is a decoder, because [`Packed`] converts ids to text.
type Pipeline =
    TokenizerImpl<Packed, Replace, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// A vocabulary ready for encoding and decoding.
pub struct Tokenizer {
    pipeline: Pipeline,
    ends: Vec<TokenId>,
}

impl Tokenizer {
    /// Reads the contents of a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Vocabulary::from_tokenizer_json`].
    pub fn from_json(json: &str) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::from_vocabulary(&Vocabulary::from_tokenizer_json(json)?)
    }

    /// Makes a tokenizer from a vocabulary of any source, with its tables in memory.
    ///
    /// # Errors
    /// As [`Vocabulary::pack`].
    pub fn from_vocabulary(vocabulary: &Vocabulary) -> Result<Tokenizer, TokenizerError> {
        let packed = Packed::open(vocabulary.clone().pack([0; 16])?);
        Tokenizer::from_packed(
            packed.unwrap_or_else(|| unreachable!("freshly packed bytes are valid")),
        )
    }

    /// Makes a tokenizer from a packed vocabulary, which is used in place. The crate handles whole
    /// pieces and spaces, and is given no token that text must never become.
    ///
    /// # Errors
    /// [`TokenizerError::Library`], only for bytes that `pack` never writes.
    pub fn from_packed(packed: Packed) -> Result<Tokenizer, TokenizerError> {
        let whole: Vec<AddedToken> = packed
            .whole()
            .map(|id| AddedToken::from(packed.text(id).to_owned(), false).normalized(false))
            .collect();
        let ends = packed.ends().collect();
        let mut pipeline = Pipeline::new(packed);
        pipeline
            .with_normalizer(Some(Replace::new(" ", "▁").map_err(library)?))
            .map_err(library)?;
        pipeline.add_tokens(whole).map_err(library)?;
        Ok(Tokenizer { pipeline, ends })
    }

    fn packed(&self) -> &Packed {
        self.pipeline.get_model()
    }

    /// Total bytes of its tables.
    pub(crate) fn table_bytes(&self) -> usize {
        self.packed().bytes_in_all()
    }

    /// The ids of a plain prompt: `<bos>`, then the text. Control tokens spelled in the text, even
    /// `<bos>`, are plain characters.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        let mut ids = self.encode(text)?;
        ids.splice(0..0, self.packed().bos());
        Ok(ids)
    }

    /// The ids of a text without `<bos>`, for a text that continues another.
    ///
    /// # Errors
    /// [`TokenizerError::TooLarge`] beyond [`MAX_PROMPT_BYTES`].
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        at_most("prompt", "bytes", text.len(), MAX_PROMPT_BYTES)?;
        let mut ids = Vec::new();
        self.encode_text(text, &mut ids)?;
        Ok(ids)
    }

    /// Whether the model ends its answer with this token.
    pub fn is_end(&self, token: TokenId) -> bool {
        self.ends.contains(&token)
    }

    /// The tokens with which the model ends an answer.
    pub fn end_tokens(&self) -> &[TokenId] {
        &self.ends
    }

    /// The token that begins every prompt.
    pub fn bos(&self) -> Option<TokenId> {
        self.packed().bos()
    }

    /// Notes for the user, one line each: contradictions between the vocabulary's file and the
    /// names of its tokens, and which side was used.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.packed().notes()
    }

    /// The control tokens spelled in a text, each once. They remain text: nothing that is typed or
    /// pasted controls the model.
    pub fn markers_in<'a>(&self, text: &'a str) -> Vec<&'a str> {
        markers::find(text, |name| self.packed().control(name).is_some())
    }

    /// A note for a person whose text spells control tokens, such as a ready-made chat template;
    /// `None` for other texts.
    pub(crate) fn marker_note(&self, text: &str) -> Option<String> {
        markers::note(&self.markers_in(text))
    }

    /// Number of tokens in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.packed().tokens()
    }

    /// The kind of a token; `None` beyond the vocabulary.
    pub(crate) fn kind(&self, token: TokenId) -> Option<TokenKind> {
        ((token.0 as usize) < self.vocab_size()).then(|| self.packed().kind(token.0))
    }

    /// A token as written in the vocabulary: `▁` for a space, `<0x0A>` for a byte, a control
    /// token's name. Empty beyond the vocabulary.
    pub fn piece(&self, token: TokenId) -> &str {
        self.packed().text(token.0)
    }

    /// Checks that every token that can enter a prompt has one of the `rows` of the model's
    /// embedding.
    ///
    /// # Errors
    /// [`TokenizerError::BeyondEmbedding`].
    pub(crate) fn check_vocabulary(&self, rows: usize) -> Result<(), TokenizerError> {
        match self.packed().last_needed() {
            Some(id) if id.0 as usize >= rows => {
                let text = self.packed().text(id.0).to_owned();
                Err(TokenizerError::BeyondEmbedding { id: id.0 as usize, text, rows })
            }
            _ => Ok(()),
        }
    }

    /// Starts converting generated tokens to text.
    pub(crate) fn stream(&self) -> TextStream<'_> {
        TextStream::new(self.packed())
    }

    /// The text of an answer's tokens. Control tokens that begin, end or pad a text produce
    /// nothing, others their names. Invalid UTF-8 becomes U+FFFD.
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        let mut bytes = Vec::new();
        tokens.iter().for_each(|token| self.packed().say(*token, &mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes of any tokens, with every control token as its name.
    pub fn spell(&self, tokens: &[TokenId]) -> Vec<u8> {
        let mut bytes = Vec::new();
        tokens.iter().for_each(|token| self.packed().spell(*token, &mut bytes));
        bytes
    }

    fn encode_text(&self, text: &str, ids: &mut Vec<TokenId>) -> Result<(), TokenizerError> {
        let encoding = self.pipeline.encode_fast(text, false).map_err(library)?;
        ids.extend(encoding.get_ids().iter().map(|id| TokenId(*id)));
        Ok(())
    }
}

impl Vocabulary {
    /// Packs the vocabulary into bytes for [`Packed::open`]. Its lookup tables for text omit every
    /// token that text must never become. `source` identifies what it was made from;
    /// [`Packed::made_from`] returns it.
    ///
    /// # Errors
    /// [`TokenizerError::Damaged`] or [`TokenizerError::TooLarge`], naming the first fault.
    pub fn pack(self, source: [u8; 16]) -> Result<Vec<u8>, TokenizerError> {
        packed::pack(self, source)
    }

    /// Reads a `tokenizer.json` file of at most [`MAX_TOKENIZER_FILE_BYTES`] bytes.
    ///
    /// # Errors
    /// As [`Vocabulary::from_tokenizer_json`], [`TokenizerError::Read`] and
    /// [`TokenizerError::NotAFile`]. No message names the file.
    pub fn from_tokenizer_json_file(path: &Path) -> Result<Vocabulary, TokenizerError> {
        // Checked before opening: opening a pipe blocks until there is a writer.
        let meta = std::fs::metadata(path).map_err(TokenizerError::Read)?;
        if !meta.is_file() {
            return Err(TokenizerError::NotAFile);
        }
        let size = usize::try_from(meta.len()).unwrap_or(usize::MAX);
        at_most("tokenizer.json", "bytes", size, MAX_TOKENIZER_FILE_BYTES)?;
        let file = File::open(path).map_err(TokenizerError::Read)?;
        let mut json = Vec::new();
        file.take(MAX_TOKENIZER_FILE_BYTES as u64 + 1)
            .read_to_end(&mut json)
            .map_err(TokenizerError::Read)?;
        let json = str::from_utf8(&json)
            .map_err(|_| TokenizerError::Json("it is not UTF-8".to_owned()))?;
        Vocabulary::from_tokenizer_json(json)
    }
}

fn library(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Library(error.to_string())
}
