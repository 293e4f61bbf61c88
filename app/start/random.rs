//! The only source of randomness.

use std::time::SystemTime;

use crate::keyring::Entropy;
use crate::limits::SWARM_KEY_BYTES;

/// A number that no other node draws.
pub(crate) fn random() -> u64 {
    // Without a source of randomness the clock and the process still tell two starts apart; a node
    // with a key then shares nothing.
    getrandom::u64().unwrap_or_else(|_| {
        let since_1970 =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since_1970.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(40)
    })
}

/// The seed of all connection secrets. Without a source of randomness it can be guessed: then a
/// node with a key shares nothing, and an open swarm has no secrets.
pub(crate) fn entropy() -> Entropy {
    Entropy(draw_key().unwrap_or_else(|_| {
        blake3::derive_key("potluck without randomness", &random().to_le_bytes())
    }))
}

/// A key that cannot be guessed. Unlike [`random`], it fails if the system has no source
/// of randomness.
pub(crate) fn draw_key() -> Result<[u8; SWARM_KEY_BYTES], getrandom::Error> {
    let mut key = [0; SWARM_KEY_BYTES];
    getrandom::fill(&mut key)?;
    Ok(key)
}
