//! A prompt from where people keep one: the command line, a file, standard input.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::limits::MAX_PROMPT_BYTES;

/// Where a text comes from.
pub(super) enum Source {
    /// The command line.
    Text(String),
    File(PathBuf),
    Stdin,
}

/// Why there is no text.
#[derive(Debug, Error)]
pub(super) enum PromptError {
    #[error("{0}: cannot be read: {1}")]
    Unreadable(String, io::Error),
    #[error("{0}: a prompt may have {MAX_PROMPT_BYTES} bytes: shorten it")]
    TooLong(String),
    #[error("{0}: byte {1} is not UTF-8: save it as UTF-8")]
    NotUtf8(String, usize),
    #[error("the prompt is empty: give some text")]
    Empty,
}

impl Source {
    /// What the command line names: `-` is standard input, and so is nothing at all where standard input is a pipe or a file.
    /// None where there is nothing to read.
    pub(super) fn of(text: Option<String>, file: Option<PathBuf>) -> Option<Source> {
        match (text, file) {
            (None, Some(file)) => Some(Source::File(file)),
            (Some(text), _) if text != "-" => Some(Source::Text(text)),
            (Some(_), _) => Some(Source::Stdin),
            (None, None) => (!io::stdin().is_terminal()).then_some(Source::Stdin),
        }
    }

    /// The prompt. The last line end of a file, which editors and `echo` add, is not part of it.
    pub(super) fn prompt(self) -> Result<String, PromptError> {
        let text = match self {
            Source::Text(text) if text.len() > MAX_PROMPT_BYTES => return Err(PromptError::TooLong("the prompt".to_string())),
            Source::Text(text) => text,
            Source::File(path) => read(&path)?,
            Source::Stdin => all_of(io::stdin().lock(), "standard input")?,
        };
        if text.trim().is_empty() { Err(PromptError::Empty) } else { Ok(text) }
    }
}

fn read(path: &Path) -> Result<String, PromptError> {
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => all_of(file, &name),
        Err(error) => Err(PromptError::Unreadable(name, error)),
    }
}

fn all_of(input: impl Read, name: &str) -> Result<String, PromptError> {
    let mut bytes = Vec::new();
    // One more than a line end of two bytes may add.
    let read = input.take(MAX_PROMPT_BYTES as u64 + 3).read_to_end(&mut bytes);
    read.map_err(|error| PromptError::Unreadable(name.to_string(), error))?;
    let len = bytes.strip_suffix(b"\n").map_or(bytes.len(), |rest| rest.strip_suffix(b"\r").unwrap_or(rest).len());
    bytes.truncate(len);
    if bytes.len() > MAX_PROMPT_BYTES {
        return Err(PromptError::TooLong(name.to_string()));
    }
    let text =
        String::from_utf8(bytes).map_err(|error| PromptError::NotUtf8(name.to_string(), error.utf8_error().valid_up_to()))?;
    // Some editors mark a file as UTF-8 with a character that nobody sees, but a model would.
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_and_a_mark_of_utf_8_are_not_part_of_a_prompt() {
        let read = |bytes: &[u8]| all_of(bytes, "x").unwrap();
        for (bytes, text) in [
            ("Hello\n", "Hello"),
            ("Hello\r\n", "Hello"),
            ("Hello\n\n", "Hello\n"),
            ("Hello", "Hello"),
            ("\u{feff}a\u{feff}\n", "a\u{feff}"),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(read(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_prompt_is_as_long_as_it_may_be_and_no_longer() {
        let most = "x".repeat(MAX_PROMPT_BYTES);
        assert_eq!(all_of(format!("{most}\r\n").as_bytes(), "x").unwrap(), most);
        for long in [format!("{most}y"), format!("{most}\n\n"), "\n".repeat(9 * MAX_PROMPT_BYTES)] {
            assert!(all_of(long.as_bytes(), "x").unwrap_err().to_string().starts_with("x: a prompt may have 131072 bytes"));
        }
        assert_eq!(all_of(&b"caf\xe9"[..], "x").unwrap_err().to_string(), "x: byte 3 is not UTF-8: save it as UTF-8");
    }
}
