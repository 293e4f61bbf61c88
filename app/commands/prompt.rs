//! Reads a prompt or another text from the command line, a file or standard input.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

use thiserror::Error;

use crate::limits::MAX_PROMPT_BYTES;

/// Where a text comes from.
pub(super) enum Source {
    /// The command line.
    Text(String),
    File(PathBuf),
    Stdin,
}

/// Why a text could not be read.
#[derive(Debug, Error)]
pub(super) enum PromptError {
    #[error("{0}: cannot be read: {1}")]
    Unreadable(String, io::Error),
    #[error("{0}: at most {1} bytes are taken: shorten it, or give it in parts")]
    TooLong(String, usize),
    #[error("{0}: byte {1} is not UTF-8: save it as UTF-8")]
    NotUtf8(String, usize),
    #[error("the prompt is empty: give some text")]
    Empty,
}

impl Source {
    /// Finds the source in the arguments. Several words, from a text given without quotation marks,
    /// are joined with blanks. `-` is standard input, and so is an empty command line if standard
    /// input is a pipe or a file. `None` if there is nothing to read.
    pub(super) fn of(words: &[String], file: Option<PathBuf>) -> Option<Source> {
        match (words, file) {
            (_, Some(file)) if file.as_os_str() == "-" => Some(Source::Stdin),
            (_, Some(file)) => Some(Source::File(file)),
            ([], None) => (!io::stdin().is_terminal()).then_some(Source::Stdin),
            ([only], None) if only == "-" => Some(Source::Stdin),
            (words, None) => Some(Source::Text(words.join(" "))),
        }
    }

    /// The prompt. The last line end of a file, which editors and `echo` add, is not part of it.
    pub(super) fn prompt(self) -> Result<String, PromptError> {
        let text = match self {
            Source::Text(text) if text.len() > MAX_PROMPT_BYTES => {
                return Err(PromptError::TooLong("the prompt".to_string(), MAX_PROMPT_BYTES));
            }
            Source::Text(text) => text,
            read => {
                let name = read.name();
                trimmed(read.bytes(MAX_PROMPT_BYTES + LINE_END_BYTES)?, &name)?
            }
        };
        if text.trim().is_empty() { Err(PromptError::Empty) } else { Ok(text) }
    }

    /// The whole text, byte for byte; an error if it is longer than `limit` bytes.
    pub(super) fn whole(self, limit: usize) -> Result<String, PromptError> {
        let name = self.name();
        let bytes = self.bytes(limit)?;
        if bytes.len() > limit {
            Err(PromptError::TooLong(name, limit))
        } else {
            text(bytes, &name)
        }
    }

    /// The name of the source in messages.
    fn name(&self) -> String {
        match self {
            Source::Text(_) => "the text".to_string(),
            Source::File(path) => path.display().to_string(),
            Source::Stdin => "standard input".to_string(),
        }
    }

    /// Reads at most `limit` + 1 bytes of a file or of standard input.
    fn bytes(self, limit: usize) -> Result<Vec<u8>, PromptError> {
        let name = self.name();
        let unreadable = |error| PromptError::Unreadable(name, error);
        let mut bytes = Vec::new();
        let most = limit as u64 + 1;
        let read = match self {
            Source::Text(text) => return Ok(text.into_bytes()),
            Source::File(path) => {
                File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
            }
            Source::Stdin => io::stdin().lock().take(most).read_to_end(&mut bytes),
        };
        read.map_err(unreadable)?;
        Ok(bytes)
    }
}

/// Bytes of the longest line end.
const LINE_END_BYTES: usize = 2;

/// The prompt in the bytes of a file.
fn trimmed(mut bytes: Vec<u8>, name: &str) -> Result<String, PromptError> {
    let len = bytes
        .strip_suffix(b"\n")
        .map_or(bytes.len(), |rest| rest.strip_suffix(b"\r").unwrap_or(rest).len());
    bytes.truncate(len);
    if bytes.len() > MAX_PROMPT_BYTES {
        return Err(PromptError::TooLong(name.to_string(), MAX_PROMPT_BYTES));
    }
    let text = text(bytes, name)?;
    // Some editors start a UTF-8 file with a byte order mark, which only the model would see.
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_string))
}

fn text(bytes: Vec<u8>, name: &str) -> Result<String, PromptError> {
    String::from_utf8(bytes)
        .map_err(|error| PromptError::NotUtf8(name.to_string(), error.utf8_error().valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_and_a_mark_of_utf_8_are_not_part_of_a_prompt() {
        let read = |bytes: &[u8]| trimmed(bytes.to_vec(), "x").unwrap();
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
        assert_eq!(trimmed(format!("{most}\r\n").into_bytes(), "x").unwrap(), most);
        for long in [format!("{most}y"), format!("{most}\n\n"), "\n".repeat(9 * MAX_PROMPT_BYTES)] {
            assert!(
                trimmed(long.into_bytes(), "x")
                    .unwrap_err()
                    .to_string()
                    .starts_with("x: at most 131072 bytes are taken")
            );
        }
        assert_eq!(
            trimmed(b"caf\xe9".to_vec(), "x").unwrap_err().to_string(),
            "x: byte 3 is not UTF-8: save it as UTF-8"
        );
    }
}
