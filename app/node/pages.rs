//! The pages of a prompt under way: which block planes it has pinned in the cache, which slots are its own, and when one turns into
//! the other.

use std::mem;
use std::sync::Arc;

use crate::cache::{Committed, Link, Slot};
use crate::id::{BlockKey, Millis};
use crate::kv::{BlockPages, KvShape, Page, Plane, Sequence, copy_tokens};
use crate::limits::BLOCK_TOKENS;

use super::Node;
use super::prompt::Active;
use super::supply::Supply;

/// Where one plane of one block of the sequence is.
#[derive(Debug)]
pub(super) enum Place {
    /// Not needed, or not yet.
    None,
    /// In the cache, pinned.
    Pinned(BlockKey, Plane, Page),
    /// In a slot that only this prompt knows.
    Private(Slot),
}

impl Active {
    pub(super) fn place(&mut self, block: usize, plane: Plane) -> &mut Place {
        while self.places.len() <= block {
            self.places.push([Place::None, Place::None]);
        }
        &mut self.places[block][plane as usize]
    }

    /// The pages as the engine wants them.
    pub(super) fn sequence(&self, shape: &Arc<KvShape>) -> Sequence {
        let page = |place: &Place| match place {
            Place::None => None,
            Place::Pinned(_, _, page) => Some(page.clone()),
            Place::Private(slot) => Some(slot.page().clone()),
        };
        let blocks = self.places.iter().map(|[global, sliding]| BlockPages { global: page(global), sliding: page(sliding) });
        Sequence { shape: shape.clone(), blocks: blocks.collect() }
    }
}

impl Node {
    /// Pins what this node holds of the blocks before `resume`, so that making room for the rest does not evict it.
    pub(super) fn hold_own(&mut self, active: &mut Active, supply: &Supply, resume: usize) {
        let near = self.config.shape.first_sliding(resume);
        for (block, link) in supply.links.iter().enumerate().take(resume / BLOCK_TOKENS) {
            for plane in Plane::ALL {
                let needed = plane == Plane::Global || (block + 1) * BLOCK_TOKENS > near;
                if needed && matches!(active.place(block, plane), Place::None) {
                    self.pin(active, block, plane, link);
                }
            }
        }
    }

    fn pin(&mut self, active: &mut Active, block: usize, plane: Plane, link: &Link) -> bool {
        let Some(page) = self.cache.pin(link, plane) else { return false };
        *active.place(block, plane) = Place::Pinned(link.key, plane, page);
        true
    }

    /// Keeps a fetched plane: commits it to the cache and pins it for this prompt. False when the cache cannot take it.
    pub(super) fn keep_fetched(&mut self, active: &mut Active, block: usize, link: &Link, slot: Slot) -> bool {
        let plane = slot.plane();
        match self.cache.commit(link, slot) {
            Committed::Inserted => {}
            Committed::AlreadyHeld(slot) => self.cache.release(slot),
            Committed::Refused(slot, _) => {
                self.cache.release(slot);
                return false;
            }
        }
        if link.is_full() && matches!(active.place(block, plane), Place::None) {
            self.pin(active, block, plane, link);
        }
        true
    }

    pub(super) fn release_beyond(&mut self, active: &mut Active, resume: usize) {
        for block in resume / BLOCK_TOKENS..active.places.len() {
            for plane in Plane::ALL {
                let place = mem::replace(active.place(block, plane), Place::None);
                self.release_place(place);
            }
        }
    }

    /// When work resumes within a block, that block is this prompt's own: its first tokens are copied from the cached block.
    /// False, with nothing kept of the block, when there is no room for the copy.
    pub(super) fn resume_within(&mut self, active: &mut Active, supply: &Supply, resume: usize) -> bool {
        let block = resume / BLOCK_TOKENS;
        let count = resume % BLOCK_TOKENS;
        if count == 0 {
            return true;
        }
        let link = &supply.links[block];
        for plane in Plane::ALL {
            let Some(source) = self.cache.pin(link, plane) else { break };
            let slot = self.reserve(plane);
            if let Some(slot) = slot {
                self.copy(plane, count, (&source, link.tokens.len()), (slot.page(), BLOCK_TOKENS));
                *active.place(block, plane) = Place::Private(slot);
            }
            self.cache.unpin(&link.key, plane);
            if matches!(active.place(block, plane), Place::None) {
                break;
            }
        }
        let whole = Plane::ALL.into_iter().all(|plane| !matches!(active.place(block, plane), Place::None));
        if !whole {
            self.release_beyond(active, resume - count);
        }
        whole
    }

    pub(super) fn reserve(&mut self, plane: Plane) -> Option<Slot> {
        let catalog = &self.catalog;
        self.cache.reserve(plane, &|key| catalog.held_by_any(key, plane)).ok()
    }

    /// As `reserve`, for what an answer cannot do without: connections whose peers hold on to planes give way to it, the one that
    /// holds most first.
    pub(super) fn reserve_before_peers(&mut self, plane: Plane, now: Millis) -> Option<Slot> {
        loop {
            let slot = self.reserve(plane);
            if slot.is_some() || !self.end_serving(now) {
                return slot;
            }
        }
    }

    /// Commits the blocks that have become whole, and lets go of sliding planes that the window has left behind.
    pub(super) fn share_finished(&mut self, active: &mut Active) {
        let whole = if active.outdated { 0 } else { active.ready / BLOCK_TOKENS };
        for block in 0..whole {
            if !active.places[block].iter().any(|place| matches!(place, Place::Private(_))) {
                continue;
            }
            let Some(link) = self.link_of(active, block) else { return };
            for plane in Plane::ALL {
                self.share_plane(active, block, plane, &link);
            }
        }
        let near = self.config.shape.first_sliding(active.ready);
        for block in 0..near / BLOCK_TOKENS {
            let place = mem::replace(active.place(block, Plane::Sliding), Place::None);
            self.release_place(place);
        }
    }

    fn share_plane(&mut self, active: &mut Active, block: usize, plane: Plane, link: &Link) {
        match mem::replace(active.place(block, plane), Place::None) {
            Place::Private(slot) => match self.cache.commit(link, slot) {
                Committed::Refused(slot, _) => *active.place(block, plane) = Place::Private(slot),
                committed => {
                    if let Some(slot) = committed.into_slot() {
                        self.cache.release(slot);
                    }
                    assert!(self.pin(active, block, plane, link), "a plane that was just committed can be pinned");
                }
            },
            other => *active.place(block, plane) = other,
        }
    }

    /// The link of a whole block of the sequence, prompt or answer.
    fn link_of(&self, active: &mut Active, block: usize) -> Option<Link> {
        while active.links.len() <= block {
            let at = active.links.len();
            let parent = active.links.last().map_or(self.root, |link| link.key);
            let tokens = active.tokens.get(at * BLOCK_TOKENS..(at + 1) * BLOCK_TOKENS)?;
            active.links.push(crate::cache::link(&self.secret, parent, tokens));
        }
        active.links.get(block).cloned()
    }

    /// Commits a packed copy of the ragged end, so that the same prompt, or one that goes on from it, resumes right here. Without
    /// room nothing is lost but that.
    pub(super) fn share_ragged(&mut self, active: &mut Active) {
        let count = active.ready % BLOCK_TOKENS;
        let block = active.ready / BLOCK_TOKENS;
        if count == 0 || active.outdated {
            return;
        }
        let parent = match block.checked_sub(1) {
            None => self.root,
            Some(before) => match self.link_of(active, before) {
                Some(link) => link.key,
                None => return,
            },
        };
        let link = crate::cache::link(&self.secret, parent, &active.tokens[active.ready - count..active.ready]);
        for plane in Plane::ALL {
            if self.cache.holds(&link, plane) {
                continue;
            }
            let Some(slot) = self.reserve(plane) else { return };
            if let Place::Private(source) = &active.places[block][plane as usize] {
                self.copy(plane, count, (source.page(), BLOCK_TOKENS), (slot.page(), count));
            } else {
                return self.cache.release(slot);
            }
            if let Some(slot) = self.cache.commit(&link, slot).into_slot() {
                return self.cache.release(slot);
            }
        }
    }

    /// Copies the first `count` tokens of a plane. Planes of no bytes share one page, which cannot be read and written at once.
    fn copy(&self, plane: Plane, count: usize, (from, from_tokens): (&Page, usize), (to, to_tokens): (&Page, usize)) {
        if self.config.shape.plane_bytes(plane, 1) > 0 {
            let (from, mut to) = (from.read(), to.write());
            copy_tokens(&self.config.shape, plane, count, (&from, from_tokens), (&mut to, to_tokens));
        }
    }

    pub(super) fn let_go(&mut self, active: Active) {
        for place in active.places.into_iter().flatten() {
            self.release_place(place);
        }
    }

    fn release_place(&mut self, place: Place) {
        match place {
            Place::None => {}
            Place::Pinned(key, plane, _) => drop(self.cache.unpin(&key, plane)),
            Place::Private(slot) => self.cache.release(slot),
        }
    }
}
