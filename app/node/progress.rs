//! Progress reports for a prompt whose first token takes long, so that a person sees that
//! something happens.
//!
//! A prompt that is done within `PROGRESS_DELAY_MS` gets no report. After that there is at most one
//! in `PROGRESS_GAP_MS`, each further than the last. Reports are made between steps that happen
//! anyway and cost the prompt nothing.

use core::fmt;

use serde::Serialize;

use crate::id::Millis;
use crate::limits::{PROGRESS_DELAY_MS, PROGRESS_GAP_MS};

/// Prompt tokens whose state is in place, by source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Progress {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// From this node's own slab.
    pub own: usize,
    /// From peers.
    pub peers: usize,
    /// Computed here.
    pub computed: usize,
}

impl Progress {
    /// Number of tokens in place, from all sources.
    pub fn ready(&self) -> usize {
        self.own + self.peers + self.computed
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { prompt_tokens, own, peers, computed } = self;
        write!(
            f,
            "{} of {prompt_tokens} prompt tokens: {own} own slab, {peers} peers, {computed} computed",
            self.ready()
        )
    }
}

/// When the next report is due, and how far the last one was.
pub(super) struct Reports {
    due: Millis,
    told: usize,
}

impl Reports {
    /// For a prompt that begins now.
    pub(super) fn new(now: Millis) -> Reports {
        Reports { due: now + Millis(PROGRESS_DELAY_MS), told: 0 }
    }

    /// Whether a report is due.
    pub(super) fn due(&self, now: Millis) -> bool {
        now >= self.due
    }

    /// The report to make, if the prompt has advanced since the last one.
    pub(super) fn next(&mut self, progress: Progress, now: Millis) -> Option<Progress> {
        let further = progress.ready() > self.told;
        if further {
            *self = Reports { due: now + Millis(PROGRESS_GAP_MS), told: progress.ready() };
        }
        further.then_some(progress)
    }
}
