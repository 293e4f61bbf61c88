//! Command-line options for the keys of `potluck.toml`: made from its table, so that names, help
//! and defaults are written once. File and options are merged into one [`Config`]; the options win.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use thiserror::Error;

use crate::config::{Config, Fault, Key, Kind, Problem, TABLE};
use crate::limits::{MAX_BOARD_CONSOLES, MAX_CONFIG_FILE_BYTES};

use super::effective::EffectiveSettings;
use super::environment::{self, Unnamed};
use super::key::{self, KeyError};
use super::random::draw_key;

/// Sections whose keys apply to a command that only answers one prompt.
const ALONE: [&str; 3] = ["model", "memory", "answers"];

/// The command run: every key that has an option.
pub(crate) const RUN: u8 = 0;
/// The command ask: the keys of a command that works alone.
pub(crate) const ASK: u8 = 1;
/// The command reset: the keys needed to reach the nodes.
pub(crate) const RESET: u8 = 2;

/// The command bench: the keys of a model.
pub(crate) const BENCH: u8 = 3;

/// The command tokenize: the keys of a model that say which tokens it has.
pub(crate) const TOKENIZE: u8 = 4;

/// The command console: none, because only the file says where a node's consoles are.
pub(crate) const CONSOLE: u8 = 5;

/// The command doctor: every key that has an option, because it checks what run would use.
pub(crate) const DOCTOR: u8 = 6;

/// Commands that talk to other nodes, and so need the key.
const TALKING: [u8; 3] = [RUN, RESET, DOCTOR];

/// Options that give the swarm's key.
const SWARM_KEY: &str = "swarm-key";
const KEY_FILE: &str = "key-file";

/// The option for a board's fixed consoles, which no setting removes.
const BOARD_CONSOLE: &str = "board-console";

/// Options that say how to reach nodes.
const REACHING: [&str; 5] = [SWARM_KEY, KEY_FILE, "interface", "group", "port"];

/// Options that say which vocabulary a model has.
const NAMING: [&str; 2] = ["model", "tokenizer"];

/// What the command line gives: the file, and the keys that it overrides.
pub(crate) struct Options<const COMMAND: u8> {
    file: Option<PathBuf>,
    /// The board's own file, which `file` overrides.
    defaults: Option<PathBuf>,
    /// Terminals that always have a console, whatever the settings.
    board_consoles: Vec<PathBuf>,
    /// Checked.
    given: Vec<(&'static Key, Vec<String>)>,
}

/// Why there is no model to answer with.
#[derive(Debug, Error)]
pub(crate) enum NoModel {
    #[error(
        "no model is named: give --model FILE, or --config FILE with file = \"...\" in [model]"
    )]
    Unnamed,
    #[error(
        "no model: put a .gguf file beside {0}, or name one: file in [model] of {0}, or --model FILE"
    )]
    NoneBeside(PathBuf),
    #[error("{1} lie beside {0}: name one of them: file in [model] of {0}, or --model FILE")]
    ManyBeside(PathBuf, String),
}

/// Something that the command line or the environment named and that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum Unread {
    /// A settings file.
    #[error("{0}: cannot be read ({1}): name an existing file, or leave the option out")]
    File(PathBuf, io::Error),
    /// The swarm's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An environment variable.
    #[error("{0}. Give the variable a valid value, or unset it")]
    Variable(Fault),
}

/// The keys that have an option of the command, with its name.
fn optional(command: u8) -> impl Iterator<Item = (&'static Key, &'static str)> {
    let takes = move |key: &Key, option: &str| match command {
        RESET => REACHING.contains(&option),
        TOKENIZE => NAMING.contains(&option),
        CONSOLE => false,
        BENCH => key.section == "model",
        ASK => ALONE.contains(&key.section),
        _ => true,
    };
    TABLE
        .iter()
        .filter_map(|key| Some((key, key.option?)))
        .filter(move |(key, option)| takes(key, option))
}

/// The heading of a section's options in the help.
fn heading(section: &str) -> &'static str {
    match section {
        "node" => "This node",
        "swarm" => "Swarm",
        "network" => "Network",
        "model" => "Model",
        "memory" => "Memory",
        "answers" => "Answers",
        "console" => "Consoles",
        "http" => "HTTP",
        _ => "Log",
    }
}

impl<const COMMAND: u8> Args for Options<COMMAND> {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .short('c')
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf));
        let file = file.help(
            "Settings in the form of potluck.toml; options and variables override it [default: $XDG_CONFIG_HOME/potluck/potluck.toml, \
             else /etc/potluck.toml]",
        );
        let command = command.arg(file);
        let under = Arg::new("defaults")
            .long("defaults")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf));
        let under = under.help("The board's own settings, which apply where --config sets nothing");
        let board = Arg::new(BOARD_CONSOLE)
            .long(BOARD_CONSOLE)
            .value_name("DEVICE")
            .value_parser(value_parser!(PathBuf));
        let board = board.action(ArgAction::Append).help(
            "A terminal of the board that always has a console, at its present speed; may be given twice",
        );
        let command = match COMMAND {
            RUN => command.arg(under).arg(board),
            DOCTOR => command.arg(under),
            _ => command,
        };
        let defaults = Config::default();
        optional(COMMAND).fold(command, |command, (key, option)| {
            let default = (key.show)(&defaults).join(", ");
            let default = if default.is_empty() {
                format!("not set: {}", key.why)
            } else {
                format!("default: {default}")
            };
            let several = if key.kind == Kind::List { "; may be given several times" } else { "" };
            let arg = Arg::new(option)
                .long(option)
                .value_name(key.value)
                .help(format!("{}{several} [{default}]", key.about));
            let arg = arg
                .allow_negative_numbers(key.kind == Kind::Number)
                .help_heading(heading(key.section));
            let arg = key.short().into_iter().fold(arg, Arg::short);
            command.arg(arg.action(if key.kind == Kind::List {
                ArgAction::Append
            } else {
                ArgAction::Set
            }))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const COMMAND: u8> FromArgMatches for Options<COMMAND> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Vec::new();
        for (key, option) in optional(COMMAND) {
            let Some(texts) = matches.get_many::<String>(option) else { continue };
            let texts: Vec<String> = texts.cloned().collect();
            Config::default()
                .set_option(key, &texts)
                .map_err(|fault| clap::Error::raw(ErrorKind::ValueValidation, fault))?;
            if option == SWARM_KEY && texts.iter().any(String::is_empty) {
                return Err(clap::Error::raw(ErrorKind::ValueValidation, KeyError::Empty));
            }
            given.push((key, texts));
        }
        if [SWARM_KEY, KEY_FILE]
            .iter()
            .all(|option| given.iter().any(|(key, _)| key.option == Some(option)))
        {
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, KeyError::Two));
        }
        let defaults = if matches!(COMMAND, RUN | DOCTOR) {
            matches.get_one::<PathBuf>("defaults").cloned()
        } else {
            None
        };
        let board = if COMMAND == RUN { matches.get_many::<PathBuf>(BOARD_CONSOLE) } else { None };
        let board_consoles: Vec<PathBuf> = board.into_iter().flatten().cloned().collect();
        if board_consoles.len() > MAX_BOARD_CONSOLES {
            let reason = format!(
                "--{BOARD_CONSOLE} may be given {MAX_BOARD_CONSOLES} times: leave the others to --console"
            );
            return Err(clap::Error::raw(ErrorKind::TooManyValues, reason));
        }
        Ok(Options {
            file: matches.get_one::<PathBuf>("config").cloned(),
            defaults,
            board_consoles,
            given,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<const COMMAND: u8> Options<COMMAND> {
    /// The settings file, named or found in a default location, and whether it was found. A board's
    /// own settings name theirs.
    fn file(&self) -> (Option<PathBuf>, bool) {
        if self.file.is_some() || self.defaults.is_some() || !self.board_consoles.is_empty() {
            return (self.file.clone(), false);
        }
        match environment::file() {
            Unnamed::Named(path) => (Some(path), false),
            Unnamed::Found(path) => (Some(path), true),
            Unnamed::None => (None, false),
        }
    }

    /// Every value was accepted when the command line was read, so it is accepted again.
    fn override_in(&self, config: &mut Config) {
        self.given
            .iter()
            .for_each(|(key, texts)| assert_eq!(config.set_option(key, texts), Ok(())));
    }

    /// The effective settings, and a line for the console about each problem in the file.
    ///
    /// # Errors
    /// A file that cannot be read, or a key that cannot be used. A board with consoles of its own
    /// starts anyway, reports the problem on them, and shares nothing.
    pub(crate) fn effective(&self) -> Result<EffectiveSettings, Unread> {
        let (mut config, mut problems, mut unread) = (Config::default(), Vec::new(), None);
        let mut shut = None;
        let (named, is_found) = self.file();
        let mut is_unseen = false;
        for file in [&self.defaults, &named].into_iter().flatten() {
            match read(file, config.clone()) {
                Ok((over, wrong)) => {
                    config = over;
                    shut = shut.or_else(|| {
                        in_file(file, wrong.iter().filter(|problem| problem.hits.swarm))
                            .into_iter()
                            .next()
                    });
                    problems.extend(in_file(file, &wrong));
                }
                // Most users may attach to a machine's node without reading its settings.
                Err(error)
                    if COMMAND == CONSOLE
                        && is_found
                        && error.kind() == io::ErrorKind::PermissionDenied =>
                {
                    is_unseen = true;
                }
                Err(error) => {
                    let problem = format!("{}: cannot be read ({error})", file.display());
                    problems.push(format!("{problem}: every setting has its default"));
                    // A machine's settings may be readable by its node only. A program that shares
                    // nothing needs no key.
                    if is_found && COMMAND != RUN && COMMAND != RESET {
                        continue;
                    }
                    shut = shut.or(Some(problem));
                    unread.get_or_insert(Unread::File(file.clone(), error));
                }
            }
        }
        for (fault, of_swarm) in environment::override_in(&mut config) {
            problems.push(fault.to_string());
            shut = shut.or_else(|| of_swarm.then(|| fault.to_string()));
            unread.get_or_insert(Unread::Variable(fault));
        }
        self.override_in(&mut config);
        // Commands that do not talk to nodes need no key, so a bad one does not stop them.
        let given = if TALKING.contains(&COMMAND) { key::given(&config) } else { Ok(None) };
        let key = given.unwrap_or_else(|(error, is_named)| {
            problems.push(error.to_string());
            shut.get_or_insert(error.to_string());
            if is_named {
                unread.get_or_insert(Unread::Key(error));
            }
            None
        });
        let unsafe_to_share = match &key {
            _ if !TALKING.contains(&COMMAND) => None,
            // A swarm that is being rekeyed is not an open one.
            None if !config.swarm.old_keys.keys().is_empty() => {
                Some("old_keys without a key: give the swarm's current key, or remove them")
            }
            Some(_) if draw_key().is_err() => Some(
                "this machine has no source of randomness, without which nothing can be locked",
            ),
            _ => None,
        };
        if let (Some(reason), None) = (unsafe_to_share, &shut) {
            problems.push(reason.to_string());
            shut = Some(reason.to_string());
        }
        let (file, defaults, board_consoles) =
            (named.filter(|_| !is_unseen), self.defaults.clone(), self.board_consoles.clone());
        match unread {
            Some(unread) if config.console.devices.is_empty() && board_consoles.is_empty() => {
                Err(unread)
            }
            _ => Ok(EffectiveSettings {
                config,
                file,
                is_found,
                defaults,
                board_consoles,
                problems,
                key,
                shut,
                alone: false,
            }),
        }
    }
}

/// The model: as set, else the only one beside the person's file.
pub(crate) fn model(effective: &EffectiveSettings) -> Result<PathBuf, NoModel> {
    if let Some(model) = &effective.config.model.file {
        return Ok(model.clone());
    }
    let file = effective.file.as_deref().ok_or(NoModel::Unnamed)?;
    let mut models = models_beside(file);
    match models.len() {
        0 => Err(NoModel::NoneBeside(file.to_path_buf())),
        1 => Ok(models.remove(0)),
        _ => {
            let names: Vec<_> = models
                .iter()
                .filter_map(|model| model.file_name())
                .map(|name| name.to_string_lossy())
                .collect();
            Err(NoModel::ManyBeside(file.to_path_buf(), names.join(", ")))
        }
    }
}

/// Applies `file` over `base`, and lists what is wrong with it.
pub(crate) fn read(file: &Path, base: Config) -> io::Result<(Config, Vec<Problem>)> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_CONFIG_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(base.read_over(&bytes, file.parent().unwrap_or(Path::new(""))))
}

/// A line for each problem.
pub(crate) fn in_file<'a>(
    file: &Path,
    problems: impl IntoIterator<Item = &'a Problem>,
) -> Vec<String> {
    problems.into_iter().map(|problem| problem.in_file(&file.display().to_string())).collect()
}

/// The GGUF files in the folder of `file`, in order; for a model in several files, the first.
/// Hidden files are notes that some computers keep about other files.
fn models_beside(file: &Path) -> Vec<PathBuf> {
    let folder =
        file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_model = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let is_gguf =
            path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        is_gguf && !hidden && !is_later_part(path)
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut models: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_model).collect();
    models.sort();
    models
}

/// Whether `path` is named like a later part of a model in several files: NAME-00002-of-00003.gguf.
fn is_later_part(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut ends = stem.rsplitn(4, '-');
    let (count, of, no) = (ends.next(), ends.next(), ends.next());
    let number = |text: Option<&str>| text.filter(|text| text.len() == 5)?.parse::<u32>().ok();
    of == Some("of") && number(count).is_some() && number(no).is_some_and(|no| no > 1)
}
