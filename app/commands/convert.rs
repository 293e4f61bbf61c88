//! `potluck convert`: converts a Hugging Face directory or another GGUF to a GGUF.

use std::path::PathBuf;

use clap::Args;

use crate::model::convert::{self, ConvertType};
use crate::model::draft_of;

use super::file::{Bar, FileError, written};
use super::unfinished;

#[derive(Args)]
pub(super) struct ConvertArgs {
    /// The Hugging Face directory, or a GGUF (any part, if it is split)
    from: PathBuf,
    /// The GGUF to write
    out: PathBuf,
    /// Type of the matrices. q8_0: 1.06 bytes per value, hardly distinguishable from the original.
    /// q4_0: 0.56 bytes, with the embedding in q8_0. f16, f32: 2 and 4 bytes, for further
    /// conversion. Matrices that already have the type are copied. Those quantised to another type
    /// lose a little more, so convert the original if you can
    #[arg(long = "type", value_name = "q8_0|q4_0|f16|f32", default_value_t = ConvertType::Q8_0)]
    kind: ConvertType,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// One JSON object instead of text
    #[arg(short, long)]
    pub json: bool,
}

/// Writes the GGUF. Replaces an existing file only with `--force`.
pub(super) fn run(args: &ConvertArgs) -> Result<(), FileError> {
    let ConvertArgs { from, out, kind, force, json } = args;
    if out.is_file() && !force {
        return Err(FileError::Exists(out.clone()));
    }
    unfinished::remove_when_stopped(draft_of(out)).map_err(FileError::Signals)?;
    let mut bar = Bar::new();
    let report = convert::convert(from, out, *kind, &mut |progress| bar.show(progress))?;
    drop(bar);
    written(out, &report, *json)
}
