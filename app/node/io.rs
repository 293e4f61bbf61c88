//! What goes into a node and what comes out of it.

use core::net::SocketAddr;

use crate::catalog::{Datagram, Way};
use crate::id::{EpochState, Millis, NodeId};

use super::ask::{Ask, AskId, Job, JobDone, Reply};
use super::event::Event;
use super::reset::ResetNews;

/// Names one connection of this node, for the node and its driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConnId {
    /// A peer connected; the driver names it, never twice the same.
    In(u64),
    /// This node connects; the node names it.
    Out(u64),
}

/// What happens to a node.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram came from `from`.
    Datagram {
        /// The sender's address.
        from: SocketAddr,
        /// Through the group, or to this node's own address.
        way: Way,
        /// The payload.
        bytes: &'a [u8],
    },
    /// A peer has connected. The node refuses it with [`Output::Close`].
    Accepted {
        /// Its name.
        conn: ConnId,
        /// The peer's address.
        from: SocketAddr,
    },
    /// A connection that the node asked for stands.
    Connected(ConnId),
    /// A connection could not be made, or ended.
    Closed(ConnId),
    /// Bytes came over a connection.
    Bytes {
        /// Which one.
        conn: ConnId,
        /// Any part of the stream.
        bytes: &'a [u8],
    },
    /// The socket has taken all that was to be sent on a connection. A new connection counts as writable.
    Writable(ConnId),
    /// A prompt is to be answered.
    Ask(Ask),
    /// This prompt's answer is to end where it is, or not to begin.
    Stop(AskId),
    /// The engine has finished its job, or given it up.
    Engine(JobDone),
    /// The swarm is to be reset: every node forgets what its peers hold.
    Reset {
        /// Whether every node is to drop its blocks too.
        store: bool,
    },
    /// What [`Output::Persist`] asked for is done, or cannot be done and why.
    Persisted {
        /// As asked.
        epochs: EpochState,
        /// Once this is good, a loss of power does not lose the state.
        result: Result<(), String>,
    },
    /// The node is about to end: it says a last word, so that its peers forget it at once, and is of no use afterwards.
    Leaving,
    /// This machine has come to another network, or back to one.
    NetworkChanged,
    /// A deadline may have passed.
    Tick,
}

/// What a node wants done.
#[derive(Debug)]
pub enum Output {
    /// Connect to `addr`, then say [`Input::Connected`] or [`Input::Closed`].
    Connect {
        /// The name that the connection goes by.
        conn: ConnId,
        /// Where to.
        addr: SocketAddr,
    },
    /// Close a connection. It is forgotten already; no [`Input::Closed`] is wanted.
    Close(ConnId),
    /// Send these bytes, then say [`Input::Writable`]. There is never more than one such under way on a connection.
    Send {
        /// On which connection.
        conn: ConnId,
        /// Some frames: a chunk or so.
        bytes: Vec<u8>,
    },
    /// Multicast this, and send it to every static peer.
    Datagram(Datagram),
    /// Send this to one peer that does not hear the group. It is what [`Output::Datagram`] has just told all.
    Answer {
        /// The peer.
        to: SocketAddr,
        /// What it is told.
        datagram: Datagram,
    },
    /// The engine's next job. There is never more than one under way.
    Engine(Job),
    /// This job is of no more use: the engine gives it up as soon as it can, and says so by [`Input::Engine`].
    Abandon(u64),
    /// Something for whoever asked.
    Reply(AskId, Reply),
    /// Save this so that it survives a loss of power, then say [`Input::Persisted`]. There is never more than one under way.
    Persist(EpochState),
    /// The node goes by this id from now on, at its next start too.
    Renamed(NodeId),
    /// What became of a reset that this node was told of.
    Reset(ResetNews),
    /// Something that a person may want to know.
    Event(Event),
}

/// The earlier of two deadlines.
pub(super) fn earliest(deadlines: impl IntoIterator<Item = Option<Millis>>) -> Option<Millis> {
    deadlines.into_iter().flatten().min()
}
