//! What once followed a text, read from the blocks that come after a block.

use core::cmp::Reverse;

use heapless::Vec as Bounded;

use super::{Cache, Entry};
use crate::id::{BlockKey, TokenId};
use crate::kv::Plane;
use crate::limits::BLOCK_TOKENS;

/// Blocks to visit beyond the whole ones: the rest of the current block, and ragged blocks whose
/// texts went on.
const RAGGED: usize = 3;

impl Cache {
    /// The tokens, at most `N`, that once followed the block `parent` and then `begun`. Where texts
    /// parted, it follows the one used last. Costs one pass over the index per block on the way, a
    /// bounded number, and nothing if no block follows `parent`.
    pub(crate) fn following<const N: usize>(
        &self,
        parent: &BlockKey,
        begun: &[TokenId],
    ) -> Bounded<TokenId, N> {
        let mut path = Bounded::new();
        let mut parent = *parent;
        let Ok(mut begun) = Bounded::<TokenId, BLOCK_TOKENS>::from_slice(begun) else {
            return path;
        };
        for _ in 0..N / BLOCK_TOKENS + RAGGED {
            let Some(next) = self.latest_child(&parent, &begun).filter(|_| !path.is_full()) else {
                break;
            };
            let room = path.capacity() - path.len();
            path.extend(next.tokens()[begun.len()..].iter().take(room).copied());
            if next.link.is_full() {
                parent = next.link.key;
                begun.clear();
            } else {
                begun = next.tokens().clone();
            }
        }
        path
    }

    /// The most recently used of the blocks after `parent` that start with `begun` and go on.
    fn latest_child(&self, parent: &BlockKey, begun: &[TokenId]) -> Option<&Entry> {
        let is_parent = |entry: &Entry| entry.children > 0 && !entry.leaving;
        if *parent != self.root && !self.index.get(parent).is_some_and(is_parent) {
            return None;
        }
        let goes_on = |entry: &&Entry| {
            let tokens = entry.tokens();
            let is_here = || Plane::ALL.into_iter().any(|plane| entry.visible(plane).is_some());
            entry.link.parent == *parent
                && tokens.len() > begun.len()
                && tokens.starts_with(begun)
                && is_here()
        };
        let used = |entry: &&Entry| entry.planes.iter().flatten().map(|kept| kept.last_use).max();
        // Prefers a block to its own beginning used at the same moment; breaks ties the same
        // way everywhere.
        self.index
            .iter()
            .filter(goes_on)
            .max_by_key(|entry| (used(entry), entry.tokens().len(), Reverse(entry.link.key)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cache::{Chain, ChainSecret, Maker, root};
    use crate::id::Fingerprint;
    use crate::kv::{KvFormat, KvShape};

    fn cache() -> Cache {
        let shape = Arc::new(
            KvShape::new(&[Plane::Global, Plane::Sliding], 1, 2, 24, KvFormat::F32).unwrap(),
        );
        let bytes: usize =
            Plane::ALL.iter().map(|plane| 40 * shape.plane_bytes(*plane, BLOCK_TOKENS)).sum();
        Cache::new(shape, root(&ChainSecret::derive(b""), Fingerprint([7; 16])), bytes).unwrap()
    }

    fn text(seed: u32, len: u32) -> Vec<TokenId> {
        (0..len).map(|at| TokenId(1_000 * seed + at)).collect()
    }

    /// Stores a text as an answered prompt leaves it; returns its blocks.
    fn keep(cache: &mut Cache, tokens: &[TokenId]) -> Chain {
        let chain = Chain::of(&ChainSecret::derive(b""), cache.root(), tokens);
        for link in chain.links() {
            for plane in Plane::ALL {
                if cache.holds(link, plane) {
                    continue;
                }
                let slot = cache.reserve(plane, &|_| false).unwrap();
                assert!(cache.commit(link, slot, Maker::Own).into_slot().is_none());
            }
        }
        chain
    }

    #[test]
    fn what_followed_is_said_from_any_place_to_the_end_or_as_far_as_asked() {
        let mut cache = cache();
        let tokens = text(1, 75);
        let chain = keep(&mut cache, &tokens);
        for from in 0..75 {
            let parent = (from / BLOCK_TOKENS)
                .checked_sub(1)
                .map_or(cache.root(), |block| chain.blocks[block].key);
            let begun = &tokens[from / BLOCK_TOKENS * BLOCK_TOKENS..from];
            assert_eq!(
                cache.following::<64>(&parent, begun)[..],
                tokens[from..75.min(from + 64)],
                "from {from}"
            );
            assert_eq!(
                cache.following::<5>(&parent, begun)[..],
                tokens[from..75.min(from + 5)],
                "from {from}"
            );
        }
        assert!(cache.following::<64>(&chain.blocks[3].key, &tokens[64..75]).is_empty(), "the end");
        assert!(
            cache.following::<64>(&chain.blocks[0].key, &[TokenId(9)]).is_empty(),
            "another text"
        );
        assert!(cache.following::<64>(&BlockKey([1; 16]), &[]).is_empty(), "another block");
        assert!(
            cache.following::<64>(&chain.blocks[0].key, &tokens[16..33]).is_empty(),
            "more than a block"
        );
    }

    #[test]
    fn where_texts_part_the_one_used_last_is_followed() {
        let mut cache = cache();
        let (one, other) =
            ([text(1, 16), text(2, 40)].concat(), [text(1, 16), text(3, 40)].concat());
        let chain = keep(&mut cache, &one);
        keep(&mut cache, &other);
        let parent = chain.blocks[0].key;
        assert_eq!(cache.following::<40>(&parent, &[])[..], text(3, 40));
        // Reserving a slot advances the clock between two uses.
        let slot = cache.reserve(Plane::Global, &|_| false).unwrap();
        cache.release(slot);
        for link in &chain.blocks[1..] {
            cache.pin(link, Plane::Global).unwrap();
            cache.unpin(&link.key, Plane::Global);
        }
        assert_eq!(cache.following::<40>(&parent, &[])[..], text(2, 40));
        assert_eq!(
            cache.following::<40>(&parent, &text(3, 1))[..],
            text(3, 40)[1..],
            "unless the known tokens decide"
        );
        cache.clear();
        assert!(
            cache.following::<40>(&parent, &[]).is_empty(),
            "what a reset has withdrawn is not returned"
        );
    }

    #[test]
    fn the_ragged_end_of_a_text_is_gone_on_from() {
        let mut cache = cache();
        let tokens = text(1, 40);
        let chain = keep(&mut cache, &tokens[..20]);
        keep(&mut cache, &tokens);
        assert_eq!(
            cache.following::<64>(&chain.blocks[0].key, &tokens[16..18])[..],
            tokens[18..40]
        );
        assert_eq!(cache.following::<64>(&cache.root(), &[])[..], tokens[..40]);
    }
}
