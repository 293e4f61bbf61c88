//! What the cache promises, one promise per test; `commit` has those of a commit. `model_tests`
//! checks the same promises under random use.

use std::sync::Arc;

use super::store::{PlaneStats, Refusal};
use super::*;
use crate::id::{BlockKey, Fingerprint, TokenId};
use crate::kv::{KvFormat, KvShape};
use crate::limits::MAX_BLOCKS;

mod commit;

/// A model of `global` and `sliding` layers whose planes take 256 bytes per layer.
pub(super) fn shape(global: usize, sliding: usize) -> Arc<KvShape> {
    let mut layers = vec![Plane::Global; global];
    layers.resize(global + sliding, Plane::Sliding);
    Arc::new(KvShape::new(&layers, 1, 2, 24, KvFormat::F32).unwrap())
}

/// A cache of `sliding` sliding slots and half as many again global ones.
pub(super) fn cache(shape: Arc<KvShape>, sliding: usize) -> Cache {
    let [global_bytes, sliding_bytes] = Plane::ALL.map(|plane| shape.plane_bytes(plane, 16));
    let budget = sliding * sliding_bytes + (sliding + sliding / 2) * global_bytes;
    Cache::new(shape, root(&secret(), Fingerprint([7; 16])), budget).unwrap()
}

fn secret() -> ChainSecret {
    ChainSecret::derive(b"")
}

/// The links of a prompt of `tokens` consecutive tokens, starting with token `first`.
pub(super) fn prompt(cache: &Cache, first: u32, tokens: u32) -> Chain {
    let tokens: Vec<TokenId> = (first..first + tokens).map(TokenId).collect();
    Chain::of(&secret(), cache.root(), &tokens)
}

pub(super) fn nobody(_: &PeerCopy) -> bool {
    false
}

/// Commits one plane whose page is filled with `fill`.
fn put(cache: &mut Cache, link: &Link, plane: Plane, fill: u8) -> Committed {
    put_by(cache, link, plane, fill, Maker::Own)
}

pub(super) fn put_by(
    cache: &mut Cache,
    link: &Link,
    plane: Plane,
    fill: u8,
    maker: Maker,
) -> Committed {
    let slot = cache.reserve(plane, &nobody).unwrap();
    slot.page().write().fill(fill);
    cache.commit(link, slot, maker)
}

/// Commits both planes of every link, and requires that all are taken. The last block stays pinned
/// until the next is there.
pub(super) fn put_all<'a>(cache: &mut Cache, links: impl IntoIterator<Item = &'a Link>) {
    let mut pinned: Option<BlockKey> = None;
    for link in links {
        for plane in Plane::ALL {
            assert!(matches!(put(cache, link, plane, 1), Committed::Inserted));
        }
        cache.pin(link, Plane::Global).unwrap();
        pinned
            .replace(link.key)
            .into_iter()
            .for_each(|key| assert!(cache.unpin(&key, Plane::Global)));
    }
    pinned.into_iter().for_each(|key| assert!(cache.unpin(&key, Plane::Global)));
}

fn refusal(committed: Committed, cache: &mut Cache) -> Refusal {
    let Committed::Refused(slot, refusal) = committed else { panic!("{committed:?}") };
    cache.release(slot);
    refusal
}

fn held<'a>(cache: &Cache, links: impl IntoIterator<Item = &'a Link>) -> Vec<[bool; 2]> {
    links.into_iter().map(|link| Plane::ALL.map(|plane| cache.holds(link, plane))).collect()
}

#[test]
fn a_committed_prompt_is_found_again_with_its_bytes() {
    let mut cache = cache(shape(1, 2), 4);
    let chain = prompt(&cache, 0, 37);
    put_all(&mut cache, chain.links());
    for link in chain.links() {
        for plane in Plane::ALL {
            let (page, _) = cache.pin(link, plane).unwrap();
            assert!(page.read().iter().all(|&b| b == 1));
            let held = cache.entry(&link.key, plane).unwrap();
            assert_eq!((held.parent, &held.tokens), (link.parent, &link.tokens));
            assert_eq!(held.bytes, cache.shape().plane_bytes(plane, link.tokens.len()));
            assert!(cache.unpin(&link.key, plane));
            assert!(!cache.unpin(&link.key, plane), "a pin can be released only once");
        }
    }
}

/// A simulator creates and drops thousands of nodes.
#[test]
fn the_memory_of_a_slab_goes_with_the_cache() {
    let mut cache = cache(shape(1, 1), 4);
    let chain = prompt(&cache, 0, 16);
    put_all(&mut cache, chain.links());
    let (page, _) = cache.pin(&chain.blocks[0], Plane::Global).unwrap();
    assert_eq!(page.handles(), 2);
    drop(cache);
    assert_eq!(page.handles(), 1, "nobody else keeps the page");
}

#[test]
fn a_long_prompt_drops_its_early_sliding_planes_and_keeps_its_global_ones() {
    let mut cache = cache(shape(1, 5), 4);
    let chain = prompt(&cache, 0, 6 * 16);
    put_all(&mut cache, chain.links());
    assert_eq!(
        held(&cache, chain.links()),
        [[true, false], [true, false], [true; 2], [true; 2], [true; 2], [true; 2]]
    );
}

#[test]
fn when_global_slots_run_out_whole_blocks_go_from_the_end_of_the_oldest_prompt() {
    let mut cache = cache(shape(1, 1), 4);
    let old = prompt(&cache, 0, 3 * 16);
    let new = prompt(&cache, 1_000, 3 * 16);
    put_all(&mut cache, old.links());
    put_all(&mut cache, new.links());
    let slot = cache.reserve(Plane::Global, &nobody).unwrap();
    assert_eq!(
        held(&cache, old.links()).iter().map(|planes| planes[0]).collect::<Vec<_>>(),
        [true, true, false]
    );
    assert!(held(&cache, new.links()).iter().all(|planes| planes[0]));
    cache.release(slot);
}

#[test]
fn planes_used_at_the_same_moment_go_from_the_deeper_end() {
    let mut cache = cache(shape(1, 1), 2);
    let chain = prompt(&cache, 0, 32);
    put_all(&mut cache, chain.links());
    for link in chain.links() {
        cache.pin(link, Plane::Sliding).unwrap();
        cache.unpin(&link.key, Plane::Sliding);
    }
    let slot = cache.reserve(Plane::Sliding, &nobody).unwrap();
    assert_eq!(held(&cache, chain.links()), [[true, true], [true, false]]);
    cache.release(slot);
}

#[test]
fn a_slab_in_full_use_says_so_and_recovers() {
    for plane in Plane::ALL {
        let mut cache = cache(shape(1, 1), 2);
        let chain = prompt(&cache, 0, 32);
        put_all(&mut cache, chain.links());
        for link in chain.links() {
            cache.pin(link, plane).unwrap();
        }
        let mut spare = Vec::new();
        while cache.stats().planes[plane as usize].held + spare.len()
            < cache.stats().planes[plane as usize].slots
        {
            spare.push(cache.reserve(plane, &nobody).unwrap());
        }
        let error = cache.reserve(plane, &nobody).unwrap_err();
        assert_eq!(error, CacheError::Full(plane));
        assert!(error.to_string().contains("slab"));
        assert_eq!(cache.stats().refused, 1);
        cache.unpin(&chain.blocks[1].key, plane);
        let slot = cache.reserve(plane, &nobody).unwrap();
        assert!(!cache.holds(&chain.blocks[1], plane));
        assert!(cache.holds(&chain.blocks[0], plane));
        cache.release(slot);
        spare.into_iter().for_each(|slot| cache.release(slot));
    }
}

#[test]
fn a_pin_on_either_plane_keeps_the_whole_block_from_going() {
    let mut cache = cache(shape(1, 1), 1);
    let chain = prompt(&cache, 0, 16);
    put_all(&mut cache, chain.links());
    cache.pin(&chain.blocks[0], Plane::Sliding).unwrap();
    assert_eq!(cache.reserve(Plane::Global, &nobody).unwrap_err(), CacheError::Full(Plane::Global));
}

#[test]
fn pins_are_counted_and_one_too_many_is_a_miss_not_a_wrong_count() {
    let mut cache = cache(shape(1, 1), 1);
    let chain = prompt(&cache, 0, 16);
    put_all(&mut cache, chain.links());
    let block = &chain.blocks[0];
    let granted =
        (0..u32::from(u16::MAX) + 5).filter(|_| cache.pin(block, Plane::Global).is_some()).count();
    assert_eq!(granted, usize::from(u16::MAX));
    (1..granted).for_each(|_| assert!(cache.unpin(&block.key, Plane::Global)));
    assert!(cache.reserve(Plane::Global, &nobody).is_err(), "one pin is left");
    cache.unpin(&block.key, Plane::Global);
    let slot = cache.reserve(Plane::Global, &nobody).unwrap();
    cache.release(slot);
}

#[test]
fn a_reset_forgets_everything_and_what_is_in_use_stays_readable_until_it_is_not() {
    let mut cache = cache(shape(1, 1), 4);
    let chain = prompt(&cache, 0, 48);
    put_all(&mut cache, chain.links());
    let (page, _) = cache.pin(&chain.blocks[1], Plane::Sliding).unwrap();
    cache.pin(&chain.blocks[1], Plane::Sliding).unwrap();
    while cache.poll_change().is_some() {}
    cache.clear();
    assert!(cache.unpin(&chain.blocks[1].key, Plane::Sliding), "one of two users is done");
    assert_eq!(held(&cache, chain.links()), [[false; 2]; 3]);
    assert!(cache.pin(&chain.blocks[1], Plane::Sliding).is_none());
    assert!(cache.entry(&chain.blocks[1].key, Plane::Sliding).is_none());
    let removed =
        core::iter::from_fn(|| cache.poll_change()).filter(|change| !change.added).count();
    assert_eq!(removed, 6);

    let slots: Vec<Slot> =
        (0..3).map(|_| cache.reserve(Plane::Sliding, &nobody).unwrap()).collect();
    slots.iter().for_each(|slot| slot.page().write().fill(9));
    assert!(page.read().iter().all(|&b| b == 1), "the slot in use is given to nobody else");
    assert!(cache.reserve(Plane::Sliding, &nobody).is_err());
    slots.into_iter().for_each(|slot| cache.release(slot));

    let committed = put(&mut cache, &chain.blocks[1], Plane::Sliding, 2);
    assert_eq!(refusal(committed, &mut cache), Refusal::Leaving);
    let committed = put(&mut cache, &chain.blocks[2], Plane::Sliding, 2);
    assert_eq!(refusal(committed, &mut cache), Refusal::NoParent);
    assert!(cache.unpin(&chain.blocks[1].key, Plane::Sliding));
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.planes[0].held, stats.planes[1].held), (0, 0, 0));
    assert_eq!(cache.poll_change(), None);
    put_all(&mut cache, chain.links());
}

#[test]
fn changes_that_nobody_polls_stay_bounded() {
    let mut cache = cache(shape(1, 1), 2);
    for i in 0..1_000 {
        let chain = prompt(&cache, 100 * i, 32);
        put_all(&mut cache, chain.links());
        let stats = cache.stats();
        assert!(stats.pending_changes <= 2 * (stats.planes[0].slots + stats.planes[1].slots));
        if i == 500 {
            while cache.poll_change().is_some() {}
        }
        let poll_one = i > 500 && i % 3 == 0;
        if poll_one {
            cache.poll_change().unwrap();
        }
    }
}

#[test]
fn a_plane_without_layers_is_there_as_soon_as_its_block_is() {
    for (shape, full, empty) in
        [(shape(2, 0), Plane::Global, Plane::Sliding), (shape(0, 2), Plane::Sliding, Plane::Global)]
    {
        let mut cache = cache(shape, 4);
        let chain = prompt(&cache, 0, 37);
        for link in chain.links() {
            assert!(!cache.holds(link, empty));
            assert!(matches!(put(&mut cache, link, full, 1), Committed::Inserted));
            assert!(cache.holds(link, empty) && cache.holds(link, full));
            assert!(matches!(put(&mut cache, link, empty, 1), Committed::AlreadyHeld(_)));
            assert_eq!(cache.pin(link, empty).unwrap().0.read().len(), 0);
            assert!(cache.unpin(&link.key, empty));
        }
        let other = prompt(&cache, 1_000, 37);
        for link in other.links() {
            assert!(
                matches!(put(&mut cache, link, empty, 1), Committed::Inserted),
                "either plane may come first"
            );
            assert!(matches!(put(&mut cache, link, full, 1), Committed::Inserted));
        }
        assert_eq!(cache.stats().planes[empty as usize], PlaneStats::default());
        cache.clear();
        assert_eq!(cache.stats().entries, 0);
    }
}

#[test]
fn a_model_of_sliding_layers_only_keeps_the_window_of_a_prompt_longer_than_the_slab() {
    let mut cache = cache(shape(0, 1), 4);
    let chain = prompt(&cache, 0, 9 * 16);
    let capacity = cache.stats().capacity;
    for link in &chain.blocks {
        assert!(matches!(put(&mut cache, link, Plane::Sliding, 1), Committed::Inserted));
        assert!(cache.stats().entries <= capacity);
    }
    let sliding: Vec<bool> = chain.links().map(|link| cache.holds(link, Plane::Sliding)).collect();
    assert_eq!(sliding, [false, false, false, false, false, true, true, true, true]);
}

#[test]
fn the_same_calls_give_the_same_state() {
    let run = || {
        let mut cache = cache(shape(1, 2), 6);
        let mut log = Vec::new();
        for i in 0..200u32 {
            let chain = prompt(&cache, i * i % 37 * 100, 16 + i % 40);
            for (link, plane) in
                chain.links().flat_map(|link| Plane::ALL.map(|plane| (link, plane)))
            {
                let committed = put(&mut cache, link, plane, 1);
                committed.into_slot().into_iter().for_each(|slot| cache.release(slot));
            }
            log.extend(core::iter::from_fn(|| cache.poll_change()));
        }
        (log, cache.stats())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_block_that_is_forgotten_takes_along_what_stands_on_it_and_nothing_else() {
    let mut cache = cache(shape(1, 1), 64);
    let (chain, other) = (prompt(&cache, 0, 70), prompt(&cache, 9_000, 40));
    put_all(&mut cache, chain.links());
    put_all(&mut cache, other.links());
    cache.pin(&chain.blocks[3], Plane::Global).unwrap();
    cache.forget(&chain.blocks[1].key);
    for plane in Plane::ALL {
        assert!(cache.holds(&chain.blocks[0], plane));
        assert!(chain.links().skip(1).all(|link| !cache.holds(link, plane)));
        assert!(other.links().all(|link| cache.holds(link, plane)));
    }
    cache.unpin(&chain.blocks[3].key, Plane::Global);
    put_all(&mut cache, chain.links().skip(1));
    assert!(chain.links().all(|link| cache.holds(link, Plane::Global)));
}

#[test]
fn the_largest_cache_is_made_and_used_on_a_small_stack() {
    let work = || {
        let mut cache = cache(shape(1, 1), MAX_BLOCKS);
        assert_eq!(cache.stats().capacity, MAX_BLOCKS);
        assert_eq!(cache.stats().planes[0].slots, MAX_BLOCKS);
        for i in 0..MAX_BLOCKS as u32 + 10 {
            let chain = prompt(&cache, 100 * i, 16);
            put_all(&mut cache, chain.links());
        }
        assert_eq!(cache.stats().entries, MAX_BLOCKS);
        cache.clear();
        assert_eq!(cache.stats().entries, 0);
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap().join().unwrap();
}
