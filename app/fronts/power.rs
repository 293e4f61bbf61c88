//! `reboot` and `poweroff` run the board's own commands of those names.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use thiserror::Error;

/// Where to look for them beyond PATH.
const SBIN: [&str; 2] = ["/sbin", "/usr/sbin"];

/// What to do with the board.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Power {
    /// Reboot it.
    Reboot,
    /// Switch it off.
    Off,
}

/// Why that failed.
#[derive(Debug, Error)]
pub(crate) enum PowerError {
    #[error(
        "{0} is not allowed here: set power = true in [console] of potluck.toml to allow it, or use this machine's own command"
    )]
    Refused(&'static str),
    #[error(
        "there is no command {0} in PATH, /sbin or /usr/sbin: pull the plug when the board's light is still"
    )]
    Missing(&'static str),
    #[error("{0} cannot be run: {1}; pull the plug when the board's light is still")]
    Failed(&'static str, String),
}

impl Power {
    /// The command's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Power::Reboot => "reboot",
            Power::Off => "poweroff",
        }
    }

    /// The command's path.
    pub(super) fn command(self) -> Result<PathBuf, PowerError> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain(SBIN.map(PathBuf::from));
        let mut places = folders.map(|folder| folder.join(self.name()));
        places.find(|place| place.is_file()).ok_or(PowerError::Missing(self.name()))
    }

    /// Runs the command, which tells init; init then ends everything.
    pub(crate) fn execute(self) -> Result<(), PowerError> {
        let failed = |reason: String| PowerError::Failed(self.name(), reason);
        let status =
            Command::new(self.command()?).status().map_err(|error| failed(error.to_string()))?;
        if status.success() { Ok(()) } else { Err(failed(status.to_string())) }
    }
}
