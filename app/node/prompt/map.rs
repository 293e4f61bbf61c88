//! The current prompt as a picture: one letter per block, and what each peer holds and supplied. It
//! is read from the table of blocks on demand. A prompt that nobody looks at pays only for counting
//! its holders once.

use serde::Serialize;

use crate::id::{Millis, NodeId};
use crate::kv::Plane;
use crate::limits::BLOCK_TOKENS;

use super::super::shared::Shared;
use super::blocks::{Blocks, Cell, Row};
use super::{Figures, Memory, Phase, Prompt};

/// Number of letters that name peers; further peers share the last one.
const LETTERS: usize = 26;

/// A peer that seems to hold part of the prompt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Holder {
    /// The peer's id.
    pub node: NodeId,
    /// The name that people give it.
    pub name: String,
    /// Tokens of whole blocks that its catalog lists, as far as this node knows.
    pub holds: usize,
    /// Tokens that came from it and are in place.
    pub gave: usize,
}

/// See the module's header.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct PromptMap {
    /// Distinguishes one prompt from the next.
    pub number: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens in place from the prompt's start, including the answer's.
    pub ready: usize,
    /// Tokens of the answer so far.
    pub generated: usize,
    /// Milliseconds since the prompt was asked.
    pub elapsed_ms: u64,
    /// The same at the first token; none before it.
    pub ttft_ms: Option<u64>,
    /// One letter per block of the prompt: `#` from this node's slab, `=` computed, `-` being
    /// computed, `A` to `Z` from the peer at that position, `a` to `z` on its way from that
    /// peer, `.` missing.
    pub blocks: String,
    /// The peers, in the order of their letters.
    pub peers: Vec<Holder>,
}

impl Blocks {
    /// Counts the tokens that each source seems to hold, because the end of the fetch
    /// clears the holders.
    pub(super) fn count_held(&mut self) {
        self.held = vec![0; self.sources.len()];
        for row in &self.rows[..self.whole] {
            let mut left = row.holders[0];
            while left != 0 {
                if let Some(held) = self.held.get_mut(left.trailing_zeros() as usize) {
                    *held += BLOCK_TOKENS;
                }
                left &= left - 1;
            }
        }
    }

    /// Tokens from the prompt's start that are here or that some peer seems to hold.
    pub(super) fn known(&self, shared: &Shared) -> usize {
        let is_here = |row: &Row| {
            row.link.as_ref().is_some_and(|link| shared.cache.holds(link, Plane::Global))
        };
        let rows = self.rows[..self.whole]
            .iter()
            .take_while(|row| row.holders[0] != 0 || is_here(row))
            .count();
        let ending = self
            .ending
            .as_ref()
            .filter(|ending| ending.row == rows)
            .map_or(0, |ending| ending.tokens);
        rows * BLOCK_TOKENS + ending
    }

    /// The letter of the source at this position.
    fn letter(place: usize, first: u8) -> char {
        char::from(first + place.min(LETTERS - 1) as u8)
    }

    /// The letter of a block whose last token is at `last`, when `ready` tokens are in place and
    /// the engine's job ends at `doing`.
    fn state(&self, row: &Row, last: usize, ready: usize, doing: usize) -> char {
        let place = |node: NodeId| self.sources.binary_search(&node).unwrap_or(LETTERS);
        let arrived = row.cells.iter().find_map(|cell| match cell {
            Cell::Arrived { from, .. } => Some(place(*from)),
            _ => None,
        });
        let coming = row.cells.iter().find_map(|cell| match cell {
            Cell::Wanted { source, .. } => Some(*source),
            _ => None,
        });
        // A block that was partly computed is labelled by its larger part.
        let is_taken = 2 * row.taken.tokens > last % BLOCK_TOKENS;
        match row.taken.from {
            Some(from) if last < ready && is_taken => Blocks::letter(place(from), b'A'),
            None if last < ready && is_taken => '#',
            _ if last < ready => '=',
            _ => match (arrived, coming) {
                (Some(from), _) => Blocks::letter(from, b'A'),
                (None, Some(from)) => Blocks::letter(from, b'a'),
                _ if row.cells.iter().any(|cell| matches!(cell, Cell::Shared { .. })) => '#',
                _ if last < doing => '-',
                _ => '.',
            },
        }
    }

    fn gave(&self, node: NodeId) -> usize {
        self.rows
            .iter()
            .map(|row| row.taken)
            .filter(|taken| taken.from == Some(node))
            .map(|taken| taken.tokens)
            .sum()
    }
}

impl Prompt {
    /// The picture; none for a measurement.
    pub(in super::super) fn map(&self, shared: &Shared, now: Millis) -> Option<PromptMap> {
        let Memory::Blocks(blocks) = &self.memory else { return None };
        let prompt_tokens = self.figures.prompt_tokens;
        let doing = self.running.as_ref().map_or(self.ready, |running| running.end);
        // The ragged end has no row before it is computed.
        let none = Row::empty(None);
        let letter = |at: usize| {
            let last = (at * BLOCK_TOKENS + BLOCK_TOKENS).min(prompt_tokens) - 1;
            blocks.state(blocks.rows.get(at).unwrap_or(&none), last, self.ready, doing)
        };
        let peers = blocks.sources.iter().enumerate().map(|(at, node)| Holder {
            node: *node,
            name: shared.catalog.name(*node).label(*node),
            holds: blocks.held.get(at).copied().unwrap_or(0),
            gave: blocks.gave(*node),
        });
        Some(PromptMap {
            number: self.id.0,
            prompt_tokens,
            ready: self.ready,
            generated: self.figures.generated,
            elapsed_ms: Figures::since(self.asked_at, now),
            ttft_ms: matches!(self.phase, Phase::Decode).then_some(self.figures.ttft_ms),
            blocks: (0..prompt_tokens.div_ceil(BLOCK_TOKENS)).map(letter).collect(),
            peers: peers.collect(),
        })
    }
}
