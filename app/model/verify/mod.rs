//! Verifies this build against Hugging Face transformers, on a directory of any Gemma 3:
//! config.json, model.safetensors and golden.safetensors (see `golden.rs`).
//!
//! The model passes through `convert` into files, like a user's model. Verification fails if f32
//! weights, or Q8_0 weights with float activations, are off by more than [`TOLERANCE`], or if a
//! handed-over prefix changes a bit. Greedy continuations are only reported, because the logits of
//! two tokens may differ by less than rounding. The int8 path is only reported too: its acceptable
//! cost depends on the model.

mod compare;
mod digest;
mod golden;
mod handover;
mod rounded;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Serialize;
use thiserror::Error;

use super::convert::{ConvertError, ConvertType, convert};
use super::fault::{Fault, FileError};
use super::load::{Opened, open};
use super::{Model, ModelError, Precision, Progress, Weights};
use crate::limits::MAX_CONTEXT_TOKENS;

pub(crate) use compare::Compared;
pub(super) use compare::{argmax, divergence, log_sum};
pub(crate) use digest::Digests;
pub(crate) use handover::Handover;

use compare::Tally;
use digest::Digester;
use golden::Golden;
use handover::Bench;

/// The largest acceptable error of a logit in float arithmetic: f32's own noise is near 3e-5 here.
pub(crate) const TOLERANCE: f32 = 2e-4;

/// The result of a verification.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct VerifyReport {
    /// The directory.
    pub directory: String,
    /// Its sizes, in one line.
    pub model: String,
    /// Sequences in golden.safetensors.
    pub sequences: usize,
    /// f32 weights, f32 activations, f32 KV against the golden logits.
    pub float: Compared,
    /// Q8_0 weights, f32 activations and KV against the golden logits of Q8_0 weights; `None` if
    /// the golden file does not have them.
    pub q8_float: Option<Compared>,
    /// Q8_0 weights, int8 activations, int8 KV against the golden f32 logits.
    pub int8: Compared,
    /// Prefixes handed over in f32.
    pub float_handover: Handover,
    /// Prefixes handed over in int8.
    pub int8_handover: Handover,
    /// Digests of everything computed in f32.
    pub float_digests: Digests,
    /// Digests of everything computed in int8.
    pub int8_digests: Digests,
    /// One line per failure; empty if there is none.
    pub failures: Vec<String>,
    /// Whether there is no failure.
    pub passed: bool,
}

/// Why a directory could not be verified.
#[derive(Debug, Error)]
pub(crate) enum VerifyError {
    /// A file that cannot be read or understood.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model cannot be converted.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The model cannot be run.
    #[error("{directory}: {source}")]
    Model {
        /// The directory.
        directory: String,
        /// Why.
        source: ModelError,
    },
}

/// Verifies the directory `dir`. The converted files are written to `scratch`. `progress` counts
/// bytes while converting, then sequences, for each named stage.
pub(crate) fn verify(
    dir: &Path,
    scratch: &Scratch,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<VerifyReport, VerifyError> {
    let open_as =
        |ty: ConvertType, progress: &mut dyn FnMut(Progress<'_>)| -> Result<Opened, VerifyError> {
            let path = scratch.0.join(format!("{ty}.gguf"));
            convert(dir, &path, ty, progress)?;
            Ok(open(&path)?)
        };
    let float = open_as(ConvertType::F32, progress)?;
    let golden_path = dir.join("golden.safetensors");
    let golden = golden::read(&golden_path, float.config.vocab)?;
    let longest =
        golden.iter().map(|golden| golden.ids.len() + golden.greedy.len()).max().unwrap_or(0);
    if longest > float.config.context.min(MAX_CONTEXT_TOKENS) {
        let message =
            format!("a sequence of {longest} tokens exceeds the context; make a shorter one");
        return Err(FileError::new(&golden_path, Fault::Unsupported(message)).into());
    }
    let q8 = open_as(ConvertType::Q8_0, progress)?;

    let fail = |source| VerifyError::Model { directory: dir.display().to_string(), source };
    let mut run = Run { golden: &golden, longest, progress };
    let (float_compared, float_handover, float_digests) =
        run.stage("f32", &float, float.weights.clone(), Precision::FLOAT).map_err(fail)?;
    let q8_float = match golden.iter().all(|golden| golden.logits_q8w.is_some()) {
        false => None,
        true => rounded::weights(&float.weights, &q8.weights)
            .map(|weights| run.q8_float(&q8, weights))
            .transpose()
            .map_err(fail)?,
    };
    let (int8, int8_handover, int8_digests) =
        run.stage("int8", &q8, q8.weights.clone(), Precision::INT8).map_err(fail)?;
    let mut report = VerifyReport {
        directory: dir.display().to_string(),
        model: describe(&float),
        sequences: golden.len(),
        float: float_compared,
        q8_float,
        int8,
        float_handover,
        int8_handover,
        float_digests,
        int8_digests,
        failures: Vec::new(),
        passed: false,
    };
    report.failures = failures(&report);
    report.passed = report.failures.is_empty();
    Ok(report)
}

/// State shared by the stages.
struct Run<'a> {
    golden: &'a [Golden],
    longest: usize,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

impl Run<'_> {
    /// Logits, continuations, hand-overs and digests of one model.
    fn stage(
        &mut self,
        name: &str,
        opened: &Opened,
        weights: Weights,
        precision: Precision,
    ) -> Result<(Compared, Handover, Digests), ModelError> {
        let model = Model::new(opened.config.clone(), weights, precision)?;
        let bench = Bench::new(model.kv_shape(), self.longest);
        let (mut tally, mut handover, mut digester) =
            (Tally::default(), Handover::default(), Digester::default());
        for (number, golden) in self.golden.iter().enumerate() {
            self.show(name, number);
            let logits =
                compare::sequence(&model, bench.pages(), golden, &golden.logits, &mut tally)?;
            digester.sequence(&logits, bench.pages(), golden.ids.len());
            compare::greedy(&model, bench.pages(), golden, &mut tally)?;
            bench.hand_over(&model, number, &golden.ids, &mut handover)?;
        }
        Ok((tally.finish(), handover, digester.finish()))
    }

    /// Logits of Q8_0 weights with float activations.
    fn q8_float(&mut self, opened: &Opened, weights: Weights) -> Result<Compared, ModelError> {
        let model = Model::new(opened.config.clone(), weights, Precision::FLOAT)?;
        let bench = Bench::new(model.kv_shape(), self.longest);
        let mut tally = Tally::default();
        for (number, golden) in self.golden.iter().enumerate() {
            self.show("q8_0, float activations", number);
            if let Some(right) = &golden.logits_q8w {
                compare::sequence(&model, bench.pages(), golden, right, &mut tally)?;
            }
        }
        Ok(tally.finish())
    }

    fn show(&mut self, item: &str, done: usize) {
        (self.progress)(Progress { done: done as u64, total: self.golden.len() as u64, item });
    }
}

fn failures(report: &VerifyReport) -> Vec<String> {
    let mut failures = Vec::new();
    let mut off = |what: &str, error: f32| {
        // NaN fails too.
        if error.is_nan() || error > TOLERANCE {
            failures
                .push(format!("{what}: a logit is off by {error:.2e}, more than {TOLERANCE:.0e}"));
        }
    };
    off("f32", report.float.largest_error);
    if let Some(q8) = &report.q8_float {
        off("q8_0 with float activations", q8.largest_error);
    }
    for (what, handover) in [("f32", &report.float_handover), ("int8", &report.int8_handover)] {
        if let Some(difference) = &handover.first_difference {
            let (wrong, splits) = (handover.splits - handover.identical, handover.splits);
            failures.push(format!("{what}: a hit differs from a miss at {wrong} of {splits} splits, first {difference}"));
        }
    }
    failures
}

fn describe(opened: &Opened) -> String {
    let config = &opened.config;
    let (vocab, hidden, ffn, layers) =
        (config.vocab, config.hidden, config.ffn, config.layers.len());
    let (heads, kv_heads, head_dim, window) =
        (config.heads, config.kv_heads, config.head_dim, config.window);
    format!(
        "vocabulary {vocab}, hidden {hidden}, feed-forward {ffn}, {layers} layers, {heads} heads of {head_dim}, \
         {kv_heads} KV heads, window {window}"
    )
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} sequences", self.directory, self.sequences)?;
        writeln!(f, "{}", self.model)?;
        writeln!(
            f,
            "{:<28} {:>13} {:>9} {:>10} {:>11}",
            "", "largest error", "argmax", "mean KL", "greedy"
        )?;
        writeln!(f, "{:<28} {}", "f32", self.float)?;
        match &self.q8_float {
            Some(q8) => writeln!(f, "{:<28} {q8}", "q8_0, float activations")?,
            None => writeln!(f, "{:<28} not in golden.safetensors", "q8_0, float activations")?,
        }
        writeln!(f, "{:<28} {}", "q8_0, int8 activations, KV", self.int8)?;
        for (name, handover) in [("f32", &self.float_handover), ("int8", &self.int8_handover)] {
            writeln!(
                f,
                "prefix handed over, {name:<8} {} of {} splits bit-identical",
                handover.identical, handover.splits
            )?;
        }
        for (name, digests) in [("f32", &self.float_digests), ("int8", &self.int8_digests)] {
            writeln!(f, "digests, {name:<8} {digests}")?;
        }
        for failure in &self.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        write!(f, "{}", if self.passed { "verified" } else { "not verified" })
    }
}

/// A directory for the converted files; dropping it deletes it with its contents.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Creates one within `within`, such as the system's directory for temporary files.
    pub(crate) fn new(within: &Path) -> Result<Scratch, FileError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = within.join(format!("potluck-verify-{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(|error| FileError::new(&path, Fault::Write(error)))?;
        Ok(Scratch(path))
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If deleting fails, the files remain in the system's directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
