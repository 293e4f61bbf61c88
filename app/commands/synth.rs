//! `potluck synth`: writes a model of random weights, for benchmarks.

use std::path::PathBuf;

use clap::Args;

use crate::model::convert::ConvertType;
use crate::model::draft_of;
use crate::model::synth::{self, Shape};

use super::file::{Bar, FileError, written};
use super::unfinished;
use super::usage::whole;

#[derive(Args)]
pub(super) struct SynthArgs {
    /// The shape
    #[arg(long, value_name = "gemma3-270m|gemma3-1b|demo", default_value_t = Shape::Demo)]
    shape: Shape,
    /// The same seed gives the same file
    #[arg(long, default_value_t = 0, value_parser = whole(0..=u64::MAX))]
    seed: u64,
    /// Type of the matrices
    #[arg(long = "type", value_name = "q8_0|q4_0|f16|f32", default_value_t = ConvertType::Q8_0)]
    kind: ConvertType,
    /// One JSON object instead of text
    #[arg(short, long)]
    pub json: bool,
    /// The GGUF to write
    out: PathBuf,
}

/// Writes the model.
pub(super) fn run(args: &SynthArgs) -> Result<(), FileError> {
    let SynthArgs { shape, seed, kind, json, out } = args;
    unfinished::remove_when_stopped(draft_of(out)).map_err(FileError::Signals)?;
    let mut bar = Bar::new();
    let report = synth::synth(*shape, *seed, *kind, out, &mut |progress| bar.show(progress))?;
    drop(bar);
    written(out, &report, *json)
}
