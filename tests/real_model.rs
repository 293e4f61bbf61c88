//! The published Gemma 3 270M, Q4_K_M: it answers as llama.cpp does on the same file, wherever
//! llama.cpp is sure.
//!
//! Runs only where the real model is present (`real_file.rs`). `tests/data/real-model/greedy.jsonl`
//! holds llama.cpp's greedy answers and how sure it was; the README there says how they were made.

use std::sync::Arc;

use potluck::id::TokenId;
use potluck::kv::Sequence;
use potluck::model::{Head, Logits, Model, Opened, Precision, Wanted, open};
use potluck::tokenizer::Tokenizer;

use crate::real_file::real_file;

/// llama.cpp's answer to a prompt, and by how much its choice led at each step: in llama.cpp, and
/// in f32 arithmetic.
#[derive(serde::Deserialize)]
struct Answer {
    prompt: String,
    ids: Vec<u32>,
    greedy: Vec<u32>,
    leads: Vec<f32>,
    float_leads: Vec<f32>,
}

/// Logits closer together than this may swap ranks when activations and KV state are rounded.
const SURE: f32 = 0.2;

/// The real model and its tokenizer, if this machine has them. Otherwise prints which
/// test is skipped.
fn real_model(test: &str) -> Option<(Model, Tokenizer)> {
    let path = real_file(test)?;
    let Opened { config, weights, gguf, .. } = open(&path).unwrap();
    let tokenizer = Tokenizer::from_vocabulary(&gguf.vocabulary().unwrap().unwrap()).unwrap();
    Some((Model::new(config, weights, Precision::INT8).unwrap(), tokenizer))
}

fn answers() -> Vec<Answer> {
    include_str!("data/real-model/greedy.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn tokens(ids: &[u32]) -> Vec<TokenId> {
    ids.iter().map(|id| TokenId(*id)).collect()
}

/// The index of the largest logit; of equal ones, the first.
fn likeliest(logits: &[f32]) -> u32 {
    logits
        .iter()
        .enumerate()
        .fold(0, |best, (at, value)| if *value > logits[best] { at } else { best }) as u32
}

/// After the words that llama.cpp has written so far, potluck chooses the same next word, at every
/// step where llama.cpp's choice has a clear lead and f32 arithmetic confirms it. (llama.cpp rounds
/// too: at four of its 427 sure steps f32 arithmetic chooses another word. docs/inside/quality.md
/// has the count.)
#[test]
fn it_says_what_llama_cpp_says_wherever_that_is_sure() {
    let Some((model, tokenizer)) = real_model("it_says_what_llama_cpp_says_wherever_that_is_sure")
    else {
        return;
    };
    let answers = answers();
    let (mut steps, mut equal, mut sure, mut sure_equal) = (0, 0, 0, 0);
    for Answer { prompt, ids, greedy, leads, float_leads } in &answers {
        assert_eq!(tokenizer.encode_prompt(prompt).unwrap(), tokens(ids), "{prompt}");
        let text = tokens(&[&ids[..], greedy].concat());
        let pages = Arc::new(Sequence::private(model.kv_shape(), text.len()));
        let logits = model.forward(&text[..text.len() - 1], 0, &pages, Logits::All).unwrap();
        let behind = logits.chunks_exact(model.config().vocab).skip(ids.len() - 1);
        for (step, ((logits, next), (lead, float_lead))) in
            behind.zip(greedy).zip(leads.iter().zip(float_leads)).enumerate()
        {
            let said = likeliest(logits);
            steps += 1;
            equal += usize::from(said == *next);
            sure += usize::from(*lead > SURE);
            sure_equal += usize::from(*lead > SURE && said == *next);
            let is_sure = *lead > SURE && *float_lead > SURE;
            assert!(
                said == *next || !is_sure,
                "{prompt}: step {step}: {said}, not {next}, which leads by {lead} and {float_lead}"
            );
        }
    }
    assert_eq!((answers.len(), steps, sure), (20, 480, 426));
    assert!(
        sure_equal >= 423 && equal >= 462,
        "{sure_equal} of {sure} sure steps, {equal} of {steps} in all"
    );
}

/// Reading half of each output row gives the logits that decide, to the bit, and pays off: few rows
/// are read in full.
#[test]
fn its_likeliest_tokens_come_out_of_half_of_the_output_rows() {
    let name = "its_likeliest_tokens_come_out_of_half_of_the_output_rows";
    let Some(path) = real_file(name) else { return };
    let opened = open(&path).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("some.head");
    let (rows, ..) = opened.output_rows();
    Head::build(&file, rows, [0; 16], &mut |_| {}).unwrap();
    let head = Head::open(&file, rows, [0; 16]).unwrap();
    let mut model =
        Model::new(opened.config.clone(), opened.weights.clone(), Precision::INT8).unwrap();
    let vocab = model.config().vocab;
    let mut computed = [Vec::new(), Vec::new()];
    for Answer { ids, greedy, .. } in answers().iter().take(6) {
        let text = tokens(&[&ids[..], greedy].concat());
        let pages = Arc::new(Sequence::private(model.kv_shape(), text.len()));
        model.set_head(None, false);
        let all = model.forward(&text, 0, &pages, Logits::All).unwrap();
        model.set_head(Some(head.clone()), true);
        let joined = model.forward(&text, 0, &pages, Logits::All).unwrap();
        assert!(joined.iter().zip(&all).all(|(joined, whole)| joined.to_bits() == whole.to_bits()));
        for at in 0..text.len() {
            let logits = &all[at * vocab..][..vocab];
            for (count, computed) in [1, 64].into_iter().zip(&mut computed) {
                let wanted = Wanted { count, apart: &[3, 107] };
                let known =
                    model.likeliest_while(&text[at..=at], at, &pages, wanted, &|| true).unwrap();
                assert!(
                    known
                        .iter()
                        .all(|(id, logit)| logit.to_bits() == logits[*id as usize].to_bits())
                );
                let is_known = |id: u32| known.binary_search_by_key(&id, |(id, _)| *id).is_ok();
                assert!(is_known(3) && is_known(107));
                let mut others: Vec<(f32, u32)> = logits
                    .iter()
                    .copied()
                    .zip(0u32..)
                    .filter(|(_, id)| ![3, 107].contains(id))
                    .collect();
                others.select_nth_unstable_by(count - 1, |a, b| b.0.total_cmp(&a.0));
                let least = others[count - 1].0;
                assert!(
                    others.iter().all(|(logit, id)| *logit < least || is_known(*id)),
                    "{count} at {at}"
                );
                computed.push(known.len() as f64 / vocab as f64);
            }
        }
    }
    let [greedy, top] = computed.map(|shares| shares.iter().sum::<f64>() / shares.len() as f64);
    eprintln!(
        "{name}: {:.2} % of the rows for one token, {:.2} % for 64",
        greedy * 100.0,
        top * 100.0
    );
    assert!(greedy < 0.02 && top < 0.2, "{greedy} {top}");
}

/// Decodes token by token, as users do: the answers to a new user's first prompts make sense.
#[test]
fn its_first_words_are_sense() {
    let Some((model, tokenizer)) = real_model("its_first_words_are_sense") else { return };
    for (prompt, right) in [
        ("Water boils at a temperature of", " 100 degrees Celsius."),
        ("Q: What is the largest planet in the solar system? A:", " Jupiter"),
        ("1, 2, 3, 4, 5, 6,", " 7, 8, 9, 10"),
    ] {
        let ids = tokenizer.encode_prompt(prompt).unwrap();
        let pages = Arc::new(Sequence::private(model.kv_shape(), ids.len() + 16));
        let (mut next, mut first, mut said) = (ids, 0, Vec::new());
        while said.len() < 16 {
            let logits = model.forward(&next, first, &pages, Logits::Last(1)).unwrap();
            first += next.len();
            next = vec![TokenId(likeliest(&logits))];
            said.extend(&next);
        }
        let text = tokenizer.decode(&said);
        assert!(text.starts_with(right), "{prompt}{text}");
    }
}
