//! How far a prompt has come: told when its first token takes long, so that a person sees that something happens.
//!
//! Nothing is told of a prompt that is through within `PROGRESS_DELAY_MS`, and then one report in `PROGRESS_GAP_MS`, each further than
//! the last. Reports come out between steps that are taken anyway, and cost the prompt nothing.

use core::fmt;

use serde::Serialize;

use crate::id::Millis;
use crate::limits::{BLOCK_TOKENS, PROGRESS_DELAY_MS, PROGRESS_GAP_MS};

use super::pages::Place;
use super::prompt::{Active, Reply};
use super::{Node, Output};

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
}

impl Active {
    fn progress(&self) -> Progress {
        let prompt_tokens = self.figures.prompt_tokens;
        if let Some(fetching) = &self.fetching {
            let pinned = |place: &&[Place; 2]| place.iter().any(|plane| matches!(plane, Place::Pinned(..)));
            let own = self.places.iter().filter(pinned).count() * BLOCK_TOKENS;
            return Progress { prompt_tokens, own, peers: fetching.blocks() * BLOCK_TOKENS, computed: 0 };
        }
        let (own, peers) = (self.figures.own, self.figures.from_peers());
        Progress { prompt_tokens, own, peers, computed: self.ready.saturating_sub(own + peers) }
    }
}

impl Node {
    /// Tells how far the prompt at hand has come, where that is due.
    pub(super) fn tell_progress(&mut self, now: Millis) {
        let Some(active) = &mut self.active else { return };
        let progress = active.progress();
        let waits = active.figures.generated == 0 && !active.stopping && now >= active.reports.due;
        if waits && progress.ready() > active.reports.told {
            active.reports = Reports { due: now + Millis(PROGRESS_GAP_MS), told: progress.ready() };
            self.outputs.push_back(Output::Reply(active.ask, Reply::Progress(progress)));
        }
    }
}
