//! Where a person changes settings: with command-line options on a computer, in `potluck.toml` on a
//! board, which has no command line.
//!
//! Messages name the option. The code that prints a message on a console lets [`Place::words`]
//! reword it, so that every message fits the place where it is read, and no other part of the
//! program need know where it runs.

use std::borrow::Cow;

use super::table::{Key, TABLE};
use super::value::Kind;

/// Options that are not settings, and what does the same on a console.
const ON_A_CONSOLE: [(&str, &str); 1] = [("raw", "raw TEXT")];

/// Where a person changes settings: see the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Place {
    /// A command line.
    #[default]
    Computer,
    /// The SD card of a board.
    Board,
}

impl Place {
    /// Rewords a message for this place. Text that is not one of our options stays as it is, so
    /// rewording twice is harmless.
    pub fn words(self, message: &str) -> Cow<'_, str> {
        if self == Place::Computer || !message.contains("--") {
            return Cow::Borrowed(message);
        }
        let (mut said, mut rest) = (String::new(), message);
        while let Some(at) = rest.find("--") {
            let (before, option) = rest.split_at(at);
            let end = option[2..]
                .find(|c: char| !c.is_ascii_lowercase() && c != '-')
                .map_or(option.len(), |len| len + 2);
            let begins = !before.ends_with(|c: char| c.is_alphanumeric() || c == '-');
            said += before;
            let (words, behind) =
                setting(&option[2..end], &option[end..]).filter(|_| begins).unwrap_or_else(|| {
                    let (same, behind) = option.split_at(end);
                    (same.to_string(), behind)
                });
            said += &words;
            rest = behind;
        }
        Cow::Owned(said + rest)
    }
}

/// The words for the option of this name in the file, and the rest of the message; `None` if no
/// setting has that option.
fn setting<'a>(option: &str, behind: &'a str) -> Option<(String, &'a str)> {
    if let Some((_, words)) = ON_A_CONSOLE.iter().find(|(other, _)| *other == option) {
        return Some(((*words).to_string(), behind));
    }
    let Key { section, key, value, kind, .. } =
        TABLE.iter().find(|key| key.option == Some(option))?;
    let rest = behind.strip_prefix(' ').and_then(|rest| rest.strip_prefix(value));
    let given = rest.filter(|rest| !rest.starts_with(|c: char| c.is_alphanumeric())).map(|rest| {
        let value = match kind {
            Kind::Number | Kind::Switch => (*value).to_string(),
            Kind::Text => format!("\"{value}\""),
            Kind::List => format!("[\"{value}\"]"),
        };
        (format!("{key} = {value}"), rest)
    });
    let (name, behind) = given.unwrap_or_else(|| ((*key).to_string(), behind));
    Some((format!("{name} under [{section}] in potluck.toml"), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_a_setting_on_a_board_and_nothing_else_changes() {
        for (message, on_a_board) in [
            (
                "raise --context, as far as the model goes",
                "raise context under [memory] in potluck.toml, as far as the model goes",
            ),
            (
                "or name one with --model FILE",
                "or name one with file = \"FILE\" under [model] in potluck.toml",
            ),
            (
                "CPU 9 of --cpus is not there",
                "CPU 9 of cpus under [model] in potluck.toml is not there",
            ),
            ("name peers (--peer)", "name peers (peers under [network] in potluck.toml)"),
            (
                "name peers (--peer ADDR:PORT)",
                "name peers (peers = [\"ADDR:PORT\"] under [network] in potluck.toml)",
            ),
            (
                "give another --port, or --tcp-port 0",
                "give another port under [network] in potluck.toml, or tcp_port under [network] in potluck.toml 0",
            ),
            ("--threads COUNTS", "threads under [model] in potluck.toml COUNTS"),
            ("have it complete the text (--raw)", "have it complete the text (raw TEXT)"),
            (
                "reset --store drops them; a--context, ---port, --, --json",
                "reset --store drops them; a--context, ---port, --, --json",
            ),
            ("ü --slab", "ü slab under [memory] in potluck.toml"),
        ] {
            assert_eq!(Place::Board.words(message), on_a_board);
            assert_eq!(Place::Board.words(on_a_board), on_a_board, "twice is once");
            assert_eq!(Place::Computer.words(message), message);
        }
    }
}
