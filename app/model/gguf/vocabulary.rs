//! The vocabulary inside a GGUF, as llama.cpp writes it for SentencePiece models.

use super::read::Gguf;
use super::value::{Elements, Kind, integer};
use crate::id::TokenId;
use crate::limits::{MAX_END_TOKENS, MAX_VOCABULARY_BYTES, MAX_VOCABULARY_TOKENS};
use crate::model::fault::{Fault, FileError};
use crate::tokenizer::{TokenKind, Vocabulary};

impl Gguf {
    /// The vocabulary; `None` if the file has no tokens. Refused unless it has one token per row of
    /// the embedding: otherwise it belongs to another model.
    pub fn vocabulary(&self) -> Result<Option<Vocabulary>, FileError> {
        let Some(count) = self.vocabulary_size()? else { return Ok(None) };
        let model = self.text(&key("model"))?.unwrap_or("llama");
        if model != "llama" {
            let shown: String = model.chars().filter(|c| !c.is_control()).take(40).collect();
            let message = format!(
                "tokenizer {shown}: Gemma 3's is llama (SentencePiece); convert the model again"
            );
            return Err(self.fault(Fault::Unsupported(message)));
        }
        let Some(tokens) = self.pieces("tokens")? else { return Ok(None) };
        let tokens: Vec<String> = tokens.map(str::to_owned).collect();
        let merges = match self.pieces("merges")? {
            None => Vec::new(),
            Some(merges) => merges
                .map(pair)
                .collect::<Option<_>>()
                .ok_or_else(|| self.wrong_type(&key("merges"), "pairs"))?,
        };
        let kinds = self.kinds(&tokens)?;
        let id = |name| self.ids(name).into_iter().next();
        // End of a turn, and end of a message that waits for another party's answer.
        let ends =
            ["eos_token_id", "eot_token_id", "eom_token_id"].map(|name| self.ids(name)).concat();
        Ok(Some(Vocabulary {
            tokens,
            scores: self.scores(count)?,
            kinds,
            merges,
            bos: id("bos_token_id"),
            eos: ends.first().copied(),
            ends: ends.into_iter().skip(1).collect(),
            unknown: id("unknown_token_id"),
            padding: id("padding_token_id"),
            add_bos: !matches!(self.boolean(&key("add_bos_token")), Ok(Some(false))),
        }))
    }

    /// The strings at a key, in place. Refuses a file whose strings would fill the memory before it
    /// copies any.
    fn pieces(&self, name: &str) -> Result<Option<impl Iterator<Item = &str>>, FileError> {
        let key = key(name);
        let bytes = self.array(&key)?.map_or(0, |array| array.bytes.len());
        if bytes > MAX_VOCABULARY_BYTES {
            let message = format!(
                "metadata {key} has {bytes} bytes; this build takes at most {MAX_VOCABULARY_BYTES}"
            );
            return Err(self.fault(Fault::Unsupported(message)));
        }
        self.strings(&key)
    }

    /// The number of tokens, checked against the rows of the embedding; `None` if the file has no
    /// vocabulary.
    pub(in crate::model) fn vocabulary_size(&self) -> Result<Option<usize>, FileError> {
        let Some(Elements { count, .. }) = self.array(&key("tokens"))? else { return Ok(None) };
        let rows = self
            .tensors()
            .get("token_embd.weight")
            .and_then(|tensor| tensor.matrix())
            .map_or(0, |(rows, _)| rows);
        if count != rows || count > MAX_VOCABULARY_TOKENS {
            let message = format!(
                "the vocabulary has {count} tokens, but the embedding {rows} rows: they belong to different models"
            );
            return Err(self.fault(Fault::Damaged(message)));
        }
        Ok(Some(count))
    }

    fn scores(&self, count: usize) -> Result<Vec<f32>, FileError> {
        let key = key("scores");
        match self.array(&key)? {
            None => Ok(vec![0.0; count]),
            Some(Elements { kind: Kind::F32, count: length, bytes }) if length == count => {
                let scores: Vec<f32> = bytes
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect();
                if scores.iter().any(|score| score.is_nan()) {
                    Err(self.wrong_type(&key, "numbers"))
                } else {
                    Ok(scores)
                }
            }
            Some(_) => {
                Err(self.wrong_type(&key, &format!("one F32 for each of the {count} tokens")))
            }
        }
    }

    /// The kind of every token; derived from its name if the file specifies none.
    fn kinds(&self, tokens: &[String]) -> Result<Vec<TokenKind>, FileError> {
        let (key, count) = (key("token_type"), tokens.len());
        let wrong = || {
            self.wrong_type(&key, &format!("a token type (1 to 6) for each of the {count} tokens"))
        };
        match self.array(&key)? {
            None => Ok(tokens.iter().map(|token| TokenKind::by_name(token)).collect()),
            Some(Elements { kind: kind @ (Kind::I32 | Kind::U32), count: length, bytes })
                if length == count =>
            {
                bytes
                    .chunks_exact(4)
                    .map(|number| integer(kind, number).and_then(|n| i32::try_from(n).ok()))
                    .map(|number| {
                        number.and_then(|n| TokenKind::try_from(n).ok()).ok_or_else(wrong)
                    })
                    .collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    /// The ids at a key, a single one or a list, whether or not the vocabulary has them:
    /// implausible ids are overruled by the tokens' names later. Returns at most as many ids of a
    /// list as could be used. A value that is not an id becomes an id that no vocabulary has.
    fn ids(&self, name: &str) -> Vec<TokenId> {
        let key = key(name);
        let numbers = match (self.integer(&key), self.array(&key)) {
            (Ok(number), _) => number.map(Some).into_iter().collect(),
            (_, Ok(Some(Elements { kind, bytes, .. }))) => {
                let each = kind.fixed_bytes().unwrap_or(1);
                bytes
                    .chunks_exact(each)
                    .take(MAX_END_TOKENS)
                    .map(|number| integer(kind, number))
                    .collect()
            }
            _ => vec![None],
        };
        let numbers = numbers.into_iter().map(|number: Option<i128>| number.unwrap_or(i128::MAX));
        // llama.cpp's files encode "none" like this.
        let meant = numbers.filter(|number| *number != -1 && *number != i128::from(u32::MAX));
        meant.map(|number| TokenId(u32::try_from(number).unwrap_or(u32::MAX))).collect()
    }
}

fn key(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

/// Two pieces separated by a space. Pieces contain no spaces themselves: SentencePiece writes `▁`
/// for them.
fn pair(text: &str) -> Option<(String, String)> {
    let (left, right) = text.split_once(' ')?;
    (!left.is_empty() && !right.is_empty() && !right.contains(' '))
        .then(|| (left.to_owned(), right.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Format;
    use crate::model::gguf::{
        Entry, TensorPlan, Writer, model_entries, tensor_names, vocabulary_entries,
    };
    use crate::model::synth::Shape;
    use crate::model::weight::Bytes;
    use crate::tokenizer::Tokenizer;

    /// The vocabulary read from a file whose vocabulary metadata was changed.
    fn read(change: impl FnOnce(&mut Vec<(String, Entry<'_>)>)) -> Vocabulary {
        let vocabulary = Vocabulary::synthetic(512, 1);
        let mut config = Shape::Demo.config();
        (config.vocab, config.hidden, config.ffn, config.head_dim, config.heads) =
            (512, 32, 32, 32, 1);
        let mut entries = model_entries(&config, "tiny", 0);
        entries.extend(vocabulary_entries(&vocabulary));
        change(&mut entries);
        let plan = |(name, part): (String, crate::model::gguf::Part)| {
            TensorPlan::new(name, part.shape(&config), part.is_norm(), Format::F32).unwrap()
        };
        let plans: Vec<TensorPlan> =
            tensor_names(config.layers.len(), true).into_iter().map(plan).collect();
        let mut writer = Writer::new(Vec::new(), &entries, &plans).unwrap();
        plans.iter().for_each(|plan| writer.write(&vec![1; plan.bytes]).unwrap());
        let gguf =
            Gguf::parse(std::path::Path::new("tiny.gguf"), Bytes::new(writer.finish())).unwrap();
        gguf.vocabulary().unwrap().unwrap()
    }

    fn set<'a>(entries: &mut Vec<(String, Entry<'a>)>, name: &str, entry: Option<Entry<'a>>) {
        entries.retain(|(other, _)| *other != key(name));
        entries.extend(entry.map(|entry| (key(name), entry)));
    }

    fn ends(vocabulary: &Vocabulary) -> Vec<&str> {
        let tokenizer = Tokenizer::from_vocabulary(vocabulary).unwrap();
        tokenizer.end_tokens().iter().map(|id| vocabulary.tokens[id.0 as usize].as_str()).collect()
    }

    #[test]
    fn both_ends_are_found_however_a_file_names_them() {
        let turn = Vocabulary::synthetic(512, 1).find("<end_of_turn>").unwrap().0;
        let all = [
            vec![("eos_token_id", Some(Entry::U32(1)))],
            vec![("eos_token_id", Some(Entry::U32(turn)))],
            vec![("eos_token_id", None)],
            vec![("eos_token_id", Some(Entry::I32s(vec![1, turn as i32])))],
            vec![("eos_token_id", Some(Entry::U32(turn))), ("eot_token_id", Some(Entry::U32(1)))],
            vec![("eos_token_id", Some(Entry::U32(u32::MAX)))],
            vec![("eos_token_id", Some(Entry::I32s(vec![-1])))],
        ];
        for changes in all {
            let said = format!("{changes:?}");
            let read = read(|entries| {
                changes.into_iter().for_each(|(name, entry)| set(entries, name, entry))
            });
            assert_eq!(ends(&read), ["<eos>", "<end_of_turn>"], "{said}");
            assert_eq!(Tokenizer::from_vocabulary(&read).unwrap().notes().count(), 0, "{said}");
        }
        let third = read(|entries| {
            set(entries, "eos_token_id", Some(Entry::I32s(vec![1, turn as i32, 7])))
        });
        assert_eq!(ends(&third), ["<eos>", "<end_of_turn>", "<unused2>"]);
    }

    #[test]
    fn ids_that_cannot_be_meant_are_said_and_not_followed() {
        for name in ["bos_token_id", "eos_token_id", "eot_token_id"] {
            for entry in [
                Entry::U32(512),
                Entry::U32(400),
                Entry::F32(2.0),
                Entry::Text("2".to_owned()),
                Entry::I32s(vec![-7]),
            ] {
                let said = format!("{name} {entry:?}");
                let read = read(|entries| set(entries, name, Some(entry)));
                let tokenizer = Tokenizer::from_vocabulary(&read).unwrap();
                assert_eq!(
                    (tokenizer.bos(), ends(&read)),
                    (Some(TokenId(2)), vec!["<eos>", "<end_of_turn>"]),
                    "{said}"
                );
                assert_eq!(tokenizer.notes().count(), 1, "{said}");
            }
        }
        let many =
            read(|entries| set(entries, "eos_token_id", Some(Entry::I32s((400..500).collect()))));
        assert!(
            (1..=8).contains(&Tokenizer::from_vocabulary(&many).unwrap().notes().count()),
            "a console must not be flooded"
        );
    }

    #[test]
    fn a_prompt_begins_with_bos_once_whatever_add_bos_token_is() {
        for entry in [Some(Entry::Bool(false)), Some(Entry::Bool(true)), Some(Entry::U32(0)), None]
        {
            let said = format!("{entry:?}");
            let read = read(|entries| set(entries, "add_bos_token", entry));
            let tokenizer = Tokenizer::from_vocabulary(&read).unwrap();
            let ids = tokenizer.encode_prompt("<bos>the").unwrap();
            assert_eq!(ids.iter().filter(|id| **id == TokenId(2)).count(), 1, "{said}");
            assert_eq!(
                (ids[0], tokenizer.notes().count()),
                (TokenId(2), usize::from(said.contains("false"))),
                "{said}"
            );
        }
    }

    #[test]
    fn without_types_names_say_what_is_what() {
        let read = read(|entries| set(entries, "token_type", None));
        let right = Tokenizer::from_vocabulary(&Vocabulary::synthetic(512, 1)).unwrap();
        let found = Tokenizer::from_vocabulary(&read).unwrap();
        for text in ["the  state\n\n\tof <eos><0x0A>", "🙂 <unused1> <mask>"] {
            assert_eq!(
                found.encode_prompt(text).unwrap(),
                right.encode_prompt(text).unwrap(),
                "{text:?}"
            );
        }
    }
}
