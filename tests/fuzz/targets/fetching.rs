//! A peer that was asked for blocks answers with anything, split into pieces of any size, and some
//! deadlines pass. The connection may fail, but a plane that counts as received must be the one
//! that was asked for.

#![no_main]

use libfuzzer_sys::fuzz_target;

use potluck::id::{BlockKey, BootId, Epoch, Fingerprint, Millis, NodeId, TokenId};
use potluck::kv::{Page, Plane};
use potluck::limits::MAX_WANTS_IN_FLIGHT;
use potluck::transfer::{Decoder, Expected, Fetcher, Frame, Hello, Question, Tokens, encode};

const BYTES: usize = 64;

fn hello(node: u64) -> Hello {
    Hello::new(NodeId(node), BootId(node), Epoch(0), Fingerprint([7; 16]))
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, stream)) = data.split_first() else { return };
    let mut fetcher = Fetcher::new(hello(1));
    let tokens: Tokens = [TokenId(2)].into_iter().collect();
    for id in 0..4 {
        let plane = Plane::ALL[id as usize % 2];
        let (key, parent) = (BlockKey([id as u8; 16]), BlockKey([9; 16]));
        let expected = Expected { key, parent, tokens: tokens.clone(), plane, bytes: BYTES };
        fetcher.want(id, expected, Page::new(BYTES)).expect("four wants are allowed");
    }
    fetcher.want_filter(0);
    let question = match cut % 2 {
        0 => Question::Followed { parent: BlockKey([9; 16]), begun: tokens.clone() },
        _ => Question::Habit { recent: tokens.iter().copied().collect() },
    };
    fetcher.want_draft(1, question);
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    let mut now = Millis(0);
    // Most peers begin correctly.
    if cut % 4 != 0 {
        encode(&Frame::Hello(hello(2)), &[], &mut out);
        decoder.push(&out);
    }
    for piece in stream.chunks(usize::from(cut).max(1)) {
        let mut left = piece;
        while !left.is_empty() {
            let taken = decoder.push(left);
            assert!(taken > 0, "a drained decoder must have room");
            left = &left[taken..];
            loop {
                match decoder.next_frame() {
                    Ok(Some((frame, payload))) => {
                        if fetcher.on_frame(frame, payload, now).is_err() {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
        now = now + Millis(u64::from(piece[0]));
        out.clear();
        while fetcher.poll_send(now, &mut out) {}
        if now.0 > 1_000 {
            fetcher.cancel(u32::from(piece[0] % 4), now);
        }
        if fetcher.deadline().is_some_and(|deadline| deadline <= now) && fetcher.on_deadline(now).is_err() {
            return;
        }
    }
    // A peer that has said goodbye is not asked again.
    let room = fetcher.room();
    assert!(room == 0 || room + 4 >= MAX_WANTS_IN_FLIGHT, "four wants are done, but there is only room for {room}");
});
