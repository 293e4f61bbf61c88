//! Settings from the environment: one variable per key, and the location of the settings file if
//! none is named.
//!
//! Promises: an option overrides a variable, and a variable overrides a file. An empty variable
//! sets nothing, because scripts leave variables empty. The exceptions are the swarm's key, which
//! `key` reads, and its key file. A variable with an invalid value is an error, and so is an
//! unknown variable that is named like the swarm's.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs, io};

use crate::config::{Config, Fault, TABLE};

use super::key;

/// The variable that names the settings file. If it is empty, no file is looked for.
const FILE: &str = "POTLUCK_CONFIG";

/// The settings file of the whole machine.
const MACHINES: &str = "/etc/potluck.toml";

/// Applies the variables to `config`.
///
/// # Errors
/// What is wrong with each invalid one, and whether it belongs to the section swarm.
pub(super) fn override_in(config: &mut Config) -> Vec<(Fault, bool)> {
    let mut faults = override_with(config, |name| env::var_os(name));
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    faults.extend(unknown_of_swarm(names).map(|name| (Fault::UnknownVariable(name), true)));
    faults
}

/// Unknown variables that look like the swarm's: a mistyped key must not mean no key.
fn unknown_of_swarm(names: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let known = |name: &str| {
        TABLE.iter().any(|key| key.variable().is_some_and(|variable| variable == name))
    };
    names.filter(move |name| name.starts_with("POTLUCK_SWARM_") && !known(name))
}

fn override_with(
    config: &mut Config,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Vec<(Fault, bool)> {
    let mut faults = Vec::new();
    for key in &TABLE {
        let Some(name) = key.variable().filter(|name| name != key::VARIABLE) else { continue };
        // An empty key path is a fault: a variable that a script left empty must not
        // open the swarm.
        let is_keys_file = (key.section, key.key) == ("swarm", "key_file");
        let Some(text) = variable(&name).filter(|text| is_keys_file || !text.is_empty()) else {
            continue;
        };
        if text.is_empty() {
            faults.push((Fault::variable(key, ""), true));
            continue;
        }
        // Text that is not UTF-8 is valid only for paths, and paths are shown to people.
        if let Err(fault) = config.set_variable(key, &text.to_string_lossy()) {
            faults.push((fault, key.section == "swarm"));
        }
    }
    faults
}

/// The settings file that applies if the command line names none.
pub(super) enum Unnamed {
    /// The environment names one.
    Named(PathBuf),
    /// One was found in a default location.
    Found(PathBuf),
    /// There is no file.
    None,
}

/// Looks for the file: `POTLUCK_CONFIG`, else `potluck/potluck.toml` among this user's settings,
/// else the machine's file.
pub(super) fn file() -> Unnamed {
    // A file that exists but cannot be reached counts as found, and then cannot be read: it must
    // not count as none.
    let absent = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    };
    file_with(
        |name| env::var_os(name),
        |path| !fs::symlink_metadata(path).as_ref().is_err_and(absent),
    )
}

fn file_with(
    variable: impl Fn(&str) -> Option<OsString>,
    exists: impl Fn(&PathBuf) -> bool,
) -> Unnamed {
    match variable(FILE) {
        Some(empty) if empty.is_empty() => return Unnamed::None,
        Some(named) => return Unnamed::Named(PathBuf::from(named)),
        None => {}
    }
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    let own = folder.map(|folder| folder.join("potluck/potluck.toml"));
    let found = own.into_iter().chain([PathBuf::from(MACHINES)]).find(exists);
    found.map_or(Unnamed::None, Unnamed::Found)
}

/// Hides this process's settings variables, and settings files that nobody named, from a
/// child process.
pub(crate) fn without_settings(command: &mut Command) -> &mut Command {
    TABLE.iter().filter_map(|key| key.variable()).for_each(|name| {
        command.env_remove(name);
    });
    command.env(FILE, "")
}

#[cfg(test)]
mod tests {
    use crate::config::{Origin, key};

    use super::*;

    fn with(set: &[(&str, &str)]) -> (Config, Vec<(Fault, bool)>) {
        let mut config = Config::default();
        let faults = override_with(&mut config, |name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, text)| OsString::from(text))
        });
        (config, faults)
    }

    #[test]
    fn every_key_but_the_radios_has_a_variable_and_takes_its_example_from_it() {
        for key in TABLE.iter().filter(|key| key.section != "wifi") {
            let name = key.variable().unwrap();
            let text = key.example.trim_matches('"');
            let (config, faults) = with(&[(&name, text)]);
            assert!(faults.is_empty(), "{name}: {faults:?}");
            let counts = if name == key::VARIABLE { Origin::Default } else { Origin::Variable };
            assert_eq!(config.origin(key), counts, "{name}");
        }
        assert_eq!(key("wifi", "password").variable(), None);
    }

    #[test]
    fn a_list_is_written_as_in_the_file_or_is_one_element() {
        let (config, faults) = with(&[
            ("POTLUCK_ANSWERS_STOP", "[\"a, b\", \"c\"]"),
            ("POTLUCK_NETWORK_PEERS", "[fe80::1%2]:7654"),
            ("POTLUCK_CONSOLE_DEVICES", "/dev/ttyUSB0"),
        ]);
        assert!(faults.is_empty(), "{faults:?}");
        let shown = |section, name| (key(section, name).show)(&config);
        assert_eq!(shown("answers", "stop"), ["a, b", "c"]);
        assert_eq!(shown("network", "peers").len(), 1);
        assert_eq!(shown("console", "devices"), ["/dev/ttyUSB0"]);
    }

    #[test]
    fn an_empty_one_sets_nothing_and_a_wrong_one_says_which_and_what_is_needed() {
        let (config, faults) = with(&[
            ("POTLUCK_MEMORY_SLAB", ""),
            ("POTLUCK_MEMORY_CONTEXT", "many"),
            ("POTLUCK_SWARM_AUDIT", "-3"),
        ]);
        assert_eq!(config, Config::default());
        let said: Vec<String> = faults.iter().map(|(fault, _)| fault.to_string()).collect();
        assert!(
            said.iter().any(|line| line.starts_with("POTLUCK_MEMORY_CONTEXT=many: ")),
            "{said:?}"
        );
        assert!(
            faults
                .iter()
                .any(|(fault, of_swarm)| *of_swarm
                    && fault.to_string().contains("POTLUCK_SWARM_AUDIT")),
            "{said:?}"
        );
        assert_eq!(faults.len(), 2);
    }

    #[test]
    fn what_is_meant_for_the_swarm_and_not_understood_is_a_fault() {
        let (_, faults) = with(&[("POTLUCK_SWARM_KEY_FILE", "")]);
        assert!(matches!(&faults[..], [(_, true)]), "{faults:?}");
        let names = [
            "POTLUCK_SWARM_KEY",
            "POTLUCK_SWARM_KEYFILE",
            "POTLUCK_SWARM_AUDIT",
            "POTLUCK_SWARM_PASSWORD",
            "PATH",
        ];
        let unknown: Vec<String> =
            unknown_of_swarm(names.into_iter().map(str::to_string)).collect();
        assert_eq!(unknown, ["POTLUCK_SWARM_KEYFILE", "POTLUCK_SWARM_PASSWORD"]);
    }

    #[test]
    fn a_file_that_nobody_names_is_looked_for_where_this_user_and_then_the_machine_has_its_settings()
     {
        let found = |set: &[(&str, &str)], there: &[&str]| {
            let variable = |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, text)| OsString::from(text))
            };
            match file_with(variable, |path| {
                there.iter().any(|known| path == &PathBuf::from(known))
            }) {
                Unnamed::Named(path) => format!("named {}", path.display()),
                Unnamed::Found(path) => path.display().to_string(),
                Unnamed::None => "none".to_string(),
            }
        };
        let (own, other) = ("/h/.config/potluck/potluck.toml", "/x/potluck/potluck.toml");
        assert_eq!(found(&[("HOME", "/h")], &[own, MACHINES]), own);
        assert_eq!(found(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")], &[own, other]), other);
        assert_eq!(
            found(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "here")], &[own]),
            own,
            "a relative path does not count"
        );
        assert_eq!(found(&[("HOME", "/h")], &[MACHINES]), MACHINES);
        assert_eq!(found(&[("HOME", "/h"), (FILE, "")], &[own, MACHINES]), "none");
        assert_eq!(found(&[("HOME", "/h"), (FILE, "here.toml")], &[own]), "named here.toml");
        assert_eq!(found(&[], &[own]), "none");
    }
}
