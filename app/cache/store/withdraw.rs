//! What the cache forgets early: everything, a useless block, or all blocks that one peer made.

use std::collections::BTreeSet;

use super::{Cache, Entry, Maker};
use crate::id::{BlockKey, NodeId};
use crate::kv::Plane;

impl Cache {
    /// Forgets every block. A pinned block is no longer found, and is removed when it is
    /// unpinned; until then no block can be put in its place or after it. Reserved slots stay
    /// with their owners.
    pub(crate) fn clear(&mut self) {
        self.withdraw(self.index.iter().map(|entry| entry.link.key).collect());
    }

    /// Forgets one block and all that follow it, as [`Cache::clear`] does.
    pub fn forget(&mut self, key: &BlockKey) {
        self.forget_where(|entry| entry.link.key == *key);
    }

    /// Forgets the blocks of which `node` made a plane and all that follow them, as
    /// [`Cache::clear`] does. Returns how many.
    pub(crate) fn forget_made_by(&mut self, node: NodeId) -> usize {
        self.forget_where(|entry| {
            entry.planes.iter().flatten().any(|kept| kept.maker == Maker::Peer(node))
        })
    }

    /// The blocks of which `node` made a plane, in arbitrary order.
    pub(crate) fn made_by(&self, node: NodeId) -> impl Iterator<Item = BlockKey> + '_ {
        let made = move |entry: &&Entry| {
            let made =
                |plane| entry.visible(plane).is_some_and(|kept| kept.maker == Maker::Peer(node));
            Plane::ALL.into_iter().any(made)
        };
        self.index.iter().filter(made).map(|entry| entry.link.key)
    }

    fn forget_where(&mut self, is_bad: impl Fn(&Entry) -> bool) -> usize {
        let mut entries: Vec<&Entry> = self.index.iter().collect();
        // Parents first.
        entries.sort_by_key(|entry| (entry.depth, entry.link.key));
        let (mut bad, mut keys) = (BTreeSet::new(), Vec::new());
        for entry in entries {
            if is_bad(entry) || bad.contains(&entry.link.parent) {
                bad.insert(entry.link.key);
                keys.push(entry.link.key);
            }
        }
        self.withdraw(keys);
        bad.len()
    }

    fn withdraw(&mut self, keys: Vec<BlockKey>) {
        for key in &keys {
            for plane in Plane::ALL {
                if self.index.get(key).is_some_and(|entry| entry.visible(plane).is_some()) {
                    self.changes.remove(*key, plane);
                }
            }
            if let Some(entry) = self.index.get_mut(key) {
                entry.leaving = true;
            }
        }
        for key in keys {
            for plane in Plane::ALL {
                let unpinned =
                    |entry: &Entry| entry.planes[plane as usize].is_some_and(|kept| kept.pins == 0);
                if self.index.get(&key).is_some_and(unpinned) {
                    self.drop_plane(&key, plane);
                }
            }
            self.settle(key);
        }
    }
}
