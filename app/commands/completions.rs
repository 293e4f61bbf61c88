//! `potluck completions`: completion scripts for shells.

use clap::{CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use crate::fronts::{OutputError, print};

use super::cli::Cli;

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
    generate(shell, &mut Cli::command(), "potluck", &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_the_commands_and_the_settings_and_none_of_what_is_hidden() {
        for shell in [For::Bash, For::Zsh, For::Fish] {
            let text = text(shell);
            for word in ["tokenize", "max-tokens", "console-socket"] {
                assert!(text.contains(word), "{word}");
            }
        }
    }
}
