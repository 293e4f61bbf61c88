//! Drafts are as long as they pay, and stop where they do not.

use heapless::Vec as Bounded;

use super::*;
use crate::id::TokenId;
use crate::limits::{MAX_DRAFT_TOKENS, MAX_PATH_TOKENS, SMOOTH_STEP_MS};

/// A board's steps, from tools/eval/zero2w.toml: reading takes 195 ms for any number of rows,
/// computing 26 ms per row.
fn board(rows: usize) -> u64 {
    195_000.max(26_000 * rows as u64)
}

/// A machine where rows cost as much together as one by one.
fn flat(rows: usize) -> u64 {
    10_000 * rows as u64
}

fn measured(machine: fn(usize) -> u64) -> Costs {
    let mut costs = Costs::default();
    for _ in 0..32 {
        (1..=MAX_DRAFT_TOKENS + 1).for_each(|rows| costs.note(rows, machine(rows)));
    }
    costs
}

fn tokens(ids: &[u32]) -> Vec<TokenId> {
    ids.iter().copied().map(TokenId).collect()
}

/// An outlook in which only the chance matters.
fn sure(chance: f32) -> Outlook {
    Outlook { chance, ahead: MAX_PATH_TOKENS + 1, most: MAX_DRAFT_TOKENS, allowance_us: f32::MAX }
}

#[test]
fn nothing_is_drafted_before_a_step_is_measured_or_where_rows_cost_as_much_together() {
    assert_eq!(length(&Costs::default(), &sure(1.0)), 0);
    assert_eq!(length(&measured(flat), &sure(0.98)), 0);
    assert_eq!(length(&measured(board), &Outlook { ahead: 0, ..sure(1.0) }), 0);
}

#[test]
fn a_surer_source_gets_longer_drafts_and_a_poor_one_none() {
    let costs = measured(board);
    let lengths = [0.0, 0.5, 0.9, 1.0].map(|chance| length(&costs, &sure(chance)));
    assert!(lengths.is_sorted() && lengths[0] == 0 && lengths[3] >= 6, "{lengths:?}");
    assert_eq!(length(&measured(|rows| 10_000 + 5_000 * (rows as u64 - 1)), &sure(0.4)), 0);
    assert_eq!(
        length(&costs, &Outlook { ahead: 64, most: 3, ..sure(1.0) }),
        3,
        "no more than there is room for"
    );
    assert!(
        length(&costs, &Outlook { allowance_us: 1.0, ..sure(1.0) }) <= 6,
        "no more than may be lost"
    );
}

/// A step of two blocks is for machines where nobody waits long for its tokens.
#[test]
fn steps_beyond_a_block_are_short_ones() {
    let quick = measured(|rows| 17_000 + 2_500 * (rows as u64 - 1));
    assert_eq!(length(&quick, &Outlook { ahead: 32, ..sure(1.0) }), 31);
    let slow = measured(|rows| 100_000 + 8_000 * (rows as u64 - 1));
    assert_eq!(length(&slow, &Outlook { ahead: 32, ..sure(1.0) }), 15);
    assert!(slow.step_us(17).is_some_and(|us| us as u64 > SMOOTH_STEP_MS * 1_000));
}

/// A few tokens left for a last step cost nearly as much as many.
#[test]
fn steps_are_as_long_as_brings_all_that_is_ahead_soonest() {
    let costs = measured(board);
    for ahead in 1..=MAX_PATH_TOKENS + 1 {
        let (mut left, mut took) = (ahead, 0);
        while left > 0 {
            let drafted = length(
                &costs,
                &Outlook { ahead: left, most: MAX_DRAFT_TOKENS.min(left - 1), ..sure(0.999) },
            );
            (left, took) = (left - (drafted + 1), took + board(drafted + 1));
        }
        let best = board(1).max(26_000 * ahead as u64);
        // At seven rows, reading takes half a per cent longer than computing.
        assert!(took * 100 <= best * 103, "{ahead} tokens: {took} us, where {best} would do");
    }
}

/// A plan must not wait for steps that only its own savings would allow.
#[test]
fn what_may_be_lost_bounds_the_whole_plan() {
    let costs = measured(|rows| 19_000 + 3_000 * (rows as u64 - 1));
    let narrow = Outlook { allowance_us: 19_000.0, ..sure(0.996) };
    for ahead in 20..=MAX_PATH_TOKENS + 1 {
        let drafted = length(&costs, &Outlook { ahead, ..narrow });
        assert!((3..=6).contains(&drafted), "{drafted} of {ahead}");
    }
}

/// What a peer suggests by similarity may cost no more than this node's own guesses.
#[test]
fn a_peers_habits_are_allowed_as_much_as_a_guess() {
    let costs = measured(board);
    let allowed = |source| Account::default().allowance_us(&costs, source);
    assert_eq!(allowed(Source::PeerHabit), allowed(Source::Habit));
    assert!(allowed(Source::PeerHabit) * 3.9 < allowed(Source::Peer));
    let mut tally = Tally::default();
    tally.note(Source::PeerHabit, 5, 3);
    assert_eq!((tally.peer_habit, tally.all()), (tally.all(), tally.peer_habit));
    assert_eq!(tally.all(), Counts { drafted: 5, accepted: 3, wrong: 2 });
}

/// Wrong drafts must cost no more than 1.5 steps and 2.5 %, however certain their
/// source seemed.
#[test]
fn an_answer_of_wrong_drafts_is_hardly_later() {
    for machine in [board as fn(usize) -> u64, |rows| 10_000 + 3_000 * (rows as u64 - 1)] {
        let costs = measured(machine);
        let (mut account, mut spent, mut steps) = (Account::default(), 0, 0);
        while steps < 64 {
            let allowance_us = account.allowance_us(&costs, Source::Slab);
            let count = length(&costs, &Outlook { allowance_us, ..sure(0.99) });
            account.note(&costs, 1 + count, 1, machine(1 + count));
            (spent, steps) = (spent + machine(1 + count), steps + 1);
        }
        let alone = 64 * machine(1);
        assert!(spent > alone, "some were tried");
        assert!(spent * 100 <= alone * 105, "{spent} of {alone}");
    }
}

/// The same when the prompt's last step, the only measured one, waited for weights to be read.
#[test]
fn an_answer_of_wrong_drafts_is_hardly_later_after_a_slow_first_step() {
    for (row_us, most_percent) in [(1_500, 105), (5_000, 108)] {
        let machine = |rows: usize| 10_000 + row_us * (rows as u64 - 1);
        for (slower, source) in [1, 3, 10].into_iter().flat_map(|slower| {
            [Source::Peer, Source::Habit, Source::PeerHabit].map(|source| (slower, source))
        }) {
            let (mut costs, mut account, mut spent) = (Costs::default(), Account::default(), 0);
            costs.note_first(slower * machine(1));
            for _ in 0..64 {
                let allowance_us = account.allowance_us(&costs, source);
                let rows = 1 + length(&costs, &Outlook { allowance_us, ..sure(0.99) });
                costs.note(rows, machine(rows));
                account.note(&costs, rows, 1, machine(rows));
                spent += machine(rows);
            }
            let alone = 64 * machine(1);
            assert!(
                spent * 100 <= alone * most_percent,
                "{source:?}, {row_us} us a row, {slower} times: {spent} of {alone}"
            );
        }
    }
}

#[test]
fn costs_lie_on_the_line_between_what_was_measured_and_no_pause_is_believed() {
    let mut costs = Costs::default();
    assert_eq!(costs.step_us(4), None);
    costs.note(1, 1_000);
    assert_eq!(costs.step_us(1), Some(1_000.0));
    costs.note(5, 1_400);
    let near = |rows: usize, micros: f32| (costs.step_us(rows).unwrap() - micros).abs() < 1.0;
    assert!(near(3, 1_200.0) && near(9, 1_800.0), "{costs:?}");
    costs.note(5, 1_000_000);
    assert!(costs.step_us(5).unwrap() < 2_000.0, "{costs:?}");
    costs.note(0, 1);
    costs.note(MAX_DRAFT_TOKENS + 2, 1);
    assert_eq!(costs.step_us(1), Some(1_000.0), "rows out of range are ignored");
}

/// A prompt's last step gives the time of a step until an answer's does; the measured times of
/// several rows do not change.
#[test]
fn the_first_measurement_is_a_prompts_and_gives_way() {
    let mut costs = Costs::default();
    costs.note_first(6_000);
    assert_eq!(costs.step_us(1), Some(6_000.0));
    costs.note(7, 1_500);
    assert_eq!(costs.step_us(1), Some(1_500.0), "several rows are never faster than one");
    costs.note_first(1_400);
    assert_eq!(costs.step_us(1), Some(1_400.0));
    costs.note(1, 1_000);
    assert_eq!(costs.step_us(1), Some(1_000.0));
    assert!((costs.step_us(7).unwrap() - 1_500.0).abs() < 5.0, "{costs:?}");
    costs.note_first(9_000);
    assert_eq!(costs.step_us(1), Some(1_000.0), "an answer's own steps count");
}

/// A machine that was busy for a while must not stop drafting for good.
#[test]
fn a_bad_measurement_fades() {
    let mut costs = measured(board);
    (0..20).for_each(|_| {
        (2..=MAX_DRAFT_TOKENS + 1).for_each(|rows| costs.note(rows, 100 * board(rows)))
    });
    assert_eq!(length(&costs, &sure(0.9)), 0);
    (0..600).for_each(|_| costs.note(1, board(1)));
    assert!(length(&costs, &sure(0.9)) > 0, "{costs:?}");
    // A load that slows everything alike says nothing about drafts.
    let mut costs = measured(board);
    (0..40).for_each(|_| costs.note(1, 5 * board(1)));
    assert!(length(&costs, &sure(0.9)) > 4, "{costs:?}");
}

#[test]
fn a_source_that_is_always_wrong_is_soon_known_for_it() {
    let mut record = Record::SOUND;
    (0..3).for_each(|_| record.note(0, true));
    assert!(record.chance() < 0.3, "{record:?}");
    (0..10).for_each(|_| record.note(15, false));
    assert!(record.chance() > 0.9, "and one that improves is believed again: {record:?}");
}

#[test]
fn an_echo_goes_on_as_the_longest_and_latest_like_passage_did() {
    assert!(echo(&tokens(&[])).is_empty());
    assert!(echo(&tokens(&[1, 2, 3])).is_empty());
    assert!(echo(&tokens(&[1, 2, 9, 1, 2])).is_empty(), "two words match by chance");
    assert_eq!(echo(&tokens(&[1, 2, 3, 4, 5, 1, 2, 3]))[..], tokens(&[4, 5, 1, 2, 3]));
    assert_eq!(echo(&tokens(&[1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3]))[0], TokenId(5), "the later one");
    assert_eq!(
        echo(&tokens(&[7, 1, 2, 3, 4, 1, 2, 3, 5, 7, 1, 2, 3]))[0],
        TokenId(4),
        "the longer one"
    );
    assert_eq!(echo(&tokens(&[6, 6, 6, 6, 6]))[0], TokenId(6));
}

#[test]
fn a_path_is_followed_token_by_token_and_holds_no_more_than_it_has_room_for() {
    let expected = Bounded::from_slice(&tokens(&[1, 2, 3])).unwrap();
    assert_eq!(Path::new(Bounded::new(), Source::Slab, None), None);
    let mut path = Path::new(expected, Source::Slab, None).unwrap();
    assert!(path.follow(TokenId(1)) && path.tokens() == tokens(&[2, 3]));
    path.extend(&tokens(&(4..400).collect::<Vec<_>>()));
    assert_eq!(path.tokens().len(), crate::limits::MAX_PATH_TOKENS);
    assert!(path.follow(TokenId(2)) && !path.follow(TokenId(9)));
}

#[test]
fn a_habit_is_what_followed_more_than_once_and_gives_way_to_another() {
    let mut habits = Habits::default();
    let text = tokens(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let learn = |habits: &mut Habits, text: &[TokenId]| {
        (1..text.len()).for_each(|at| habits.learn(&text[..at], text[at]))
    };
    assert!(habits.guess(&text[..6]).is_empty());
    learn(&mut habits, &text);
    assert_eq!(habits.guess(&text[..6])[..], text[6..], "six tokens are sure at once");
    assert!(habits.guess(&text[..4]).is_empty(), "fewer are not");
    (0..2).for_each(|_| learn(&mut habits, &text));
    assert_eq!(habits.guess(&text[..3])[..], text[3..]);
    assert!(habits.guess(&text[..2]).is_empty() && habits.guess(&[]).is_empty());
    let other = tokens(&[1, 2, 3, 4, 5, 6, 70, 80, 90]);
    (0..20).for_each(|_| learn(&mut habits, &other));
    assert_eq!(habits.guess(&other[..6])[..], other[6..]);
    habits.clear();
    assert!(habits.guess(&other[..6]).is_empty());
}

/// A peer asks across the network, so it is told at once as much as the table knows.
#[test]
fn a_peer_is_told_as_far_as_habits_reach_and_no_further_than_a_path() {
    let mut habits = Habits::default();
    let text = tokens(&(0..40).collect::<Vec<_>>());
    (1..text.len()).for_each(|at| habits.learn(&text[..at], text[at]));
    assert_eq!(habits.guess(&text[..6]).len(), 16);
    assert_eq!(habits.tell(&text[..6])[..], text[6..]);
    assert_eq!(habits.tell(&text[2..8])[..], text[8..], "from the last six tokens alone");
    // A habit that leads back to itself.
    let ring = tokens(&(0..70).map(|at| at % 7).collect::<Vec<_>>());
    (1..ring.len()).for_each(|at| habits.learn(&ring[..at], ring[at]));
    assert_eq!(habits.tell(&ring).len(), MAX_PATH_TOKENS);
    assert!(habits.tell(&[]).is_empty() && habits.tell(&text[..2]).is_empty());
}

/// The table never grows, and the same answers leave the same table.
#[test]
fn habits_stay_within_their_table_and_are_the_same_for_the_same_answers() {
    let learned = || {
        let mut habits = Habits::default();
        let text: Vec<TokenId> =
            (0..60_000u32).map(|at| TokenId(at.wrapping_mul(2_654_435_761) >> 20)).collect();
        (1..text.len()).for_each(|at| habits.learn(&text[..at], text[at]));
        (6..text.len()).step_by(97).map(|at| habits.guess(&text[..at])).collect::<Vec<_>>()
    };
    let guesses = learned();
    assert!(guesses == learned());
    let known = guesses.iter().filter(|guess| !guess.is_empty()).count();
    assert!(known > 0 && known < guesses.len(), "{known} of {}", guesses.len());
}
