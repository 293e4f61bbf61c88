//! Text to token ids and back, as Gemma does it.
//!
//! A text becomes ids in three steps: pieces that the vocabulary defines as whole (runs of newlines, HTML tags) are cut out,
//! spaces become `▁`, and byte-pair merges join characters into pieces; a character without a piece is spelled
//! in bytes. The crate `tokenizers` does the first two; the merges run on tables that lie in a file ([`Packed`]), where the crate's
//! own would take a quarter of the board's memory.
//!
//! Promises:
//! - The ids are those of Hugging Face's `tokenizer.json` for the same text, whether the tokenizer was made from that
//!   file or from a GGUF file's vocabulary.
//! - Text never becomes a control token: the pipeline does not know them. Only this module places them, as ids. Which tokens
//!   these are, and which one begins a prompt or ends an answer, their names decide (`roles`), whatever a file says.
//! - Every prompt begins with `<bos>`, once.
//! - Decoding what was encoded gives the text back, except that `▁` itself (U+2581) comes back as a space.

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
use tokenizers::{AddedToken, DecoderWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl};

pub(crate) use error::TokenizerError;
pub use packed::Packed;
pub(crate) use text::TextStream;
pub(crate) use turns::{Said, trim};
pub use vocabulary::{TokenKind, Vocabulary};

use crate::id::TokenId;
use crate::limits::{MAX_PROMPT_BYTES, MAX_TOKENIZER_FILE_BYTES};
use vocabulary::at_most;

/// After spaces have become `▁` there is nothing left for Gemma's pre-tokenizer (a split at spaces) to do, and ids are
/// turned into text by [`Packed`], so neither is set.
type Pipeline = TokenizerImpl<Packed, Replace, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// A vocabulary in use.
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

    /// Makes a tokenizer of a vocabulary, wherever it comes from, with its tables in memory.
    ///
    /// # Errors
    /// As [`Vocabulary::pack`].
    pub fn from_vocabulary(vocabulary: &Vocabulary) -> Result<Tokenizer, TokenizerError> {
        let packed = Packed::open(vocabulary.clone().pack([0; 16])?);
        Tokenizer::from_packed(packed.unwrap_or_else(|| unreachable!("what was just packed is whole")))
    }

    /// Makes a tokenizer of a packed vocabulary, which stays where it lies. The crate's part is whole pieces and spaces; it is
    /// given nothing that no text may become.
    ///
    /// # Errors
    /// [`TokenizerError::Library`], for bytes of nobody's making only.
    pub fn from_packed(packed: Packed) -> Result<Tokenizer, TokenizerError> {
        let whole: Vec<AddedToken> =
            packed.whole().map(|id| AddedToken::from(packed.text(id).to_owned(), false).normalized(false)).collect();
        let ends = packed.ends().collect();
        let mut pipeline = Pipeline::new(packed);
        pipeline.with_normalizer(Some(Replace::new(" ", "▁").map_err(library)?)).map_err(library)?;
        pipeline.add_tokens(whole).map_err(library)?;
        Ok(Tokenizer { pipeline, ends })
    }

    fn packed(&self) -> &Packed {
        self.pipeline.get_model()
    }

    /// Bytes of its tables.
    pub(crate) fn table_bytes(&self) -> usize {
        self.packed().bytes_in_all()
    }

    /// The ids of a prompt as it is: `<bos>`, then the text. `<eos>` and the like in the text, and `<bos>` itself, are plain
    /// characters.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        let mut ids = self.encode(text)?;
        ids.splice(0..0, self.packed().bos());
        Ok(ids)
    }

    /// The ids of a text alone, without `<bos>`: of one that goes on where another ended.
    ///
    /// # Errors
    /// [`TokenizerError::TooLarge`] beyond [`MAX_PROMPT_BYTES`].
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        at_most("prompt", "bytes", text.len(), MAX_PROMPT_BYTES)?;
        let mut ids = Vec::new();
        self.encode_text(text, &mut ids)?;
        Ok(ids)
    }

    /// Whether the model says with this token that it has finished.
    pub fn is_end(&self, token: TokenId) -> bool {
        self.ends.contains(&token)
    }

    /// The tokens with which the model says that it has finished.
    pub fn end_tokens(&self) -> &[TokenId] {
        &self.ends
    }

    /// The token that begins every prompt.
    pub fn bos(&self) -> Option<TokenId> {
        self.packed().bos()
    }

    /// Where the file that the vocabulary comes from contradicts its tokens' names, and what holds: a line for the person, each.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.packed().notes()
    }

    /// The control tokens that a text spells, each once. They are text in it: nothing that is typed or pasted steers the model.
    pub fn markers_in<'a>(&self, text: &'a str) -> Vec<&'a str> {
        markers::find(text, |name| self.packed().control(name).is_some())
    }

    /// What to tell a person whose text spells control tokens, as a ready chat template does; none for other texts.
    pub(crate) fn marker_note(&self, text: &str) -> Option<String> {
        markers::note(&self.markers_in(text))
    }

    /// Tokens of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.packed().tokens()
    }

    /// What kind of token this is; none beyond the vocabulary.
    pub(crate) fn kind(&self, token: TokenId) -> Option<TokenKind> {
        ((token.0 as usize) < self.vocab_size()).then(|| self.packed().kind(token.0))
    }

    /// A token as the vocabulary has it: `▁` for a space, `<0x0A>` for a byte, a control token's name; nothing beyond the vocabulary.
    pub fn piece(&self, token: TokenId) -> &str {
        self.packed().text(token.0)
    }

    /// Whether every token that can enter a prompt has one of the `rows` of the model's embedding.
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

    /// Begins to turn generated tokens into text.
    pub(crate) fn stream(&self) -> TextStream<'_> {
        TextStream::new(self.packed())
    }

    /// The text of an answer's tokens. Control tokens that begin, end or pad a text say nothing, others their names; bytes that can
    /// be no character become U+FFFD.
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        let mut bytes = Vec::new();
        tokens.iter().for_each(|token| self.packed().say(*token, &mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes of any tokens, with every control token by its name.
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
    /// The vocabulary as bytes for [`Packed::open`]. What no text may become is in none of its tables. `source` says what it was
    /// made from and comes back from [`Packed::made_from`].
    ///
    /// # Errors
    /// [`TokenizerError::Damaged`] or [`TokenizerError::TooLarge`], naming the first thing that is wrong.
    pub fn pack(self, source: [u8; 16]) -> Result<Vec<u8>, TokenizerError> {
        packed::pack(self, source)
    }

    /// Reads a `tokenizer.json` file, of which no more than [`MAX_TOKENIZER_FILE_BYTES`] are taken into memory.
    ///
    /// # Errors
    /// As [`Vocabulary::from_tokenizer_json`], [`TokenizerError::Read`] and [`TokenizerError::NotAFile`]. None names the file.
    pub fn from_tokenizer_json_file(path: &Path) -> Result<Vocabulary, TokenizerError> {
        // Asked first: opening a pipe waits for whoever writes to it.
        let meta = std::fs::metadata(path).map_err(TokenizerError::Read)?;
        if !meta.is_file() {
            return Err(TokenizerError::NotAFile);
        }
        let size = usize::try_from(meta.len()).unwrap_or(usize::MAX);
        at_most("tokenizer.json", "bytes", size, MAX_TOKENIZER_FILE_BYTES)?;
        let file = File::open(path).map_err(TokenizerError::Read)?;
        let mut json = Vec::new();
        file.take(MAX_TOKENIZER_FILE_BYTES as u64 + 1).read_to_end(&mut json).map_err(TokenizerError::Read)?;
        let json = str::from_utf8(&json).map_err(|_| TokenizerError::Json("it is not UTF-8".to_owned()))?;
        Vocabulary::from_tokenizer_json(json)
    }
}

fn library(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Library(error.to_string())
}
