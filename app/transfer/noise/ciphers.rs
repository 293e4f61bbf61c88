//! The primitives that `snow` builds the protocol from. Its default set would bring a second
//! version of each of these crates, and a ChaCha20 without NEON.

use blake2::{Blake2s256, Digest};
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, Key, KeyInit, Nonce, Tag};
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

use super::TAG_BYTES;

/// The primitives of one handshake.
pub(super) struct Ours {
    /// Its ephemeral key.
    pub(super) ephemeral: [u8; 32],
}

/// Yields one ephemeral key, once.
struct Once(Option<[u8; 32]>);

#[derive(Default)]
struct X25519 {
    private: [u8; 32],
    public: [u8; 32],
}

#[derive(Default)]
struct ChaChaPoly([u8; 32]);

#[derive(Default)]
struct Blake2s(Blake2s256);

impl CryptoResolver for Ours {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.ephemeral))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::<X25519>::default() as _)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::Blake2s).then(|| Box::<Blake2s>::default() as _)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::ChaChaPoly).then(|| Box::<ChaChaPoly>::default() as _)
    }
}

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        let key = self.0.take().filter(|key| key.len() == dest.len()).ok_or(Error::Rng)?;
        dest.copy_from_slice(&key);
        Ok(())
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        self.private.copy_from_slice(privkey);
        self.public = x25519(self.private, X25519_BASEPOINT_BYTES);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut private = [0; 32];
        rng.try_fill_bytes(&mut private)?;
        self.set(&private);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.private
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let shared = x25519(self.private, *pubkey.first_chunk().ok_or(Error::Dh)?);
        // A low-order point would make the shared secret publicly known.
        if shared == [0; 32] {
            return Err(Error::Dh);
        }
        out[..shared.len()].copy_from_slice(&shared);
        Ok(())
    }
}

impl ChaChaPoly {
    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&Key::from(self.0))
    }
}

/// Noise's encoding of a counter in 96 bits: 32 zero bits, then the counter, little endian.
fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::from(nonce)
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = *key;
    }

    fn encrypt(&self, counter: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (sealed, tag) = out[..plaintext.len() + TAG_BYTES].split_at_mut(plaintext.len());
        let buffer = InOutBuf::new(plaintext, sealed).expect("they are equally long");
        let sealed = self.cipher().encrypt_inout_detached(&nonce(counter), authtext, buffer);
        tag.copy_from_slice(&sealed.expect("a message is far below ChaCha20's limit of 256 GiB"));
        plaintext.len() + TAG_BYTES
    }

    fn decrypt(
        &self,
        counter: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let (sealed, tag) = ciphertext.split_last_chunk::<TAG_BYTES>().ok_or(Error::Decrypt)?;
        let plain = out.get_mut(..sealed.len()).ok_or(Error::Decrypt)?;
        let buffer = InOutBuf::new(sealed, plain).map_err(|_| Error::Decrypt)?;
        let opened = self.cipher().decrypt_inout_detached(
            &nonce(counter),
            authtext,
            buffer,
            &Tag::from(*tag),
        );
        opened.map_err(|_| Error::Decrypt)?;
        Ok(sealed.len())
    }
}

impl Hash for Blake2s {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Blake2s256::default();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash = core::mem::take(&mut self.0).finalize();
        out[..hash.len()].copy_from_slice(&hash);
    }
}
