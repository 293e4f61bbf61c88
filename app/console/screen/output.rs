//! What the node shows on a terminal: notes, progress, whole lines, and an answer as it streams.
//!
//! Promises: while a line is being edited, lines appear above it, and it is redrawn below them.
//! While an answer streams, notes wait for the end of its line; a bounded number is kept, and the
//! rest are counted. A line that is longer than a row of a terminal that reports its width is
//! broken between words. No text can move the cursor, change a colour or set a title.

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
        let rows = if self.is_measured { rows(&line, self.columns) } else { vec![line] };
        for row in rows {
            self.push(&row);
            self.push("\r\n");
            self.said(&row);
        }
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

/// The rows of a line on a terminal of this many columns. It is broken between words, and its
/// second column stays a column. A line of JSON stays whole, and so does a word longer than a row.
fn rows(line: &str, columns: usize) -> Vec<String> {
    // Terminals differ in what they do after a character in the last column.
    let room = columns - 1;
    if line.starts_with('{') {
        return vec![line.to_string()];
    }
    let second = second_column(line);
    let indent = width(&line[..second]);
    let (mut rows, mut rest, mut lead) = (Vec::new(), line, 0);
    // Room for words must be left beside the first column.
    let (indent, mut least) = if indent > room / 2 { (2, 1) } else { (indent, second) };
    while lead + width(rest) > room {
        let mut taken = lead;
        let within = rest.char_indices().take_while(|(_, c)| {
            let fits = taken <= room;
            taken += width(c.encode_utf8(&mut [0; 4]));
            fits
        });
        let spaces = within.filter(|(at, c)| *c == ' ' && *at >= least.max(1));
        let after = || Some(least + rest.get(least..)?.find(' ')?);
        let Some(at) = spaces.last().map(|(at, _)| at).or_else(after) else { break };
        rows.push(format!("{:lead$}{}", "", rest[..at].trim_end()));
        (rest, lead, least) = (rest[at..].trim_start(), indent, 0);
    }
    rows.push(format!("{:lead$}{rest}", ""));
    rows
}

/// Where a line's second column begins, after at least two spaces or else after a mark; where it
/// has only one column, where that begins.
fn second_column(line: &str) -> usize {
    let text = line.trim_start();
    let start = line.len() - text.len();
    let is_marked = text.starts_with("· ") || text.starts_with("! ");
    let gap = text.find("  ").or_else(|| text.find(' ').filter(|_| is_marked));
    gap.map_or(start, |gap| start + text.len() - text[gap..].trim_start().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_broken_between_words_below_its_second_column() {
        for (line, expected) in [
            ("short", &["short"][..]),
            (
                "model    a model that completes texts",
                &["model    a model that", "         completes", "         texts"],
            ),
            ("· one two three four five six", &["· one two three four", "  five six"]),
            ("! state  full: remove some files", &["! state  full: remove", "         some files"]),
            ("! disk is full, remove files", &["! disk is full,", "  remove files"]),
            ("one two three four five six", &["one two three four", "five six"]),
            (
                "see https://example.org/a/long/path now",
                &["see", "https://example.org/a/long/path", "now"],
            ),
            (
                "{\"event\": \"note\", \"text\": \"a b c d\"}",
                &["{\"event\": \"note\", \"text\": \"a b c d\"}"],
            ),
            ("a-long-first-column  and words", &["a-long-first-column", "  and words"]),
            ("東京 東京 東京 東京 東京", &["東京 東京 東京 東京", "東京"]),
        ] {
            assert_eq!(rows(line, 22), expected, "{line}");
        }
    }

    #[test]
    fn a_terminal_of_unknown_width_gets_whole_lines() {
        let line = "word ".repeat(40);
        let sent = |columns: Option<usize>| {
            let mut screen = Screen::new(true);
            columns.into_iter().for_each(|columns| screen.set_columns(columns));
            screen.say(&line);
            String::from_utf8_lossy(screen.output()).lines().count()
        };
        assert_eq!((sent(None), sent(Some(40)) > 4), (1, true));
    }
}
