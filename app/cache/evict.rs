//! Who goes when room is needed; docs/inside/eviction.md has the reasons and what was measured.
//!
//! Nothing pinned goes, and nothing that a child stands on. Of the rest, in this order:
//!
//! 1. What is of no use here, longest unused first: sliding planes that no likely resume point needs, and ends of chains without their
//!    sliding plane.
//! 2. Copies of a peer's blocks that another node keeps (`keeper`), least used first.
//! 3. What the better of two policies says. *Recency*: what was used longest ago. *Frequency*: newcomers are on probation and go in the
//!    order of their last use; one that was used more often than the weakest of the proven takes its place (W-TinyLFU, with the
//!    whole pool in sight). Both are played on keys alone (`shadow`), and the one that has missed less of late is followed.
//!
//! A ragged block counts as older than it is, for it saves fewer tokens. Ties go to the deeper block, then by key, so that the choice is
//! the same everywhere. One choice is one run over the index; where places of the proven are free, as when a slab first fills, the oldest
//! newcomers get them all at once, in a second run, and a third chooses.

use core::cmp::Reverse;

use super::index::{Entry, Index, Maker};
use super::keeper::PeerCopy;
use super::shadow::{Shadow, beats};
use super::sketch::Sketch;
use crate::id::BlockKey;
use crate::kv::{KvShape, Plane};
use crate::limits::BLOCK_TOKENS;

/// The part of a pool that is for newcomers: one slot in ten, and in small pools up to half of it, so that what was just committed
/// stays for a while.
fn probation(slots: usize) -> usize {
    slots.div_ceil(10).max(slots.div_ceil(2).min(8))
}

/// Pools of uses over which misses are remembered.
const HORIZON: u64 = 2;

/// The part of its misses that recency must lose against frequency before it is given up: one in twelve. With less, requests without any
/// pattern make the cache change its mind in vain; with more, it is too late where popularity moves.
const CLEARLY: u64 = 12;

/// One miss, as the fading sums count it.
const MISS: u64 = 1 << 16;

/// The part of a window that is kept before it as well, one in four: the next prompt may part that much earlier, as one does that asks
/// another question after the same examples.
const SLACK: usize = 4;

/// What room is needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// A slot of the plane.
    Slot(Plane),
    /// An entry of the index.
    Entry,
}

impl Room {
    /// The plane whose uses decide.
    fn plane(self) -> Plane {
        match self {
            Room::Slot(plane) => plane,
            Room::Entry => Plane::Global,
        }
    }

    /// When `entry` was last used, if it may make this room. What a reset has taken back has only pinned planes left, if any,
    /// so that it is never the one.
    fn offered_by(self, entry: &Entry) -> Option<u64> {
        let whole = || {
            let last_use = entry.planes.iter().flatten().map(|kept| kept.last_use).max()?;
            (entry.children == 0 && !entry.pinned()).then_some(last_use)
        };
        match self {
            Room::Slot(Plane::Sliding) => entry.visible(Plane::Sliding).filter(|kept| kept.pins == 0).map(|kept| kept.last_use),
            Room::Slot(Plane::Global) => entry.visible(Plane::Global).and_then(|_| whole()),
            Room::Entry => whole(),
        }
    }

    /// Whether `entry`, which may make this room, is of no use here.
    fn is_useless(self, entry: &Entry) -> bool {
        match self {
            Room::Slot(Plane::Sliding) => entry.resumes == 0,
            Room::Slot(Plane::Global) | Room::Entry => entry.planes[Plane::Sliding as usize].is_none(),
        }
    }
}

/// Blocks whose sliding planes a resume point makes worth keeping, its own included.
pub(super) fn reach(shape: &KvShape) -> usize {
    let far = 1 << 24;
    let window = far - shape.first_sliding(far);
    window.div_ceil(BLOCK_TOKENS) + 1 + window / BLOCK_TOKENS / SLACK
}

/// One pool's policies, played on keys.
struct Pool {
    slots: usize,
    probation: usize,
    recency: Shadow,
    frequency: Shadow,
    /// Fading sums of what each has missed.
    missed: [u64; 2],
}

impl Pool {
    fn new(slots: usize) -> Pool {
        let probation = probation(slots);
        let (recency, frequency) = (Shadow::new(slots, None), Shadow::new(slots, Some(probation)));
        Pool { slots, probation, recency, frequency, missed: [0; 2] }
    }

    fn touch(&mut self, key: &BlockKey, now: u64, sketch: &Sketch) {
        if self.slots == 0 {
            return;
        }
        let hits = [&mut self.recency, &mut self.frequency].map(|shadow| shadow.touch(key, now, sketch));
        for (missed, hit) in self.missed.iter_mut().zip(hits) {
            *missed -= *missed / (HORIZON * self.slots as u64);
            *missed += if hit { 0 } else { MISS };
        }
    }
}

/// What the policy knows. All memory is taken at start: some 70 bytes a slot.
pub(super) struct Policy {
    pools: [Pool; 2],
    sketch: Sketch,
    uses: u64,
    /// Whether recency is followed. Frequency is tried first, for it loses nothing to a first flood.
    by_recency: bool,
    /// Places of newcomers in the index, while the oldest are found.
    elders: Vec<u32>,
    /// Entries that choices have looked at.
    #[cfg(test)]
    pub(super) looked_at: usize,
    /// What the trials compare with.
    #[cfg(test)]
    pub(super) rival: Option<super::trials::Rival>,
}

/// What goes first is lowest: the least used, of these the oldest, of these the deepest.
type Rank = (u8, Reverse<u64>, Reverse<u32>, BlockKey);

impl Policy {
    /// For pools of `slots` slots, by `Plane as usize`.
    pub(super) fn new(slots: [usize; 2]) -> Policy {
        let most = slots.into_iter().max().unwrap_or(0);
        Policy {
            pools: slots.map(Pool::new),
            sketch: Sketch::new(most),
            uses: 0,
            by_recency: false,
            elders: Vec::with_capacity(slots.into_iter().sum()),
            #[cfg(test)]
            looked_at: 0,
            #[cfg(test)]
            rival: None,
        }
    }

    /// Notes that a plane of the block was used, or came.
    pub(super) fn touch(&mut self, key: &BlockKey, plane: Plane) {
        // The count is the block's, whichever plane it is, so that both pools prefer the same blocks.
        if plane == Plane::Global || self.pools[Plane::Global as usize].slots == 0 {
            self.sketch.add(key);
        }
        self.uses += 1;
        self.pools[plane as usize].touch(key, self.uses, &self.sketch);
        let [recency, frequency] = [0, 1].map(|policy| self.pools[0].missed[policy] + self.pools[1].missed[policy]);
        // Back to frequency only where it is clearly better: each change of the policy loses what the other has gathered.
        if recency < frequency {
            self.by_recency = true;
        } else if frequency < recency - recency / CLEARLY {
            self.by_recency = false;
        }
    }

    /// The block that makes room, or `None` when all are needed. `spared` says of a copy that a peer gave whether another node keeps
    /// it; it is asked only about what would go next if so.
    pub(super) fn victim(
        &mut self,
        index: &mut Index,
        room: Room,
        now: u64,
        spared: &dyn Fn(&PeerCopy) -> bool,
    ) -> Option<BlockKey> {
        #[cfg(test)]
        if let Some(rival) = &self.rival {
            return rival.victim(index, |entry| room.offered_by(entry), |entry| room.is_useless(entry));
        }
        let plane = room.plane();
        let pool = &self.pools[plane as usize];
        let by_recency = self.by_recency || room == Room::Entry;
        let proven_slots = pool.slots - pool.probation;
        loop {
            let [mut useless, mut copy, mut newcomer, mut weakest]: [Option<Rank>; 4] = [None; 4];
            let mut proven = 0;
            #[cfg(test)]
            {
                self.looked_at += index.len();
            }
            for entry in index.iter() {
                let kept = entry.planes[plane as usize].as_ref();
                let is_proven = kept.is_some_and(|kept| kept.proven);
                proven += usize::from(is_proven);
                let Some(last_use) = room.offered_by(entry) else { continue };
                let count = self.sketch.count(&entry.link.key);
                let age = age(entry, last_use, now);
                let rank = |count| (count, Reverse(age), Reverse(entry.depth), entry.link.key);
                if room.is_useless(entry) {
                    lower(&mut useless, rank(0));
                } else if is_proven && !by_recency {
                    lower(&mut weakest, rank(count));
                } else {
                    lower(&mut newcomer, rank(0));
                }
                let is_copy = kept.is_some_and(|kept| kept.maker != Maker::Own) && useless.is_none();
                if is_copy && copy.is_none_or(|copy| rank(count) < copy) {
                    let asked = PeerCopy { key: entry.link.key, stem: entry.stem };
                    if spared(&asked) {
                        copy = Some(rank(count));
                    }
                }
            }
            if let Some(first) = useless.or(copy) {
                return Some(first.3);
            }
            let (Some(next), false) = (newcomer, by_recency) else { return newcomer.or(weakest).map(|rank| rank.3) };
            match weakest {
                _ if proven < proven_slots => self.prove_eldest(index, room, proven_slots - proven, now),
                Some(weakest) if proven > proven_slots => return Some(weakest.3),
                Some(weakest) if beats(self.sketch.count(&next.3), weakest.0) => {
                    prove(index, &next.3, plane);
                    return Some(weakest.3);
                }
                _ => return Some(next.3),
            }
        }
    }
}

impl Policy {
    /// So many newcomers, those used longest ago, are off probation.
    fn prove_eldest(&mut self, index: &mut Index, room: Room, count: usize, now: u64) {
        let plane = room.plane() as usize;
        #[cfg(test)]
        {
            self.looked_at += index.len();
        }
        let newcomer = |entry: &Entry| {
            let proven = entry.planes[plane].is_some_and(|kept| kept.proven);
            room.offered_by(entry).is_some() && !room.is_useless(entry) && !proven
        };
        self.elders.clear();
        self.elders.extend((0..).zip(index.iter()).filter(|(_, entry)| newcomer(entry)).map(|(place, _)| place));
        if count < self.elders.len() {
            let rank = |place: &u32| {
                let entry = index.at(*place);
                let last_use = room.offered_by(entry).unwrap_or(now);
                (Reverse(age(entry, last_use, now)), entry.depth, entry.link.key)
            };
            self.elders.select_nth_unstable_by_key(count, rank);
            self.elders.truncate(count);
        }
        for place in self.elders.drain(..) {
            if let Some(kept) = &mut index.at_mut(place).planes[plane] {
                kept.proven = true;
            }
        }
    }
}

/// How long ago the block was used, by the cache's clock; a ragged one counts as older.
fn age(entry: &Entry, last_use: u64, now: u64) -> u64 {
    (now + 1 - last_use) * BLOCK_TOKENS as u64 / entry.tokens().len() as u64
}

fn lower(least: &mut Option<Rank>, rank: Rank) {
    if least.is_none_or(|least| rank < least) {
        *least = Some(rank);
    }
}

fn prove(index: &mut Index, key: &BlockKey, plane: Plane) {
    if let Some(kept) = index.get_mut(key).and_then(|entry| entry.planes[plane as usize].as_mut()) {
        kept.proven = true;
    }
}
