//! A vocabulary as data: the contents of a `tokenizer.json`, or of the tokenizer arrays of a GGUF
//! file, read but not yet used.
//!
//! Promise: [`Vocabulary::check`] finds everything that would make a tokenizer built from it wrong,
//! so that later steps can trust it.

use std::collections::BTreeMap;

use super::TokenizerError;
use super::roles::{Roles, is_control_name, is_unused_name};
use crate::id::TokenId;
use crate::limits::{MAX_MERGES, MAX_PIECE_BYTES, MAX_VOCABULARY_TOKENS};

/// The character that represents a space inside a piece (SentencePiece's mark, U+2581).
pub(super) const SPACE_MARK: char = '▁';
/// Opens a turn of a chat.
pub(super) const START_OF_TURN: &str = "<start_of_turn>";
/// Closes a turn of a chat; a model that generates it has finished its answer.
pub(super) const END_OF_TURN: &str = "<end_of_turn>";

/// The purpose of a token. The values are those of `tokenizer.ggml.token_type` (and of
/// SentencePiece).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum TokenKind {
    /// A piece of text, formed by merges.
    Normal = 1,
    /// Stands for text that the vocabulary cannot represent.
    Unknown = 2,
    /// Controls the model; no text ever becomes one.
    Control = 3,
    /// A piece of text that is cut out whole, before any merge.
    UserDefined = 4,
    /// A row without a meaning.
    Unused = 5,
    /// One byte, `<0x00>` to `<0xFF>`, for characters without a piece.
    Byte = 6,
}

impl TryFrom<i32> for TokenKind {
    type Error = TokenizerError;

    fn try_from(value: i32) -> Result<TokenKind, TokenizerError> {
        match value {
            1 => Ok(TokenKind::Normal),
            2 => Ok(TokenKind::Unknown),
            3 => Ok(TokenKind::Control),
            4 => Ok(TokenKind::UserDefined),
            5 => Ok(TokenKind::Unused),
            6 => Ok(TokenKind::Byte),
            other => Err(TokenizerError::Kind(other)),
        }
    }
}

impl TokenKind {
    /// The kind of a token derived from its text alone, for sources that do not specify it.
    pub(crate) fn by_name(text: &str) -> TokenKind {
        if byte_of(text).is_some() {
            TokenKind::Byte
        } else if is_unused_name(text) {
            TokenKind::Unused
        } else if is_control_name(text) {
            TokenKind::Control
        } else if is_run(&text.replace(' ', "▁")) {
            TokenKind::UserDefined
        } else {
            TokenKind::Normal
        }
    }

    /// Whether text can become this token through merges or as a whole piece.
    pub(super) fn is_text(self) -> bool {
        matches!(self, TokenKind::Normal | TokenKind::UserDefined)
    }
}

/// Every token of a model with its text, rank and kind. The index of a token is its id.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    /// The text of every token; `▁` stands for a space.
    pub tokens: Vec<String>,
    /// The rank of every token: the higher, the earlier it is formed. As many as `tokens`.
    pub scores: Vec<f32>,
    /// The kind of every token. As many as `tokens`.
    pub kinds: Vec<TokenKind>,
    /// The pairs that merge, in order of precedence. Empty if the source lists none (SentencePiece,
    /// GGUF): they are then derived from `scores`.
    pub(crate) merges: Vec<(String, String)>,
    /// Begins a text, according to the source. This id may be wrong, even out of range, and so may
    /// the other ids: `<bos>` and the tokens that end an answer are found by name.
    pub(crate) bos: Option<TokenId>,
    /// Ends a text, according to the source.
    pub(crate) eos: Option<TokenId>,
    /// Further tokens that end an answer, according to the source: the end of a turn, or a list.
    pub(crate) ends: Vec<TokenId>,
    /// Stands for text that the vocabulary cannot represent.
    pub(crate) unknown: Option<TokenId>,
    /// Fills rows of a batch.
    pub(crate) padding: Option<TokenId>,
    /// Whether the source asks for prompts to begin with `bos`. They begin with it regardless.
    pub(crate) add_bos: bool,
}

/// The byte represented by a token such as `<0x0A>`.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

impl Vocabulary {
    /// The id of the first token with this text, in time linear in the vocabulary.
    pub fn find(&self, text: &str) -> Option<TokenId> {
        self.tokens.iter().position(|token| token == text).map(|id| TokenId(id as u32))
    }

    /// Makes the vocabulary exactly as long as the model's embedding. Rows without a token get an
    /// unused one. Tokens without a row are removed if no text can become them (Gemma 3's
    /// `<image_soft_token>` has no row in the small models).
    ///
    /// # Errors
    /// [`TokenizerError::BeyondEmbedding`] if a token that text can become has no row.
    pub(crate) fn fit(&mut self, rows: usize) -> Result<(), TokenizerError> {
        self.normalise();
        let last = self.last_needed().map_or(0, |last| last.0 as usize);
        if last >= rows {
            let text = self.tokens.get(last).cloned().unwrap_or_default();
            return Err(TokenizerError::BeyondEmbedding { id: last, text, rows });
        }
        let from = self.tokens.len();
        let removed = self.tokens.split_off(rows.min(from));
        if !removed.is_empty() {
            let stays = |text: &str| !removed.iter().any(|token| token == text);
            self.merges.retain(|(left, right)| {
                stays(left) && stays(right) && stays(&format!("{left}{right}"))
            });
        }
        let has_row = |id: &TokenId| (id.0 as usize) < rows;
        self.unknown = self.unknown.filter(has_row);
        self.padding = self.padding.filter(has_row);
        self.tokens.extend((from..rows).map(|id| format!("[PAD{id}]")));
        self.scores.resize(rows, 0.0);
        self.kinds.resize(rows, TokenKind::Unused);
        Ok(())
    }

    /// The last token that needs a row of the embedding: one that can come from a text, a chat or
    /// the end of an answer.
    pub(super) fn last_needed(&self) -> Option<TokenId> {
        let kind = |id: usize| self.kinds.get(id).copied().unwrap_or(TokenKind::Normal);
        let is_idle = |id: usize| {
            matches!(kind(id), TokenKind::Control | TokenKind::Unused | TokenKind::Unknown)
        };
        let text = (0..self.tokens.len()).rfind(|id| !is_idle(*id)).map(|id| TokenId(id as u32));
        let roles = Roles::of(self);
        [text, roles.bos].into_iter().chain(roles.turns).flatten().chain(roles.ends).max()
    }

    /// Checks that a tokenizer can be built: sizes agree and stay within limits, no two pieces of
    /// text are equal, every byte can be represented. (The merges are checked where they are used.)
    ///
    /// # Errors
    /// [`TokenizerError::TooLarge`] or [`TokenizerError::Damaged`], naming the first fault.
    pub(crate) fn check(&self) -> Result<(), TokenizerError> {
        let damaged = |line: String| Err(TokenizerError::Damaged(line));
        let count = self.tokens.len();
        at_most("vocabulary", "tokens", count, MAX_VOCABULARY_TOKENS)?;
        at_most("vocabulary", "merges", self.merges.len(), MAX_MERGES)?;
        if self.scores.len() != count || self.kinds.len() != count {
            return damaged(format!(
                "{count} tokens, {} scores, {} kinds",
                self.scores.len(),
                self.kinds.len()
            ));
        }
        if Roles::of(self).bos.is_none() {
            return damaged("it has no <bos>, with which every prompt must begin".to_owned());
        }
        let longest = self.merges.iter().map(|(left, right)| left.len().max(right.len())).max();
        at_most("longest half of a merge", "bytes", longest.unwrap_or(0), MAX_PIECE_BYTES)?;
        let mut pieces = BTreeMap::new();
        let mut bytes = [false; 256];
        for (id, (text, kind)) in self.tokens.iter().zip(&self.kinds).enumerate() {
            at_most("longest piece of the vocabulary", "bytes", text.len(), MAX_PIECE_BYTES)?;
            if self.scores[id].is_nan() {
                return damaged(format!("token {id} ({text:?}) has no score"));
            }
            match kind {
                TokenKind::Byte => match byte_of(text) {
                    Some(byte) => bytes[byte as usize] = true,
                    None => {
                        return damaged(format!(
                            "byte token {id} is {text:?}, not of the form <0x0A>"
                        ));
                    }
                },
                TokenKind::Normal | TokenKind::UserDefined => {
                    if text.is_empty() {
                        return damaged(format!("token {id} has no text"));
                    }
                    if let Some(first) = pieces.insert(text.as_str(), id) {
                        return damaged(format!("tokens {first} and {id} are both {text:?}"));
                    }
                }
                TokenKind::Unknown | TokenKind::Control | TokenKind::Unused => {}
            }
        }
        let is_piece = |text: &str| pieces.contains_key(text);
        if !is_piece(&SPACE_MARK.to_string()) {
            return damaged(format!("it has no piece for the space ({SPACE_MARK})"));
        }
        // An ASCII character that is a piece itself never falls back to its byte token (Gemma 2 has
        // no <0x09>).
        let is_sayable = |byte: u8| {
            bytes[byte as usize] || (byte.is_ascii() && is_piece(&char::from(byte).to_string()))
        };
        if let Some(byte) = (0..=u8::MAX).find(|byte| !is_sayable(*byte)) {
            return damaged(format!(
                "it has no byte token <0x{byte:02X}>, so some text could not be encoded"
            ));
        }
        Ok(())
    }

    /// Normalizes the differences between files, by the tokens' names: control tokens get the
    /// control type; bytes get the byte type and are written in capitals; runs of blanks become
    /// whole pieces; and runs of plain spaces, as in GGUF files, are written with marks.
    pub(super) fn normalise(&mut self) {
        let Roles { bos, padding, unknown, ends, .. } = Roles::of(self);
        let roles: Vec<TokenId> = bos.into_iter().chain(padding).chain(ends).collect();
        for (id, (text, kind)) in (0..).zip(self.tokens.iter_mut().zip(&mut self.kinds)) {
            let is_role = roles.contains(&TokenId(id)) || is_control_name(text);
            if is_role && !matches!(kind, TokenKind::Unknown | TokenKind::Unused) {
                *kind = TokenKind::Control;
            }
            if !text.is_empty() && text.bytes().all(|byte| byte == b' ') {
                *text = text.replace(' ', "▁");
            }
            if !kind.is_text() && is_run(text) {
                *kind = TokenKind::UserDefined;
            }
            if let Some(byte) = byte_of(text) {
                *kind = TokenKind::Byte;
                *text = format!("<0x{byte:02X}>");
            }
        }
        if let Some(kind) = unknown.and_then(|id| self.kinds.get_mut(id.0 as usize)) {
            *kind = TokenKind::Unknown;
        }
    }
}

/// Whether a text is a run of newlines or tabs, or of two or more space marks. Models generate
/// them, so they are text, whatever type a file gives them.
fn is_run(text: &str) -> bool {
    ["\n", "\t", "▁"]
        .iter()
        .any(|blank| !text.is_empty() && text != "▁" && text.trim_start_matches(blank).is_empty())
}

pub(super) fn at_most(
    what: &'static str,
    unit: &'static str,
    found: usize,
    limit: usize,
) -> Result<(), TokenizerError> {
    if found > limit { Err(TokenizerError::TooLarge { what, unit, found, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message of `check` after a valid vocabulary was damaged.
    fn said(damage: impl FnOnce(&mut Vocabulary)) -> String {
        let mut vocabulary = Vocabulary::synthetic(600, 1);
        vocabulary.check().unwrap();
        damage(&mut vocabulary);
        vocabulary.check().unwrap_err().to_string()
    }

    #[test]
    fn every_damage_is_one_clear_line() {
        assert!(
            said(|vocabulary| vocabulary.scores.truncate(599))
                .contains("600 tokens, 599 scores, 600 kinds")
        );
        assert!(said(|vocabulary| vocabulary.kinds.truncate(599)).contains("599 kinds"));
        assert!(said(|vocabulary| vocabulary.scores[550] = f32::NAN).contains("token 550"));
        assert!(
            said(|vocabulary| vocabulary.tokens[550] = vocabulary.tokens[551].clone())
                .contains("tokens 550 and 551")
        );
        assert!(
            said(|vocabulary| vocabulary.tokens[550].clear()).contains("token 550 has no text")
        );
        assert!(
            said(|vocabulary| vocabulary.tokens[550] = "x".repeat(MAX_PIECE_BYTES + 1))
                .contains("at most 512")
        );
        assert!(
            said(|vocabulary| vocabulary.kinds[550] = TokenKind::Byte).contains("byte token 550")
        );
        assert!(
            said(|vocabulary| (vocabulary.tokens[2], vocabulary.bos) = ("<s>".to_owned(), None))
                .contains("has no <bos>")
        );
        let place = |text| Vocabulary::synthetic(600, 1).find(text).unwrap().0 as usize;
        assert!(
            said(|vocabulary| vocabulary.tokens[place("▁")] = "other".to_owned())
                .contains("space (▁)")
        );
        assert!(
            said(|vocabulary| vocabulary.kinds[place("<0xC3>")] = TokenKind::Unused)
                .contains("<0xC3>")
        );
        let empty = Vocabulary {
            tokens: vec![],
            scores: vec![],
            kinds: vec![],
            ..Vocabulary::synthetic(512, 1)
        };
        assert!(empty.check().is_err());
    }

    #[test]
    fn a_byte_that_is_a_piece_needs_no_byte_token() {
        let mut vocabulary = Vocabulary::synthetic(600, 1);
        let tab = vocabulary.find("<0x09>").unwrap().0 as usize;
        vocabulary.kinds[tab] = TokenKind::Unused;
        vocabulary.check().unwrap();
    }

    #[test]
    fn kinds_are_ggufs_numbers() {
        for number in 1..=6 {
            assert_eq!(
                TokenKind::try_from(number).unwrap() as i32,
                number,
                "files of others would be misread"
            );
        }
        assert_eq!(TokenKind::try_from(4).unwrap(), TokenKind::UserDefined);
        assert!([0, 7, -1].iter().all(|number| TokenKind::try_from(*number).is_err()));
    }

    #[test]
    fn byte_tokens_are_told_by_their_form() {
        assert_eq!(byte_of("<0x0A>"), Some(10));
        assert_eq!(byte_of("<0xff>"), Some(255));
        assert!(
            ["<0x0>", "<0x+A>", "<0x0A", "0x0A", "<0x000A>", "<0xé>"]
                .iter()
                .all(|text| byte_of(text).is_none())
        );
    }
}
