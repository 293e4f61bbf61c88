//! `potluck convert`: a GGUF out of a Hugging Face directory, or of another GGUF.

use std::path::PathBuf;

use clap::Args;

use crate::model::convert::{self, ConvertType};
use crate::model::draft_of;

use super::file::{Bar, FileError, written};
use super::unfinished;

#[derive(Args)]
pub(super) struct ConvertArgs {
    /// The Hugging Face directory, or a GGUF (of one in parts, any part)
    from: PathBuf,
    /// The GGUF to write
    out: PathBuf,
    /// How matrices are stored. q8_0: 1.06 bytes a value, hardly told from the original. q4_0: 0.56 bytes, the embedding in q8_0.
    /// f16, f32: 2 and 4 bytes, for further conversion. What has the type already is copied; what was quantised to another loses a
    /// little more, so convert the original where you can have it
    #[arg(long = "type", value_name = "q8_0|q4_0|f16|f32", default_value_t = ConvertType::Q8_0)]
    kind: ConvertType,
    /// Replace a file that lies there already
    #[arg(long)]
    force: bool,
    /// One JSON object instead of text
    #[arg(short, long)]
    pub json: bool,
}

/// Writes it. A file that lies there already is replaced only where that is asked for.
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
