//! The lines that were entered on a console, for Up and Down.
//!
//! Promises: the number of lines and their length are bounded. A prompt of several lines is kept as
//! one text when it ends, not line by line.

use std::collections::VecDeque;

use crate::limits::{HISTORY_LINE_BYTES, HISTORY_LINES};

/// The history of one console.
#[derive(Default)]
pub(super) struct History {
    /// The latest first.
    lines: VecDeque<String>,
    /// The line added last is the first of `lines`.
    is_kept: bool,
    /// The lines so far of a prompt of several lines; empty if it will not be kept.
    block: Option<String>,
}

impl History {
    /// The line at this place, counted from the latest.
    pub(super) fn get(&self, at: usize) -> Option<&str> {
        self.lines.get(at).map(String::as_str)
    }

    /// Adds a line that was entered.
    pub(super) fn add(&mut self, line: &str) {
        match &mut self.block {
            None => self.keep(line),
            Some(block) if block.len() + line.len() < HISTORY_LINE_BYTES => {
                if !block.is_empty() {
                    *block += "\n";
                    *block += line;
                }
            }
            Some(block) => block.clear(),
        }
    }

    /// Sets whether the next lines continue a prompt, which the latest line began.
    pub(super) fn set_continues(&mut self, continues: bool) {
        match self.block.take() {
            None if continues => {
                let first = if self.is_kept { self.lines.pop_front() } else { None };
                self.block = Some(first.unwrap_or_default());
            }
            Some(block) if !continues => self.keep(&block),
            block => self.block = block,
        }
    }

    /// The prompt of several lines was dropped.
    pub(super) fn drop_block(&mut self) {
        self.block.iter_mut().for_each(String::clear);
    }

    /// Makes `line` the latest, unless it is blank or too long.
    fn keep(&mut self, line: &str) {
        self.is_kept = !line.trim().is_empty() && line.len() <= HISTORY_LINE_BYTES;
        if self.is_kept && self.lines.front().is_none_or(|last| last != line) {
            self.lines.truncate(HISTORY_LINES - 1);
            self.lines.push_front(line.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_of_several_lines_is_one_text_and_one_too_long_leaves_nothing() {
        let mut history = History::default();
        let mut enter = |line: &str, continues: bool| {
            history.add(line);
            history.set_continues(continues);
        };
        let long = "x".repeat(HISTORY_LINE_BYTES);
        enter("before", false);
        for (line, continues) in [("<", true), ("one", true), ("", true), (">", false)] {
            enter(line, continues);
        }
        for (line, continues) in [("<", true), (&long, true), (">", false)] {
            enter(line, continues);
        }
        for (line, continues) in [(&*format!("<{long}"), true), (">", false)] {
            enter(line, continues);
        }
        assert_eq!(history.lines, ["<\none\n\n>", "before"]);
    }
}
