//! The command line and its commands, a file each: arguments in, what was asked for out.
//!
//! Whatever is wrong becomes a `Fail`, which says what to do; `main` prints it and the exit code tells scripts.

mod ask;
mod bench;
mod cli;
mod completions;
mod config;
mod console;
mod convert;
mod doctor;
mod eval;
mod fail;
mod file;
mod inspect;
mod key;
mod manual;
mod pace;
mod perplexity;
mod prompt;
mod read_template;
mod reset;
mod run;
mod swarm;
mod synth;
mod tokenize;
mod unfinished;
mod usage;
mod verify;

use crate::fronts::tell_briefly;
use crate::start::{Options, Settled, Unread};

pub use cli::main;

/// The settings of a command that only works where they can be read; a file that nobody named and what is wrong in it is told.
fn settled<const COMMAND: u8>(options: &Options<COMMAND>) -> Result<Settled, Unread> {
    let settled = options.settle()?;
    if let Some(file) = settled.file.as_ref().filter(|_| settled.is_found) {
        tell_briefly(format!("· settings from {}; --config names others\n", file.display()));
    }
    tell_briefly(settled.problems.iter().map(|line| format!("{line}\n")).collect::<String>());
    Ok(settled)
}
