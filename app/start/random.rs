//! The one door through which randomness comes in.

use std::time::Instant;

/// A number that no other node draws.
pub(crate) fn random() -> u64 {
    // Without a source of randomness the time since boot still tells two starts of one board apart.
    getrandom::u64().unwrap_or_else(|_| Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()))
}
