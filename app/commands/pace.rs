//! Files of a machine's costs: read for `potluck run --pace`, written by
//! `potluck bench --pace-out`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::PaceFault;
use crate::limits::MAX_CONFIG_FILE_BYTES;
use crate::pace::Pace;

/// Why a file of costs could not be read or written.
#[derive(Debug, Error)]
pub(super) enum PaceFileError {
    #[error("{0}: cannot be read ({1}): name a file of costs, as bench --pace-out writes it")]
    Unreadable(PathBuf, io::Error),
    #[error("{0}: {1}")]
    Fault(PathBuf, PaceFault),
    #[error("{0}: cannot be written: {1}")]
    Unwritable(PathBuf, io::Error),
}

/// Reads the costs at `path`.
pub(super) fn read(path: &Path) -> Result<Pace, PaceFileError> {
    let mut text = String::new();
    let most = MAX_CONFIG_FILE_BYTES as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(most).read_to_string(&mut text));
    read.map_err(|error| PaceFileError::Unreadable(path.to_path_buf(), error))?;
    Pace::read(&text).map_err(|fault| PaceFileError::Fault(path.to_path_buf(), fault))
}

/// Writes costs that were measured with `instructions` on `threads` cores.
pub(super) fn write(
    path: &Path,
    pace: &Pace,
    instructions: &str,
    threads: usize,
) -> Result<(), PaceFileError> {
    let version = env!("CARGO_PKG_VERSION");
    let head = format!(
        "# Measured by potluck {version} bench --pace-out: {instructions}, {threads} cores, medians.\n"
    );
    fs::write(path, format!("{head}{pace}"))
        .map_err(|error| PaceFileError::Unwritable(path.to_path_buf(), error))
}
