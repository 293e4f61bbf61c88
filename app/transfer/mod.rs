//! Transfers blocks of KV state between nodes: frames, the serving side, the fetching side.
//! docs/inside/wire.md draws the bytes.
//!
//! Requests flow one way on a TCP connection: the node that connected fetches ([`Fetcher`]), the
//! node that accepted serves ([`Server`]). Both are state machines without sockets or clocks:
//! frames and the current time go in, events and bytes to send come out. A [`Channel`] between them
//! and the socket turns frames into bytes and back. It knocks for the fetcher, opens for the
//! server, and seals the traffic of a locked swarm (`noise`).
//!
//! A fetch, from the fetching side:
//!
//! 1. The channels agree that both sides speak this version and have a swarm key in common. Then
//!    both send [`Frame::Hello`]. A peer of another swarm, version, epoch or fingerprint is told
//!    why, then disconnected.
//! 2. Up to [`MAX_WANTS_IN_FLIGHT`](crate::limits::MAX_WANTS_IN_FLIGHT) wants are in flight, each
//!    for one plane of one block. Every want ends in exactly one way: its last chunk, `Absent`,
//!    `Busy`, or `Stopped` after a cancel.
//! 3. `Found` must name the parent and tokens of the requested block, and the length that the
//!    model's shape gives. Then chunks land in the page, in order, each only after its checksum; at
//!    the end the page's digest is compared.
//! 4. A want has no deadline. The result of a cancelled want is *unknown*, not absent: it says
//!    nothing about what the peer holds. A peer that does not answer the cancel within
//!    [`STALL_TIMEOUT_MS`](crate::limits::STALL_TIMEOUT_MS) loses its connection.
//!
//! Promises: no input makes this module panic, wait or grow. A page reported as done holds exactly
//! the bytes that the peer read from its own page. A peer that breaks a rule loses its connection,
//! and the [`Fault`] names the rule.

mod channel;
mod decoder;
mod fault;
mod fetch;
mod frame;
mod handshake;
mod knock;
mod meter;
mod noise;
mod sealed;
mod serve;
mod serving;
#[cfg(test)]
mod tests;
mod wanted;

pub use channel::Channel;
pub use decoder::Decoder;
pub use fault::Fault;
pub use fetch::{FetchEvent, Fetcher, Question};
pub(crate) use frame::MAX_FRAME_BYTES;
pub use frame::{ByeReason, DraftTokens, Frame, Hello, RecentTokens, Tokens, encode};
pub(crate) use knock::VERSION;
pub(crate) use meter::Sample;
pub use serve::{ServeEvent, Server};
pub use wanted::Expected;
