//! Multiple-choice questions. The answer is the letter whose token, with a blank before it, has the
//! largest logit after the prompt. The rule and the token ids are the same for both programs.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::Instant;

use potluck::id::TokenId;
use potluck::mmlu::{parse_csv, prompt};
use potluck::model::Precision;
use potluck::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::peer::Peer;
use crate::{Failure, MmluArgs, ours};

/// Questions of a subject that are asked in a row, before the next subject's, so that their common
/// prefix is computed once. A run that is stopped has asked all subjects equally, except for its
/// last round.
const ROUND: usize = 9;

/// One answered question. Letters are numbers, 0 to 3.
#[derive(Serialize, Deserialize)]
struct Answered {
    subject: String,
    question: usize,
    examples: usize,
    right: usize,
    ours: usize,
    peer: usize,
    /// Whether each program's likeliest token is one of the four.
    is_letter: [bool; 2],
}

/// One of the two programs, with the ids that it has read last: their common prefix with the next
/// prompt is not read again.
struct Side<F> {
    held: Vec<TokenId>,
    last: F,
}

impl<F: FnMut(&[TokenId], usize) -> Result<Vec<f32>, Failure>> Side<F> {
    /// The likeliest of `letters` after `ids`, and whether it is the likeliest token of all.
    fn choose(&mut self, ids: &[TokenId], letters: [TokenId; 4]) -> Result<(usize, bool), Failure> {
        let same = self.held.iter().zip(ids).take_while(|(held, id)| held == id).count().min(ids.len() - 1);
        let logits = (self.last)(&ids[same..], same)?;
        self.held = ids.to_vec();
        let of = |letter: usize| logits[letters[letter].0 as usize];
        let chosen = (1..4).fold(0, |best, letter| if of(letter) > of(best) { letter } else { best });
        Ok((chosen, logits.iter().all(|value| *value <= of(chosen))))
    }
}

/// Asks the questions without an answer yet, then prints the accuracies.
pub fn ask(args: &MmluArgs) -> Result<(), Failure> {
    let mut answers = kept(&args.kept)?;
    let model = &args.common.model;
    let tokenizer = ours::tokenizer(model)?;
    let letters = letters(&tokenizer)?;
    let mut asked = Vec::new();
    for (subject, test) in subjects(&args.questions.join("test"))? {
        let questions = parse_csv(&test)?;
        let dev = parse_csv(&fs::read_to_string(args.questions.join(format!("dev/{subject}_dev.csv")))?)?;
        for &examples in &args.examples {
            let shown = dev.get(..examples).ok_or_else(|| format!("{subject} has {} examples, not {examples}", dev.len()))?;
            for (at, question) in questions.iter().take(args.limit).enumerate() {
                if !answers.contains_key(&(subject.clone(), at, examples)) {
                    let ids = tokenizer.encode_prompt(&prompt(&subject, shown, question))?;
                    asked.push((subject.clone(), at, examples, question.answer, ids));
                }
            }
        }
    }
    asked.sort_by_key(|(_, question, ..)| question / ROUND);
    if let Some(longest) = asked.iter().map(|(.., ids)| ids.len()).max() {
        let own = ours::model(model, Precision::INT8, args.common.threads)?;
        let vocab = own.config().vocab;
        let mut peer = Peer::start(&args.common, model, vocab, longest, &["--keep-all"])?;
        let mut reader = ours::Reader::new(own, longest);
        let mut ours = Side { held: Vec::new(), last: |ids: &[TokenId], first| reader.last(ids, first) };
        let mut theirs = Side { held: Vec::new(), last: |ids: &[TokenId], first| peer.last(ids, first) };
        let mut file = OpenOptions::new().create(true).append(true).open(&args.kept)?;
        let (start, all) = (Instant::now(), asked.len());
        for (done, (subject, question, examples, right, ids)) in asked.into_iter().enumerate() {
            let (ours, our_best) = ours.choose(&ids, letters)?;
            let (peer, peer_best) = theirs.choose(&ids, letters)?;
            let is_letter = [our_best, peer_best];
            let answered = Answered { subject, question, examples, right, ours, peer, is_letter };
            writeln!(file, "{}", serde_json::to_string(&answered)?)?;
            answers.insert((answered.subject.clone(), question, examples), answered);
            eprint!("\r{} of {all}, {:.0} s", done + 1, start.elapsed().as_secs_f64());
        }
        eprintln!();
    }
    report(&answers);
    Ok(())
}

/// The tokens of " A" to " D".
fn letters(tokenizer: &Tokenizer) -> Result<[TokenId; 4], Failure> {
    let before = tokenizer.encode_prompt("Answer:")?;
    let mut letters = [TokenId(0); 4];
    for (place, letter) in letters.iter_mut().zip('A'..) {
        let ids = tokenizer.encode_prompt(&format!("Answer: {letter}"))?;
        match ids.strip_prefix(&before[..]) {
            Some(&[token]) => *place = token,
            _ => return Err(format!("\" {letter}\" is more than one token of this vocabulary").into()),
        }
    }
    Ok(letters)
}

/// The subjects with their test questions, by name.
fn subjects(dir: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix("_test.csv"));
        if let Some(subject) = name {
            found.insert(subject.to_owned(), fs::read_to_string(&path)?);
        }
    }
    Ok(found)
}

type Answers = BTreeMap<(String, usize, usize), Answered>;

/// The answers of an earlier run. The last line may be truncated.
fn kept(path: &Path) -> Result<Answers, Failure> {
    let mut answers = Answers::new();
    if path.exists() {
        for line in BufReader::new(File::open(path)?).lines() {
            if let Ok(answered) = serde_json::from_str::<Answered>(&line?) {
                answers.insert((answered.subject.clone(), answered.question, answered.examples), answered);
            }
        }
    }
    Ok(answers)
}

fn report(answers: &Answers) {
    let mut by_examples: BTreeMap<usize, Vec<&Answered>> = BTreeMap::new();
    for answered in answers.values() {
        by_examples.entry(answered.examples).or_default().push(answered);
    }
    println!(
        "| examples before it | questions | potluck right | llama.cpp right | same answer | a letter is the likeliest token |"
    );
    println!("|---|---|---|---|---|---|");
    for (examples, rows) in by_examples {
        let count = rows.len() as f64;
        let share = |of: &dyn Fn(&Answered) -> bool| rows.iter().filter(|row| of(row)).count() as f64 / count;
        let error = |share: f64| 100.0 * (share * (1.0 - share) / count).sqrt();
        let (ours, peer) = (share(&|row| row.ours == row.right), share(&|row| row.peer == row.right));
        println!(
            "| {examples} | {} | {:.1} % ± {:.1} | {:.1} % ± {:.1} | {:.1} % | {:.1} % and {:.1} % |",
            rows.len(),
            100.0 * ours,
            error(ours),
            100.0 * peer,
            error(peer),
            100.0 * share(&|row| row.ours == row.peer),
            100.0 * share(&|row| row.is_letter[0]),
            100.0 * share(&|row| row.is_letter[1]),
        );
    }
}
