//! Text to token ids and back, as Gemma does it.
//!
//! A text becomes ids in three steps: pieces that the vocabulary defines as whole (runs of newlines, HTML tags) are cut out,
//! spaces become `▁`, and byte-pair merges join characters into pieces; a character without a piece is spelled
//! in bytes. The crate `tokenizers` does these; what surrounds them is here.
//!
//! Promises:
//! - The ids are those of Hugging Face's `tokenizer.json` for the same text, whether the tokenizer was made from that
//!   file or from a GGUF file's vocabulary.
//! - Text never becomes a control token: the pipeline does not know them. Only this module places them, as ids.
//! - Decoding what was encoded gives the text back, except that `▁` itself (U+2581) comes back as a space.

mod error;
mod json;
mod merges;
mod synthetic;
#[cfg(test)]
mod tests;
mod text;
mod vocabulary;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::Replace;
use tokenizers::{AddedToken, DecoderWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl};

pub use error::TokenizerError;
pub use synthetic::MIN_SYNTHETIC_TOKENS;
pub use text::TextStream;
pub use vocabulary::{TokenKind, Vocabulary};

use crate::id::TokenId;
use crate::limits::{MAX_PROMPT_BYTES, MAX_TOKENIZER_FILE_BYTES};
use text::Sayings;
use vocabulary::{END_OF_TURN, START_OF_TURN, at_most};

/// After spaces have become `▁` there is nothing left for Gemma's pre-tokenizer (a split at spaces) to do, and ids are
/// turned into text by [`Sayings`], so neither is set.
type Pipeline = TokenizerImpl<BPE, Replace, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Who speaks in a turn of a chat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The person.
    User,
    /// The model, in an answer that it gave earlier.
    Model,
}

/// One turn of a chat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said; blanks around it do not count.
    pub text: String,
}

/// A vocabulary in use.
pub struct Tokenizer {
    pipeline: Pipeline,
    sayings: Sayings,
    bos: Option<TokenId>,
    add_bos: bool,
    start_of_turn: Option<TokenId>,
    end_of_turn: Option<TokenId>,
    ends: Vec<TokenId>,
    last_needed: Option<(TokenId, String)>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json` file.
    ///
    /// # Errors
    /// As [`Tokenizer::from_json`], [`TokenizerError::Read`] and [`TokenizerError::NotAFile`]. None names the file.
    pub fn from_json_file(path: &Path) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::from_vocabulary(&Vocabulary::from_tokenizer_json_file(path)?)
    }

    /// Reads the contents of a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Vocabulary::from_tokenizer_json`].
    pub fn from_json(json: &str) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::from_vocabulary(&Vocabulary::from_tokenizer_json(json)?)
    }

    /// Makes a tokenizer of a vocabulary, wherever it comes from. What no text may become is left out of the pipeline.
    ///
    /// # Errors
    /// [`TokenizerError::Damaged`] or [`TokenizerError::TooLarge`], naming the first thing that is wrong.
    pub fn from_vocabulary(vocabulary: &Vocabulary) -> Result<Tokenizer, TokenizerError> {
        let mut vocabulary = vocabulary.clone();
        vocabulary.normalise();
        vocabulary.check()?;
        let control = |text: &str| {
            let id = vocabulary.find(text)?;
            (vocabulary.kinds[id.0 as usize] == TokenKind::Control).then_some(id)
        };
        let (start_of_turn, end_of_turn) = (control(START_OF_TURN), control(END_OF_TURN));
        Ok(Tokenizer {
            pipeline: pipeline(&vocabulary)?,
            sayings: Sayings::of(&vocabulary),
            bos: vocabulary.bos,
            add_bos: vocabulary.add_bos,
            start_of_turn,
            end_of_turn,
            ends: [vocabulary.eos, control("<eos>"), end_of_turn].into_iter().flatten().collect(),
            last_needed: vocabulary.last_needed().map(|id| (id, vocabulary.tokens[id.0 as usize].clone())),
        })
    }

    /// The ids of a prompt as it is: `bos` where the vocabulary wants it, then the text. `<eos>` and the like in the
    /// text are plain characters.
    ///
    /// # Errors
    /// [`TokenizerError::TooLarge`] beyond [`MAX_PROMPT_BYTES`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        at_most("prompt", "bytes", text.len(), MAX_PROMPT_BYTES)?;
        let mut ids: Vec<TokenId> = self.bos.filter(|_| self.add_bos).into_iter().collect();
        self.encode_text(text, &mut ids)?;
        Ok(ids)
    }

    /// The ids of a chat in Gemma's form, ready for the model to speak:
    ///
    /// ```text
    /// <bos><start_of_turn>user
    /// {text}<end_of_turn>
    /// <start_of_turn>model
    /// ```
    ///
    /// # Errors
    /// [`TokenizerError::NoTurnTokens`] for a vocabulary without them, [`TokenizerError::TurnOrder`] where the turns do
    /// not alternate or the user's is not first and last, [`TokenizerError::TooLarge`] beyond [`MAX_PROMPT_BYTES`].
    pub fn encode_chat(&self, turns: &[Turn]) -> Result<Vec<TokenId>, TokenizerError> {
        let start = self.start_of_turn.ok_or(TokenizerError::NoTurnTokens(START_OF_TURN))?;
        let end = self.end_of_turn.ok_or(TokenizerError::NoTurnTokens(END_OF_TURN))?;
        let expected = [Role::User, Role::Model].into_iter().cycle();
        if let Some(at) = turns.iter().zip(expected).position(|(turn, role)| turn.role != role) {
            return Err(TokenizerError::TurnOrder(at + 1));
        }
        if turns.last().is_none_or(|turn| turn.role == Role::Model) {
            return Err(TokenizerError::TurnOrder(turns.len().max(1)));
        }
        at_most("chat", "bytes", turns.iter().map(|turn| turn.text.len()).sum(), MAX_PROMPT_BYTES)?;
        let mut ids: Vec<TokenId> = self.bos.into_iter().collect();
        for turn in turns {
            let speaker = match turn.role {
                Role::User => "user",
                Role::Model => "model",
            };
            ids.push(start);
            self.encode_text(&format!("{speaker}\n{}", trim(&turn.text)), &mut ids)?;
            ids.push(end);
            self.encode_text("\n", &mut ids)?;
        }
        ids.push(start);
        self.encode_text("model\n", &mut ids)?;
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

    /// Tokens of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.sayings.len()
    }

    /// Whether every token that can enter a prompt has one of the `rows` of the model's embedding.
    ///
    /// # Errors
    /// [`TokenizerError::BeyondEmbedding`].
    pub fn check_vocabulary(&self, rows: usize) -> Result<(), TokenizerError> {
        match &self.last_needed {
            Some((id, text)) if id.0 as usize >= rows => {
                Err(TokenizerError::BeyondEmbedding { id: id.0 as usize, text: text.clone(), rows })
            }
            _ => Ok(()),
        }
    }

    /// Begins to turn generated tokens into text.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream::new(&self.sayings)
    }

    /// The text of tokens. Control tokens say nothing; bytes that can be no character become U+FFFD.
    pub fn decode(&self, tokens: &[TokenId]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| self.sayings.get(*token)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn encode_text(&self, text: &str, ids: &mut Vec<TokenId>) -> Result<(), TokenizerError> {
        let encoding = self.pipeline.encode_fast(text, false).map_err(library)?;
        ids.extend(encoding.get_ids().iter().map(|id| TokenId(*id)));
        Ok(())
    }
}

impl Vocabulary {
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

/// What Python's `str.strip` takes away, which Gemma's chat template uses.
fn trim(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character))
}

fn library(error: tokenizers::Error) -> TokenizerError {
    TokenizerError::Library(error.to_string())
}

/// The crate's part: whole pieces, spaces, merges, bytes. It is given nothing that no text may become.
fn pipeline(vocabulary: &Vocabulary) -> Result<Pipeline, TokenizerError> {
    let text = |id: u32| vocabulary.tokens[id as usize].clone();
    let merges = merges::of(vocabulary)?.iter().map(|merge| (text(merge.left), text(merge.right))).collect();
    let is_known = |kind: TokenKind| kind.is_text() || kind == TokenKind::Byte;
    let known = vocabulary.tokens.iter().zip(0_u32..).zip(&vocabulary.kinds).filter(|(_, kind)| is_known(**kind));
    let pieces: Vocab = known.map(|((text, id), _)| (text.clone(), id)).collect();
    // The crate's cache of words would hold whole prompts, for Gemma does not split text into words.
    let model = BPE::builder().vocab_and_merges(pieces, merges).byte_fallback(true).fuse_unk(true).cache_capacity(0);
    let mut pipeline = Pipeline::new(model.build().map_err(library)?);
    pipeline.with_normalizer(Some(Replace::new(" ", "▁").map_err(library)?)).map_err(library)?;
    let whole = vocabulary.tokens.iter().zip(&vocabulary.kinds).filter(|(_, kind)| **kind == TokenKind::UserDefined);
    let whole = whole.map(|(text, _)| AddedToken::from(text.clone(), false).normalized(false));
    pipeline.add_tokens(whole).map_err(library)?;
    Ok(pipeline)
}
