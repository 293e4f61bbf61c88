//! What a command has half written goes away with it when it is told to end: Ctrl-C, or a signal to terminate.
//!
//! Commands that work on files run on one thread and look up from it nowhere, so another waits for the signal. What was finished
//! before lies under its own name by then, and stays.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process;
use std::thread;

use crate::drive::Signals;
use crate::fronts::tell;

/// Removes the file or directory at `path`, should it be there, and ends the program when it is told to.
pub(super) fn remove_when_stopped(path: PathBuf) -> io::Result<()> {
    let mut signals = Signals::new()?;
    let wait = move || {
        if let Some(signal) = signals.wait() {
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            tell("\npotluck: stopped, and nothing is left of what was half written\n");
            // As a shell gives the end by a signal.
            process::exit(128 + signal);
        }
    };
    thread::Builder::new().name("signals".to_string()).spawn(wait).map(drop)
}
