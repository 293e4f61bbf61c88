//! How the table uses the cache. State that an answer depends on, and blocks computed whole,
//! are committed and pinned. Jobs get slots to write to. Planes that the window has left behind
//! are released.

use std::mem;
use std::sync::Arc;

use crate::cache::{Committed, Link, Maker, Slot};
use crate::id::{Millis, TokenId};
use crate::kv::{BlockPages, KvShape, Page, Plane, Sequence, copy_tokens};
use crate::limits::BLOCK_TOKENS;

use super::super::conns::Conns;
use super::super::shared::Shared;
use super::blocks::{Blocks, Cell, Row, Taken};

/// The slots that a job writes: new ones for each plane of its rows. None where the job continues
/// to fill the row's own slot.
pub(super) type JobSlots = Vec<[Option<Slot>; 2]>;

impl Blocks {
    /// Moves on to `resume`: commits the state beyond `ready` that it depends on, and releases what
    /// lies before its window. False if there is no room to continue within a block. The block is
    /// then dropped, and the caller recomputes how far it can go.
    pub(super) fn commit_up_to(
        &mut self,
        shared: &mut Shared,
        conns: &mut Conns,
        ready: usize,
        resume: usize,
        now: Millis,
    ) -> bool {
        debug_assert!(
            ready.is_multiple_of(BLOCK_TOKENS),
            "a partly filled block is finished by computing"
        );
        let within = !resume.is_multiple_of(BLOCK_TOKENS);
        let slots = if within { Blocks::reserve_both(shared, conns, now) } else { None };
        if within && slots.is_none() {
            self.drop_ending(shared, conns, now);
            return false;
        }
        let window = shared.config.shape.first_sliding(resume);
        for at in ready / BLOCK_TOKENS..resume / BLOCK_TOKENS {
            let keeps = self.keeps;
            let row = &mut self.rows[at];
            let mut from = None;
            for plane in Plane::ALL {
                if plane == Plane::Global || (at + 1) * BLOCK_TOKENS > window {
                    from = from.max(adopt(shared, row, plane, keeps));
                } else {
                    Blocks::clear(shared, conns, row, plane, Cell::Passed, now);
                }
            }
            row.taken = Taken { tokens: BLOCK_TOKENS, from };
        }
        if let Some(slots) = slots {
            self.copy_ending(shared, conns, resume % BLOCK_TOKENS, slots, now);
        }
        // An ending that lies further on is still useful: only the head has advanced this far.
        if within || self.ending.as_ref().is_some_and(|ending| ending.row * BLOCK_TOKENS < resume) {
            self.drop_ending(shared, conns, now);
        }
        self.pass_window(shared, conns, resume, now);
        true
    }

    /// Slots for a block of the prompt's own. Fetched planes are not dropped for it, because the
    /// prompt is about to depend on them.
    fn reserve_both(shared: &mut Shared, conns: &mut Conns, now: Millis) -> Option<[Slot; 2]> {
        let mut one = |plane| loop {
            let slot = shared.reserve(plane);
            if slot.is_some() || !conns.end_serving(shared, now) {
                return slot;
            }
        };
        match (one(Plane::Global), one(Plane::Sliding)) {
            (Some(global), Some(sliding)) => Some([global, sliding]),
            (global, sliding) => {
                global.into_iter().chain(sliding).for_each(|slot| shared.cache.release(slot));
                None
            }
        }
    }

    /// Copies the first tokens of the ending into a block of the prompt's own, which
    /// continues differently.
    fn copy_ending(
        &mut self,
        shared: &mut Shared,
        conns: &mut Conns,
        count: usize,
        slots: [Slot; 2],
        now: Millis,
    ) {
        let Some(ending) = &mut self.ending else {
            return slots.into_iter().for_each(|slot| shared.cache.release(slot));
        };
        let at = ending.row;
        let stored = ending.link().tokens.len();
        let mut from = None;
        let mut cells = [Cell::Missing, Cell::Missing];
        for (plane, slot) in Plane::ALL.into_iter().zip(slots) {
            let maker = match &ending.block.cells[plane as usize] {
                Cell::Arrived { from: node, slot: source } => {
                    copy(
                        &shared.config.shape,
                        plane,
                        count,
                        (source.page(), stored),
                        (slot.page(), BLOCK_TOKENS),
                    );
                    from = Some(*node);
                    Maker::Peer(*node)
                }
                Cell::Shared { page, maker } => {
                    copy(
                        &shared.config.shape,
                        plane,
                        count,
                        (page, stored),
                        (slot.page(), BLOCK_TOKENS),
                    );
                    *maker
                }
                // A plane without layers has no bytes and needs none.
                _ => {
                    debug_assert_eq!(
                        shared.config.shape.plane_bytes(plane, 1),
                        0,
                        "the resumed state is here"
                    );
                    Maker::Own
                }
            };
            cells[plane as usize] = Cell::Own { slot, maker };
            // A whole block becomes the row itself, once its last token is computed.
            if stored < BLOCK_TOKENS {
                adopt(shared, &mut ending.block, plane, self.keeps);
            }
        }
        while self.rows.len() <= at {
            self.rows.push(Row::empty(None));
        }
        let row = &mut self.rows[at];
        for (plane, cell) in Plane::ALL.into_iter().zip(cells) {
            Blocks::clear(shared, conns, row, plane, cell, now);
        }
        row.taken = Taken { tokens: count, from };
    }

    /// A slot that an answer cannot do without. Makes room by dropping first what was fetched but
    /// is not used, then peers being served, and last the pins ahead of token `ready`.
    fn reserve(
        &mut self,
        plane: Plane,
        ready: usize,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> Option<Slot> {
        loop {
            let slot = shared.reserve(plane);
            if slot.is_some()
                || !(self.give_up(plane, ready, shared, conns, now)
                    || conns.end_serving(shared, now))
            {
                return slot;
            }
        }
    }

    /// Slots for the rows of a job from token `first` to `end`; none if there is no room
    /// for all of them.
    pub(super) fn job_slots(
        &mut self,
        shared: &mut Shared,
        conns: &mut Conns,
        (first, end): (usize, usize),
        now: Millis,
    ) -> Option<JobSlots> {
        let mut slots = JobSlots::new();
        for at in first / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS) {
            while self.rows.len() <= at {
                self.rows.push(Row::empty(None));
            }
            let mut pair = [None, None];
            for plane in Plane::ALL {
                if at * BLOCK_TOKENS < first && self.rows[at].cells[plane as usize].page().is_some()
                {
                    continue;
                }
                pair[plane as usize] = self.reserve(plane, first, shared, conns, now);
                if pair[plane as usize].is_none() {
                    slots.push(pair);
                    give_back(shared, slots);
                    return None;
                }
            }
            slots.push(pair);
        }
        Some(slots)
    }

    /// Adds slots for `drafted` tokens after token `end`, in blocks after the last one that the job
    /// writes anyway. Returns how many of the tokens have room. A draft takes nothing that is in
    /// use, neither by this prompt nor by peers.
    pub(super) fn draft_slots(
        &mut self,
        shared: &mut Shared,
        (end, drafted): (usize, usize),
        slots: &mut JobSlots,
    ) -> usize {
        let mut room = end.next_multiple_of(BLOCK_TOKENS);
        while room < end + drafted {
            let pair = Plane::ALL.map(|plane| shared.reserve(plane));
            if pair.iter().any(Option::is_none) {
                give_back(shared, vec![pair]);
                break;
            }
            slots.push(pair);
            room += BLOCK_TOKENS;
        }
        while self.rows.len() < room / BLOCK_TOKENS {
            self.rows.push(Row::empty(None));
        }
        drafted.min(room - end)
    }

    /// The pages of a job whose rows from `first` on are written to `slots`.
    pub(super) fn sequence(
        &self,
        shape: &Arc<KvShape>,
        first: usize,
        slots: &JobSlots,
    ) -> Sequence {
        let start = first / BLOCK_TOKENS;
        let page = |at: usize, plane: Plane| {
            let slot = at
                .checked_sub(start)
                .and_then(|at| slots.get(at))
                .and_then(|pair| pair[plane as usize].as_ref());
            slot.map(Slot::page).or_else(|| self.rows[at].cells[plane as usize].page()).cloned()
        };
        let block = |at: usize| BlockPages {
            global: page(at, Plane::Global),
            sliding: page(at, Plane::Sliding),
        };
        Sequence { shape: shape.clone(), blocks: (0..start + slots.len()).map(block).collect() }
    }

    /// The job is done: its results replace whatever else has arrived for its rows.
    pub(super) fn computed(
        &mut self,
        shared: &mut Shared,
        conns: &mut Conns,
        (first, end): (usize, usize),
        slots: JobSlots,
        now: Millis,
    ) {
        for (at, pair) in (first / BLOCK_TOKENS..).zip(slots) {
            for (plane, slot) in Plane::ALL.into_iter().zip(pair) {
                if let Some(slot) = slot {
                    let cell = Cell::Own { slot, maker: Maker::Own };
                    Blocks::clear(shared, conns, &mut self.rows[at], plane, cell, now);
                }
            }
        }
        if self
            .ending
            .as_ref()
            .is_some_and(|ending| ending.row * BLOCK_TOKENS + ending.tokens <= end)
        {
            self.drop_ending(shared, conns, now);
        }
    }

    /// Commits the blocks that are complete by `ready`, and releases sliding planes that the window
    /// has left behind.
    pub(super) fn share_whole(
        &mut self,
        shared: &mut Shared,
        conns: &mut Conns,
        tokens: &[TokenId],
        ready: usize,
        now: Millis,
    ) {
        let whole = if self.keeps { ready / BLOCK_TOKENS } else { 0 };
        for at in 0..whole {
            if !self.rows[at].cells.iter().any(|cell| matches!(cell, Cell::Own { .. }))
                || !self.name(shared, tokens, at)
            {
                continue;
            }
            let row = &mut self.rows[at];
            for plane in Plane::ALL {
                adopt(shared, row, plane, true);
            }
        }
        self.pass_window(shared, conns, ready, now);
    }

    /// Makes sure that a whole row has its link; false if not all its tokens are known.
    fn name(&mut self, shared: &Shared, tokens: &[TokenId], at: usize) -> bool {
        for row in 0..=at {
            if self.rows[row].link.is_some() {
                continue;
            }
            let parent = row
                .checked_sub(1)
                .and_then(|before| self.rows[before].link.as_ref())
                .map_or(shared.root, |link| link.key);
            let Some(tokens) = tokens.get(row * BLOCK_TOKENS..(row + 1) * BLOCK_TOKENS) else {
                return false;
            };
            self.rows[row].link = Some(crate::cache::link(&shared.secret, parent, tokens));
        }
        true
    }

    fn pass_window(&mut self, shared: &mut Shared, conns: &mut Conns, ready: usize, now: Millis) {
        let near = shared.config.shape.first_sliding(ready) / BLOCK_TOKENS;
        for row in self.rows.iter_mut().take(near) {
            Blocks::clear(shared, conns, row, Plane::Sliding, Cell::Passed, now);
        }
    }

    /// Commits a packed copy of the ragged end before `ready`, so that the same prompt, or one that
    /// extends it, resumes right there. If there is no room, only that is lost.
    pub(super) fn share_ragged(&mut self, shared: &mut Shared, tokens: &[TokenId], ready: usize) {
        let (at, count) = (ready / BLOCK_TOKENS, ready % BLOCK_TOKENS);
        if count == 0
            || !self.keeps
            || at.checked_sub(1).is_some_and(|before| !self.name(shared, tokens, before))
        {
            return;
        }
        let parent = at
            .checked_sub(1)
            .and_then(|before| self.rows[before].link.as_ref())
            .map_or(shared.root, |link| link.key);
        let link = crate::cache::link(&shared.secret, parent, &tokens[ready - count..ready]);
        for plane in Plane::ALL {
            let Some(Cell::Own { slot: source, maker }) =
                self.rows.get(at).map(|row| &row.cells[plane as usize])
            else {
                return;
            };
            if shared.cache.holds(&link, plane) {
                continue;
            }
            let Some(slot) = shared.reserve(plane) else { return };
            copy(
                &shared.config.shape,
                plane,
                count,
                (source.page(), BLOCK_TOKENS),
                (slot.page(), count),
            );
            match shared.cache.commit(&link, slot, *maker) {
                Committed::Inserted => {}
                Committed::AlreadyHeld(slot) | Committed::Replaced(slot) => {
                    shared.cache.release(slot)
                }
                Committed::Refused(slot, _) => return shared.cache.release(slot),
            }
        }
    }
}

/// Returns a job's slots unused.
pub(super) fn give_back(shared: &mut Shared, slots: JobSlots) {
    slots.into_iter().flatten().flatten().for_each(|slot| shared.cache.release(slot));
}

/// Makes the cell's bytes part of the prompt's state, and commits them if they may be kept. Returns
/// the peer that sent them, if they came from one and nothing depended on them before.
fn adopt(
    shared: &mut Shared,
    row: &mut Row,
    plane: Plane,
    keeps: bool,
) -> Option<crate::id::NodeId> {
    let (slot, maker, from) = match mem::replace(&mut row.cells[plane as usize], Cell::Missing) {
        Cell::Arrived { from, slot } => (slot, Maker::Peer(from), Some(from)),
        // At least part of it was computed here.
        Cell::Own { slot, maker } => (slot, maker, None),
        other => {
            row.cells[plane as usize] = other;
            return None;
        }
    };
    row.cells[plane as usize] = match &row.link {
        Some(link) if keeps => commit(shared, link, slot, maker, from.is_none()),
        _ => Cell::Own { slot, maker },
    };
    from
}

/// Commits a plane and pins the cache's copy. If the cache's copy is a peer's work and this one was
/// at least partly `computed` here, continues with this one.
fn commit(shared: &mut Shared, link: &Link, slot: Slot, maker: Maker, computed: bool) -> Cell {
    let plane = slot.plane();
    let (spare, slot_is_ours) = match shared.cache.commit(link, slot, maker) {
        Committed::Inserted => {
            let is_new = plane == Plane::Global
                || shared
                    .cache
                    .entry(&link.key, Plane::Global)
                    .is_none_or(|held| held.maker == Maker::Own);
            if matches!(maker, Maker::Peer(_)) && is_new {
                shared.audits.draw(link.key);
            }
            (None, false)
        }
        Committed::AlreadyHeld(slot) => (Some(slot), true),
        Committed::Replaced(slot) => (Some(slot), false),
        Committed::Refused(slot, _) => return Cell::Own { slot, maker },
    };
    let pinned = shared.cache.pin(link, plane);
    match (pinned, spare) {
        (Some((_, Maker::Peer(_))), Some(slot)) if computed && slot_is_ours => {
            shared.cache.unpin(&link.key, plane);
            Cell::Own { slot, maker }
        }
        (Some((page, maker)), spare) => {
            spare.into_iter().for_each(|slot| shared.cache.release(slot));
            Cell::Shared { page, maker }
        }
        (None, Some(slot)) if slot_is_ours => Cell::Own { slot, maker },
        (None, _) => unreachable!("a plane that was just committed can be pinned"),
    }
}

/// Copies the first `count` tokens of a plane. Planes of zero bytes share one page, which cannot be
/// read and written at once.
fn copy(
    shape: &KvShape,
    plane: Plane,
    count: usize,
    (from, from_tokens): (&Page, usize),
    (to, to_tokens): (&Page, usize),
) {
    if shape.plane_bytes(plane, 1) > 0 {
        let (from, mut to) = (from.read(), to.write());
        copy_tokens(shape, plane, count, (&from, from_tokens), (&mut to, to_tokens));
    }
}
