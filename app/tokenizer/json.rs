//! Reads a `tokenizer.json` in Hugging Face's format into a [`Vocabulary`].
//!
//! Promise: accepts only a file whose pipeline is Gemma's (spaces become `▁`, byte-level fallback,
//! nothing else), because then the vocabulary alone determines the encoding. Refuses any other
//! file, stating what was found and what is required.

use core::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

use super::error::clipped;
use super::merges;
use super::roles::is_unused_name;
use super::vocabulary::{at_most, byte_of};
use super::{TokenKind, TokenizerError, Vocabulary};
use crate::id::TokenId;
use crate::limits::{MAX_PIECE_BYTES, MAX_TOKENIZER_FILE_BYTES, MAX_VOCABULARY_TOKENS};

/// The score of a piece that no merge produces: below every rank.
const NEVER_MERGED: f32 = -1e9;

#[derive(Deserialize)]
struct Outline {
    model: ModelType,
}

#[derive(Deserialize)]
struct ModelType {
    #[serde(rename = "type")]
    name: Option<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    model: Bpe,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

#[derive(Deserialize)]
struct Bpe {
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: Entries,
    merges: Vec<Pair>,
}

/// The object of texts and ids, in the file's order, including duplicates.
struct Entries(Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts and ids")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// A merge, written `"a b"` (until 2024) or `["a", "b"]`.
struct Pair(String, String);

impl<'de> Deserialize<'de> for Pair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pair, D::Error> {
        struct PairVisitor;
        impl<'de> Visitor<'de> for PairVisitor {
            type Value = Pair;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge: \"a b\" or [\"a\", \"b\"]")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Pair, E> {
                match text.split_once(' ') {
                    Some((left, right))
                        if !left.is_empty() && !right.is_empty() && !right.contains(' ') =>
                    {
                        Ok(Pair(left.to_owned(), right.to_owned()))
                    }
                    _ => Err(E::invalid_value(serde::de::Unexpected::Other("another text"), &self)),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Pair, A::Error> {
                let mut part = |index| {
                    let text: Option<String> = seq.next_element()?;
                    text.ok_or_else(|| serde::de::Error::invalid_length(index, &"two texts"))
                };
                let pair = Pair(part(0)?, part(1)?);
                match seq.next_element::<String>()? {
                    None => Ok(pair),
                    Some(_) => Err(serde::de::Error::invalid_length(3, &"two texts")),
                }
            }
        }
        deserializer.deserialize_any(PairVisitor)
    }
}

impl Vocabulary {
    /// Reads a `tokenizer.json`. The scores are the negated ranks of the merges, so that the merges
    /// can be omitted when a vocabulary is stored (see [`Vocabulary::drop_implied_merges`]).
    ///
    /// # Errors
    /// [`TokenizerError::Json`] if it is not such a file, [`TokenizerError::Unsupported`] if it is
    /// another kind of tokenizer, [`TokenizerError::Damaged`] or [`TokenizerError::TooLarge`] if it
    /// contradicts itself.
    pub(crate) fn from_tokenizer_json(json: &str) -> Result<Vocabulary, TokenizerError> {
        at_most("tokenizer.json", "bytes", json.len(), MAX_TOKENIZER_FILE_BYTES)?;
        let outline: Outline = serde_json::from_str(json)?;
        let model = outline.model.name.unwrap_or_else(|| "BPE".to_owned());
        if model != "BPE" {
            return Err(TokenizerError::Unsupported {
                part: "model",
                found: clipped(&model),
                needed: "BPE",
            });
        }
        let file: File = serde_json::from_str(json)?;
        check_pipeline(&file)?;
        let texts = file
            .model
            .vocab
            .0
            .iter()
            .map(|(text, _)| text)
            .chain(file.added_tokens.iter().map(|added| &added.content));
        let longest = texts.map(String::len).max().unwrap_or(0);
        at_most("longest piece of the vocabulary", "bytes", longest, MAX_PIECE_BYTES)?;
        let bos_processed =
            file.post_processor.as_ref().map(|processor| inserts(processor, "<bos>"));
        let mut vocabulary = place(file)?;
        vocabulary.add_bos = vocabulary.bos.is_some() && bos_processed.unwrap_or(true);
        vocabulary.normalise();
        vocabulary.check()?;
        for (rank, merge) in merges::listed(&vocabulary)?.into_iter().enumerate() {
            let score = &mut vocabulary.scores[merge.product as usize];
            *score = score.max(-(rank as f32));
        }
        Ok(vocabulary)
    }

    /// Drops the merges if they are exactly those derived from the scores, as in every vocabulary
    /// that came from SentencePiece. A file that keeps only scores is then complete. Returns
    /// whether it dropped them.
    ///
    /// # Errors
    /// Those of [`Vocabulary::check`], and merges that name missing pieces.
    pub(crate) fn drop_implied_merges(&mut self) -> Result<bool, TokenizerError> {
        self.check()?;
        let implied = merges::implied(self)? == merges::listed(self)?;
        if implied {
            self.merges = Vec::new();
        }
        Ok(implied)
    }
}

/// Checks that everything around the vocabulary is as in Gemma's file.
fn check_pipeline(file: &File) -> Result<(), TokenizerError> {
    let refuse = |part, found, needed| Err(TokenizerError::Unsupported { part, found, needed });
    let mark = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let split = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
    let unmark = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let decoder = json!({"type": "Sequence", "decoders": [unmark, {"type": "ByteFallback"}, {"type": "Fuse"}]});
    if file.normalizer.as_ref().is_none_or(|found| *found != mark) {
        return refuse("normalizer", written(&file.normalizer), "Replace of \" \" with \"▁\"");
    }
    if file.pre_tokenizer.as_ref().is_some_and(|found| *found != split) {
        return refuse("pre_tokenizer", written(&file.pre_tokenizer), "Split on \" \" or none");
    }
    if file.decoder.as_ref().is_some_and(|found| *found != decoder) {
        return refuse(
            "decoder",
            written(&file.decoder),
            "Sequence of Replace, ByteFallback, Fuse",
        );
    }
    let model = &file.model;
    let is_set = |affix: &Option<String>| affix.as_ref().is_some_and(|affix| !affix.is_empty());
    if is_set(&model.continuing_subword_prefix) || is_set(&model.end_of_word_suffix) {
        return refuse(
            "model",
            "BPE with prefixes or suffixes to pieces".to_owned(),
            "BPE without",
        );
    }
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return refuse("model", "BPE with dropout".to_owned(), "BPE without");
    }
    if !model.byte_fallback {
        return refuse("model", "BPE without byte_fallback".to_owned(), "BPE with it");
    }
    if model.ignore_merges {
        return refuse("model", "BPE with ignore_merges".to_owned(), "BPE without");
    }
    match file.added_tokens.iter().find(|added| added.single_word || added.lstrip || added.rstrip) {
        Some(added) => refuse(
            "added_tokens",
            clipped(&format!("{:?} with single_word, lstrip or rstrip", added.content)),
            "tokens without these flags",
        ),
        None => Ok(()),
    }
}

/// A part of the pipeline as written in the file.
fn written(part: &Option<Value>) -> String {
    part.as_ref().map_or_else(|| "missing".to_owned(), |part| clipped(&part.to_string()))
}

/// Whether a post-processor inserts the token into a single text.
fn inserts(processor: &Value, token: &str) -> bool {
    let template = processor.get("single").and_then(Value::as_array);
    let id = |piece: &Value| piece.get("SpecialToken")?.get("id")?.as_str().map(|id| id == token);
    template.is_some_and(|pieces| pieces.iter().any(|piece| id(piece) == Some(true)))
}

/// Every token at its id, with its kind; the scores do not reflect any merges yet.
fn place(file: File) -> Result<Vocabulary, TokenizerError> {
    let damaged = |line: String| Err(TokenizerError::Damaged(line));
    let ids = file
        .model
        .vocab
        .0
        .iter()
        .map(|(_, id)| *id)
        .chain(file.added_tokens.iter().map(|added| added.id));
    let count = ids.max().map_or(0, |id| id as usize + 1);
    at_most("vocabulary", "tokens", count, MAX_VOCABULARY_TOKENS)?;
    let mut tokens: Vec<Option<String>> = vec![None; count];
    for (text, id) in file.model.vocab.0 {
        match &mut tokens[id as usize] {
            Some(other) => return damaged(format!("id {id} is both {other:?} and {text:?}")),
            place => *place = Some(text),
        }
    }
    let mut kinds: Vec<TokenKind> =
        tokens.iter().map(|text| kind_of(text.as_deref().unwrap_or_default())).collect();
    let unknown = file.model.unk_token.unwrap_or_else(|| "<unk>".to_owned());
    for added in file.added_tokens {
        let id = added.id as usize;
        kinds[id] = match kind_of(&added.content) {
            _ if added.content == unknown => TokenKind::Unknown,
            TokenKind::Normal if added.special => TokenKind::Control,
            TokenKind::Normal => TokenKind::UserDefined,
            other => other,
        };
        match &tokens[id] {
            Some(text) if *text != added.content => {
                return damaged(format!(
                    "id {id} is both {text:?} and the added token {:?}",
                    added.content
                ));
            }
            _ => tokens[id] = Some(added.content),
        }
    }
    if let Some(hole) = tokens.iter().position(Option::is_none) {
        return damaged(format!("it has {count} tokens, but none has the id {hole}"));
    }
    let tokens: Vec<String> = tokens.into_iter().flatten().collect();
    let find = |names: &[&str]| {
        let id = names.iter().find_map(|name| tokens.iter().position(|token| token == name))?;
        Some(TokenId(id as u32))
    };
    Ok(Vocabulary {
        bos: find(&["<bos>"]),
        eos: find(&["<eos>"]),
        ends: Vec::new(),
        unknown: find(&[&unknown]),
        padding: find(&["<pad>"]),
        scores: vec![NEVER_MERGED; count],
        merges: file.model.merges.into_iter().map(|Pair(left, right)| (left, right)).collect(),
        add_bos: false,
        kinds,
        tokens,
    })
}

/// The kind indicated by the form of a text.
fn kind_of(text: &str) -> TokenKind {
    if byte_of(text).is_some() {
        TokenKind::Byte
    } else if is_unused_name(text) {
        TokenKind::Unused
    } else {
        TokenKind::Normal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small valid file: the bytes, a space mark, `a`, `b`, `ab` and some added tokens.
    fn good() -> Value {
        let mut vocab: serde_json::Map<String, Value> =
            (0..=255_u32).map(|byte| (format!("<0x{byte:02X}>"), json!(byte))).collect();
        for (text, id) in
            [("▁", 256), ("a", 257), ("b", 258), ("ab", 259), ("<bos>", 260), ("<unused3>", 261)]
        {
            vocab.insert(text.to_owned(), json!(id));
        }
        json!({
            "added_tokens": [
                {"id": 260, "content": "<bos>", "special": true, "normalized": false},
                {"id": 262, "content": "<unk>", "special": true, "normalized": false},
                {"id": 263, "content": "<h1>", "special": false, "normalized": false},
                {"id": 261, "content": "<unused3>", "special": false, "normalized": false},
            ],
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            "pre_tokenizer": null,
            "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}]},
            "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "vocab": vocab, "merges": ["a b"]},
        })
    }

    fn said(json: &str) -> String {
        let line = Vocabulary::from_tokenizer_json(json).unwrap_err().to_string();
        assert!(!line.contains('\n') && line.chars().count() < 400, "not one line: {line}");
        line
    }

    /// The message after the value at a path was replaced.
    fn replaced(path: &str, value: Value) -> String {
        let mut file = good();
        let (parent, key) = path.rsplit_once('/').unwrap();
        let parent = file.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
            other => other[key] = value,
        }
        said(&file.to_string())
    }

    #[test]
    fn a_good_file_is_read_in_both_spellings() {
        let vocabulary = Vocabulary::from_tokenizer_json(&good().to_string()).unwrap();
        assert_eq!(vocabulary.tokens.len(), 264);
        assert_eq!(
            vocabulary.kinds[256..264],
            [
                TokenKind::Normal,
                TokenKind::Normal,
                TokenKind::Normal,
                TokenKind::Normal,
                TokenKind::Control,
                TokenKind::Unused,
                TokenKind::Unknown,
                TokenKind::UserDefined
            ]
        );
        assert_eq!(
            (vocabulary.bos, vocabulary.eos, vocabulary.unknown),
            (Some(TokenId(260)), None, Some(TokenId(262)))
        );
        assert!(vocabulary.add_bos);
        assert_eq!(vocabulary.scores[259], 0.0);
        let mut newer = good();
        newer["model"]["merges"] = json!([["a", "b"]]);
        assert_eq!(Vocabulary::from_tokenizer_json(&newer.to_string()).unwrap(), vocabulary);
        newer["post_processor"] =
            json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}]});
        assert!(!Vocabulary::from_tokenizer_json(&newer.to_string()).unwrap().add_bos);
    }

    #[test]
    fn merges_that_follow_from_scores_can_be_dropped() {
        let mut vocabulary = Vocabulary::from_tokenizer_json(&good().to_string()).unwrap();
        assert!(vocabulary.drop_implied_merges().unwrap());
        assert_eq!(vocabulary.merges, []);
        vocabulary.tokens.extend(["ba", "aba"].map(str::to_owned));
        vocabulary.kinds.extend([TokenKind::Normal; 2]);
        vocabulary.scores.extend([-1.0, -2.0]);
        let pair = |left: &str, right: &str| (left.to_owned(), right.to_owned());
        vocabulary.merges = vec![pair("a", "b"), pair("b", "a"), pair("ab", "a")];
        assert!(!vocabulary.drop_implied_merges().unwrap(), "(a, ba) is not in the list");
        assert_eq!(vocabulary.merges.len(), 3);
    }

    #[test]
    fn other_kinds_of_tokenizer_are_refused_with_what_they_are() {
        let split = json!({"type": "ByteLevel", "add_prefix_space": false});
        let line = replaced("/pre_tokenizer", split);
        assert!(line.contains("its pre_tokenizer is {") && line.contains("ByteLevel"), "{line}");
        assert!(
            replaced("/normalizer", Value::Null)
                .contains("normalizer is missing, but must be Replace")
        );
        assert!(replaced("/normalizer", json!({"type": "NFKC"})).contains("NFKC"));
        assert!(
            replaced("/decoder", json!({"type": "Metaspace", "x": "é".repeat(999)}))
                .contains("...")
        );
        assert!(
            replaced("/model", json!({"type": "Unigram", "vocab": [["a", 0.0]]}))
                .contains("model is Unigram")
        );
        assert!(replaced("/model/byte_fallback", json!(false)).contains("byte_fallback"));
        assert!(replaced("/model/ignore_merges", json!(true)).contains("ignore_merges"));
        assert!(replaced("/model/dropout", json!(0.1)).contains("dropout"));
        assert!(replaced("/model/end_of_word_suffix", json!("</w>")).contains("suffixes"));
        assert!(
            replaced("/added_tokens/2/lstrip", json!(true)).contains("\"<h1>\" with single_word")
        );
    }

    #[test]
    fn hostile_files_are_refused_in_one_line() {
        for text in [
            "",
            "{",
            "[]",
            "null",
            "{\"model\":null}",
            "{\"model\":{}}",
            "\u{0}",
            &"[".repeat(100_000),
        ] {
            said(text);
        }
        assert!(replaced("/model/vocab/a", json!(-1)).contains("expected u32"));
        assert!(replaced("/model/vocab/a", json!(u32::MAX)).contains("too large"));
        assert!(replaced("/model/vocab/a", json!(258)).contains("id 258 is both"));
        assert!(replaced("/model/vocab/a", json!(400)).contains("none has the id 257"));
        assert!(replaced("/added_tokens/2/id", json!(4_000_000_000_u32)).contains("too large"));
        assert!(
            replaced("/added_tokens/2/id", json!(257))
                .contains("id 257 is both \"a\" and the added token \"<h1>\"")
        );
        assert!(replaced("/added_tokens/2/content", json!("a")).contains("are both \"a\""));
        assert!(
            replaced("/model/merges", json!(["a ab"]))
                .contains("\"aab\", which is not one of its tokens")
        );
        assert!(replaced("/model/merges", json!(["ab"])).contains("expected a merge"));
        assert!(replaced("/model/merges", json!([["a"]])).contains("two texts"));
        assert!(replaced("/model/merges", json!([["a", "b", "c"]])).contains("two texts"));
        assert!(replaced("/model/merges", json!([3])).contains("expected a merge"));
        let long = "x".repeat(1 << 20);
        assert!(replaced("/model/vocab", json!({long.as_str(): 0})).contains("too large"));
        assert!(replaced("/model/merges", json!([[long.as_str(), "a"]])).contains("too large"));
        replaced("/model/merges", json!([long]));
        replaced("/model/vocab/a", json!(long));
        replaced("/model/type", json!(long));
        let twice = good().to_string().replace("\"ab\":259", "\"ab\":259,\"ab\":264");
        assert!(said(&twice).contains("are both \"ab\""));
        assert!(said(&" ".repeat(MAX_TOKENIZER_FILE_BYTES + 1)).contains("at most"));
    }
}
