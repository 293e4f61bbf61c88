//! The settings that a program was started with, their sources, and with whom they let it share.

use core::fmt;
use std::path::PathBuf;

use crate::config::{Config, Place, SwarmKey};

/// The settings that a node was started with.
pub(crate) struct EffectiveSettings {
    pub config: Config,
    /// The person's file.
    pub file: Option<PathBuf>,
    /// Whether the file was not named but found in a default location.
    pub is_found: bool,
    /// The board's own file.
    pub defaults: Option<PathBuf>,
    /// Terminals that always have a console, whatever the settings.
    pub board_consoles: Vec<PathBuf>,
    /// What was wrong with the settings, a line each.
    pub problems: Vec<String>,
    /// The effective key, wherever it was given.
    pub key: Option<SwarmKey>,
    /// A faulty setting that may have been the swarm's key. Nothing is shared until it is fixed.
    pub shut: Option<String>,
    /// The node must not share.
    pub alone: bool,
}

/// With whom a node shares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sharing<'a> {
    /// With nobody, as asked for.
    Alone,
    /// With nobody, because this part of the settings cannot be understood.
    Shut(&'a str),
    /// With every node that has the key. `old_keys` former keys are known.
    Locked { old_keys: usize },
    /// With every node of the network that has no key.
    Open,
}

impl EffectiveSettings {
    /// Where people change settings: a board has its own settings below the person's.
    pub(crate) fn place(&self) -> Place {
        if self.defaults.is_some() || !self.board_consoles.is_empty() {
            Place::Board
        } else {
            Place::Computer
        }
    }

    /// With whom these settings let a node share.
    pub(crate) fn sharing(&self) -> Sharing<'_> {
        match &self.shut {
            _ if self.alone => Sharing::Alone,
            Some(reason) => Sharing::Shut(reason),
            None if self.key.is_some() => {
                Sharing::Locked { old_keys: self.config.swarm.old_keys.keys().len() }
            }
            None => Sharing::Open,
        }
    }
}

impl Sharing<'_> {
    /// Whether there is anybody to share with.
    pub(crate) fn is_on(self) -> bool {
        matches!(self, Sharing::Locked { .. } | Sharing::Open)
    }

    /// Its name, for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Sharing::Alone => "alone",
            Sharing::Shut(_) => "shut",
            Sharing::Locked { .. } => "locked",
            Sharing::Open => "open",
        }
    }

    /// What a person must know about it, and what to do.
    pub(crate) fn warning(self) -> Option<String> {
        match self {
            Sharing::Shut(_) => Some(format!("nothing is shared: {self}")),
            Sharing::Open => Some(format!("the swarm is open: {self}")),
            Sharing::Alone | Sharing::Locked { .. } => None,
        }
    }
}

impl fmt::Display for Sharing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sharing::Alone => f.write_str("as asked for"),
            Sharing::Shut(reason) => {
                write!(f, "{reason}. This may be the swarm's key: fix it and start again")
            }
            Sharing::Locked { old_keys: 0 } => f.write_str("with a key"),
            Sharing::Locked { old_keys: 1 } => f.write_str("with a key; one former key is known"),
            Sharing::Locked { old_keys } => {
                write!(f, "with a key; {old_keys} former keys are known")
            }
            Sharing::Open => f.write_str(
                "anyone on this network can read and take part; potluck key makes a key",
            ),
        }
    }
}
