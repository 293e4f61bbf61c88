//! The keys of a swarm: the one that a node sends with, and former ones that it still accepts.
//!
//! A swarm is rekeyed board by board: a board with the new key keeps the old one among its former
//! keys until every board has the new one. Every secret that depends on a key is derived here, each
//! under its own context, so that no other module sees the key itself.

use heapless::Vec as Bounded;

use crate::id::SwarmTag;
use crate::limits::MAX_OLD_KEYS;

/// Seeds the secrets of a node's connections. Never printed.
#[derive(Clone)]
pub struct Entropy(pub [u8; 32]);

impl core::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Entropy")
    }
}

/// The secrets derived from one swarm key. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SwarmSecret {
    tag: SwarmTag,
    datagrams: [u8; 32],
    /// None in an open swarm, whose transfers are not encrypted.
    transfers: Option<[u8; 32]>,
}

/// The keys of one node: one in use, and at most [`MAX_OLD_KEYS`] former ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyring {
    current: SwarmSecret,
    former: Bounded<SwarmSecret, MAX_OLD_KEYS>,
}

impl SwarmSecret {
    /// Derives the secrets from a key: a random one, or one stretched from a passphrase. The empty
    /// key is the open swarm's.
    pub fn derive(key: &[u8]) -> SwarmSecret {
        let tag = blake3::derive_key("potluck swarm tag v1", key);
        SwarmSecret {
            tag: SwarmTag(u64::from_le_bytes(*tag.first_chunk().expect("8 of 32 bytes"))),
            datagrams: blake3::derive_key("potluck datagrams v3", key),
            transfers: (!key.is_empty()).then(|| blake3::derive_key("potluck transfers v2", key)),
        }
    }

    /// Identifies the swarm that a message belongs to without revealing the key.
    pub fn tag(&self) -> SwarmTag {
        self.tag
    }

    /// The key of the swarm's datagrams. The open swarm's is public.
    pub(crate) fn datagrams(&self) -> &[u8; 32] {
        &self.datagrams
    }

    /// The pre-shared key of the swarm's transfers; none in the open swarm.
    pub(crate) fn transfers(&self) -> Option<&[u8; 32]> {
        self.transfers.as_ref()
    }

    /// Whether this is the open swarm, whose key is public.
    pub fn is_open(&self) -> bool {
        self.transfers.is_none()
    }
}

impl core::fmt::Debug for SwarmSecret {
    /// Prints only the swarm's tag: a key in a log is a key lost.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SwarmSecret({:?})", self.tag)
    }
}

impl Keyring {
    /// A keyring of the key in use and the former ones. Skips former keys that are empty,
    /// duplicates, or beyond the first [`MAX_OLD_KEYS`].
    pub fn new<'a>(current: &[u8], former: impl IntoIterator<Item = &'a [u8]>) -> Keyring {
        let mut keyring = Keyring { current: SwarmSecret::derive(current), former: Bounded::new() };
        for key in former {
            let secret = SwarmSecret::derive(key);
            if !secret.is_open() && keyring.find(secret.tag).is_none() {
                let _ = keyring.former.push(secret);
            }
        }
        keyring
    }

    /// The keyring of the open swarm.
    pub fn open() -> Keyring {
        Keyring::new(&[], [])
    }

    /// The key that this node sends with.
    pub fn current(&self) -> &SwarmSecret {
        &self.current
    }

    /// The former keys that this node still accepts.
    pub(crate) fn former(&self) -> &[SwarmSecret] {
        &self.former
    }

    /// The key of the swarm with this tag, if this node has it.
    pub(crate) fn find(&self, tag: SwarmTag) -> Option<&SwarmSecret> {
        core::iter::once(&self.current).chain(&self.former).find(|secret| secret.tag == tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_of_a_key_has_a_key_of_its_own_and_none_is_printed() {
        let secret = SwarmSecret::derive(b"sesame");
        assert_ne!(Some(secret.datagrams()), secret.transfers());
        assert_ne!(secret.tag(), SwarmSecret::derive(b"sesamf").tag());
        assert_eq!(format!("{:?}", Entropy([7; 32])), "Entropy");
        assert_eq!(format!("{secret:?}"), format!("SwarmSecret({:?})", secret.tag()));
        assert!(SwarmSecret::derive(b"").is_open() && !secret.is_open());
    }

    #[test]
    fn a_former_key_is_found_by_its_tag_and_no_former_key_opens_a_swarm() {
        let keyring = Keyring::new(b"new", [b"old".as_slice(), b"", b"old", b"new"]);
        assert_eq!(keyring.former(), [SwarmSecret::derive(b"old")]);
        assert_eq!(keyring.find(SwarmSecret::derive(b"old").tag()), Some(&keyring.former()[0]));
        assert_eq!(keyring.find(SwarmSecret::derive(b"new").tag()), Some(keyring.current()));
        assert_eq!(keyring.find(SwarmSecret::derive(b"").tag()), None);
    }
}
