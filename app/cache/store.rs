//! The cache itself: slab, index, eviction and the list of changes, joined.
//!
//! A plane's life: [`Cache::reserve`] a slot, fill its page, [`Cache::commit`] it under its link, [`Cache::pin`] it while it is
//! in use. A plane in which the model has no layer is there as soon as its block is, and needs none of this, though all of it
//! works.

mod follow;
mod withdraw;

use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

use super::changes::{Change, Changes};
use super::evict::{Policy, Room, reach};
use super::index::{Entry, Index, Kept, Maker};
use super::keeper::{PeerCopy, is_stem};
use super::slab::{Slab, Slot};
use super::{CacheError, Link};
use crate::id::{BlockKey, SlotIndex, TokenId};
use crate::kv::{KvShape, Page, Plane};
use crate::limits::BLOCK_TOKENS;

/// The blocks of KV state that this node holds.
pub struct Cache {
    shape: Arc<KvShape>,
    root: BlockKey,
    slab: Slab,
    index: Index,
    changes: Changes,
    pub(super) policy: Policy,
    /// Blocks up to a resume point whose sliding planes are worth keeping for it.
    reach: usize,
    /// Counts reservations: what is used between two of them is used at the same moment.
    clock: u64,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    inserted: u64,
    evicted: u64,
    collisions: u64,
    refused: u64,
}

/// What became of a commit. A slot that the cache has no use for comes back; where it is the one that was handed in, its page may
/// still be in use.
#[derive(Debug)]
#[must_use = "it may carry a slot, which is lost if nobody releases it"]
pub enum Committed {
    /// The plane is here now, not pinned.
    Inserted,
    /// The plane was here before, as a peer made it, and is here now as this node made it, not pinned: this slot, which holds the
    /// peer's bytes, is of no more use.
    Replaced(Slot),
    /// The plane was here before and stays as it is. This slot's bytes are the same, unless a peer lied.
    AlreadyHeld(Slot),
    /// The plane is not here.
    Refused(Slot, Refusal),
}

impl Committed {
    /// The slot that the cache has no use for, if any.
    #[cfg(test)]
    pub(crate) fn into_slot(self) -> Option<Slot> {
        match self {
            Committed::Inserted => None,
            Committed::Replaced(slot) | Committed::AlreadyHeld(slot) | Committed::Refused(slot, _) => Some(slot),
        }
    }
}

/// Why a commit was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// The block before this one is not here (with its global plane, and to stay), or is a ragged one.
    #[error("the block before it is not in the slab")]
    NoParent,
    /// Another block has the same key.
    #[error("another block has the same key")]
    Collision,
    /// The block was taken back by a reset while in use, and is not gone yet.
    #[error("a reset has taken the block back and it is still in use")]
    Leaving,
    /// The index is full and every block in it is needed.
    #[error("the index is full and every block in it is in use")]
    IndexFull,
}

/// A plane of a block that is here, as a peer asks for it.
#[derive(Clone, Debug)]
pub struct Held {
    /// The key of the block before it, or the root.
    pub parent: BlockKey,
    /// The block's tokens: 16, or 1 to 15 in a ragged block.
    pub tokens: heapless::Vec<TokenId, BLOCK_TOKENS>,
    /// The slot's memory.
    pub page: Page,
    /// Who made its bytes.
    pub(crate) maker: Maker,
    /// The bytes at the front of `page` that are the plane's, packed for `tokens.len()` tokens.
    pub bytes: usize,
}

/// One plane's figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct PlaneStats {
    /// Slots in all; none where the model has no layer in the plane.
    pub slots: usize,
    /// Slots that hold a committed plane.
    pub held: usize,
    /// Slots that are being filled or kept by someone.
    pub reserved: usize,
    /// Held planes that are in use.
    pub pinned: usize,
    /// Bytes of one slot.
    pub slot_bytes: usize,
}

/// The cache's figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct CacheStats {
    /// By `Plane as usize`.
    pub planes: [PlaneStats; 2],
    /// Blocks in the index.
    pub entries: usize,
    /// Blocks that the index has room for.
    pub capacity: usize,
    /// Changes that nobody has polled yet.
    pub(crate) pending_changes: usize,
    /// Planes committed since the start.
    pub(crate) inserted: u64,
    /// Planes evicted since the start, resets not counted.
    pub evicted: u64,
    /// Times that another block had the key asked for.
    pub(crate) collisions: u64,
    /// Reservations and commits refused since the start.
    pub(crate) refused: u64,
}

impl CacheStats {
    /// Bytes of the slab, used or not.
    pub(crate) fn slab_bytes(&self) -> usize {
        self.planes.iter().map(|plane| plane.slots * plane.slot_bytes).sum()
    }
}

impl Cache {
    /// A cache of at most `budget_bytes` of slots, with fixed tables of some 350 bytes a block beside them. `root` is the key
    /// before every first block.
    pub fn new(shape: Arc<KvShape>, root: BlockKey, budget_bytes: usize) -> Result<Cache, CacheError> {
        let slab = Slab::new(&shape, budget_bytes)?;
        let blocks = slab.blocks();
        let index = Index::new(blocks);
        let changes = Changes::new(2 * blocks);
        let policy = Policy::new(Plane::ALL.map(|plane| slab.slots(plane).0));
        let reach = reach(&shape);
        Ok(Cache { shape, root, slab, index, changes, policy, reach, clock: 0, counts: Counts::default() })
    }

    /// The key before every first block.
    pub fn root(&self) -> BlockKey {
        self.root
    }

    /// How a block's bytes are laid out.
    #[cfg(test)]
    pub(crate) fn shape(&self) -> &Arc<KvShape> {
        &self.shape
    }

    /// Whether the plane of this very block is here.
    pub fn holds(&self, link: &Link, plane: Plane) -> bool {
        self.index.get(&link.key).is_some_and(|entry| entry.is(link) && entry.visible(plane).is_some())
    }

    /// The plane of the block with this key, without pinning it.
    pub fn entry(&self, key: &BlockKey, plane: Plane) -> Option<Held> {
        let entry = self.index.get(key)?;
        let kept = entry.visible(plane)?;
        let page = self.slab.page(plane, kept.slot);
        let bytes = self.shape.plane_bytes(plane, entry.tokens().len());
        Some(Held { parent: entry.link.parent, tokens: entry.tokens().clone(), page, maker: kept.maker, bytes })
    }

    /// Pins the plane of this very block and counts it as used now: until the matching [`Cache::unpin`] its page stays as it
    /// is. Answers with the page and who made its bytes; `None` when the plane is not here.
    pub fn pin(&mut self, link: &Link, plane: Plane) -> Option<(Page, Maker)> {
        if !self.index.get(&link.key)?.is(link) {
            self.counts.collisions += 1;
            return None;
        }
        let (slot, maker) = self.pin_slot(&link.key, plane)?;
        Some((self.slab.page(plane, slot), maker))
    }

    /// As [`Cache::pin`], without counting as used: for what looks at a block and answers nobody with it.
    pub(crate) fn hold(&mut self, link: &Link, plane: Plane) -> Option<(Page, Maker)> {
        let kept =
            self.index.get_mut(&link.key).filter(|entry| entry.is(link) && !entry.leaving)?.planes[plane as usize].as_mut()?;
        kept.pins = kept.pins.checked_add(1)?;
        let (slot, maker) = (kept.slot, kept.maker);
        Some((self.slab.page(plane, slot), maker))
    }

    /// As [`Cache::pin`], for a peer that knows only the key; the peer compares parent and tokens.
    pub fn pin_key(&mut self, key: &BlockKey, plane: Plane) -> Option<Held> {
        let held = self.entry(key, plane)?;
        self.pin_slot(key, plane)?;
        Some(held)
    }

    /// Gives one pin back. Answers whether there was one.
    pub fn unpin(&mut self, key: &BlockKey, plane: Plane) -> bool {
        let Some(entry) = self.index.get_mut(key) else { return false };
        let Some(kept) = entry.planes[plane as usize].as_mut().filter(|kept| kept.pins > 0) else { return false };
        kept.pins -= 1;
        if kept.pins == 0 && entry.leaving {
            self.drop_plane(key, plane);
            self.settle(*key);
        }
        true
    }

    /// A slot to fill: a free one, or else that of the plane that can best be spared (docs/inside/eviction.md). Nothing pinned goes, and no
    /// block that another one stands on; a block that loses its global plane goes wholly. `spared` says of a copy that a peer gave
    /// whether another node keeps this plane of it, so that it may go before what is only here:
    /// [`outranked`](super::outranked) of those that are believed to hold it.
    pub fn reserve(&mut self, plane: Plane, spared: &dyn Fn(&PeerCopy) -> bool) -> Result<Slot, CacheError> {
        self.clock += 1;
        if let Some(slot) = self.slab.take(plane) {
            return Ok(slot);
        }
        if let Some(key) = self.policy.victim(&mut self.index, Room::Slot(plane), self.clock, spared) {
            match plane {
                Plane::Global => self.evict_entry(key),
                Plane::Sliding => {
                    self.counts.evicted += 1;
                    self.drop_plane(&key, plane);
                    self.settle(key);
                }
            }
        }
        let slot = self.slab.take(plane);
        self.counts.refused += u64::from(slot.is_none());
        slot.ok_or(CacheError::Full(plane))
    }

    /// Gives a slot back unused.
    pub fn release(&mut self, slot: Slot) {
        self.slab.put(slot.plane(), slot.index());
    }

    /// Puts a filled slot into the index under `link`. The block before it must be the root or be here with its global plane;
    /// the planes of one block may come in either order. A ragged block's bytes are packed for its tokens. A plane that is here is
    /// replaced only where `maker` is this node, the plane is a peer's and nobody has it pinned.
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

    /// The next change of what is here; replayed, they give exactly the planes for which [`Cache::holds`] is true. Changes
    /// that nobody polls are netted, so that they stay bounded.
    pub(crate) fn poll_change(&mut self) -> Option<Change> {
        self.changes.poll()
    }

    /// The figures, counted in one run over the index.
    pub fn stats(&self) -> CacheStats {
        let figures = |plane: Plane| {
            let (slots, free) = self.slab.slots(plane);
            let kept = || self.index.iter().filter_map(|entry| entry.planes[plane as usize]);
            let held = if slots == 0 { 0 } else { kept().count() };
            let pinned = kept().filter(|kept| kept.pins > 0).count();
            PlaneStats { slots, held, reserved: slots - free - held, pinned, slot_bytes: self.slab.slot_bytes(plane) }
        };
        CacheStats {
            planes: Plane::ALL.map(figures),
            entries: self.index.len(),
            capacity: self.slab.blocks(),
            pending_changes: self.changes.len(),
            inserted: self.counts.inserted,
            evicted: self.counts.evicted,
            collisions: self.counts.collisions,
            refused: self.counts.refused,
        }
    }

    /// Makes sure that `link` has an entry that lacks `plane`; `false` when the entry has it.
    fn admit(&mut self, link: &Link, plane: Plane, maker: Maker) -> Result<bool, Refusal> {
        if link.key == self.root {
            return Err(Refusal::Collision);
        }
        if let Some(entry) = self.index.get(&link.key) {
            if !entry.is(link) {
                return Err(Refusal::Collision);
            }
            return if entry.leaving { Err(Refusal::Leaving) } else { Ok(entry.visible(plane).is_none()) };
        }
        let mut depth = 0;
        if link.parent != self.root {
            let parent = self.index.get(&link.parent).filter(|parent| parent.can_be_parent()).ok_or(Refusal::NoParent)?;
            depth = parent.depth + 1;
            self.add_child(&link.parent); // From here on it cannot be evicted to make room for its own child.
        }
        if self.index.is_full() {
            let Some(key) = self.policy.victim(&mut self.index, Room::Entry, self.clock, &|_| false) else {
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

    /// Adds an entry for `link`, whose parent has counted it already.
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

    /// Counts a child of `parent`: the end of a chain is one no longer, and where a second child comes, prompts have parted.
    fn add_child(&mut self, parent: &BlockKey) {
        let Some(entry) = self.index.get_mut(parent) else { return };
        entry.children += 1;
        match (entry.children, entry.branched) {
            (1, false) => self.mark(*parent, -1),
            (2, false) => {
                entry.branched = true;
                self.mark(*parent, 1);
            }
            _ => {}
        }
    }

    /// Takes a child of `parent` back, which may be the end of a chain again.
    fn remove_child(&mut self, parent: &BlockKey) {
        let Some(entry) = self.index.get_mut(parent) else { return };
        entry.children -= 1;
        if entry.children == 0 && !entry.branched {
            self.mark(*parent, 1);
        }
    }

    /// Counts a likely resume point after the block `key` at all blocks whose sliding planes it needs, or takes it back.
    fn mark(&mut self, mut key: BlockKey, by: i32) {
        for _ in 0..self.reach {
            let Some(entry) = self.index.get_mut(&key) else { return };
            entry.resumes = entry.resumes.saturating_add_signed(by);
            key = entry.link.parent;
        }
    }

    /// Notes that the plane lies in `slot`.
    fn keep(&mut self, key: &BlockKey, plane: Plane, slot: SlotIndex, maker: Maker) {
        if let Some(entry) = self.index.get_mut(key) {
            entry.planes[plane as usize] = Some(Kept { slot, maker, pins: 0, last_use: self.clock, proven: false });
            self.changes.add(*key, plane);
            self.policy.touch(key, plane);
        }
    }

    /// Puts this node's bytes in the place of a peer's, if the plane has such and nobody reads them.
    fn replace(&mut self, link: &Link, slot: Slot) -> Committed {
        let plane = slot.plane();
        let clock = self.clock;
        let kept = self.index.get_mut(&link.key).and_then(|entry| entry.planes[plane as usize].as_mut());
        let Some(kept) = kept.filter(|kept| kept.maker != Maker::Own && kept.pins == 0) else {
            return Committed::AlreadyHeld(slot);
        };
        let foreign = self.slab.slot(plane, kept.slot);
        *kept = Kept { slot: slot.index(), maker: Maker::Own, last_use: clock, ..*kept };
        for other in Plane::ALL.into_iter().filter(|&other| self.slab.slot_bytes(other) == 0) {
            let bare = self.index.get_mut(&link.key).and_then(|entry| entry.planes[other as usize].as_mut());
            bare.into_iter().for_each(|kept| kept.maker = Maker::Own);
        }
        Committed::Replaced(foreign)
    }

    fn pin_slot(&mut self, key: &BlockKey, plane: Plane) -> Option<(SlotIndex, Maker)> {
        let clock = self.clock;
        let entry = self.index.get_mut(key).filter(|entry| !entry.leaving)?;
        let kept = entry.planes[plane as usize].as_mut()?;
        kept.pins = kept.pins.checked_add(1)?;
        let answer = (kept.slot, kept.maker);
        // Whoever commits a plane and then pins it uses it once.
        if kept.last_use != clock {
            kept.last_use = clock;
            self.policy.touch(key, plane);
        }
        Some(answer)
    }

    /// Frees one plane, if it is there. Its entry stays.
    fn drop_plane(&mut self, key: &BlockKey, plane: Plane) {
        let Some(entry) = self.index.get_mut(key) else { return };
        let Some(kept) = entry.planes[plane as usize].take() else { return };
        if !entry.leaving {
            self.changes.remove(*key, plane);
        }
        self.slab.put(plane, kept.slot);
    }

    /// Removes `key`, and then the blocks before it, as long as they have no bytes, no child and no pin.
    fn settle(&mut self, mut key: BlockKey) {
        let bare = |entry: &Entry, slab: &Slab| {
            let bytes = |plane: &Plane| entry.planes[*plane as usize].is_some() && slab.slot_bytes(*plane) > 0;
            entry.children == 0 && !entry.pinned() && !Plane::ALL.iter().any(bytes)
        };
        while self.index.get(&key).is_some_and(|entry| bare(entry, &self.slab)) {
            Plane::ALL.into_iter().for_each(|plane| self.drop_plane(&key, plane));
            self.mark(key, -1);
            let Some(gone) = self.index.remove(&key) else { return };
            key = gone.link.parent;
            self.remove_child(&key);
        }
    }

    /// Removes a block that has no child and no pin.
    fn evict_entry(&mut self, key: BlockKey) {
        for plane in Plane::ALL {
            let kept = self.index.get(&key).is_some_and(|entry| entry.planes[plane as usize].is_some());
            self.counts.evicted += u64::from(kept && self.slab.slot_bytes(plane) > 0);
            self.drop_plane(&key, plane);
        }
        self.settle(key);
    }
}
