//! The cache: which blocks of KV state are here, where their bytes lie, and which go when room is needed.
//!
//! Pure bookkeeping over slots that are counted out at start: no clock, no I/O, no randomness; the same calls give the same
//! state everywhere. It promises:
//!
//! - Bytes are handed out only for the very tokens asked for: key, parent and tokens are compared, so that a collision of
//!   keys is a miss.
//! - Every plane says who made its bytes. Bytes made here replace a peer's that nobody is using; a peer's replace none.
//! - A pinned plane stays where it is and as it is. A slot has one owner: free list, index, or the holder of a [`Slot`].
//! - A block in the index has its parent in the index (or the root), so that every hit can be reached from the root.
//! - Memory, entries and pending changes have bounds that are reached, not passed.

mod chain;
mod changes;
mod evict;
mod index;
mod keeper;
mod shadow;
mod sketch;
mod slab;
mod store;

#[cfg(test)]
mod evict_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trials;

pub use chain::{Chain, ChainSecret, Link, link, root};
pub use index::Maker;
pub(crate) use keeper::{PeerCopy, outranked};
pub use slab::Slot;
pub(crate) use store::CacheStats;
pub use store::{Cache, Committed};

use thiserror::Error;

use crate::kv::Plane;

/// Why the cache cannot do what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CacheError {
    /// The budget has no room for one block.
    #[error("the slab is given {budget_bytes} bytes, but one block of this model takes {needed_bytes}: raise --slab")]
    Budget {
        /// Bytes that the slab may take.
        budget_bytes: usize,
        /// Bytes of one block, both planes.
        needed_bytes: usize,
    },
    /// Every slot of the plane is in use.
    #[error("every {} slot of the slab is in use; wait for a prompt or a transfer to end, or give the slab more memory",
        match .0 { Plane::Global => "global", Plane::Sliding => "sliding" })]
    Full(Plane),
}
