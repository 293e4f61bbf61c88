//! Peers help with answers that nobody has given before, if they have answered similar ones; and
//! they never delay or change one.

use potluck::id::TokenId;

use crate::sim::cast::Mischief;
use crate::sim::engine::{NAMES, shape_270m};
use crate::sim::heap::MS;
use crate::sim::talk::{BOARD, expected, prompt};
use crate::sim::world::Sim;

use super::again;
use super::drafts::{ANSWER, answer, boards_with as boards, decoding};

/// Questions that one board is asked before another gets a new one.
const ALIKE: u32 = 12;

/// Milliseconds from the first token to the last, one token a step.
const ALONE: u64 = (ANSWER as u64 - 1) * BOARD / MS;

/// Three examples, always the same, then a question, then the words before each answer.
fn few_shot(question: u32) -> Vec<TokenId> {
    let cue = [11, 12, 13, 14, 15, NAMES].map(TokenId);
    [prompt(900, 52), prompt(question, 21), cue.to_vec()].concat()
}

/// The same without the words that set the manner: prose.
fn prose(question: u32) -> Vec<TokenId> {
    [prompt(900, 52), prompt(question, 27)].concat()
}

/// Boards of which the first has answered similar questions.
fn versed(name: &str, drafts: &[bool]) -> Sim {
    let mut sim = boards(name, drafts);
    (0..ALIKE).for_each(|question| drop(sim.answer_now(0, &few_shot(question), ANSWER)));
    sim
}

#[test]
fn a_reworded_question_is_answered_sooner_where_a_peer_has_answered_similar_ones() {
    let mut right = 0;
    for luck in [None, Some(7)] {
        let mut times = [0; 3];
        for question in 100..106 {
            // The third board drafts nothing, and the last one has nobody to ask.
            let mut sim = versed("alike", &[true, true, false]);
            let [(with, said), (without, same)] =
                [1, 2].map(|who| answer(&mut sim, who, &few_shot(question), luck));
            let (alone, also) = answer(&mut boards("", &[true]), 0, &few_shot(question), luck);
            assert_eq!(said, same, "question {question}, {luck:?}");
            assert_eq!(said, also, "question {question}, {luck:?}");
            assert_eq!(without, ALONE);
            let stats = sim.status(1).node_stats;
            assert_eq!(stats.habits_asked, sim.status(0).node_stats.habits_served);
            right += stats.drafts.peer_habit.accepted;
            for (sum, time) in times.iter_mut().zip([with, alone, without]) {
                *sum += time;
            }
            sim.assert_quiet();
        }
        let [with, alone, without] = times.map(|time| time / 6);
        eprintln!(
            "{luck:?}: {with} ms with peers' habits, {alone} ms without peers, {without} ms without drafts"
        );
        // A sampled answer breaks off every sixth word.
        let most = if luck.is_none() { 60 } else { 95 };
        assert!(with * 100 <= alone * most, "{luck:?}: {with} ms, {alone} ms without peers");
    }
    assert!(right > 200, "{right} tokens right from peers' habits");
}

/// At the board's pace and on the published link, as in `again`.
#[test]
fn a_board_answers_a_reworded_question_in_two_thirds_of_the_time() {
    let (shape, pace) = (shape_270m(256, 512), again::zero2w());
    let mut times = [0; 2];
    for question in 500..504 {
        for (time, drafts) in times.iter_mut().zip([true, false]) {
            let mut sim = again::boards("a reworded question", &shape, &pace, 20.9, drafts);
            (0..ALIKE).for_each(|alike| drop(sim.answer_now(0, &few_shot(alike), ANSWER)));
            let wanted = few_shot(question);
            let right = expected(sim.stations[1].config.fingerprint, &wanted, ANSWER);
            let id = sim.ask(1, &wanted, ANSWER);
            let answer = sim.await_answer(1, id).answer.clone().expect("answered");
            assert_eq!(answer.tokens(), right);
            *time += answer.figures().ttlt_ms;
        }
    }
    let [with, without] = times.map(|time| time / 4);
    eprintln!("a board's TTLT: {with} ms with peers' habits, {without} ms without drafts");
    assert!(with * 3 <= without * 2, "{with} ms, {without} ms without drafts");
}

/// Liars change no answer and cost at most a quarter of a step and half a per cent of the answer;
/// tokens that are in no vocabulary cost the step that they spoil.
#[test]
fn wrong_habits_change_no_answer_and_cost_next_to_nothing() {
    for mischief in [
        Mischief::WrongDrafts,
        Mischief::HalfDrafts,
        Mischief::StrangeDrafts,
        Mischief::UnaskedDrafts,
    ] {
        for luck in [None, Some(7)] {
            let mut sim = versed("liars", &[true, true, false]);
            sim.corrupt(0, mischief);
            let spoilt = if mischief == Mischief::StrangeDrafts { BOARD / MS * 1_250 } else { 0 };
            let (mut asked, mut spent) = (Vec::new(), 0);
            for question in 200..210 {
                let [(took, said), (_, right)] =
                    [1, 2].map(|who| answer(&mut sim, who, &few_shot(question), luck));
                assert_eq!(said, right, "{mischief:?}, {luck:?}, question {question}");
                assert!(
                    took * 1_000 <= ALONE * 1_005 + BOARD / MS * 250 + spoilt,
                    "{mischief:?}, {luck:?}, question {question}: {took} ms, alone {ALONE} ms"
                );
                spent += took;
                asked.push(sim.status(1).node_stats.habits_asked);
            }
            let wrong = sim.status(1).node_stats.drafts.peer_habit.wrong;
            eprintln!("{mischief:?}, {luck:?}: {} ms, {wrong} wrong, asked {asked:?}", spent / 10);
            assert!(spent <= 10 * ALONE, "all in all nothing is lost: {spent} ms");
            if mischief != Mischief::HalfDrafts {
                assert!(asked[9] <= 20 && asked[9] == asked[4], "it is left alone: {asked:?}");
            }
            sim.assert_quiet();
        }
    }
}

/// Prose that nobody can guess costs a few small questions and no time, on a board that has
/// answered nothing as on one that peers have helped before.
#[test]
fn new_prose_is_as_fast_as_without_peers() {
    let mut sims = [true, false].map(|drafts| versed("prose", &[true, drafts]));
    for question in 300..320 {
        let before = sims[0].status(1).node_stats.habits_asked;
        let [with, without] = sims.each_mut().map(|sim| {
            let id = sim.ask(1, &prose(question), ANSWER);
            let asked = sim.await_answer(1, id);
            let times = (asked.ttft() / MS, decoding(asked));
            sim.pass(600);
            times
        });
        let stats = sims[0].status(1).node_stats;
        assert_eq!((with.1, without.1), (ALONE, ALONE), "question {question}");
        assert!(with.0 <= without.0 + 1, "question {question}: {with:?}, without {without:?}");
        assert_eq!(stats.drafts.all().drafted, 0);
        assert!(stats.habits_asked - before <= 8, "question {question}");
        assert!(stats.habits_asked <= 16 + sims[0].clock().0 / 60_000, "then one a minute");
    }
}

/// A node that drafts nothing asks nobody, but what it has answered helps its peers.
#[test]
fn a_node_without_drafts_asks_nothing_and_answers_its_peers() {
    let mut sim = versed("without drafts", &[false, true]);
    let (took, _) = answer(&mut sim, 1, &few_shot(400), None);
    let [teller, asker] = [0, 1].map(|who| sim.status(who).node_stats);
    assert!(took < ALONE && asker.drafts.peer_habit.accepted > 0, "{took} ms: {asker:?}");
    assert_eq!((teller.habits_asked, teller.drafts.all().drafted), (0, 0));
    // A reset of the store clears the habits too.
    sim.reset(0, true);
    sim.pass(5_000);
    answer(&mut sim, 1, &few_shot(401), None);
    assert_eq!(sim.status(1).node_stats.drafts.peer_habit, asker.drafts.peer_habit);
}
