//! What can be wrong with a file, each said so that whoever reads it knows what to type instead.

use core::fmt;

use thiserror::Error;

use crate::limits::{MAX_CONFIG_FILE_BYTES, MAX_CONFIG_PROBLEMS};

use super::hits::Hits;
use super::lines::Place;
use super::table::Key;
use super::value::Secret;

/// Characters of a broken value that a message repeats.
const SHOWN_CHARS: usize = 40;

/// What is wrong, without where.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum Fault {
    /// Too long to be meant.
    #[error("the file has more than {MAX_CONFIG_FILE_BYTES} bytes and is not read: shorten it")]
    TooLarge,
    /// Some editors' "Unicode".
    #[error("the file is UTF-16 and cannot be read: save it as UTF-8")]
    Utf16,
    /// Another character set, or no text.
    #[error("this line is not UTF-8: save the file as UTF-8, and type the line again")]
    NotUtf8,
    /// `slab = 96 MB`
    #[error("this is neither a number nor text in quotation marks: write {0}")]
    Unquoted(String),
    /// `slab`
    #[error("a setting is written key = value, a section [name]: this line is neither")]
    NotASetting,
    /// `peers = [`
    #[error("{0}: a quotation mark or bracket is not closed")]
    NotClosed(String),
    /// The same key once more.
    #[error("{0} is set already: the first counts; remove one")]
    Twice(String),
    /// The same section once more.
    #[error("[{0}] has begun already: its settings count, but put them together")]
    SectionTwice(String),
    /// Not TOML for another reason.
    #[error("this line is not understood ({0}): it is left out")]
    Syntax(String),
    /// `[memory` or `[[memory]]`.
    #[error("a section is written [name], such as [{0}]")]
    Header(&'static str),
    /// No such section.
    #[error("there is no section [{section}]: did you mean [{nearest}]?")]
    UnknownSection {
        /// As written.
        section: String,
        /// What it looks like.
        nearest: &'static str,
    },
    /// No such key.
    #[error("{key} is not known: did you mean {nearest} in [{section}]?")]
    UnknownKey {
        /// As written.
        key: String,
        /// What it looks like.
        nearest: &'static str,
        /// Where that belongs.
        section: &'static str,
    },
    /// `POTLUCK_SWARM_KEYFILE`. What it holds may be a secret.
    #[error("{0} is the variable of no setting: docs/use/config.md lists those that there are")]
    UnknownVariable(String),
    /// A key of another section.
    #[error("{key} belongs in [{section}]: put it below that line")]
    Misplaced {
        /// The key.
        key: String,
        /// Its section.
        section: &'static str,
    },
    /// A value that cannot be meant.
    #[error("{assignment}: {needs} is needed")]
    Value {
        /// As written: key, option or variable, and value.
        assignment: String,
        /// What would do.
        needs: String,
    },
    /// The key twice, in two places.
    #[error("key and key_file are both set: keep one of them")]
    TwoKeys,
    /// An option whose value has no characters: a variable of a script that was not set, or a text meant as none.
    #[error("--{option} \"\": the text is empty. Leave the option out, or give it a value: {}", needs.trim_end_matches(','))]
    Empty {
        /// The option.
        option: &'static str,
        /// What would do.
        needs: String,
    },
    /// Not a file of settings at all.
    #[error("there are more than {MAX_CONFIG_PROBLEMS} such lines: is this a file of settings? Nothing of it is used")]
    TooMany,
}

impl Fault {
    pub(super) fn value(key: &Key, source: &str) -> Fault {
        let source = if key.secret { Secret::HIDDEN.to_string() } else { shown(source) };
        Fault::Value { assignment: format!("{} = {source}", key.key), needs: (key.needs)() }
    }

    /// A value of an environment variable that cannot be meant.
    pub(crate) fn variable(key: &Key, text: &str) -> Fault {
        let text = if key.secret { Secret::HIDDEN.to_string() } else { shown(text) };
        Fault::Value { assignment: format!("{}={text}", key.variable().unwrap_or_default()), needs: (key.needs)() }
    }

    pub(super) fn option(key: &Key, text: &str) -> Fault {
        let (option, needs) = (key.option.unwrap_or(key.key), (key.needs_one)());
        if text.is_empty() {
            return Fault::Empty { option, needs };
        }
        let text = if key.secret { Secret::HIDDEN.to_string() } else { shown(text) };
        Fault::Value { assignment: format!("--{option} {text}"), needs }
    }
}

/// Foreign text, fit for a terminal: short, and without control characters.
pub(super) fn shown(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let short: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() { short + "..." } else { short }
}

/// What is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Counted from 1; 0 for the file as a whole.
    pub(crate) line: usize,
    /// In characters, counted from 1; 0 for the file as a whole.
    pub(crate) column: usize,
    /// What is wrong.
    pub(crate) fault: Fault,
    /// What it may have been meant for.
    pub(crate) hits: Hits,
}

impl Problem {
    /// Of the file as a whole, so of everything in it.
    pub(super) fn whole(fault: Fault) -> Problem {
        Problem { line: 0, column: 0, fault, hits: Hits::ALL }
    }

    /// Of one place, and of everything until somebody says otherwise.
    pub(super) fn at(place: Place, fault: Fault) -> Problem {
        Problem { line: place.line, column: place.column, fault, hits: Hits::ALL }
    }

    /// Says what it may have been meant for.
    pub(super) fn hitting(self, hits: Hits) -> Problem {
        Problem { hits, ..self }
    }

    /// The line for the console, beginning with the file's name.
    pub(crate) fn in_file(&self, file: &str) -> String {
        if self.line == 0 { format!("{file}: {}", self.fault) } else { format!("{file}:{self}") }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.fault)
    }
}
