//! Prompts of real MMLU questions from `tests/data/mmlu`: five examples and a question, twelve
//! subjects, Zipf.

use xxhash_rust::xxh3::xxh3_64;

use super::Ask;
use super::traces::Dice;
use crate::id::TokenId;

macro_rules! subjects {
    ($($subject:literal)*) => { [$((
        $subject,
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mmlu/dev/", $subject, "_dev.csv")),
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mmlu/test/", $subject, "_test.csv")),
    )),*] };
}

const SUBJECTS: [(&str, &str, &str); 12] = subjects!["abstract_algebra" "anatomy" "astronomy" "business_ethics" "clinical_knowledge"
    "college_computer_science" "computer_security" "econometrics" "global_facts" "high_school_geography" "international_law"
    "machine_learning"];

/// The records of a file: its lines, joined where a quotation spans several.
fn records(file: &str) -> Vec<String> {
    let mut records: Vec<String> = Vec::new();
    for line in file.lines().skip(1) {
        match records.last_mut() {
            Some(open) if !open.matches('"').count().is_multiple_of(2) => *open += line,
            _ => records.push(line.to_owned()),
        }
    }
    records
}

/// Words and punctuation marks, with words of more than five letters in pieces: nearly as many as a
/// tokenizer's tokens.
fn tokens(text: &str) -> Vec<TokenId> {
    let words = text.split_inclusive(|mark: char| !mark.is_alphanumeric());
    let pieces = words.flat_map(|word| word.as_bytes().chunks(5));
    pieces.map(|piece| TokenId(xxh3_64(piece) as u32 >> 14)).collect()
}

/// `count` questions on subjects whose use follows Zipf's law, at random nodes.
pub(super) fn trace(nodes: usize, count: usize) -> Vec<Ask> {
    let subjects: Vec<(String, Vec<String>)> = SUBJECTS
        .iter()
        .map(|(name, examples, questions)| {
            let head =
                format!("The following are multiple choice questions (with answers) about {name}.");
            (
                records(examples).iter().fold(head, |head, example| head + "\n" + example),
                records(questions),
            )
        })
        .collect();
    let mut dice = Dice::new(5);
    let asks = (0..count).map(|_| {
        let (head, questions) = &subjects[dice.zipf(subjects.len(), 1.0)];
        let prompt = tokens(&format!("{head}\n{}", questions[dice.below(questions.len())]));
        Ask { node: dice.below(nodes), prompt, answer: Vec::new() }
    });
    asks.collect()
}
