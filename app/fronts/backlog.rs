//! Lines from a pipe or a program that arrive while the limit of pending prompts is reached. They
//! are read anyway, so that `stop` and questions about the node get through, and handled in order
//! when there is room.

use std::collections::VecDeque;

use crate::console::Block;
use crate::limits::MAX_BACKLOG_BYTES;

use super::lines::Line;

/// Bytes that a line takes in addition to its text.
const LINE_BYTES: usize = 64;

/// The queue; see the module header.
#[derive(Default)]
pub(super) struct Backlog {
    lines: VecDeque<Line>,
    bytes: usize,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether any line may begin a prompt of several lines.
    pub(super) fn holds_block(&self) -> bool {
        self.lines.iter().flatten().any(|line| Block::begin(line).is_some())
    }

    /// Whether no more lines may be read.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MAX_BACKLOG_BYTES
    }

    pub(super) fn push(&mut self, line: Line) {
        self.bytes += bytes(&line);
        self.lines.push_back(line);
    }

    pub(super) fn pop(&mut self) -> Option<Line> {
        let line = self.lines.pop_front()?;
        self.bytes -= bytes(&line);
        Some(line)
    }

    /// Discards the lines of a client that has left.
    pub(super) fn clear(&mut self) {
        *self = Backlog::default();
    }
}

fn bytes(line: &Line) -> usize {
    LINE_BYTES + line.as_ref().map_or(0, String::len)
}
