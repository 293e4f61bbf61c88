//! The lock on a swarm's datagrams: whoever lacks the swarm's key can neither speak in it, nor alter what is said, nor read it.
//!
//! XChaCha20-Poly1305 under a key that is derived from the swarm's. Where no swarm key is set, the empty one gives a key that everybody
//! knows: datagrams are then guarded against damage, not against people. The nonce of 24 bytes is never used twice under one key: it
//! names the node, its start (drawn at random each time) and a number that grows with each datagram.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};

use crate::keyring::SwarmSecret;

/// Bytes of a datagram's tag. Forging one takes 2^100 tries and more, each of which must be sent.
pub(crate) const TAG_BYTES: usize = 16;

/// Bytes of a nonce.
pub(super) const NONCE_BYTES: usize = 24;

/// Encrypts `text` in place; gives the tag over it and `head`, which stays in clear.
pub(super) fn lock(secret: &SwarmSecret, nonce: &[u8; NONCE_BYTES], head: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
    let tag = cipher(secret).encrypt_inout_detached(&XNonce::from(*nonce), head, text.into());
    tag.unwrap_or_else(|_| unreachable!("a datagram is shorter than 2^38 bytes")).into()
}

/// Decrypts `text` in place, where `tag` shows that somebody with the key said it and `head`. Otherwise false, and `text` is of no use.
/// Takes the same time wherever the first difference is.
pub(super) fn unlock(
    secret: &SwarmSecret,
    nonce: &[u8; NONCE_BYTES],
    head: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> bool {
    cipher(secret).decrypt_inout_detached(&XNonce::from(*nonce), head, text.into(), &Tag::from(*tag)).is_ok()
}

fn cipher(secret: &SwarmSecret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*secret.datagrams()))
}
