//! The cache itself: combines slab, index, eviction and the list of changes.
//!
//! A plane's life: [`Cache::reserve`] a slot, fill its page, [`Cache::commit`] it under its link,
//! [`Cache::pin`] it while it is in use. A plane in which the model has no layer is present as soon
//! as its block is; it needs none of these calls, but all of them work.

mod commit;
mod follow;
mod withdraw;

use std::sync::Arc;

use serde::Serialize;

use super::changes::{Change, Changes};
use super::evict::{Policy, Room, reach};
use super::index::{Entry, Index, Maker};
use super::keeper::PeerCopy;
use super::slab::{Slab, Slot};
use super::{CacheError, Link};
use crate::id::{BlockKey, SlotIndex, TokenId};
use crate::kv::{KvShape, Page, Plane};
use crate::limits::BLOCK_TOKENS;

pub use commit::Committed;
#[cfg(test)]
pub(super) use commit::Refusal;

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
    /// Counts reservations: uses between two of them count as simultaneous.
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

/// A plane of a block that is here, as served to a peer.
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
    /// The bytes at the front of `page` that belong to the plane, packed for `tokens.len()` tokens.
    pub bytes: usize,
}

/// One plane's counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct PlaneStats {
    /// All slots; zero if the model has no layer in the plane.
    pub slots: usize,
    /// Slots that hold a committed plane.
    pub held: usize,
    /// Slots that are being filled or kept by a caller.
    pub reserved: usize,
    /// Held planes that are in use.
    pub pinned: usize,
    /// Bytes of one slot.
    pub slot_bytes: usize,
}

/// The cache's counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct CacheStats {
    /// By `Plane as usize`.
    pub planes: [PlaneStats; 2],
    /// Blocks in the index.
    pub entries: usize,
    /// Blocks that the index has room for.
    pub capacity: usize,
    /// Changes not yet polled.
    pub(crate) pending_changes: usize,
    /// Planes committed since the start.
    pub(crate) inserted: u64,
    /// Planes evicted since the start, not counting resets.
    pub evicted: u64,
    /// How often another block had the requested key.
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
    /// A cache of at most `budget_bytes` of slots, plus fixed tables of some 350 bytes a block.
    /// `root` is the key before every first block.
    pub fn new(
        shape: Arc<KvShape>,
        root: BlockKey,
        budget_bytes: usize,
    ) -> Result<Cache, CacheError> {
        let slab = Slab::new(&shape, budget_bytes)?;
        let blocks = slab.blocks();
        let index = Index::new(blocks);
        let changes = Changes::new(2 * blocks);
        let policy = Policy::new(Plane::ALL.map(|plane| slab.slots(plane).0));
        let reach = reach(&shape);
        Ok(Cache {
            shape,
            root,
            slab,
            index,
            changes,
            policy,
            reach,
            clock: 0,
            counts: Counts::default(),
        })
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

    /// Whether the plane of exactly this block is here.
    pub fn holds(&self, link: &Link, plane: Plane) -> bool {
        self.index
            .get(&link.key)
            .is_some_and(|entry| entry.is(link) && entry.visible(plane).is_some())
    }

    /// The plane of the block with this key, without pinning it.
    pub fn entry(&self, key: &BlockKey, plane: Plane) -> Option<Held> {
        let entry = self.index.get(key)?;
        let kept = entry.visible(plane)?;
        let page = self.slab.page(plane, kept.slot);
        let bytes = self.shape.plane_bytes(plane, entry.tokens().len());
        Some(Held {
            parent: entry.link.parent,
            tokens: entry.tokens().clone(),
            page,
            maker: kept.maker,
            bytes,
        })
    }

    /// Pins the plane of exactly this block and counts a use. Until the matching [`Cache::unpin`]
    /// its page stays as it is. Returns the page and the maker of its bytes, or `None` when the
    /// plane is not here.
    pub fn pin(&mut self, link: &Link, plane: Plane) -> Option<(Page, Maker)> {
        if !self.index.get(&link.key)?.is(link) {
            self.counts.collisions += 1;
            return None;
        }
        let (slot, maker) = self.pin_slot(&link.key, plane)?;
        Some((self.slab.page(plane, slot), maker))
    }

    /// Like [`Cache::pin`], but does not count a use: for callers that only inspect a block and
    /// answer no prompt with it.
    pub(crate) fn hold(&mut self, link: &Link, plane: Plane) -> Option<(Page, Maker)> {
        let kept =
            self.index.get_mut(&link.key).filter(|entry| entry.is(link) && !entry.leaving)?.planes
                [plane as usize]
                .as_mut()?;
        kept.pins = kept.pins.checked_add(1)?;
        let (slot, maker) = (kept.slot, kept.maker);
        Some((self.slab.page(plane, slot), maker))
    }

    /// Like [`Cache::pin`], for a peer that knows only the key; the peer compares parent
    /// and tokens.
    pub fn pin_key(&mut self, key: &BlockKey, plane: Plane) -> Option<Held> {
        let held = self.entry(key, plane)?;
        self.pin_slot(key, plane)?;
        Some(held)
    }

    /// Releases one pin. Returns whether there was one.
    pub fn unpin(&mut self, key: &BlockKey, plane: Plane) -> bool {
        let Some(entry) = self.index.get_mut(key) else { return false };
        let Some(kept) = entry.planes[plane as usize].as_mut().filter(|kept| kept.pins > 0) else {
            return false;
        };
        kept.pins -= 1;
        if kept.pins == 0 && entry.leaving {
            self.drop_plane(key, plane);
            self.settle(*key);
        }
        true
    }

    /// Reserves a slot to fill: a free one, or that of the plane that can best be spared
    /// (docs/inside/eviction.md). Pinned planes and blocks with children are never evicted; a block
    /// that loses its global plane is evicted whole. `spared` says of a peer's copy whether another
    /// node keeps this plane of it, so that it may be evicted before planes that are only here: it
    /// is [`outranked`](super::outranked) over the presumed holders.
    pub fn reserve(
        &mut self,
        plane: Plane,
        spared: &dyn Fn(&PeerCopy) -> bool,
    ) -> Result<Slot, CacheError> {
        self.clock += 1;
        if let Some(slot) = self.slab.take(plane) {
            return Ok(slot);
        }
        if let Some(key) =
            self.policy.victim(&mut self.index, Room::Slot(plane), self.clock, spared)
        {
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

    /// Returns a slot unused.
    pub fn release(&mut self, slot: Slot) {
        self.slab.put(slot.plane(), slot.index());
    }

    /// The next change of the contents. Replayed, the changes give exactly the planes for which
    /// [`Cache::holds`] is true. Unpolled changes are netted, so they stay bounded.
    pub(crate) fn poll_change(&mut self) -> Option<Change> {
        self.changes.poll()
    }

    /// The counters, computed in one pass over the index.
    pub fn stats(&self) -> CacheStats {
        let figures = |plane: Plane| {
            let (slots, free) = self.slab.slots(plane);
            let kept = || self.index.iter().filter_map(|entry| entry.planes[plane as usize]);
            let held = if slots == 0 { 0 } else { kept().count() };
            let pinned = kept().filter(|kept| kept.pins > 0).count();
            PlaneStats {
                slots,
                held,
                reserved: slots - free - held,
                pinned,
                slot_bytes: self.slab.slot_bytes(plane),
            }
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

    /// Counts a child of `parent`. With its first child it is no longer the end of a chain; with
    /// its second, prompts have parted there.
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

    /// Removes a child of `parent`, which may become the end of a chain again.
    fn remove_child(&mut self, parent: &BlockKey) {
        let Some(entry) = self.index.get_mut(parent) else { return };
        entry.children -= 1;
        if entry.children == 0 && !entry.branched {
            self.mark(*parent, 1);
        }
    }

    /// Adds `by` likely resume points after the block `key`, at all blocks whose sliding planes
    /// they need.
    fn mark(&mut self, mut key: BlockKey, by: i32) {
        for _ in 0..self.reach {
            let Some(entry) = self.index.get_mut(&key) else { return };
            entry.resumes = entry.resumes.saturating_add_signed(by);
            key = entry.link.parent;
        }
    }

    fn pin_slot(&mut self, key: &BlockKey, plane: Plane) -> Option<(SlotIndex, Maker)> {
        let clock = self.clock;
        let entry = self.index.get_mut(key).filter(|entry| !entry.leaving)?;
        let kept = entry.planes[plane as usize].as_mut()?;
        kept.pins = kept.pins.checked_add(1)?;
        let answer = (kept.slot, kept.maker);
        // A commit and the pin that follows it count as one use.
        if kept.last_use != clock {
            kept.last_use = clock;
            self.policy.touch(key, plane);
        }
        Some(answer)
    }

    /// Frees one plane, if it is here. Its entry stays.
    fn drop_plane(&mut self, key: &BlockKey, plane: Plane) {
        let Some(entry) = self.index.get_mut(key) else { return };
        let Some(kept) = entry.planes[plane as usize].take() else { return };
        if !entry.leaving {
            self.changes.remove(*key, plane);
        }
        self.slab.put(plane, kept.slot);
    }

    /// Removes `key`, and then the blocks before it, as long as they have no bytes, no child and
    /// no pin.
    fn settle(&mut self, mut key: BlockKey) {
        let bare = |entry: &Entry, slab: &Slab| {
            let bytes = |plane: &Plane| {
                entry.planes[*plane as usize].is_some() && slab.slot_bytes(*plane) > 0
            };
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

    /// Evicts a block that has no child and no pin.
    fn evict_entry(&mut self, key: BlockKey) {
        for plane in Plane::ALL {
            let kept =
                self.index.get(&key).is_some_and(|entry| entry.planes[plane as usize].is_some());
            self.counts.evicted += u64::from(kept && self.slab.slot_bytes(plane) > 0);
            self.drop_plane(&key, plane);
        }
        self.settle(key);
    }
}
