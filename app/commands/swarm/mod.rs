//! `potluck swarm`: several `potluck run` processes on this machine answer real MMLU prompts. It
//! checks that the answers are the same as without sharing, and that nothing is computed twice.

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
use crate::fronts::{OutputError, print_line};
use crate::limits::{BLOCK_TOKENS, MAX_CONTEXT_TOKENS, PREFILL_STEP_TOKENS};
use crate::mmlu::{self, MmluError, Question};
use crate::model;
use crate::start::{Kept, SetupError, tokenizer_of};
use crate::tokenizer::{Tokenizer, TokenizerError};

use super::fail::Fail;
use super::usage::whole;

use process::NodeProcess;
use report::{Row, Said, Totals};

/// The longest that one answer or start may take before the demonstration fails.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// How long the nodes' catalogs may take to agree after an answer. A delta is sent within a quarter
/// of a second; the rest allows for a busy machine and for repairs.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(20);

/// Interval between polls of a node's catalog.
const POLL: Duration = Duration::from_millis(20);

/// The least share that peers must give of the tokens of a repeated prompt that its node does not
/// hold, not counting one prefill step. Prefill does not wait: the more nodes share a machine's
/// cores, the more of a prompt is computed before a peer answers.
const REPEATED_SHARE: f64 = 0.5;

/// If a node lacks at least this many tokens, peers must give some. It may as well compute fewer: a
/// fast machine takes 50 ms for these, as long as busy processes may take to answer each other.
const WORTH_ASKING: usize = 8 * BLOCK_TOKENS;

/// How many of `lacking` tokens peers must have given.
fn due(lacking: usize) -> usize {
    (lacking.saturating_sub(PREFILL_STEP_TOKENS) as f64 * REPEATED_SHARE).ceil() as usize
}

/// Arguments of `potluck swarm`.
#[derive(Args)]
pub(super) struct SwarmArgs {
    /// A Gemma 3 model, GGUF, with its vocabulary inside
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,
    /// MMLU questions: a directory with dev/ and test/
    #[arg(long, value_name = "DIR")]
    mmlu: PathBuf,
    /// Number of nodes
    #[arg(long, default_value_t = 3, value_parser = whole(2..=8_usize))]
    nodes: usize,
    /// Number of subjects, of the 57 in MMLU
    #[arg(long, default_value_t = 4, value_parser = whole(1..=57_usize))]
    subjects: usize,
    /// Most tokens of an answer
    #[arg(short = 'n', long, default_value_t = 24, value_parser = whole(1..=MAX_CONTEXT_TOKENS))]
    max_tokens: usize,
}

/// Why the demonstration could not finish.
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
    #[error("{0} did not answer within {ANSWER_TIMEOUT:?}")]
    Silent(String),
    #[error("{0} refused: {1}")]
    Refused(String, String),
    #[error("{0}: a subject needs two questions: add some to its file, or leave it out")]
    TooFew(String),
    #[error(
        "{0} did not learn what {1} holds within {CATALOG_TIMEOUT:?}: does loopback carry multicast here?"
    )]
    Catalog(String, String),
}

/// A prompt of the programme: the node that is asked, the text, and what sharing must give.
struct Item {
    node: usize,
    subject: String,
    shots: usize,
    what: &'static str,
    /// The question at the end of the prompt, without the choices.
    question: String,
    text: String,
    expect: Expect,
}

enum Expect {
    /// No node has seen it.
    New,
    /// Another node has answered the same prompt.
    Repeated,
    /// It starts with the same tokens as the prompt of this earlier item, on another node.
    SharedWith(usize),
}

/// Runs the demonstration; fails unless every check held.
pub(super) fn run(args: SwarmArgs) -> Result<(), Fail> {
    if show(&args)? { Ok(()) } else { Err(Fail::Said) }
}

/// True when every check held.
fn show(settings: &SwarmArgs) -> Result<bool, SwarmError> {
    let start = Instant::now();
    let opened = model::open(&settings.model).map_err(SetupError::from)?;
    let tokenizer = tokenizer_of(&opened, &settings.model, None, &Kept::at(None))?;
    let programme = programme(settings)?;
    let names: Vec<String> =
        (0..settings.nodes).map(|n| format!("node {}", (b'A' + n as u8) as char)).collect();
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
    print_line(format_args!(
        "{} nodes and one that shares nothing are up after {took:.1} s\n",
        nodes.len()
    ))?;
    print_line(Row::HEADER)?;
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
        print_line(Row {
            name: &names[item.node],
            item,
            answer: &answer,
            shared,
            reference: &reference,
        })?;
        effective(&mut nodes, item.node)?;
        if matches!(item.expect, Expect::New) {
            said.push(Said { question: &item.question, answer: answer.text });
        }
    }
    print_line("")?;
    for said in said {
        print_line(said)?;
    }
    print_line(format_args!("\n{totals}"))?;
    Ok(totals.held())
}

/// For each subject: a prompt, the same prompt on the next node, another question with the same
/// examples on the node after, and that prompt again. Subjects alternate between five examples, one
/// and none.
fn programme(settings: &SwarmArgs) -> Result<Vec<Item>, SwarmError> {
    let mut items: Vec<Item> = Vec::new();
    for (number, subject) in
        subjects(&settings.mmlu)?.into_iter().take(settings.subjects).enumerate()
    {
        let dev = questions(&settings.mmlu.join("dev").join(format!("{subject}_dev.csv")))?;
        let test = questions(&settings.mmlu.join("test").join(format!("{subject}_test.csv")))?;
        let shots = [5, 5, 1, 0][number % 4].min(dev.len());
        let first = number % settings.nodes;
        let [one, other] = test.first_chunk().ok_or_else(|| SwarmError::TooFew(subject.clone()))?;
        let at = items.len();
        let mut add = |step: usize, what, question: &Question, expect| {
            let text = mmlu::prompt(&subject, &dev[..shots], question);
            let (subject, question) = (subject.clone(), question.question.clone());
            items.push(Item {
                node: (first + step) % settings.nodes,
                subject,
                shots,
                what,
                question,
                text,
                expect,
            });
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
    let text = fs::read_to_string(path)
        .map_err(|error| SwarmError::Questions(path.to_path_buf(), error))?;
    mmlu::parse_csv(&text).map_err(|error| SwarmError::Csv(path.to_path_buf(), error))
}

/// Tokens of the whole blocks in the common prefix of two prompts.
fn common_blocks(tokenizer: &Tokenizer, one: &str, other: &str) -> Result<usize, SwarmError> {
    let (one, other) = (tokenizer.encode_prompt(one)?, tokenizer.encode_prompt(other)?);
    let common = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    Ok(common / BLOCK_TOKENS * BLOCK_TOKENS)
}

/// Waits until `asked` has announced all that it holds and every other node's directory shows it.
#[expect(clippy::disallowed_methods, reason = "a node does not say when it has told its peers")]
fn effective(nodes: &mut [NodeProcess], asked: usize) -> Result<(), SwarmError> {
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
            if status.peers.iter().any(|peer| {
                peer.node == own.node && peer.generation >= own.generation && peer.current
            }) {
                break;
            }
            if start.elapsed() > CATALOG_TIMEOUT {
                return Err(SwarmError::Catalog(
                    nodes[other].name.clone(),
                    nodes[asked].name.clone(),
                ));
            }
            thread::sleep(POLL);
        }
    }
    Ok(())
}
