//! The cache: which blocks of KV state are here, where their bytes lie, and which are evicted when
//! room is needed.
//!
//! Pure bookkeeping over slots that are counted out at start: no clock, no I/O, no randomness. The
//! same calls give the same state everywhere. Promises:
//!
//! - Bytes are handed out only for exactly the tokens asked for: key, parent and tokens are
//!   compared, so a key collision is a miss.
//! - Every plane records who made its bytes. Bytes made here replace a peer's that nobody is using;
//!   a peer's bytes replace none.
//! - A pinned plane is neither moved nor changed. A slot has one owner: the free list, the index,
//!   or the holder of a [`Slot`].
//! - The parent of every block in the index is also in the index (or is the root), so every hit can
//!   be reached from the root.
//! - Memory, entries and pending changes have bounds that are never exceeded.

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

/// Why the cache refuses a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CacheError {
    /// The budget has no room for one block.
    #[error(
        "the slab has {budget_bytes} bytes, but one block of this model takes {needed_bytes}: raise --slab"
    )]
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
