//! `potluck console`: what can be typed on a node's console, as documents.

use clap::Subcommand;

use crate::console;
use crate::fronts::{OutputError, give};

/// Which document.
#[derive(Subcommand)]
pub(super) enum Manual {
    /// Print docs/console.md
    Reference,
    /// Print a manual page: potluck console man | man -l -
    Man,
}

/// Prints it.
pub(super) fn run(what: &Manual) -> Result<(), OutputError> {
    match what {
        Manual::Reference => give(console::reference()),
        Manual::Man => give(console::man_page()),
    }
}
