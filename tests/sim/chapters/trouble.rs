//! What peers, full slabs and impatient users can do to a node: an answer may take longer, within a
//! bound, and nothing else.

use std::sync::Arc;

use potluck::id::TokenId;
use potluck::kv::{KvFormat, KvShape, Plane};
use potluck::node::{NodeConfig, StopReason, Watch};

use super::sharing::{SLAB, SLOW, alone, prompt, swarm};
use crate::sim::cast::Mischief;
use crate::sim::engine::{shape_of, shape_small};
use crate::sim::{Answer, Sim, config};

const ALL: [Mischief; 13] = [
    Mischief::Refuses,
    Mischief::Unreachable,
    Mischief::Mute,
    Mischief::Trickles,
    Mischief::GreetsOnly,
    Mischief::OtherName,
    Mischief::Babbles,
    Mischief::HasNothing,
    Mischief::Busy,
    Mischief::OtherParent,
    Mischief::OtherTokens,
    Mischief::OtherLength,
    Mischief::Poison,
];

/// A swarm of two, whose first node has answered `tokens` and then turns hostile.
fn betrayed(shape: &Arc<KvShape>, tokens: &[TokenId], mischief: Mischief) -> Sim {
    let mut world = swarm(2, shape);
    world.answer_now(0, tokens, 2);
    world.corrupt(0, mischief);
    world
}

#[test]
fn no_mischief_of_a_peer_changes_an_answer_or_keeps_a_slot_and_each_costs_a_bounded_time() {
    let shape = shape_small(64);
    let tokens = prompt(1, 400);
    let expected = alone(&shape, &tokens, 2);
    let computing_ms = 400 * SLOW / 1_000;
    for mischief in ALL {
        let mut world = betrayed(&shape, &tokens, mischief);
        let answer = world.answer_now(1, &tokens, 2);
        assert_eq!(answer.tokens(), expected.tokens(), "{mischief:?}");
        assert_eq!(answer.figures().computed, 400, "{mischief:?}");
        let waited = answer.figures().ttft_ms - computing_ms;
        assert!(
            waited <= 16 * SLOW / 1_000 + computing_ms / 20,
            "{mischief:?}: {waited} ms of {computing_ms}"
        );
        world.pass(20_000);
        world.assert_quiet();
        assert!(world.notes(1).len() < 12, "{mischief:?} fills the log: {:?}", world.notes(1));
    }
}

#[test]
fn a_peer_that_cannot_be_used_costs_a_prompt_nothing() {
    let shape = shape_small(64);
    for mischief in [
        Mischief::Refuses,
        Mischief::Unreachable,
        Mischief::Mute,
        Mischief::Trickles,
        Mischief::OtherName,
    ] {
        let mut world = swarm(2, &shape);
        let prompts: Vec<_> = (0..2).map(|seed| prompt(seed, 400)).collect();
        for tokens in &prompts {
            world.answer_now(0, tokens, 1);
        }
        world.corrupt(0, mischief);
        world.answer_now(1, &prompts[0], 1);
        let before = world.net.traffic.connects;
        let answer = world.answer_now(1, &prompts[1], 1);
        assert_eq!(
            answer.figures().ttft_ms,
            400 * SLOW / 1_000,
            "{mischief:?}: the node waits for it again"
        );
        assert!(
            world.net.traffic.connects <= before + 1,
            "{mischief:?}: the node keeps connecting to it"
        );
    }
}

#[test]
fn a_peer_that_comes_back_is_asked_again_at_once() {
    let shape = shape_small(64);
    let mut world = swarm(2, &shape);
    let tokens = prompt(1, 200);
    world.answer_now(0, &tokens, 1);
    world.cut_power(0);
    assert_eq!(world.answer_now(1, &tokens, 1).figures().computed, 200);
    world.restart(0);
    world.pass(1_000);
    let other = prompt(2, 200);
    world.answer_now(0, &other, 1);
    assert_eq!(world.answer_now(1, &other, 1).figures().computed, 1, "{:?}", world.notes(1));
}

#[test]
fn a_connection_to_an_earlier_start_of_a_peer_is_not_used() {
    let shape = shape_small(64);
    let mut world = swarm(2, &shape);
    let first = prompt(1, 200);
    world.answer_now(0, &first, 1);
    assert_eq!(world.answer_now(1, &first, 1).figures().computed, 1);
    world.cut_power(0);
    world.restart(0);
    world.pass(1_000);
    let second = prompt(2, 200);
    world.answer_now(0, &second, 1);
    assert_eq!(world.answer_now(1, &second, 1).figures().computed, 1, "{:?}", world.notes(1));
}

#[test]
fn stop_ends_an_answer_that_waits_for_a_peer_and_the_next_prompt_begins() {
    let shape = shape_small(64);
    let tokens = prompt(1, 700);
    let mut world = betrayed(&shape, &tokens, Mischief::GreetsOnly);
    let waits = world.ask(1, &tokens, 5);
    let next = world.ask(1, &prompt(2, 10), 1);
    world.pass(20);
    world.stop(1, waits);
    world.pass(10 * SLOW / 1_000 + 5);
    assert_eq!(
        world.answer(1, waits).expect("stopped at once").figures().stop,
        StopReason::Stopped
    );
    assert_eq!(
        world.answer(1, next).expect("answered without waiting for the first").tokens().len(),
        1
    );
    world.pass(20_000);
    world.assert_quiet();
}

#[test]
fn state_that_is_no_number_is_forgotten_computed_again_and_not_fetched_again() {
    let shape = shape_small(64);
    let tokens = prompt(1, 200);
    let expected = alone(&shape, &tokens, 3);
    let mut world = betrayed(&shape, &tokens, Mischief::Poison);
    assert_eq!(world.answer_now(1, &tokens, 3).tokens(), expected.tokens());
    let again = world.answer_now(1, &tokens, 3);
    assert_eq!(again.tokens(), expected.tokens());
    assert_eq!(again.figures().own, 199, "computed state must stay");
    world.pass(20_000);
    world.assert_quiet();
}

#[test]
fn peers_that_hold_on_to_what_they_are_sent_do_not_cost_a_node_its_own_answer() {
    let layers = [Plane::Sliding, Plane::Global, Plane::Sliding];
    let shape = Arc::new(KvShape::new(&layers, 32, 32, 64, KvFormat::Int8).expect("a good shape"));
    let small = 24 * 16 * 204 * 32;
    let mut world = Sim::calm();
    for number in 0..3 {
        world.join(config(number, &shape, small), SLOW);
    }
    world.pass(2_000);
    // Peers whose speed is known get larger requests at once.
    world.answer_now(0, &prompt(3, 100), 1);
    (1..3).for_each(|member| drop(world.answer_now(member, &prompt(3, 100), 1)));
    let shared = prompt(1, 200);
    world.answer_now(0, &shared, 1);
    world.ask(1, &shared, 1);
    world.ask(2, &shared, 1);
    world.set_rates(600);
    world.pass(4);
    world.stall_streams(Some(0));
    let pinned = world.status(0).cache.planes.map(|plane| plane.pinned);
    assert!(pinned.iter().sum::<usize>() >= 2, "{pinned:?}");
    let own = prompt(2, 300);
    assert_eq!(world.answer_now(0, &own, 1).tokens(), alone(&shape, &own, 1).tokens());
    world.stall_streams(None);
    world.pass(60_000);
    world.assert_quiet();
}

#[test]
fn a_slow_peer_is_remembered_as_slow_and_not_as_dead() {
    let shape = shape_small(64);
    let mut world = swarm(2, &shape);
    // 700 tokens take 47.6 kB of global planes and some sliding ones: 7 s at this rate, more than
    // the quarter that an unmeasured peer is allowed.
    world.set_rates(6);
    let tokens = prompt(1, 700);
    world.answer_now(0, &tokens, 1);
    world.answer_now(1, &tokens, 1);
    let goodput = world.status(1).peers[0].goodput_bytes_per_s.expect("measured");
    assert!((2_000.0..8_000.0).contains(&goodput), "{goodput}");
}

#[test]
fn wants_that_find_no_place_go_out_as_soon_as_there_is_one() {
    let shape = shape_small(64);
    let mut world = swarm(2, &shape);
    let (first, second) = (prompt(1, 700), prompt(2, 700));
    world.answer_now(0, &first, 1);
    world.answer_now(0, &second, 1);
    world.set_rates(100);
    let stopped = world.ask(1, &first, 1);
    world.pass(8);
    world.stop(1, stopped);
    world.pass(1);
    assert!(world.answer(1, stopped).is_some());
    let answer = world.answer_now(1, &second, 1);
    assert_eq!(answer.figures().computed, 1, "{:?}", answer.figures());
    assert!(answer.figures().ttft_ms < 3_000, "{:?}", answer.figures());
}

#[test]
fn a_model_without_global_or_without_sliding_layers_answers_as_any_other() {
    for layers in [&[Plane::Sliding, Plane::Sliding][..], &[Plane::Global, Plane::Global][..]] {
        for window in [1, 16, 40, 2_000] {
            let shape = shape_of(layers, window);
            for len in [1, 16, 17, 47, 48, 100] {
                let mut world = swarm(2, &shape);
                let tokens = prompt(len, len as usize);
                let expected = alone(&shape, &tokens, 20);
                assert_eq!(world.answer_now(0, &tokens, 20).tokens(), expected.tokens());
                let fetched = world.answer_now(1, &tokens, 20);
                assert_eq!(fetched.tokens(), expected.tokens());
                // Without global layers, blocks before the window are not fetched, and later blocks
                // lack their parents.
                if layers[0] == Plane::Global {
                    assert_eq!(
                        fetched.figures().computed,
                        1,
                        "{layers:?}, window {window}, {len} tokens"
                    );
                }
                world.pass(1_000);
                world.assert_quiet();
            }
        }
    }
}

#[test]
fn sizes_at_the_edge_of_what_numbers_hold_are_answered_or_refused_and_nothing_breaks() {
    let shape = shape_small(64);
    let mut world = Sim::calm();
    world.rules.refusals = true;
    world.join(NodeConfig { context: 64, ..config(0, &shape, SLAB) }, 10);
    world.join(NodeConfig { context: 0, sharing: false, ..config(1, &shape, SLAB) }, 10);
    let full = world.answer_now(0, &prompt(1, 40), usize::MAX);
    assert_eq!((full.figures().stop, full.figures().generated), (StopReason::ContextFull, 24));
    assert_eq!(world.answer_now(0, &prompt(2, 63), 9).tokens().len(), 1);
    assert_eq!(world.answer_now(0, &prompt(3, 20), 0).figures().generated, 1);
    assert!(matches!(world.answer_now(1, &prompt(1, 1), 1), Answer::Failed(_)));
    world.assert_quiet();
}

/// Ends an answer with its third token.
#[derive(Debug)]
struct ThirdToken(usize);

impl Watch for ThirdToken {
    fn ends_with(&mut self, _: TokenId) -> bool {
        self.0 += 1;
        self.0 == 3
    }
}

#[test]
fn an_answer_that_is_found_to_be_over_costs_no_further_token() {
    let shape = shape_small(64);
    let tokens = prompt(1, 33);
    let expected = alone(&shape, &tokens, 5);
    let mut world = Sim::calm();
    world.join(config(0, &shape, SLAB), SLOW);
    let first = world.ask_watched(0, &tokens, 5, Box::new(ThirdToken(0)));
    let next = world.ask(0, &prompt(2, 33), 1);
    world.pass(60_000);
    let (first, next) = (world.answer(0, first).unwrap(), world.answer(0, next).unwrap());
    assert_eq!(first.tokens(), &expected.tokens()[..3]);
    assert_eq!((first.figures().stop, first.figures().generated), (StopReason::StopString, 3));
    // The third token is chosen after 33 + 2 computed ones; then the engine serves the next prompt.
    assert_eq!(next.figures().ttft_ms, (33 + 2 + 33) * SLOW / 1_000);
    world.assert_quiet();
}

#[test]
fn an_answer_that_ends_before_it_begins_still_has_its_figures() {
    let shape = shape_small(64);
    let tokens = prompt(1, 33);
    let end = alone(&shape, &tokens, 1).tokens()[0];
    let mut world = Sim::calm();
    world.join(NodeConfig { end_tokens: vec![end], ..config(0, &shape, SLAB) }, SLOW);
    let answer = world.answer_now(0, &tokens, 5);
    assert_eq!((answer.figures().stop, answer.figures().generated), (StopReason::End, 0));
    assert_eq!(answer.figures().ttft_ms, 33 * SLOW / 1_000);
    world.assert_quiet();
}
