//! `potluck perplexity`: measures how well a model predicts a text.

use std::path::PathBuf;

use clap::Args;

use crate::fronts::{print_event, print_line};
use crate::model::perplexity;
use crate::start::size;

use super::file::{Bar, FileError};
use super::usage::whole;

#[derive(Args)]
pub(super) struct PerplexityArgs {
    /// A Gemma 3 model, GGUF, with its vocabulary inside
    model: PathBuf,
    /// The text, in UTF-8, on which the model should not have been trained
    text: PathBuf,
    /// The same model in f32, to compare everything else with
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Tokens after which the text continues with an empty context
    #[arg(long, value_name = "TOKENS", default_value_t = 2_048, value_parser = whole(2..=u32::MAX))]
    context: u32,
    /// One JSON object instead of text
    #[arg(short, long)]
    pub json: bool,
}

/// Measures and prints the perplexity.
pub(super) fn run(args: &PerplexityArgs) -> Result<(), FileError> {
    let mut bar = Bar::new();
    let report = perplexity::measure(
        &args.model,
        args.reference.as_deref(),
        &args.text,
        size(args.context.into()),
        &mut |progress| bar.show(progress),
    )?;
    drop(bar);
    if args.json {
        return Ok(print_event("perplexity", &report)?);
    }
    Ok(print_line(report)?)
}
