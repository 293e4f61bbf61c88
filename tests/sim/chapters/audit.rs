//! Audits: a node that gives wrong bytes, which no check of a transfer can detect, is found, named
//! and dropped. Honest nodes are not, whatever others claim, and no prompt waits for an audit.

use std::sync::Arc;

use potluck::catalog::wire::{self, Header, Message, Warning};
use potluck::id::{EpochState, NodeId};
use potluck::keyring::SwarmSecret;
use potluck::kv::{KvShape, Plane};
use potluck::limits::{DISTRUST_MS, MAX_WARNINGS_A_PEER, WARNED_AUDITS};
use potluck::node::NodeConfig;

use super::sharing::{SLAB, SLOW, alone, prompt};
use crate::sim::cast::Mischief;
use crate::sim::checks::Law2;
use crate::sim::engine::{Flaw, shape_small};
use crate::sim::net::Medium;
use crate::sim::{Sim, config};

/// A minute of idle time: more than any audit here takes.
const IDLE: u64 = 60_000;

/// All blocks that come from peers are audited.
const ALL: u16 = 10_000;

/// A node with another CPU: every block is wrong.
const OTHER_BITS: Flaw = Flaw::OtherBits { percent: 100 };

/// Boards that audit these shares of their blocks, in ten-thousandths. The first board has the flaw
/// and does not audit.
fn swarm(shares: &[u16], shape: &Arc<KvShape>, flaw: Option<Flaw>) -> Sim {
    people(Sim::calm(), shares, shape, flaw)
}

fn people(mut world: Sim, shares: &[u16], shape: &Arc<KvShape>, flaw: Option<Flaw>) -> Sim {
    for (number, share) in shares.iter().enumerate() {
        world
            .join(NodeConfig { audit_per_10k: *share, ..config(number as u64, shape, SLAB) }, SLOW);
    }
    world.stations[0].engine.flaw = flaw;
    world.rules.lies = flaw.is_some();
    world.pass(2_000);
    world
}

/// Whether `who` no longer asks `peer` for anything.
fn distrusts(world: &Sim, who: usize, peer: usize) -> bool {
    let node = world.stations[peer].config.node;
    world.status(who).peers.iter().any(|known| known.node == node && known.distrusted)
}

fn failed(world: &Sim, who: usize) -> u64 {
    world.status(who).node_stats.audits_failed
}

#[test]
fn a_node_with_other_bits_is_found_named_and_dropped_and_later_answers_are_right() {
    let shape = shape_small(64);
    let tokens = prompt(1, 300);
    let expected = alone(&shape, &tokens, 3);
    let mut world = swarm(&[0, ALL, ALL], &shape, Some(OTHER_BITS));
    world.answer_now(0, &tokens, 3);
    let deceived = world.answer_now(1, &tokens, 3);
    assert!(
        deceived.figures().from_peers() > 200 && deceived.tokens() != expected.tokens(),
        "{:?}",
        deceived.figures()
    );
    world.pass(IDLE);
    assert!(distrusts(&world, 1, 0), "{:?}", world.notes(1));
    assert!(
        world.notes(1).iter().any(|note| note.contains("0000000000000001 sent bytes")),
        "{:?}",
        world.notes(1)
    );
    assert_eq!(failed(&world, 1), 1, "one failed audit is enough");
    let right = world.answer_now(1, &tokens, 3);
    assert_eq!(right.tokens(), expected.tokens());
    assert_eq!(right.figures().computed, tokens.len(), "nothing that the liar made may be used");
    // The others fetch it from the node that computed it.
    let third = world.answer_now(2, &tokens, 3);
    assert!(third.figures().from_peers() > 200, "{:?}", third.figures());
    world.pass(IDLE);
    world.assert_quiet();
}

#[test]
fn those_who_are_warned_look_for_themselves_and_drop_it_too() {
    let shape = shape_small(64);
    let tokens = prompt(1, 100);
    let mut world = swarm(&[0, 1, 1, ALL], &shape, Some(OTHER_BITS));
    world.answer_now(0, &tokens, 1);
    for who in 1..3 {
        // All of it comes from the first node, because this one cannot hear the others.
        (1..4).filter(|other| *other != who).for_each(|other| world.cut(other, who));
        assert!(world.answer_now(who, &tokens, 1).figures().from_peers() > 90);
        world.net.cuts.clear();
    }
    world.pass(IDLE);
    assert!(
        !distrusts(&world, 1, 0) && !distrusts(&world, 2, 0),
        "so few blocks are hardly ever selected"
    );
    for who in 1..3 {
        (1..3).for_each(|other| world.cut(other, 3));
        world.cut(who, 3);
    }
    world.answer_now(3, &prompt(1, 90), 1);
    world.net.cuts.clear();
    world.pass(IDLE);
    for who in 1..4 {
        let audited = world.status(who).node_stats;
        assert!(distrusts(&world, who, 0), "node {who}: {:?} {audited:?}", world.notes(who));
    }
    assert!((1..4).all(|who| (1..4).all(|other| who == other || !distrusts(&world, who, other))));
}

#[test]
fn of_a_prompt_longer_than_the_window_every_block_can_be_audited() {
    let shape = shape_small(40);
    let tokens = prompt(1, 300);
    let mut world = swarm(&[0, ALL], &shape, None);
    world.answer_now(0, &tokens, 1);
    assert!(world.answer_now(1, &tokens, 1).figures().from_peers() > 290);
    world.pass(10 * IDLE);
    let stats = world.status(1).node_stats;
    assert!(stats.blocks_audited > 18 && stats.audits_failed == 0, "{stats:?}");
    world.assert_quiet();
}

/// At the default share, part of a prompt of the benchmark's length is audited, and a liar is found
/// within some prompts.
#[test]
fn at_the_default_share_a_liar_is_found_within_some_prompts() {
    let shape = shape_small(512);
    let mut found = Vec::new();
    for run in 1..9 {
        let mut world = people(
            Sim::new("one in a hundred", run, Medium::Switched, 100_000),
            &[0, 100],
            &shape,
            Some(OTHER_BITS),
        );
        let prompts = (1..200).find(|seed| {
            world.answer_now(0, &prompt(*seed, 400), 1);
            world.answer_now(1, &prompt(*seed, 400), 1);
            world.pass(5_000);
            distrusts(&world, 1, 0)
        });
        found.push(prompts.expect("found"));
    }
    println!("prompts of 25 blocks until a liar is found at 1 %: {found:?}");
    assert!(found.iter().sum::<u32>() <= 8 * 12, "{found:?}");
}

#[test]
fn who_passed_on_wrong_bytes_in_good_faith_finds_their_source_and_is_asked_again_later() {
    let shape = shape_small(64);
    let tokens = prompt(1, 100);
    let mut world = swarm(&[0, 1, ALL], &shape, Some(OTHER_BITS));
    world.answer_now(0, &tokens, 1);
    world.answer_now(1, &tokens, 1);
    world.cut(0, 2);
    world.cut(2, 0);
    assert!(world.answer_now(2, &tokens, 1).figures().from_peers() > 90);
    world.pass(IDLE);
    assert!(distrusts(&world, 2, 1), "a node answers for what it gives: {:?}", world.notes(2));
    assert!(distrusts(&world, 1, 0), "it is warned, and audits for itself: {:?}", world.notes(1));
    world.pass(DISTRUST_MS);
    assert!(!distrusts(&world, 2, 1));
    assert!(distrusts(&world, 1, 0), "a node that warns of nobody stays distrusted");
    let other = prompt(2, 100);
    world.answer_now(1, &other, 1);
    assert!(world.answer_now(2, &other, 1).figures().from_peers() > 90);
}

/// Results computed on wrong bytes are wrong, whoever computes them.
#[test]
fn nobody_is_accused_of_what_was_computed_on_anothers_wrong_bytes() {
    let shape = shape_small(64);
    let long = prompt(1, 200);
    let mut world = swarm(&[0, ALL, 0], &shape, Some(OTHER_BITS));
    world.rules.own_bytes_win = false;
    world.stations.iter_mut().for_each(|station| station.engine.spreads = true);
    // An honest node has the whole prompt, with right bytes.
    world.deafen(2, true);
    world.answer_now(2, &long, 1);
    world.answer_now(0, &long[..64], 1);
    // The auditing node gets the beginning from the liar, and the rest from the honest node. It is
    // never idle in between.
    let beginning = world.ask(1, &long[..64], 1);
    world.await_answer(1, beginning);
    world.deafen(2, false);
    world.ask(1, &prompt(9, 400), 1);
    let whole = world.ask(1, &long, 1);
    let figures = world.await_answer(1, whole).answer.as_ref().expect("closed").figures().clone();
    assert!(
        figures.own >= 48
            && figures.peers.iter().any(|(node, tokens)| *node == NodeId(3) && *tokens > 100),
        "{figures}"
    );
    world.pass(10 * IDLE);
    assert!(distrusts(&world, 1, 0), "{:?}", world.notes(1));
    assert!(!distrusts(&world, 1, 2), "{:?}", world.notes(1));
    let expected = alone(&shape, &long, 2);
    assert_eq!(world.answer_now(1, &long, 2).tokens(), expected.tokens());
}

#[test]
fn a_node_whose_own_memory_is_broken_names_itself_and_nobody_else() {
    let shape = shape_small(64);
    let tokens = prompt(1, 200);
    let mut world = swarm(&[0, ALL], &shape, None);
    world.answer_now(0, &tokens, 1);
    world.answer_now(1, &tokens, 1);
    world.stations[1].engine.flaw = Some(Flaw::BadMemory { percent: 100 });
    world.rules.lies = true;
    world.pass(IDLE);
    assert!(!distrusts(&world, 1, 0), "{:?}", world.notes(1));
    assert!(
        world.notes(1).iter().any(|note| note.contains("different bytes")),
        "{:?}",
        world.notes(1)
    );
    assert_eq!(failed(&world, 1), 1, "one failed audit is enough");
}

/// A liar with the key claims that every honest node's bytes are wrong.
#[test]
fn honest_nodes_that_a_liar_accuses_stay_trusted_and_it_costs_a_bounded_number_of_audits() {
    let shape = shape_small(64);
    let tokens = prompt(1, 300);
    let mut world = swarm(&[0, 1, 1], &shape, None);
    world.answer_now(1, &tokens, 1);
    assert!(world.answer_now(2, &tokens, 1).figures().from_peers() > 290);
    let keys: Vec<_> = world.truths.keys().copied().collect();
    let (liar, secret) = (world.stations[0].config.clone(), SwarmSecret::derive(b"test"));
    for (counter, key) in keys.iter().cycle().take(500).enumerate() {
        let accused = NodeId(2 + counter as u64 % 2);
        let boot = world.stations[accused.0 as usize - 1].config.boot;
        let warning =
            Warning { accused, boot, key: *key, plane: Plane::Global, served: 1, computed: 2 };
        let header = Header {
            swarm: secret.tag(),
            node: liar.node,
            boot: liar.boot,
            counter: 1_000 + counter as u64,
            epochs: EpochState::default(),
        };
        let datagram = wire::seal(&header, &Message::Warning(warning), &secret);
        world.multicast(world.stations[0].addr, &datagram);
    }
    world.pass(5 * IDLE);
    let most = (MAX_WARNINGS_A_PEER * WARNED_AUDITS * tokens.len() / 16) as u64;
    for who in 1..3 {
        let status = world.status(who);
        assert!(status.peers.iter().all(|peer| !peer.distrusted), "{:?}", world.notes(who));
        assert!(status.node_stats.blocks_audited <= most, "{:?}", status.node_stats);
        assert!(status.catalog.warnings_heard > 400);
    }
    assert!(world.status(2).node_stats.blocks_audited > 0, "it looked");
    world.assert_quiet();
}

#[test]
fn a_prompt_never_waits_for_an_audit() {
    let shape = shape_small(64);
    let mut world = swarm(&[0, ALL], &shape, None);
    world.rules.law2 = Some(Law2::PROMISED);
    for seed in 0..6 {
        world.answer_now(0, &prompt(seed, 200), 1);
    }
    for seed in 0..6 {
        world.answer_now(1, &prompt(seed, 200), 1);
        // A moment somewhere within an audit.
        world.pass(1_000 + 77 * u64::from(seed));
        let other = prompt(100 + seed, 100);
        let answer = world.answer_now(1, &other, 1);
        let late = answer.figures().ttft_ms - 100 * SLOW / 1_000;
        assert!(late <= 16 * SLOW / 1_000 / 3 + 1, "{late} ms late: more than a layer of an audit");
    }
    assert!(world.counts["job abandoned"] > 3, "{:?}", world.counts);
    world.pass(10 * IDLE);
    assert!(world.status(1).node_stats.blocks_audited > 30, "{:?}", world.status(1).node_stats);
    world.assert_quiet();
}

#[test]
fn a_liar_comes_back_after_a_new_start_and_some_time_or_a_reset() {
    let shape = shape_small(64);
    let tokens = prompt(1, 100);
    let caught = || {
        let mut world = swarm(&[0, ALL], &shape, Some(OTHER_BITS));
        world.answer_now(0, &tokens, 1);
        world.answer_now(1, &tokens, 1);
        world.pass(IDLE);
        assert!(distrusts(&world, 1, 0), "{:?}", world.notes(1));
        world.stations[0].engine.flaw = None;
        world
    };
    let mut world = caught();
    world.restart(0);
    world.pass(IDLE);
    assert!(distrusts(&world, 1, 0), "too soon");
    world.pass(DISTRUST_MS);
    assert!(!distrusts(&world, 1, 0));
    world.answer_now(0, &prompt(2, 100), 1);
    assert!(world.answer_now(1, &prompt(2, 100), 1).figures().from_peers() > 90);
    let mut world = caught();
    world.pass(DISTRUST_MS);
    assert!(distrusts(&world, 1, 0), "it must still be distrusted");
    world.reset(1, true);
    world.pass(5_000);
    assert!(!distrusts(&world, 1, 0));
}

/// Anyone with the key can order a reset, so a liar can, too.
#[test]
fn a_liar_that_orders_a_reset_is_neither_forgiven_nor_spared() {
    let shape = shape_small(64);
    let tokens = prompt(1, 100);
    for caught_before in [true, false] {
        let mut world = swarm(&[0, ALL], &shape, Some(OTHER_BITS));
        world.answer_now(0, &tokens, 1);
        world.answer_now(1, &tokens, 1);
        if caught_before {
            world.pass(IDLE);
            assert!(distrusts(&world, 1, 0), "{:?}", world.notes(1));
        }
        assert_eq!(distrusts(&world, 1, 0), caught_before);
        // If the blocks stay, so do the audits that wait for them.
        world.reset(0, caught_before);
        world.pass(IDLE);
        assert!(world.notes(1).iter().any(|note| note.contains("reset")), "{:?}", world.notes(1));
        assert!(distrusts(&world, 1, 0), "{:?}", world.notes(1));
    }
}

/// Otherwise a peer that keeps asking could keep a node auditing.
#[test]
fn a_block_is_drawn_when_it_comes_in_and_never_for_being_asked_for() {
    let shape = shape_small(64);
    let tokens = prompt(1, 100);
    let mut world = swarm(&[0, ALL, 0], &shape, None);
    world.answer_now(0, &tokens, 1);
    world.answer_now(1, &tokens, 1);
    world.pass(IDLE);
    let before = world.status(1).node_stats;
    assert!(before.blocks_audited > 0, "{before:?}");
    world.cut(0, 2);
    world.cut(2, 0);
    assert!(world.answer_now(2, &tokens, 1).figures().from_peers() > 90);
    world.pass(IDLE);
    let after = world.status(1).node_stats;
    assert!(after.planes_served > before.planes_served, "{after:?}");
    assert_eq!(
        (after.blocks_audited, after.audits_skipped),
        (before.blocks_audited, before.audits_skipped)
    );
}

/// The cast's members that lie in content do so to every node that connects to them.
#[test]
fn whoever_sends_wrong_bytes_with_right_checksums_is_found() {
    let shape = shape_small(64);
    let tokens = prompt(1, 100);
    for mischief in [Mischief::WrongBlock, Mischief::WrongBytes] {
        let mut world = swarm(&[0, ALL], &shape, None);
        world.answer_now(0, &tokens, 1);
        world.corrupt(0, mischief);
        world.answer_now(1, &tokens, 1);
        world.pass(IDLE);
        assert!(distrusts(&world, 1, 0), "{mischief:?}: {:?}", world.notes(1));
    }
}
