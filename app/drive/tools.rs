//! The commands that work on files: convert, synth, inspect, verify, perplexity. Progress goes to standard error, results to standard output.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use thiserror::Error;

use crate::model::convert::{self, ConvertError, ConvertType, Report};
use crate::model::inspect;
use crate::model::perplexity::{self, PerplexityError};
use crate::model::synth::{self, Shape};
use crate::model::verify::{self, VerifyError};
use crate::model::{FileError, Progress};

use super::terminal::{OutputError, give_line, tell};

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
    #[error(transparent)]
    Perplexity(#[from] PerplexityError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

pub(super) fn convert(dir: &Path, out: &Path, kind: ConvertType) -> Result<(), ToolError> {
    let mut bar = Bar::new();
    let report = convert::convert(dir, out, kind, &mut |progress| bar.show(progress))?;
    drop(bar);
    written(out, &report)
}

pub(super) fn synth(shape: Shape, seed: u64, kind: ConvertType, out: &Path) -> Result<(), ToolError> {
    let mut bar = Bar::new();
    let report = synth::synth(shape, seed, kind, out, &mut |progress| bar.show(progress))?;
    drop(bar);
    written(out, &report)
}

fn written(out: &Path, report: &Report) -> Result<(), ToolError> {
    for note in &report.notes {
        give_line(note)?;
    }
    let Report { tensors, tensor_bytes, .. } = report;
    Ok(give_line(format_args!("{}: {tensors} tensors, {:.1} MB", out.display(), *tensor_bytes as f64 / 1e6))?)
}

pub(super) fn inspect(file: &Path, json: bool) -> Result<(), ToolError> {
    let inspection = inspect::inspect(file)?;
    if json {
        return print_json(&inspection);
    }
    Ok(give_line(inspection)?)
}

/// True when everything holds that must.
pub(super) fn verify(dir: &Path, json: bool) -> Result<bool, ToolError> {
    let mut bar = Bar::new();
    let report = verify::verify(dir, &std::env::temp_dir(), &mut |progress| bar.show(progress))?;
    drop(bar);
    if json {
        print_json(&report)?;
    } else {
        give_line(&report)?;
    }
    Ok(report.passed)
}

pub(super) fn perplexity(
    model: &Path,
    reference: Option<&Path>,
    text: &Path,
    context: usize,
    json: bool,
) -> Result<(), ToolError> {
    let mut bar = Bar::new();
    let report = perplexity::measure(model, reference, text, context, &mut |progress| bar.show(progress))?;
    drop(bar);
    if json {
        return print_json(&report);
    }
    Ok(give_line(report)?)
}

fn print_json(value: &impl Serialize) -> Result<(), ToolError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| OutputError::from(io::Error::from(error)))?;
    Ok(give_line(text)?)
}

/// A line of progress on a terminal, gone when dropped: what follows, a result or why there is none, has the line for itself.
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
        tell(format_args!("\r\x1b[K{percent:3} % {}", progress.item));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.shown.is_some() {
            tell("\r\x1b[K");
        }
    }
}
