//! Moving blocks of KV state between nodes: frames, the side that serves, the side that fetches. docs/inside/wire.md draws the bytes.
//!
//! One TCP connection carries one direction of asking: the node that connected fetches ([`Fetcher`]), the node that accepted
//! serves ([`Server`]). Both are state machines without sockets or clocks: frames and the present moment go in; events and
//! bytes to send come out. Between them and the socket stands a [`Channel`]: the one seam between frames and bytes. It knocks for the
//! one and opens for the other, and in a locked swarm seals what passes (`noise`).
//!
//! A fetch, from the asking side:
//!
//! 1. The channels agree that both sides speak this version and have one key of the swarm. Then both say [`Frame::Hello`]. A peer of
//!    another swarm, version, epoch or fingerprint is told so and left.
//! 2. Up to [`MAX_WANTS_IN_FLIGHT`](crate::limits::MAX_WANTS_IN_FLIGHT) wants are under way at once, each for one plane of
//!    one block. Every want ends in exactly one way: its last chunk, `Absent`, `Busy`, or `Stopped` after a cancel.
//! 3. `Found` must name the parent and tokens that the block was asked for by, and the length that the model's shape gives.
//!    Then chunks land in the page, in order, each only after its checksum; at the end the page's digest is compared.
//! 4. A want has no deadline. One that is cancelled is *unknown*, not absent: nothing is concluded about what the peer holds. A
//!    peer that does not answer the cancel within [`STALL_TIMEOUT_MS`](crate::limits::STALL_TIMEOUT_MS) loses its connection.
//!
//! What the room promises: no input makes it panic, wait or grow; a page reported as done holds exactly the bytes that the
//! peer read out of its own; a peer that breaks a rule ends in a [`Fault`] that names the rule, and costs its connection.

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
pub use fetch::{FetchEvent, Fetcher};
pub(crate) use frame::MAX_FRAME_BYTES;
pub use frame::{ByeReason, DraftTokens, Frame, Hello, Tokens, encode};
pub(crate) use knock::VERSION;
pub(crate) use meter::Sample;
pub use serve::{ServeEvent, Server};
pub use wanted::Expected;
