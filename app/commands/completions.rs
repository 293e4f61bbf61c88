//! `potluck completions`: completion scripts for shells.

use clap::builder::PossibleValuesParser;
use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use crate::config::TABLE;
use crate::fronts::{OutputError, print};

use super::cli::Cli;

/// The names that options of single commands take, as their help has them.
const OF_COMMANDS: [&str; 2] = ["gemma3-270m|gemma3-1b|demo", "q8_0|q4_0|f16|f32"];

/// A supported shell.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum For {
    Bash,
    Zsh,
    Fish,
}

/// Prints the completion script.
pub(super) fn run(shell: For) -> Result<(), OutputError> {
    print(text(shell))
}

fn text(shell: For) -> String {
    let shell = match shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
    };
    let mut bytes = Vec::new();
    generate(shell, &mut command(), "potluck", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The command line as people use it: without what is hidden, and with the names that options take.
fn command() -> Command {
    let whole = Cli::command();
    let shown = whole.get_subcommands().filter(|command| !command.is_hide_set());
    let shown: Vec<Command> = shown.cloned().map(with_names).collect();
    let about = whole.get_about().cloned().unwrap_or_default();
    Command::new("potluck").version(env!("CARGO_PKG_VERSION")).about(about).subcommands(shown)
}

fn with_names(command: Command) -> Command {
    command.mut_args(|arg| match arg.get_value_names().and_then(|values| names(values.first()?)) {
        Some(names) => arg.value_parser(PossibleValuesParser::new(names)),
        None => arg,
    })
}

/// The names in what the help calls a value, such as `auto|on|off`; none for `FILE` and
/// `ADDR|NAME`.
fn names(value: &str) -> Option<Vec<&'static str>> {
    let mut known = TABLE.iter().map(|key| key.value).chain(OF_COMMANDS);
    known.find(|known| *known == value && is_names(known)).map(|known| known.split('|').collect())
}

fn is_names(value: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_|".contains(c);
    value.contains('|') && value.chars().all(is_part)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::start::READ_TEMPLATE;

    use super::*;

    #[test]
    fn every_shell_gets_the_commands_and_the_settings_and_none_of_what_is_hidden() {
        for shell in [For::Bash, For::Zsh, For::Fish] {
            let text = text(shell);
            for word in ["tokenize", "max-tokens", "console-socket"] {
                assert!(text.contains(word), "{word}");
            }
            assert!(!text.contains(READ_TEMPLATE), "a command that people do not give");
        }
    }

    #[test]
    fn every_shell_gets_the_names_that_a_setting_takes() {
        for shell in [For::Bash, For::Zsh, For::Fish] {
            let text = text(shell);
            for names in [
                ["int8", "float"],
                ["nothing", "weights"],
                ["portable", "avx512"],
                ["error", "info"],
                ["auto", "off"],
                ["q8_0", "f16"],
            ] {
                let mut rows = text.lines().map(str::trim_start);
                let found = match shell {
                    For::Bash => rows.any(|row| row.starts_with("COMPREPLY") && has(row, &names)),
                    For::Zsh => rows.any(|row| has(row.rsplit(":(").next().unwrap_or(""), &names)),
                    For::Fish => names.iter().all(|name| text.contains(&format!("{name}\\t"))),
                };
                assert!(found, "{names:?}");
            }
        }
    }

    fn has(row: &str, names: &[&str]) -> bool {
        names.iter().all(|name| row.contains(name))
    }

    /// A name that the settings refuse would be completed to a mistake.
    #[test]
    fn the_settings_take_every_name_that_is_completed() {
        let mut found = 0;
        for key in &TABLE {
            for name in names(key.value).into_iter().flatten() {
                let mut config = Config::default();
                assert_eq!((key.set)(&mut config, &[name]), Ok(()), "{}: {name}", key.name());
                found += 1;
            }
        }
        assert!(found > 15, "{found}");
        let whole = Cli::command();
        for arg in whole.get_subcommands().flat_map(Command::get_arguments) {
            for value in arg.get_value_names().into_iter().flatten().filter(|value| is_names(value))
            {
                assert!(names(value).is_some(), "{}: {value}", arg.get_id());
            }
        }
    }
}
