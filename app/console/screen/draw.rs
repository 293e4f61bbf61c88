//! Draws the last row of a terminal, the prompt sign and the part of the line around the cursor,
//! with as few bytes as possible.

use unicode_width::UnicodeWidthStr;

use super::super::editor::characters;
use super::{Row, Screen};

/// Most code points sent for one character: the longest emoji in use has ten.
const MAX_CELL_CHARS: usize = 16;

/// One cell of a row: a character and the columns that it takes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    width: usize,
}

impl Screen {
    /// Erases the prompt and the line.
    pub(super) fn erase(&mut self) {
        self.go(0);
        self.clear(self.shown.iter().map(|cell| cell.width).sum());
        self.shown.clear();
        self.row = Row::Empty;
    }

    /// Columns for the line, between the prompt and the last column, where terminals differ.
    pub(super) fn room(&self) -> usize {
        self.columns - 3
    }

    /// Draws a finished line from its start, all of it if it fits.
    pub(super) fn draw_as(&mut self, line: &str) {
        let room = self.room();
        let (mut wanted, mut width) = (self.sign(false), 2);
        for cell in characters(line).map(Cell::of) {
            if width + cell.width > 2 + room || wanted.len() > 4 * room {
                break;
            }
            width += cell.width;
            wanted.push(cell);
        }
        self.show(wanted, width);
    }

    /// Draws the line around the cursor on the last row.
    pub(super) fn draw(&mut self) {
        let (room, cursor) = (self.room(), self.editor.cursor());
        self.first = self.first.min(self.editor.text().len());
        if !self.editor.text().is_char_boundary(self.first) || cursor < self.first {
            self.first = self.back(cursor, room / 4);
        }
        if cursor - self.first > 16 * room || width(&self.editor.text()[self.first..cursor]) >= room
        {
            self.first = self.back(cursor, 3 * room / 4);
        }
        if cursor < 4 * room && width(&self.editor.text()[..cursor]) < room {
            self.first = 0;
        }
        let mut wanted = self.sign(self.first > 0);
        let (mut end, mut column, mut target) = (self.first, 2, 2);
        let text = self.editor.text();
        // A row has few characters of few bytes each: the rest of a long line is not examined.
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

    /// The prompt sign; `more` if the line begins left of the row.
    pub(super) fn sign(&self, more: bool) -> Vec<Cell> {
        [if self.continues { "|" } else { ">" }, if more { "<" } else { " " }]
            .map(Cell::of)
            .to_vec()
    }

    /// The first byte from which `cursor` is at most this many columns away.
    pub(super) fn back(&self, cursor: usize, columns: usize) -> usize {
        let mut first = cursor;
        let mut taken = 0;
        for character in unicode_segmentation::UnicodeSegmentation::graphemes(
            &self.editor.text()[..cursor],
            true,
        )
        .rev()
        {
            taken += width(character);
            if taken > columns {
                break;
            }
            first -= character.len();
        }
        first
    }

    /// Sends the difference between the shown row and the wanted one, and leaves the cursor in
    /// column `target`.
    pub(super) fn show(&mut self, wanted: Vec<Cell>, target: usize) {
        let mut same =
            wanted.iter().zip(&self.shown).take_while(|(one, other)| one == other).count();
        // A zero-width cell belongs to the character before it.
        while same > 0
            && [&wanted, &self.shown]
                .iter()
                .any(|row| row.get(same).is_some_and(|cell| cell.width == 0))
        {
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

    /// Clears this many columns from the cursor on.
    pub(super) fn clear(&mut self, columns: usize) {
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
    pub(super) fn go(&mut self, column: usize) {
        let (left, right) = (self.at.saturating_sub(column), column.saturating_sub(self.at));
        match (left, right, self.sequences) {
            (0, 0, _) => {}
            (_, _, _) if column == 0 => self.push("\r"),
            (1..=3, _, _) | (1.., _, false) => self.push(&"\x08".repeat(left)),
            (0, _, true) => self.push(&format!("\x1b[{right}C")),
            // Without sequences the cursor moves right only by retyping the text.
            (_, _, false) => self.retype(column),
            _ => self.push(&format!("\x1b[{left}D")),
        }
        self.at = column;
    }

    pub(super) fn retype(&mut self, column: usize) {
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
    pub(super) fn of(text: &str) -> Cell {
        // A letter may carry any number of accents; most of them are not sent.
        let text: String = shown(text).chars().take(MAX_CELL_CHARS).collect();
        Cell { width: width(&text), text }
    }
}

pub(super) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// Shows a text of several lines on one row.
pub(super) fn shown(text: &str) -> String {
    text.replace('\n', "\u{21b5}")
}
