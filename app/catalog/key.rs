//! The key that a swarm's datagrams are closed with: whoever lacks it can neither speak in the swarm nor alter what is said.
//!
//! It is derived from the swarm key. Where none is set, the empty key gives one that everybody knows: datagrams are then guarded
//! against damage, not against people.

use blake3::{Hash, keyed_hash};

/// Bytes of the trailer of a datagram. Guessing one takes 2^127 tries on average, each of which must be sent.
pub const TRAILER_BYTES: usize = 16;

/// The key of a swarm's datagrams.
#[derive(Clone)]
pub struct DatagramKey([u8; 32]);

impl DatagramKey {
    /// From the swarm key, which may be empty.
    pub fn derive(swarm_key: &[u8]) -> DatagramKey {
        DatagramKey(blake3::derive_key("potluck datagrams v2", swarm_key))
    }

    /// What closes a datagram whose other bytes are `bytes`: the first half of their keyed BLAKE3.
    pub(super) fn trailer(&self, bytes: &[u8]) -> [u8; TRAILER_BYTES] {
        *keyed_hash(&self.0, bytes).as_bytes().first_chunk().expect("half of 32 bytes")
    }

    /// Whether `trailer` closes `bytes`. Takes the same time wherever the first difference is.
    pub(super) fn fits(&self, bytes: &[u8], trailer: &[u8; TRAILER_BYTES]) -> bool {
        // Hashes compare in constant time; the halves are filled up to hashes.
        let filled = |half: &[u8; TRAILER_BYTES]| {
            let mut whole = [0; 32];
            whole[..TRAILER_BYTES].copy_from_slice(half);
            Hash::from_bytes(whole)
        };
        filled(&self.trailer(bytes)) == filled(trailer)
    }
}

impl core::fmt::Debug for DatagramKey {
    /// Says nothing: a key in a log is a key lost.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("DatagramKey")
    }
}
