//! What can be wrong with a datagram or a pulled segment. Each fault costs a counter and at most a
//! log line.

use thiserror::Error;

use crate::limits::{MAX_DATAGRAM_BYTES, MAX_FILTER_PROBES, MAX_FILTER_SEGMENTS};

/// Why a datagram, or a segment pulled over TCP, was not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CatalogFault {
    /// Not a potluck datagram.
    #[error(
        "not a potluck datagram; another program uses this group and port, choose another port if it is noisy"
    )]
    Foreign,
    /// Another version of the protocol.
    #[error("a peer speaks catalog version {0}, this build speaks {version}; update the older one", version = super::wire::VERSION)]
    Version(u8),
    /// Another swarm, on the same group and port.
    #[error("a datagram of another swarm; to join it, use the same swarm key on both")]
    OtherSwarm,
    /// Not sealed with the swarm's key, or altered on the way.
    #[error(
        "a datagram not sealed with this swarm's key: forged, or damaged on the way; nothing in it is believed"
    )]
    Forged,
    /// Longer than `MAX_DATAGRAM_BYTES`.
    #[error("a datagram of {0} bytes; at most {MAX_DATAGRAM_BYTES} are accepted")]
    TooLong(usize),
    /// Cut short, too long for its content, or not decodable.
    #[error("a datagram that cannot be decoded; if this goes on, a peer runs a damaged build")]
    Malformed,
    /// A filter geometry outside the limits.
    #[error(
        "a filter with an impossible geometry; 1 to {MAX_FILTER_SEGMENTS} segments and 1 to {MAX_FILTER_PROBES} probes work"
    )]
    Geometry,
    /// A TCP port of zero.
    #[error("a peer announces no TCP port; nothing can be fetched from it, restart it")]
    Port,
    /// Another fingerprint or geometry than the same boot announced before, or an older generation.
    #[error("a peer contradicts what it said before; restart that peer")]
    Contradiction,
    /// A segment whose bytes do not have the promised digest.
    #[error("a filter segment does not match its digest; it will be requested again")]
    Digest,
    /// A pulled segment of a peer, boot or index that the directory does not know, or no
    /// longer knows.
    #[error("a filter segment that is no longer wanted; the peer left or restarted meanwhile")]
    NotAsked,
    /// A pulled segment that is older than what the peer has multicast since.
    #[error("a filter segment that is out of date; it will be requested again")]
    Outdated,
}
