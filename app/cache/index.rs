//! The index: which blocks are here, in a table of fixed capacity that is allocated at start.
//!
//! Entries lie densely in one array; a second array holds their places in key order. A lookup costs
//! 12 comparisons at 4,096 entries, an insertion or removal moves at most 16 kB, and a scan over
//! all entries is one linear pass over memory.

use super::chain::Link;
use crate::id::{BlockKey, NodeId, SlotIndex, TokenId};
use crate::kv::Plane;
use crate::limits::BLOCK_TOKENS;

/// A block that is here, with both planes or one.
#[derive(Debug)]
pub(super) struct Entry {
    /// Key, parent and tokens.
    pub(super) link: Link,
    /// Blocks between this one and the root.
    pub(super) depth: u32,
    /// Entries whose parent this is.
    pub(super) children: u32,
    /// The block that decides which of several holders keeps this one: itself or one before it.
    pub(super) stem: BlockKey,
    /// Likely resume points that need this block's sliding plane: ends of chains, and blocks after
    /// which prompts have parted.
    pub(super) resumes: u32,
    /// Whether prompts have parted after this block, as far as was seen while it was here.
    pub(super) branched: bool,
    /// The planes that are here, by `Plane as usize`.
    pub(super) planes: [Option<Kept>; 2],
    /// Withdrawn: no longer found, and removed as soon as nobody has it pinned.
    pub(super) leaving: bool,
}

/// Who made the bytes of a plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Maker {
    /// This node computed them.
    Own,
    /// They came from a peer.
    Peer(NodeId),
}

/// A plane of a block that is here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// Where its bytes lie.
    pub(super) slot: SlotIndex,
    /// Who made them.
    pub(super) maker: Maker,
    /// How many users it has at this moment.
    pub(super) pins: u16,
    /// When it was last committed or pinned, on the cache's own clock.
    pub(super) last_use: u64,
    /// Whether it has left probation: see `evict`.
    pub(super) proven: bool,
}

impl Entry {
    /// An entry without any plane yet.
    pub(super) fn new(link: Link, depth: u32) -> Entry {
        Entry {
            stem: link.key,
            link,
            depth,
            children: 0,
            resumes: 0,
            branched: false,
            planes: [None, None],
            leaving: false,
        }
    }

    /// Whether this is the very block of `link`, not another one with the same key.
    pub(super) fn is(&self, link: &Link) -> bool {
        self.link == *link
    }

    /// The plane, if it is here and not being withdrawn.
    pub(super) fn visible(&self, plane: Plane) -> Option<&Kept> {
        self.planes[plane as usize].as_ref().filter(|_| !self.leaving)
    }

    /// Whether a block may have this one as its parent: it is a full block, holds its global plane,
    /// and is not being withdrawn.
    pub(super) fn can_be_parent(&self) -> bool {
        self.link.is_full() && self.visible(Plane::Global).is_some()
    }

    /// Whether any plane of it is in use.
    pub(super) fn pinned(&self) -> bool {
        self.planes.iter().flatten().any(|kept| kept.pins > 0)
    }

    /// The block's tokens.
    pub(super) fn tokens(&self) -> &heapless::Vec<TokenId, BLOCK_TOKENS> {
        &self.link.tokens
    }
}

/// The table.
pub(super) struct Index {
    entries: Vec<Entry>,
    /// Places in `entries`, in the order of their keys.
    order: Vec<u32>,
    capacity: usize,
}

impl Index {
    /// An empty table with room for `capacity` entries.
    pub(super) fn new(capacity: usize) -> Index {
        Index {
            entries: Vec::with_capacity(capacity),
            order: Vec::with_capacity(capacity),
            capacity,
        }
    }

    /// Whether the table has no room for one more entry.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() == self.capacity
    }

    /// Entries in the table.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Every entry, in arbitrary order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The entry at a place in the order of [`Index::iter`]; places are valid until an entry is
    /// added or removed.
    pub(super) fn at(&self, place: u32) -> &Entry {
        &self.entries[place as usize]
    }

    /// The same, mutable; its key must not change.
    pub(super) fn at_mut(&mut self, place: u32) -> &mut Entry {
        &mut self.entries[place as usize]
    }

    /// The entry of `key`.
    pub(super) fn get(&self, key: &BlockKey) -> Option<&Entry> {
        let rank = self.rank(key).ok()?;
        Some(&self.entries[self.order[rank] as usize])
    }

    /// The entry of `key`, mutable; its key must not change.
    pub(super) fn get_mut(&mut self, key: &BlockKey) -> Option<&mut Entry> {
        let rank = self.rank(key).ok()?;
        Some(&mut self.entries[self.order[rank] as usize])
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// When the table is full or has the key: the cache checks before it adds.
    pub(super) fn insert(&mut self, entry: Entry) {
        assert!(!self.is_full(), "the index is full");
        let rank = self.rank(&entry.link.key).expect_err("the key is new to the index");
        self.order.insert(rank, self.entries.len() as u32);
        self.entries.push(entry);
    }

    /// Removes the entry of `key`.
    pub(super) fn remove(&mut self, key: &BlockKey) -> Option<Entry> {
        let rank = self.rank(key).ok()?;
        let place = self.order[rank] as usize;
        let last = self.entries.last()?.link.key;
        let last_rank = self.rank(&last).ok()?;
        self.order[last_rank] = place as u32;
        self.order.remove(rank);
        Some(self.entries.swap_remove(place))
    }

    /// The rank of `key` in key order, or the rank it would have.
    fn rank(&self, key: &BlockKey) -> Result<usize, usize> {
        self.order.binary_search_by(|&place| self.entries[place as usize].link.key.cmp(key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn entry(n: u8) -> Entry {
        let tokens = [TokenId(u32::from(n))].iter().copied().collect();
        Entry::new(
            Link { key: BlockKey([n; 16]), parent: BlockKey([0xff; 16]), tokens },
            u32::from(n),
        )
    }

    #[test]
    fn entries_are_found_by_their_own_key_whatever_came_and_went() {
        let mut index = Index::new(64);
        let mut expected = BTreeMap::new();
        let mut state = 1u32;
        for _ in 0..5_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let n = (state >> 24) as u8;
            let key = BlockKey([n; 16]);
            if expected.remove(&n).is_some() {
                assert_eq!(index.remove(&key).unwrap().depth, u32::from(n));
            } else if !index.is_full() {
                index.insert(entry(n));
                expected.insert(n, ());
            }
            assert!(index.remove(&BlockKey([1; 16])).is_none() || expected.remove(&1).is_some());
            assert_eq!(index.len(), expected.len());
            for n in 0..=255u8 {
                let found = index.get(&BlockKey([n; 16])).map(|entry| entry.depth);
                assert_eq!(found, expected.get(&n).map(|()| u32::from(n)));
            }
        }
    }
}
