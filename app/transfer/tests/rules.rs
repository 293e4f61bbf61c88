//! Peers that break rules: each check of the fetching and the serving side, by the fault it raises.

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::super::*;
use super::pair::*;
use crate::id::{Epoch, Fingerprint, Millis, NodeId, TokenId};
use crate::kv::{Page, Plane};
use crate::limits::{FILTER_SEGMENT_BYTES, MAX_CHUNK_BYTES};

const BYTES: usize = MAX_CHUNK_BYTES + 100;

/// A fetcher that has sent and received hello, and requested block 1 under the id 1.
fn asked() -> (Fetcher, Page) {
    let mut fetcher = Fetcher::new(hello(2));
    let page = page_of(&[0; BYTES]);
    fetcher.want(1, expected(1, Plane::Global, BYTES), page.clone()).unwrap();
    fetcher.want_filter(3);
    let mut out = Vec::new();
    while fetcher.poll_send(Millis(0), &mut out) {}
    fetcher.on_frame(Frame::Hello(hello(1)), &[], Millis(0)).unwrap();
    (fetcher, page)
}

fn found() -> Frame {
    let digest = xxh3_64(&content(1, Plane::Global, BYTES));
    Frame::Found {
        id: 1,
        plane: Plane::Global,
        parent: key(101),
        tokens: tokens(1),
        bytes: BYTES as u32,
        digest,
    }
}

fn chunk(start: usize, end: usize) -> (Frame, Vec<u8>) {
    let payload = content(1, Plane::Global, BYTES)[start..end].to_vec();
    let (checksum, len) = (xxh3_64(&payload), payload.len() as u16);
    (Frame::Chunk { id: 1, offset: start as u32, checksum, len }, payload)
}

fn fault(frames: &[(Frame, Vec<u8>)]) -> Fault {
    let (mut fetcher, page) = asked();
    for (frame, payload) in frames {
        match fetcher.on_frame(frame.clone(), payload, Millis(5)) {
            Ok(event) => assert!(!matches!(event, FetchEvent::Done { .. })),
            Err(fault) => {
                let mut out = Vec::new();
                assert!(fetcher.poll_send(Millis(5), &mut out), "the peer is not told");
                assert!(!fetcher.poll_send(Millis(5), &mut out));
                let before = page.read().to_vec();
                for (frame, payload) in [(found(), vec![]), chunk(0, MAX_CHUNK_BYTES)] {
                    assert_eq!(
                        fetcher.on_frame(frame, &payload, Millis(6)),
                        Ok(FetchEvent::Nothing)
                    );
                }
                assert_eq!(
                    before,
                    page.read().to_vec(),
                    "written to after the connection was given up"
                );
                assert_eq!(
                    (fetcher.room(), fetcher.is_idle()),
                    (0, false),
                    "the want stays unknown"
                );
                return fault;
            }
        }
    }
    panic!("no fault in {frames:?}");
}

fn bare(frame: Frame) -> (Frame, Vec<u8>) {
    (frame, Vec::new())
}

#[test]
fn another_block_than_the_one_asked_for_is_never_taken() {
    let with = |change: fn(&mut Frame)| {
        let mut frame = found();
        change(&mut frame);
        fault(&[bare(frame)])
    };
    let parent = with(|frame| {
        if let Frame::Found { parent, .. } = frame {
            *parent = key(7)
        }
    });
    assert_eq!(parent, Fault::Parent(1));
    let other = with(|frame| {
        if let Frame::Found { tokens, .. } = frame {
            tokens[1] = TokenId(5)
        }
    });
    assert_eq!(other, Fault::Tokens(1));
    let fewer = with(|frame| {
        if let Frame::Found { tokens, .. } = frame {
            tokens.truncate(1)
        }
    });
    assert_eq!(fewer, Fault::Tokens(1));
    let plane = with(|frame| {
        if let Frame::Found { plane, .. } = frame {
            *plane = Plane::Sliding
        }
    });
    assert_eq!(plane, Fault::Plane(1));
    let longer = with(|frame| {
        if let Frame::Found { bytes, .. } = frame {
            *bytes += 1
        }
    });
    assert_eq!(longer, Fault::Length { ours: BYTES, theirs: BYTES as u32 + 1 });
}

#[test]
fn chunks_come_in_order_whole_and_no_further_than_the_end() {
    let order = |offset, len, expected| Fault::ChunkOrder { offset, len, expected, bytes: BYTES };
    let full = MAX_CHUNK_BYTES as u16;
    assert_eq!(fault(&[bare(found()), chunk(100, BYTES)]), order(100, full, 0), "a gap");
    assert_eq!(
        fault(&[bare(found()), chunk(0, 100)]),
        order(0, 100, 0),
        "a short chunk that is not the last"
    );
    let first = chunk(0, MAX_CHUNK_BYTES);
    assert_eq!(
        fault(&[bare(found()), first.clone(), first.clone()]),
        order(0, full, MAX_CHUNK_BYTES),
        "an overlap"
    );
    let mut long = chunk(MAX_CHUNK_BYTES, BYTES);
    long.1.push(0);
    let Frame::Chunk { len, .. } = &mut long.0 else { unreachable!() };
    *len += 1;
    assert_eq!(
        fault(&[bare(found()), first.clone(), long]),
        order(MAX_CHUNK_BYTES as u32, 101, MAX_CHUNK_BYTES),
        "past the end"
    );
    assert_eq!(fault(&[first]), Fault::Unexpected("Chunk"), "before Found");
    assert_eq!(fault(&[bare(found()), bare(found())]), Fault::Unexpected("Found"), "twice");
}

#[test]
fn damaged_bytes_never_reach_the_page() {
    let mut damaged = chunk(0, MAX_CHUNK_BYTES);
    damaged.1[77] ^= 4;
    let (mut fetcher, page) = asked();
    fetcher.on_frame(found(), &[], Millis(1)).unwrap();
    assert_eq!(
        fetcher.on_frame(damaged.0, &damaged.1, Millis(1)),
        Err(Fault::Checksum { id: 1, offset: 0 })
    );
    assert!(page.read().iter().all(|&byte| byte == 0));
}

#[test]
fn chunks_that_are_whole_but_of_another_plane_end_in_a_wrong_digest() {
    let (_, mut payload) = chunk(MAX_CHUNK_BYTES, BYTES);
    payload[0] ^= 1;
    let last = Frame::Chunk {
        id: 1,
        offset: MAX_CHUNK_BYTES as u32,
        checksum: xxh3_64(&payload),
        len: 100,
    };
    assert_eq!(
        fault(&[bare(found()), chunk(0, MAX_CHUNK_BYTES), (last, payload)]),
        Fault::Digest(1)
    );
}

#[test]
fn answers_to_what_was_never_asked_are_faults() {
    let unknown = |frame, id| Fault::UnknownId { frame, id };
    assert_eq!(fault(&[bare(Frame::Absent { id: 2 })]), unknown("Absent", 2));
    assert_eq!(fault(&[bare(Frame::Busy { id: 2 })]), unknown("Busy", 2));
    assert_eq!(fault(&[bare(Frame::Stopped { id: 1 })]), unknown("Stopped", 1));
    assert_eq!(fault(&[bare(found()), bare(Frame::Absent { id: 1 })]), Fault::Unexpected("Absent"));
    let segment = |segment, bytes: &[u8]| {
        let (checksum, len) = (xxh3_64(bytes), bytes.len() as u16);
        (Frame::FilterSegment { segment, generation: 1, checksum, len }, bytes.to_vec())
    };
    assert_eq!(fault(&[segment(4, &[1])]), unknown("FilterSegment", 4));
    assert_eq!(fault(&[segment(200, &[1])]), unknown("FilterSegment", 200));
    assert_eq!(
        fault(&[segment(3, &[1; FILTER_SEGMENT_BYTES + 1])]),
        Fault::SegmentTooLong(FILTER_SEGMENT_BYTES + 1)
    );
    let mut damaged = segment(3, &[1, 2]);
    damaged.1[0] = 9;
    assert_eq!(fault(&[damaged]), Fault::SegmentChecksum(3));
    assert_eq!(fault(&[segment(3, &[1]), segment(3, &[1])]), unknown("FilterSegment", 3));
    assert_eq!(fault(&[bare(Frame::Pong { nonce: 0 })]), Fault::Unexpected("Pong"));
    assert_eq!(fault(&[bare(Frame::Hello(hello(1)))]), Fault::Unexpected("Hello"));
    assert_eq!(fault(&[bare(Frame::Cancel { id: 1 })]), Fault::Unexpected("Cancel"));
}

#[test]
fn a_peer_that_cannot_share_is_told_why_and_at_most_who_is_here_before_anything_else() {
    let ours = hello(1);
    let cases: [(Hello, Fault, ByeReason); 4] = [
        (hello(1), Fault::SameNode, ByeReason::SameNode),
        (Hello { node: NodeId(1), ..hello(2) }, Fault::Twin, ByeReason::Twin),
        (
            Hello { epoch: Epoch(4), ..hello(2) },
            Fault::Epoch { ours: 3, theirs: 4 },
            ByeReason::Epoch,
        ),
        (
            Hello { fingerprint: Fingerprint([1; 16]), ..hello(2) },
            Fault::Fingerprint { ours: Fingerprint([9; 16]), theirs: Fingerprint([1; 16]) },
            ByeReason::Fingerprint,
        ),
    ];
    for (theirs, expected_fault, reason) in cases {
        let mut server = Server::new(ours, Millis(0));
        assert_eq!(server.on_frame(Frame::Hello(theirs), Millis(0)), Err(expected_fault));
        let mut fetcher = Fetcher::new(ours);
        assert_eq!(fetcher.on_frame(Frame::Hello(theirs), &[], Millis(0)), Err(expected_fault));
        let (mut from_server, mut from_fetcher, mut bye, mut told) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        while server.poll_send(Millis(0), &mut from_server) {}
        while fetcher.poll_send(Millis(0), &mut from_fetcher) {}
        encode(&Frame::Bye { reason }, &[], &mut bye);
        if reason == ByeReason::Fingerprint {
            encode(&Frame::Hello(ours), &[], &mut told);
        }
        told.extend_from_slice(&bye);
        assert_eq!((&from_server, &from_fetcher), (&told, &bye));
    }
    let mut server = Server::new(ours, Millis(0));
    let early = Frame::Want { id: 1, key: key(1), plane: Plane::Global };
    assert_eq!(server.on_frame(early, Millis(0)), Err(Fault::NotHello("Want")));
    let mut fetcher = Fetcher::new(ours);
    assert_eq!(
        fetcher.on_frame(Frame::Absent { id: 1 }, &[], Millis(0)),
        Err(Fault::NotHello("Absent"))
    );
    let refused = Frame::Bye { reason: ByeReason::Full };
    let mut fetcher = Fetcher::new(ours);
    assert_eq!(fetcher.on_frame(refused, &[], Millis(0)), Ok(FetchEvent::Closed(ByeReason::Full)));
}

#[test]
fn the_serving_side_takes_no_id_twice_and_answers_no_flood() {
    let fault = |frames: &[Frame]| {
        let mut server = Server::new(hello(1), Millis(0));
        server.on_frame(Frame::Hello(hello(2)), Millis(0)).unwrap();
        frames.iter().find_map(|frame| server.on_frame(frame.clone(), Millis(0)).err())
    };
    let want = Frame::Want { id: 1, key: key(1), plane: Plane::Global };
    assert_eq!(fault(&[want.clone(), want]), Some(Fault::DuplicateWant(1)));
    assert_eq!(fault(&[Frame::Ping { nonce: 1 }, Frame::Ping { nonce: 2 }]), Some(Fault::Flood));
    assert_eq!(
        fault(&[0, 1, 2, 3, 4].map(|segment| Frame::FilterWant { segment })),
        Some(Fault::Flood)
    );
    assert_eq!(
        fault(&[Frame::Cancel { id: 9 }, Frame::Cancel { id: 9 }]),
        None,
        "the cancel crossed the last chunk"
    );
    assert_eq!(fault(&[Frame::Absent { id: 9 }]), Some(Fault::Unexpected("Absent")));
}

fn any_frame() -> impl Strategy<Value = (Frame, Vec<u8>)> {
    let id = 0u32..6;
    prop_oneof![
        (1u64..4).prop_map(|node| bare(Frame::Hello(hello(node)))),
        (id.clone(), 0u32..4, any::<bool>()).prop_map(|(id, n, sliding)| bare(Frame::Want {
            id,
            key: key(n),
            plane: Plane::ALL[usize::from(sliding)]
        })),
        id.clone().prop_map(|id| bare(Frame::Cancel { id })),
        (id.clone(), 0u32..3, any::<u64>()).prop_map(|(id, n, digest)| {
            let (parent, tokens) = (key(n + 100), tokens(n));
            bare(Frame::Found {
                id,
                plane: Plane::Global,
                parent,
                tokens,
                bytes: BYTES as u32,
                digest,
            })
        }),
        Just(bare(found())),
        Just(chunk(0, MAX_CHUNK_BYTES)),
        Just(chunk(MAX_CHUNK_BYTES, BYTES)),
        id.clone().prop_map(|id| bare(Frame::Absent { id })),
        id.clone().prop_map(|id| bare(Frame::Busy { id })),
        id.prop_map(|id| bare(Frame::Stopped { id })),
        (0u8..20).prop_map(|segment| bare(Frame::FilterWant { segment })),
        any::<u64>().prop_map(|nonce| bare(Frame::Ping { nonce })),
        Just(bare(Frame::Bye { reason: ByeReason::Idle })),
    ]
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn frames_in_any_order_never_panic_and_never_finish_a_wrong_page(
        frames in prop::collection::vec((any_frame(), 0u8..8), 0..60),
    ) {
        let (mut fetcher, page) = asked();
        let mut server = Server::new(hello(1), Millis(0));
        let mut out = Vec::new();
        for (now, ((frame, payload), act)) in frames.into_iter().enumerate() {
            let now = Millis(40 * now as u64);
            match server.on_frame(frame.clone(), now) {
                Ok(ServeEvent::Want { id, .. }) if act < 4 => assert!(server.found(id, key(0), tokens(1), page_of(&[3; 40]), 40)),
                Ok(ServeEvent::Want { id, .. }) if act < 6 => server.absent(id),
                Ok(ServeEvent::FilterWant { segment }) => server.filter_segment(segment, 1, &[1, 2]),
                _ => {}
            }
            let _ = server.on_deadline(now);
            let _ = server.poll_finished();
            match fetcher.on_frame(frame, &payload, now) {
                Ok(FetchEvent::Done { id: 1 }) => {
                    prop_assert_eq!(&page.read()[..BYTES], &content(1, Plane::Global, BYTES)[..]);
                }
                Ok(FetchEvent::Done { id }) => prop_assert!(false, "{id} was never asked for"),
                _ => {}
            }
            if act == 7 {
                fetcher.cancel(1, now);
            }
            let _ = fetcher.on_deadline(now);
            out.clear();
            server.poll_send(now, &mut out);
            fetcher.poll_send(now, &mut out);
            prop_assert!(out.len() <= 2 * MAX_FRAME_BYTES);
        }
        server.close();
        while server.poll_finished().is_some() {}
    }
}
