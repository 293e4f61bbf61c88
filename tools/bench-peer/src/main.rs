//! potluck and llama.cpp on the same GGUF files, measured in one run. llama.cpp is what the crate `llama-cpp-sys-2` carries,
//! built as its own build system builds it.
//!
//! - `measure` runs llama.cpp over the cases of `potluck bench`, with the same tokens, and prints JSON of the same form.
//! - `compare` runs both programs in turn, round after round, and prints medians and ratios.
//! - `tokenize` prints llama.cpp's tokens of texts, and where they differ from potluck's.
//! - `logits` writes llama.cpp's logits of some tokens, to hold potluck's against.
//! - `quantize` writes a file in another type, as llama.cpp's own quantiser does.
//! - `state` saves and loads llama.cpp's own state, and says how many bytes and seconds that takes.
//! - `serve` answers token ids with logits as long as it is asked: what tools/quality talks to.

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
    /// Save llama.cpp's state of prompts, load it again and go on: bytes, seconds, and whether the same tokens come
    State(StateArgs),
    /// Answer lines `FIRST all|last ID,ID,...` with rows of little-endian f32
    Serve(ServeArgs),
}

#[derive(Args)]
struct TokenizeArgs {
    /// The GGUF, of which the vocabulary is read
    #[arg(long)]
    model: PathBuf,
    /// Texts, a JSON object a line: {"text": "..."}; with "ids", those are compared
    texts: PathBuf,
}

/// The cases, as `potluck bench` takes them.
#[derive(Args, Clone)]
struct Cases {
    /// Tokens of the prompts to measure
    #[arg(long, value_delimiter = ',', default_value = "64,256,512")]
    prefill: Vec<u32>,
    /// Tokens that lie before what is decoded
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
    /// Count the first run too
    #[arg(long)]
    no_warm_up: bool,
    /// Use the weights as they lie in the file, where llama.cpp would keep a copy in another order
    #[arg(long)]
    no_repack: bool,
}

#[derive(Args)]
struct CompareArgs {
    #[command(flatten)]
    cases: Cases,
    /// A program that takes `potluck bench`'s options or `bench-peer measure`'s, with options of its own where needed; the first
    /// is what the others are compared with. May be given several times
    #[arg(long = "program", value_name = "NAME=COMMAND...", required = true)]
    programs: Vec<compare::Program>,
    /// How many cores compute
    #[arg(long, value_delimiter = ',', default_value = "1")]
    threads: Vec<u32>,
    /// How often the programs take turns
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Compare the time that cores computed, of all threads together, and not the time that passed: for machines that others use
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
    /// Where to
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
    /// Tokens that are decoded after each prompt
    #[arg(long, default_value_t = 8)]
    steps: usize,
    /// Prompts, a JSON object a line: {"key": "...", "ids": [...]}; - is standard input
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
    /// Keep sliding layers' state beyond their window, so that FIRST may go back as far as it likes
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
