//! What was answered once is not decoded again, locally or at a peer; and no draft, from any
//! source, changes an answer or delays it.

use potluck::id::TokenId;
use potluck::kv::Plane;
use potluck::limits::BLOCK_TOKENS;
use potluck::node::NodeConfig;

use crate::sim::cast::Mischief;
use crate::sim::engine::shape_small;
use crate::sim::heap::MS;
use crate::sim::ledger::Asked;
use crate::sim::talk::{BOARD, SLAB, config, expected, prompt};
use crate::sim::world::Sim;

/// Tokens of a prompt and of its answer.
const PROMPT: usize = 65;
pub(super) const ANSWER: usize = 64;

/// `count` boards, the last `without` of which draft nothing.
fn boards(name: &str, count: u64, without: u64) -> Sim {
    let drafts: Vec<bool> = (0..count).map(|number| number + without < count).collect();
    boards_with(name, &drafts)
}

/// Boards that know each other; those for which `drafts` is false use none.
pub(super) fn boards_with(name: &str, drafts: &[bool]) -> Sim {
    let mut sim = Sim::calm();
    for (number, drafts) in drafts.iter().enumerate() {
        let settings = config(number as u64, &shape_small(64), SLAB);
        sim.join(NodeConfig { drafts: *drafts, ..settings }, BOARD);
    }
    sim.pass(2_000);
    sim.count(if name.is_empty() { "boards" } else { "named boards" });
    sim
}

/// Milliseconds from the first token to the last.
pub(super) fn decoding(asked: &Asked) -> u64 {
    (asked.done_at - asked.first_token_at.expect("answered")) / MS
}

/// Asks a board. The milliseconds from the first token to the last, and the tokens.
pub(super) fn answer(
    sim: &mut Sim,
    who: usize,
    tokens: &[TokenId],
    luck: Option<u64>,
) -> (u64, Vec<TokenId>) {
    let id = match luck {
        None => sim.ask(who, tokens, ANSWER),
        Some(luck) => sim.ask_drawn(who, tokens, ANSWER, luck),
    };
    let asked = sim.await_answer(who, id);
    let said = (decoding(asked), asked.answer.as_ref().expect("answered").tokens().to_vec());
    sim.pass(600);
    said
}

#[test]
fn an_answer_that_was_given_before_is_not_decoded_again() {
    for len in [1, 16, 17, 64, 65, 161] {
        let mut sim = boards("repeated", 3, 1);
        let tokens = prompt(len as u32, len);
        let right = expected(sim.stations[0].config.fingerprint, &tokens, ANSWER);
        let (new, said) = answer(&mut sim, 0, &tokens, None);
        assert_eq!(
            (new, said),
            ((ANSWER as u64 - 1) * BOARD / MS, right.clone()),
            "new text must not be drafted"
        );
        let (again, said) = answer(&mut sim, 0, &tokens, None);
        assert_eq!(said, right);
        // A drafted row adds 15 % of a step: at best four steps of 16 rows, after some
        // cautious ones.
        assert!(
            again * 17 <= new * 4,
            "{len} tokens: again on the same node {again} ms, before {new} ms"
        );
        let (elsewhere, said) = answer(&mut sim, 1, &tokens, None);
        assert_eq!(said, right);
        assert!(
            elsewhere * 17 <= new * 4,
            "{len} tokens: on another node {elsewhere} ms, before {new} ms"
        );
        let (without, said) = answer(&mut sim, 2, &tokens, None);
        assert_eq!((without, said), (new, right), "a node without drafts");
        sim.assert_quiet();
    }
}

/// A node asks for the continuation of what it knows, so no answer is too long.
#[test]
fn a_long_answer_is_followed_to_its_end() {
    let mut sim = boards("long", 2, 0);
    let tokens = prompt(1, 100);
    let id = sim.ask(0, &tokens, 400);
    let new = decoding(sim.await_answer(0, id));
    sim.pass(600);
    let id = sim.ask(1, &tokens, 400);
    let asked = sim.await_answer(1, id);
    let (again, figures) =
        (decoding(asked), asked.answer.as_ref().expect("answered").figures().clone());
    assert!(again * 4 <= new, "{again} ms, before {new} ms: {:?}", figures.drafts);
    assert!(
        figures.drafts.peers.accepted >= 340 && figures.drafts.peers.wrong == 0,
        "{:?}",
        figures.drafts
    );
}

/// Every stop condition ends an answer at the same token, in the middle of a draft too.
#[test]
fn an_answer_ends_where_it_would_without_drafts() {
    let tokens = prompt(3, PROMPT);
    for max_tokens in [1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 80] {
        let mut sim = boards("ends", 1, 0);
        let right = expected(sim.stations[0].config.fingerprint, &tokens, max_tokens);
        sim.answer_now(0, &tokens, ANSWER);
        let again = sim.answer_now(0, &tokens, max_tokens);
        assert_eq!(again.tokens(), right, "{max_tokens} tokens at most");
        // The cached part of it is right, too.
        assert_eq!(sim.answer_now(0, &tokens, 90).tokens()[..max_tokens], right);
        sim.assert_quiet();
    }
    for (context, ended_by) in [(PROMPT + 5, 5), (96, 31), (97, 32), (98, 33)] {
        let mut sim = Sim::calm();
        sim.join(NodeConfig { context, ..config(0, &shape_small(64), SLAB) }, BOARD);
        for _ in 0..3 {
            assert_eq!(
                sim.answer_now(0, &tokens, ANSWER).tokens().len(),
                ended_by,
                "a context of {context} tokens"
            );
        }
    }
    for at in [0, 1, 5, 20, 40] {
        let mut sim = Sim::calm();
        let settings = config(0, &shape_small(64), SLAB);
        let end = expected(settings.fingerprint, &tokens, ANSWER)[at];
        sim.join(NodeConfig { end_tokens: vec![end], ..settings }, BOARD);
        for _ in 0..3 {
            let answer = sim.answer_now(0, &tokens, ANSWER);
            assert_eq!(answer.tokens().len(), at, "the model ends it after {at} tokens");
        }
    }
}

/// A draft may extend into the next block. This changes nothing even in a slab that barely has room
/// for the prompt and its answer.
#[test]
fn a_draft_takes_no_room_that_an_answer_would_not_have() {
    let tokens = prompt(6, 40);
    for blocks in 10..16 {
        let slab_bytes = blocks * shape_small(64).plane_bytes(Plane::Global, BLOCK_TOKENS) * 3;
        let mut sim = Sim::calm();
        sim.join(config(0, &shape_small(64), SLAB), BOARD);
        for (number, drafts) in [(1, true), (2, false)] {
            sim.join(NodeConfig { drafts, ..config(number, &shape_small(64), slab_bytes) }, BOARD);
        }
        sim.pass(2_000);
        let right = expected(sim.stations[0].config.fingerprint, &tokens, ANSWER);
        sim.answer_now(0, &tokens, ANSWER);
        sim.pass(600);
        for round in 0..3 {
            let [with, without] = [1, 2].map(|who| sim.answer_now(who, &tokens, ANSWER));
            assert_eq!(with.tokens(), without.tokens(), "{blocks} blocks, round {round}");
            assert_eq!(
                with.figures().stop,
                without.figures().stop,
                "{blocks} blocks, round {round}"
            );
            assert!(right.starts_with(with.tokens()) && !with.tokens().is_empty());
            sim.pass(600);
            sim.assert_quiet();
        }
        assert!(sim.status(1).node_stats.drafts.all().accepted > 0, "{blocks} blocks");
    }
}

/// An answer stopped during the verification of a draft leaves nothing pinned and nothing
/// wrong cached.
#[test]
fn an_answer_can_be_stopped_within_a_draft() {
    let mut sim = boards("stopped", 1, 0);
    let tokens = prompt(4, PROMPT);
    let right = expected(sim.stations[0].config.fingerprint, &tokens, ANSWER);
    sim.answer_now(0, &tokens, ANSWER);
    for ms in [40, 60, 100, 150, 200, 300] {
        let id = sim.ask(0, &tokens, ANSWER);
        sim.pass(ms);
        sim.stop(0, id);
        let stopped = sim.await_answer(0, id).answer.clone().expect("it ends");
        assert!(right.starts_with(stopped.tokens()), "after {ms} ms");
        sim.pass(600);
        sim.assert_quiet();
    }
    assert_eq!(sim.answer_now(0, &tokens, ANSWER).tokens(), right);
}

/// With liars among the peers that give drafts, the answers are right and hardly later, and liars
/// are soon no longer asked.
#[test]
fn wrong_drafts_change_no_answer_and_cost_next_to_nothing() {
    for mischief in [
        Mischief::WrongDrafts,
        Mischief::HalfDrafts,
        Mischief::StrangeDrafts,
        Mischief::UnaskedDrafts,
    ] {
        let mut sim = boards("liars", 2, 0);
        let prompts: Vec<_> = (0..10).map(|seed| prompt(50 + seed, PROMPT)).collect();
        for tokens in &prompts {
            answer(&mut sim, 0, tokens, None);
        }
        sim.corrupt(0, mischief);
        let alone = (ANSWER as u64 - 1) * BOARD / MS;
        let mut asked = 0;
        for (at, tokens) in prompts.iter().enumerate() {
            let (took, said) = answer(&mut sim, 1, tokens, None);
            assert_eq!(
                said,
                expected(sim.stations[1].config.fingerprint, tokens, ANSWER),
                "{mischief:?}"
            );
            assert!(
                took * 100 <= alone * 105,
                "{mischief:?}, prompt {at}: {took} ms, without drafts {alone} ms"
            );
            let before = std::mem::replace(&mut asked, sim.status(1).node_stats.drafts_asked);
            let trusted =
                at < 6 || matches!(mischief, Mischief::HalfDrafts | Mischief::StrangeDrafts);
            assert!(
                trusted || before == asked,
                "{mischief:?}: asked for the {asked}th time at prompt {at}"
            );
        }
        sim.assert_quiet();
    }
}

/// For sampled answers, an earlier continuation is only a guess.
#[test]
fn drawn_answers_are_the_same_with_drafts_and_without() {
    let mut right = 0;
    for seed in 0..20 {
        let mut sim = boards("drawn", 3, 1);
        let tokens = prompt(seed, PROMPT);
        answer(&mut sim, 0, &tokens, Some(seed.into()));
        for luck in [None, Some(u64::from(seed)), Some(77)] {
            let answers = [0, 1, 2].map(|who| answer(&mut sim, who, &tokens, luck).1);
            assert!(
                answers.iter().all(|answer| *answer == answers[2]),
                "seed {seed}, luck {luck:?}: {answers:?}"
            );
        }
        right += sim.status(0).node_stats.drafts.slab.accepted;
        assert_eq!(sim.status(2).node_stats.drafts.all().drafted, 0);
    }
    assert!(right > 500, "{right} drafted tokens right");
}
