//! Channels against each other: which peers get in, what passes between them, and what a third
//! party between them can do.

use proptest::prelude::*;

use super::super::*;
use super::pair::*;
use crate::keyring::Keyring;
use crate::limits::{MAX_CHUNK_BYTES, MAX_GREETING_BYTES, REKEY_BYTES};

/// Bytes of the connecting side's first piece in a locked swarm (the last 50 are the handshake's),
/// and bytes of the answer.
const ANSWER_BYTES: usize = 50;

fn keys(key: &[u8]) -> Keyring {
    Keyring::new(key, [])
}

/// Two channels before the first message.
fn strangers(caller: &Keyring, called: &Keyring) -> (Channel, Channel) {
    (Channel::initiator(caller.current(), [1; 32]), Channel::responder(called, [2; 32]))
}

/// What a channel sends when it has these frames to send.
fn say(channel: &mut Channel, frames: &[Frame]) -> Vec<u8> {
    channel.writable();
    let mut frames = frames.iter();
    let sent = channel.send(|out| {
        frames.next().map(|frame| encode(frame, &vec![7; frame.payload_len()], out)).is_some()
    });
    sent.unwrap_or_default()
}

/// What a channel decodes from bytes that arrive in pieces of `cut`.
fn receive(channel: &mut Channel, bytes: &[u8], cut: usize) -> Result<Vec<Frame>, Fault> {
    let mut heard = Vec::new();
    for piece in bytes.chunks(cut) {
        let mut frames = channel.received(piece);
        while let Some((frame, payload)) = frames.next_frame()? {
            assert!(payload.iter().all(|&byte| byte == 7) && payload.len() == frame.payload_len());
            heard.push(frame);
        }
    }
    Ok(heard)
}

/// Two channels after the handshake, each of which has sent and received a first frame.
fn friends() -> (Channel, Channel) {
    let (mut caller, mut called) = strangers(&keys(b"sesame"), &keys(b"sesame"));
    assert_eq!(receive(&mut called, &say(&mut caller, &[]), usize::MAX), Ok(vec![]));
    assert_eq!(receive(&mut caller, &say(&mut called, &[]), usize::MAX), Ok(vec![]));
    assert_eq!(
        receive(&mut called, &say(&mut caller, &[greeting()]), usize::MAX),
        Ok(vec![greeting()])
    );
    assert_eq!(
        receive(&mut caller, &say(&mut called, &[greeting()]), usize::MAX),
        Ok(vec![greeting()])
    );
    (caller, called)
}

fn greeting() -> Frame {
    Frame::Hello(hello(1))
}

fn ping(nonce: u64) -> Frame {
    Frame::Ping { nonce }
}

fn chunk(offset: u32) -> Frame {
    Frame::Chunk { id: 1, offset, checksum: 0, len: MAX_CHUNK_BYTES as u16 }
}

#[test]
fn those_with_the_key_understand_each_other_however_the_bytes_are_cut() {
    for cut in [1, 2, 3, 49, 50, 51, 1_000, usize::MAX] {
        let (mut caller, mut called) = strangers(&keys(b"sesame"), &keys(b"sesame"));
        assert_eq!(
            receive(&mut called, &say(&mut caller, &[greeting()]), cut),
            Ok(vec![]),
            "frames wait for the handshake"
        );
        let answer = say(&mut called, &[]);
        assert_eq!(answer.len(), ANSWER_BYTES);
        assert_eq!(receive(&mut caller, &answer, cut), Ok(vec![]));
        let frames = [greeting(), ping(1), ping(2), chunk(0)];
        assert_eq!(receive(&mut called, &say(&mut caller, &frames), cut).unwrap(), frames);
        assert_eq!(receive(&mut caller, &say(&mut called, &frames), cut).unwrap(), frames);
        let frames: Vec<Frame> = (0..600).map(ping).collect();
        assert_eq!(receive(&mut called, &say(&mut caller, &frames), cut).unwrap(), frames);
    }
}

#[test]
fn nothing_of_a_frame_is_readable_on_the_wire_and_no_two_connections_look_alike() {
    let said = |caller: [u8; 32], called: [u8; 32]| {
        let keys = keys(b"sesame");
        let (mut caller, mut called) =
            (Channel::initiator(keys.current(), caller), Channel::responder(&keys, called));
        receive(&mut called, &say(&mut caller, &[]), usize::MAX).unwrap();
        receive(&mut caller, &say(&mut called, &[]), usize::MAX).unwrap();
        say(&mut caller, &[greeting(), chunk(0)])
    };
    let (one, other, third) =
        (said([1; 32], [2; 32]), said([1; 32], [3; 32]), said([4; 32], [2; 32]));
    assert!(!one.windows(8).any(|bytes| bytes == [7; 8]), "the payload");
    assert!(!one.windows(16).any(|bytes| bytes == [9; 16]), "the fingerprint");
    assert_ne!(one, other);
    assert_ne!(one, third);
    assert_eq!(
        one,
        said([1; 32], [2; 32]),
        "the same entropy gives the same bytes, so that a run can be repeated"
    );
}

#[test]
fn whoever_has_another_key_is_told_no_more_than_that_and_a_wrong_answer_is_told_nothing() {
    let bye = [2, 0, 12, ByeReason::Swarm as u8];
    let refuse = |bytes: &[u8], fault: Fault| {
        let mut called = Channel::responder(&keys(b"sesame"), [2; 32]);
        assert_eq!(receive(&mut called, bytes, usize::MAX), Err(fault));
        assert_eq!(receive(&mut called, bytes, usize::MAX), Ok(vec![]), "it ignores further input");
        assert_eq!(say(&mut called, &[Frame::Bye { reason: fault.reason() }]), bye);
        assert_eq!(say(&mut called, &[]), [0; 0]);
    };
    let knock = say(&mut Channel::initiator(keys(b"other").current(), [1; 32]), &[]);
    refuse(&knock, Fault::Swarm);
    refuse(&say(&mut Channel::initiator(Keyring::open().current(), [1; 32]), &[]), Fault::Swarm);
    // The tag is not secret: with it, but without the key.
    let mut stolen = say(&mut Channel::initiator(keys(b"sesame").current(), [1; 32]), &[]);
    let handshake = stolen.len() - ANSWER_BYTES;
    stolen[handshake..].copy_from_slice(&knock[knock.len() - ANSWER_BYTES..]);
    refuse(&stolen, Fault::Handshake);
    // An answer made without the key.
    let (mut caller, _) = strangers(&keys(b"sesame"), &keys(b"sesame"));
    say(&mut caller, &[]);
    let mut answer = [48, 0].to_vec();
    answer.extend([5; 48]);
    assert_eq!(receive(&mut caller, &answer, 7), Err(Fault::Handshake));
    assert_eq!(
        say(&mut caller, &[Frame::Bye { reason: ByeReason::Swarm }]),
        [0; 0],
        "it would understand no message"
    );
}

#[test]
fn a_former_key_opens_and_a_locked_node_never_speaks_in_clear() {
    let rekeyed = Keyring::new(b"new", [b"old".as_slice()]);
    let (mut caller, mut called) = strangers(&keys(b"old"), &rekeyed);
    receive(&mut called, &say(&mut caller, &[]), usize::MAX).unwrap();
    receive(&mut caller, &say(&mut called, &[]), usize::MAX).unwrap();
    assert_eq!(
        receive(&mut called, &say(&mut caller, &[greeting()]), usize::MAX),
        Ok(vec![greeting()])
    );
    // A stranger answers in clear, as an open node would.
    let (mut caller, _) = strangers(&keys(b"old"), &rekeyed);
    say(&mut caller, &[]);
    let mut plain = Vec::new();
    encode(&greeting(), &[], &mut plain);
    assert_eq!(receive(&mut caller, &plain, usize::MAX), Err(Fault::Handshake));
    assert_eq!(say(&mut caller, &[greeting()]), [0; 0]);
}

#[test]
fn who_has_no_place_for_a_caller_says_so_before_it_has_knocked() {
    let (mut caller, mut called) = strangers(&keys(b"sesame"), &keys(b"sesame"));
    let bye = Frame::Bye { reason: ByeReason::Full };
    let sent = say(&mut called, core::slice::from_ref(&bye));
    say(&mut caller, &[]);
    assert_eq!(receive(&mut caller, &sent, 1), Ok(vec![bye]));
    assert_eq!(say(&mut caller, &[greeting()]), [0; 0]);
}

#[test]
fn nodes_of_version_1_and_this_one_tell_each_other() {
    let old_bye = Frame::Bye { reason: ByeReason::Version };
    for keyring in [keys(b"sesame"), Keyring::open()] {
        let (mut caller, mut called) = strangers(&keyring, &keyring);
        // An old node's hello, followed by wants.
        let old = [&[27, 0, 0][..], b"PTLK", &[1, 0x82, 2, 3, 4, 5], &[6; 16], &[9; 300]].concat();
        assert_eq!(
            receive(&mut called, &old, usize::MAX),
            Err(Fault::Version { ours: 3, theirs: 1 })
        );
        assert_eq!(say(&mut called, core::slice::from_ref(&old_bye)), [2, 0, 12, 3]);
        say(&mut caller, &[]);
        assert_eq!(
            receive(&mut caller, &[2, 0, 12, 3], 1).unwrap(),
            core::slice::from_ref(&old_bye)
        );
    }
}

#[test]
fn any_flipped_bit_of_a_handshake_ends_it() {
    let knock = say(&mut strangers(&keys(b"sesame"), &keys(b"sesame")).0, &[]);
    for bit in 0..8 * knock.len() {
        let (mut caller, mut called) = strangers(&keys(b"sesame"), &keys(b"sesame"));
        let mut bytes = say(&mut caller, &[]);
        bytes[bit / 8] ^= 1 << (bit % 8);
        match receive(&mut called, &bytes, usize::MAX) {
            Err(fault) => {
                assert!(say(&mut called, &[Frame::Bye { reason: fault.reason() }]).len() == 4)
            }
            // A longer knock whose end never comes.
            Ok(heard) => assert!(heard.is_empty() && say(&mut called, &[]).is_empty(), "bit {bit}"),
        }
    }
    for bit in 0..8 * ANSWER_BYTES {
        let (mut caller, mut called) = strangers(&keys(b"sesame"), &keys(b"sesame"));
        receive(&mut called, &say(&mut caller, &[]), usize::MAX).unwrap();
        let mut answer = say(&mut called, &[]);
        answer[bit / 8] ^= 1 << (bit % 8);
        let heard = receive(&mut caller, &answer, usize::MAX);
        assert!(
            matches!(heard, Err(Fault::Handshake)) || heard == Ok(vec![]) && bit < 16,
            "bit {bit}"
        );
        assert_eq!(say(&mut caller, &[greeting()]), [0; 0], "bit {bit}: it trusts no peer");
    }
}

#[test]
fn any_flipped_bit_of_a_sealed_message_is_a_fault_and_the_last_word_still_goes_out() {
    let whole = say(&mut friends().0, &[ping(1), ping(2)]);
    for bit in 0..8 * whole.len() {
        let (mut caller, mut called) = friends();
        let mut bytes = say(&mut caller, &[ping(1), ping(2)]);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let heard = receive(&mut called, &bytes, usize::MAX);
        assert!(
            matches!(heard, Err(Fault::Unsealed | Fault::SealedLength(_)))
                || heard == Ok(vec![]) && bit < 16,
            "bit {bit}"
        );
        if heard.is_err() {
            assert_eq!(
                receive(&mut called, &say(&mut caller, &[ping(3)]), usize::MAX),
                Ok(vec![]),
                "no message opens any more"
            );
            let bye = Frame::Bye { reason: ByeReason::Protocol };
            assert_eq!(
                receive(&mut caller, &say(&mut called, core::slice::from_ref(&bye)), usize::MAX),
                Ok(vec![bye])
            );
        }
    }
}

#[test]
fn messages_left_out_repeated_moved_or_turned_around_are_faults() {
    let unsealed = Err(Fault::Unsealed);
    let (mut caller, mut called) = friends();
    let [one, two] = [1, 2].map(|nonce| say(&mut caller, &[ping(nonce)]));
    assert_eq!(receive(&mut called, &two, usize::MAX), unsealed, "one was left out");
    let (mut caller, mut called) = friends();
    assert_eq!(say(&mut caller, &[ping(1)]), one, "the same start gives the same bytes");
    assert_eq!(receive(&mut called, &one, usize::MAX), Ok(vec![ping(1)]));
    assert_eq!(receive(&mut called, &one, usize::MAX), unsealed, "it was repeated");
    let (mut caller, _) = friends();
    let own = say(&mut caller, &[ping(1)]);
    assert_eq!(receive(&mut caller, &own, usize::MAX), unsealed, "it came back");
}

#[test]
fn a_recorded_connection_that_is_played_again_gets_an_answer_and_no_further() {
    let (mut caller, mut called) = strangers(&keys(b"sesame"), &keys(b"sesame"));
    let knock = say(&mut caller, &[]);
    receive(&mut called, &knock, usize::MAX).unwrap();
    let answer = say(&mut called, &[]);
    receive(&mut caller, &answer, usize::MAX).unwrap();
    let greeted = say(&mut caller, &[greeting(), ping(1)]);
    assert_eq!(receive(&mut called, &greeted, usize::MAX).unwrap().len(), 2);
    // To the accepting side, which draws another key.
    let mut again = Channel::responder(&keys(b"sesame"), [3; 32]);
    assert_eq!(receive(&mut again, &[knock, greeted].concat(), usize::MAX), Err(Fault::Unsealed));
    // To the connecting side, which has drawn another key.
    let mut caller = Channel::initiator(keys(b"sesame").current(), [4; 32]);
    say(&mut caller, &[]);
    assert_eq!(receive(&mut caller, &answer, usize::MAX), Err(Fault::Handshake));
}

#[test]
fn lengths_are_judged_when_they_are_read_and_a_stranger_gets_no_buffer() {
    let announce = |channel: &mut Channel, length: usize| {
        receive(channel, &(length as u16).to_le_bytes(), usize::MAX)
    };
    let (_, mut called) = friends();
    assert_eq!(
        announce(&mut called, 16 + MAX_FRAME_BYTES + 1),
        Err(Fault::SealedLength(16 + MAX_FRAME_BYTES + 1))
    );
    let (_, mut called) = friends();
    assert_eq!(announce(&mut called, 16), Err(Fault::SealedLength(16)), "an empty message");
    // Replaying a recorded handshake gets this far.
    let knock = say(&mut Channel::initiator(keys(b"sesame").current(), [1; 32]), &[]);
    let mut called = Channel::responder(&keys(b"sesame"), [3; 32]);
    receive(&mut called, &knock, usize::MAX).unwrap();
    assert_eq!(
        announce(&mut called, 16 + MAX_GREETING_BYTES + 1),
        Err(Fault::SealedLength(16 + MAX_GREETING_BYTES + 1))
    );
}

#[test]
fn a_message_holds_whole_frames() {
    let (mut caller, mut called) = friends();
    caller.writable();
    let half = caller.send(|out| {
        let first = out.is_empty();
        if first {
            encode(&ping(1), &[], out);
            out.pop();
        }
        first
    });
    assert_eq!(receive(&mut called, &half.unwrap(), usize::MAX), Err(Fault::Torn));
}

#[test]
fn keys_change_on_both_sides_at_the_same_byte_each_way_for_itself() {
    let (mut caller, mut called) = friends();
    let mut carried = 0;
    let mut offset = 0;
    while carried < 2 * REKEY_BYTES + REKEY_BYTES / 2 {
        let bytes = say(&mut caller, &[ping(7), chunk(offset)]);
        carried += bytes.len();
        assert_eq!(receive(&mut called, &bytes, 10_000).unwrap(), [ping(7), chunk(offset)]);
        offset += 1;
        if offset % 100 == 0 {
            assert_eq!(
                receive(&mut caller, &say(&mut called, &[ping(1)]), usize::MAX),
                Ok(vec![ping(1)])
            );
        }
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn any_frames_in_any_pieces_arrive_as_they_were(
        turns in prop::collection::vec((any::<bool>(), prop::collection::vec(0u16..=MAX_CHUNK_BYTES as u16, 1..12)), 1..12),
        cut in 1usize..40_000,
    ) {
        let (mut caller, mut called) = friends();
        for (down, sizes) in turns {
            let (from, to) = if down { (&mut called, &mut caller) } else { (&mut caller, &mut called) };
            let frame = |&len: &u16| match len % 3 {
                0 => ping(len.into()),
                _ => Frame::Chunk { id: 1, offset: 0, checksum: 0, len },
            };
            let frames: Vec<Frame> = sizes.iter().map(frame).collect();
            let mut left = &frames[..];
            let mut heard = Vec::new();
            while !left.is_empty() {
                from.writable();
                let sent = from.send(|out| match left.split_first() {
                    Some((frame, rest)) => {
                        encode(frame, &vec![7; frame.payload_len()], out);
                        left = rest;
                        true
                    }
                    None => false,
                });
                heard.extend(receive(to, &sent.unwrap(), cut).unwrap());
            }
            prop_assert_eq!(heard, frames);
        }
    }

    #[test]
    fn random_bytes_never_panic_and_open_nothing(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        small in prop::collection::vec(0u8..64, 0..400),
        cut in 1usize..100,
    ) {
        for stream in [bytes, small] {
            let (mut caller, called) = strangers(&keys(b"sesame"), &keys(b"sesame"));
            say(&mut caller, &[]);
            let knocked = {
                let mut channel = Channel::responder(&keys(b"sesame"), [3; 32]);
                receive(&mut channel, &say(&mut Channel::initiator(keys(b"sesame").current(), [1; 32]), &[]), usize::MAX).unwrap();
                channel
            };
            for mut channel in [caller, called, knocked, friends().0] {
                if let Ok(heard) = receive(&mut channel, &stream, cut) {
                    let opened = heard.iter().any(|frame| frame.name() != "Bye");
                    prop_assert!(!opened);
                }
            }
        }
    }
}
