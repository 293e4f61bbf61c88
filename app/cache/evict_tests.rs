//! What is evicted when room is needed, one rule per test. `trials` measures what the rules are
//! worth together.

use std::cell::Cell;

use super::tests::{cache, nobody, prompt, put_all, put_by, shape};
use super::*;
use crate::id::NodeId;

/// The links without `plane`.
fn lacking<'a>(cache: &Cache, links: &'a [Link], plane: Plane) -> Vec<&'a Link> {
    links.iter().filter(|link| !cache.holds(link, plane)).collect()
}

/// The window of `shape` is 24 tokens: two blocks, plus one that a resume within a block reaches
/// back to.
#[test]
fn sliding_planes_that_no_resume_point_needs_go_first_however_late_they_were_used() {
    let mut cache = cache(shape(1, 1), 10);
    let (long, short) = (prompt(&cache, 0, 6 * 16), prompt(&cache, 1_000, 4 * 16));
    put_all(&mut cache, &short.blocks);
    put_all(&mut cache, &long.blocks);
    let slots: Vec<Slot> =
        (0..4).map(|_| cache.reserve(Plane::Sliding, &nobody).unwrap()).collect();
    assert_eq!(
        lacking(&cache, &long.blocks, Plane::Sliding),
        long.blocks[..3].iter().collect::<Vec<_>>()
    );
    assert_eq!(lacking(&cache, &short.blocks, Plane::Sliding), [&short.blocks[0]]);
    slots.into_iter().for_each(|slot| cache.release(slot));
}

/// A few-shot prefix: the next question resumes at its end, though no prompt has ended there.
#[test]
fn where_prompts_have_parted_the_window_is_kept() {
    let mut cache = cache(shape(1, 1), 16);
    let stem = prompt(&cache, 0, 6 * 16).blocks;
    let tail = |first| {
        let mut parent = stem[5].key;
        let next = |block: u32| {
            let link =
                link(&ChainSecret::derive(b""), parent, &[crate::id::TokenId(first + block); 16]);
            parent = link.key;
            link
        };
        (0..5).map(next).collect::<Vec<Link>>()
    };
    put_all(&mut cache, &stem);
    put_all(&mut cache, &tail(5_000));
    put_all(&mut cache, &tail(6_000));
    assert!(lacking(&cache, &stem[3..], Plane::Sliding).is_empty());
    let slots: Vec<Slot> =
        (0..6).map(|_| cache.reserve(Plane::Sliding, &nobody).unwrap()).collect();
    assert!(
        lacking(&cache, &stem[3..], Plane::Sliding).is_empty(),
        "the window before the parting"
    );
    assert_eq!(lacking(&cache, &stem[..3], Plane::Sliding).len(), 3);
    slots.into_iter().for_each(|slot| cache.release(slot));
}

/// Nothing can resume there, however recently it was used.
#[test]
fn the_end_of_a_chain_without_its_sliding_plane_goes_first() {
    let mut cache = cache(shape(1, 1), 6);
    let (old, new) = (prompt(&cache, 0, 4 * 16), prompt(&cache, 1_000, 5 * 16));
    put_all(&mut cache, &old.blocks);
    put_all(&mut cache, &new.blocks[..4]);
    assert!(matches!(
        put_by(&mut cache, &new.blocks[4], Plane::Global, 1, Maker::Own),
        Committed::Inserted
    ));
    let slot = cache.reserve(Plane::Global, &nobody).unwrap();
    assert_eq!(lacking(&cache, &new.blocks, Plane::Global), [&new.blocks[4]]);
    assert_eq!(lacking(&cache, &old.blocks, Plane::Global), [] as [&Link; 0]);
    cache.release(slot);
}

/// Of blocks that all nodes hold, each node evicts only the copies that it fetched, so that not all
/// copies go at once.
#[test]
fn what_a_peer_gave_and_another_keeps_goes_first_and_own_blocks_do_not() {
    let mut cache = cache(shape(1, 0), 4);
    let blocks: Vec<Link> =
        (0..6).map(|number| prompt(&cache, 1_000 * number, 16).blocks.remove(0)).collect();
    for (number, link) in blocks.iter().enumerate() {
        let maker = if number == 4 { Maker::Peer(NodeId(9)) } else { Maker::Own };
        assert!(matches!(put_by(&mut cache, link, Plane::Global, 1, maker), Committed::Inserted));
    }
    let asked = Cell::new(0);
    let slot = cache.reserve(Plane::Global, &|copy| {
        asked.set(asked.get() + 1);
        assert_eq!((copy.key, copy.stem), (blocks[4].key, blocks[4].key));
        true
    });
    cache.release(slot.unwrap());
    assert_eq!((lacking(&cache, &blocks, Plane::Global), asked.get()), (vec![&blocks[4]], 1));
}

/// The first prompt after a slab has filled up must not wait for one pass over the index per slot.
#[test]
fn each_choice_looks_at_each_block_three_times_at_most() {
    let mut cache = cache(shape(1, 1), 300);
    let links: Vec<Link> = (0..600).map(|i| prompt(&cache, 100 * i, 16).blocks.remove(0)).collect();
    let mut before = 0;
    for link in &links {
        for plane in Plane::ALL {
            assert!(matches!(put_by(&mut cache, link, plane, 1, Maker::Own), Committed::Inserted));
            let (looked_at, entries) = (cache.policy.looked_at - before, cache.stats().entries + 1);
            before = cache.policy.looked_at;
            // A slot and an entry may both be needed.
            assert!(looked_at <= 6 * entries, "{looked_at} examined for {entries} blocks");
        }
    }
    assert!(cache.stats().evicted > 400, "the slab is full");
}

#[test]
fn peers_are_asked_about_few_blocks_when_they_hold_all() {
    let mut cache = cache(shape(1, 1), 200);
    let links: Vec<Link> = (0..300).map(|i| prompt(&cache, 100 * i, 16).blocks.remove(0)).collect();
    let peer = Maker::Peer(NodeId(9));
    links.iter().for_each(|link| {
        assert!(matches!(put_by(&mut cache, link, Plane::Sliding, 1, peer), Committed::Inserted))
    });
    let asked = Cell::new(0);
    let slot = cache.reserve(Plane::Sliding, &|_| {
        asked.set(asked.get() + 1);
        true
    });
    cache.release(slot.unwrap());
    assert!(asked.get() < 30, "{} questions", asked.get());
}
