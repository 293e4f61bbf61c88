//! The command bench: how fast this build runs a model on this machine, and in what memory. It
//! calls the model as the engine does, on pages of its own, so no cache can answer for it; and it
//! computes every case anew each time.
//!
//! A case is some tokens taken in after so many others: as one prompt (prefill), or one by one
//! (decode). The cases take turns within each run, so that a machine that slows down meanwhile
//! slows them all, and medians over the runs are reported. What is computed is the same every time
//! and on every machine: the n-th token is [`token`]`(n)`, or that of a text.

mod pace;
mod report;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use thiserror::Error;

use crate::config::Halves;
use crate::fronts::{OutputError, eprint, print, print_event};
use crate::id::TokenId;
use crate::kv::Sequence;
use crate::limits::{
    BENCH_DECODE_TOKENS, MAX_CONTEXT_TOKENS, MAX_LIKELIEST, MAX_PROMPT_BYTES, PREFILL_STEP_TOKENS,
};
use crate::machine::process;
use crate::model::inspect::Speed;
use crate::model::{self, FileError, Logits, Model, ModelError, Precision, Wanted};
use crate::start::{
    BENCH, Cores, Kept, Options, OutputRows, SetupError, keep, model as named, precision,
    tokenizer_of,
};

use super::effective_settings;
use super::fail::Fail;
use super::pace::PaceFileError;
use super::prompt::{PromptError, Source};
use super::usage::whole;
use crate::tokenizer::{Tokenizer, TokenizerError};
use report::{Case, Report};

/// What the command line says.
#[derive(Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    options: Options<BENCH>,
    #[command(flatten)]
    what: BenchSettings,
}

impl BenchArgs {
    /// Whether a program reads the output.
    pub(super) fn is_json(&self) -> bool {
        self.what.json
    }
}

/// What is to be measured.
#[derive(Args)]
struct BenchSettings {
    /// Tokens of the prompts to measure
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "64,256,512", value_parser = whole(0..=MOST))]
    prefill: Vec<u32>,
    /// Tokens that lie before what is decoded, and before a prompt that goes on
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "64,512", value_parser = whole(0..=MOST))]
    depth: Vec<u32>,
    /// Tokens to decode at each depth; 0 for none
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = whole(0..=MOST))]
    steps: u32,
    /// Tokens of a prompt that goes on at each depth; 0 for none
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole(0..=MOST))]
    extend: u32,
    /// Of how many likeliest tokens a decoded step finds the logits, where output rows are read in
    /// halves; 1 is greedy, 0 finds all
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = whole(0..=MAX_LIKELIEST as u32))]
    likeliest: u32,
    /// How often each is measured: the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole(1..=1_000_u32))]
    runs: u32,
    /// Count the first run too, which fetches the model's pages
    #[arg(long)]
    no_warm_up: bool,
    /// Leave the tokenizer out, which no case needs without a text
    #[arg(long, conflicts_with = "text")]
    no_tokenizer: bool,
    /// Measure on the tokens of this text instead of random ones: where output rows are read in
    /// halves, the cost of a decoded token depends on the text
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// One JSON object instead of a table
    #[arg(short, long)]
    json: bool,
    /// Also measure what this machine takes for a job, and write it to FILE:
    /// `potluck run --pace FILE` then takes as long elsewhere
    #[arg(long, value_name = "FILE")]
    pace_out: Option<PathBuf>,
}

/// Tokens of the longest text. Whether the model takes so many, the model says.
const MOST: u32 = MAX_CONTEXT_TOKENS as u32;

/// Why nothing was measured.
#[derive(Debug, Error)]
pub(super) enum BenchError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("the measured pass failed: {0}")]
    Pass(ModelError),
    #[error(transparent)]
    Pace(#[from] PaceFileError),
    #[error(transparent)]
    Text(#[from] PromptError),
    #[error(transparent)]
    Tokens(#[from] TokenizerError),
    #[error(
        "{text} has {tokens} tokens, and the longest case takes {needed}: give a longer text, or \
         fewer tokens"
    )]
    Short { text: PathBuf, tokens: usize, needed: usize },
}

/// The id at place `at` of every measured text: spread over the vocabulary, and simple enough to
/// give another program too.
pub(super) fn token(at: usize, vocab: usize) -> TokenId {
    let spread = (at as u32).wrapping_mul(2_654_435_761);
    TokenId(((u64::from(spread) * vocab as u64) >> 32) as u32)
}

/// So many tokens of the text that is measured where none is named.
fn random(tokens: usize, vocab: usize) -> Vec<TokenId> {
    (0..tokens).map(|at| token(at, vocab)).collect()
}

/// Tokens of the longest case.
fn longest(cases: &[Case]) -> usize {
    cases.iter().map(|case| case.depth + case.tokens).max().unwrap_or(0)
}

/// Loads the model, measures and reports.
pub(super) fn run(args: BenchArgs) -> Result<(), Fail> {
    let effective = effective_settings(&args.options)?;
    let (config, model) = (&effective.config, named(&effective)?);
    let cores = Cores::new(&config.model).map_err(SetupError::from)?;
    Ok(load_and_measure(
        &model,
        config.model.tokenizer.as_deref(),
        precision(config),
        &cores,
        config.model.halves,
        &args.what,
    )?)
}

/// Loads `path`, measures on these cores and reports.
fn load_and_measure(
    path: &Path,
    json: Option<&Path>,
    precision: Precision,
    cores: &Cores,
    halves: Halves,
    settings: &BenchSettings,
) -> Result<(), BenchError> {
    let start = Instant::now();
    let opened = model::open(path)?;
    let file_bytes = opened.gguf.file_bytes();
    let reading = start.elapsed();
    let start = Instant::now();
    let tokenizer = (!settings.no_tokenizer)
        .then(|| tokenizer_of(&opened, path, json, &Kept::at(None)))
        .transpose()?;
    let tokenizer_s = tokenizer.as_ref().map(|_| start.elapsed().as_secs_f64());
    let text = settings
        .text
        .as_ref()
        .zip(tokenizer.as_ref())
        .map(|(path, tokenizer)| tokens_of(path, tokenizer))
        .transpose()?;
    drop(tokenizer);
    let kept = Kept::at(None);
    let rows = (halves != Halves::Off && settings.likeliest > 0).then(|| {
        OutputRows::of(&opened, kept.content(&opened).unwrap_or_else(|| opened.content()))
    });
    let start = Instant::now();
    let mut model = Model::new(opened.config, opened.weights, precision)?;
    let team = cores.team().map_err(SetupError::from)?;
    keep(cores.callers_cpu());
    let (threads, isa) = (team.cores(), team.isa());
    model.set_team(team);
    let load_s = (reading + start.elapsed()).as_secs_f64();
    let loaded_rss_bytes = process::peak_rss_bytes();
    if let Some(rows) = rows {
        rows.halve(&mut model, halves, &kept, &mut |line| eprint(format_args!("· {line}\n")));
    }

    let cases = measure(&model, settings, text.as_deref())?;
    let memory = process::peak_rss_bytes();
    if let Some(out) = &settings.pace_out {
        let pace = pace::measure(&model, text.as_deref(), load_s, settings.runs)
            .map_err(BenchError::Pass)?;
        super::pace::write(out, &pace, isa.name(), threads)?;
    }
    let report = Report {
        program: concat!("potluck ", env!("CARGO_PKG_VERSION")).to_string(),
        model: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        file_bytes,
        text: settings.text.as_ref().map(|path| path.display().to_string()),
        precision: if precision == Precision::INT8 { "int8" } else { "float" },
        instructions: isa.name(),
        threads,
        likeliest: if model.has_head() { Some(settings.likeliest) } else { None },
        runs: settings.runs as usize,
        load_s,
        tokenizer_s,
        cases,
        loaded_rss_bytes,
        peak_rss_bytes: memory,
        major_faults: process::major_faults(),
    };
    if settings.json { Ok(print_event("bench", &report)?) } else { Ok(print(report)?) }
}

/// How fast the model at `path` runs on these cores: a short measurement for
/// [`inspect`](crate::model::inspect), seconds on the board.
pub(super) fn speed(path: &Path, precision: Precision, cores: &Cores) -> Result<Speed, BenchError> {
    let opened = model::open(path)?;
    let mut model = Model::new(opened.config, opened.weights, precision)?;
    let team = cores.team().map_err(SetupError::from)?;
    let (threads, instructions) = (team.cores(), team.isa().name());
    model.set_team(team);
    let context = model.config().context.min(MAX_CONTEXT_TOKENS);
    let steps = BENCH_DECODE_TOKENS.min(context / 2).max(1);
    let prompt = PREFILL_STEP_TOKENS.min(context.saturating_sub(steps)).max(1);
    let mut cases = vec![Case::prefill(0, prompt), Case::decode(prompt, steps)];
    let text = random(longest(&cases), model.config().vocab);
    run_cases(&model, &mut cases, &text, 1, 2, true)?;
    let rates: Vec<f64> = cases.iter().filter_map(|case| Some(case.rate(case.median()?))).collect();
    let &[prefill_tokens_per_s, decode_tokens_per_s] = rates.as_slice() else {
        unreachable!("both cases ran")
    };
    Ok(Speed {
        prefill_tokens_per_s,
        prefill_tokens: prompt,
        decode_tokens_per_s,
        threads,
        instructions,
    })
}

/// The tokens of the text at `path`, as those of a prompt.
fn tokens_of(path: &Path, tokenizer: &Tokenizer) -> Result<Vec<TokenId>, BenchError> {
    let text = Source::File(path.to_path_buf()).whole(MAX_PROMPT_BYTES)?;
    Ok(tokenizer.encode_prompt(&text)?)
}

/// Every case that `settings` name, measured.
fn measure(
    model: &Model,
    settings: &BenchSettings,
    text: Option<&[TokenId]>,
) -> Result<Vec<Case>, BenchError> {
    let mut cases: Vec<Case> =
        settings.prefill.iter().map(|&tokens| Case::prefill(0, tokens as usize)).collect();
    for depth in settings.depth.iter().map(|&depth| depth as usize) {
        cases.extend([
            Case::prefill(depth, settings.extend as usize),
            Case::decode(depth, settings.steps as usize),
        ]);
    }
    cases.retain(|case| case.tokens > 0);
    let longest = longest(&cases);
    let text = match (text, &settings.text) {
        (Some(text), Some(path)) if text.len() < longest => {
            return Err(BenchError::Short {
                text: path.clone(),
                tokens: text.len(),
                needed: longest,
            });
        }
        (Some(text), _) => Cow::Borrowed(text),
        (None, _) => Cow::Owned(random(longest, model.config().vocab)),
    };
    let likeliest = settings.likeliest as usize;
    run_cases(model, &mut cases, &text, likeliest, settings.runs, !settings.no_warm_up)?;
    Ok(cases)
}

/// Computes every case so many times, one after another within each run, and once more before where
/// the model's pages are to be fetched first.
fn run_cases(
    model: &Model,
    cases: &mut [Case],
    text: &[TokenId],
    likeliest: usize,
    runs: u32,
    warm_up: bool,
) -> Result<(), BenchError> {
    let deepest = cases.iter().map(|case| case.depth).max().unwrap_or(0);
    let sequence = Arc::new(Sequence::private(model.kv_shape(), longest(cases)));

    // The state before the deepest case is that before every other, and computing it again gives
    // the same bytes.
    model.forward(&text[..deepest], 0, &sequence, Logits::None).map_err(BenchError::Pass)?;
    let warm_up = u32::from(warm_up);
    for run in 0..runs + warm_up {
        for case in &mut *cases {
            let (took, computed, rows) =
                pass(model, case, likeliest, text, &sequence).map_err(BenchError::Pass)?;
            if run >= warm_up {
                case.seconds.push(took.as_secs_f64());
                case.cpu_seconds.push(computed.as_secs_f64());
                case.rows = rows;
            }
        }
    }
    Ok(())
}

/// Computes one case; how long that took, and how much time of cores. Logits are those of the last
/// token, as for an answer, or where the model has a quicker way those of its `likeliest` when it
/// decodes; no token is chosen. The last figure is how many rows it was that were computed whole
/// then.
fn pass(
    model: &Model,
    case: &Case,
    likeliest: usize,
    text: &[TokenId],
    sequence: &Arc<Sequence>,
) -> Result<(Duration, Duration, usize), ModelError> {
    let mut rows = 0;
    let step = if case.one_by_one { 1 } else { case.tokens };
    let (start, computed) = (Instant::now(), process::cpu_time());
    for (index, tokens) in text[case.depth..case.depth + case.tokens].chunks(step).enumerate() {
        let first = case.depth + index * step;
        if case.one_by_one && likeliest > 0 && model.has_head() {
            let known = model.likeliest_while(
                tokens,
                first,
                sequence,
                Wanted { count: likeliest, apart: &[] },
                &|| true,
            )?;
            rows += known.len();
        } else {
            model.forward(tokens, first, sequence, Logits::Last(1))?;
        }
    }
    Ok((start.elapsed(), process::cpu_time() - computed, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_within_the_vocabulary_and_the_same_everywhere() {
        let ids: Vec<u32> = (0..5).map(|at| token(at, 262_144).0).collect();
        assert_eq!(ids, [0, 162_013, 61_883, 223_897, 123_767]);
        assert!((0..10_000).all(|at| token(at, 17).0 < 17));
    }
}
