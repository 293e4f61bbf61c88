//! The tokens that an answer is expected to go on with.

use heapless::Vec as Bounded;

use super::{Record, Source};
use crate::id::{NodeId, TokenId};
use crate::limits::MAX_PATH_TOKENS;

/// Tokens expected next, the next first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Path {
    tokens: Bounded<TokenId, MAX_PATH_TOKENS>,
    /// Where they come from.
    pub source: Source,
    /// The peer that said so, if one did.
    pub peer: Option<NodeId>,
    /// Tokens of it that have turned out right.
    pub matched: usize,
}

impl Path {
    /// None where nothing is expected.
    pub(crate) fn new(tokens: Bounded<TokenId, MAX_PATH_TOKENS>, source: Source, peer: Option<NodeId>) -> Option<Path> {
        (!tokens.is_empty()).then_some(Path { tokens, source, peer, matched: 0 })
    }

    /// What is expected.
    pub(crate) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Takes the answer's next token in. False when another one was expected, or nothing any more: the path leads nowhere.
    pub(crate) fn follow(&mut self, token: TokenId) -> bool {
        if self.tokens.first() != Some(&token) {
            return false;
        }
        self.tokens.remove(0);
        self.matched += 1;
        true
    }

    /// The chance that its next token is right, by its source's `record` and by itself: a path that was right so far is likely to stay so,
    /// most of all where it is what once followed.
    pub(crate) fn chance(&self, record: &Record) -> f32 {
        let matched = self.matched as f32;
        let doubt = match self.source {
            Source::Slab | Source::Peer => 0.5,
            Source::Echo | Source::Habit => 1.5,
        };
        record.chance().max(matched / (matched + doubt))
    }

    /// Goes on with what follows its end, as far as there is room.
    pub(crate) fn extend(&mut self, tokens: &[TokenId]) {
        let room = self.tokens.capacity() - self.tokens.len();
        let taken = self.tokens.extend_from_slice(&tokens[..room.min(tokens.len())]);
        debug_assert!(taken.is_ok(), "no more than there is room for");
    }
}
