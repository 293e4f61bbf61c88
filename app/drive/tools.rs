//! The commands that work on files: convert, synth, inspect, verify, perplexity. Progress goes to standard error, results to standard
//! output. What is half written when a command is told to end goes away with it.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use thiserror::Error;

use crate::model::convert::{self, ConvertError, ConvertType, Report};
use crate::model::inspect;
use crate::model::perplexity::{self, PerplexityError};
use crate::model::synth::{self, Shape};
use crate::model::verify::{self, Scratch, VerifyError};
use crate::model::{FileError, Precision, Progress, draft_of};

use super::bench::{self, BenchError};
use super::cores::Cores;
use super::terminal::{OutputError, give_line, tell};
use super::unfinished;

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
    Bench(#[from] BenchError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("nothing can listen for the signal to stop: {0}")]
    Signals(io::Error),
}

pub(super) fn convert(from: &Path, out: &Path, kind: ConvertType) -> Result<(), ToolError> {
    unfinished::remove_when_stopped(draft_of(out)).map_err(ToolError::Signals)?;
    let mut bar = Bar::new();
    let report = convert::convert(from, out, kind, &mut |progress| bar.show(progress))?;
    drop(bar);
    written(out, &report)
}

pub(super) fn synth(shape: Shape, seed: u64, kind: ConvertType, out: &Path) -> Result<(), ToolError> {
    unfinished::remove_when_stopped(draft_of(out)).map_err(ToolError::Signals)?;
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

/// With `cores`, it is measured how fast they run the model.
pub(super) fn inspect(file: &Path, cores: Option<&Cores>, json: bool) -> Result<(), ToolError> {
    let mut inspection = inspect::inspect(file)?;
    inspection.speed = cores.map(|cores| bench::speed(file, Precision::INT8, cores)).transpose()?;
    if json {
        return print_json(&inspection);
    }
    Ok(give_line(inspection)?)
}

/// True when everything holds that must.
pub(super) fn verify(dir: &Path, json: bool) -> Result<bool, ToolError> {
    let scratch = Scratch::new(&std::env::temp_dir())?;
    unfinished::remove_when_stopped(scratch.path().to_path_buf()).map_err(ToolError::Signals)?;
    let mut bar = Bar::new();
    let report = verify::verify(dir, &scratch, &mut |progress| bar.show(progress))?;
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
