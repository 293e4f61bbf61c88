//! What a commit promises: which planes it takes, and whose bytes stay when there are two. A slot
//! that it does not take comes back.

use super::*;
use crate::id::NodeId;

#[test]
fn a_collision_of_keys_is_a_miss_and_never_another_prompts_bytes() {
    let mut cache = cache(shape(1, 1), 4);
    let chain = prompt(&cache, 0, 32);
    put_all(&mut cache, chain.links());
    let mut other_tokens = chain.blocks[1].clone();
    other_tokens.tokens[5] = TokenId(999);
    let mut fewer_tokens = chain.blocks[1].clone();
    fewer_tokens.tokens.truncate(9);
    let other_parent = Link { parent: cache.root(), ..chain.blocks[1].clone() };
    for crafted in [other_tokens, fewer_tokens, other_parent] {
        for plane in Plane::ALL {
            assert!(!cache.holds(&crafted, plane));
            assert!(cache.pin(&crafted, plane).is_none());
            let committed = put(&mut cache, &crafted, plane, 9);
            assert_eq!(refusal(committed, &mut cache), Refusal::Collision);
            let (page, _) = cache.pin(&chain.blocks[1], plane).unwrap();
            assert!(page.read().iter().all(|&b| b == 1));
            cache.unpin(&chain.blocks[1].key, plane);
        }
    }
    let as_root = Link { key: cache.root(), ..chain.blocks[0].clone() };
    let committed = put(&mut cache, &as_root, Plane::Global, 9);
    assert_eq!(refusal(committed, &mut cache), Refusal::Collision);
    assert_eq!(cache.stats().collisions, 13);
}

#[test]
fn a_block_without_its_parent_is_refused_and_the_slot_comes_back() {
    let mut cache = cache(shape(1, 1), 4);
    let chain = prompt(&cache, 0, 40);
    let committed = put(&mut cache, &chain.blocks[1], Plane::Global, 1);
    assert_eq!(refusal(committed, &mut cache), Refusal::NoParent);

    assert!(matches!(put(&mut cache, &chain.blocks[0], Plane::Sliding, 1), Committed::Inserted));
    let committed = put(&mut cache, &chain.blocks[1], Plane::Global, 1);
    assert_eq!(
        refusal(committed, &mut cache),
        Refusal::NoParent,
        "a parent needs its global plane"
    );

    assert!(matches!(put(&mut cache, &chain.blocks[0], Plane::Global, 1), Committed::Inserted));
    put_all(&mut cache, &chain.blocks[1..]);
    put_all(&mut cache, &chain.ragged);
    let after_ragged = link(&secret(), chain.ragged.unwrap().key, &[TokenId(1)]);
    let committed = put(&mut cache, &after_ragged, Plane::Global, 1);
    assert_eq!(refusal(committed, &mut cache), Refusal::NoParent, "nothing follows a ragged block");
    let own_parent = Link { parent: after_ragged.key, ..after_ragged };
    let committed = put(&mut cache, &own_parent, Plane::Global, 1);
    assert_eq!(refusal(committed, &mut cache), Refusal::NoParent);
}

#[test]
fn a_plane_committed_twice_keeps_the_first_and_gives_the_second_slot_back() {
    let mut cache = cache(shape(1, 1), 2);
    let chain = prompt(&cache, 0, 16);
    put_all(&mut cache, chain.links());
    let Committed::AlreadyHeld(slot) = put(&mut cache, &chain.blocks[0], Plane::Sliding, 2) else {
        panic!()
    };
    let (page, _) = cache.pin(&chain.blocks[0], Plane::Sliding).unwrap();
    assert!(page.read().iter().all(|&b| b == 1));
    assert!(
        slot.page().read().iter().all(|&b| b == 2),
        "the node that computed it may go on reading its own copy"
    );
    cache.release(slot);
    assert_eq!(cache.stats().planes[Plane::Sliding as usize].held, 1);
}

/// What a peer sent may be a lie that no check has found; what was computed here is not. So an
/// answer never continues from a peer's bytes where own bytes were made.
#[test]
fn own_bytes_replace_a_peers_that_nobody_reads_and_never_the_other_way_round() {
    let (own, first, second) = (Maker::Own, Maker::Peer(NodeId(1)), Maker::Peer(NodeId(2)));
    for plane in Plane::ALL {
        let mut cache = cache(shape(1, 1), 4);
        let chain = prompt(&cache, 0, 32);
        put_all(&mut cache, &chain.blocks[..1]);
        let link = &chain.blocks[1];
        assert!(matches!(put_by(&mut cache, link, plane, 1, first), Committed::Inserted));
        while cache.poll_change().is_some() {}

        let Committed::AlreadyHeld(slot) = put_by(&mut cache, link, plane, 2, second) else {
            panic!("a peer replaced a peer")
        };
        cache.release(slot);
        let (page, maker) = cache.pin(link, plane).unwrap();
        assert_eq!(maker, first);
        let Committed::AlreadyHeld(slot) = put_by(&mut cache, link, plane, 3, own) else {
            panic!("a pinned page changed")
        };
        assert!(
            page.read().iter().all(|&byte| byte == 1)
                && slot.page().read().iter().all(|&byte| byte == 3)
        );
        cache.unpin(&link.key, plane);

        let Committed::Replaced(foreign) = cache.commit(link, slot, own) else {
            panic!("the peer's bytes stayed")
        };
        assert!(
            foreign.page().read().iter().all(|&byte| byte == 1),
            "the returned slot is the peer's"
        );
        cache.release(foreign);
        let held = cache.entry(&link.key, plane).unwrap();
        assert!(held.maker == own && held.page.read().iter().all(|&byte| byte == 3));
        assert_eq!(cache.poll_change(), None, "nothing has changed for the peers");

        for (fill, maker) in [(4, first), (5, own)] {
            let Committed::AlreadyHeld(slot) = put_by(&mut cache, link, plane, fill, maker) else {
                panic!("{maker:?} replaced")
            };
            cache.release(slot);
        }
        assert_eq!(cache.stats().planes.map(|plane| plane.reserved), [0, 0], "no slot was lost");
        let (page, maker) = cache.pin(link, plane).unwrap();
        assert!(maker == own && page.read().iter().all(|&byte| byte == 3));
    }
}

/// If the model has no layer in a plane, nobody can have made its bytes: its maker is that of the
/// other plane.
#[test]
fn a_plane_without_layers_has_the_maker_of_its_block() {
    let mut cache = cache(shape(2, 0), 2);
    let chain = prompt(&cache, 0, 16);
    let (link, peer) = (&chain.blocks[0], Maker::Peer(NodeId(1)));
    assert!(matches!(put_by(&mut cache, link, Plane::Global, 1, peer), Committed::Inserted));
    assert_eq!(cache.entry(&link.key, Plane::Sliding).unwrap().maker, peer);
    let Committed::Replaced(slot) = put(&mut cache, link, Plane::Global, 2) else { panic!() };
    cache.release(slot);
    assert_eq!(cache.entry(&link.key, Plane::Sliding).unwrap().maker, Maker::Own);
}

#[test]
fn an_index_full_of_blocks_in_use_refuses_and_one_that_is_not_gives_way() {
    // In a model without global layers, blocks outlive their bytes in the index, so the index can
    // fill before the slab does.
    let mut cache = cache(shape(0, 1), 2);
    let capacity = cache.stats().capacity;
    let mut chain = prompt(&cache, 0, 16 * (capacity as u32 + 1)).blocks;
    let last = chain.pop().unwrap();
    for link in &chain {
        assert!(matches!(put(&mut cache, link, Plane::Sliding, 1), Committed::Inserted));
        cache.pin(link, Plane::Global).unwrap();
        cache.unpin(&link.parent, Plane::Global);
    }
    assert_eq!(cache.stats().entries, capacity);
    let committed = put(&mut cache, &last, Plane::Sliding, 1);
    assert_eq!(refusal(committed, &mut cache), Refusal::IndexFull);
    cache.unpin(&chain[capacity - 1].key, Plane::Global);
    let other = prompt(&cache, 9_000, 16).blocks.remove(0);
    assert!(matches!(put(&mut cache, &other, Plane::Sliding, 1), Committed::Inserted));
    assert!(!cache.holds(&chain[capacity - 1], Plane::Global));
    assert!(cache.holds(&chain[capacity - 2], Plane::Global) || cache.stats().entries < capacity);
}
