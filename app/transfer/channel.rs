//! The seam between the frames of a connection and the bytes of its socket, one for each connection, whichever side fetches.
//!
//! Bytes that came go in as they came; frames come out. Frames go in as long as the socket can take more; bytes come out, one
//! piece in flight at a time. This is the one place that bytes pass, so it is where they are to be encrypted.

use super::{Decoder, Fault, Frame};
use crate::limits::MAX_CHUNK_BYTES;

/// One connection's bytes, both ways.
#[derive(Default)]
pub struct Channel {
    decoder: Decoder,
    writable: bool,
}

/// The frames in the bytes that have just come. All of them are to be taken, unless one is a fault.
pub struct Received<'a> {
    decoder: &'a mut Decoder,
    rest: &'a [u8],
}

impl Channel {
    /// A connection that the socket is not ready to send on yet.
    pub fn new() -> Channel {
        Channel::default()
    }

    /// Takes the bytes that came. Those of a frame that is not whole yet are kept.
    pub fn received<'a>(&'a mut self, bytes: &'a [u8]) -> Received<'a> {
        Received { decoder: &mut self.decoder, rest: bytes }
    }

    /// The socket is ready, or has taken all that was sent.
    pub fn writable(&mut self) {
        self.writable = true;
    }

    /// Whether [`send`](Self::send) may have bytes.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Gathers frames from `poll_send`, which appends one and says whether there was one, until there are none or a chunk's worth
    /// is here. The bytes that it returns are in flight until the socket is [`writable`](Self::writable) again; before that there
    /// are no others.
    pub fn send(&mut self, mut poll_send: impl FnMut(&mut Vec<u8>) -> bool) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        while self.writable && out.len() < MAX_CHUNK_BYTES && poll_send(&mut out) {}
        self.writable &= out.is_empty();
        (!out.is_empty()).then_some(out)
    }
}

impl Received<'_> {
    /// The next whole frame and its payload; `None` when all bytes are taken. After a fault the connection has no more frames.
    pub fn next_frame(&mut self) -> Result<Option<(Frame, &[u8])>, Fault> {
        loop {
            if let Some(frame) = self.decoder.advance()? {
                let payload = self.decoder.payload(&frame);
                return Ok(Some((frame, payload)));
            }
            if self.rest.is_empty() {
                return Ok(None);
            }
            let taken = self.decoder.push(self.rest);
            self.rest = &self.rest[taken..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode;
    use super::*;

    #[test]
    fn only_one_piece_is_in_flight_and_it_is_a_chunk_or_so() {
        let mut channel = Channel::new();
        let ping = |out: &mut Vec<u8>| {
            encode(&Frame::Ping { nonce: 1 }, &[], out);
            true
        };
        assert_eq!(channel.send(ping), None, "not connected yet");
        channel.writable();
        let bytes = channel.send(ping).unwrap();
        assert!((MAX_CHUNK_BYTES..MAX_CHUNK_BYTES + 8).contains(&bytes.len()), "{}", bytes.len());
        assert_eq!(channel.send(ping), None, "the socket has not taken what was sent");
        channel.writable();
        assert_eq!(channel.send(|_| false), None);
        assert!(channel.is_writable(), "nothing went out");
    }

    #[test]
    fn frames_come_out_however_the_bytes_came_in() {
        let mut bytes = Vec::new();
        for nonce in 0..20_000 {
            encode(&Frame::Ping { nonce }, &[], &mut bytes);
        }
        for piece in [1, 7, 20_000, bytes.len()] {
            let mut channel = Channel::new();
            let mut next = 0;
            for bytes in bytes.chunks(piece) {
                let mut frames = channel.received(bytes);
                while let Some((frame, _)) = frames.next_frame().unwrap() {
                    assert_eq!(frame, Frame::Ping { nonce: next });
                    next += 1;
                }
            }
            assert_eq!(next, 20_000);
        }
    }
}
