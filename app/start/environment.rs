//! What the environment says of the settings: a variable for each key, and where the file of settings lies when none is named.
//!
//! Promises: an option wins over a variable, a variable over a file. An empty variable sets nothing, for scripts leave variables empty;
//! only the swarm's key, which `key` reads, and the file of one are not so. A variable that cannot be meant is an error, and so is one
//! that is named like the swarm's and is none of them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs, io};

use crate::config::{Config, Fault, TABLE};

use super::key;

/// The variable that names the file of settings; empty, no file is looked for.
const FILE: &str = "POTLUCK_CONFIG";

/// Where the file of settings of a whole machine lies.
const MACHINES: &str = "/etc/potluck.toml";

/// Sets in `config` what variables say.
///
/// # Errors
/// What is wrong with each one that cannot be meant, and whether it is of the section swarm.
pub(super) fn override_in(config: &mut Config) -> Vec<(Fault, bool)> {
    let mut faults = override_with(config, |name| env::var_os(name));
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    faults.extend(unknown_of_swarm(names).map(|name| (Fault::UnknownVariable(name), true)));
    faults
}

/// Variables that are meant for the swarm's section and are none of it: a mistyped key must not mean no key.
fn unknown_of_swarm(names: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let known = |name: &str| TABLE.iter().any(|key| key.variable().is_some_and(|variable| variable == name));
    names.filter(move |name| name.starts_with("POTLUCK_SWARM_") && !known(name))
}

fn override_with(config: &mut Config, variable: impl Fn(&str) -> Option<OsString>) -> Vec<(Fault, bool)> {
    let mut faults = Vec::new();
    for key in &TABLE {
        let Some(name) = key.variable().filter(|name| name != key::VARIABLE) else { continue };
        // An empty path of a key is a fault: what a script left empty opens no swarm.
        let is_keys_file = (key.section, key.key) == ("swarm", "key_file");
        let Some(text) = variable(&name).filter(|text| is_keys_file || !text.is_empty()) else { continue };
        if text.is_empty() {
            faults.push((Fault::variable(key, ""), true));
            continue;
        }
        // What is no UTF-8 is no value of any key but a path's, and those are shown to people.
        if let Err(fault) = config.set_variable(key, &text.to_string_lossy()) {
            faults.push((fault, key.section == "swarm"));
        }
    }
    faults
}

/// The file of settings that counts where the command line names none.
pub(super) enum Unnamed {
    /// The environment names one.
    Named(PathBuf),
    /// One lies where it is looked for.
    Found(PathBuf),
    /// There is none.
    None,
}

/// Looks for it: in `POTLUCK_CONFIG`, else `potluck/potluck.toml` where this user's settings lie, else the machine's.
pub(super) fn file() -> Unnamed {
    // One that is there and cannot be reached is found, and then cannot be read: it must not count as none.
    let absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    file_with(|name| env::var_os(name), |path| !fs::symlink_metadata(path).as_ref().is_err_and(absent))
}

fn file_with(variable: impl Fn(&str) -> Option<OsString>, exists: impl Fn(&PathBuf) -> bool) -> Unnamed {
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

/// Keeps the settings of this process's environment and of files that nobody named from one that it starts.
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
        let faults =
            override_with(&mut config, |name| set.iter().find(|(known, _)| *known == name).map(|(_, text)| OsString::from(text)));
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
        let (config, faults) =
            with(&[("POTLUCK_MEMORY_SLAB", ""), ("POTLUCK_MEMORY_CONTEXT", "many"), ("POTLUCK_SWARM_AUDIT", "-3")]);
        assert_eq!(config, Config::default());
        let said: Vec<String> = faults.iter().map(|(fault, _)| fault.to_string()).collect();
        assert!(said.iter().any(|line| line.starts_with("POTLUCK_MEMORY_CONTEXT=many: ")), "{said:?}");
        assert!(
            faults.iter().any(|(fault, of_swarm)| *of_swarm && fault.to_string().contains("POTLUCK_SWARM_AUDIT")),
            "{said:?}"
        );
        assert_eq!(faults.len(), 2);
    }

    #[test]
    fn what_is_meant_for_the_swarm_and_not_understood_is_a_fault() {
        let (_, faults) = with(&[("POTLUCK_SWARM_KEY_FILE", "")]);
        assert!(matches!(&faults[..], [(_, true)]), "{faults:?}");
        let names = ["POTLUCK_SWARM_KEY", "POTLUCK_SWARM_KEYFILE", "POTLUCK_SWARM_AUDIT", "POTLUCK_SWARM_PASSWORD", "PATH"];
        let unknown: Vec<String> = unknown_of_swarm(names.into_iter().map(str::to_string)).collect();
        assert_eq!(unknown, ["POTLUCK_SWARM_KEYFILE", "POTLUCK_SWARM_PASSWORD"]);
    }

    #[test]
    fn a_file_that_nobody_names_is_looked_for_where_this_user_and_then_the_machine_has_its_settings() {
        let found = |set: &[(&str, &str)], there: &[&str]| {
            let variable = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, text)| OsString::from(text));
            match file_with(variable, |path| there.iter().any(|known| path == &PathBuf::from(known))) {
                Unnamed::Named(path) => format!("named {}", path.display()),
                Unnamed::Found(path) => path.display().to_string(),
                Unnamed::None => "none".to_string(),
            }
        };
        let (own, other) = ("/h/.config/potluck/potluck.toml", "/x/potluck/potluck.toml");
        assert_eq!(found(&[("HOME", "/h")], &[own, MACHINES]), own);
        assert_eq!(found(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")], &[own, other]), other);
        assert_eq!(found(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "here")], &[own]), own, "a relative one does not count");
        assert_eq!(found(&[("HOME", "/h")], &[MACHINES]), MACHINES);
        assert_eq!(found(&[("HOME", "/h"), (FILE, "")], &[own, MACHINES]), "none");
        assert_eq!(found(&[("HOME", "/h"), (FILE, "here.toml")], &[own]), "named here.toml");
        assert_eq!(found(&[], &[own]), "none");
    }
}
