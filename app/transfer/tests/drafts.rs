//! Draft requests: one at a time, answered by id, and never in the way of planes.

use super::super::*;
use super::pair::*;
use crate::id::{Millis, TokenId};
use crate::kv::Plane;
use crate::limits::MAX_PATH_TOKENS;

fn draft(id: u32) -> Frame {
    Frame::Draft { id, tokens: (0..MAX_PATH_TOKENS as u32).map(TokenId).collect() }
}

/// What followed the block `key(1)` and then `tokens(n)`.
fn followed(n: u32) -> Question {
    Question::Followed { parent: key(1), begun: tokens(n) }
}

fn recent() -> RecentTokens {
    [1, 2, 3].map(TokenId).into_iter().collect()
}

#[test]
fn a_question_is_answered_beside_planes_and_a_new_one_waits_for_it() {
    let mut pair = Pair::new();
    pair.want(1, Plane::Sliding, 130_560, Answer::Found);
    assert!(pair.fetcher.want_draft(1, followed(1)));
    assert!(pair.fetcher.want_draft(2, followed(3)), "a request that has not gone out is replaced");
    while pair.drafts.is_empty() {
        pair.step(usize::MAX).unwrap();
    }
    assert!(pair.ends.is_empty(), "the draft does not wait for the plane");
    assert_eq!(pair.drafts, [(2, tokens(3).iter().copied().collect())]);
    assert!(pair.fetcher.want_draft(3, followed(1)));
    pair.step(0).unwrap();
    assert!(!pair.fetcher.want_draft(4, followed(1)), "one at a time");
    pair.run(usize::MAX).unwrap();
    assert_eq!(pair.drafts.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(pair.ends.get(&3), Some(&End::Done));
}

#[test]
fn a_draft_that_nobody_asked_for_ends_the_connection() {
    for id in [1, 2] {
        let mut pair = Pair::new();
        pair.run(100).unwrap();
        if id == 2 {
            assert!(pair.fetcher.want_draft(1, followed(1)));
            pair.fetcher.poll_send(pair.now, &mut Vec::new());
        }
        assert_eq!(
            pair.fetcher.on_frame(draft(id), &[], Millis(1)),
            Err(Fault::UnknownId { frame: "Draft", id })
        );
        assert!(!pair.fetcher.want_draft(3, followed(1)), "nothing more is asked");
    }
    let mut pair = Pair::new();
    pair.run(100).unwrap();
    assert_eq!(pair.server.on_frame(draft(1), Millis(1)), Err(Fault::Unexpected("Draft")));
}

#[test]
fn a_peer_that_asks_again_before_it_is_answered_is_turned_away() {
    let mut pair = Pair::new();
    pair.run(100).unwrap();
    let want = |id| Frame::DraftWant { id, parent: key(1), begun: tokens(1) };
    assert!(matches!(
        pair.server.on_frame(want(1), Millis(1)),
        Ok(ServeEvent::DraftWant { id: 1, .. })
    ));
    pair.server.draft(1, DraftTokens::new());
    assert_eq!(
        pair.server.on_frame(want(2), Millis(1)),
        Err(Fault::Flood),
        "the answer has not gone out"
    );
}

/// Questions of both kinds take the same place, so that a peer never has two to answer.
#[test]
fn a_question_about_habits_waits_for_one_about_what_followed_and_the_reverse() {
    let mut pair = Pair::new();
    let habit = || Question::Habit { recent: recent() };
    pair.run(100).unwrap();
    assert!(pair.fetcher.want_draft(1, habit()));
    pair.step(0).unwrap();
    assert!(!pair.fetcher.want_draft(2, followed(1)), "one at a time");
    pair.run(usize::MAX).unwrap();
    assert_eq!(pair.drafts, [(1, [3, 2, 1].map(TokenId).into_iter().collect())]);
    assert!(pair.fetcher.want_draft(2, followed(1)));
    pair.step(0).unwrap();
    assert!(!pair.fetcher.want_draft(3, habit()), "one at a time");
    pair.run(usize::MAX).unwrap();
    assert_eq!(pair.drafts.len(), 2);
}

#[test]
fn a_peer_that_asks_about_habits_before_it_is_answered_is_turned_away() {
    for first in [
        Frame::HabitWant { id: 1, recent: recent() },
        Frame::DraftWant { id: 1, parent: key(1), begun: tokens(1) },
    ] {
        let mut pair = Pair::new();
        pair.run(100).unwrap();
        assert!(pair.server.on_frame(first, Millis(1)).is_ok());
        assert_eq!(
            pair.server.on_frame(Frame::HabitWant { id: 2, recent: recent() }, Millis(1)),
            Err(Fault::Flood)
        );
    }
    let mut pair = Pair::new();
    pair.run(100).unwrap();
    assert_eq!(
        pair.fetcher.on_frame(Frame::HabitWant { id: 1, recent: recent() }, &[], Millis(1)),
        Err(Fault::Unexpected("HabitWant")),
        "the side that serves does not ask"
    );
}
