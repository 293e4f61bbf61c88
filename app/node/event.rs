//! What happens in a node that a person may want to know. The console puts it into words.

use core::net::SocketAddr;

use crate::id::{Epoch, NodeId};
use crate::transfer::Fault;

/// Something to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A peer was heard for the first time.
    PeerJoined {
        /// Who.
        node: NodeId,
        /// It runs another model, precision or build, and shares nothing with this node.
        other_model: bool,
    },
    /// A peer has started anew.
    PeerRestarted(NodeId),
    /// A peer has said goodbye.
    PeerLeft(NodeId),
    /// Another machine, at this address, uses this node's id.
    DuplicateIdentity(SocketAddr),
    /// A connection ended while something was wanted of the peer.
    ConnectionLost {
        /// The peer.
        peer: NodeId,
    },
    /// A peer broke a rule, and its connection was closed.
    PeerFault {
        /// The peer; none for a caller that has not said who it is.
        peer: Option<NodeId>,
        /// The rule.
        fault: Fault,
    },
    /// The engine could do nothing with the state that a prompt began with.
    StateDistrusted {
        /// Why.
        reason: String,
        /// The peers that gave some of it.
        makers: Vec<NodeId>,
    },
    /// The swarm was reset from elsewhere, and this node has followed.
    SwarmReset {
        /// The epoch from now on.
        epoch: Epoch,
        /// Blocks were dropped too.
        store: bool,
    },
    /// As `SwarmReset`, but it cannot be saved.
    ResetUnsaved {
        /// The epoch from now on.
        epoch: Epoch,
        /// Blocks were dropped too.
        store: bool,
        /// Why not.
        reason: String,
    },
}
