//! `potluck config`: documents and checks `potluck.toml`, and prints its values for scripts.

use std::io;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use thiserror::Error;

use crate::config::{self, Origin, Problem, RadioOff, TABLE, default_file, reference};
use crate::fronts::{ConfigReport, Event, OutputError, eprint, print, print_line};
use crate::start::{in_file, read};

use super::fail::Fail;

/// What to do with a file of settings.
#[derive(Subcommand)]
pub(super) enum Config {
    /// Print a file with every key and its default as a comment
    Default,
    /// List every problem in a file, or if it has none, what it sets
    Check {
        /// One JSON object instead of text
        #[arg(short, long)]
        json: bool,
        /// The file
        file: PathBuf,
    },
    /// Print the effective value of one setting, for scripts; nothing if it has none
    Get {
        /// The key with its section, such as node.name
        #[arg(value_name = "SECTION.KEY")]
        key: String,
        /// The file
        file: PathBuf,
    },
    /// Print the section wifi as wpa_supplicant.conf, for scripts
    Wifi {
        /// The file
        file: PathBuf,
    },
    /// Print docs/use/config.md
    Reference,
}

/// Why the command failed.
#[derive(Debug, Error)]
pub(super) enum ConfigError {
    #[error("{0}: cannot be read: {1}")]
    Unreadable(PathBuf, io::Error),
    #[error(
        "there is no setting {0}: give it with its section, such as node.name (`potluck config reference` lists them all)"
    )]
    Unknown(String),
    #[error("{0} is secret and is not shown")]
    Secret(String),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("{0}: no Wi-Fi network is set: give ssid in [wifi]")]
    NoWifi(PathBuf),
    #[error("{0}. This may be the Wi-Fi network or its password: fix it first")]
    Wifi(String),
}

impl Config {
    /// Whether the output is JSON.
    pub(super) fn is_json(&self) -> bool {
        matches!(self, Config::Check { json: true, .. })
    }
}

impl ConfigError {
    fn of(off: RadioOff, file: &Path) -> ConfigError {
        match off {
            RadioOff::Unset => ConfigError::NoWifi(file.to_path_buf()),
            RadioOff::Doubtful(problem) => {
                ConfigError::Wifi(problem.in_file(&file.display().to_string()))
            }
        }
    }
}

/// Runs the command; fails if a file has problems.
pub(super) fn run(what: &Config) -> Result<(), Fail> {
    if execute(what)? { Ok(()) } else { Err(Fail::Said) }
}

/// False if a checked file has problems.
fn execute(what: &Config) -> Result<bool, ConfigError> {
    match what {
        Config::Default => print(default_file())?,
        Config::Reference => print(reference())?,
        Config::Check { json, file } => return check(file, *json),
        Config::Get { key, file } => get(key, file)?,
        Config::Wifi { file } => {
            let (config, problems) = good_of(file)?;
            print(config.wpa_supplicant(&problems).map_err(|off| ConfigError::of(off, file))?)?;
        }
    }
    Ok(true)
}

fn check(file: &Path, json: bool) -> Result<bool, ConfigError> {
    let (config, problems) = read(file, config::Config::default())
        .map_err(|error| ConfigError::Unreadable(file.to_path_buf(), error))?;
    if json {
        let report = ConfigReport::of_file(file, &config, in_file(file, &problems));
        print_line(Event::Config { config: &report }.line())?;
        return Ok(problems.is_empty());
    }
    if !problems.is_empty() {
        in_file(file, &problems).iter().try_for_each(print_line)?;
        return Ok(false);
    }
    print_line(format_args!("{}: good", file.display()))?;
    let defaults = config::Config::default();
    for key in &TABLE {
        if let (Origin::Line(line), Some(value)) = (config.origin(key), key.toml(&config)) {
            let default = key.toml(&defaults).unwrap_or_else(|| "not set".to_string());
            if value != default {
                print_line(format_args!(
                    "  line {line}: {} = {value} (default: {default})",
                    key.name()
                ))?;
            }
        }
    }
    Ok(true)
}

fn get(name: &str, file: &Path) -> Result<(), ConfigError> {
    let key = TABLE
        .iter()
        .find(|key| key.name() == name)
        .ok_or_else(|| ConfigError::Unknown(name.to_string()))?;
    if key.secret {
        return Err(ConfigError::Secret(name.to_string()));
    }
    Ok((key.show)(&good_of(file)?.0).iter().try_for_each(print_line)?)
}

/// Reads the valid settings of `file`; prints its problems to standard error.
fn good_of(file: &Path) -> Result<(config::Config, Vec<Problem>), ConfigError> {
    let (config, problems) = read(file, config::Config::default())
        .map_err(|error| ConfigError::Unreadable(file.to_path_buf(), error))?;
    in_file(file, &problems).iter().for_each(|line| eprint(format_args!("{line}\n")));
    Ok((config, problems))
}
