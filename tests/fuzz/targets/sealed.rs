//! A peer with the key seals anything, and an attacker between the two changes some of it: only
//! what was sealed comes out, and a change ends the connection.

#![no_main]

use libfuzzer_sys::fuzz_target;

use potluck::keyring::Keyring;
use potluck::transfer::{Channel, Fault};

/// The bytes that one side sends for `plain`.
fn say(channel: &mut Channel, plain: &[u8]) -> Vec<u8> {
    channel.writable();
    let mut left = !plain.is_empty();
    let said = channel.send(|out| {
        let more = core::mem::replace(&mut left, false);
        out.extend_from_slice(if more { plain } else { &[] });
        more
    });
    said.unwrap_or_default()
}

fuzz_target!(|data: &[u8]| {
    let keyring = Keyring::new(b"a key", []);
    let (mut caller, mut called) = (Channel::initiator(keyring.current(), [1; 32]), Channel::responder(&keyring, [2; 32]));
    assert!(matches!(called.received(&say(&mut caller, &[])).next_frame(), Ok(None)));
    assert!(matches!(caller.received(&say(&mut called, &[])).next_frame(), Ok(None)));
    let mut rest = data;
    while let [length, change, cut, after @ ..] = rest {
        let (plain, after) = after.split_at(after.len().min(4 * usize::from(*length)));
        rest = after;
        let mut sealed = say(&mut caller, plain);
        let changed = change % 4 == 0 && !sealed.is_empty();
        if changed {
            let at = usize::from(*change) % sealed.len();
            sealed[at] ^= 1 << (cut % 8);
        }
        for piece in sealed.chunks(usize::from(*cut).max(1)) {
            let mut frames = called.received(piece);
            loop {
                match frames.next_frame() {
                    Ok(Some((frame, payload))) => assert!(!changed && payload.len() == frame.payload_len()),
                    Ok(None) => break,
                    Err(Fault::Unsealed) => return assert!(changed, "unchanged bytes must open"),
                    Err(_) => return,
                }
            }
        }
        // With an increased length, the rest of the message never arrives.
        if changed {
            return;
        }
    }
});
