//! `potluck verify`: checks this build's arithmetic and cache against golden figures.

use std::path::PathBuf;

use clap::Args;

use crate::fronts::{print_event, print_line};
use crate::model::verify::{self, Scratch};

use super::fail::Fail;
use super::file::{Bar, FileError};
use super::unfinished;

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// The directory
    dir: PathBuf,
    /// One JSON object instead of text
    #[arg(short, long)]
    pub json: bool,
}

/// Fails unless every required check holds.
pub(super) fn run(args: &VerifyArgs) -> Result<(), Fail> {
    if verify(args)? { Ok(()) } else { Err(Fail::Said) }
}

fn verify(args: &VerifyArgs) -> Result<bool, FileError> {
    let scratch = Scratch::new(&std::env::temp_dir())?;
    unfinished::remove_when_stopped(scratch.path().to_path_buf()).map_err(FileError::Signals)?;
    let mut bar = Bar::new();
    let report = verify::verify(&args.dir, &scratch, &mut |progress| bar.show(progress))?;
    drop(bar);
    if args.json {
        print_event("verify", &report)?;
    } else {
        print_line(&report)?;
    }
    Ok(report.passed)
}
