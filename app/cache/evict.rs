//! What is evicted when room is needed; docs/inside/eviction.md has the reasons and measurements.
//!
//! Pinned planes and blocks with children are never evicted. The rest go in this order:
//!
//! 1. What is useless here, least recently used first: sliding planes that no likely resume point
//!    needs, and ends of chains without their sliding plane.
//! 2. Copies of a peer's blocks that another node keeps (`keeper`), least frequently used first.
//! 3. What the better of two policies picks. *Recency*: the least recently used. *Frequency*:
//!    newcomers are on probation and are evicted in LRU order; a newcomer that was used more often
//!    than the weakest proven block takes its place (W-TinyLFU, with the whole pool in view). Both
//!    are simulated on keys alone (`shadow`), and the one with fewer recent misses is followed.
//!
//! A ragged block counts as older than it is, because it saves fewer tokens. Ties go to the deeper
//! block, then by key, so the choice is the same everywhere. One choice is one pass over the index.
//! When proven places are free, as when a slab first fills, the oldest newcomers get them all at
//! once in a second pass, and a third pass chooses.

use core::cmp::Reverse;

use super::index::{Entry, Index, Maker};
use super::keeper::PeerCopy;
use super::shadow::{Shadow, beats};
use super::sketch::Sketch;
use crate::id::BlockKey;
use crate::kv::{KvShape, Plane};
use crate::limits::BLOCK_TOKENS;

/// The part of a pool that is for newcomers: one slot in ten, and in small pools up to half, so
/// that a new block stays for a while.
fn probation(slots: usize) -> usize {
    slots.div_ceil(10).max(slots.div_ceil(2).min(8))
}

/// Uses over which misses are remembered, in multiples of the pool's slots.
const HORIZON: u64 = 2;

/// Recency is given up only when frequency misses less by this fraction of recency's misses: one in
/// twelve. With less, requests without any pattern cause needless switching; with more, the switch
/// comes too late when popularity shifts.
const CLEARLY: u64 = 12;

/// One miss, in the units of the decaying sums.
const MISS: u64 = 1 << 16;

/// The fraction of a window that is kept before it too, one in four: the next prompt may part that
/// much earlier, for example one that asks another question after the same examples.
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

    /// When `entry` was last used, if evicting it can make this room. A withdrawn entry has only
    /// pinned planes left, if any, so it is never offered.
    fn offered_by(self, entry: &Entry) -> Option<u64> {
        let whole = || {
            let last_use = entry.planes.iter().flatten().map(|kept| kept.last_use).max()?;
            (entry.children == 0 && !entry.pinned()).then_some(last_use)
        };
        match self {
            Room::Slot(Plane::Sliding) => entry
                .visible(Plane::Sliding)
                .filter(|kept| kept.pins == 0)
                .map(|kept| kept.last_use),
            Room::Slot(Plane::Global) => entry.visible(Plane::Global).and_then(|_| whole()),
            Room::Entry => whole(),
        }
    }

    /// Whether `entry`, which can make this room, is useless here.
    fn is_useless(self, entry: &Entry) -> bool {
        match self {
            Room::Slot(Plane::Sliding) => entry.resumes == 0,
            Room::Slot(Plane::Global) | Room::Entry => {
                entry.planes[Plane::Sliding as usize].is_none()
            }
        }
    }
}

/// Blocks whose sliding planes are worth keeping for a resume point, its own included.
pub(super) fn reach(shape: &KvShape) -> usize {
    let far = 1 << 24;
    let window = far - shape.first_sliding(far);
    window.div_ceil(BLOCK_TOKENS) + 1 + window / BLOCK_TOKENS / SLACK
}

/// One pool's policies, simulated on keys.
struct Pool {
    slots: usize,
    probation: usize,
    recency: Shadow,
    frequency: Shadow,
    /// Decaying sums of the misses of each policy.
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
        let hits =
            [&mut self.recency, &mut self.frequency].map(|shadow| shadow.touch(key, now, sketch));
        for (missed, hit) in self.missed.iter_mut().zip(hits) {
            *missed -= *missed / (HORIZON * self.slots as u64);
            *missed += if hit { 0 } else { MISS };
        }
    }
}

/// The state of the policy. All memory is allocated at start: some 70 bytes a slot.
pub(super) struct Policy {
    pools: [Pool; 2],
    sketch: Sketch,
    uses: u64,
    /// Whether recency is followed. Frequency is tried first, because a first flood costs
    /// it nothing.
    by_recency: bool,
    /// Places of newcomers in the index, scratch space for finding the oldest.
    elders: Vec<u32>,
    /// Entries examined by all choices.
    #[cfg(test)]
    pub(super) looked_at: usize,
    /// The policy that the trials compare with.
    #[cfg(test)]
    pub(super) baseline: Option<super::trials::Baseline>,
}

/// The lowest is evicted first: the least used, of these the oldest, of these the deepest.
type Rank = (u8, Reverse<u64>, Reverse<u32>, BlockKey);

impl Policy {
    /// A policy for pools of `slots` slots, by `Plane as usize`.
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
            baseline: None,
        }
    }

    /// Notes that a plane of the block was used or added.
    pub(super) fn touch(&mut self, key: &BlockKey, plane: Plane) {
        // The count belongs to the block, whichever plane it is, so that both pools prefer the
        // same blocks.
        if plane == Plane::Global || self.pools[Plane::Global as usize].slots == 0 {
            self.sketch.add(key);
        }
        self.uses += 1;
        self.pools[plane as usize].touch(key, self.uses, &self.sketch);
        let [recency, frequency] =
            [0, 1].map(|policy| self.pools[0].missed[policy] + self.pools[1].missed[policy]);
        // Goes back to frequency only if it is clearly better: each switch loses what the other
        // policy has gathered.
        if recency < frequency {
            self.by_recency = true;
        } else if frequency < recency - recency / CLEARLY {
            self.by_recency = false;
        }
    }

    /// The block to evict, or `None` when all are needed. `spared` says whether another node keeps
    /// a copy that a peer gave; it is asked only about a copy that would be evicted next if so.
    pub(super) fn victim(
        &mut self,
        index: &mut Index,
        room: Room,
        now: u64,
        spared: &dyn Fn(&PeerCopy) -> bool,
    ) -> Option<BlockKey> {
        #[cfg(test)]
        if let Some(baseline) = &self.baseline {
            return baseline.victim(
                index,
                |entry| room.offered_by(entry),
                |entry| room.is_useless(entry),
            );
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
                let is_copy =
                    kept.is_some_and(|kept| kept.maker != Maker::Own) && useless.is_none();
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
            let (Some(next), false) = (newcomer, by_recency) else {
                return newcomer.or(weakest).map(|rank| rank.3);
            };
            match weakest {
                _ if proven < proven_slots => {
                    self.prove_eldest(index, room, proven_slots - proven, now)
                }
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
    /// Ends the probation of the `count` oldest newcomers.
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
        self.elders.extend(
            (0..).zip(index.iter()).filter(|(_, entry)| newcomer(entry)).map(|(place, _)| place),
        );
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

/// Time since the block was last used, by the cache's clock; a ragged block counts as older.
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
