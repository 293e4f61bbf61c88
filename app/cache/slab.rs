//! The slab: two pools of fixed-size slots, one per plane, whose number follows from a byte budget
//! at start. The memory is freed with the slab, except for pages that are still being read.
//!
//! There are one and a half global slots for each sliding one. A long prefix keeps its global
//! planes, of which every token is needed, and drops its sliding ones, of which only the last
//! window is needed. A plane in which the model has no layer takes no memory: all its handles share
//! one empty page, and it never runs out.

use std::sync::Arc;

use super::CacheError;
use crate::id::SlotIndex;
use crate::kv::{KvShape, Page, Plane};
use crate::limits::{BLOCK_TOKENS, MAX_BLOCKS};

/// The right to fill one slot. Only its owner writes to the page. It goes back through
/// [`Cache::commit`](super::Cache::commit) or [`Cache::release`](super::Cache::release); if it is
/// dropped instead, the slot is lost until the process restarts.
#[derive(Debug)]
#[must_use = "a slot that is neither committed nor released is lost"]
pub struct Slot {
    plane: Plane,
    index: SlotIndex,
    page: Page,
}

impl Slot {
    /// The plane of the slot.
    pub(crate) fn plane(&self) -> Plane {
        self.plane
    }

    /// The slot's place in its pool.
    pub(crate) fn index(&self) -> SlotIndex {
        self.index
    }

    /// The memory: room for one full block of the plane. It still contains what the last
    /// owner left.
    pub fn page(&self) -> &Page {
        &self.page
    }
}

/// Sliding and global slots that fit `budget_bytes`, at most [`MAX_BLOCKS`] each.
fn slots(shape: &KvShape, budget_bytes: usize) -> Result<[usize; 2], CacheError> {
    let global = shape.plane_bytes(Plane::Global, BLOCK_TOKENS);
    let sliding = shape.plane_bytes(Plane::Sliding, BLOCK_TOKENS);
    let needed_bytes = global + sliding;
    if budget_bytes < needed_bytes {
        return Err(CacheError::Budget { budget_bytes, needed_bytes });
    }
    let triple = 3 * global + 2 * sliding;
    let odd = usize::from(budget_bytes % triple >= needed_bytes);
    let most = 2 * (MAX_BLOCKS / 3) + MAX_BLOCKS % 3;
    let sliding = (2 * (budget_bytes / triple)).saturating_add(odd).min(most);
    Ok([sliding + sliding / 2, sliding])
}

/// The slots of one plane. A page is allocated when its slot is first taken: the allocator writes
/// beside every page, so with small pages the whole slab would be in memory from the start.
struct Pool {
    slot_bytes: usize,
    count: usize,
    /// Pages of the slots that have ever been taken.
    pages: Vec<Page>,
    /// The free ones among these; the last is taken next.
    free: Vec<SlotIndex>,
}

impl Pool {
    fn new(count: usize, slot_bytes: usize) -> Pool {
        if slot_bytes == 0 {
            return Pool { slot_bytes, count: 0, pages: vec![Page::new(0)], free: Vec::new() };
        }
        Pool {
            slot_bytes,
            count,
            pages: Vec::with_capacity(count),
            free: Vec::with_capacity(count),
        }
    }

    fn take(&mut self) -> Option<SlotIndex> {
        if self.slot_bytes == 0 {
            return Some(SlotIndex(0));
        }
        self.free.pop().or_else(|| {
            let index = SlotIndex(self.pages.len() as u32);
            (self.pages.len() < self.count).then(|| {
                self.pages.push(Page::new(self.slot_bytes));
                index
            })
        })
    }
}

/// Both pools.
pub(super) struct Slab {
    pools: [Pool; 2],
    blocks: usize,
}

impl Slab {
    /// Slots for at most `budget_bytes`, and for at least one block.
    pub(super) fn new(shape: &Arc<KvShape>, budget_bytes: usize) -> Result<Slab, CacheError> {
        let counts = slots(shape, budget_bytes)?;
        let pool = |plane: Plane| {
            Pool::new(counts[plane as usize], shape.plane_bytes(plane, BLOCK_TOKENS))
        };
        Ok(Slab {
            pools: Plane::ALL.map(pool),
            blocks: counts.iter().sum::<usize>().min(MAX_BLOCKS),
        })
    }

    /// Most blocks in the index: as many as there are slots, since a block may hold only one of
    /// its planes.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Takes a free slot, if there is one.
    pub(super) fn take(&mut self, plane: Plane) -> Option<Slot> {
        let pool = &mut self.pools[plane as usize];
        let index = pool.take()?;
        Some(Slot { plane, index, page: pool.pages[index.0 as usize].clone() })
    }

    /// Frees a slot.
    pub(super) fn put(&mut self, plane: Plane, index: SlotIndex) {
        let pool = &mut self.pools[plane as usize];
        if pool.slot_bytes > 0 {
            assert!(pool.free.len() < pool.pages.len(), "more slots came back than there are");
            pool.free.push(index);
        }
    }

    /// The right to a slot that the index gives up.
    pub(super) fn slot(&self, plane: Plane, index: SlotIndex) -> Slot {
        Slot { plane, index, page: self.page(plane, index) }
    }

    /// The page of a slot.
    pub(super) fn page(&self, plane: Plane, index: SlotIndex) -> Page {
        self.pools[plane as usize].pages[index.0 as usize].clone()
    }

    /// Bytes of one slot of `plane`; zero when the model has no layer in it.
    pub(super) fn slot_bytes(&self, plane: Plane) -> usize {
        self.pools[plane as usize].slot_bytes
    }

    /// All slots of `plane`, and how many of them are free. Zero if the plane has no bytes.
    pub(super) fn slots(&self, plane: Plane) -> (usize, usize) {
        let pool = &self.pools[plane as usize];
        if pool.slot_bytes == 0 {
            (0, 0)
        } else {
            (pool.count, pool.count - pool.pages.len() + pool.free.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::KvFormat;

    fn shape(global: usize, sliding: usize) -> KvShape {
        let layers: Vec<Plane> = [(Plane::Global, global), (Plane::Sliding, sliding)]
            .iter()
            .flat_map(|&(plane, count)| core::iter::repeat_n(plane, count))
            .collect();
        KvShape::new(&layers, 1, 256, 512, KvFormat::Int8).unwrap()
    }

    #[test]
    fn the_pools_fill_the_budget_and_never_pass_it() {
        for shape in [shape(3, 15), shape(4, 22), shape(1, 0), shape(0, 1)] {
            let [global_bytes, sliding_bytes] =
                Plane::ALL.map(|plane| shape.plane_bytes(plane, 16));
            let block = global_bytes + sliding_bytes;
            for budget in (block..20 * block).step_by(1_000) {
                let [global, sliding] = slots(&shape, budget).unwrap();
                assert_eq!(global, sliding + sliding / 2);
                let cost = |sliding: usize| {
                    (sliding + sliding / 2) * global_bytes + sliding * sliding_bytes
                };
                assert!(cost(sliding) <= budget, "{global} + {sliding} slots pass {budget} bytes");
                assert!(
                    cost(sliding + 1) > budget,
                    "{budget} bytes have room for {} sliding slots",
                    sliding + 1
                );
            }
        }
    }

    #[test]
    fn a_budget_below_one_block_says_what_one_block_takes() {
        let error = slots(&shape(3, 15), 156_671).unwrap_err();
        assert_eq!(error, CacheError::Budget { budget_bytes: 156_671, needed_bytes: 156_672 });
        assert_eq!(slots(&shape(3, 15), 156_672).unwrap(), [1, 1]);
    }

    #[test]
    fn a_budget_without_end_stops_at_the_index() {
        assert_eq!(slots(&shape(3, 15), usize::MAX).unwrap(), [MAX_BLOCKS, 2_731]);
    }

    #[test]
    fn a_page_is_made_when_its_slot_is_first_given_out() {
        let mut slab = Slab::new(&Arc::new(shape(1, 1)), 100_000).unwrap();
        let (count, free) = slab.slots(Plane::Global);
        assert!(count > 2 && free == count && slab.pools[0].pages.is_empty());
        let first = slab.take(Plane::Global).unwrap();
        slab.put(first.plane, first.index);
        let taken: Vec<_> = core::iter::from_fn(|| slab.take(Plane::Global))
            .map(|slot| slot.index.0 as usize)
            .collect();
        assert_eq!(taken, (0..count).collect::<Vec<_>>());
        assert_eq!((slab.slots(Plane::Global), slab.pools[0].pages.len()), ((count, 0), count));
    }

    #[test]
    fn a_plane_without_layers_takes_no_memory_and_never_runs_out() {
        let mut slab = Slab::new(&Arc::new(shape(2, 0)), 100_000).unwrap();
        assert_eq!(slab.slots(Plane::Sliding), (0, 0));
        for _ in 0..100 {
            let slot = slab.take(Plane::Sliding).unwrap();
            assert_eq!(slot.page().read().len(), 0);
            slab.put(slot.plane, slot.index);
        }
    }
}
