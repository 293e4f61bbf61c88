//! Perplexity and divergence on a text. It is cut into windows that each begin with `bos` and an empty context; all lanes read a window
//! in step, a part at a time, so that the logits of one part are all that is held.

use std::fs;
use std::path::Path;

use clap::ValueEnum;
use potluck::id::TokenId;
use potluck::kernels::{Isa, softmax};
use potluck::kv::KvFormat;
use potluck::model::Precision;
use serde::Serialize;

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
    #[value(name = "llama.cpp")]
    Llama,
    #[value(name = "llama.cpp-q8_0-kv")]
    LlamaQ8Kv,
}

/// Positions that pass through every lane before the next: their logits take 67 MB a lane.
const PART: usize = 64;

const INT8_KV: Precision = Precision { int8_activations: false, kv: KvFormat::Int8 };
const INT8_ACTIVATIONS: Precision = Precision { int8_activations: true, kv: KvFormat::F32 };

/// What predicts.
enum Predictor {
    Ours(Reader),
    Peer(Peer),
}

/// A predictor, and sums over the positions so far.
struct Lane {
    file: String,
    arithmetic: &'static str,
    predictor: Predictor,
    positions: usize,
    nats: f64,
    kl: f64,
    same: usize,
}

/// What is said of a lane: means over positions, the divergence from the first lane's.
#[derive(Serialize)]
struct Row<'a> {
    file: &'a str,
    arithmetic: &'static str,
    tokens: usize,
    perplexity: f64,
    kl: f64,
    same_choice: f64,
}

/// Measures all lanes, and prints a line for each.
pub fn measure(args: &TextArgs) -> Result<(), Failure> {
    let mut lanes = lanes(args)?;
    let ids = ours::tokenizer(&args.common.model)?.encode_prompt(&fs::read_to_string(&args.text)?)?;
    let Some((bos, text)) = ids.split_first() else { return Err("the text is empty".into()) };
    let mut done = 0;
    for part in text.chunks(args.context - 1) {
        let window = [&[*bos], part].concat();
        for first in (0..part.len()).step_by(PART) {
            let last = (first + PART).min(part.len());
            step(&mut lanes, &window[first..=last], first)?;
            eprint!("\r{} of {} tokens", done + last, text.len());
        }
        done += part.len();
    }
    eprintln!();
    for lane in &lanes {
        let row = lane.row();
        if args.json {
            println!("{}", serde_json::to_string(&row)?);
        } else {
            let Row { file, arithmetic, tokens, perplexity, kl, same_choice } = row;
            println!(
                "{file}, {arithmetic}: {tokens} tokens, perplexity {perplexity:.4}, KL {kl:.3e}, same choice {same_choice:.4}"
            );
        }
    }
    Ok(())
}

fn lanes(args: &TextArgs) -> Result<Vec<Lane>, Failure> {
    let (common, context) = (&args.common, args.context);
    let lane = |file: &Path, arithmetic, predictor| {
        let file = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        Lane { file, arithmetic, predictor, positions: 0, nats: 0.0, kl: 0.0, same: 0 }
    };
    let ours = |file: &Path, precision| -> Result<Predictor, Failure> {
        Ok(Predictor::Ours(Reader::new(ours::model(file, precision, common.threads)?, context)))
    };
    let vocab = ours::model(&common.model, Precision::FLOAT, 1)?.config().vocab;
    let peer = |file: &Path, kv| Peer::start(common, file, vocab, context, &["--kv", kv]).map(Predictor::Peer);
    let reference = args.reference.as_deref().unwrap_or(&common.model);
    let mut lanes = vec![lane(reference, "float", ours(reference, Precision::FLOAT)?)];
    for file in [&common.model].into_iter().chain(&args.also) {
        for kind in &args.lanes {
            let (name, predictor) = match kind {
                // The reference itself would be compared with itself.
                LaneKind::Float if file == reference => continue,
                LaneKind::Float => ("float", ours(file, Precision::FLOAT)?),
                LaneKind::Int8Kv => ("int8 KV", ours(file, INT8_KV)?),
                LaneKind::Int8Activations => ("int8 activations", ours(file, INT8_ACTIVATIONS)?),
                LaneKind::Int8 => ("int8", ours(file, Precision::INT8)?),
                LaneKind::Llama => ("llama.cpp", peer(file, "f16")?),
                LaneKind::LlamaQ8Kv => ("llama.cpp, Q8_0 KV", peer(file, "q8_0")?),
            };
            lanes.push(lane(file, name, predictor));
        }
    }
    Ok(lanes)
}

/// Takes all of `tokens` but the last through every lane, and tallies what each says of the next ones.
fn step(lanes: &mut [Lane], tokens: &[TokenId], first: usize) -> Result<(), Failure> {
    let Some((_, read)) = tokens.split_last() else { return Ok(()) };
    // The peers compute while the lanes before them do.
    for lane in lanes.iter_mut() {
        if let Predictor::Peer(peer) = &mut lane.predictor {
            peer.ask(read, first, "all")?;
        }
    }
    let mut right: Vec<(Vec<f32>, Spread)> = Vec::new();
    for lane in lanes {
        let logits = match &mut lane.predictor {
            Predictor::Ours(reader) => reader.all(read, first)?,
            Predictor::Peer(peer) => peer.answer(read.len())?,
        };
        let rows = logits.chunks_exact(logits.len() / read.len());
        if right.is_empty() {
            right = rows.clone().map(|row| (row.to_vec(), Spread::new(row))).collect();
        }
        for ((row, (right, spread)), next) in rows.zip(&right).zip(&tokens[1..]) {
            let own = Spread::new(row);
            lane.positions += 1;
            lane.nats += own.log_sum - f64::from(row[next.0 as usize]);
            lane.kl += spread.divergence(right, row, &own);
            lane.same += usize::from(own.likeliest == spread.likeliest);
        }
    }
    Ok(())
}

/// What a row of logits says of the next token.
struct Spread {
    /// exp(logit − the largest), in f32: exact to a few units in the last place.
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

    /// The Kullback-Leibler divergence of `theirs`, whose spread is `other`, from `own`, whose spread this is.
    fn divergence(&self, own: &[f32], theirs: &[f32], other: &Spread) -> f64 {
        let weighted = sum(&self.exps, |at, value| f64::from(*value) * f64::from(own[at] - theirs[at]));
        weighted / sum(&self.exps, |_, value| f64::from(*value)) - (self.log_sum - other.log_sum)
    }
}

/// A sum of terms in eight lanes, which take turns.
fn sum(values: &[f32], term: impl Fn(usize, &f32) -> f64) -> f64 {
    let mut lanes = [0.0; 8];
    for (at, value) in values.iter().enumerate() {
        lanes[at % 8] += term(at, value);
    }
    lanes.iter().sum()
}

impl Lane {
    fn row(&self) -> Row<'_> {
        let positions = self.positions as f64;
        Row {
            file: &self.file,
            arithmetic: self.arithmetic,
            tokens: self.positions,
            perplexity: (self.nats / positions).exp(),
            kl: self.kl / positions,
            same_choice: self.same as f64 / positions,
        }
    }
}
