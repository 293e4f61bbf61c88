//! The model of the demo and of cards without one of their own: the file in the repository matches
//! its page, and gives the results that Hugging Face transformers computes from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use potluck::id::TokenId;
use potluck::kv::{Plane, Sequence};
use potluck::mmlu;
use potluck::model::{Logits, Model, ModelConfig, Opened, Precision, open};
use potluck::tokenizer::Tokenizer;

#[derive(serde::Deserialize)]
struct Golden {
    ids: Vec<u32>,
    greedy: Vec<u32>,
    top: Vec<(u32, f32)>,
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/demo-model/model").join(name)
}

fn opened() -> Opened {
    open(&file("potluck-demo.gguf")).unwrap()
}

fn tokenizer(opened: &Opened) -> Tokenizer {
    Tokenizer::from_vocabulary(&opened.gguf.vocabulary().unwrap().unwrap()).unwrap()
}

/// The `count` likeliest tokens after `ids`, and the logits after the last of `ids`.
fn greedy(model: &Model, ids: &[TokenId], count: usize) -> (Vec<TokenId>, Vec<f32>) {
    let pages = Arc::new(Sequence::private(model.kv_shape(), ids.len() + count));
    let (mut next, mut first, mut out, mut behind) = (ids.to_vec(), 0, Vec::new(), Vec::new());
    while out.len() < count {
        let logits = model.forward(&next, first, &pages, Logits::Last(1)).unwrap();
        first += next.len();
        let best = logits
            .iter()
            .enumerate()
            .fold(0, |best, (at, value)| if *value > logits[best] { at } else { best });
        if out.is_empty() {
            behind = logits;
        }
        out.push(TokenId(best as u32));
        next = vec![TokenId(best as u32)];
    }
    (out, behind)
}

/// A complete Gemma 3, small enough for a clone.
#[test]
fn it_is_a_small_gemma_3() {
    assert!(file("potluck-demo.gguf").metadata().unwrap().len() <= 6_000_000);
    let ModelConfig { vocab, head_dim, window, context, layers, .. } = opened().config;
    assert!(
        vocab <= 4_096 && head_dim % 32 == 0 && window <= 256 && context >= 2_048,
        "{vocab} {head_dim} {window} {context}"
    );
    let globals: Vec<bool> = layers.iter().map(|plane| *plane == Plane::Global).collect();
    assert!(
        globals.chunks(6).all(|six| *six == [false, false, false, false, false, true]),
        "not five sliding layers per global one: {globals:?}"
    );
}

/// The file's vocabulary matches the tokenizer.json beside it, as read by the library that made it.
#[test]
fn its_vocabulary_is_that_of_the_tokenizer_beside_it() {
    let ours = tokenizer(&opened());
    let stock = tokenizers::Tokenizer::from_file(file("tokenizer.json")).unwrap();
    let questions = include_str!("data/mmlu/test/machine_learning_test.csv");
    for text in
        questions.lines().chain(["  two  spaces\n\n\ttab", "Zürich → 42 日本 🦀", "\0\u{7f}"])
    {
        let right: Vec<TokenId> =
            stock.encode(text, true).unwrap().get_ids().iter().map(|id| TokenId(*id)).collect();
        assert_eq!(ours.encode_prompt(text).unwrap(), right, "{text:?}");
    }
}

/// In float arithmetic the logits match transformers' within 2e-4, and the words are the same.
#[test]
fn it_says_what_transformers_says() {
    let opened = opened();
    let model = Model::new(opened.config, opened.weights, Precision::FLOAT).unwrap();
    let golden: Vec<Golden> =
        serde_json::from_slice(&std::fs::read(file("golden.json")).unwrap()).unwrap();
    assert!(golden.iter().any(|golden| golden.ids.len() > 8 * model.config().window));
    for golden in golden {
        let ids: Vec<TokenId> = golden.ids.into_iter().map(TokenId).collect();
        let right: Vec<TokenId> = golden.greedy.into_iter().map(TokenId).collect();
        let (said, logits) = greedy(&model, &ids, right.len());
        assert_eq!(said, right, "after {} tokens", ids.len());
        for (token, value) in golden.top {
            assert!(
                (logits[token as usize] - value).abs() < 2e-4,
                "{} tokens, token {token}: {} {value}",
                ids.len(),
                logits[token as usize]
            );
        }
    }
}

/// In the boards' arithmetic, it answers a question outside its training set in the form
/// of an answer.
#[test]
fn it_answers_questions_with_a_letter() {
    let opened = opened();
    let tokenizer = tokenizer(&opened);
    let model = Model::new(opened.config, opened.weights, Precision::INT8).unwrap();
    let questions = mmlu::parse_csv(include_str!("data/mmlu/test/astronomy_test.csv")).unwrap();
    let examples = mmlu::parse_csv(include_str!("data/mmlu/dev/astronomy_dev.csv")).unwrap();
    for (at, question) in questions.iter().take(6).enumerate() {
        let prompt = mmlu::prompt("astronomy", &examples[..at % 3], question);
        let (said, _) = greedy(&model, &tokenizer.encode_prompt(&prompt).unwrap(), 16);
        let text = tokenizer.decode(&said);
        let letter = text.trim_start().strip_prefix("Answer: ").unwrap_or(text.trim_start());
        assert!(letter.starts_with(['A', 'B', 'C', 'D']) && !letter.starts_with("An"), "{text:?}");
        assert!(
            text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| word.len() > 2).count()
                >= 2,
            "no words: {text:?}"
        );
    }
}
