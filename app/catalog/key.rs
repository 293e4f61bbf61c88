//! Authenticated encryption of a swarm's datagrams: without the swarm's key nobody can send, alter
//! or read one.
//!
//! XChaCha20-Poly1305 under a key that is derived from the swarm's. If no swarm key is set, the
//! empty one gives a key that everybody knows: datagrams are then protected against damage, not
//! against people. The 24-byte nonce is never used twice under one key: it contains the node, its
//! boot (drawn at random at each start) and a counter that grows with each datagram.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};

use crate::keyring::SwarmSecret;

/// Bytes of a datagram's tag. Forging one takes 2^100 or more tries, each of which must be sent.
pub(crate) const TAG_BYTES: usize = 16;

/// Bytes of a nonce.
pub(super) const NONCE_BYTES: usize = 24;

/// Encrypts `text` in place; returns the tag over it and `head`, which stays in clear.
pub(super) fn lock(
    secret: &SwarmSecret,
    nonce: &[u8; NONCE_BYTES],
    head: &[u8],
    text: &mut [u8],
) -> [u8; TAG_BYTES] {
    let tag = cipher(secret).encrypt_inout_detached(&XNonce::from(*nonce), head, text.into());
    tag.unwrap_or_else(|_| unreachable!("a datagram is shorter than 2^38 bytes")).into()
}

/// Decrypts `text` in place if `tag` proves that somebody with the key sealed it and `head`.
/// Otherwise returns false, and `text` is garbage. The time does not depend on where the first
/// difference is.
pub(super) fn unlock(
    secret: &SwarmSecret,
    nonce: &[u8; NONCE_BYTES],
    head: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> bool {
    cipher(secret)
        .decrypt_inout_detached(&XNonce::from(*nonce), head, text.into(), &Tag::from(*tag))
        .is_ok()
}

fn cipher(secret: &SwarmSecret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*secret.datagrams()))
}
