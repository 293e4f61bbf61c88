//! What a peer can do wrong. Each fault costs its connection, a counter and a log line; the blocks
//! are computed instead.

use thiserror::Error;

use super::ByeReason;
use crate::id::{Fingerprint, NodeId};
use crate::limits::{FILTER_SEGMENT_BYTES, MAX_CHUNK_BYTES, MAX_FRAME_HEADER_BYTES};

/// Why a connection is closed. The text follows the peer's name in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Fault {
    /// A header length over `MAX_FRAME_HEADER_BYTES`.
    #[error(
        "sent a header of {0} bytes (at most {MAX_FRAME_HEADER_BYTES}): it is not a potluck node, or the stream is damaged"
    )]
    HeaderTooLong(usize),
    /// A header that is not a frame, or has bytes after it.
    #[error(
        "sent a header that is not a frame: it is not a potluck node, or the stream is damaged"
    )]
    Header,
    /// A payload length over `MAX_CHUNK_BYTES`.
    #[error("announced a payload of {0} bytes (at most {MAX_CHUNK_BYTES})")]
    PayloadTooLong(usize),
    /// A first frame that is neither `Hello` nor `Bye`.
    #[error("sent {0} before it said hello")]
    NotHello(&'static str),
    /// A first message without potluck's magic.
    #[error("does not speak potluck's transfer protocol: check its address in the list of peers")]
    Magic,
    /// A knock of another protocol version.
    #[error(
        "speaks version {theirs} of the transfer protocol, this node speaks {ours}: install the same release on both"
    )]
    Version {
        /// This node's.
        ours: u16,
        /// The peer's.
        theirs: u16,
    },
    /// A knock for another swarm.
    #[error("belongs to another swarm: give both nodes the same swarm key to let them share")]
    Swarm,
    /// A handshake that was not made with the swarm's key.
    #[error("does not have this swarm's key")]
    Handshake,
    /// A sealed message with an impossible length.
    #[error("announced a sealed message of {0} bytes: the stream is damaged")]
    SealedLength(usize),
    /// A sealed message that is not the next one that the peer sealed.
    #[error("sent a message that does not open: it was damaged, repeated or reordered on the way")]
    Unsealed,
    /// A sealed message that ends in the middle of a frame.
    #[error("ended a sealed message in the middle of a frame")]
    Torn,
    /// A hello with this node's own id and start.
    #[error("is this node itself: remove its address from the list of peers")]
    SameNode,
    /// A hello with this node's own id but another start.
    #[error("has this node's identity but is another machine: give one of them its own identity")]
    Twin,
    /// A hello from another node than the one called.
    #[error("is no longer at its address: node {0} answered there")]
    OtherNode(NodeId),
    /// A hello from another epoch.
    #[error(
        "is in epoch {theirs}, this node is in {ours}: the node behind catches up at the next announcement"
    )]
    Epoch {
        /// This node's.
        ours: u64,
        /// The peer's.
        theirs: u64,
    },
    /// A hello from another model or build.
    #[error(
        "runs another model or build ({theirs}, this node runs {ours}): install the same model file and release on both"
    )]
    Fingerprint {
        /// This node's.
        ours: Fingerprint,
        /// The peer's.
        theirs: Fingerprint,
    },
    /// A frame that this side of a connection never receives, or a second hello.
    #[error("sent an unexpected {0}")]
    Unexpected(&'static str),
    /// An id that is already in use.
    #[error("used the id {0} twice")]
    DuplicateWant(u32),
    /// More requests than the limits allow.
    #[error("sent more requests than allowed")]
    Flood,
    /// An answer that matches no request.
    #[error("answered {id} with {frame}, which nobody asked for")]
    UnknownId {
        /// The frame's name.
        frame: &'static str,
        /// The id in it.
        id: u32,
    },
    /// A block whose parent is not the one asked for.
    #[error("offered a block with another parent for {0}")]
    Parent(u32),
    /// A block whose tokens are not the ones asked for.
    #[error("offered a block with other tokens for {0}")]
    Tokens(u32),
    /// The wrong plane.
    #[error("offered the wrong plane for {0}")]
    Plane(u32),
    /// A plane whose length is not the one that the model's shape gives.
    #[error("offered {theirs} bytes where the plane has {ours}")]
    Length {
        /// What the plane has.
        ours: usize,
        /// What the peer offered.
        theirs: u32,
    },
    /// A chunk that is not the next one: a gap, an overlap, or bytes past the end.
    #[error("sent {len} bytes at {offset} where byte {expected} of {bytes} comes next")]
    ChunkOrder {
        /// Where the chunk says it starts.
        offset: u32,
        /// Bytes of the chunk.
        len: u16,
        /// Where the next chunk starts.
        expected: usize,
        /// Bytes of the plane.
        bytes: usize,
    },
    /// A chunk that does not match its checksum.
    #[error("sent a damaged chunk at byte {offset} of {id}")]
    Checksum {
        /// The want.
        id: u32,
        /// Where the chunk starts.
        offset: u32,
    },
    /// A plane that does not match its digest.
    #[error("sent a plane whose digest is wrong for {0}")]
    Digest(u32),
    /// A filter segment over `FILTER_SEGMENT_BYTES`.
    #[error("sent a filter segment of {0} bytes (at most {FILTER_SEGMENT_BYTES})")]
    SegmentTooLong(usize),
    /// A filter segment that does not match its checksum.
    #[error("sent a damaged filter segment {0}")]
    SegmentChecksum(u8),
    /// No hello within `HELLO_TIMEOUT_MS`.
    #[error("connected but sent no hello")]
    Silent,
    /// Bytes unread, or a cancel unanswered, for `STALL_TIMEOUT_MS`.
    #[error("stopped reading or answering")]
    Stalled,
    /// Nothing requested for `IDLE_TIMEOUT_MS`.
    #[error("asked for nothing for a long time")]
    Idle,
}

impl Fault {
    /// What to tell the peer.
    pub fn reason(&self) -> ByeReason {
        match self {
            Fault::Magic | Fault::Version { .. } => ByeReason::Version,
            // One reason for both: a peer without the key does not learn why.
            Fault::Swarm | Fault::Handshake => ByeReason::Swarm,
            Fault::Twin => ByeReason::Twin,
            Fault::SameNode => ByeReason::SameNode,
            Fault::Epoch { .. } => ByeReason::Epoch,
            Fault::Fingerprint { .. } => ByeReason::Fingerprint,
            Fault::OtherNode(_) => ByeReason::Leaving,
            Fault::Silent | Fault::Stalled => ByeReason::Stalled,
            Fault::Idle => ByeReason::Idle,
            _ => ByeReason::Protocol,
        }
    }
}
