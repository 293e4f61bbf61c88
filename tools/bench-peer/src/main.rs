//! Measures potluck and llama.cpp on the same GGUF files in one run. llama.cpp comes from the crate
//! `llama-cpp-sys-2`, built by its own build system.
//!
//! - `measure` runs llama.cpp over the cases of `potluck bench`, with the same tokens, and prints
//!   JSON of the same form.
//! - `compare` runs both programs in turn, round after round, and prints medians and ratios.
//! - `tokenize` prints llama.cpp's tokens of texts, and where they differ from potluck's.
//! - `logits` writes llama.cpp's logits of some tokens, to compare with potluck's.
//! - `quantize` converts a file to another type with llama.cpp's own quantiser.
//! - `state` saves and loads llama.cpp's own state, and says how many bytes and seconds that takes.
//! - `serve` answers token ids with logits until its input ends, for tools/quality.

mod compare;
mod llama;
mod measure;
mod quantize;
mod serve;
mod state;
mod tokenize;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::llama::{KvType, Llama, Settings};
use clap::{Args, Parser};

#[derive(Parser)]
#[command(about = "potluck and llama.cpp on the same GGUF files, measured in one run")]
enum Command {
    /// Run llama.cpp over the cases of `potluck bench`, and print JSON of the same form
    Measure(MeasureArgs),
    /// Run both programs in turn, and print medians and ratios
    Compare(CompareArgs),
    /// Print llama.cpp's tokens of texts, or what differs from potluck's
    Tokenize(TokenizeArgs),
    /// Write llama.cpp's logits of every token given: tokens × vocabulary little-endian f32
    Logits(LogitsArgs),
    /// Write a GGUF in another type, as llama.cpp's own quantiser does
    Quantize(QuantizeArgs),
    /// Save llama.cpp's state of prompts, load it again and continue: bytes, seconds, and whether
    /// the tokens are the same
    State(StateArgs),
    /// Answer lines `FIRST all|last ID,ID,...` with rows of little-endian f32
    Serve(ServeArgs),
}

#[derive(Args)]
struct TokenizeArgs {
    /// The GGUF whose vocabulary is read
    #[arg(long)]
    model: PathBuf,
    /// Texts, one JSON object per line: {"text": "..."}; "ids", if there are any, are compared
    texts: PathBuf,
}

/// The cases, as `potluck bench` takes them.
#[derive(Args, Clone)]
struct Cases {
    /// Tokens of the prompts to measure
    #[arg(long, value_delimiter = ',', default_value = "64,256,512")]
    prefill: Vec<u32>,
    /// Numbers of tokens before the decoded ones
    #[arg(long, value_delimiter = ',', default_value = "64,512")]
    depth: Vec<u32>,
    /// Tokens to decode at each depth; 0 for none
    #[arg(long, default_value_t = 16)]
    steps: u32,
}

#[derive(Args)]
struct MeasureArgs {
    #[command(flatten)]
    cases: Cases,
    /// The GGUF
    #[arg(long)]
    model: PathBuf,
    #[arg(long, default_value_t = 1)]
    threads: u32,
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Count the first run, too
    #[arg(long)]
    no_warm_up: bool,
    /// Use the weights as they are in the file, even if llama.cpp would keep a copy in another
    /// order
    #[arg(long)]
    no_repack: bool,
}

#[derive(Args)]
struct CompareArgs {
    #[command(flatten)]
    cases: Cases,
    /// A program that takes the options of `potluck bench` or `bench-peer measure`, with its own
    /// options if needed; the others are compared with the first. May be given several times
    #[arg(long = "program", value_name = "NAME=COMMAND...", required = true)]
    programs: Vec<compare::Program>,
    /// How many cores compute
    #[arg(long, value_delimiter = ',', default_value = "1")]
    threads: Vec<u32>,
    /// Number of rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Compare the CPU time of all threads together instead of wall-clock time: for shared machines
    #[arg(long)]
    cpu_time: bool,
    /// Write everything measured here, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// The GGUF files
    #[arg(required = true)]
    models: Vec<PathBuf>,
}

#[derive(Args)]
struct LogitsArgs {
    /// The GGUF
    #[arg(long)]
    model: PathBuf,
    /// Token ids
    #[arg(long, value_delimiter = ',', required = true)]
    tokens: Vec<i32>,
    /// The file to write
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
struct QuantizeArgs {
    /// A GGUF whose matrices are F32, F16 or BF16
    from: PathBuf,
    /// The GGUF to write
    out: PathBuf,
    #[arg(long, value_enum)]
    r#type: quantize::FileType,
    #[arg(long, default_value_t = 1)]
    threads: u32,
}

#[derive(Args)]
struct StateArgs {
    /// The GGUF
    #[arg(long)]
    model: PathBuf,
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Tokens to decode after each prompt
    #[arg(long, default_value_t = 8)]
    steps: usize,
    /// Prompts, one JSON object per line: {"key": "...", "ids": [...]}; - is standard input
    prompts: PathBuf,
}

#[derive(Args)]
struct ServeArgs {
    /// The GGUF
    #[arg(long)]
    model: PathBuf,
    /// Tokens that the context holds
    #[arg(long, default_value_t = 2_048)]
    context: usize,
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// How keys and values are kept
    #[arg(long, value_enum, default_value = "f16")]
    kv: KvType,
    /// Keep sliding layers' state beyond their window, so that FIRST may go back to any position
    #[arg(long)]
    keep_all: bool,
}

fn main() -> ExitCode {
    match obey(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn obey(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Measure(args) => measure::measure(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::State(args) => state::state(&args),
        Command::Serve(args) => serve::serve(&args),
        Command::Quantize(args) => quantize::quantize(&args),
        Command::Tokenize(args) => tokenize::tokenize(&args),
        Command::Logits(args) => {
            let settings = Settings { longest: args.tokens.len(), ..Settings::default() };
            let mut llama = Llama::load(&args.model, &settings)?;
            let mut logits = Vec::new();
            for &token in &args.tokens {
                logits.extend(llama.all_logits(&[token])?);
            }
            let bytes: Vec<u8> = logits.iter().flat_map(|value| value.to_le_bytes()).collect();
            Ok(std::fs::write(&args.out, bytes)?)
        }
    }
}
