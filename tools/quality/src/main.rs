//! How good potluck's answers are, beside llama.cpp's on the same file: what docs/inside/quality.md says of the real model.
//!
//! - `text` measures perplexity and divergence on a text: potluck's arithmetics, and llama.cpp's, against f32 arithmetic.
//! - `greedy` writes what llama.cpp answers to some prompts, with how sure it is at each step: a test holds potluck to it.
//! - `mmlu` asks both programs multiple-choice questions, and says how many answers are right and how many equal.
//!
//! llama.cpp is `bench-peer serve`, a process that takes token ids and gives logits.

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
    /// Write llama.cpp's greedy answers to prompts, one a line
    Greedy(GreedyArgs),
    /// Ask multiple-choice questions
    Mmlu(MmluArgs),
}

/// What every command takes.
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
    /// The unrounded model, which all are compared with; left out, it is the file itself in float arithmetic
    #[arg(long)]
    reference: Option<PathBuf>,
    /// More files of the same model
    #[arg(long)]
    also: Vec<PathBuf>,
    /// What is run of each file, but for the reference itself
    #[arg(long, value_enum, value_delimiter = ',', default_value = "float,int8-kv,int8,llama.cpp")]
    lanes: Vec<text::LaneKind>,
    /// Tokens of a window
    #[arg(long, default_value_t = 2_048)]
    context: usize,
    /// Of so many windows only the first is read
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Where what each window says is kept, one a line: those that are there are not read again
    #[arg(long)]
    kept: Option<PathBuf>,
    /// What to predict
    text: PathBuf,
}

#[derive(Args)]
struct GreedyArgs {
    #[command(flatten)]
    common: Common,
    /// Tokens of an answer
    #[arg(long, default_value_t = 24)]
    tokens: usize,
    /// A file of prompts, one a line
    prompts: PathBuf,
}

#[derive(Args)]
struct MmluArgs {
    #[command(flatten)]
    common: Common,
    /// How many examples come before a question
    #[arg(long, value_delimiter = ',', default_value = "0,1,5")]
    examples: Vec<usize>,
    /// At most this many questions of each subject, the first of them
    #[arg(long, default_value_t = usize::MAX)]
    limit: usize,
    /// Where answers are kept, one a line: those that are there are not asked for again
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

/// The command line's own mistakes, and everything else that ends a run.
type Failure = Box<dyn Error>;
