//! The command line and its commands, a file each: arguments in, what was asked for out.
//!
//! Whatever is wrong becomes a `Fail`, which says what to do; `main` prints it and the exit code tells scripts.

mod ask;
mod bench;
mod cli;
mod config;
mod convert;
mod fail;
mod file;
mod inspect;
mod key;
mod manual;
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
use crate::start::{Options, Settled};

pub use cli::main;

use fail::Fail;

/// The settings of a command that only works where they can be read; what is wrong in them is told.
fn settled<const COMMAND: u8>(options: &Options<COMMAND>) -> Result<Settled, Fail> {
    let settled = options.settle()?;
    tell_briefly(settled.problems.iter().map(|line| format!("{line}\n")).collect::<String>());
    Ok(settled)
}
