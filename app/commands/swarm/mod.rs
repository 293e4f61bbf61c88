//! `potluck swarm`: several `potluck run` processes on this machine answer real MMLU prompts, and every claim is checked: the same
//! answers as without sharing, and what was computed once is not computed again.

mod process;
mod report;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use thiserror::Error;

use crate::drive::free_port;
use crate::fronts::{OutputError, give_line};
use crate::limits::{BLOCK_TOKENS, MAX_CONTEXT_TOKENS, PREFILL_STEP_TOKENS};
use crate::mmlu::{self, MmluError, Question};
use crate::model;
use crate::start::{Kept, SetupError, tokenizer_of};
use crate::tokenizer::{Tokenizer, TokenizerError};

use super::fail::Fail;
use super::usage::whole;

use process::NodeProcess;
use report::{Row, Said, Totals};

/// The longest that any one answer or start may take before the demonstration is called failed.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long the catalogs of the nodes may take to agree after an answer. A delta goes out within a quarter of a second; the rest is
/// for a busy machine and for repairs.
const CATALOG_PATIENCE: Duration = Duration::from_secs(20);

/// Time between two looks at a node's catalog.
const POLL: Duration = Duration::from_millis(20);

/// Of the tokens that its node does not hold, a repeated prompt takes at least this share from a peer, a step of computing left out:
/// computing does not wait, and the more nodes share a machine's cores, the more of a prompt it reaches before a peer answers.
const REPEATED_SHARE: f64 = 0.5;

/// So many tokens that a node lacks are taken from a peer. Fewer it may as well compute: a fast machine takes 50 ms for these, which
/// is what busy processes may take to answer one another.
const WORTH_ASKING: usize = 8 * BLOCK_TOKENS;

/// How many of `lacking` tokens a peer must have given.
fn due(lacking: usize) -> usize {
    (lacking.saturating_sub(PREFILL_STEP_TOKENS) as f64 * REPEATED_SHARE).ceil() as usize
}

/// What to show.
#[derive(Args)]
pub(super) struct SwarmArgs {
    /// A Gemma 3 model, GGUF, with its vocabulary inside
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,
    /// MMLU questions: a directory with dev/ and test/
    #[arg(long, value_name = "DIR")]
    mmlu: PathBuf,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = whole(2..=8_usize))]
    nodes: usize,
    /// How many subjects, of the 57 that MMLU has
    #[arg(long, default_value_t = 4, value_parser = whole(1..=57_usize))]
    subjects: usize,
    /// Tokens of an answer, at most
    #[arg(short = 'n', long, default_value_t = 24, value_parser = whole(1..=MAX_CONTEXT_TOKENS))]
    max_tokens: usize,
}

/// Why the swarm cannot be shown.
#[derive(Debug, Error)]
pub(super) enum SwarmError {
    #[error("{0}: {1}: give --mmlu a directory with dev/SUBJECT_dev.csv and test/SUBJECT_test.csv")]
    Questions(PathBuf, io::Error),
    #[error("{0}: {1}")]
    Csv(PathBuf, MmluError),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("a node cannot be started: {0}")]
    Start(io::Error),
    #[error("{0} ended unexpectedly: run `potluck run` with the same model to see why")]
    Ended(String),
    #[error("{0} did not answer within {PATIENCE:?}")]
    Silent(String),
    #[error("{0} refused: {1}")]
    Refused(String, String),
    #[error("{0}: a subject needs two questions: add some to its file, or leave it out")]
    TooFew(String),
    #[error("{0} has not heard of what {1} holds after {CATALOG_PATIENCE:?}: does loopback carry multicast here?")]
    Catalog(String, String),
}

/// A prompt of the programme: who is asked what, and what sharing must give.
struct Item {
    node: usize,
    subject: String,
    shots: usize,
    what: &'static str,
    /// What the prompt ends in, without the choices.
    question: String,
    text: String,
    expect: Expect,
}

enum Expect {
    /// Nobody has seen it.
    New,
    /// The same prompt was answered by another node.
    Repeated,
    /// This prompt (an earlier item's, on another node) has its first tokens in common.
    SharedWith(usize),
}

/// Shows it; fails unless every check held.
pub(super) fn run(args: SwarmArgs) -> Result<(), Fail> {
    if show(&args)? { Ok(()) } else { Err(Fail::Said) }
}

/// True when every check held.
fn show(settings: &SwarmArgs) -> Result<bool, SwarmError> {
    let start = Instant::now();
    let opened = model::open(&settings.model).map_err(SetupError::from)?;
    let tokenizer = tokenizer_of(&opened, &settings.model, None, &Kept::at(None))?;
    let programme = programme(settings)?;
    let names: Vec<String> = (0..settings.nodes).map(|n| format!("node {}", (b'A' + n as u8) as char)).collect();
    let port = free_port().map_err(SwarmError::Start)?;
    let mut nodes = Vec::new();
    for (number, name) in names.iter().enumerate() {
        nodes.push(NodeProcess::start(name, &settings.model, Some((port, number as u64 + 1)))?);
    }
    let mut alone = NodeProcess::start("the node that shares nothing", &settings.model, None)?;
    for node in nodes.iter_mut().chain([&mut alone]) {
        node.ready()?;
    }
    let took = start.elapsed().as_secs_f64();
    give_line(format_args!("{} nodes and one that shares nothing are up after {took:.1} s\n", nodes.len()))?;
    give_line(Row::HEADER)?;
    let mut totals = Totals::default();
    let mut said = Vec::new();
    for (number, item) in programme.iter().enumerate() {
        let answer = nodes[item.node].ask(number as u64, &item.text, settings.max_tokens)?;
        let reference = alone.ask(number as u64, &item.text, settings.max_tokens)?;
        let missing = answer.figures.prompt_tokens - answer.figures.own;
        let (lacking, must) = match item.expect {
            Expect::New => (0, 0),
            Expect::Repeated => (missing, due(missing)),
            Expect::SharedWith(other) => {
                let common = common_blocks(&tokenizer, &item.text, &programme[other].text)?;
                let lacking = common.saturating_sub(answer.figures.own);
                (lacking, due(lacking))
            }
        };
        let shared = Some(must).filter(|_| lacking >= WORTH_ASKING);
        totals.add(item, &answer, &reference, shared);
        give_line(Row { name: &names[item.node], item, answer: &answer, shared, reference: &reference })?;
        settle(&mut nodes, item.node)?;
        if matches!(item.expect, Expect::New) {
            said.push(Said { question: &item.question, answer: answer.text });
        }
    }
    give_line("")?;
    for said in said {
        give_line(said)?;
    }
    give_line(format_args!("\n{totals}"))?;
    Ok(totals.held())
}

/// For each subject: a prompt, the same on the next node, another question with the same examples on the one after, and that one
/// again. Subjects take turns with five examples, one and none.
fn programme(settings: &SwarmArgs) -> Result<Vec<Item>, SwarmError> {
    let mut items: Vec<Item> = Vec::new();
    for (number, subject) in subjects(&settings.mmlu)?.into_iter().take(settings.subjects).enumerate() {
        let dev = questions(&settings.mmlu.join("dev").join(format!("{subject}_dev.csv")))?;
        let test = questions(&settings.mmlu.join("test").join(format!("{subject}_test.csv")))?;
        let shots = [5, 5, 1, 0][number % 4].min(dev.len());
        let first = number % settings.nodes;
        let [one, other] = test.first_chunk().ok_or_else(|| SwarmError::TooFew(subject.clone()))?;
        let at = items.len();
        let mut add = |step: usize, what, question: &Question, expect| {
            let text = mmlu::prompt(&subject, &dev[..shots], question);
            let (subject, question) = (subject.clone(), question.question.clone());
            items.push(Item { node: (first + step) % settings.nodes, subject, shots, what, question, text, expect });
        };
        add(0, "new", one, Expect::New);
        add(1, "repeated", one, Expect::Repeated);
        add(2, "same examples", other, Expect::SharedWith(at));
        add(3, "repeated", other, Expect::Repeated);
    }
    Ok(items)
}

fn subjects(mmlu: &Path) -> Result<Vec<String>, SwarmError> {
    let dir = mmlu.join("test");
    let unreadable = |error| SwarmError::Questions(dir.clone(), error);
    let mut subjects = Vec::new();
    for entry in fs::read_dir(&dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        subjects.extend(name.strip_suffix("_test.csv").map(str::to_string));
    }
    subjects.sort();
    Ok(subjects)
}

fn questions(path: &Path) -> Result<Vec<Question>, SwarmError> {
    let text = fs::read_to_string(path).map_err(|error| SwarmError::Questions(path.to_path_buf(), error))?;
    mmlu::parse_csv(&text).map_err(|error| SwarmError::Csv(path.to_path_buf(), error))
}

/// Tokens of the whole blocks that two prompts begin with in common.
fn common_blocks(tokenizer: &Tokenizer, one: &str, other: &str) -> Result<usize, SwarmError> {
    let (one, other) = (tokenizer.encode_prompt(one)?, tokenizer.encode_prompt(other)?);
    let common = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    Ok(common / BLOCK_TOKENS * BLOCK_TOKENS)
}

/// Waits until `asked` has told all that it holds, and every other node's directory shows it.
#[expect(clippy::disallowed_methods, reason = "a node does not say when it has told its peers")]
fn settle(nodes: &mut [NodeProcess], asked: usize) -> Result<(), SwarmError> {
    let start = Instant::now();
    let own = loop {
        let status = nodes[asked].status()?;
        if status.told {
            break status;
        }
        thread::sleep(POLL);
    };
    for other in (0..nodes.len()).filter(|other| *other != asked) {
        loop {
            let status = nodes[other].status()?;
            if status.peers.iter().any(|peer| peer.node == own.node && peer.generation >= own.generation && peer.current) {
                break;
            }
            if start.elapsed() > CATALOG_PATIENCE {
                return Err(SwarmError::Catalog(nodes[other].name.clone(), nodes[asked].name.clone()));
            }
            thread::sleep(POLL);
        }
    }
    Ok(())
}
