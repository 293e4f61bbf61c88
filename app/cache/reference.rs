//! What the cache should be, said with plain maps and full scans and without bounds of its own. `model_tests` compares.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::id::BlockKey;

#[derive(Clone, Debug)]
pub(super) struct RefKept {
    pub(super) stamp: u64,
    pub(super) pins: u32,
    pub(super) last_use: u64,
}

#[derive(Clone, Debug)]
pub(super) struct RefEntry {
    pub(super) link: Link,
    pub(super) planes: [Option<RefKept>; 2],
    pub(super) leaving: bool,
}

/// What the cache should be.
pub(super) struct Reference {
    pub(super) root: BlockKey,
    pub(super) has_bytes: [bool; 2],
    pub(super) capacity: usize,
    pub(super) entries: BTreeMap<BlockKey, RefEntry>,
    pub(super) clock: u64,
}

impl Reference {
    fn children(&self, key: &BlockKey) -> usize {
        self.entries.values().filter(|entry| entry.link.parent == *key).count()
    }

    fn depth(&self, key: &BlockKey) -> usize {
        let parent = self.entries[key].link.parent;
        if parent == self.root { 0 } else { 1 + self.depth(&parent) }
    }

    pub(super) fn held(&self) -> BTreeSet<(BlockKey, Plane)> {
        let here = self.entries.values().filter(|entry| !entry.leaving);
        here.flat_map(|e| Plane::ALL.map(|p| e.planes[p as usize].as_ref().map(|_| (e.link.key, p)))).flatten().collect()
    }

    pub(super) fn slots_held(&self, plane: Plane) -> usize {
        self.entries.values().filter(|entry| entry.planes[plane as usize].is_some()).count()
    }

    fn whole_block_may_go(&self, entry: &RefEntry) -> bool {
        let pinned = entry.planes.iter().flatten().any(|kept| kept.pins > 0);
        !entry.leaving && !pinned && self.children(&entry.link.key) == 0
    }

    /// The first of `candidates` in the order of eviction, each with the time of its last use.
    fn first(&self, candidates: Vec<(&RefEntry, u64)>, peers: u8) -> Option<BlockKey> {
        let mut ranks: Vec<_> = candidates
            .into_iter()
            .map(|(e, used)| {
                (!shared(&e.link.key, peers), e.link.tokens.len(), used, Reverse(self.depth(&e.link.key)), e.link.key)
            })
            .collect();
        ranks.sort();
        ranks.first().map(|rank| rank.4)
    }

    fn last_use(entry: &RefEntry) -> u64 {
        entry.planes.iter().flatten().map(|kept| kept.last_use).max().unwrap()
    }

    pub(super) fn make_room(&mut self, plane: Plane, peers: u8) {
        let candidates = self.entries.values().filter_map(|entry| match (plane, entry.planes[plane as usize].as_ref()?) {
            (Plane::Sliding, kept) => (!entry.leaving && kept.pins == 0).then_some((entry, kept.last_use)),
            (Plane::Global, _) => self.whole_block_may_go(entry).then(|| (entry, Self::last_use(entry))),
        });
        let Some(key) = self.first(candidates.collect(), peers) else { return };
        match plane {
            Plane::Sliding => self.entries.get_mut(&key).unwrap().planes[1] = None,
            Plane::Global => self.entries.get_mut(&key).unwrap().planes = [None, None],
        }
        self.settle(key, None);
    }

    /// Removes `key` and what is before it, as far as nothing needs them; `parent_to_be` is needed.
    fn settle(&mut self, key: BlockKey, parent_to_be: Option<BlockKey>) {
        let Some(entry) = self.entries.get(&key) else { return };
        let bytes = Plane::ALL.iter().any(|&p| self.has_bytes[p as usize] && entry.planes[p as usize].is_some());
        let pinned = entry.planes.iter().flatten().any(|kept| kept.pins > 0);
        if !bytes && !pinned && self.children(&key) == 0 && parent_to_be != Some(key) {
            let parent = entry.link.parent;
            self.entries.remove(&key);
            self.settle(parent, parent_to_be);
        }
    }

    /// `None` when taken; else the answer that the cache must give.
    pub(super) fn commit(&mut self, link: &Link, plane: Plane, stamp: u64) -> Option<Result<(), Refusal>> {
        let kept = Some(RefKept { stamp, pins: 0, last_use: self.clock });
        if let Some(entry) = self.entries.get_mut(&link.key) {
            if entry.link != *link {
                return Some(Err(Refusal::Collision));
            }
            if entry.leaving {
                return Some(Err(Refusal::Leaving));
            }
            if entry.planes[plane as usize].is_some() {
                return Some(Ok(()));
            }
            entry.planes[plane as usize] = kept;
            return None;
        }
        let fit = |parent: &RefEntry| !parent.leaving && parent.link.tokens.len() == 16 && parent.planes[0].is_some();
        if link.parent != self.root && !self.entries.get(&link.parent).is_some_and(fit) {
            return Some(Err(Refusal::NoParent));
        }
        if self.entries.len() == self.capacity {
            let others = self.entries.values().filter(|entry| entry.link.key != link.parent && self.whole_block_may_go(entry));
            let Some(key) = self.first(others.map(|entry| (entry, Self::last_use(entry))).collect(), 0) else {
                return Some(Err(Refusal::IndexFull));
            };
            self.entries.get_mut(&key).unwrap().planes = [None, None];
            self.settle(key, Some(link.parent));
        }
        let mut planes = [None, None];
        for other in Plane::ALL {
            let nothing_to_store = !self.has_bytes[other as usize];
            planes[other as usize] = (other == plane || nothing_to_store).then(|| kept.clone().unwrap());
        }
        self.entries.insert(link.key, RefEntry { link: link.clone(), planes, leaving: false });
        None
    }

    pub(super) fn pin(&mut self, link: &Link, plane: Plane) -> Option<u64> {
        let clock = self.clock;
        let entry = self.entries.get_mut(&link.key).filter(|entry| !entry.leaving)?;
        let kept = entry.planes[plane as usize].as_mut()?;
        kept.pins += 1;
        kept.last_use = clock;
        Some(kept.stamp)
    }

    pub(super) fn unpin(&mut self, key: BlockKey, plane: Plane) {
        let entry = self.entries.get_mut(&key).expect("a pinned block is never lost");
        let kept = entry.planes[plane as usize].as_mut().expect("a pinned plane is never lost");
        kept.pins -= 1;
        if kept.pins == 0 && entry.leaving {
            entry.planes[plane as usize] = None;
            self.settle(key, None);
        }
    }

    pub(super) fn clear(&mut self) {
        for entry in self.entries.values_mut() {
            entry.leaving = true;
            for kept in &mut entry.planes {
                kept.take_if(|kept| kept.pins == 0);
            }
        }
        for key in self.entries.keys().copied().collect::<Vec<_>>() {
            self.settle(key, None);
        }
    }
}

/// Whether peers hold the block: those with a bit of `peers` in their key.
pub(super) fn shared(key: &BlockKey, peers: u8) -> bool {
    key.0[0] & peers & 0x11 != 0
}
