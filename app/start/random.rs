//! The one door through which randomness comes in.

use std::time::Instant;

use crate::limits::SWARM_KEY_BYTES;

/// A number that no other node draws.
pub(crate) fn random() -> u64 {
    // Without a source of randomness the time since boot still tells two starts of one board apart.
    getrandom::u64().unwrap_or_else(|_| Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()))
}

/// What the secrets of connections are drawn from. Without a source of randomness it can be guessed, and a connection is then as secret as
/// the swarm's key.
pub(crate) fn entropy() -> [u8; 32] {
    draw_key().unwrap_or_else(|_| blake3::derive_key("potluck without randomness", &random().to_le_bytes()))
}

/// A key that nobody can guess. Unlike [`random`], it fails where the system has no source of randomness.
pub(crate) fn draw_key() -> Result<[u8; SWARM_KEY_BYTES], getrandom::Error> {
    let mut key = [0; SWARM_KEY_BYTES];
    getrandom::fill(&mut key)?;
    Ok(key)
}
