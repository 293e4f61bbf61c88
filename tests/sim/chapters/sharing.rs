//! What a swarm promises, on a simulated LAN: the same answers whatever the network does, and
//! nothing is computed twice that a peer could have given.

use std::sync::Arc;

use potluck::id::{Fingerprint, TokenId};
use potluck::keyring::Keyring;
use potluck::kv::KvShape;
use potluck::limits::BLOCK_TOKENS;

use crate::sim::engine::shape_small;
use crate::sim::talk::expected;
use crate::sim::{Answer, Sim, config};

pub const SLAB: usize = 4 << 20;
/// The board: about 37 ms per token.
pub const SLOW: u64 = 37_000;

pub fn prompt(seed: u32, len: usize) -> Vec<TokenId> {
    (0..len as u32)
        .map(|at| TokenId((at.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) % 50_000))
        .collect()
}

pub fn swarm(nodes: u64, shape: &Arc<KvShape>) -> Sim {
    let mut world = Sim::calm();
    for number in 0..nodes {
        world.join(config(number, shape, SLAB), SLOW);
    }
    world.pass(2_000);
    world
}

pub fn alone(shape: &Arc<KvShape>, tokens: &[TokenId], max_tokens: usize) -> Answer {
    let mut world = Sim::calm();
    world.join(config(9, shape, SLAB), 1);
    world.answer_now(0, tokens, max_tokens)
}

#[test]
fn a_repeated_prompt_comes_from_the_peer_but_for_its_last_token() {
    let shape = shape_small(64);
    for len in [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 160, 161, 300] {
        let mut world = swarm(3, &shape);
        let tokens = prompt(len as u32, len);
        let expected = alone(&shape, &tokens, 20);
        let first = world.answer_now(0, &tokens, 20);
        assert_eq!(first.tokens(), expected.tokens(), "{len} tokens");
        let second = world.answer_now(1, &tokens, 20);
        assert_eq!(second.tokens(), expected.tokens(), "{len} tokens, fetched");
        assert_eq!(
            second.figures().from_peers(),
            len - 1,
            "{len} tokens: {:?} {:?}",
            second.figures(),
            world.notes(1)
        );
        assert_eq!(second.figures().computed, 1);
        let third = world.answer_now(1, &tokens, 20);
        assert_eq!(third.tokens(), expected.tokens());
        assert_eq!(third.figures().own, len - 1, "{len} tokens, from the own slab");
    }
}

#[test]
pub fn prompts_that_share_their_beginning_share_its_whole_blocks() {
    let shape = shape_small(40);
    let mut world = swarm(3, &shape);
    let mut one = prompt(1, 203);
    world.answer_now(0, &one, 4);
    one.truncate(150);
    one.extend(prompt(2, 60));
    let answer = world.answer_now(2, &one, 4);
    assert_eq!(answer.tokens(), alone(&shape, &one, 4).tokens());
    assert_eq!(answer.figures().from_peers(), 150 / BLOCK_TOKENS * BLOCK_TOKENS);
}

#[test]
fn a_conversation_goes_on_from_its_very_end_on_any_node() {
    let shape = shape_small(64);
    let mut world = swarm(2, &shape);
    let mut tokens = prompt(5, 37);
    let answer = world.answer_now(0, &tokens, 30);
    tokens.extend(answer.tokens());
    // The last token of an answer has no KV yet.
    let known = tokens.len() - 1;
    tokens.extend(prompt(6, 25));
    let next = world.answer_now(1, &tokens, 5);
    assert_eq!(next.tokens(), alone(&shape, &tokens, 5).tokens());
    assert_eq!(next.figures().from_peers(), known);
}

#[test]
fn a_peer_that_dies_in_mid_transfer_costs_a_recomputation_and_nothing_else() {
    let shape = shape_small(64);
    let tokens = prompt(3, 200);
    let expected = alone(&shape, &tokens, 6);
    for killed_after in [0, 1, 3, 10, 30, 60] {
        let mut world = swarm(2, &shape);
        world.set_rates(500);
        world.answer_now(0, &tokens, 6);
        let asked = world.ask(1, &tokens, 6);
        world.pass(killed_after);
        world.kill(0);
        world.pass(20_000);
        let answer = world
            .answer(1, asked)
            .unwrap_or_else(|| panic!("killed after {killed_after} ms: no answer"));
        assert_eq!(answer.tokens(), expected.tokens(), "killed after {killed_after} ms");
    }
}

#[test]
fn a_peer_that_falls_silent_delays_an_answer_by_less_than_a_step() {
    let shape = shape_small(64);
    let tokens = prompt(4, 200);
    let expected = alone(&shape, &tokens, 1);
    for stalled_after in [0, 2, 20, 45] {
        let mut world = swarm(2, &shape);
        world.set_rates(1_000);
        world.answer_now(0, &tokens, 1);
        world.stall_streams(Some(stalled_after));
        let answer = world.answer_now(1, &tokens, 1);
        assert_eq!(answer.tokens(), expected.tokens());
        let computing_ms = 200 * SLOW / 1_000;
        let figures = answer.figures();
        let step_ms = 16 * SLOW / 1_000;
        assert!(
            figures.ttft_ms <= computing_ms * 21 / 20 + step_ms,
            "stalled after {stalled_after} ms: {figures:?}"
        );
    }
}

#[test]
fn a_damaged_byte_anywhere_in_a_transfer_never_changes_an_answer() {
    let shape = shape_small(64);
    let tokens = prompt(8, 100);
    let expected = alone(&shape, &tokens, 4);
    let mut faults = 0;
    for byte in (0..30_000).step_by(577) {
        let mut world = swarm(2, &shape);
        world.answer_now(0, &tokens, 4);
        world.damage_byte = Some(byte);
        let answer = world.answer_now(1, &tokens, 4);
        assert_eq!(answer.tokens(), expected.tokens(), "byte {byte}");
        let stats = world.status(1).node_stats;
        faults +=
            stats.peer_faults + stats.connections_lost + stats.wants_absent + stats.peers_stalled;
    }
    assert!(faults > 20, "the damage was detected only {faults} times");
}

#[test]
fn nodes_with_another_model_or_key_share_nothing_and_answer_all_the_same() {
    let shape = shape_small(64);
    let tokens = prompt(9, 100);
    let mut world = Sim::calm();
    world.join(config(0, &shape, SLAB), SLOW);
    let other_model =
        potluck::node::NodeConfig { fingerprint: Fingerprint([8; 16]), ..config(1, &shape, SLAB) };
    world.join(other_model, SLOW);
    let keys = Keyring::new(b"another", []);
    world.join(potluck::node::NodeConfig { keys, ..config(2, &shape, SLAB) }, SLOW);
    world.pass(2_000);
    world.answer_now(0, &tokens, 3);
    for member in 1..3 {
        let answer = world.answer_now(member, &tokens, 3);
        assert_eq!(
            answer.tokens(),
            expected(world.stations[member].config.fingerprint, &tokens, 3)
        );
        assert_eq!(answer.figures().computed, 100);
        assert_eq!(world.status(member).node_stats.wants_sent, 0);
    }
    assert!(
        world.notes(0).iter().any(|note| note.contains("another model")),
        "{:?}",
        world.notes(0)
    );
    assert!(world.status(2).peers.is_empty());
}

#[test]
fn a_full_slab_evicts_and_what_was_evicted_is_computed_or_fetched_again() {
    let shape = shape_small(64);
    // About 24 blocks: one prompt of 200 tokens takes half of them.
    let small = 24 * 16 * 204;
    let mut world = Sim::calm();
    for number in 0..2 {
        world.join(config(number, &shape, small), SLOW);
    }
    world.pass(2_000);
    for round in 0..3 {
        for seed in 0..6 {
            let tokens = prompt(seed, 200);
            let expected = alone(&shape, &tokens, 20);
            let member = ((seed + round) % 2) as usize;
            assert_eq!(
                world.answer_now(member, &tokens, 20).tokens(),
                expected.tokens(),
                "round {round}, prompt {seed}"
            );
        }
    }
    for member in 0..2 {
        let status = world.status(member);
        assert!(status.cache.evicted > 0);
        assert_eq!(
            status.cache.planes.map(|plane| (plane.pinned, plane.reserved)),
            [(0, 0), (0, 0)],
            "nothing stays pinned or reserved"
        );
    }
}

#[test]
fn what_cannot_be_answered_is_refused_with_a_reason_and_the_next_is_answered() {
    let shape = shape_small(64);
    let mut world = Sim::calm();
    world.rules.refusals = true;
    world.join(config(0, &shape, 12 * 16 * 204), 10);
    for (tokens, part) in
        [(Vec::new(), "empty"), (prompt(1, 5_000), "context"), (prompt(1, 1_500), "slab")]
    {
        match world.answer_now(0, &tokens, 5) {
            Answer::Failed(reason) => assert!(reason.contains(part), "{reason}"),
            Answer::Done { .. } => panic!("a prompt of {} tokens was answered", tokens.len()),
        }
    }
    assert_eq!(world.answer_now(0, &prompt(1, 50), 5).tokens().len(), 5);
}

#[test]
pub fn prompts_wait_their_turn_and_stop_ends_only_the_one_under_way() {
    let shape = shape_small(64);
    let mut world = swarm(1, &shape);
    let long = world.ask(0, &prompt(1, 100), 500);
    let next = world.ask(0, &prompt(2, 40), 3);
    world.pass(6_000);
    world.stop(0, long);
    world.pass(6_000);
    let stopped = world.answer(0, long).expect("stopped answers must end").figures().clone();
    assert_eq!(stopped.stop, potluck::node::StopReason::Stopped);
    assert!(stopped.generated > 0 && stopped.generated < 500);
    assert_eq!(world.answer(0, next).expect("the next was answered").tokens().len(), 3);
}

#[test]
fn a_prompt_that_waits_can_be_stopped_and_never_begins() {
    let shape = shape_small(64);
    let mut world = swarm(1, &shape);
    let long = world.ask(0, &prompt(1, 100), 500);
    let next = world.ask(0, &prompt(2, 40), 3);
    world.stop(0, next);
    assert_eq!(world.answer(0, next).expect("stopped at once").figures().generated, 0);
    assert!(world.answer(0, long).is_none(), "the running prompt must go on");
    world.pass(60_000);
    assert_eq!(world.answer(0, long).expect("answered").tokens().len(), 500);
}

/// The console's benchmark must not cost anyone's state.
#[test]
fn a_private_prompt_uses_nothing_leaves_nothing_and_tells_nothing() {
    let shape = shape_small(64);
    let mut world = swarm(2, &shape);
    let tokens = prompt(1, 200);
    world.answer_now(0, &tokens, 1);
    world.pass(2_000);
    let before = world.status(1);
    let private = world.ask_privately(1, &tokens, 5);
    world.pass(20_000);
    let figures = world.answer(1, private).expect("answered").figures().clone();
    assert_eq!(
        (figures.computed, figures.own, figures.from_peers(), figures.generated),
        (200, 0, 0, 5)
    );
    let after = world.status(1);
    assert_eq!((after.cache, after.generation), (before.cache, before.generation));
    assert_eq!(after.node_stats.wants_sent, 0);
}

#[test]
fn peers_hear_how_busy_a_node_is_and_that_it_is_no_more() {
    let shape = shape_small(64);
    let mut world = swarm(2, &shape);
    let load = |world: &Sim| world.status(1).peers[0].load_percent;
    assert_eq!(load(&world), 0);
    for seed in 0..3 {
        world.ask(0, &prompt(seed, 300), 1);
    }
    world.pass(11_000);
    assert!(load(&world) > 10, "{} %", load(&world));
    world.pass(60_000);
    assert_eq!(load(&world), 0);
}

#[test]
fn lost_datagrams_are_repaired_and_sharing_goes_on() {
    let shape = shape_small(64);
    let mut world = swarm(3, &shape);
    world.net.weather.lose = 330;
    for seed in 0..6 {
        world.answer_now((seed % 3) as usize, &prompt(seed, 120), 2);
    }
    world.pass(60_000);
    for seed in 0..6 {
        let answer = world.answer_now(((seed + 1) % 3) as usize, &prompt(seed, 120), 2);
        assert_eq!(answer.figures().computed, 1, "prompt {seed}: {:?}", answer.figures());
    }
}

#[test]
fn three_idle_nodes_send_less_than_a_kilobyte_a_second() {
    let shape = shape_small(64);
    let mut world = swarm(3, &shape);
    for seed in 0..3 {
        world.answer_now(seed as usize, &prompt(seed, 200), 2);
    }
    world.pass(30_000);
    let before = world.net.traffic.datagram_bytes;
    world.pass(300_000);
    let rate = (world.net.traffic.datagram_bytes - before) as f64 / 300.0;
    assert!(rate <= 1_000.0, "{rate:.0} bytes a second");
    assert!(rate > 0.0, "nodes that send nothing are forgotten");
}

#[test]
fn a_long_prompt_tells_how_far_it_is_and_where_its_state_came_from() {
    let shape = shape_small(64);
    let mut world = swarm(2, &shape);
    let tokens = prompt(1, 400);
    let begun = world.clock();
    world.answer_now(0, &tokens, 2);
    let computed = world.progress(0);
    assert!(computed.len() > 3, "{computed:?}");
    let mut last = begun;
    for (at, progress) in &computed {
        assert!((*at - last).0 >= 1_000, "progress reported too soon or too often: {computed:?}");
        last = *at;
        assert_eq!((progress.prompt_tokens, progress.own, progress.peers), (400, 0, 0));
    }
    assert!(
        computed.is_sorted_by(|one, next| one.1.ready() < next.1.ready())
            && computed.iter().all(|(_, one)| one.ready() < 400)
    );
    // Another question after the same beginning: state from the peer is reported as the peer's.
    let mut other = tokens[..240].to_vec();
    other.extend(prompt(2, 200));
    world.answer_now(1, &other, 2);
    let shared = world.progress(1);
    assert!(shared.iter().any(|(_, one)| one.peers == 240 && one.computed > 0), "{shared:?}");
    // State that is available at once needs no report.
    world.answer_now(0, &tokens, 2);
    assert_eq!(world.progress(0), computed);
}
