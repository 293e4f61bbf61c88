//! One terminal: turns keys into lines and output into bytes, without one garbling the other.
//!
//! [`Screen::feed`] takes bytes, [`Screen::poll`] returns what they mean, and [`Screen::output`]
//! returns the bytes to send to the terminal. The screen never queries the terminal, so it works
//! over any wire.
//!
//! Promises: the prompt and the line stay whole: output during editing appears above the line.
//! While an answer streams, notes wait for the end of its line. A key sends only the few bytes that
//! differ, because a whole row takes 7 ms at 115200 bits a second. A line of any length takes one
//! row, which shows the part around the cursor. Output that a slow terminal does not take is
//! bounded; the excess is dropped, and the terminal is told. Pasted text, where the terminal marks
//! it, is always one line, and waits for Enter.
//!
//! Nothing here reads a clock: [`Screen::at`] sets the time, and [`Screen::wait`] says when to
//! call again.

#[cfg(test)]
mod cable_tests;
mod draw;
mod output;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::id::Millis;
use crate::limits::{MAX_TERMINAL_OUTPUT_BYTES, TERMINAL_COLUMNS};

use super::cable::{self, Cable, Dropped, Taken};
use super::editor::{Edit, Editor};
use super::keys::{Key, Keys};
use super::table::{self, Permissions};

pub use output::harmless;

use draw::{Cell, shown};

/// A pause of this length ends a paste whose end marker was lost.
const PASTE_PAUSE_MS: u64 = 2_000;

/// Ask a terminal to mark pasted text, and to stop doing so (xterm's "bracketed paste").
const MARK_PASTE: &str = "\x1b[?2004h";
const LEAVE_PASTE: &str = "\x1b[?2004l";

/// What a person did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Typed {
    /// A line, without its end.
    Line(String),
    /// A line beyond `MAX_PROMPT_BYTES`.
    TooLong,
    /// A line with invalid UTF-8.
    NotUtf8,
    /// Ctrl-C with nothing typed, or during an answer.
    Interrupt,
    /// Ctrl-D with nothing typed.
    End,
    /// Input that no person types was dropped, and how often so far. Reported the first, tenth and
    /// hundredth time.
    Dropped(Dropped, u64),
}

/// What the last row shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Row {
    /// Nothing.
    Empty,
    /// The prompt and the line.
    Line,
    /// The end of a streaming answer.
    Answer {
        /// The row is empty.
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
    /// The terminal has reported its width.
    is_measured: bool,
    /// Whether the terminal understands escape sequences.
    sequences: bool,
    /// The row as the terminal shows it, if it is a line, and the cursor's column.
    shown: Vec<Cell>,
    at: usize,
    /// The first visible byte of the line.
    first: usize,
    /// Notes that wait for the end of an answer's line, and how many more were left out.
    notes: VecDeque<String>,
    more: usize,
    out: Vec<u8>,
    lost: bool,
    /// Width of the progress text on the row, which the next output erases.
    progress: usize,
    now: Millis,
    /// When the last byte arrived.
    came: Millis,
    /// The filter for a serial cable, if the terminal is on one.
    cable: Option<Cable>,
    /// Which commands are allowed here.
    permissions: Permissions,
    /// The line continues a prompt.
    continues: bool,
    /// The terminal has been asked to mark pasted text.
    marks: bool,
}

impl Screen {
    /// An empty terminal. Without escape `sequences` it is sent only backspaces, spaces and CR.
    pub fn new(sequences: bool) -> Screen {
        Screen {
            sequences,
            keys: Keys::default(),
            editor: Editor::default(),
            typed: VecDeque::new(),
            row: Row::Empty,
            columns: TERMINAL_COLUMNS,
            is_measured: false,
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
            permissions: Permissions::ALL,
            continues: false,
            marks: false,
        }
    }

    /// The same on a serial cable.
    pub fn on_cable(sequences: bool) -> Screen {
        Screen {
            cable: Some(Cable::default()),
            editor: Editor::on_cable(),
            ..Screen::new(sequences)
        }
    }

    /// Sets the time.
    pub fn at(&mut self, now: Millis) {
        self.now = now;
        if let Some(cable) = &mut self.cable {
            cable.at(now);
        }
    }

    /// Sets which commands are allowed here.
    pub(crate) fn set_permissions(&mut self, permissions: Permissions) {
        self.permissions = permissions;
    }

    /// Sets whether the next lines continue a prompt: then blank lines count, and the prompt
    /// sign differs.
    pub(crate) fn set_continues(&mut self, continues: bool) {
        self.continues = continues;
        self.editor.set_continues(continues);
    }

    /// Restores the terminal's paste mode.
    pub(crate) fn farewell(&mut self) {
        if std::mem::take(&mut self.marks) {
            self.push(LEAVE_PASTE);
        }
    }

    /// Sets the terminal's width, if it reports one.
    pub fn set_columns(&mut self, columns: usize) {
        let columns = columns.clamp(20, 1_000);
        self.is_measured = true;
        if columns != self.columns {
            self.columns = columns;
            if self.row == Row::Line {
                self.erase();
                self.row = Row::Line;
                self.draw();
            }
        }
    }

    /// Takes typed bytes up to the first result for [`Screen::poll`], and returns how many it took.
    /// Feed the rest once that result is dealt with, so that its output appears between the lines.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        self.after_pause();
        for &byte in bytes {
            if !self.typed.is_empty() {
                break;
            }
            taken += 1;
            match &mut self.cable {
                Some(cable)
                    if self.editor.text().is_empty()
                        && self.keys.is_between()
                        && !self.editor.is_pasted() =>
                {
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

    /// Milliseconds after which to call [`Screen::pause`] if nothing arrives.
    pub(crate) fn wait(&self) -> Option<u64> {
        self.cable.as_ref()?.wait()
    }

    /// Call this when nothing has arrived for as long as [`Screen::wait`] said.
    pub fn pause(&mut self) {
        let given = self.cable.as_mut().map_or(Vec::new(), Cable::pause);
        given.into_iter().for_each(|byte| self.press(byte));
        if self.row == Row::Line {
            self.draw();
        }
    }

    /// After a pause, drops noise at the start of the line and ends a paste.
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
            let permissions = self.permissions;
            let edit = self.editor.apply(key, |line| table::completion(line, permissions));
            self.edited(edit);
        }
    }

    /// Counts input that no person types.
    fn dropped(&mut self, what: Dropped) {
        let count = self.cable.as_mut().and_then(|cable| cable.count(what));
        self.typed.extend(count.map(|count| Typed::Dropped(what, count)));
    }

    /// The next thing that was typed.
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
                let listed = table::candidates(self.editor.text(), self.permissions).join("  ");
                return self.say(&listed);
            }
            Edit::Noise => return self.dropped(Dropped::Noise),
            Edit::Line(line) => {
                if let Some(what) = self
                    .cable
                    .as_mut()
                    .and_then(|cable| cable.drops(&line))
                    .filter(|_| !self.continues)
                {
                    return self.dropped(what);
                }
                self.leave_line(&line);
                if line.trim().is_empty() && !self.continues {
                    // A person who plugs in a cable presses Enter first; it may be a different
                    // terminal now.
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

    /// The line is complete: leaves it on the terminal and starts the next row. A line typed
    /// unseen, during an answer, is shown now.
    fn leave_line(&mut self, line: &str) {
        match self.row {
            Row::Line => {
                // A line longer than one row was never fully shown.
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

    /// Shows the prompt.
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

    /// Bytes to send to the terminal.
    pub fn output(&self) -> &[u8] {
        &self.out
    }

    /// Removes this many bytes, which have been sent.
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
