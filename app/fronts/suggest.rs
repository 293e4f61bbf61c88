//! Guesses which command a mistyped line means.

use crate::config::nearest;
use crate::console;

/// Commands of other consoles, and their names here.
const ELSEWHERE: [(&str, &str); 6] = [
    ("?", "help"),
    ("exit", "quit"),
    ("logout", "quit"),
    ("halt", "poweroff"),
    ("shutdown", "poweroff"),
    ("restart", "reboot"),
];

/// The command that a word resembles, if it is at most one typing mistake away.
pub(super) fn suggestion(text: &str) -> Option<&'static str> {
    let typed = text.to_ascii_lowercase();
    if let Some((_, word)) = ELSEWHERE.iter().find(|(other, _)| *other == typed) {
        return Some(word);
    }
    let (word, changes) = nearest(&typed, console::words(), |word| word)?;
    (changes <= 1 && !text.contains(char::is_whitespace)).then_some(word)
}
