//! `potluck inspect`: shows what a GGUF contains.

use std::path::PathBuf;

use clap::Args;

use crate::config::Config;
use crate::fronts::{print_event, print_line};
use crate::model::{Precision, inspect};
use crate::start::{Cores, SetupError};

use super::bench::{self, BenchError};
use super::file::FileError;

#[derive(Args)]
pub(super) struct InspectArgs {
    /// The GGUF (any part, if it is split)
    file: PathBuf,
    /// Measure how fast it answers on this machine, with all cores
    #[arg(long)]
    measure: bool,
    /// One JSON object instead of text
    #[arg(short, long)]
    pub json: bool,
}

/// Prints the contents; with `--measure`, also the speed on all cores.
pub(super) fn run(args: &InspectArgs) -> Result<(), FileError> {
    let cores = args.measure.then(|| Cores::new(&Config::default().model)).transpose();
    let cores = cores.map_err(|error| BenchError::from(SetupError::from(error)))?;
    let mut inspection = inspect::inspect(&args.file)?;
    inspection.speed =
        cores.map(|cores| bench::speed(&args.file, Precision::INT8, &cores)).transpose()?;
    if args.json {
        return Ok(print_event("inspect", &inspection)?);
    }
    Ok(print_line(inspection)?)
}
