//! What can be wrong with a file. Each message tells the reader what to type instead.

use core::fmt;

use thiserror::Error;

use crate::limits::{MAX_CONFIG_FILE_BYTES, MAX_CONFIG_PROBLEMS};

use super::hits::Hits;
use super::lines::Place;
use super::table::Key;
use super::value::Secret;

/// Characters of a broken value that a message repeats.
const SHOWN_CHARS: usize = 40;

/// What is wrong, without its place.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum Fault {
    /// Too long to be a file of settings.
    #[error("the file has more than {MAX_CONFIG_FILE_BYTES} bytes and is not read: shorten it")]
    TooLarge,
    /// Some editors call this "Unicode".
    #[error("the file is UTF-16 and cannot be read: save it as UTF-8")]
    Utf16,
    /// Another character set, or not text.
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
    /// A duplicate key.
    #[error("{0} is set already: the first counts; remove one")]
    Twice(String),
    /// A duplicate section.
    #[error("[{0}] has begun already: its settings count, but put them together")]
    SectionTwice(String),
    /// Not TOML for another reason.
    #[error("this line is not understood ({0}): it is ignored")]
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
        /// The section of that key.
        section: &'static str,
    },
    /// `POTLUCK_SWARM_KEYFILE`. Its value may be a secret.
    #[error("{0} is not the variable of any setting: docs/use/config.md lists them all")]
    UnknownVariable(String),
    /// A key of another section.
    #[error("{key} belongs in [{section}]: put it below that line")]
    Misplaced {
        /// The key.
        key: String,
        /// Its section.
        section: &'static str,
    },
    /// An invalid value.
    #[error("{assignment}: {needs} is needed")]
    Value {
        /// As written: key, option or variable, and value.
        assignment: String,
        /// What is valid.
        needs: String,
    },
    /// The swarm key in two places.
    #[error("key and key_file are both set: keep one of them")]
    TwoKeys,
    /// An option with an empty value: from an unset variable of a script, or meant as "none".
    #[error("--{option} \"\": the text is empty. Leave the option out, or give it a value: {}", needs.trim_end_matches(','))]
    Empty {
        /// The option.
        option: &'static str,
        /// What is valid.
        needs: String,
    },
    /// Most likely not a file of settings at all.
    #[error(
        "there are more than {MAX_CONFIG_PROBLEMS} such lines: is this a file of settings? All of it is ignored"
    )]
    TooMany,
}

impl Fault {
    pub(super) fn value(key: &Key, source: &str) -> Fault {
        let source = if key.secret { Secret::HIDDEN.to_string() } else { shown(source) };
        Fault::Value { assignment: format!("{} = {source}", key.key), needs: (key.needs)() }
    }

    /// An invalid value of an environment variable.
    pub(crate) fn variable(key: &Key, text: &str) -> Fault {
        let text = if key.secret { Secret::HIDDEN.to_string() } else { shown(text) };
        Fault::Value {
            assignment: format!("{}={text}", key.variable().unwrap_or_default()),
            needs: (key.needs)(),
        }
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

/// Makes text from a file safe for a terminal: short, and without control characters.
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
    /// The sections that it may have been meant for.
    pub(crate) hits: Hits,
}

impl Problem {
    /// A problem of the whole file, so of everything in it.
    pub(super) fn whole(fault: Fault) -> Problem {
        Problem { line: 0, column: 0, fault, hits: Hits::ALL }
    }

    /// A problem at one place. It may have been meant for anything until `hitting` narrows that.
    pub(super) fn at(place: Place, fault: Fault) -> Problem {
        Problem { line: place.line, column: place.column, fault, hits: Hits::ALL }
    }

    /// Sets what it may have been meant for.
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
