//! What happens in a node that a person may want to know. The console puts it into words.

use core::net::IpAddr;

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
    /// Another machine has this node's id.
    Twin {
        /// Where it is.
        ip: IpAddr,
        /// The id that this node has from now on, for it is the newer one; none: it keeps its own, as the older one or because it has changed it often enough.
        renamed: Option<NodeId>,
    },
    /// A node runs another version of potluck: neither understands the other. Told once for each address.
    OtherVersion {
        /// Where it is.
        ip: IpAddr,
        /// Whether it is the older one, if it said so.
        older: Option<bool>,
    },
    /// Peers are heard at this node's address only: multicast does not come through.
    GroupSilent {
        /// So many.
        peers: usize,
    },
    /// Multicast comes through again.
    GroupWorks,
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
    /// An audit found that a peer's bytes are not those that this node computes, and nothing else is to blame.
    PeerDistrusted {
        /// The peer. It is not asked any more.
        node: NodeId,
        /// Blocks that were forgotten for it.
        forgotten: usize,
    },
    /// An audit computed one block twice, and this node gave different bytes: it audits nothing more.
    ComputesTwoWays,
    /// An audit found that a block of this node's own is not what it computes now. It is forgotten.
    OwnBlockWrong,
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
    /// A reset was for the blocks too, but this swarm has no key: whoever stands on the network can order such a thing, so that each node
    /// drops its blocks at its own console only.
    BlocksKept {
        /// It was ordered at this node's console, and the other nodes keep theirs.
        by_peers: bool,
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
