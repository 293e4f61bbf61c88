//! Removes the unfinished output of a command that Ctrl-C or a signal to terminate stops.
//!
//! Commands on files run on one thread that never checks for signals, so another thread waits for
//! them. Finished output already has its final name, and stays.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process;
use std::thread;

use crate::drive::Signals;
use crate::fronts::eprint;

/// Starts a thread that waits for a signal to stop, then removes the file or directory at `path`,
/// if there is one, and exits.
pub(super) fn remove_when_stopped(path: PathBuf) -> io::Result<()> {
    let mut signals = Signals::new()?;
    let wait = move || {
        if let Some(signal) = signals.wait() {
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            eprint("\npotluck: stopped; the unfinished output was removed\n");
            // Shells report death by a signal with this code.
            process::exit(128 + signal);
        }
    };
    thread::Builder::new().name("signals".to_string()).spawn(wait).map(drop)
}
