//! A connected peer asks for anything. Its wants are answered in various ways; what it is sent
//! stays bounded.

#![no_main]

use libfuzzer_sys::fuzz_target;

use potluck::id::{BlockKey, BootId, Epoch, Fingerprint, Millis, NodeId, TokenId};
use potluck::kv::Page;
use potluck::limits::FILTER_SEGMENT_BYTES;
use potluck::transfer::{Decoder, Frame, Hello, ServeEvent, Server, Tokens, encode};

const BYTES: usize = 64;

fuzz_target!(|data: &[u8]| {
    let hello = |node| Hello::new(NodeId(node), BootId(node), Epoch(0), Fingerprint([7; 16]));
    let mut server = Server::new(hello(1), Millis(0));
    let tokens: Tokens = [TokenId(2)].into_iter().collect();
    let mut decoder = Decoder::new();
    let (mut now, mut out) = (Millis(0), Vec::new());
    // Most peers begin correctly.
    if data.first().is_some_and(|first| first % 4 != 0) {
        encode(&Frame::Hello(hello(2)), &[], &mut out);
        decoder.push(&out);
    }
    for piece in data.chunks(100) {
        decoder.push(piece);
        loop {
            let event = match decoder.next_frame() {
                Ok(Some((frame, _))) => server.on_frame(frame, now),
                Ok(None) => break,
                Err(_) => return,
            };
            match event {
                Ok(ServeEvent::Want { id, key, .. }) => match key.0[0] % 3 {
                    0 => drop(server.found(id, BlockKey([9; 16]), tokens.clone(), Page::new(BYTES), BYTES)),
                    1 => server.absent(id),
                    _ => server.busy(id),
                },
                Ok(ServeEvent::DraftWant { id, begun, .. }) => server.draft(id, begun.iter().copied().collect()),
                Ok(ServeEvent::HabitWant { id, recent }) => server.draft(id, recent.iter().copied().collect()),
                Ok(ServeEvent::Cancelled { id }) => server.absent(id),
                Ok(ServeEvent::FilterWant { segment }) => server.filter_segment(segment, 1, &[0; FILTER_SEGMENT_BYTES]),
                Ok(ServeEvent::Ready(_) | ServeEvent::Nothing) => {}
                Ok(ServeEvent::Closed(_)) | Err(_) => return,
            }
        }
        now = now + Millis(u64::from(piece[0]));
        out.clear();
        while server.poll_send(now, &mut out) && out.len() < 1 << 20 {}
        assert!(out.len() < 1 << 20, "an endless answer to 100 bytes");
        while server.poll_finished().is_some() {}
        if server.deadline().is_some_and(|deadline| deadline <= now) && server.on_deadline(now).is_err() {
            return;
        }
    }
});
