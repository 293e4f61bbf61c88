//! Pages: the memory of a block's plane, shared between the engine that computes on it and the
//! transfers that fill and send it.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{KvShape, Plane};
use crate::limits::BLOCK_TOKENS;

/// The bytes of one slot: a separate allocation, freed with its last handle. Clones share the
/// memory. The lock is held for one kernel call or one chunk, never across a wait. The slab's
/// bookkeeping decides who may write; the lock only proves it to the compiler.
#[derive(Clone, Debug)]
pub struct Page(Arc<RwLock<Box<[u8]>>>);

impl Page {
    /// A page of `bytes` bytes, zeroed.
    pub fn new(bytes: usize) -> Page {
        Page(Arc::new(RwLock::new(vec![0; bytes].into_boxed_slice())))
    }

    /// Live handles to this page.
    #[cfg(test)]
    pub(crate) fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// The bytes, for reading.
    pub fn read(&self) -> RwLockReadGuard<'_, Box<[u8]>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes, for writing.
    pub fn write(&self) -> RwLockWriteGuard<'_, Box<[u8]>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pages of one block within a sequence, each laid out for a full block of 16 tokens. A plane
/// that the sequence does not need yet or any more is absent.
#[derive(Clone, Debug)]
pub struct BlockPages {
    /// Bytes of the layers that attend to the whole prefix.
    pub global: Option<Page>,
    /// Bytes of the layers that attend to the window.
    pub sliding: Option<Page>,
}

impl BlockPages {
    /// The page of `plane`.
    pub fn plane(&self, plane: Plane) -> Option<&Page> {
        match plane {
            Plane::Global => self.global.as_ref(),
            Plane::Sliding => self.sliding.as_ref(),
        }
    }
}

/// The KV state of one sequence as the model sees it: token `t` lives in block `t / 16`, row
/// `t % 16`.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// The layout of each page's bytes.
    pub shape: Arc<KvShape>,
    /// The blocks, starting with the first token's.
    pub blocks: Vec<BlockPages>,
}

impl Sequence {
    /// A sequence with its own pages for `tokens` tokens, outside any slab: for runs that measure
    /// or compare a model.
    pub fn private(shape: &Arc<KvShape>, tokens: usize) -> Sequence {
        let page = |plane| Some(Page::new(shape.plane_bytes(plane, BLOCK_TOKENS)));
        let block = |_| BlockPages { global: page(Plane::Global), sliding: page(Plane::Sliding) };
        Sequence {
            shape: shape.clone(),
            blocks: (0..tokens.div_ceil(BLOCK_TOKENS)).map(block).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::KvFormat;

    /// A node creates one for each prompt, and the console command `bench` for each run: any leak
    /// would accumulate for ever.
    #[test]
    fn the_memory_of_a_private_sequence_goes_with_its_last_handle() {
        let shape = Arc::new(
            KvShape::new(&[Plane::Sliding, Plane::Global], 1, 64, 64, KvFormat::Int8).unwrap(),
        );
        let sequence = Sequence::private(&shape, 100);
        let planes = sequence
            .blocks
            .iter()
            .flat_map(|block| Plane::ALL.map(|plane| block.plane(plane).unwrap()));
        let pages: Vec<_> = planes.map(|page| Arc::downgrade(&page.0)).collect();
        assert_eq!(pages.len(), 7 * 2);
        let kept = sequence.clone();
        drop(sequence);
        assert!(pages.iter().all(|page| page.strong_count() == 1));
        drop(kept);
        assert!(pages.iter().all(|page| page.strong_count() == 0));
    }
}
