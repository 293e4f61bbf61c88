//! Questions for drafts, on the connections on which this node fetches. Their answers are hints: nobody waits for one, and what a lost
//! connection owes is not missed.

use core::net::SocketAddr;

use super::{Conns, Shared};
use crate::id::{BlockKey, Millis, NodeId};
use crate::transfer::{DraftTokens, Tokens};

/// What a peer says once followed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hint {
    /// Who says so.
    pub node: NodeId,
    /// The question.
    pub id: u32,
    /// The tokens; none where the peer knows nothing.
    pub tokens: DraftTokens,
}

impl Conns {
    /// Asks a peer what once followed `parent` and then `begun`; connects where no connection stands. Gives the question's name; none
    /// where it cannot be asked now.
    pub(crate) fn want_draft(
        &mut self,
        (node, addr): (NodeId, SocketAddr),
        parent: BlockKey,
        begun: Tokens,
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
        if !fetch.want_draft(id, parent, begun, now) {
            return None;
        }
        self.dirty.insert(conn);
        Some(id)
    }

    /// What was answered, oldest first. To be taken after every input.
    pub(crate) fn poll_hint(&mut self) -> Option<Hint> {
        self.hints.pop_front()
    }
}
