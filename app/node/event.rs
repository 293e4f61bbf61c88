//! Events in a node that may interest a person. The console puts them into words.

use core::net::IpAddr;

use crate::id::{Epoch, NodeId};
use crate::transfer::Fault;

/// An event to report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A peer was heard for the first time.
    PeerJoined {
        /// The peer.
        node: NodeId,
        /// It runs another model, precision or build, and shares nothing with this node.
        other_model: bool,
    },
    /// A peer has restarted.
    PeerRestarted(NodeId),
    /// A peer has said goodbye.
    PeerLeft(NodeId),
    /// Another machine has this node's id.
    Twin {
        /// The other machine's address.
        ip: IpAddr,
        /// This node's new id, if it is the newer of the two. None if it keeps its id, because it
        /// is the older one or has changed its id often enough.
        renamed: Option<NodeId>,
    },
    /// A node runs another version of potluck; neither understands the other. Reported
    /// once per address.
    OtherVersion {
        /// The node's address.
        ip: IpAddr,
        /// Whether it runs the older version, if it said so.
        older: Option<bool>,
    },
    /// Peers are heard only by unicast: multicast does not get through.
    GroupSilent {
        /// Number of such peers.
        peers: usize,
    },
    /// Multicast gets through again.
    GroupWorks,
    /// A connection ended with wants open.
    ConnectionLost {
        /// The peer.
        peer: NodeId,
    },
    /// A peer broke a rule, and its connection was closed.
    PeerFault {
        /// The peer; none for a caller that has not identified itself.
        peer: Option<NodeId>,
        /// The rule that it broke.
        fault: Fault,
    },
    /// An audit found that a peer's bytes differ from what this node computes, and ruled out
    /// other causes.
    PeerDistrusted {
        /// The peer. This node stops asking it.
        node: NodeId,
        /// Number of its blocks that were discarded.
        forgotten: usize,
    },
    /// An audit computed one block twice and got different bytes on this node. It stops auditing.
    ComputesTwoWays,
    /// An audit found that one of this node's own blocks differs from what it computes now. The
    /// block is discarded.
    OwnBlockWrong,
    /// The engine could not use the state that a prompt started from.
    StateDistrusted {
        /// Why.
        reason: String,
        /// The peers that supplied part of it.
        makers: Vec<NodeId>,
    },
    /// The swarm was reset from another node, and this node has followed.
    SwarmReset {
        /// The new epoch.
        epoch: Epoch,
        /// Whether blocks were dropped too.
        store: bool,
    },
    /// A reset was for the blocks too, but this swarm has no key, so anyone on the network could
    /// have ordered it. Each node therefore drops its blocks only at its own console.
    BlocksKept {
        /// The reset was ordered at this node's console, and the other nodes keep their blocks.
        by_peers: bool,
    },
    /// Like `SwarmReset`, but the epoch could not be saved.
    ResetUnsaved {
        /// The new epoch.
        epoch: Epoch,
        /// Whether blocks were dropped too.
        store: bool,
        /// Why it could not be saved.
        reason: String,
    },
}
