//! One terminal: what is typed becomes lines, and what is said becomes bytes, without the one garbling the other.
//!
//! Bytes come in by [`Screen::feed`], what they mean comes out of [`Screen::poll`], and what the terminal is to show is taken from
//! [`Screen::output`]. Nothing is ever asked of the terminal, so it works over any wire.
//!
//! Promises: the prompt and the line stay whole: what is said while a line is edited appears above it. While an answer streams,
//! notes wait for the end of its line. A key costs the few bytes that differ, for at 115200 bits a second a whole row takes 7 ms.
//! The line takes one row, however long it is: the row shows the part around the cursor. What a terminal does not take is left out
//! beyond a bound, and that is said. Pasted text, where the terminal marks it, is one line whatever it holds, and waits for Enter.
//!
//! Nothing here looks at a clock: [`Screen::at`] says the time, [`Screen::wait`] when to come again.

mod draw;
#[cfg(test)]
mod noisy;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::id::Millis;
use crate::limits::{MAX_TERMINAL_OUTPUT_BYTES, MAX_WAITING_NOTES, TERMINAL_COLUMNS};

use super::cable::{self, Cable, Dropped, Taken};
use super::editor::{Edit, Editor};
use super::keys::{Key, Keys};
use super::table::{self, May};

use draw::{Cell, shown, width};

/// What is pasted comes without a pause of this length, where its end got lost.
const PASTE_PAUSE_MS: u64 = 2_000;

/// Ask a terminal to mark what is pasted, and no longer (xterm's "bracketed paste").
const MARK_PASTE: &str = "\x1b[?2004h";
const LEAVE_PASTE: &str = "\x1b[?2004l";

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
    /// Something came that no person types, and is gone: so often by now. The first is told, the tenth, the hundredth.
    Dropped(Dropped, u64),
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
    now: Millis,
    /// When the last byte came.
    came: Millis,
    /// What else may come where this is a serial cable.
    cable: Option<Cable>,
    /// Which of the commands may be used here.
    may: May,
    /// The line belongs to a prompt that has begun.
    continues: bool,
    /// Pasted text is marked.
    marks: bool,
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
            now: Millis(0),
            came: Millis(0),
            cable: None,
            may: May::ALL,
            continues: false,
            marks: false,
        }
    }

    /// The same at the end of a serial cable.
    pub fn on_cable(sequences: bool) -> Screen {
        Screen { cable: Some(Cable::default()), editor: Editor::on_cable(), ..Screen::new(sequences) }
    }

    /// The time goes on.
    pub fn at(&mut self, now: Millis) {
        self.now = now;
        if let Some(cable) = &mut self.cable {
            cable.at(now);
        }
    }

    /// Says which of the commands may be used here.
    pub(crate) fn set_may(&mut self, may: May) {
        self.may = may;
    }

    /// Whether the lines that follow belong to a prompt that has begun: then blank ones count, and another sign stands before them.
    pub(crate) fn set_continues(&mut self, continues: bool) {
        self.continues = continues;
    }

    /// Leaves the terminal as others expect it.
    pub(crate) fn farewell(&mut self) {
        if std::mem::take(&mut self.marks) {
            self.push(LEAVE_PASTE);
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
        self.after_pause();
        for &byte in bytes {
            if !self.typed.is_empty() {
                break;
            }
            taken += 1;
            match &mut self.cable {
                Some(cable) if self.editor.text().is_empty() && self.keys.is_between() && !self.editor.is_pasted() => {
                    match cable.take(byte) {
                        Taken::Given(bytes) => bytes.into_iter().for_each(|byte| self.press(byte)),
                        Taken::Dropped { is_echo: true } => self.dropped(Dropped::Echo),
                        Taken::Dropped { is_echo: false } | Taken::Held => {}
                    }
                }
                _ => self.press(byte),
            }
        }
        self.came = self.now;
        if self.row == Row::Line {
            self.draw();
        }
        taken
    }

    /// Milliseconds after which [`Screen::pause`] is to be called if nothing comes.
    pub(crate) fn wait(&self) -> Option<u64> {
        self.cable.as_ref()?.wait()
    }

    /// Nothing has come for as long as [`Screen::wait`] said.
    pub fn pause(&mut self) {
        let given = self.cable.as_mut().map_or(Vec::new(), Cable::pause);
        given.into_iter().for_each(|byte| self.press(byte));
        if self.row == Row::Line {
            self.draw();
        }
    }

    /// What came before a pause: noise is no beginning of a line, and a paste has ended.
    fn after_pause(&mut self) {
        let pause = (self.now - self.came).0;
        if pause >= PASTE_PAUSE_MS && self.editor.is_pasted() {
            self.editor.end_paste();
        }
        if pause >= cable::PAUSE_MS && self.editor.is_noise() {
            self.editor.clear();
            self.dropped(Dropped::Noise);
        }
    }

    fn press(&mut self, byte: u8) {
        for key in self.keys.push(byte).into_iter().flatten() {
            if let Key::Columns(columns) = key {
                self.set_columns(columns.into());
                continue;
            }
            if key == Key::Interrupt && self.row == Row::Line {
                self.draw();
            }
            let may = self.may;
            let edit = self.editor.apply(key, |line| table::completion(line, may));
            self.edited(edit);
        }
    }

    /// Something has come that no person types.
    fn dropped(&mut self, what: Dropped) {
        let count = self.cable.as_mut().and_then(|cable| cable.count(what));
        self.typed.extend(count.map(|count| Typed::Dropped(what, count)));
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
            Edit::List => {
                let listed = table::candidates(self.editor.text(), self.may).join("  ");
                return self.say(&listed);
            }
            Edit::Noise => return self.dropped(Dropped::Noise),
            Edit::Line(line) => {
                if let Some(what) = self.cable.as_mut().and_then(|cable| cable.drops(&line)).filter(|_| !self.continues) {
                    return self.dropped(what);
                }
                self.leave_line(&line);
                if line.trim().is_empty() && !self.continues {
                    // Whoever comes to a cable presses Enter first: the terminal may be another than before.
                    self.marks &= self.cable.is_none();
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
                self.push(&format!("{start}> {}\r\n", shown(line)));
                self.row = Row::Answer { fresh: true };
            }
            Row::Empty if !line.trim().is_empty() => self.push(&format!("> {}\r\n", shown(line))),
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
            if let Some(cable) = &mut self.cable {
                cable.signed();
            }
            self.draw();
            if self.sequences && !self.marks {
                self.push(MARK_PASTE);
                self.marks = true;
            }
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
    pub(crate) fn progress(&mut self, text: &str) {
        if matches!(self.row, Row::Empty | Row::Answer { fresh: true }) {
            let text: String = harmless(text).chars().take(self.columns - 1).collect();
            self.push(&text);
            self.said(&text);
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

    /// More of an answer.
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

    /// The answer is complete.
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

    /// A whole line has been said, which may come back.
    fn said(&mut self, line: &str) {
        if let Some(cable) = &mut self.cable {
            cable.said(line);
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
}

/// Text that moves no cursor, changes no colour and sets no title: a model or a peer may say any byte.
pub fn harmless(text: &str) -> String {
    let is_safe = |character: char| !character.is_control() || matches!(character, '\n' | '\t');
    text.chars().map(|character| if is_safe(character) { character } else { char::REPLACEMENT_CHARACTER }).collect()
}
