//! Who is drawn, who is heeded, and who comes back.

use super::requests::{Request, Requests, Why};
use super::*;
use crate::id::BlockKey;
use crate::limits::{DISTRUST_MS, MAX_AUDITS, MAX_PEERS, MAX_WARNINGS_A_PEER, MAX_WARNINGS_HEEDED, WARNING_WINDOW_MS};

fn key(number: u64) -> BlockKey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_le_bytes());
    BlockKey(key)
}

fn waiting(requests: &mut Requests) -> Vec<Request> {
    std::iter::from_fn(|| requests.next()).collect()
}

#[test]
fn as_large_a_share_is_drawn_as_is_asked_for_and_the_same_seed_draws_the_same() {
    for (per_10k, least, most) in [(0, 0, 0), (100, 70, 130), (5_000, 4_800, 5_200), (10_000, 10_000, 10_000)] {
        let drawn = || {
            let mut requests = Requests::new(per_10k, 7);
            let mut drawn = Vec::new();
            for number in 0..10_000 {
                requests.draw(key(number));
                drawn.extend(waiting(&mut requests).into_iter().map(|request| request.key));
            }
            drawn
        };
        assert!((least..=most).contains(&drawn().len()), "{} of 10,000 at {per_10k}", drawn().len());
        assert_eq!(drawn(), drawn());
    }
}

#[test]
fn what_waits_has_a_bound_and_what_is_urgent_comes_first() {
    let mut requests = Requests::new(10_000, 7);
    (0..1_000).for_each(|number| requests.draw(key(number)));
    requests.draw(key(0));
    let urgent = Request { key: key(5_000), why: Why::Doubted, tries: 0 };
    requests.urge(urgent);
    requests.urge(urgent);
    let waiting = waiting(&mut requests);
    assert_eq!(waiting.len(), MAX_AUDITS);
    assert_eq!(waiting[0].key, key(5_000), "before all others");
    assert_eq!(waiting.iter().filter(|request| request.key == key(5_000)).count(), 1, "and once");
}

#[test]
fn whoever_warns_again_and_again_is_not_heeded_but_the_next_hour_is_another() {
    let mut requests = Requests::new(10_000, 7);
    let heeded = |requests: &mut Requests, by: u64, now: u64| {
        let heeds = |number: &u64| requests.heeds(NodeId(by), NodeId(99), key(*number), Millis(now));
        (0..100).filter(heeds).count()
    };
    assert_eq!(heeded(&mut requests, 1, 0), MAX_WARNINGS_A_PEER);
    assert_eq!(heeded(&mut requests, 1, 1), 0);
    let all: usize = (2..50).map(|by| heeded(&mut requests, by, 2)).sum();
    assert_eq!(all, MAX_WARNINGS_HEEDED - MAX_WARNINGS_A_PEER);
    assert_eq!(heeded(&mut requests, 1, WARNING_WINDOW_MS + 2), MAX_WARNINGS_A_PEER);
    assert!(!requests.heeds(NodeId(1), NodeId(99), key(0), Millis(WARNING_WINDOW_MS + 3)), "a repeat is no news");
}

#[test]
fn an_outcast_comes_back_after_a_while_and_a_new_start_or_once_it_has_named_another() {
    let caught = |times: u32, names: bool| {
        let mut outcasts = Outcasts::default();
        (0..times).for_each(|_| outcasts.cast_out(NodeId(1), BootId(5), Millis(0)));
        if names {
            outcasts.names_another(NodeId(1));
        }
        outcasts
    };
    let is_out = |mut outcasts: Outcasts, boot: Option<u64>, now: u64| {
        outcasts.pardon(|_| boot.map(BootId), Millis(now));
        outcasts.holds(NodeId(1))
    };
    assert!(is_out(caught(1, false), Some(6), DISTRUST_MS - 1), "too soon");
    assert!(is_out(caught(1, false), Some(5), 100 * DISTRUST_MS), "the same start");
    assert!(is_out(caught(1, false), None, DISTRUST_MS), "not here");
    assert!(!is_out(caught(1, false), Some(6), DISTRUST_MS));
    assert!(!is_out(caught(1, true), Some(5), DISTRUST_MS));
    assert!(is_out(caught(2, true), Some(5), DISTRUST_MS), "that excuse counts once");
    assert!(!is_out(caught(2, true), Some(6), DISTRUST_MS));
    let mut outcasts = caught(1, false);
    outcasts.clear();
    assert!(!outcasts.holds(NodeId(1)), "the swarm was reset");
}

#[test]
fn the_table_of_outcasts_has_a_bound_and_keeps_the_latest() {
    let mut outcasts = Outcasts::default();
    let nodes = 3 * MAX_PEERS as u64;
    (0..nodes).for_each(|node| outcasts.cast_out(NodeId(node), BootId(1), Millis(node)));
    assert_eq!((0..nodes).filter(|node| outcasts.holds(NodeId(*node))).count(), MAX_PEERS);
    assert!(outcasts.holds(NodeId(nodes - 1)));
}
