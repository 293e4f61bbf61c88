//! What the node shows on a terminal: notes, progress, whole lines, and an answer as it streams.
//!
//! Promises: while a line is being edited, lines appear above it, and it is redrawn below them.
//! While an answer streams, notes wait for the end of its line; a bounded number is kept, and the
//! rest are counted. No text can move the cursor, change a colour or set a title.

use crate::limits::MAX_WAITING_NOTES;

use super::draw::width;
use super::{Row, Screen};

impl Screen {
    /// Shows a log line above the line being edited, or when the answer's line ends.
    pub fn note(&mut self, line: &str) {
        if matches!(self.row, Row::Answer { fresh: false }) {
            if self.notes.len() < MAX_WAITING_NOTES {
                self.notes.push_back(line.to_string());
            } else {
                self.more += 1;
            }
        } else {
            self.say(line);
        }
    }

    /// Shows progress on a row that the next output erases. Does nothing if the row holds a line or
    /// an answer.
    pub(crate) fn progress(&mut self, text: &str) {
        if matches!(self.row, Row::Empty | Row::Answer { fresh: true }) {
            let text: String = harmless(text).chars().take(self.columns - 1).collect();
            self.push(&text);
            self.said(&text);
            self.progress = width(&text);
        }
    }

    /// Shows whole lines at once.
    pub fn say(&mut self, lines: &str) {
        let before = self.row;
        match before {
            Row::Line => self.erase(),
            Row::Answer { fresh: false } => self.push("\r\n"),
            Row::Answer { fresh: true } | Row::Empty => {}
        }
        for line in lines.lines() {
            self.say_line(line);
        }
        match before {
            Row::Line => {
                self.row = Row::Line;
                self.draw();
            }
            Row::Answer { .. } => {
                self.row = Row::Answer { fresh: true };
                self.say_notes();
            }
            Row::Empty => {}
        }
    }

    /// Shows more of an answer.
    pub(crate) fn answer(&mut self, text: &str) {
        if self.row == Row::Line {
            self.erase();
        }
        let mut fresh = !matches!(self.row, Row::Answer { fresh: false });
        for piece in text.split_inclusive('\n') {
            let line = piece.strip_suffix('\n');
            let text = harmless(line.unwrap_or(piece));
            self.push(&text);
            if let Some(cable) = &mut self.cable {
                cable.more(&text);
            }
            fresh = line.is_some();
            if fresh {
                self.end_row();
                self.row = Row::Answer { fresh };
                self.say_notes();
            }
        }
        self.row = Row::Answer { fresh };
    }

    /// Ends the answer.
    pub(crate) fn end_answer(&mut self) {
        if let Row::Answer { fresh } = self.row {
            if !fresh {
                self.end_row();
            }
            self.row = Row::Empty;
        }
        self.say_notes();
    }

    fn say_notes(&mut self) {
        while let Some(note) = self.notes.pop_front() {
            self.say_line(&note);
        }
        if self.more > 0 {
            let more = std::mem::take(&mut self.more);
            self.say_line(&format!("· {more} more lines: log shows them"));
        }
    }

    fn say_line(&mut self, line: &str) {
        let line = harmless(line);
        self.push(&line);
        self.push("\r\n");
        self.said(&line);
    }

    fn end_row(&mut self) {
        self.push("\r\n");
        if let Some(cable) = &mut self.cable {
            cable.end_row();
        }
    }

    /// Records a whole output line, which may be echoed.
    fn said(&mut self, line: &str) {
        if let Some(cable) = &mut self.cable {
            cable.said(line);
        }
    }
}

/// Replaces control characters, so that the text moves no cursor, changes no colour and sets no
/// title: a model or a peer may send any byte.
pub fn harmless(text: &str) -> String {
    let is_safe = |character: char| !character.is_control() || matches!(character, '\n' | '\t');
    text.chars()
        .map(|character| if is_safe(character) { character } else { char::REPLACEMENT_CHARACTER })
        .collect()
}
