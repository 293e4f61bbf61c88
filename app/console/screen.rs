//! One terminal: what is typed becomes lines, and what is said becomes bytes, without the one garbling the other.
//!
//! Bytes come in by [`Screen::feed`], what they mean comes out of [`Screen::poll`], and what the terminal is to show is taken from
//! [`Screen::output`]. Nothing is ever asked of the terminal, so it works over any wire.
//!
//! Promises: the prompt and the line stay whole: what is said while a line is edited appears above it. While an answer streams,
//! notes wait for the end of its line. A key costs the few bytes that differ, for at 115200 bits a second a whole row takes 7 ms.
//! The line takes one row, however long it is: the row shows the part around the cursor. What a terminal does not take is left out
//! beyond a bound, and that is said.

use std::collections::VecDeque;

use unicode_width::UnicodeWidthStr;

use crate::limits::{MAX_TERMINAL_OUTPUT_BYTES, MAX_WAITING_NOTES, TERMINAL_COLUMNS};

use super::editor::{Edit, Editor, characters};
use super::keys::{Key, Keys};
use super::table;

/// Parts of one character that are sent: the longest emoji in use has ten.
const MAX_CELL_CHARS: usize = 16;

/// What a person did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Typed {
    /// A line, its end not included.
    Line(String),
    /// A line beyond `MAX_PROMPT_BYTES`.
    TooLong,
    /// A line with bytes that are no UTF-8.
    NotUtf8,
    /// Ctrl-C, with nothing typed or while an answer comes.
    Interrupt,
    /// Ctrl-D with nothing typed.
    End,
}

/// One place of a row: a character and the columns that it takes.
#[derive(Clone, PartialEq, Eq)]
struct Cell {
    text: String,
    width: usize,
}

/// What stands on the last row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Row {
    /// Nothing.
    Empty,
    /// The prompt and the line.
    Line,
    /// The end of an answer that goes on.
    Answer {
        /// Nothing stands on the row.
        fresh: bool,
    },
}

/// A terminal.
pub struct Screen {
    keys: Keys,
    editor: Editor,
    typed: VecDeque<Typed>,
    row: Row,
    columns: usize,
    /// Whether the terminal knows escape sequences.
    sequences: bool,
    /// The row as the terminal shows it, when it is a line, and the column of the cursor.
    shown: Vec<Cell>,
    at: usize,
    /// The first byte of the line that is shown.
    first: usize,
    /// Notes that wait for the end of an answer's line, and how many more there were.
    notes: VecDeque<String>,
    more: usize,
    out: Vec<u8>,
    lost: bool,
    /// Columns of the progress that stands on the row, which the next output takes away.
    progress: usize,
}

impl Screen {
    /// A terminal with nothing on it. One that knows no escape `sequences` gets backspaces, spaces and CR alone.
    pub fn new(sequences: bool) -> Screen {
        Screen {
            sequences,
            keys: Keys::default(),
            editor: Editor::default(),
            typed: VecDeque::new(),
            row: Row::Empty,
            columns: TERMINAL_COLUMNS,
            shown: Vec::new(),
            at: 0,
            first: 0,
            notes: VecDeque::new(),
            more: 0,
            out: Vec::new(),
            lost: false,
            progress: 0,
        }
    }

    /// The terminal's columns, where it says them.
    pub fn set_columns(&mut self, columns: usize) {
        let columns = columns.clamp(20, 1_000);
        if columns != self.columns {
            self.columns = columns;
            if self.row == Row::Line {
                self.erase();
                self.row = Row::Line;
                self.draw();
            }
        }
    }

    /// Takes what was typed, up to the first thing that [`Screen::poll`] gives; so many bytes it took. The rest is to be given again
    /// when that has been dealt with, so that what is said comes between one line and the next.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        for &byte in bytes {
            if !self.typed.is_empty() {
                break;
            }
            taken += 1;
            for key in self.keys.push(byte).into_iter().flatten() {
                if key == Key::Interrupt && self.row == Row::Line {
                    self.draw();
                }
                let edit = self.editor.apply(key, table::completion);
                self.edited(edit);
            }
        }
        if self.row == Row::Line {
            self.draw();
        }
        taken
    }

    /// What it meant.
    pub fn poll(&mut self) -> Option<Typed> {
        self.typed.pop_front()
    }

    fn edited(&mut self, edit: Edit) {
        let typed = match edit {
            Edit::Changed => return,
            Edit::Refused => return self.push("\x07"),
            Edit::Redraw => {
                if self.row == Row::Line {
                    self.push(if self.sequences { "\x1b[H\x1b[2J" } else { "\r\n" });
                    self.shown.clear();
                    self.at = 0;
                }
                return;
            }
            Edit::Line(line) => {
                self.leave_line(&line);
                if line.trim().is_empty() {
                    return self.invite();
                }
                Typed::Line(line)
            }
            Edit::TooLong => {
                self.leave_line("");
                Typed::TooLong
            }
            Edit::NotUtf8 => {
                self.leave_line("");
                Typed::NotUtf8
            }
            Edit::Interrupt { line: true } if self.row == Row::Line => {
                self.push("^C\r\n");
                self.forget_row();
                return self.invite();
            }
            Edit::Interrupt { .. } => Typed::Interrupt,
            Edit::End => Typed::End,
        };
        self.typed.push_back(typed);
    }

    /// The line is complete: it stays on the terminal, whole, and the next row begins. One that was typed unseen, during an
    /// answer, is shown now.
    fn leave_line(&mut self, line: &str) {
        match self.row {
            Row::Line => {
                // More than one row was never shown whole.
                self.draw_as(line);
                self.push("\r\n");
                self.forget_row();
            }
            Row::Answer { fresh } if !line.trim().is_empty() => {
                let start = if fresh { "" } else { "\r\n" };
                self.push(&format!("{start}> {line}\r\n"));
                self.row = Row::Answer { fresh: true };
            }
            Row::Empty if !line.trim().is_empty() => self.push(&format!("> {line}\r\n")),
            _ => {}
        }
    }

    fn forget_row(&mut self) {
        self.row = Row::Empty;
        self.shown.clear();
        (self.at, self.first) = (0, 0);
    }

    /// Asks for a line.
    pub fn invite(&mut self) {
        if self.row == Row::Empty {
            self.row = Row::Line;
            self.draw();
        }
    }

    /// A line of the log. It is shown above the line that is edited, or when the answer's line ends.
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

    /// How far something has come, on a row that the next output takes back. Nothing where a line or an answer stands.
    pub fn progress(&mut self, text: &str) {
        if matches!(self.row, Row::Empty | Row::Answer { fresh: true }) {
            let text: String = harmless(text).chars().take(self.columns - 1).collect();
            self.push(&text);
            self.progress = width(&text);
        }
    }

    /// Whole lines, at once.
    pub fn say(&mut self, lines: &str) {
        let before = self.row;
        match before {
            Row::Line => self.erase(),
            Row::Answer { fresh: false } => self.push("\r\n"),
            Row::Answer { fresh: true } | Row::Empty => {}
        }
        for line in lines.lines() {
            self.push(&harmless(line));
            self.push("\r\n");
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

    /// More of an answer.
    pub fn answer(&mut self, text: &str) {
        if self.row == Row::Line {
            self.erase();
        }
        let mut fresh = !matches!(self.row, Row::Answer { fresh: false });
        for piece in text.split_inclusive('\n') {
            let line = piece.strip_suffix('\n');
            self.push(&harmless(line.unwrap_or(piece)));
            fresh = line.is_some();
            if fresh {
                self.push("\r\n");
                self.row = Row::Answer { fresh };
                self.say_notes();
            }
        }
        self.row = Row::Answer { fresh };
    }

    /// The answer is complete.
    pub fn end_answer(&mut self) {
        if let Row::Answer { fresh } = self.row {
            if !fresh {
                self.push("\r\n");
            }
            self.row = Row::Empty;
        }
        self.say_notes();
    }

    fn say_notes(&mut self) {
        while let Some(note) = self.notes.pop_front() {
            self.push(&harmless(&note));
            self.push("\r\n");
        }
        if self.more > 0 {
            let more = std::mem::take(&mut self.more);
            self.push(&format!("· {more} more lines: log shows them\r\n"));
        }
    }

    /// What the terminal is to be sent.
    pub fn output(&self) -> &[u8] {
        &self.out
    }

    /// So many bytes of it have been sent.
    pub fn sent(&mut self, bytes: usize) {
        self.out.drain(..bytes);
        if self.lost && self.out.is_empty() {
            self.lost = false;
            let line = self.row == Row::Line;
            self.push("\r\n! the terminal was too slow: some output was left out\r\n");
            self.shown.clear();
            self.at = 0;
            if line {
                self.draw();
            }
        }
    }

    fn push(&mut self, text: &str) {
        let progress = std::mem::take(&mut self.progress);
        if self.lost || self.out.len() + progress + text.len() > MAX_TERMINAL_OUTPUT_BYTES {
            self.lost = true;
            return;
        }
        if progress > 0 {
            self.out.push(b'\r');
            self.clear(progress);
            self.out.push(b'\r');
        }
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Takes the prompt and the line off the terminal.
    fn erase(&mut self) {
        self.go(0);
        self.clear(self.shown.iter().map(|cell| cell.width).sum());
        self.shown.clear();
        self.row = Row::Empty;
    }

    /// Columns for the line: behind the prompt, and before the last column, where terminals differ.
    fn room(&self) -> usize {
        self.columns - 3
    }

    /// The text that is left to see of a finished line: all of it if it fits.
    fn draw_as(&mut self, line: &str) {
        let room = self.room();
        let (mut wanted, mut width) = (prompt(false), 2);
        for cell in characters(line).map(Cell::of) {
            if width + cell.width > 2 + room || wanted.len() > 4 * room {
                break;
            }
            width += cell.width;
            wanted.push(cell);
        }
        self.show(wanted, width);
    }

    /// Makes the terminal's last row show the line around the cursor.
    fn draw(&mut self) {
        let (room, cursor) = (self.room(), self.editor.cursor());
        self.first = self.first.min(self.editor.text().len());
        if !self.editor.text().is_char_boundary(self.first) || cursor < self.first {
            self.first = self.back(cursor, room / 4);
        }
        if cursor - self.first > 16 * room || width(&self.editor.text()[self.first..cursor]) >= room {
            self.first = self.back(cursor, 3 * room / 4);
        }
        if cursor < 4 * room && width(&self.editor.text()[..cursor]) < room {
            self.first = 0;
        }
        let mut wanted = prompt(self.first > 0);
        let (mut end, mut column, mut target) = (self.first, 2, 2);
        let text = self.editor.text();
        // A row has few characters, and those few bytes: the rest of a long line is not looked at.
        for whole in characters(&text[self.first..]) {
            let cell = Cell::of(whole);
            if end == cursor {
                target = column;
            }
            if column + cell.width > 2 + room || wanted.len() > 4 * room {
                break;
            }
            column += cell.width;
            end += whole.len();
            wanted.push(cell);
        }
        if end == cursor {
            target = column;
        }
        self.show(wanted, target);
    }

    /// The byte from which on at most so many columns lead to `cursor`.
    fn back(&self, cursor: usize, columns: usize) -> usize {
        let mut first = cursor;
        let mut taken = 0;
        for character in unicode_segmentation::UnicodeSegmentation::graphemes(&self.editor.text()[..cursor], true).rev() {
            taken += width(character);
            if taken > columns {
                break;
            }
            first -= character.len();
        }
        first
    }

    /// Sends what differs between the row that is shown and the one that is wanted, and leaves the cursor in column `target`.
    fn show(&mut self, wanted: Vec<Cell>, target: usize) {
        let mut same = wanted.iter().zip(&self.shown).take_while(|(one, other)| one == other).count();
        // What takes no column of its own belongs to the character before it.
        while same > 0 && [&wanted, &self.shown].iter().any(|row| row.get(same).is_some_and(|cell| cell.width == 0)) {
            same -= 1;
        }
        let columns = |cells: &[Cell]| cells.iter().map(|cell| cell.width).sum::<usize>();
        if same < wanted.len().max(self.shown.len()) {
            self.go(columns(&wanted[..same]));
            let rest: String = wanted[same..].iter().map(|cell| cell.text.as_str()).collect();
            self.push(&rest);
            self.at = columns(&wanted);
            self.clear(columns(&self.shown).saturating_sub(self.at));
        }
        self.shown = wanted;
        self.go(target);
    }

    /// Takes so many columns from the cursor on off the row.
    fn clear(&mut self, columns: usize) {
        match (columns, self.sequences) {
            (0, _) => {}
            (_, true) => self.push("\x1b[K"),
            (_, false) => {
                self.push(&" ".repeat(columns));
                self.push(&"\x08".repeat(columns));
            }
        }
    }

    /// Moves the cursor within its row.
    fn go(&mut self, column: usize) {
        let (left, right) = (self.at.saturating_sub(column), column.saturating_sub(self.at));
        match (left, right, self.sequences) {
            (0, 0, _) => {}
            (_, _, _) if column == 0 => self.push("\r"),
            (1..=3, _, _) | (1.., _, false) => self.push(&"\x08".repeat(left)),
            (0, _, true) => self.push(&format!("\x1b[{right}C")),
            // What stands there is shown again: the cursor goes over it.
            (_, _, false) => self.retype(column),
            _ => self.push(&format!("\x1b[{left}D")),
        }
        self.at = column;
    }

    fn retype(&mut self, column: usize) {
        let (mut at, mut over) = (0, String::new());
        for cell in &self.shown {
            if self.at <= at && at < column {
                over += &cell.text;
            }
            at += cell.width;
        }
        self.push(&over);
    }
}

impl Cell {
    fn of(text: &str) -> Cell {
        // A letter may carry accents without end; a terminal is spared most of them.
        let text: String = text.chars().take(MAX_CELL_CHARS).collect();
        Cell { width: width(&text), text }
    }
}

fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// The sign that a line may be typed; `more` when the line begins left of the row.
fn prompt(more: bool) -> Vec<Cell> {
    [">", if more { "<" } else { " " }].map(Cell::of).to_vec()
}

/// Text that moves no cursor, changes no colour and sets no title: a model or a peer may say any byte.
pub fn harmless(text: &str) -> String {
    let is_safe = |character: char| !character.is_control() || matches!(character, '\n' | '\t');
    text.chars().map(|character| if is_safe(character) { character } else { char::REPLACEMENT_CHARACTER }).collect()
}

#[cfg(test)]
mod tests;
