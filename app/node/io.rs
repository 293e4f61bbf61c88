//! A node's inputs and outputs.

use core::net::SocketAddr;

use crate::catalog::{Datagram, Delivery};
use crate::id::{EpochState, Millis, NodeId};

use super::ask::{Ask, AskId, Job, JobDone, Reply};
use super::event::Event;
use super::reset::ResetNews;

/// Names one connection of this node, for the node and its driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConnId {
    /// A peer connected. The driver assigns the number and never reuses one.
    In(u64),
    /// This node connects. The node assigns the number.
    Out(u64),
}

/// An input to a node.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram arrived.
    Datagram {
        /// The sender's address.
        from: SocketAddr,
        /// Whether it came through the multicast group or to this node's own address.
        delivery: Delivery,
        /// The payload.
        bytes: &'a [u8],
    },
    /// A peer has connected. The node can refuse it with [`Output::Close`].
    Accepted {
        /// The connection's id.
        conn: ConnId,
        /// The peer's address.
        from: SocketAddr,
    },
    /// A connection that the node requested is established.
    Connected(ConnId),
    /// A connection failed or ended.
    Closed(ConnId),
    /// Bytes arrived on a connection.
    Bytes {
        /// The connection.
        conn: ConnId,
        /// The next bytes of the stream, split anywhere.
        bytes: &'a [u8],
    },
    /// The socket has accepted all bytes that were to be sent on a connection. A new connection
    /// counts as writable.
    Writable(ConnId),
    /// Answer a prompt.
    Ask(Ask),
    /// End this prompt's answer where it is, or do not start it.
    Stop(AskId),
    /// The engine has finished or abandoned its job.
    Engine(JobDone),
    /// Reset the swarm: every node forgets what its peers hold.
    Reset {
        /// Whether every node also drops its blocks.
        store: bool,
    },
    /// The outcome of [`Output::Persist`].
    Persisted {
        /// As requested.
        epochs: EpochState,
        /// Ok only once the state would survive a power loss; otherwise the reason for the failure.
        result: Result<(), String>,
    },
    /// The node is about to end. It sends a goodbye, so that its peers forget it at once, and is
    /// unusable afterwards.
    Leaving,
    /// This machine has moved to another network, or regained one.
    NetworkChanged,
    /// A deadline may have passed.
    Tick,
}

/// An action that the node requests.
#[derive(Debug)]
pub enum Output {
    /// Connect to `addr`, then report [`Input::Connected`] or [`Input::Closed`].
    Connect {
        /// The id for the connection.
        conn: ConnId,
        /// The address to connect to.
        addr: SocketAddr,
    },
    /// Close a connection. The node has already forgotten it and expects no [`Input::Closed`].
    Close(ConnId),
    /// Send these bytes, then report [`Input::Writable`]. At most one send is pending
    /// per connection.
    Send {
        /// The connection.
        conn: ConnId,
        /// A few frames: about one chunk.
        bytes: Vec<u8>,
    },
    /// Multicast this datagram, and send it to every static peer.
    Datagram(Datagram),
    /// Send this to one peer that does not hear the group. It repeats the preceding
    /// [`Output::Datagram`].
    Answer {
        /// The peer.
        to: SocketAddr,
        /// The datagram.
        datagram: Datagram,
    },
    /// The engine's next job. At most one is pending.
    Engine(Job),
    /// This job is no longer needed. The engine abandons it as soon as it can, and confirms
    /// with [`Input::Engine`].
    Abandon(u64),
    /// A reply to the asker.
    Reply(AskId, Reply),
    /// Save this so that it survives a power loss, then report [`Input::Persisted`]. At most one
    /// save is pending.
    Persist(EpochState),
    /// The node uses this id from now on, including after a restart.
    Renamed(NodeId),
    /// The progress of a reset that was requested at this node.
    Reset(ResetNews),
    /// An event that may interest a person.
    Event(Event),
}

/// The earliest of several deadlines.
pub(super) fn earliest(deadlines: impl IntoIterator<Item = Option<Millis>>) -> Option<Millis> {
    deadlines.into_iter().flatten().min()
}
