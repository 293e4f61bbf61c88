//! Whole conversations: what a user gets when peers behave.

use proptest::prelude::*;

use super::super::fetch::Full;
use super::super::*;
use super::pair::*;
use crate::id::Millis;
use crate::kv::{Page, Plane};
use crate::limits::{IDLE_TIMEOUT_MS, MAX_CHUNK_BYTES, MAX_WANTS_IN_FLIGHT, STALL_TIMEOUT_MS};

const SIZES: [usize; 7] =
    [0, 1, MAX_CHUNK_BYTES - 1, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES + 1, 26_112, 130_560];

fn holds(page: &Page, n: u32, plane: Plane, bytes: usize) -> bool {
    page.read()[..bytes] == content(n, plane, bytes)[..]
}

#[test]
fn planes_of_every_size_arrive_whole_and_leave_nothing_pinned() {
    let mut pair = Pair::new();
    let mut pages = Vec::new();
    for (n, bytes) in SIZES.into_iter().enumerate() {
        for plane in Plane::ALL {
            pages.push((n as u32, plane, bytes, pair.want(n as u32, plane, bytes, Answer::Found)));
        }
    }
    pair.run(10_000).unwrap();
    assert_eq!(pair.ready, 1);
    for (n, plane, bytes, page) in &pages {
        assert_eq!(pair.ends.get(&(2 * n + *plane as u32)), Some(&End::Done));
        assert!(holds(page, *n, *plane, *bytes), "{bytes} bytes of {plane:?}");
        assert!(page.read()[*bytes..].iter().all(|&byte| byte == 0), "wrote past the plane's end");
    }
    assert_eq!(pair.pins, 0);
}

#[test]
fn a_whole_block_comes_before_a_part_of_the_next() {
    let mut pair = Pair::new();
    for n in 0..4 {
        pair.want(n, Plane::Sliding, 130_560, Answer::Found);
    }
    while !pair.ends.contains_key(&1) {
        pair.step(usize::MAX).unwrap();
    }
    assert!(
        pair.down.carried < 2 * 130_560,
        "{} bytes for one block of 130,560",
        pair.down.carried
    );
}

#[test]
fn absent_and_busy_are_told_apart_and_hold_nobody_up() {
    let mut pair = Pair::new();
    pair.want(0, Plane::Global, 100, Answer::Never);
    pair.want(1, Plane::Global, 100, Answer::Absent);
    pair.want(2, Plane::Global, 100, Answer::Busy);
    pair.want(3, Plane::Global, 100, Answer::Found);
    pair.run(100).unwrap();
    let ends: Vec<_> = pair.ends.iter().map(|(id, end)| (*id, *end)).collect();
    assert_eq!(ends, [(2, End::Absent), (4, End::Busy), (6, End::Done)]);
    assert_eq!((pair.fetcher.room(), pair.fetcher.is_idle()), (MAX_WANTS_IN_FLIGHT - 1, false));
}

#[test]
fn a_cancelled_want_stops_gives_its_page_back_and_its_place() {
    let mut pair = Pair::new();
    let page = pair.want(1, Plane::Sliding, 130_560, Answer::Found);
    while page.read()[0..64] == [0; 64] {
        pair.step(usize::MAX).unwrap();
    }
    assert_eq!(pair.pins, 1);
    pair.fetcher.cancel(3, pair.now);
    page.write().fill(0xee);
    pair.run(usize::MAX).unwrap();
    assert!(
        page.read().iter().all(|&byte| byte == 0xee),
        "a late chunk was written to a page that was given back"
    );
    assert!(pair.down.carried < 5 * MAX_CHUNK_BYTES, "the peer kept sending");
    assert_eq!((pair.pins, pair.ends.len(), pair.fetcher.room()), (0, 0, MAX_WANTS_IN_FLIGHT));
    let page = pair.want(2, Plane::Global, 26_112, Answer::Found);
    pair.run(usize::MAX).unwrap();
    assert!(holds(&page, 2, Plane::Global, 26_112));
}

#[test]
fn a_want_cancelled_before_it_was_sent_or_answered_leaves_no_trace() {
    let mut pair = Pair::new();
    pair.want(1, Plane::Global, 10, Answer::Found);
    pair.fetcher.cancel(2, pair.now);
    assert_eq!(pair.fetcher.room(), MAX_WANTS_IN_FLIGHT);
    pair.want(2, Plane::Global, 10, Answer::Never);
    pair.run(100).unwrap();
    pair.fetcher.cancel(4, pair.now);
    pair.run(100).unwrap();
    assert_eq!((pair.fetcher.room(), pair.pins, pair.ends.len()), (MAX_WANTS_IN_FLIGHT, 0, 0));
}

#[test]
fn a_block_found_after_the_peer_gave_up_or_left_is_not_kept_pinned() {
    for leave in [false, true] {
        let mut server = Server::new(hello(1), Millis(0));
        server.on_frame(Frame::Hello(hello(2)), Millis(0)).unwrap();
        server
            .on_frame(Frame::Want { id: 1, key: key(1), plane: Plane::Global }, Millis(0))
            .unwrap();
        if leave {
            server.close();
        } else {
            let event = server.on_frame(Frame::Cancel { id: 1 }, Millis(0)).unwrap();
            assert_eq!(event, ServeEvent::Cancelled { id: 1 });
        }
        assert!(!server.found(1, key(0), tokens(1), page_of(&[1; 10]), 10));
        assert_eq!(server.poll_finished(), None);
    }
}

#[test]
fn a_lost_connection_unpins_what_was_being_sent() {
    let mut pair = Pair::new();
    for n in 0..3 {
        pair.want(n, Plane::Sliding, 130_560, Answer::Found);
    }
    (0..6).for_each(|_| assert!(pair.step(usize::MAX).unwrap()));
    assert_eq!(pair.pins, 3);
    pair.server.close();
    assert_eq!(std::iter::from_fn(|| pair.server.poll_finished()).count(), 3);
    assert!(!pair.server.poll_send(pair.now, &mut Vec::new()));
    assert_eq!(pair.server.deadline(), None);
}

#[test]
fn cancelled_wants_are_unknown_and_the_others_go_on() {
    let mut pair = Pair::new();
    let late = pair.want(1, Plane::Global, 26_112, Answer::Never);
    let good = pair.want(2, Plane::Global, 26_112, Answer::Found);
    pair.want(3, Plane::Global, 26_112, Answer::Never);
    pair.step(usize::MAX).unwrap();
    pair.step(usize::MAX).unwrap();
    assert_eq!(pair.fetcher.deadline(), None, "a want has no deadline");
    pair.now = Millis(60);
    [2, 6].into_iter().for_each(|id| pair.fetcher.cancel(id, pair.now));
    pair.run(usize::MAX).unwrap();
    assert!(holds(&good, 2, Plane::Global, 26_112) && late.read()[0] == 0);
    assert_eq!(pair.ends.keys().copied().collect::<Vec<_>>(), [4]);
    assert_eq!((pair.fetcher.room(), pair.fetcher.is_idle()), (MAX_WANTS_IN_FLIGHT, true));
}

#[test]
fn a_peer_that_only_accepts_is_known_to_be_slow() {
    let mut pair = Pair::new();
    pair.want(1, Plane::Global, 26_112, Answer::Never);
    pair.run(usize::MAX).unwrap();
    pair.fetcher.cancel(2, Millis(300));
    let slow = std::iter::from_fn(|| pair.fetcher.poll_sample())
        .find(|sample| matches!(sample, Sample::Goodput { .. }));
    assert_eq!(slow, Some(Sample::Goodput { bytes: 0, elapsed: Millis(300) }));
}

#[test]
fn a_peer_that_answers_no_cancel_is_left() {
    let mut fetcher = Fetcher::new(hello(2));
    fetcher.want(1, expected(1, Plane::Global, 10), page_of(&[0; 10])).unwrap();
    let mut out = Vec::new();
    while fetcher.poll_send(Millis(0), &mut out) {}
    assert_eq!(fetcher.on_deadline(Millis(3_600_000)), Ok(()));
    fetcher.cancel(1, Millis(100));
    let deadline = fetcher.deadline().unwrap();
    assert_eq!(deadline, Millis(100 + STALL_TIMEOUT_MS));
    assert_eq!(fetcher.on_deadline(Millis(deadline.0 - 1)), Ok(()));
    assert_eq!(fetcher.on_deadline(deadline), Err(Fault::Stalled));
    assert_eq!(fetcher.deadline(), None);
}

#[test]
fn a_peer_that_does_not_read_loses_its_pins_and_an_idle_one_its_place() {
    let mut pair = Pair::new();
    pair.want(1, Plane::Sliding, 130_560, Answer::Found);
    (0..4).for_each(|_| assert!(pair.step(usize::MAX).unwrap()));
    let deadline = pair.server.deadline().unwrap();
    assert_eq!(deadline, Millis(STALL_TIMEOUT_MS));
    assert_eq!(pair.server.on_deadline(deadline), Err(Fault::Stalled));
    assert_eq!(pair.server.poll_finished(), Some((key(1), Plane::Sliding)));

    let mut pair = Pair::new();
    pair.run(100).unwrap();
    assert_eq!(pair.server.deadline(), Some(Millis(IDLE_TIMEOUT_MS)));
    assert_eq!(pair.server.on_deadline(Millis(IDLE_TIMEOUT_MS - 1)), Ok(()));
    assert_eq!(pair.server.on_deadline(Millis(IDLE_TIMEOUT_MS)), Err(Fault::Idle));
    let mut silent = Server::new(hello(1), Millis(7));
    let deadline = silent.deadline().unwrap();
    assert_eq!(silent.on_deadline(deadline), Err(Fault::Silent));
}

#[test]
fn one_want_too_many_is_refused_on_both_sides() {
    let mut pair = Pair::new();
    for n in 0..MAX_WANTS_IN_FLIGHT as u32 {
        pair.want(n, Plane::Global, 100, Answer::Never);
    }
    let page = page_of(&[0; 100]);
    assert_eq!(pair.fetcher.want(99, expected(99, Plane::Global, 100), page), Err(Full));
    pair.run(1_000).unwrap();
    let want = |id| Frame::Want { id, key: key(1), plane: Plane::Global };
    assert_eq!(pair.server.on_frame(want(500), pair.now), Ok(ServeEvent::Nothing));
    let mut out = Vec::new();
    assert!(pair.server.poll_send(pair.now, &mut out));
    let mut decoder = Decoder::new();
    decoder.push(&out);
    assert_eq!(decoder.next_frame().unwrap().unwrap().0, Frame::Busy { id: 500 });
    for id in 501..501 + MAX_WANTS_IN_FLIGHT as u32 {
        pair.server.on_frame(want(id), pair.now).unwrap();
    }
    assert_eq!(pair.server.on_frame(want(999), pair.now), Err(Fault::Flood));
}

#[test]
fn filter_segments_come_a_few_at_a_time_and_an_unknown_one_comes_empty() {
    let mut pair = Pair::new();
    for segment in [9, 0, 3, 4, 8, 2, 255] {
        pair.fetcher.want_filter(segment);
    }
    while pair.fetcher.poll_send(pair.now, &mut pair.up.bytes) {}
    assert_eq!(pair.up.bytes.len(), 23 + 4 * 4, "a hello and four wants: a fifth would be a flood");
    pair.run(64).unwrap();
    let got: Vec<_> =
        pair.segments.iter().map(|(segment, bytes)| (*segment, bytes.len())).collect();
    assert_eq!(got, [(0, 0), (2, 200), (3, 300), (4, 400), (8, 800), (9, 900)]);
}

#[test]
fn the_round_trip_is_measured_by_the_hello() {
    let mut fetcher = Fetcher::new(hello(2));
    assert!(fetcher.poll_send(Millis(100), &mut Vec::new()));
    fetcher.on_frame(Frame::Hello(hello(1)), &[], Millis(106)).unwrap();
    assert_eq!(fetcher.poll_sample(), Some(Sample::RoundTrip(Millis(6))));
    assert_eq!(fetcher.poll_sample(), None);
}

#[test]
fn a_ping_is_answered() {
    let mut server = Server::new(hello(1), Millis(0));
    server.on_frame(Frame::Hello(hello(2)), Millis(0)).unwrap();
    assert!(server.poll_send(Millis(0), &mut Vec::new()), "the hello");
    server.on_frame(Frame::Ping { nonce: 7 }, Millis(0)).unwrap();
    let (mut out, mut pong) = (Vec::new(), Vec::new());
    assert!(server.poll_send(Millis(0), &mut out));
    encode(&Frame::Pong { nonce: 7 }, &[], &mut pong);
    assert_eq!(out, pong);
}

/// A want by its id, block, plane and length; its page, what the page held when it was given back,
/// and when to give it back.
type Asked = (u32, u32, Plane, usize, Page, Option<Vec<u8>>, u64);

fn cancel_due(pair: &mut Pair, pages: &mut [Asked]) {
    for page in pages
        .iter_mut()
        .filter(|page| page.6 <= pair.now.0 && page.5.is_none() && !pair.ends.contains_key(&page.0))
    {
        pair.fetcher.cancel(page.0, pair.now);
        page.5 = Some(page.4.read().to_vec());
    }
}

proptest! {
    #![proptest_config(cases(64))]

    /// Whatever is requested and cancelled, early or late, however the bytes are split: each want
    /// ends once, a page reported as done is right, a page given back stays untouched, and nothing
    /// stays pinned.
    #[test]
    fn any_conversation_ends_well(
        wants in prop::collection::vec((0usize..SIZES.len(), 0u8..8, 0usize..120, 1usize..60_000), 1..40),
    ) {
        let mut pair = Pair::new();
        let mut pages: Vec<Asked> = Vec::new();
        for (n, (size, fate, steps, cut)) in wants.into_iter().enumerate() {
            let (n, bytes, plane) = (n as u32, SIZES[size], Plane::ALL[n % 2]);
            let id = 2 * n + plane as u32;
            let answer = [Answer::Found, Answer::Absent, Answer::Busy, Answer::Never][(fate as usize).saturating_sub(4)];
            if pair.fetcher.room() > 0 {
                let page = pair.want(n, plane, bytes, answer);
                pages.push((id, n, plane, bytes, page, None, pair.now.0 + 1 + u64::from(fate) * 20));
            }
            for _ in 0..steps {
                pair.now = pair.now + Millis(1);
                cancel_due(&mut pair, &mut pages);
                pair.step(cut).unwrap();
            }
            if let Some(page) = pages.last_mut().filter(|page| fate % 2 == 1 && page.0 == id) {
                page.6 = pair.now.0;
                cancel_due(&mut pair, &mut pages);
            }
        }
        for _ in 0..200 {
            pair.now = pair.now + Millis(1);
            cancel_due(&mut pair, &mut pages);
            while pair.step(usize::MAX).unwrap() {}
        }
        for (id, n, plane, bytes, page, given_back, _) in pages {
            match (pair.ends.get(&id), given_back) {
                (Some(End::Done), None) => prop_assert!(holds(&page, n, plane, bytes)),
                (Some(_), None) => {}
                (None, Some(then)) => prop_assert_eq!(&page.read()[..], &then[..]),
                (end, then) => prop_assert!(false, "want {id} ended as {end:?} and was given back: {}", then.is_some()),
            }
        }
        prop_assert_eq!((pair.pins, pair.fetcher.room()), (0, MAX_WANTS_IN_FLIGHT));
    }
}
