//! Perplexity and divergence on a text. The text is cut into windows, each with `bos` and an empty
//! context. All lanes read a window in lockstep, one part at a time, so that only the logits of one
//! part are in memory.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use clap::ValueEnum;
use potluck::id::TokenId;
use potluck::kernels::{Isa, softmax};
use potluck::kv::KvFormat;
use potluck::model::Precision;
use serde::{Deserialize, Serialize};

use crate::ours::Reader;
use crate::peer::Peer;
use crate::{Failure, TextArgs, ours};

/// One program in one arithmetic.
#[derive(Clone, Copy, ValueEnum)]
pub enum LaneKind {
    Float,
    Int8Kv,
    Int8Activations,
    Int8,
    /// `int8` without the `bos` with which every text should begin.
    NoBos,
    #[value(name = "llama.cpp")]
    Llama,
    #[value(name = "llama.cpp-q8_0-kv")]
    LlamaQ8Kv,
}

/// Positions of one part, which every lane reads before the next part: the logits take 67 MB per
/// lane.
const PART: usize = 64;

const INT8_KV: Precision = Precision { int8_activations: false, kv: KvFormat::Int8 };
const INT8_ACTIVATIONS: Precision = Precision { int8_activations: true, kv: KvFormat::F32 };

/// What predicts.
enum Predictor {
    Ours(Box<Reader>),
    Peer(Peer),
}

/// A predictor, and sums over the positions of one window, or of all windows.
struct Lane {
    file: String,
    arithmetic: &'static str,
    predictor: Predictor,
    /// Whether its windows begin with `bos`, as they should.
    has_bos: bool,
    tally: Tally,
}

/// Sums over positions.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Tally {
    nats: Mean,
    /// The excess over the first lane's.
    more: Mean,
    kl: Mean,
    same: usize,
}

/// The results of all lanes for a window.
#[derive(Serialize, Deserialize)]
struct Kept {
    window: usize,
    lanes: Vec<String>,
    tallies: Vec<Tally>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.nats.add_all(other.nats);
        self.more.add_all(other.more);
        self.kl.add_all(other.kl);
        self.same += other.same;
    }
}

/// The mean of the added values, with its standard error.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Mean {
    count: usize,
    sum: f64,
    squares: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    fn add_all(&mut self, other: Mean) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    fn mean(self) -> f64 {
        self.sum / self.count as f64
    }

    fn error(self) -> f64 {
        let count = self.count as f64;
        ((self.squares / count - self.mean().powi(2)).max(0.0) / (count - 1.0)).sqrt()
    }
}

/// The report on a lane: means over positions, and their standard errors as if positions were
/// independent.
#[derive(Serialize)]
struct Row<'a> {
    file: &'a str,
    arithmetic: &'static str,
    tokens: usize,
    perplexity: f64,
    perplexity_error: f64,
    /// How much larger it is than the first lane's, in percent.
    more: f64,
    more_error: f64,
    /// The divergence from the first lane's.
    kl: f64,
    kl_error: f64,
    same_choice: f64,
}

/// Measures all lanes, and prints a line for each.
pub fn measure(args: &TextArgs) -> Result<(), Failure> {
    let mut lanes = lanes(args)?;
    let ids = ours::tokenizer(&args.common.model)?.encode_prompt(&fs::read_to_string(&args.text)?)?;
    let Some((bos, text)) = ids.split_first() else { return Err("the text is empty".into()) };
    // Without `bos`, nothing predicts a window's first token, so it counts for no lane.
    let skipped = usize::from(lanes.iter().any(|lane| !lane.has_bos));
    let (mut done, every) = (0, args.every as usize);
    let names: Vec<String> =
        lanes.iter().map(|lane| format!("{}, {}, windows of {}", lane.file, lane.arithmetic, args.context)).collect();
    let mut windows = args.kept.as_deref().map_or_else(|| Ok(BTreeMap::new()), |path| kept(path, &names))?;
    let parts = text.chunks(args.context - 1).enumerate().step_by(every).filter(|(_, part)| part.len() > skipped);
    for (at, part) in parts {
        done += part.len();
        if windows.contains_key(&at) {
            continue;
        }
        lanes.iter_mut().for_each(|lane| lane.tally = Tally::default());
        let window = [&[*bos], part].concat();
        for first in (0..part.len()).step_by(PART) {
            let last = (first + PART).min(part.len());
            step(&mut lanes, &window[first..=last], first, if first == 0 { skipped } else { 0 })?;
            eprint!("\r{} of {} tokens", done - part.len() + last, text.len() / every);
        }
        let tallies: Vec<Tally> = lanes.iter().map(|lane| lane.tally).collect();
        if let Some(path) = &args.kept {
            let line = Kept { window: at, lanes: names.clone(), tallies: tallies.clone() };
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(file, "{}", serde_json::to_string(&line)?)?;
        }
        windows.insert(at, tallies);
    }
    eprintln!();
    for (at, lane) in lanes.iter_mut().enumerate() {
        lane.tally = Tally::default();
        windows.values().for_each(|tallies| lane.tally.add(tallies[at]));
    }
    for lane in &lanes {
        let row = lane.row();
        if args.json {
            println!("{}", serde_json::to_string(&row)?);
        } else {
            let Row { file, arithmetic, tokens, perplexity, perplexity_error, more, more_error, kl, kl_error, same_choice } = row;
            println!(
                "{file}, {arithmetic}: {tokens} tokens, perplexity {perplexity:.3} ± {perplexity_error:.3} ({more:+.3} ± {more_error:.3} %), \
                 KL {kl:.3e} ± {kl_error:.1e}, same choice {same_choice:.4}"
            );
        }
    }
    Ok(())
}

/// The results of an earlier run of the same lanes. The last line may be truncated.
fn kept(path: &Path, names: &[String]) -> Result<BTreeMap<usize, Vec<Tally>>, Failure> {
    let mut windows = BTreeMap::new();
    if path.exists() {
        for line in BufReader::new(File::open(path)?).lines() {
            if let Ok(Kept { window, lanes, tallies }) = serde_json::from_str(&line?)
                && lanes == names
                && tallies.len() == names.len()
            {
                windows.insert(window, tallies);
            }
        }
    }
    Ok(windows)
}

fn lanes(args: &TextArgs) -> Result<Vec<Lane>, Failure> {
    let (common, context) = (&args.common, args.context);
    let lane = |file: &Path, arithmetic, predictor| {
        let file = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        Lane { file, arithmetic, predictor, has_bos: true, tally: Tally::default() }
    };
    let ours = |file: &Path, precision| -> Result<Predictor, Failure> {
        Ok(Predictor::Ours(Box::new(Reader::new(ours::model(file, precision, common.threads)?, context))))
    };
    let vocab = ours::model(&common.model, Precision::FLOAT, 1)?.config().vocab;
    let peer = |file: &Path, kv| Peer::start(common, file, vocab, context, &["--kv", kv]).map(Predictor::Peer);
    let reference = args.reference.as_deref().unwrap_or(&common.model);
    let mut lanes = vec![lane(reference, "float", ours(reference, Precision::FLOAT)?)];
    for file in [&common.model].into_iter().chain(&args.also) {
        for kind in &args.lanes {
            let (name, predictor) = match kind {
                // The reference would be compared with itself.
                LaneKind::Float if file == reference => continue,
                LaneKind::Float => ("float", ours(file, Precision::FLOAT)?),
                LaneKind::Int8Kv => ("int8 KV", ours(file, INT8_KV)?),
                LaneKind::Int8Activations => ("int8 activations", ours(file, INT8_ACTIVATIONS)?),
                LaneKind::Int8 => ("int8", ours(file, Precision::INT8)?),
                LaneKind::NoBos => ("int8, without bos", ours(file, Precision::INT8)?),
                LaneKind::Llama => ("llama.cpp", peer(file, "f16")?),
                LaneKind::LlamaQ8Kv => ("llama.cpp, Q8_0 KV", peer(file, "q8_0")?),
            };
            let has_bos = !matches!(kind, LaneKind::NoBos);
            lanes.push(Lane { has_bos, ..lane(file, name, predictor) });
        }
    }
    Ok(lanes)
}

/// Runs all of `tokens` but the last through every lane, and sums how well each predicts the next
/// tokens, except the first `skipped`.
fn step(lanes: &mut [Lane], tokens: &[TokenId], first: usize, skipped: usize) -> Result<(), Failure> {
    let Some((_, read)) = tokens.split_last() else { return Ok(()) };
    // The peers compute while the lanes in this process do.
    for lane in lanes.iter_mut() {
        if let Predictor::Peer(peer) = &mut lane.predictor {
            peer.ask(read, first, "all")?;
        }
    }
    let mut right: Vec<(Vec<f32>, Spread)> = Vec::new();
    for lane in lanes {
        // Without `bos` all positions are one lower, and the first part's first row predicts the
        // second token.
        let left_out = usize::from(!lane.has_bos && first == 0);
        let logits = match &mut lane.predictor {
            Predictor::Ours(reader) => reader.all(&read[left_out..], first - usize::from(!lane.has_bos && first > 0))?,
            Predictor::Peer(peer) => peer.answer(read.len())?,
        };
        let rows = logits.chunks_exact(logits.len() / (read.len() - left_out)).skip(skipped - left_out);
        if right.is_empty() {
            right = rows.clone().map(|row| (row.to_vec(), Spread::new(row))).collect();
        }
        for ((row, (right, spread)), next) in rows.zip(&right).zip(&tokens[1 + skipped..]) {
            let own = Spread::new(row);
            let nats = |row: &[f32], spread: &Spread| spread.log_sum - f64::from(row[next.0 as usize]);
            lane.tally.nats.add(nats(row, &own));
            lane.tally.more.add(nats(row, &own) - nats(right, spread));
            lane.tally.kl.add(spread.divergence(right, row, &own));
            lane.tally.same += usize::from(own.likeliest == spread.likeliest);
        }
    }
    Ok(())
}

/// The distribution of the next token in a row of logits.
struct Spread {
    /// exp(logit − largest logit), in f32: exact to a few units in the last place.
    exps: Vec<f32>,
    /// The logarithm of the sum of all exp(logit).
    log_sum: f64,
    likeliest: usize,
}

impl Spread {
    fn new(row: &[f32]) -> Spread {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let likeliest = row.iter().position(|value| *value == largest).unwrap_or(0);
        let mut exps = row.to_vec();
        softmax(Isa::best(), &mut exps, &mut 0.0);
        let log_sum = f64::from(largest) + sum(&exps, |_, value| f64::from(*value)).ln();
        Spread { exps, log_sum, likeliest }
    }

    /// The Kullback-Leibler divergence of `theirs`, whose spread is `other`, from `own`, whose
    /// spread this is.
    fn divergence(&self, own: &[f32], theirs: &[f32], other: &Spread) -> f64 {
        let weighted = sum(&self.exps, |at, value| f64::from(*value) * f64::from(own[at] - theirs[at]));
        weighted / sum(&self.exps, |_, value| f64::from(*value)) - (self.log_sum - other.log_sum)
    }
}

/// Sums terms in eight alternating lanes.
fn sum(values: &[f32], term: impl Fn(usize, &f32) -> f64) -> f64 {
    let mut lanes = [0.0; 8];
    for (at, value) in values.iter().enumerate() {
        lanes[at % 8] += term(at, value);
    }
    lanes.iter().sum()
}

impl Lane {
    fn row(&self) -> Row<'_> {
        let Tally { nats, more, kl, same } = self.tally;
        let (perplexity, ratio) = (nats.mean().exp(), more.mean().exp());
        Row {
            file: &self.file,
            arithmetic: self.arithmetic,
            tokens: nats.count,
            perplexity,
            perplexity_error: perplexity * nats.error(),
            more: 100.0 * (ratio - 1.0),
            more_error: 100.0 * ratio * more.error(),
            kl: kl.mean(),
            kl_error: kl.error(),
            same_choice: same as f64 / nats.count as f64,
        }
    }
}
