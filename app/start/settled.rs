//! The settings that a program was started with, and where they come from.

use std::path::PathBuf;

use crate::config::Config;

/// The settings that a node was started with.
pub(crate) struct Settled {
    pub config: Config,
    /// The person's file.
    pub file: Option<PathBuf>,
    /// The board's own.
    pub defaults: Option<PathBuf>,
    /// What was wrong with them, a line each.
    pub problems: Vec<String>,
}
