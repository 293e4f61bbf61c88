//! Measures how good potluck's answers are, compared with llama.cpp's on the same file:
//! docs/inside/quality.md has the results for the real model.
//!
//! - `text` measures perplexity and divergence on a text: potluck's arithmetics, and llama.cpp's,
//!   against f32 arithmetic.
//! - `greedy` writes llama.cpp's answers to some prompts, with its lead at each step, as the
//!   reference for a test of potluck.
//! - `mmlu` asks both programs multiple-choice questions, and says how many answers are right and
//!   how many equal.
//!
//! llama.cpp is `bench-peer serve`, a process that reads token ids and writes logits.

mod greedy;
mod mmlu;
mod ours;
mod peer;
mod text;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser};

#[derive(Parser)]
#[command(about = "How good potluck's answers are, beside llama.cpp's on the same file")]
enum Command {
    /// Perplexity on a text, and divergence from f32 arithmetic
    Text(TextArgs),
    /// Write llama.cpp's greedy answers to prompts, one per line
    Greedy(GreedyArgs),
    /// Ask multiple-choice questions
    Mmlu(MmluArgs),
}

/// The options of every command.
#[derive(Args, Clone)]
struct Common {
    /// The GGUF
    #[arg(long)]
    model: PathBuf,
    /// The program of tools/bench-peer
    #[arg(long)]
    peer: Option<PathBuf>,
    /// Cores that compute, in either program
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Args)]
struct TextArgs {
    #[command(flatten)]
    common: Common,
    /// The unquantised model, with which all are compared; by default, the file itself in float
    /// arithmetic
    #[arg(long)]
    reference: Option<PathBuf>,
    /// More files of the same model
    #[arg(long)]
    also: Vec<PathBuf>,
    /// The lanes to run for each file, except the reference itself
    #[arg(long, value_enum, value_delimiter = ',', default_value = "float,int8-kv,int8,llama.cpp")]
    lanes: Vec<text::LaneKind>,
    /// Tokens of a window
    #[arg(long, default_value_t = 2_048)]
    context: usize,
    /// Read only the first of every N windows
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// File for the results of windows, one per line: windows that it has are not measured again
    #[arg(long)]
    kept: Option<PathBuf>,
    /// The text to predict
    text: PathBuf,
}

#[derive(Args)]
struct GreedyArgs {
    #[command(flatten)]
    common: Common,
    /// Tokens of an answer
    #[arg(long, default_value_t = 24)]
    tokens: usize,
    /// A file of prompts, one per line
    prompts: PathBuf,
}

#[derive(Args)]
struct MmluArgs {
    #[command(flatten)]
    common: Common,
    /// Number of examples before a question
    #[arg(long, value_delimiter = ',', default_value = "0,1,5")]
    examples: Vec<usize>,
    /// Ask at most this many questions of each subject, the first ones
    #[arg(long, default_value_t = usize::MAX)]
    limit: usize,
    /// File for answers, one per line: questions that it has are not asked again
    #[arg(long)]
    kept: PathBuf,
    /// A directory with dev/ and test/
    questions: PathBuf,
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Text(args) => text::measure(&args),
        Command::Greedy(args) => greedy::record(&args),
        Command::Mmlu(args) => mmlu::ask(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quality: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Errors of the command line, and everything else that ends a run.
type Failure = Box<dyn Error>;
