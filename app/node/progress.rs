//! How far a prompt has come: told when its first token takes long, so that a person sees that something happens.
//!
//! Nothing is told of a prompt that is through within `PROGRESS_DELAY_MS`, and then one report in `PROGRESS_GAP_MS`, each further than
//! the last. Reports come out between steps that are taken anyway, and cost the prompt nothing.

use core::fmt;

use serde::Serialize;

use crate::id::Millis;
use crate::limits::{PROGRESS_DELAY_MS, PROGRESS_GAP_MS};

/// Tokens of a prompt whose state is in place, by where it comes from.
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
    /// All of them.
    pub fn ready(&self) -> usize {
        self.own + self.peers + self.computed
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { prompt_tokens, own, peers, computed } = self;
        write!(f, "{} of {prompt_tokens} prompt tokens: {own} own slab, {peers} peers, {computed} computed", self.ready())
    }
}

/// What is told of a prompt, and when.
pub(super) struct Reports {
    due: Millis,
    told: usize,
}

impl Reports {
    /// Of a prompt that begins now.
    pub(super) fn new(now: Millis) -> Reports {
        Reports { due: now + Millis(PROGRESS_DELAY_MS), told: 0 }
    }

    /// Whether it is time for one.
    pub(super) fn due(&self, now: Millis) -> bool {
        now >= self.due
    }

    /// The report to make, where the prompt has come further since the last.
    pub(super) fn next(&mut self, progress: Progress, now: Millis) -> Option<Progress> {
        let further = progress.ready() > self.told;
        if further {
            *self = Reports { due: now + Millis(PROGRESS_GAP_MS), told: progress.ready() };
        }
        further.then_some(progress)
    }
}
