//! The one door through which randomness comes in.

use std::time::SystemTime;

use crate::keyring::Entropy;
use crate::limits::SWARM_KEY_BYTES;

/// A number that no other node draws.
pub(crate) fn random() -> u64 {
    // Without a source of randomness the clock and the process still tell two starts apart; a node with a key then shares nothing.
    getrandom::u64().unwrap_or_else(|_| {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since_1970.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(40)
    })
}

/// What the secrets of connections are drawn from. Without a source of randomness it can be guessed: a node with a key then shares
/// nothing, and that of an open swarm has no secrets.
pub(crate) fn entropy() -> Entropy {
    Entropy(draw_key().unwrap_or_else(|_| blake3::derive_key("potluck without randomness", &random().to_le_bytes())))
}

/// A key that nobody can guess. Unlike [`random`], it fails where the system has no source of randomness.
pub(crate) fn draw_key() -> Result<[u8; SWARM_KEY_BYTES], getrandom::Error> {
    let mut key = [0; SWARM_KEY_BYTES];
    getrandom::fill(&mut key)?;
    Ok(key)
}
