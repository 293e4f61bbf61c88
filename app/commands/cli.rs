//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::fronts::{Event, eprint_briefly, print_line};
use crate::start::READ_TEMPLATE;

use super::fail::Fail;
use super::{
    ask, bench, completions, config, console, convert, doctor, eval, inspect, key, manual,
    perplexity, read_template, reset, run, swarm, synth, tokenize, usage, verify,
};

/// Boards on one LAN answer prompts with Gemma 3 and share the KV state of every prompt prefix.
#[derive(Parser)]
#[command(name = "potluck", version, about, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    /// Run a node of the swarm, with a console on standard input
    Run(run::RunArgs),
    /// Answer one prompt on this machine alone, and end
    Ask(ask::AskArgs),
    /// Measure how fast a model runs on this machine, and in what memory
    Bench(bench::BenchArgs),
    /// Convert a Hugging Face directory (config.json, model.safetensors, tokenizer.json,
    /// chat_template.jinja) or another GGUF to a GGUF
    Convert(convert::ConvertArgs),
    /// Write a model of random weights in an exact published shape, for benchmarks
    Synth(synth::SynthArgs),
    /// Show what a GGUF contains, whether it is a chat model, how much memory it needs, and how
    /// fast it runs here
    Inspect(inspect::InspectArgs),
    /// Check this build's arithmetic and cache on a directory with config.json, model.safetensors
    /// and golden.safetensors
    Verify(verify::VerifyArgs),
    /// Measure how well a model predicts a text, and how much int8 arithmetic and int8 KV cost it
    Perplexity(perplexity::PerplexityArgs),
    /// Show the tokens of a text as the model sees them, or with --decode the text of tokens
    Tokenize(tokenize::TokenizeArgs),
    /// Make every node of the swarm forget what its peers hold, and with --store its own blocks
    Reset(reset::ResetArgs),
    /// Check whether this machine can run a node, and say what to fix: settings, model, memory,
    /// ports, network, board
    Doctor(doctor::DoctorArgs),
    /// Generate a swarm key: in digits, in words, and on a terminal as a QR code
    Key(key::KeyArgs),
    /// Run several nodes on this machine over real MMLU prompts, and check what they share
    Swarm(swarm::SwarmArgs),
    /// Run the published tables again, on emulated boards and radio or on real ones (needs Python)
    Eval(eval::EvalArgs),
    /// Attach this terminal to the console of a running node
    Console(console::ConsoleArgs),
    /// Print the completion script for a shell: bash, zsh or fish
    Completions {
        /// The shell
        shell: completions::For,
    },
    /// Print a manual page, or write all of them
    Manual(manual::ManualArgs),
    /// Read a chat template from standard input: started by the commands that load a model
    #[command(name = READ_TEMPLATE, hide = true)]
    ReadTemplate,
    /// Check a potluck.toml, or print the settings that it may contain
    #[command(subcommand)]
    Config(config::Config),
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let command = usage::read::<Cli>(std::env::args_os()).command;
    let is_json = command.is_json();
    let Err(fail) = execute(command) else { return ExitCode::SUCCESS };
    if !fail.is_silent() {
        if is_json {
            // A program may read only the output: give the reason there, too.
            let _ = print_line(Event::Error { id: None, reason: &fail.to_string() }.line());
        }
        eprint_briefly(format_args!("potluck: {fail}\n"));
    }
    ExitCode::FAILURE
}

impl Sub {
    /// Whether the output is JSON.
    fn is_json(&self) -> bool {
        match self {
            Sub::Run(args) => args.json,
            Sub::Ask(args) => args.json,
            Sub::Bench(args) => args.is_json(),
            Sub::Convert(args) => args.json,
            Sub::Synth(args) => args.json,
            Sub::Inspect(args) => args.json,
            Sub::Verify(args) => args.json,
            Sub::Perplexity(args) => args.json,
            Sub::Tokenize(args) => args.json,
            Sub::Reset(args) => args.json,
            Sub::Key(args) => args.json,
            Sub::Console(args) => args.json,
            Sub::Doctor(args) => args.json,
            Sub::Config(what) => what.is_json(),
            Sub::Swarm(_)
            | Sub::Eval(_)
            | Sub::Completions { .. }
            | Sub::Manual(_)
            | Sub::ReadTemplate => false,
        }
    }
}

fn execute(command: Sub) -> Result<(), Fail> {
    match command {
        Sub::Run(args) => run::run(args),
        Sub::Ask(args) => ask::run(args),
        Sub::Bench(args) => bench::run(args),
        Sub::Convert(args) => Ok(convert::run(&args)?),
        Sub::Synth(args) => Ok(synth::run(&args)?),
        Sub::Inspect(args) => Ok(inspect::run(&args)?),
        Sub::Verify(args) => verify::run(&args),
        Sub::Perplexity(args) => Ok(perplexity::run(&args)?),
        Sub::Tokenize(args) => Ok(tokenize::run(args)?),
        Sub::Reset(args) => reset::run(args),
        Sub::Doctor(args) => doctor::run(args),
        Sub::Key(args) => Ok(key::run(&args)?),
        Sub::Swarm(args) => swarm::run(args),
        Sub::Eval(args) => Err(eval::run(&args).into()),
        Sub::Console(args) => console::run(args),
        Sub::Completions { shell } => Ok(completions::run(shell)?),
        Sub::Manual(args) => Ok(manual::run(&args)?),
        Sub::ReadTemplate => Ok(read_template::run()?),
        Sub::Config(what) => config::run(&what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
