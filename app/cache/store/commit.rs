//! How a filled slot enters the cache: which blocks are admitted, and what is evicted for them.
//!
//! Promises: the parent of every admitted block is here. This node's bytes replace those of a peer
//! that nobody is using; a peer's bytes replace none. A slot that the cache has no use for goes
//! back to the caller.

use thiserror::Error;

use super::super::Link;
use super::super::evict::Room;
use super::super::index::{Entry, Kept, Maker};
use super::super::keeper::is_stem;
use super::super::slab::Slot;
use super::Cache;
use crate::id::{BlockKey, SlotIndex};
use crate::kv::Plane;

/// The result of a commit. It returns a slot that the cache has no use for; if that is the
/// committed one, its page may still be in use.
#[derive(Debug)]
#[must_use = "it may carry a slot, which is lost if nobody releases it"]
pub enum Committed {
    /// The plane was added, not pinned.
    Inserted,
    /// The plane was here with a peer's bytes and now has this node's, not pinned. The returned
    /// slot holds the peer's bytes and is no longer needed.
    Replaced(Slot),
    /// The plane was here already and stays as it is. The returned slot has the same bytes, unless
    /// a peer lied.
    AlreadyHeld(Slot),
    /// The plane was not added.
    Refused(Slot, Refusal),
}

impl Committed {
    /// The returned slot, if any.
    #[cfg(test)]
    pub(crate) fn into_slot(self) -> Option<Slot> {
        match self {
            Committed::Inserted => None,
            Committed::Replaced(slot)
            | Committed::AlreadyHeld(slot)
            | Committed::Refused(slot, _) => Some(slot),
        }
    }
}

/// Why a commit was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// The block before this one is a ragged one, lacks its global plane, is being withdrawn, or is
    /// not here.
    #[error("the block before it is not in the slab")]
    NoParent,
    /// Another block has the same key.
    #[error("another block has the same key")]
    Collision,
    /// The block was withdrawn while in use, and is not gone yet.
    #[error("the block was withdrawn and is still in use")]
    Leaving,
    /// The index is full and every block in it is needed.
    #[error("the index is full and every block in it is in use")]
    IndexFull,
}

impl Cache {
    /// Puts a filled slot into the index under `link`. The block before it must be the root or be
    /// here with its global plane; the planes of one block may come in either order. A ragged
    /// block's bytes are packed for its tokens. A plane that is already here is replaced only if
    /// `maker` is this node, the plane is a peer's and nobody has it pinned.
    pub fn commit(&mut self, link: &Link, slot: Slot, maker: Maker) -> Committed {
        let plane = slot.plane();
        match self.admit(link, plane, maker) {
            Ok(true) => {
                self.keep(&link.key, plane, slot.index(), maker);
                self.counts.inserted += 1;
                Committed::Inserted
            }
            Ok(false) if maker == Maker::Own => self.replace(link, slot),
            Ok(false) => Committed::AlreadyHeld(slot),
            Err(refusal) => {
                self.counts.refused += 1;
                self.counts.collisions += u64::from(refusal == Refusal::Collision);
                Committed::Refused(slot, refusal)
            }
        }
    }

    /// Makes sure that `link` has an entry without `plane`; returns `false` if the entry already
    /// has it.
    fn admit(&mut self, link: &Link, plane: Plane, maker: Maker) -> Result<bool, Refusal> {
        if link.key == self.root {
            return Err(Refusal::Collision);
        }
        if let Some(entry) = self.index.get(&link.key) {
            if !entry.is(link) {
                return Err(Refusal::Collision);
            }
            return if entry.leaving {
                Err(Refusal::Leaving)
            } else {
                Ok(entry.visible(plane).is_none())
            };
        }
        let mut depth = 0;
        if link.parent != self.root {
            let parent = self
                .index
                .get(&link.parent)
                .filter(|parent| parent.can_be_parent())
                .ok_or(Refusal::NoParent)?;
            depth = parent.depth + 1;
            // From here on it cannot be evicted to make room for its own child.
            self.add_child(&link.parent);
        }
        if self.index.is_full() {
            let Some(key) =
                self.policy.victim(&mut self.index, Room::Entry, self.clock, &|_| false)
            else {
                self.remove_child(&link.parent);
                return Err(Refusal::IndexFull);
            };
            self.evict_entry(key);
        }
        self.enter(link, depth);
        for other in Plane::ALL {
            if other != plane && self.slab.slot_bytes(other) == 0 {
                self.keep(&link.key, other, SlotIndex(0), maker);
            }
        }
        Ok(true)
    }

    /// Adds an entry for `link`, which its parent has already counted as a child.
    fn enter(&mut self, link: &Link, depth: u32) {
        let mut entry = Entry::new(link.clone(), depth);
        if !is_stem(depth)
            && let Some(parent) = self.index.get(&link.parent)
        {
            entry.stem = parent.stem;
        }
        self.index.insert(entry);
        self.mark(link.key, 1);
    }

    /// Records that the plane lies in `slot`.
    fn keep(&mut self, key: &BlockKey, plane: Plane, slot: SlotIndex, maker: Maker) {
        if let Some(entry) = self.index.get_mut(key) {
            entry.planes[plane as usize] =
                Some(Kept { slot, maker, pins: 0, last_use: self.clock, proven: false });
            self.changes.add(*key, plane);
            self.policy.touch(key, plane);
        }
    }

    /// Replaces a peer's bytes with this node's, if the plane has such and nobody reads them.
    fn replace(&mut self, link: &Link, slot: Slot) -> Committed {
        let plane = slot.plane();
        let clock = self.clock;
        let kept =
            self.index.get_mut(&link.key).and_then(|entry| entry.planes[plane as usize].as_mut());
        let Some(kept) = kept.filter(|kept| kept.maker != Maker::Own && kept.pins == 0) else {
            return Committed::AlreadyHeld(slot);
        };
        let foreign = self.slab.slot(plane, kept.slot);
        *kept = Kept { slot: slot.index(), maker: Maker::Own, last_use: clock, ..*kept };
        for other in Plane::ALL.into_iter().filter(|&other| self.slab.slot_bytes(other) == 0) {
            let bare = self
                .index
                .get_mut(&link.key)
                .and_then(|entry| entry.planes[other as usize].as_mut());
            bare.into_iter().for_each(|kept| kept.maker = Maker::Own);
        }
        Committed::Replaced(foreign)
    }
}
