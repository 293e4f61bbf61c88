//! Converts between the frames of one connection and the bytes of its socket.
//!
//! Received bytes go in as they arrive, and frames come out. Frames go in as long as the socket can
//! take more, and bytes come out, one piece in flight at a time. All bytes of a connection pass
//! here. The connecting side knocks (`knock`). If the swarm has a key, both sides prove that they
//! have it (`handshake`) and seal all frames from then on (`sealed`).

use super::handshake::{self, Initiator, Outcome, Responder};
use super::sealed::Sealed;
use super::{Decoder, Fault, Frame};
use crate::keyring::{Keyring, SwarmSecret};
use crate::limits::MAX_CHUNK_BYTES;

/// One connection's bytes, both ways.
pub struct Channel {
    decoder: Decoder,
    writable: bool,
    /// Handshake bytes, sent before everything else.
    pending: Vec<u8>,
    stage: Stage,
    /// After a fault, no more frames are received.
    deaf: bool,
}

/// How far a connection has come.
enum Stage {
    /// This side has knocked, or is about to.
    Calling(Box<Initiator>),
    /// This side waits for a knock.
    Called(Box<Responder>),
    /// The caller was refused; it may be told why, in clear.
    Refused,
    /// The handshake failed, and the other side would understand no message.
    Failed,
    /// The open swarm: frames in clear.
    Plain,
    /// A locked swarm.
    Sealed(Sealed),
}

/// The frames in the received bytes. The caller must take all of them, unless one is a fault.
pub struct Received<'a> {
    channel: &'a mut Channel,
    rest: &'a [u8],
}

impl Channel {
    /// The connecting side, before the socket is writable. It uses the key in `secret`. `ephemeral`
    /// is a random number that is used for nothing else.
    pub fn initiator(secret: &SwarmSecret, ephemeral: [u8; 32]) -> Channel {
        match handshake::call(secret, ephemeral) {
            Ok((pending, Some(caller))) => Channel::new(pending, Stage::Calling(Box::new(caller))),
            Ok((pending, None)) => Channel::new(pending, Stage::Plain),
            // The one ephemeral key in 2^252 that is unusable.
            Err(_) => Channel::new(Vec::new(), Stage::Failed),
        }
    }

    /// The accepting side. It accepts callers that have one of the keys in `keyring`. `ephemeral`
    /// is as for the other side.
    pub fn responder(keyring: &Keyring, ephemeral: [u8; 32]) -> Channel {
        Channel::new(
            Vec::new(),
            Stage::Called(Box::new(Responder::new(keyring.clone(), ephemeral))),
        )
    }

    fn new(pending: Vec<u8>, stage: Stage) -> Channel {
        Channel { decoder: Decoder::new(), writable: false, pending, stage, deaf: false }
    }

    /// Takes received bytes. Those of an incomplete frame are kept.
    pub fn received<'a>(&'a mut self, bytes: &'a [u8]) -> Received<'a> {
        let rest = if self.deaf { &[] } else { bytes };
        Received { channel: self, rest }
    }

    /// The socket is ready, or has taken everything that was sent.
    pub fn writable(&mut self) {
        self.writable = true;
    }

    /// Whether [`send`](Self::send) may return bytes.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Gathers frames from `poll_send`, which appends one and says whether there was one, until
    /// there are none or there is a chunk's worth. The returned bytes are in flight until the
    /// socket is [`writable`](Self::writable) again; before that, `send` returns no others. Until
    /// the handshake is over, only the accepting side's `Bye` is gathered.
    pub fn send(&mut self, mut poll_send: impl FnMut(&mut Vec<u8>) -> bool) -> Option<Vec<u8>> {
        if !self.writable {
            return None;
        }
        let mut out = core::mem::take(&mut self.pending);
        match &mut self.stage {
            Stage::Calling(_) | Stage::Failed => {}
            Stage::Called(_) | Stage::Refused => drop(poll_send(&mut out)),
            Stage::Plain => while out.len() < MAX_CHUNK_BYTES && poll_send(&mut out) {},
            Stage::Sealed(sealed) => sealed.send(poll_send, &mut out),
        }
        self.writable = out.is_empty();
        (!out.is_empty()).then_some(out)
    }

    /// Takes some of the bytes, up to the end of a message or of the handshake. Returns the peer's
    /// `Bye` if it came in clear.
    fn take(&mut self, rest: &mut &[u8]) -> Result<Option<Frame>, Fault> {
        let outcome = match &mut self.stage {
            Stage::Calling(initiator) => initiator.handle(rest)?,
            Stage::Called(responder) => responder.handle(rest)?,
            Stage::Refused | Stage::Failed => {
                *rest = &[];
                None
            }
            Stage::Plain => {
                let taken = self.decoder.push(rest);
                *rest = &rest[taken..];
                None
            }
            Stage::Sealed(sealed) => {
                sealed.handle(rest, &mut self.decoder)?;
                None
            }
        };
        match outcome {
            None => return Ok(None),
            Some(Outcome::Plain) => self.stage = Stage::Plain,
            Some(Outcome::Sealed(session, answer)) => {
                self.pending.extend(answer.into_iter().flatten());
                self.stage = Stage::Sealed(Sealed::new(session));
            }
            Some(Outcome::Bye(reason)) => {
                self.stage = Stage::Failed;
                return Ok(Some(Frame::Bye { reason }));
            }
        }
        Ok(None)
    }

    fn next(&mut self, rest: &mut &[u8]) -> Result<Option<Frame>, Fault> {
        loop {
            if let Some(frame) = self.decoder.advance()? {
                return Ok(Some(frame));
            }
            if matches!(self.stage, Stage::Sealed(_)) && !self.decoder.is_empty() {
                return Err(Fault::Torn);
            }
            if rest.is_empty() {
                return Ok(None);
            }
            if let Some(frame) = self.take(rest)? {
                return Ok(Some(frame));
            }
        }
    }

    /// After a fault: ignores further input, and sends only what the other side can understand.
    fn fail(&mut self) {
        self.deaf = true;
        match self.stage {
            Stage::Called(_) => self.stage = Stage::Refused,
            Stage::Calling(_) => self.stage = Stage::Failed,
            _ => {}
        }
    }
}

impl Received<'_> {
    /// The next complete frame and its payload; `None` when all bytes are taken. After a fault the
    /// connection has no more frames.
    pub fn next_frame(&mut self) -> Result<Option<(Frame, &[u8])>, Fault> {
        match self.channel.next(&mut self.rest) {
            Ok(None) => Ok(None),
            Ok(Some(frame)) => {
                let payload = self.channel.decoder.payload(&frame);
                Ok(Some((frame, payload)))
            }
            Err(fault) => {
                self.rest = &[];
                self.channel.fail();
                Err(fault)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode;
    use super::*;

    /// Both sides of a connection of an open swarm, after the knock.
    fn open_pair() -> (Channel, Channel) {
        let keyring = Keyring::open();
        let mut caller = Channel::initiator(keyring.current(), [1; 32]);
        let mut called = Channel::responder(&keyring, [2; 32]);
        caller.writable();
        let knock = caller.send(|_| false).expect("the knock");
        assert_eq!(called.received(&knock).next_frame(), Ok(None));
        caller.writable();
        (caller, called)
    }

    #[test]
    fn only_one_piece_is_in_flight_and_it_is_a_chunk_or_so() {
        let ping = |out: &mut Vec<u8>| {
            encode(&Frame::Ping { nonce: 1 }, &[], out);
            true
        };
        assert_eq!(
            Channel::initiator(Keyring::open().current(), [1; 32]).send(ping),
            None,
            "not connected yet"
        );
        let (mut channel, _) = open_pair();
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
            let (_, mut channel) = open_pair();
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
