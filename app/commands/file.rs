//! What the commands on files share: convert, synth, inspect, verify, perplexity. Progress goes to
//! standard error, results to standard output. A command that is stopped removes its unfinished
//! output.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::fronts::{Event, OutputError, eprint, print_line};
use crate::model::convert::{ConvertError, Report};
use crate::model::perplexity::PerplexityError;
use crate::model::verify::VerifyError;
use crate::model::{self, Progress};

use super::bench::BenchError;

/// Interval between progress updates on a terminal. A log gets none: the result is enough there.
const SHOWN_EVERY: Duration = Duration::from_millis(100);

/// Why a command on a file failed.
#[derive(Debug, Error)]
pub(super) enum FileError {
    #[error(transparent)]
    Convert(#[from] ConvertError),
    #[error(transparent)]
    Model(#[from] model::FileError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Perplexity(#[from] PerplexityError),
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("{}: already exists; name another file, or replace it with --force", .0.display())]
    Exists(PathBuf),
    #[error("cannot listen for stop signals: {0}")]
    Signals(io::Error),
}

/// Reports what was written.
pub(super) fn written(out: &Path, report: &Report, json: bool) -> Result<(), FileError> {
    let Report { tensors, bytes, notes, .. } = report;
    if json {
        let path = &out.display().to_string();
        return Ok(print_line(
            Event::Written { path, tensors: *tensors, bytes: *bytes, notes }.line(),
        )?);
    }
    notes.iter().for_each(|note| eprint(format_args!("· {note}\n")));
    Ok(print_line(format_args!(
        "{}: {tensors} tensors, {:.1} MB",
        out.display(),
        *bytes as f64 / 1e6
    ))?)
}

/// A progress line on a terminal. Dropping it clears the line for the result or error that follows.
pub(super) struct Bar {
    shown: Option<Instant>,
    terminal: bool,
}

impl Bar {
    pub(super) fn new() -> Bar {
        Bar { shown: None, terminal: io::stderr().is_terminal() }
    }

    pub(super) fn show(&mut self, progress: Progress<'_>) {
        if !self.terminal || self.shown.is_some_and(|at| at.elapsed() < SHOWN_EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = 100 * progress.done / progress.total.max(1);
        eprint(format_args!("\r\x1b[K{percent:3} % {}", progress.item));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprint("\r\x1b[K");
        }
    }
}
