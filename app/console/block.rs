//! A prompt of several lines: `"""` begins and ends it, on terminals and on pipes. The lines inside
//! are never commands.

use thiserror::Error;

use crate::limits::MAX_PROMPT_BYTES;

use super::command::{Command, ConsoleError, Line, parse};
use super::table::{TABLE, Takes};

/// Begins and ends a block.
const MARK: &str = "\"\"\"";

/// A block that has begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    /// The command that takes the text, with its options; empty for none.
    head: String,
    text: String,
    fault: Option<BlockError>,
}

/// Why a block is rejected.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum BlockError {
    /// It exceeds the longest allowed prompt.
    #[error(
        "a prompt may have {MAX_PROMPT_BYTES} bytes, and these lines have more: nothing was asked, shorten them"
    )]
    TooLong,
    /// One of its lines could not be used, and why.
    #[error("a line of the prompt could not be used, so nothing was asked: {0}")]
    Spoiled(String),
    /// It has no text.
    #[error("the prompt is empty: give some text between the two {MARK}")]
    Empty,
    /// The input ended before the closing mark.
    #[error("the prompt that {MARK} began has no end, so nothing was asked: end it with {MARK}")]
    Open,
    /// Its command is invalid.
    #[error(transparent)]
    Command(#[from] ConsoleError),
}

/// What an opening line starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Begun {
    /// A prompt that ends on the same line.
    Whole(Result<Line, BlockError>),
    /// A prompt that continues on the next line.
    Open(Block),
}

impl Block {
    /// Starts a block if the line, or the text of its command, begins with the mark;
    /// otherwise none.
    pub(crate) fn begin(line: &str) -> Option<Begun> {
        let at = line.find(MARK)?;
        let (head, text) = (line[..at].trim(), &line[at + MARK.len()..]);
        let takes_text = |word: &str| {
            TABLE.iter().any(|entry| {
                entry.word == word
                    && matches!(entry.takes, Takes::Text(_) | Takes::TextOrNothing(_))
            })
        };
        let words: Vec<&str> = head.split_whitespace().collect();
        if !matches!(words[..], [])
            && !matches!(words[..], [word] | [word, "--json"] if takes_text(word))
        {
            return None;
        }
        let mut block = Block { head: words.join(" "), text: String::new(), fault: None };
        Some(block.push(text).map_or_else(|| Begun::Open(block), Begun::Whole))
    }

    /// Adds the next line. If it is the last, returns the parsed prompt.
    pub(crate) fn push(&mut self, line: &str) -> Option<Result<Line, BlockError>> {
        let line = line.trim_end();
        let (line, is_last) = line.strip_suffix(MARK).map_or((line, false), |line| (line, true));
        // The marks may stand on lines of their own.
        let begins = self.text.is_empty();
        let line = if begins { line.trim_start_matches('\n') } else { line };
        let line = if is_last { line.strip_suffix('\n').unwrap_or(line) } else { line };
        if !(line.is_empty() && (begins || is_last)) {
            if self.text.len() + line.len() >= MAX_PROMPT_BYTES {
                (self.text, self.fault) = (String::new(), Some(BlockError::TooLong));
            } else if self.fault.is_none() {
                self.text += if begins { "" } else { "\n" };
                self.text += line;
            }
        }
        is_last.then(|| self.end())
    }

    /// Marks the prompt as unusable because one of its lines was, for this reason.
    pub(crate) fn spoil(&mut self, reason: String) {
        self.fault.get_or_insert(BlockError::Spoiled(reason));
    }

    fn end(&mut self) -> Result<Line, BlockError> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let text = std::mem::take(&mut self.text);
        if text.trim().is_empty() {
            return Err(BlockError::Empty);
        }
        match self.head.as_str() {
            "" => Ok(prompt(text)),
            head => parse(&format!("{head} {text}"))?.ok_or(BlockError::Empty),
        }
    }
}

/// Makes a prompt of a text without parsing it for commands.
pub(crate) fn prompt(text: String) -> Line {
    Line { command: Command::Ask(text), json: false, bare: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parsed prompt, and how many lines it took.
    fn meant(lines: &[&str]) -> (Option<Result<Line, BlockError>>, usize) {
        let mut block = match Block::begin(lines[0]) {
            None => return (None, 0),
            Some(Begun::Whole(line)) => return (Some(line), 1),
            Some(Begun::Open(block)) => block,
        };
        for (at, line) in lines.iter().enumerate().skip(1) {
            if let Some(line) = block.push(line) {
                return (Some(line), at + 1);
            }
        }
        (None, lines.len())
    }

    #[test]
    fn lines_between_the_marks_are_one_prompt_and_no_command() {
        let text = |text: &str| Some(Ok(prompt(text.to_string())));
        for (lines, said) in [
            (&["\"\"\"", "one", "", "  reboot", "\"\"\""][..], "one\n\n  reboot"),
            (&["\"\"\"one", "two\"\"\""], "one\ntwo"),
            (&["  \"\"\"status\"\"\"  "], "status"),
            (&["\"\"\" a \"quoted\" word\"\"\""], " a \"quoted\" word"),
            (&["\"\"\"one\ntwo\n\"\"\""], "one\ntwo"),
        ] {
            assert_eq!(meant(lines), (text(said.trim_end()), lines.len()), "{lines:?}");
        }
        let chat = Line { command: Command::Chat("one\ntwo".to_string()), json: true, bare: false };
        assert_eq!(meant(&["chat --json \"\"\"one", "two", "\"\"\""]), (Some(Ok(chat)), 3));
        for line in ["say \"\"\"", "what is \"\"\"?", "stop \"\"\"", "\"\" \"", "hello"] {
            assert_eq!(meant(&[line]), (None, 0), "{line}");
        }
    }

    #[test]
    fn a_block_is_bounded_and_its_lines_are_swallowed_to_its_end() {
        let line = "x".repeat(10_000);
        let mut block = match Block::begin("\"\"\"") {
            Some(Begun::Open(block)) => block,
            other => panic!("{other:?}"),
        };
        for _ in 0..100 {
            assert_eq!(block.push(&line), None, "the rest would be prompts");
            assert!(block.text.len() <= MAX_PROMPT_BYTES);
        }
        assert_eq!(block.push("\"\"\""), Some(Err(BlockError::TooLong)));
        let mut block = Block { head: String::new(), text: String::new(), fault: None };
        block.spoil("it was not UTF-8".to_string());
        assert!(matches!(block.push("more\"\"\""), Some(Err(BlockError::Spoiled(_)))));
        assert_eq!(meant(&["\"\"\"", " ", "\"\"\""]).0, Some(Err(BlockError::Empty)));
    }
}
