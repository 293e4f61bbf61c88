//! Draft requests on the outgoing connections. The answers are hints: nobody waits for one, and a
//! lost connection loses nothing that is needed.

use core::net::SocketAddr;

use super::{Conns, Shared};
use crate::id::{Millis, NodeId};
use crate::transfer::{DraftTokens, Question};

/// A peer's answer to a draft request: tokens that once followed, or are likely to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hint {
    /// The peer.
    pub node: NodeId,
    /// The request.
    pub id: u32,
    /// The tokens; empty if the peer knows none.
    pub tokens: DraftTokens,
}

impl Conns {
    /// Asks a peer for a draft. Connects if there is no connection. Returns the request's id; none
    /// if it cannot be sent now.
    pub(crate) fn want_draft(
        &mut self,
        (node, addr): (NodeId, SocketAddr),
        question: Question,
        shared: &mut Shared,
        now: Millis,
    ) -> Option<u32> {
        if self.backoff.holds(node, now) {
            return None;
        }
        let conn = self.link_to(node, addr, shared, now)?;
        self.drafts_asked = self.drafts_asked.wrapping_add(1);
        let id = self.drafts_asked;
        let fetch = self.fetch_mut(conn)?;
        if !fetch.want_draft(id, question, now) {
            return None;
        }
        self.dirty.insert(conn);
        Some(id)
    }

    /// Whether there is a connection to a peer, or one is being made.
    pub(crate) fn reaches(&self, node: NodeId) -> bool {
        self.to.contains_key(&node)
    }

    /// The next answer, oldest first. Call after every input.
    pub(crate) fn poll_hint(&mut self) -> Option<Hint> {
        self.hints.pop_front()
    }
}
