//! The tokens expected next in an answer.

use heapless::Vec as Bounded;

use super::{Record, Source};
use crate::id::{NodeId, TokenId};
use crate::limits::MAX_PATH_TOKENS;

/// The expected tokens, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Path {
    tokens: Bounded<TokenId, MAX_PATH_TOKENS>,
    /// Where they come from.
    pub source: Source,
    /// The peer that sent them, if any.
    pub peer: Option<NodeId>,
    /// Tokens that have turned out right.
    pub matched: usize,
}

impl Path {
    /// A path, or `None` if `tokens` is empty.
    pub(crate) fn new(
        tokens: Bounded<TokenId, MAX_PATH_TOKENS>,
        source: Source,
        peer: Option<NodeId>,
    ) -> Option<Path> {
        (!tokens.is_empty()).then_some(Path { tokens, source, peer, matched: 0 })
    }

    /// The expected tokens.
    pub(crate) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Advances by the answer's next token. Returns false when another token was expected, or none:
    /// the path is over.
    pub(crate) fn follow(&mut self, token: TokenId) -> bool {
        if self.tokens.first() != Some(&token) {
            return false;
        }
        self.tokens.remove(0);
        self.matched += 1;
        true
    }

    /// The chance that the next token is right, from the source's `record` and from the path
    /// itself: a path that was right so far is likely to stay right, most of all one that repeats
    /// what once followed.
    pub(crate) fn chance(&self, record: &Record) -> f32 {
        let matched = self.matched as f32;
        let doubt = if self.source.is_guess() { 1.5 } else { 0.5 };
        record.chance().max(matched / (matched + doubt))
    }

    /// Appends tokens that follow its end, as far as there is room.
    pub(crate) fn extend(&mut self, tokens: &[TokenId]) {
        let room = self.tokens.capacity() - self.tokens.len();
        let taken = self.tokens.extend_from_slice(&tokens[..room.min(tokens.len())]);
        debug_assert!(taken.is_ok(), "no more than there is room for");
    }
}
