//! The cache's specification, with plain maps and full scans and without bounds of its own, for
//! `model_tests` to compare with. The cache chooses what to evict; this checks only that it may
//! be evicted.

use std::collections::{BTreeMap, BTreeSet};

use super::store::Refusal;
use super::*;
use crate::id::{BlockKey, NodeId};

#[derive(Clone, Debug)]
pub(super) struct RefKept {
    pub(super) stamp: u64,
    pub(super) maker: Maker,
    pub(super) pins: u32,
}

#[derive(Clone, Debug)]
pub(super) struct RefEntry {
    pub(super) link: Link,
    pub(super) planes: [Option<RefKept>; 2],
    pub(super) leaving: bool,
}

/// The required result of a commit.
#[derive(Debug)]
pub(super) enum Answer {
    Inserted,
    /// The returned slot has this stamp.
    Replaced(u64),
    AlreadyHeld,
    Refused(Refusal),
}

/// The specified state of the cache.
pub(super) struct Reference {
    pub(super) root: BlockKey,
    pub(super) has_bytes: [bool; 2],
    pub(super) capacity: usize,
    pub(super) entries: BTreeMap<BlockKey, RefEntry>,
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
        here.flat_map(|e| {
            Plane::ALL.map(|p| e.planes[p as usize].as_ref().map(|_| (e.link.key, p)))
        })
        .flatten()
        .collect()
    }

    pub(super) fn slots_held(&self, plane: Plane) -> usize {
        self.entries.values().filter(|entry| entry.planes[plane as usize].is_some()).count()
    }

    fn whole_block_may_go(&self, entry: &RefEntry) -> bool {
        let pinned = entry.planes.iter().flatten().any(|kept| kept.pins > 0);
        !entry.leaving && !pinned && self.children(&entry.link.key) == 0
    }

    /// Makes room as the cache did, by evicting `victim`; it must be `None` exactly when nothing
    /// may be evicted.
    pub(super) fn make_room(&mut self, plane: Plane, victim: Option<BlockKey>) {
        let may_go = |entry: &&RefEntry| match (plane, entry.planes[plane as usize].as_ref()) {
            (_, None) => false,
            (Plane::Sliding, Some(kept)) => !entry.leaving && kept.pins == 0,
            (Plane::Global, _) => self.whole_block_may_go(entry),
        };
        check(&self.entries.values().filter(may_go).map(|entry| entry.link.key).collect(), victim);
        let Some(key) = victim else { return };
        match plane {
            Plane::Sliding => self.entries.get_mut(&key).unwrap().planes[1] = None,
            Plane::Global => self.entries.get_mut(&key).unwrap().planes = [None, None],
        }
        self.settle(key, None);
    }

    /// The block that the cache, now holding `held`, evicted, if any: the deepest of those that
    /// are gone.
    pub(super) fn gone(
        &self,
        planes: &[Plane],
        held: &BTreeSet<(BlockKey, Plane)>,
    ) -> Option<BlockKey> {
        let went =
            self.held().into_iter().filter(|what| planes.contains(&what.1) && !held.contains(what));
        went.map(|(key, _)| key).max_by_key(|key| self.depth(key))
    }

    /// Removes `key` and the blocks before it, as far as nothing needs them; `parent_to_be`
    /// is needed.
    fn settle(&mut self, key: BlockKey, parent_to_be: Option<BlockKey>) {
        let Some(entry) = self.entries.get(&key) else { return };
        let bytes = Plane::ALL
            .iter()
            .any(|&p| self.has_bytes[p as usize] && entry.planes[p as usize].is_some());
        let pinned = entry.planes.iter().flatten().any(|kept| kept.pins > 0);
        if !bytes && !pinned && self.children(&key) == 0 && parent_to_be != Some(key) {
            let parent = entry.link.parent;
            self.entries.remove(&key);
            self.settle(parent, parent_to_be);
        }
    }

    /// The answer that the cache must give, when `victim` made room in the index.
    pub(super) fn commit(
        &mut self,
        link: &Link,
        slot: RefKept,
        plane: Plane,
        victim: Option<BlockKey>,
    ) -> Answer {
        let maker = slot.maker;
        let kept = Some(slot);
        if let Some(entry) = self.entries.get_mut(&link.key) {
            if entry.link != *link {
                return Answer::Refused(Refusal::Collision);
            }
            if entry.leaving {
                return Answer::Refused(Refusal::Leaving);
            }
            if let Some(here) = entry.planes[plane as usize].clone() {
                if maker != Maker::Own || here.maker == Maker::Own || here.pins > 0 {
                    return Answer::AlreadyHeld;
                }
                entry.planes[plane as usize] = kept;
                for (other, has_bytes) in entry.planes.iter_mut().zip(self.has_bytes) {
                    if let (Some(other), false) = (other, has_bytes) {
                        other.maker = Maker::Own;
                    }
                }
                return Answer::Replaced(here.stamp);
            }
            entry.planes[plane as usize] = kept;
            return Answer::Inserted;
        }
        let fit = |parent: &RefEntry| {
            !parent.leaving && parent.link.tokens.len() == 16 && parent.planes[0].is_some()
        };
        if link.parent != self.root && !self.entries.get(&link.parent).is_some_and(fit) {
            return Answer::Refused(Refusal::NoParent);
        }
        if self.entries.len() == self.capacity {
            let others = self
                .entries
                .values()
                .filter(|entry| entry.link.key != link.parent && self.whole_block_may_go(entry));
            check(&others.map(|entry| entry.link.key).collect(), victim);
            let Some(key) = victim else { return Answer::Refused(Refusal::IndexFull) };
            self.entries.get_mut(&key).unwrap().planes = [None, None];
            self.settle(key, Some(link.parent));
        }
        let mut planes = [None, None];
        for other in Plane::ALL {
            let nothing_to_store = !self.has_bytes[other as usize];
            planes[other as usize] =
                (other == plane || nothing_to_store).then(|| kept.clone().unwrap());
        }
        self.entries.insert(link.key, RefEntry { link: link.clone(), planes, leaving: false });
        Answer::Inserted
    }

    pub(super) fn pin(&mut self, link: &Link, plane: Plane) -> Option<(u64, Maker)> {
        let entry = self.entries.get_mut(&link.key).filter(|entry| !entry.leaving)?;
        let kept = entry.planes[plane as usize].as_mut()?;
        kept.pins += 1;
        Some((kept.stamp, kept.maker))
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
        self.withdraw(&self.entries.keys().copied().collect());
    }

    pub(super) fn forget_made_by(&mut self, node: NodeId) -> usize {
        let made = |entry: &RefEntry| {
            entry.planes.iter().flatten().any(|kept| kept.maker == Maker::Peer(node))
        };
        let mut bad: BTreeSet<BlockKey> =
            self.entries.iter().filter(|(_, entry)| made(entry)).map(|(key, _)| *key).collect();
        loop {
            let stands_on_bad = |entry: &&RefEntry| {
                bad.contains(&entry.link.parent) && !bad.contains(&entry.link.key)
            };
            let Some(next) = self.entries.values().find(stands_on_bad).map(|entry| entry.link.key)
            else {
                break;
            };
            bad.insert(next);
        }
        self.withdraw(&bad);
        bad.len()
    }

    fn withdraw(&mut self, keys: &BTreeSet<BlockKey>) {
        for entry in self.entries.values_mut().filter(|entry| keys.contains(&entry.link.key)) {
            entry.leaving = true;
            for kept in &mut entry.planes {
                kept.take_if(|kept| kept.pins == 0);
            }
        }
        for key in keys {
            self.settle(*key, None);
        }
    }
}

/// Checks that the cache evicted one of the blocks that may go.
fn check(may_go: &Vec<BlockKey>, victim: Option<BlockKey>) {
    match victim {
        Some(key) => assert!(may_go.contains(&key), "the evicted block is needed"),
        None => assert_eq!(*may_go, [], "room could have been made"),
    }
}
