//! Block keys: a chain of hashes, so that one key identifies a block's tokens and everything
//! before them.
//!
//! ```text
//! secret  192 bytes    BLAKE3 derive-key (context below) over the swarm key, read as an extendable output
//! root    XXH3-128     00 ‖ fingerprint (16 bytes)
//! full    XXH3-128     01 ‖ parent key (16 bytes) ‖ 16 tokens, u32 little endian each
//! ragged  XXH3-128     02 ‖ parent key (16 bytes) ‖ 1 to 15 tokens, u32 little endian each
//! ```
//!
//! A key is the 128-bit hash, big endian (XXH's canonical form). Every hash is keyed by the secret:
//! swarms with different keys share no block key, and nobody without the swarm key can craft a
//! collision. An empty swarm key gives a secret that everyone can compute. XXH3 is no proof of
//! identity, so a user of a block also compares its parent and tokens.

use core::fmt;

use xxhash_rust::xxh3::xxh3_128_with_secret;

use crate::id::{BlockKey, Fingerprint, TokenId};
use crate::limits::BLOCK_TOKENS;

/// Bytes of the secret: the size of XXH3's own default secret (the minimum is 136).
const SECRET_BYTES: usize = 192;

/// Separates this use of the swarm key from every other.
const SECRET_CONTEXT: &str = "potluck block key chain v1";

/// The kind of input to a hash. The numbers are part of the canonical encoding.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Domain {
    Root = 0,
    Full = 1,
    Ragged = 2,
}

/// Domain tag, parent key and the tokens of a full block.
const MAX_ENCODED_BYTES: usize = 1 + 16 + 4 * BLOCK_TOKENS;

/// Keys the chain to a swarm. Never printed.
#[derive(Clone)]
pub struct ChainSecret([u8; SECRET_BYTES]);

impl ChainSecret {
    /// The secret of the swarm with this key. An empty key gives the public default.
    pub fn derive(swarm_key: &[u8]) -> ChainSecret {
        let mut secret = [0; SECRET_BYTES];
        blake3::Hasher::new_derive_key(SECRET_CONTEXT)
            .update(swarm_key)
            .finalize_xof()
            .fill(&mut secret);
        ChainSecret(secret)
    }

    fn hash(&self, domain: Domain, parent: &[u8; 16], tokens: &[TokenId]) -> BlockKey {
        let mut encoded = [0u8; MAX_ENCODED_BYTES];
        encoded[0] = domain as u8;
        encoded[1..17].copy_from_slice(parent);
        for (bytes, token) in encoded[17..].chunks_exact_mut(4).zip(tokens) {
            bytes.copy_from_slice(&token.0.to_le_bytes());
        }
        let length = 17 + 4 * tokens.len();
        BlockKey(xxh3_128_with_secret(&encoded[..length], &self.0).to_be_bytes())
    }
}

impl fmt::Debug for ChainSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChainSecret(not shown)")
    }
}

/// The key before the first block. Two nodes share blocks only if their fingerprints are equal.
pub fn root(secret: &ChainSecret, fingerprint: Fingerprint) -> BlockKey {
    secret.hash(Domain::Root, &fingerprint.0, &[])
}

/// One block's place in the chain: its key, and what the key was made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The block's own key.
    pub key: BlockKey,
    /// The key of the block before it, or the root.
    pub parent: BlockKey,
    /// The block's tokens: 16, or 1 to 15 in a ragged block.
    pub tokens: heapless::Vec<TokenId, BLOCK_TOKENS>,
}

impl Link {
    /// Whether this is a full block. Only a full block can be a parent.
    pub(crate) fn is_full(&self) -> bool {
        self.tokens.is_full()
    }
}

/// The link of the block that holds `tokens` and follows `parent`: a full block for 16 tokens,
/// otherwise a ragged one.
///
/// # Panics
/// When `tokens` is empty or longer than a block: the caller's mistake.
pub fn link(secret: &ChainSecret, parent: BlockKey, tokens: &[TokenId]) -> Link {
    assert!((1..=BLOCK_TOKENS).contains(&tokens.len()), "a block of {} tokens", tokens.len());
    let domain = if tokens.len() == BLOCK_TOKENS { Domain::Full } else { Domain::Ragged };
    let key = secret.hash(domain, &parent.0, tokens);
    Link { key, parent, tokens: tokens.iter().copied().collect() }
}

/// The links of a whole prompt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// The full blocks, first to last.
    pub blocks: Vec<Link>,
    /// The 1 to 15 tokens after the last full block, if any.
    pub ragged: Option<Link>,
}

impl Chain {
    /// Cuts `tokens` into blocks and links them, starting at `root`.
    pub fn of(secret: &ChainSecret, root: BlockKey, tokens: &[TokenId]) -> Chain {
        let (full, rest) = tokens.as_chunks::<BLOCK_TOKENS>();
        let mut blocks = Vec::with_capacity(full.len());
        let mut parent = root;
        for tokens in full {
            let block = link(secret, parent, tokens);
            parent = block.key;
            blocks.push(block);
        }
        let ragged = (!rest.is_empty()).then(|| link(secret, parent, rest));
        Chain { blocks, ragged }
    }

    /// Every link in order, the ragged one last.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.blocks.iter().chain(&self.ragged)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn tokens(range: core::ops::Range<u32>) -> Vec<TokenId> {
        range.map(TokenId).collect()
    }

    fn fingerprint() -> Fingerprint {
        Fingerprint(core::array::from_fn(|i| i as u8))
    }

    #[test]
    fn the_encoding_is_the_one_that_every_released_build_uses() {
        // Made independently of this code, from the table at the top: XXH3-128 rewritten in Python,
        // BLAKE3 from its Python package.
        for (swarm_key, expected) in GOLDEN {
            let secret = ChainSecret::derive(swarm_key);
            let root = root(&secret, fingerprint());
            let chain = Chain::of(&secret, root, &tokens(262_100..262_137));
            let keys: Vec<String> = core::iter::once(root)
                .chain(chain.links().map(|l| l.key))
                .map(|k| k.to_string())
                .collect();
            assert_eq!(keys, expected, "swarm key {swarm_key:?}");
        }
    }

    const GOLDEN: [(&[u8], [&str; 4]); 2] = [
        (
            b"",
            [
                "de1a2855968f09552e5beeb64f010def",
                "dcca82ca6bf62b19d91d5526baf61ae3",
                "cc9f055378207b87acf9c4b0544fc13b",
                "fc3478282161011857bac6883162c82b",
            ],
        ),
        (
            b"correct horse battery staple",
            [
                "a81aaf8a300c83b603d9117d460d8417",
                "9237f81e0ab6d9508c846eabac345fa3",
                "31d4a3b0fc6a6e1f7ad7feac9f5fcbd0",
                "707d853273f72450b28a74873e9d5d53",
            ],
        ),
    ];

    #[test]
    fn swarms_with_different_keys_share_no_block() {
        let mut seen = BTreeSet::new();
        for swarm_key in [
            &b""[..],
            b"\0",
            b"a",
            b"b",
            b"a longer key than any hash block would hold, to see that it is read to its end: 1",
        ] {
            let secret = ChainSecret::derive(swarm_key);
            let root = root(&secret, fingerprint());
            assert!(seen.insert(root));
            for link in Chain::of(&secret, root, &tokens(0..40)).links() {
                assert!(seen.insert(link.key), "swarm key {swarm_key:?} repeats a key");
            }
        }
    }

    #[test]
    fn a_key_depends_on_every_token_its_place_and_everything_before_it() {
        let secret = ChainSecret::derive(b"");
        let root = root(&secret, fingerprint());
        let plain = Chain::of(&secret, root, &tokens(0..48));
        for changed in 0..48 {
            let mut other = tokens(0..48);
            other[changed] = TokenId(1_000);
            let other = Chain::of(&secret, root, &other);
            for block in 0..3 {
                let same = plain.blocks[block].key == other.blocks[block].key;
                assert_eq!(same, block < changed / 16, "token {changed}, block {block}");
            }
        }
        let mut swapped = tokens(0..16);
        swapped.swap(3, 4);
        assert_ne!(link(&secret, root, &swapped).key, plain.blocks[0].key);
    }

    #[test]
    fn ragged_blocks_of_every_length_and_the_full_one_have_keys_of_their_own() {
        let secret = ChainSecret::derive(b"");
        let root = root(&secret, fingerprint());
        let keys: BTreeSet<BlockKey> =
            (1..=16).map(|n| link(&secret, root, &tokens(0..n)).key).collect();
        assert_eq!(keys.len(), 16);
        assert!(!link(&secret, root, &tokens(0..15)).is_full());
        assert!(link(&secret, root, &tokens(0..16)).is_full());
        let zeros = [TokenId(0); 16];
        let keys: BTreeSet<BlockKey> =
            (1..=16).map(|n| link(&secret, root, &zeros[..n]).key).collect();
        assert_eq!(keys.len(), 16, "token 0 counts as a token");
    }

    #[test]
    fn a_prompt_is_cut_at_every_sixteenth_token() {
        let secret = ChainSecret::derive(b"");
        let root = root(&secret, fingerprint());
        for count in 0..50 {
            let chain = Chain::of(&secret, root, &tokens(0..count));
            assert_eq!(chain.blocks.len() as u32, count / 16);
            assert_eq!(chain.ragged.as_ref().map_or(0, |l| l.tokens.len()) as u32, count % 16);
            let mut parent = root;
            for link in chain.links() {
                assert_eq!(link.parent, parent);
                parent = link.key;
            }
            let all: Vec<TokenId> = chain.links().flat_map(|l| l.tokens.iter().copied()).collect();
            assert_eq!(all, tokens(0..count));
        }
    }

    #[test]
    fn the_secret_is_not_printed() {
        let shown = format!("{:?}", ChainSecret::derive(b"hush"));
        assert_eq!(shown, "ChainSecret(not shown)");
    }
}
