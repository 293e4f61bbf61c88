//! Reset over the network: whichever node orders it, every node forgets what it knew of the others,
//! and soon shares again. `orders` tells who may order one.

use std::sync::Arc;

use potluck::id::{Epoch, EpochState, NodeId, TokenId};
use potluck::kv::KvShape;
use potluck::node::ResetNews;

use crate::sim::engine::shape_small;
use crate::sim::{Sim, config};

mod orders;

const SLAB: usize = 4 << 20;
/// The board: about 37 ms per token.
const SLOW: u64 = 37_000;
const INTERVAL: u64 = 10_000;

fn prompt(seed: u32, len: usize) -> Vec<TokenId> {
    (0..len as u32)
        .map(|at| TokenId((at.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) % 50_000))
        .collect()
}

fn state(epoch: u64, store_epoch: u64) -> EpochState {
    EpochState { epoch: Epoch(epoch), store_epoch: Epoch(store_epoch) }
}

/// A swarm in which every node has answered a prompt of its own.
fn swarm(nodes: usize, shape: &Arc<KvShape>) -> Sim {
    let mut world = Sim::calm();
    for number in 0..nodes as u64 {
        world.join(config(number, shape, SLAB), SLOW);
    }
    world.pass(2_000);
    for node in 0..nodes {
        world.answer_now(node, &prompt(node as u32, 100), 2);
    }
    world
}

fn epochs(world: &Sim, nodes: usize) -> Vec<u64> {
    (0..nodes).map(|node| world.status(node).epoch.0).collect()
}

fn blocks(world: &Sim, node: usize) -> usize {
    world.status(node).cache.entries
}

/// Pages that are still pinned or reserved.
fn held_on_to(world: &Sim, node: usize) -> usize {
    world.status(node).cache.planes.iter().map(|plane| plane.pinned + plane.reserved).sum()
}

fn everybody_shares(world: &Sim, nodes: usize) -> bool {
    (0..nodes).all(|node| {
        let peers = world.status(node).peers;
        peers.len() == nodes - 1 && peers.iter().all(|peer| peer.shares && peer.current)
    })
}

fn ended(world: &Sim, node: usize) -> Option<(usize, Vec<NodeId>)> {
    world.resets(node).iter().find_map(|news| match news {
        ResetNews::Ended { acknowledged, missing } => Some((*acknowledged, missing.clone())),
        _ => None,
    })
}

#[test]
fn every_node_forgets_its_peers_saves_the_epoch_and_acknowledges() {
    let shape = shape_small(64);
    let mut world = swarm(4, &shape);
    let before = blocks(&world, 2);
    let repaired =
        |world: &Sim| [0, 1, 2, 3].map(|node| world.status(node).catalog.segments_pulled);
    let repaired_before = repaired(&world);
    world.reset(1, false);
    world.pass(1_500);
    assert_eq!(epochs(&world, 4), [1; 4]);
    assert!((0..4).all(|node| world.saved(node) == state(1, 0)));
    assert_eq!(blocks(&world, 2), before, "the blocks must stay");
    let news = world.resets(1);
    assert_eq!(news[0], ResetNews::Ordered { epochs: state(1, 0), peers: 3 });
    for node in [1, 3, 4].map(NodeId) {
        assert!(news.contains(&ResetNews::Acknowledged { node }), "{news:?}");
    }
    assert_eq!(ended(&world, 1), Some((3, Vec::new())));
    world.pass(3_000);
    assert!(everybody_shares(&world, 4));
    let anew =
        repaired(&world).iter().zip(repaired_before).all(|(after, before)| *after >= before + 3);
    assert!(anew, "every peer's filter must be forgotten and fetched again");
    let again = world.answer_now(0, &prompt(2, 100), 2);
    assert_eq!(again.figures().from_peers(), 99);
}

#[test]
fn with_store_the_blocks_go_too_and_new_ones_are_shared_as_before() {
    let shape = shape_small(64);
    let mut world = swarm(3, &shape);
    world.reset(0, true);
    world.pass(1_500);
    assert_eq!(epochs(&world, 3), [1; 3]);
    for node in 0..3 {
        assert_eq!((blocks(&world, node), held_on_to(&world, node)), (0, 0));
        assert_eq!(world.saved(node), state(1, 1));
    }
    assert!(everybody_shares(&world, 3), "an empty filter needs no repair");
    for node in 0..3 {
        let answer = world.answer_now(node, &prompt(1, 100), 2);
        let (own, peers) = (answer.figures().own, answer.figures().from_peers());
        assert_eq!((own, peers), (0, if node == 0 { 0 } else { 99 }));
    }
}

#[test]
fn a_node_that_was_off_converges_when_it_returns_and_remembers_afterwards() {
    let shape = shape_small(64);
    let mut world = swarm(3, &shape);
    world.kill(2);
    world.reset(0, true);
    world.pass(INTERVAL + 3_000);
    assert_eq!(
        ended(&world, 0),
        Some((1, vec![NodeId(3)])),
        "the console must name the nodes that have not answered"
    );
    world.restart(2);
    world.pass(1_500);
    assert_eq!(epochs(&world, 3), [1; 3]);
    assert_eq!(world.saved(2), state(1, 1));
    world.kill(2);
    world.restart(2);
    assert_eq!(world.status(2).epoch, Epoch(1));
}

/// The requirement for a paused guest: one announcement interval after it resumes.
#[test]
fn a_node_that_heard_nothing_of_the_reset_converges_within_one_announcement_interval() {
    let shape = shape_small(64);
    for pause in [5_000, 20_000, 100_000] {
        let mut world = swarm(3, &shape);
        world.deafen(2, true);
        world.reset(0, true);
        world.pass(pause);
        assert!(blocks(&world, 2) > 0);
        world.deafen(2, false);
        world.pass(INTERVAL);
        assert_eq!(epochs(&world, 3), [1; 3], "after a pause of {pause} ms");
        assert_eq!((blocks(&world, 2), world.saved(2)), (0, state(1, 1)));
    }
}

#[test]
fn with_a_third_of_the_datagrams_lost_all_follow_within_an_interval() {
    let shape = shape_small(64);
    let mut at_once = 0;
    for salt in 0..10 {
        let mut world = swarm(4, &shape);
        world.pass(salt * 331);
        world.net.weather.lose = 300;
        world.reset(salt as usize % 4, salt % 2 == 0);
        world.pass(3_000);
        at_once += usize::from(epochs(&world, 4) == [1; 4]);
        world.pass(INTERVAL + 1_000);
        assert_eq!(epochs(&world, 4), [1; 4], "salt {salt}");
    }
    assert!(at_once >= 8, "{at_once} of 10");
}

#[test]
fn two_resets_at_once_come_to_one_epoch_and_both_are_obeyed() {
    let shape = shape_small(64);
    let mut world = swarm(4, &shape);
    world.reset(0, false);
    world.reset(3, true);
    world.pass(4_000);
    assert_eq!(epochs(&world, 4), [1; 4]);
    assert!((0..4).all(|node| world.saved(node) == state(1, 1) && blocks(&world, node) == 0));
    assert_eq!(ended(&world, 0), Some((3, Vec::new())));
    assert_eq!(ended(&world, 3), Some((3, Vec::new())));
    world.pass(3_000);
    assert!(everybody_shares(&world, 4));
}

/// Each half of a divided swarm was reset. When the halves join, each also obeys the other's reset.
#[test]
fn resets_of_both_halves_of_a_divided_swarm_are_joined() {
    let shape = shape_small(64);
    let mut world = swarm(2, &shape);
    world.deafen(0, true);
    world.deafen(1, true);
    world.reset(0, true);
    for _ in 0..3 {
        world.reset(1, false);
        world.pass(1_500);
    }
    assert!(blocks(&world, 1) > 0);
    world.deafen(0, false);
    world.deafen(1, false);
    world.pass(INTERVAL + 3_000);
    assert!(
        (0..2).all(|node| world.saved(node) == state(3, 1)),
        "{:?} {:?}",
        world.saved(0),
        world.saved(1)
    );
    assert_eq!(blocks(&world, 1), 0);
}

/// A node that cannot save the epoch would bring the old one back after a power failure.
#[test]
fn a_node_that_cannot_save_obeys_but_neither_acknowledges_nor_shares() {
    let shape = shape_small(64);
    let mut world = swarm(3, &shape);
    world.fill_card(2, true);
    world.reset(0, true);
    world.pass(INTERVAL + 3_000);
    assert_eq!(epochs(&world, 3), [1, 1, 0]);
    assert_eq!(ended(&world, 0), Some((1, vec![NodeId(3)])));
    assert_eq!(blocks(&world, 2), 0, "the user wants the blocks dropped");
    assert!(
        world.notes(2).iter().any(|note| note.contains("cannot be saved (the card is full)")),
        "{:?}",
        world.notes(2)
    );
    world.answer_now(0, &prompt(8, 100), 2);
    let answer = world.answer_now(2, &prompt(8, 100), 2);
    assert_eq!(answer.figures().computed, 100);
    world.fill_card(2, false);
    world.pass(40_000);
    assert_eq!(epochs(&world, 3), [1; 3], "it must save the epoch as soon as there is room");
    assert!(blocks(&world, 2) > 0, "blocks from after the reset must stay");
    assert!(everybody_shares(&world, 3));
}

#[test]
fn a_console_whose_card_is_full_resets_nobody_and_says_so() {
    let shape = shape_small(64);
    let mut world = swarm(2, &shape);
    world.fill_card(0, true);
    world.reset(0, true);
    world.pass(3_000);
    assert_eq!(world.resets(0), [ResetNews::Failed { reason: "the card is full".to_string() }]);
    assert_eq!(epochs(&world, 2), [0; 2]);
    assert!(blocks(&world, 0) > 0);
    world.fill_card(0, false);
    world.reset(0, true);
    world.pass(2_500);
    assert_eq!(epochs(&world, 2), [1; 2]);
}

#[test]
fn a_prompt_under_way_ends_with_the_right_answer_and_leaves_nothing_behind() {
    let shape = shape_small(64);
    let (known, tokens) = (prompt(1, 100), [prompt(1, 90), prompt(7, 110)].concat());
    let mut apart = Sim::calm();
    apart.join(config(9, &shape, SLAB), 1);
    let expected = apart.answer_now(0, &tokens, 20);
    for store in [false, true] {
        for after in [0, 1, 3, 5, 20, 1_000, 3_000, 4_500, 5_000] {
            let mut world = swarm(3, &shape);
            world.set_rates(2_000);
            world.answer_now(0, &known, 1);
            world.answer_now(2, &known[..40], 1);
            let asked = world.ask(2, &tokens, 20);
            let next = world.ask(2, &tokens, 20);
            world.pass(after);
            world.reset(1, store);
            world.pass(60_000);
            for asked in [asked, next] {
                let answer = world
                    .answer(2, asked)
                    .unwrap_or_else(|| panic!("no answer, reset after {after} ms"));
                assert_eq!(
                    answer.tokens(),
                    expected.tokens(),
                    "reset after {after} ms, store {store}"
                );
            }
            assert!(
                (0..3).all(|node| held_on_to(&world, node) == 0),
                "reset after {after} ms: pages leaked"
            );
            if store {
                let second = world.answer(2, next).expect("seen above").figures();
                assert_eq!(
                    second.computed,
                    tokens.len(),
                    "reset after {after} ms: state from before it was used"
                );
            }
            assert_eq!(
                world.answer_now(2, &tokens, 20).figures().computed,
                1,
                "state computed since the reset must be kept"
            );
        }
    }
}

/// A board that joins a swarm after many resets must not take hours to catch up.
#[test]
fn a_newcomer_joins_at_whatever_epoch_the_swarm_is() {
    let shape = shape_small(64);
    let mut world = Sim::calm();
    for number in 0..2 {
        let old =
            potluck::node::NodeConfig { epochs: state(1 << 30, 7), ..config(number, &shape, SLAB) };
        world.join(old, SLOW);
    }
    world.pass(2_000);
    world.join(config(2, &shape, SLAB), SLOW);
    world.pass(3_000);
    assert_eq!(world.saved(2), state(1 << 30, 7));
    assert!(everybody_shares(&world, 3));
}
