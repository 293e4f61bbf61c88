//! The command line: each command has a file of its own.
//!
//! Every error becomes a `Fail`, whose message says what to do. `main` prints it and sets the exit
//! code.

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

use crate::fronts::eprint_briefly;
use crate::start::{EffectiveSettings, Options, Unread};

pub use cli::main;

/// Reads the settings of a command that cannot run without them. Prints their problems, and the
/// path of a file that was found without being named.
fn effective_settings<const COMMAND: u8>(
    options: &Options<COMMAND>,
) -> Result<EffectiveSettings, Unread> {
    let effective = options.effective()?;
    if let Some(file) = effective.file.as_ref().filter(|_| effective.is_found) {
        eprint_briefly(format!("· settings from {}; --config names others\n", file.display()));
    }
    eprint_briefly(effective.problems.iter().map(|line| format!("{line}\n")).collect::<String>());
    Ok(effective)
}
