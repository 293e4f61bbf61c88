//! The log: a node's last messages, and which of them its consoles print unasked.
//!
//! Promises: a fixed number of lines of bounded length. However much goes wrong at once, consoles
//! print no more than a person can read; the lines left out are counted and can be looked up.

use std::collections::VecDeque;

use serde::Serialize;

use crate::id::Millis;
use crate::limits::{LOG_BURST, LOG_GAP_MS, LOG_LINE_BYTES, LOG_LINES};

/// A line's severity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something cannot be done at all.
    Error,
    /// Something works worse than it should.
    Warn,
    /// Something a person may like to know.
    Info,
}

impl Level {
    /// Its name, as typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
        }
    }

    /// The level with this name.
    pub(crate) fn named(name: &str) -> Option<Level> {
        [Level::Error, Level::Warn, Level::Info].into_iter().find(|level| level.name() == name)
    }
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Entry {
    /// The time on the node's own clock.
    pub at: Millis,
    /// Its severity.
    pub level: Level,
    /// The message.
    pub text: String,
}

/// What consoles print for a new line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogOutcome {
    /// The line, preceded by how many were left out since the last.
    Line {
        /// Lines left out.
        left_out: u64,
    },
    /// Nothing.
    Nothing,
}

/// The log of one node.
#[derive(Default)]
pub(crate) struct Log {
    entries: VecDeque<Entry>,
    /// Lines printed in the current burst, less one for each gap that passes.
    burst: u64,
    /// The time up to which gaps have been counted.
    since: Millis,
    left_out: u64,
}

impl Log {
    /// Adds a line, truncated if too long.
    pub(crate) fn push(&mut self, level: Level, text: &str, now: Millis) -> LogOutcome {
        let text = cut(text);
        if self.entries.len() == LOG_LINES {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { at: now, level, text: text.to_string() });
        let gaps = (now - self.since).0 / LOG_GAP_MS;
        self.burst = self.burst.saturating_sub(gaps);
        self.since = self.since + Millis(gaps * LOG_GAP_MS);
        if self.burst >= LOG_BURST {
            self.left_out += 1;
            return LogOutcome::Nothing;
        }
        self.burst += 1;
        LogOutcome::Line { left_out: std::mem::take(&mut self.left_out) }
    }

    /// The last `count` lines, the oldest first.
    pub(crate) fn last(&self, count: usize) -> impl Iterator<Item = &Entry> {
        self.entries.iter().skip(self.entries.len().saturating_sub(count))
    }
}

/// A text, truncated to what a log line holds.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(LOG_LINE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_told_in_part_and_counted_and_kept_within_bounds() {
        let mut log = Log::default();
        let told = (0..10_000)
            .filter(|_| log.push(Level::Info, "a peer is here", Millis(5)) != LogOutcome::Nothing)
            .count();
        assert_eq!(told as u64, LOG_BURST);
        assert_eq!(log.last(usize::MAX).count(), LOG_LINES);
        let later = Millis(5 + LOG_GAP_MS);
        assert_eq!(
            log.push(Level::Warn, "again", later),
            LogOutcome::Line { left_out: 10_000 - LOG_BURST }
        );
        assert_eq!(log.push(Level::Warn, "again", later), LogOutcome::Nothing);
        assert_eq!(log.last(1).next().unwrap().level, Level::Warn);
        log.push(Level::Info, &"é".repeat(LOG_LINE_BYTES), later);
        assert_eq!(log.last(1).next().unwrap().text.len(), LOG_LINE_BYTES);
        let calm = later + Millis(LOG_GAP_MS * LOG_BURST);
        assert!(
            (0..LOG_BURST).all(|_| log.push(Level::Info, "x", calm) != LogOutcome::Nothing),
            "a quiet period restores the burst"
        );
    }
}
