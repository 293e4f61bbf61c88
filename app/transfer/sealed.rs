//! Sealed messages: they carry the frames of a locked swarm, once both sides have its key.
//!
//! ```text
//! 0        2                    2 + n
//! +--------+--------------------+
//! | n u16  | sealed frames      |   n little endian: the frames and a tag of 16 bytes
//! +--------+--------------------+
//! ```
//!
//! A message holds complete frames, no more than fit the decoder: it is opened into the decoder's
//! buffer and checked by itself. The first message each way holds one short frame. Until it has
//! been opened, the peer may be anyone who has recorded a handshake, and gets no larger buffer.

use super::noise::{Session, TAG_BYTES};
use super::{Decoder, Fault, MAX_FRAME_BYTES};
use crate::limits::{MAX_CHUNK_BYTES, MAX_GREETING_BYTES};

/// Bytes of frames after which a message ends. Small frames share a message, and no frame waits
/// long for the rest of a large message, which would take time on a slow link.
const ENOUGH_BYTES: usize = 1_024;

const _: () = assert!(
    MAX_FRAME_BYTES + TAG_BYTES <= u16::MAX as usize,
    "a message says its length in 16 bits"
);

/// Seals and opens the messages of an established connection.
pub(super) struct Sealed {
    session: Box<Session>,
    /// The beginning of a message, its length included, until the rest comes.
    begun: Vec<u8>,
    /// The peer's first message has been opened.
    heard: bool,
    /// This side's first message is on its way.
    spoken: bool,
}

impl Sealed {
    pub(super) fn new(session: Box<Session>) -> Sealed {
        Sealed { session, begun: Vec::new(), heard: false, spoken: false }
    }

    /// Takes bytes until one message is opened into the decoder, which must be empty, or there
    /// are no more.
    pub(super) fn handle(&mut self, rest: &mut &[u8], decoder: &mut Decoder) -> Result<(), Fault> {
        if self.begun.is_empty()
            && let Some((&length, behind)) = rest.split_first_chunk()
            && let Some((message, left)) = behind.split_at_checked(self.checked(length)?)
        {
            *rest = left;
            return open(&mut self.session, &mut self.heard, message, decoder);
        }
        if !fill(&mut self.begun, 2, rest) {
            return Ok(());
        }
        let count = 2 + self.checked([self.begun[0], self.begun[1]])?;
        if fill(&mut self.begun, count, rest) {
            open(&mut self.session, &mut self.heard, &self.begun[2..], decoder)?;
            self.begun.clear();
        }
        Ok(())
    }

    /// Checks the length of a message.
    fn checked(&self, length: [u8; 2]) -> Result<usize, Fault> {
        let length = usize::from(u16::from_le_bytes(length));
        let most = TAG_BYTES + if self.heard { MAX_FRAME_BYTES } else { MAX_GREETING_BYTES };
        if (TAG_BYTES + 1..=most).contains(&length) {
            Ok(length)
        } else {
            Err(Fault::SealedLength(length))
        }
    }

    /// Gathers frames and appends them sealed to `out`, until there are none or there is a
    /// chunk's worth.
    pub(super) fn send(
        &mut self,
        mut poll_send: impl FnMut(&mut Vec<u8>) -> bool,
        out: &mut Vec<u8>,
    ) {
        let mut plain = Vec::new();
        let mut start = 0;
        while plain.len() < MAX_CHUNK_BYTES {
            let end = plain.len();
            if !poll_send(&mut plain) {
                break;
            }
            if end > start
                && (!self.spoken
                    || end - start >= ENOUGH_BYTES
                    || plain.len() - start > MAX_FRAME_BYTES)
            {
                self.seal(&plain[start..end], out);
                start = end;
            }
        }
        if start < plain.len() {
            self.seal(&plain[start..], out);
        }
    }

    fn seal(&mut self, frames: &[u8], out: &mut Vec<u8>) {
        self.spoken = true;
        out.extend_from_slice(&((frames.len() + TAG_BYTES) as u16).to_le_bytes());
        self.session.seal(frames, out);
    }
}

fn open(
    session: &mut Session,
    heard: &mut bool,
    message: &[u8],
    decoder: &mut Decoder,
) -> Result<(), Fault> {
    let count = session.open(message, decoder.spare())?;
    decoder.filled(count);
    *heard = true;
    Ok(())
}

/// Moves bytes from `rest` until `begun` has `count`; true once they are there.
fn fill(begun: &mut Vec<u8>, count: usize, rest: &mut &[u8]) -> bool {
    let missing = count.saturating_sub(begun.len());
    let (taken, left) = rest.split_at(missing.min(rest.len()));
    begun.reserve_exact(missing);
    begun.extend_from_slice(taken);
    *rest = left;
    begun.len() >= count
}
