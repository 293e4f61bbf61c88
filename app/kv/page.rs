//! Pages: the memory that a block's plane lives in, shared between the engine that computes on it and the transfers that
//! fill it and send it.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{KvShape, Plane};

/// One slot's bytes. Clones share the same memory. The lock is held for one kernel call or one chunk, never across a wait;
/// who may write is settled by the slab's bookkeeping, the lock only lets the compiler see it.
#[derive(Clone, Debug)]
pub struct Page(Arc<RwLock<&'static mut [u8]>>);

impl Page {
    /// Makes `count` pages of `bytes` bytes each out of one allocation, zeroed. The memory stays for the life of the process:
    /// a slab is made once, at start.
    pub fn carve(count: usize, bytes: usize) -> Vec<Page> {
        let mut rest: &'static mut [u8] = Box::leak(vec![0u8; count * bytes].into_boxed_slice());
        let mut pages = Vec::with_capacity(count);
        for _ in 0..count {
            let (page, tail) = rest.split_at_mut(bytes);
            pages.push(Page(Arc::new(RwLock::new(page))));
            rest = tail;
        }
        pages
    }

    /// The bytes, for reading.
    pub fn read(&self) -> RwLockReadGuard<'_, &'static mut [u8]> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes, for writing.
    pub fn write(&self) -> RwLockWriteGuard<'_, &'static mut [u8]> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pages of one block within a sequence, each laid out for a full block of 16 tokens. A plane is absent where the
/// sequence no longer (or not yet) needs it.
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

/// The KV state of one sequence as the model sees it: token `t` lives in block `t / 16`, row `t % 16`.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// How the bytes of each page are laid out.
    pub shape: Arc<KvShape>,
    /// The blocks from the first token on.
    pub blocks: Vec<BlockPages>,
}

impl Sequence {
    /// A sequence with pages of its own for `tokens` tokens, apart from any slab: for tools that run a model once.
    pub fn private(shape: &Arc<KvShape>, tokens: usize) -> Sequence {
        let blocks = tokens.div_ceil(crate::limits::BLOCK_TOKENS);
        let full = crate::limits::BLOCK_TOKENS;
        let global = Page::carve(blocks, shape.plane_bytes(Plane::Global, full));
        let sliding = Page::carve(blocks, shape.plane_bytes(Plane::Sliding, full));
        let blocks =
            global.into_iter().zip(sliding).map(|(global, sliding)| BlockPages { global: Some(global), sliding: Some(sliding) });
        Sequence { shape: shape.clone(), blocks: blocks.collect() }
    }
}
