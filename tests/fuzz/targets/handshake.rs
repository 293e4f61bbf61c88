//! A stranger sends anything before a key is shown, as a caller or as the called side, in a locked
//! and in an open swarm. Nobody without the key gets in, and what the node sends stays bounded.

#![no_main]

use libfuzzer_sys::fuzz_target;

use potluck::keyring::Keyring;
use potluck::transfer::{ByeReason, Channel, Frame, encode};

/// Most bytes that a side sends before the other has shown a key: the longest knock, a handshake
/// message, and a last message.
const SAID_BYTES: usize = 66 + 50 + 4;

fuzz_target!(|data: &[u8]| {
    let [choice, cut, stream @ ..] = data else { return };
    let keyring = Keyring::new(b"a key", [b"an old key".as_slice()]);
    let mut channel = match choice % 4 {
        0 => Channel::initiator(keyring.current(), [1; 32]),
        1 => Channel::responder(&keyring, [2; 32]),
        // A caller that replays recorded bytes.
        2 => {
            let mut caller = Channel::initiator(keyring.current(), [1; 32]);
            caller.writable();
            let knock = caller.send(|_| false).expect("a caller must send its knock");
            let mut called = Channel::responder(&keyring, [2; 32]);
            assert!(matches!(called.received(&knock).next_frame(), Ok(None)));
            called
        }
        _ => Channel::responder(&Keyring::open(), [2; 32]),
    };
    let open = choice % 4 == 3;
    let mut said = 0;
    for piece in stream.chunks(usize::from(*cut).max(1)) {
        channel.writable();
        said += channel.send(|_| false).map_or(0, |bytes| bytes.len());
        let mut frames = channel.received(piece);
        loop {
            match frames.next_frame() {
                Ok(Some((Frame::Bye { .. }, _))) => {}
                Ok(Some((frame, payload))) => assert!(open && payload.len() == frame.payload_len(), "a stranger was let in"),
                Ok(None) => break,
                Err(fault) => {
                    let mut bye = true;
                    channel.writable();
                    let last = channel.send(|out| {
                        encode(&Frame::Bye { reason: fault.reason() }, &[], out);
                        core::mem::replace(&mut bye, false)
                    });
                    assert!(fault.reason() != ByeReason::Leaving && last.map_or(0, |bytes| bytes.len()) + said <= SAID_BYTES + 40);
                    assert!(matches!(channel.received(stream).next_frame(), Ok(None)), "it reads on after a fault");
                    return;
                }
            }
        }
    }
    assert!(said <= SAID_BYTES);
});
