//! The commands that work on files: convert, synth, inspect, verify. Progress goes to standard error, results to standard output.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use thiserror::Error;

use crate::model::convert::{self, ConvertError, ConvertType, Report};
use crate::model::inspect;
use crate::model::synth::{self, Shape};
use crate::model::verify::{self, VerifyError};
use crate::model::{FileError, Progress};

/// Progress is shown this often on a terminal. A log gets none: the result is enough there.
const SHOWN_EVERY: Duration = Duration::from_millis(100);

/// Why a file could not be worked on.
#[derive(Debug, Error)]
pub(super) enum ToolError {
    #[error(transparent)]
    Convert(#[from] ConvertError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("the result cannot be written: {0}")]
    Output(#[from] io::Error),
}

pub(super) fn convert(dir: &Path, out: &Path, kind: ConvertType) -> Result<(), ToolError> {
    let mut bar = Bar::new();
    let report = convert::convert(dir, out, kind, &mut |progress| bar.show(progress))?;
    bar.clear();
    written(out, &report);
    Ok(())
}

pub(super) fn synth(shape: Shape, seed: u64, kind: ConvertType, out: &Path) -> Result<(), ToolError> {
    let mut bar = Bar::new();
    let report = synth::synth(shape, seed, kind, out, &mut |progress| bar.show(progress))?;
    bar.clear();
    written(out, &report);
    Ok(())
}

fn written(out: &Path, report: &Report) {
    for note in &report.notes {
        println!("{note}");
    }
    println!("{}: {} tensors, {:.1} MB", out.display(), report.tensors, report.tensor_bytes as f64 / 1e6);
}

pub(super) fn inspect(file: &Path, json: bool) -> Result<(), ToolError> {
    let inspection = inspect::inspect(file)?;
    if json {
        return print_json(&inspection);
    }
    println!("{inspection}");
    Ok(())
}

/// True when everything holds that must.
pub(super) fn verify(dir: &Path, json: bool) -> Result<bool, ToolError> {
    let mut bar = Bar::new();
    let report = verify::verify(dir, &std::env::temp_dir(), &mut |progress| bar.show(progress))?;
    bar.clear();
    if json {
        print_json(&report)?;
    } else {
        println!("{report}");
    }
    Ok(report.passed)
}

fn print_json(value: &impl Serialize) -> Result<(), ToolError> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    println!("{text}");
    Ok(())
}

/// A line of progress on a terminal.
struct Bar {
    shown: Option<Instant>,
    terminal: bool,
}

impl Bar {
    fn new() -> Bar {
        Bar { shown: None, terminal: io::stderr().is_terminal() }
    }

    fn show(&mut self, progress: Progress<'_>) {
        if !self.terminal || self.shown.is_some_and(|at| at.elapsed() < SHOWN_EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = 100 * progress.done / progress.total.max(1);
        eprint!("\r\x1b[K{percent:3} % {}", progress.item);
        let _ = io::stderr().flush();
    }

    fn clear(&self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
