//! The vocabulary inside a GGUF, as llama.cpp writes it for SentencePiece models.

use super::read::Gguf;
use super::value::{Elements, Kind, integer};
use crate::id::TokenId;
use crate::limits::MAX_VOCABULARY_TOKENS;
use crate::model::fault::{Fault, FileError};
use crate::tokenizer::{TokenKind, Vocabulary};

impl Gguf {
    /// The vocabulary; none where the file has no tokens. One that does not have a token for every row of the embedding is
    /// refused: it belongs to another model.
    pub fn vocabulary(&self) -> Result<Option<Vocabulary>, FileError> {
        let Some(count) = self.vocabulary_size()? else { return Ok(None) };
        let model = self.text(&key("model"))?.unwrap_or("llama");
        if model != "llama" {
            let shown: String = model.chars().filter(|c| !c.is_control()).take(40).collect();
            let message = format!("tokenizer {shown}: Gemma 3's is llama (SentencePiece); convert the model anew");
            return Err(self.fault(Fault::Unsupported(message)));
        }
        let Some(tokens) = self.strings(&key("tokens"))? else { return Ok(None) };
        let tokens: Vec<String> = tokens.map(str::to_owned).collect();
        let merges = match self.strings(&key("merges"))? {
            None => Vec::new(),
            Some(merges) => merges.map(pair).collect::<Option<_>>().ok_or_else(|| self.wrong_type(&key("merges"), "pairs"))?,
        };
        Ok(Some(Vocabulary {
            tokens,
            scores: self.scores(count)?,
            kinds: self.kinds(count)?,
            merges,
            bos: self.id("bos_token_id", count)?,
            eos: self.id("eos_token_id", count)?,
            unknown: self.id("unknown_token_id", count)?,
            padding: self.id("padding_token_id", count)?,
            add_bos: self.boolean(&key("add_bos_token"))?.unwrap_or(true),
        }))
    }

    /// The number of tokens, compared with the rows of the embedding; none where the file has no vocabulary.
    pub(in crate::model) fn vocabulary_size(&self) -> Result<Option<usize>, FileError> {
        let Some(Elements { count, .. }) = self.array(&key("tokens"))? else { return Ok(None) };
        let rows = self.tensors().get("token_embd.weight").and_then(|tensor| tensor.matrix()).map_or(0, |(rows, _)| rows);
        if count != rows || count > MAX_VOCABULARY_TOKENS {
            let message = format!("the vocabulary has {count} tokens, the embedding {rows} rows: they are of different models");
            return Err(self.fault(Fault::Damaged(message)));
        }
        Ok(Some(count))
    }

    fn scores(&self, count: usize) -> Result<Vec<f32>, FileError> {
        let key = key("scores");
        match self.array(&key)? {
            None => Ok(vec![0.0; count]),
            Some(Elements { kind: Kind::F32, count: length, bytes }) if length == count => {
                let scores: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
                if scores.iter().any(|score| score.is_nan()) { Err(self.wrong_type(&key, "numbers")) } else { Ok(scores) }
            }
            Some(_) => Err(self.wrong_type(&key, &format!("one F32 for each of the {count} tokens"))),
        }
    }

    fn kinds(&self, count: usize) -> Result<Vec<TokenKind>, FileError> {
        let key = key("token_type");
        let wrong = || self.wrong_type(&key, &format!("a token type (1 to 6) for each of the {count} tokens"));
        match self.array(&key)? {
            None => Ok(vec![TokenKind::Normal; count]),
            Some(Elements { kind: kind @ (Kind::I32 | Kind::U32), count: length, bytes }) if length == count => bytes
                .chunks_exact(4)
                .map(|number| integer(kind, number).and_then(|n| i32::try_from(n).ok()))
                .map(|number| number.and_then(|n| TokenKind::try_from(n).ok()).ok_or_else(wrong))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    fn id(&self, name: &str, count: usize) -> Result<Option<TokenId>, FileError> {
        let Some(id) = self.integer(&key(name))? else { return Ok(None) };
        match usize::try_from(id) {
            Ok(id) if id < count => Ok(Some(TokenId(id as u32))),
            // llama.cpp's files say "none" so.
            _ if id == i128::from(u32::MAX) || id == -1 => Ok(None),
            _ => Err(self.wrong_type(&key(name), &format!("one of the {count} tokens"))),
        }
    }
}

fn key(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

/// Two pieces with a space between. Pieces hold no spaces themselves: SentencePiece writes `▁` for them.
fn pair(text: &str) -> Option<(String, String)> {
    let (left, right) = text.split_once(' ')?;
    (!left.is_empty() && !right.is_empty() && !right.contains(' ')).then(|| (left.to_owned(), right.to_owned()))
}
