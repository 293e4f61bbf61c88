//! The published vocabulary, Gemma 3's 262,144 tokens: every text encodes to the ids that the crate
//! `tokenizers` gives it with a stock BPE of the same pieces, and decodes to the same text again.
//!
//! Runs only where the real model is present (`real_file.rs`). This is the short form; `make
//! tokens-check` runs the long one and also compares llama.cpp on the same texts
//! (docs/inside/tokens.md).

mod corpus;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use potluck::id::TokenId;
use potluck::model::gguf::Gguf;
use potluck::tokenizer::{TokenKind, Tokenizer, Vocabulary};
use serde_json::json;
use tokenizers::Tokenizer as Stock;

use crate::real_file::real_file;

fn vocabulary(path: &Path) -> Vocabulary {
    Gguf::open(path).unwrap().vocabulary().unwrap().expect("the file has a vocabulary")
}

/// The control tokens of the published file, which no text may become. Listed here independently of
/// the tested code.
fn is_control(text: &str) -> bool {
    let named = [
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        "<mask>",
        "[multimodal]",
        "<start_of_turn>",
        "<end_of_turn>",
    ];
    text.starts_with("<unused")
        || named.contains(&text)
        || ["<start_of_image>", "<end_of_image>"].contains(&text)
}

/// The merge pairs, as Hugging Face's converter writes them into Gemma's tokenizer.json: every way
/// to split a piece into two pieces, sorted by best score, then longest left half, then longest
/// right half, then order in the vocabulary.
fn merges(vocabulary: &Vocabulary) -> Vec<[String; 2]> {
    let text = |id: usize| vocabulary.tokens[id].replace(' ', "▁");
    let is_piece = |id: usize| {
        matches!(vocabulary.kinds[id], TokenKind::Normal | TokenKind::UserDefined)
            && !is_control(&text(id))
    };
    let pieces: BTreeMap<String, usize> =
        (0..vocabulary.tokens.len()).filter(|id| is_piece(*id)).map(|id| (text(id), id)).collect();
    let mut found: Vec<(f32, usize, usize, usize, usize)> = Vec::new();
    for (piece, id) in &pieces {
        // The original gives user-defined pieces score 0, as it does its first pieces; its
        // converter puts them first.
        let score = if vocabulary.kinds[*id] == TokenKind::UserDefined {
            1.0
        } else {
            vocabulary.scores[*id]
        };
        for (at, _) in piece.char_indices().skip(1) {
            if pieces.contains_key(&piece[..at]) && pieces.contains_key(&piece[at..]) {
                let left = piece[..at].chars().count();
                found.push((score, left, piece.chars().count() - left, *id, at));
            }
        }
    }
    found.sort_by(|a, b| {
        b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)).then(a.3.cmp(&b.3))
    });
    found
        .into_iter()
        .map(|(_, _, _, id, at)| [text(id)[..at].to_owned(), text(id)[at..].to_owned()])
        .collect()
}

/// Loads a tokenizer.json like Gemma's, built from the file's pieces, with the crate's own loader.
/// Control tokens are not among the added tokens that it cuts out of a text, because in potluck no
/// text becomes one.
fn stock(vocabulary: &Vocabulary) -> Stock {
    let entries: BTreeMap<String, usize> =
        vocabulary.tokens.iter().zip(0..).map(|(text, id)| (text.replace(' ', "▁"), id)).collect();
    let whole =
        (0..vocabulary.tokens.len()).filter(|id| vocabulary.kinds[*id] == TokenKind::UserDefined);
    let added: Vec<_> = whole
        .map(|id| (id, vocabulary.tokens[id].replace(' ', "▁")))
        .filter(|(_, text)| !is_control(text))
        .map(|(id, text)| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false})
        })
        .collect();
    let file = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false},
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": entries, "merges": merges(vocabulary)},
    });
    serde_json::from_value(file).unwrap()
}

/// Both tokenizers, with the real vocabulary.
struct Pair {
    ours: Tokenizer,
    stock: Stock,
    bos: TokenId,
}

impl Pair {
    fn new(path: &Path) -> Pair {
        let vocabulary = vocabulary(path);
        let bos = vocabulary.find("<bos>").unwrap();
        Pair {
            ours: Tokenizer::from_vocabulary(&vocabulary).unwrap(),
            stock: stock(&vocabulary),
            bos,
        }
    }

    /// The ids of a text. Both tokenizers must agree on them, and they must decode to
    /// the same text.
    #[track_caller]
    fn check(&self, text: &str) -> Vec<TokenId> {
        let right: Vec<TokenId> = self
            .stock
            .encode_fast(text, false)
            .unwrap()
            .get_ids()
            .iter()
            .map(|id| TokenId(*id))
            .collect();
        let mut ids = self.ours.encode_prompt(text).unwrap();
        assert_eq!(ids.remove(0), self.bos, "{text:?} does not begin with <bos>");
        assert_eq!(ids, right, "{text:?} is not encoded as by tokenizers");
        assert_eq!(
            String::from_utf8(self.ours.spell(&ids)).unwrap(),
            text.replace('▁', " "),
            "{text:?} does not survive the round trip"
        );
        ids
    }
}

#[test]
fn odd_texts_become_the_ids_that_tokenizers_gives_them_and_no_control_token() {
    let Some(path) =
        real_file("odd_texts_become_the_ids_that_tokenizers_gives_them_and_no_control_token")
    else {
        return;
    };
    let pair = Pair::new(&path);
    let control: Vec<TokenId> = (0..pair.ours.vocab_size() as u32)
        .map(TokenId)
        .filter(|id| is_control(pair.ours.piece(*id)))
        .collect();
    assert_eq!(control.len(), 6_252, "control tokens of the published file");
    let mut texts = corpus::odd();
    texts.extend(corpus::questions());
    texts.extend(corpus::random(&pair.ours, 1_500));
    texts.push(control[..200].iter().map(|id| pair.ours.piece(*id)).collect());
    texts.push(control.iter().rev().take(200).map(|id| pair.ours.piece(*id)).collect());
    for text in texts {
        let ids = pair.check(&text);
        assert!(
            !ids.iter().any(|id| control.binary_search(id).is_ok()),
            "{text:?} became a control token"
        );
    }
}

/// The published file's special tokens, as potluck understands them.
#[test]
fn the_published_vocabulary_has_its_roles() {
    let Some(path) = real_file("the_published_vocabulary_has_its_roles") else { return };
    let tokenizer = Tokenizer::from_vocabulary(&vocabulary(&path)).unwrap();
    assert_eq!(
        (tokenizer.bos(), tokenizer.end_tokens()),
        (Some(TokenId(2)), &[TokenId(1), TokenId(106)][..])
    );
    assert_eq!(tokenizer.notes().count(), 0);
    assert_eq!(
        tokenizer.encode_prompt("<start_of_image>").unwrap().iter().find(|id| id.0 == 255_999),
        None
    );
    assert_eq!(tokenizer.markers_in("a <start_of_image> <unused7> [multimodal]").len(), 3);
}

/// Whether other tokenizers are known to split this text differently (docs/inside/tokens.md): it
/// spells what the published file types as text, or contains the vocabulary's own space mark or a
/// tag that llama.cpp takes for the end.
fn differs_elsewhere(text: &str) -> bool {
    ["▁", "[multimodal]", "<start_of_image>", "<end_of_image>", "</s>"]
        .iter()
        .any(|part| text.contains(part))
}

/// The long form: every piece, every character, and all texts of the repository and of the folders
/// in POTLUCK_TEXTS. Writes each text with its ids to POTLUCK_TOKENS_OUT, for comparison with
/// other tokenizers.
#[test]
fn all_texts_become_the_ids_that_tokenizers_gives_them() {
    let Some(out) = std::env::var_os("POTLUCK_TOKENS_OUT") else {
        println!(
            "skipped: all_texts_become_the_ids_that_tokenizers_gives_them: it takes minutes; make tokens-check runs it"
        );
        return;
    };
    let path = real_file("all_texts_become_the_ids_that_tokenizers_gives_them")
        .expect("make model downloads it");
    let pair = Pair::new(&path);
    let mut out = BufWriter::new(File::create(out).unwrap());
    let folders = std::env::var("POTLUCK_TEXTS").unwrap_or_default();
    let mut counts = [0; 3];
    for text in corpus::long(&pair.ours, folders.split_whitespace().map(PathBuf::from)) {
        let ids = pair.check(&text);
        for (count, more) in counts.iter_mut().zip([1, text.len(), ids.len()]) {
            *count += more;
        }
        let ids: Vec<u32> = ids.iter().map(|id| id.0).collect();
        writeln!(out, "{}", json!({"text": text, "ids": ids, "known": differs_elsewhere(&text)}))
            .unwrap();
    }
    let [texts, bytes, tokens] = counts;
    println!("{texts} texts, {bytes} bytes, {tokens} tokens: all ids match tokenizers' own BPE");
}
