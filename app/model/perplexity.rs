//! Measures how well a model predicts a text, and what its number formats cost: perplexity, bits
//! per byte and the divergence from a reference, for each arithmetic that potluck runs, and by
//! position in the context.
//!
//! The text is split into windows; each begins with `bos` and an empty context. All models process
//! a window in step, one part at a time, so that only one part's logits are in memory.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

use super::fault::{Fault, FileError};
use super::load::open;
use super::verify::{argmax, divergence, log_sum};
use super::{Logits, Model, ModelError, Precision, Progress};
use crate::id::TokenId;
use crate::kv::{KvFormat, Sequence};
use crate::limits::MAX_PROMPT_BYTES;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Positions that pass through every model before the next ones: 64 rows of logits of Gemma 3's
/// vocabulary are 67 MB.
const PART: usize = 64;

/// Ends of the position ranges in the context: powers of two, because prompts grow like that.
const ENDS: [usize; 4] = [128, 512, 1_024, usize::MAX];

/// Measurements of one model in one arithmetic.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Row {
    /// The file.
    pub file: String,
    /// "float", or the parts that are int8: "int8 KV", "int8".
    pub arithmetic: &'static str,
    /// Over all positions.
    pub total: Figures,
    /// By distance from the beginning of the context; ranges beyond the windows' length are
    /// omitted.
    pub ranges: Vec<Range>,
}

/// Figures of the positions `from .. to`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Range {
    /// The first position.
    pub from: usize,
    /// One beyond the last.
    pub to: usize,
    /// The figures for these positions.
    pub figures: Figures,
}

/// Means over positions.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// Tokens predicted.
    pub tokens: usize,
    /// Mean negative log-likelihood of the actual next token, in nats.
    pub nats: f64,
    /// Its exponential.
    pub perplexity: f64,
    /// Mean Kullback-Leibler divergence from the first row's distribution, in nats.
    pub kl: f64,
    /// The share of positions whose likeliest token is the first row's.
    pub same_choice: f64,
}

/// The result of a measurement. The first row is the reference for all rows.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct PerplexityReport {
    /// The text's file.
    pub text: String,
    /// Bytes of text whose tokens were predicted.
    pub bytes: usize,
    /// The number of windows.
    pub windows: usize,
    /// Maximum tokens of a window, including `bos`.
    pub context: usize,
    /// Contradictions between the model's file and its own vocabulary, and which side was used.
    pub notes: Vec<String>,
    /// One for each file and arithmetic.
    pub rows: Vec<Row>,
}

/// Why nothing was measured.
#[derive(Debug, Error)]
pub(crate) enum PerplexityError {
    /// A file that cannot be read or understood.
    #[error(transparent)]
    File(#[from] FileError),
    /// A model that cannot run.
    #[error("{path}: {source}")]
    Model {
        /// The file.
        path: String,
        /// Why.
        source: ModelError,
    },
    /// The vocabulary, or the text to be encoded, is unusable.
    #[error("{path}: {source}")]
    Tokenizer {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: TokenizerError,
    },
}

/// Measures `model` on the text at `text`, in float arithmetic, with int8 KV, and with int8 KV and
/// activations. If a `reference` is given (the same model in f32), measures it first, with float
/// and int8 KV. Windows have `context` tokens, or the models' context if that is smaller.
/// `progress` counts tokens.
pub(crate) fn measure(
    model: &Path,
    reference: Option<&Path>,
    text: &Path,
    context: usize,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PerplexityReport, PerplexityError> {
    const INT8_KV: Precision = Precision { int8_activations: false, kv: KvFormat::Int8 };
    let plain: &[_] = &[("float", Precision::FLOAT), ("int8 KV", INT8_KV)];
    let all: &[_] = &[("float", Precision::FLOAT), ("int8 KV", INT8_KV), ("int8", Precision::INT8)];
    let mut lanes = Vec::new();
    for (path, arithmetics) in reference.map(|path| (path, plain)).into_iter().chain([(model, all)])
    {
        let opened = open(path)?;
        for (name, precision) in arithmetics {
            let made = Model::new(opened.config.clone(), opened.weights.clone(), *precision);
            let made = made.map_err(|source| PerplexityError::Model {
                path: path.display().to_string(),
                source,
            })?;
            lanes.push(Lane::new(path, name, made));
        }
    }
    let tokenizer = tokenizer(model, reference)?;
    let context = lanes.iter().map(|lane| lane.model.context()).fold(context.max(2), usize::min);
    let ids = tokenizer.encode(&read(text)?).map_err(|source| PerplexityError::Tokenizer {
        path: text.display().to_string(),
        source,
    })?;
    let bos = tokenizer.bos();
    if ids.len() < 2 {
        return Err(FileError::new(
            text,
            Fault::Unsupported("has too little text to predict; provide a longer one".into()),
        )
        .into());
    }
    for lane in &mut lanes {
        lane.pages = Arc::new(Sequence::private(lane.model.kv_shape(), context));
    }
    let (mut bytes, mut windows, mut done) = (0, 0, 0);
    for part in ids.chunks(context - usize::from(bos.is_some())) {
        let window: Vec<TokenId> = bos.into_iter().chain(part.iter().copied()).collect();
        bytes += tokenizer.decode(&window[1..]).len();
        windows += 1;
        for first in (0..window.len() - 1).step_by(PART) {
            step(&mut lanes, &window, first)?;
            progress(Progress {
                done: (done + first) as u64,
                total: ids.len() as u64,
                item: "tokens",
            });
        }
        done += part.len();
    }
    let rows = lanes.into_iter().map(|lane| lane.row(context)).collect();
    let notes = tokenizer.notes().map(str::to_owned).collect();
    Ok(PerplexityReport { text: text.display().to_string(), bytes, windows, context, notes, rows })
}

/// One model in one arithmetic, with its results so far.
struct Lane {
    path: String,
    arithmetic: &'static str,
    model: Model,
    pages: Arc<Sequence>,
    tallies: [Figures; ENDS.len()],
}

impl Lane {
    fn new(path: &Path, arithmetic: &'static str, model: Model) -> Lane {
        let pages = Arc::new(Sequence::private(model.kv_shape(), 0));
        Lane {
            path: path.display().to_string(),
            arithmetic,
            model,
            pages,
            tallies: Default::default(),
        }
    }

    fn row(self, context: usize) -> Row {
        let begins = [0].into_iter().chain(ENDS);
        let ranges = begins.zip(ENDS).zip(&self.tallies).filter(|(_, sums)| sums.tokens > 0);
        let ranges = ranges
            .map(|((from, to), sums)| Range { from, to: to.min(context), figures: sums.mean() })
            .collect();
        let total = self.tallies.iter().fold(Figures::default(), |sum, part| sum.plus(part)).mean();
        Row { file: self.path, arithmetic: self.arithmetic, total, ranges }
    }
}

impl Figures {
    /// Adds one position to the sums: `ours` and the reference's `right` logits, and the actual
    /// next token.
    fn add(&mut self, ours: &[f32], right: &[f32], came: TokenId) {
        self.tokens += 1;
        self.nats += log_sum(ours) - f64::from(ours[came.0 as usize]);
        self.kl += divergence(right, ours);
        self.same_choice += f64::from(u8::from(argmax(ours) == argmax(right)));
    }

    fn plus(self, other: &Figures) -> Figures {
        Figures {
            tokens: self.tokens + other.tokens,
            nats: self.nats + other.nats,
            kl: self.kl + other.kl,
            same_choice: self.same_choice + other.same_choice,
            perplexity: 0.0,
        }
    }

    /// Turns sums into means.
    fn mean(self) -> Figures {
        let tokens = self.tokens.max(1) as f64;
        let nats = self.nats / tokens;
        Figures {
            nats,
            perplexity: libm::exp(nats),
            kl: self.kl / tokens,
            same_choice: self.same_choice / tokens,
            ..self
        }
    }
}

/// Runs a part of a window through every model and tallies how each predicts the next tokens.
fn step(lanes: &mut [Lane], window: &[TokenId], first: usize) -> Result<(), PerplexityError> {
    let last = (first + PART).min(window.len() - 1);
    let mut right: Option<Vec<f32>> = None;
    for lane in lanes {
        let logits = lane.model.forward(&window[first..last], first, &lane.pages, Logits::All);
        let logits =
            logits.map_err(|source| PerplexityError::Model { path: lane.path.clone(), source })?;
        let vocab = lane.model.config().vocab;
        let right = right.get_or_insert_with(|| logits.clone());
        for (at, (ours, right)) in
            (first..).zip(logits.chunks_exact(vocab).zip(right.chunks_exact(vocab)))
        {
            let range = ENDS.iter().position(|end| at < *end).unwrap_or(ENDS.len() - 1);
            lane.tallies[range].add(ours, right, window[at + 1]);
        }
    }
    Ok(())
}

/// The vocabulary of `model`, which must equal the reference's; otherwise their logits refer to
/// different tokens.
fn tokenizer(model: &Path, reference: Option<&Path>) -> Result<Tokenizer, PerplexityError> {
    let vocabulary = |path: &Path| {
        let none =
            "the file has no vocabulary: convert it again with tokenizer.json in the directory";
        open(path)?
            .gguf
            .vocabulary()?
            .ok_or_else(|| FileError::new(path, Fault::Unsupported(none.into())))
    };
    let own = vocabulary(model)?;
    if let Some(reference) = reference
        && vocabulary(reference)? != own
    {
        let message = format!(
            "has a different vocabulary than {}; use the same model, converted with --type f32",
            model.display()
        );
        return Err(FileError::new(reference, Fault::Unsupported(message)).into());
    }
    Tokenizer::from_vocabulary(&own)
        .map_err(|source| PerplexityError::Tokenizer { path: model.display().to_string(), source })
}

/// The text. Reads no more than the maximum size of a prompt.
fn read(path: &Path) -> Result<String, FileError> {
    let cannot = |error| FileError::new(path, Fault::Open(error));
    let mut text = String::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(MAX_PROMPT_BYTES as u64 + 1).read_to_string(&mut text).map_err(cannot)?;
    Ok(text)
}

impl fmt::Display for PerplexityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PerplexityReport { text, bytes, windows, context, notes, rows } = self;
        let tokens = rows.first().map_or(0, |row| row.total.tokens);
        writeln!(
            f,
            "{text}: {tokens} tokens, {bytes} bytes, {windows} windows of up to {context} tokens"
        )?;
        notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        let heads = ["perplexity", "bits/byte", "mean KL", "same choice"];
        write!(f, "{:<9} {:>11} {:>10} {:>10} {:>12}", "", heads[0], heads[1], heads[2], heads[3])?;
        for range in rows.first().iter().flat_map(|row| &row.ranges) {
            write!(f, " {:>14}", format!("KL {}..{}", range.from, range.to))?;
        }
        let mut file = "";
        for row in rows {
            if row.file != file {
                file = &row.file;
                write!(f, "\n{file}")?;
            }
            let bits = row.total.nats / core::f64::consts::LN_2 * row.total.tokens as f64
                / (*bytes).max(1) as f64;
            let Figures { perplexity, kl, same_choice, .. } = row.total;
            write!(
                f,
                "\n{:<9} {perplexity:>11.4} {bits:>10.4} {kl:>10.2e} {same_choice:>12.4}",
                row.arithmetic
            )?;
            for range in &row.ranges {
                write!(f, " {:>14.2e}", range.figures.kl)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::convert::ConvertType;
    use crate::model::synth::{Shape, synth};

    #[test]
    fn a_coarser_format_is_further_from_the_reference_and_long_texts_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let make = |ty: ConvertType| {
            let path = dir.path().join(format!("{ty}.gguf"));
            synth(Shape::Demo, 3, ty, &path, &mut |_| {}).unwrap();
            path
        };
        let (fine, coarse) = (make(ConvertType::Q8_0), make(ConvertType::Q4_0));
        let text = dir.path().join("text.txt");
        std::fs::write(&text, "Which of the following is the value of the function? ".repeat(20))
            .unwrap();
        let report = measure(&coarse, Some(&fine), &text, 200, &mut |_| {}).unwrap();
        let names: Vec<_> = report.rows.iter().map(|row| row.arithmetic).collect();
        assert_eq!(names, ["float", "int8 KV", "float", "int8 KV", "int8"]);
        let [reference, kv, float, .., int8] = &report.rows[..] else { panic!("five rows") };
        assert_eq!((reference.total.kl, reference.total.same_choice), (0.0, 1.0));
        // Random weights predict nothing: near the logarithm of 4,096, and never much better.
        assert!(reference.total.nats > 7.0, "{}", reference.total.nats);
        assert!(
            kv.total.kl > 0.0
                && kv.total.kl < float.total.kl
                && float.total.kl < 2.0 * int8.total.kl,
            "{report}"
        );
        assert!(report.windows > 1 && report.bytes == 53 * 20);
        let ends: Vec<_> = reference.ranges.iter().map(|range| (range.from, range.to)).collect();
        assert_eq!(ends, [(0, 128), (128, 200)]);
        let parts: usize = reference.ranges.iter().map(|range| range.figures.tokens).sum();
        assert_eq!(parts, reference.total.tokens);
    }

    #[test]
    fn what_cannot_be_measured_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model.gguf");
        synth(Shape::Demo, 3, ConvertType::Q8_0, &model, &mut |_| {}).unwrap();
        let said = |bytes: &[u8]| {
            let text = dir.path().join("text.txt");
            std::fs::write(&text, bytes).unwrap();
            measure(&model, None, &text, 64, &mut |_| {}).unwrap_err().to_string()
        };
        assert!(
            said(b"").ends_with("text.txt: has too little text to predict; provide a longer one")
        );
        assert!(said(&[0xff; 8]).contains("text.txt: cannot be read"));
        assert!(said(&[b'x'; MAX_PROMPT_BYTES + 1]).contains("text.txt: "));
    }
}
