//! The start of a connection: the accepting side receives a knock, and if the swarm has a key, both
//! sides prove that they have it. Until then a stranger can fill no more than one small buffer.

use heapless::Vec as Bounded;

use super::knock::{self, FirstMessage, KNOCK_BYTES};
use super::noise::{MESSAGE_BYTES, Message, Opening, Session};
use super::{ByeReason, Fault};
use crate::keyring::{Keyring, SwarmSecret};

/// Bytes of a handshake's message, its length included.
const FRAMED_BYTES: usize = 2 + MESSAGE_BYTES;

/// Bytes of the longest first message and of the handshake message after it.
const RESPONDER_BYTES: usize = KNOCK_BYTES + FRAMED_BYTES;

/// The accepting side, until the caller is known to belong to the swarm.
pub(super) struct Responder {
    keyring: Keyring,
    ephemeral: [u8; 32],
    received: Bounded<u8, RESPONDER_BYTES>,
}

/// The connecting side of a locked swarm, until its knock is answered.
pub(super) struct Initiator {
    /// None once the answer has arrived.
    opening: Option<Opening>,
    received: Bounded<u8, FRAMED_BYTES>,
}

/// How the handshake ended.
pub(super) enum Outcome {
    /// The other side disconnects, in clear.
    Bye(ByeReason),
    /// Frames in clear follow.
    Plain,
    /// Sealed messages follow, after the answer, if there is one, is sent.
    Sealed(Box<Session>, Option<Bounded<u8, FRAMED_BYTES>>),
}

/// What the connecting side sends first, and what it then waits for: nothing in an open swarm.
pub(super) fn call(
    secret: &SwarmSecret,
    ephemeral: [u8; 32],
) -> Result<(Vec<u8>, Option<Initiator>), Fault> {
    let mut out = knock::knock(secret.tag()).to_vec();
    let Some(psk) = secret.transfers() else { return Ok((out, None)) };
    let (opening, message) = Opening::new(psk, &out, ephemeral)?;
    out.extend_from_slice(&framed(&message));
    Ok((out, Some(Initiator { opening: Some(opening), received: Bounded::new() })))
}

impl Responder {
    /// Accepts callers that have one of the keys.
    pub(super) fn new(keyring: Keyring, ephemeral: [u8; 32]) -> Responder {
        Responder { keyring, ephemeral, received: Bounded::new() }
    }

    /// Takes the bytes that belong to the handshake; `None` while it needs more.
    pub(super) fn handle(&mut self, rest: &mut &[u8]) -> Result<Option<Outcome>, Fault> {
        let Some(length) = fill(&mut self.received, 2, rest) else { return Ok(None) };
        let message_bytes = knock::message_bytes([length[0], length[1]])?;
        let Some(message) = fill(&mut self.received, 2 + message_bytes, rest) else {
            return Ok(None);
        };
        let tag = match knock::read(&message[2..])? {
            FirstMessage::Knock(tag) => tag,
            FirstMessage::Bye(reason) => return Ok(Some(Outcome::Bye(reason))),
        };
        let secret = self.keyring.find(tag).ok_or(Fault::Swarm)?;
        let Some(psk) = secret.transfers() else { return Ok(Some(Outcome::Plain)) };
        let Some(received) = fill(&mut self.received, 2 + message_bytes + FRAMED_BYTES, rest)
        else {
            return Ok(None);
        };
        let (prologue, message) = received.split_at(2 + message_bytes);
        let message = unframed(message)?;
        let (session, answer) = Session::answer(psk, prologue, self.ephemeral, message)?;
        Ok(Some(Outcome::Sealed(Box::new(session), Some(framed(&answer)))))
    }
}

impl Initiator {
    /// As [`Responder::handle`]. A node of another version answers in clear, and so does one that
    /// is full or has another key.
    pub(super) fn handle(&mut self, rest: &mut &[u8]) -> Result<Option<Outcome>, Fault> {
        let Some(length) = fill(&mut self.received, 2, rest) else { return Ok(None) };
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        if length > MESSAGE_BYTES {
            return Err(Fault::Handshake);
        }
        let Some(answer) = fill(&mut self.received, 2 + length, rest) else { return Ok(None) };
        if length < MESSAGE_BYTES {
            return match knock::read(&answer[2..]) {
                Ok(FirstMessage::Bye(reason)) => Ok(Some(Outcome::Bye(reason))),
                _ => Err(Fault::Handshake),
            };
        }
        let opening = self.opening.take().ok_or(Fault::Handshake)?;
        let session = opening.answered(unframed(answer)?)?;
        Ok(Some(Outcome::Sealed(Box::new(session), None)))
    }
}

/// Moves bytes from `rest` until `received` has `count`; returns these once they are there.
fn fill<'a, const N: usize>(
    received: &'a mut Bounded<u8, N>,
    count: usize,
    rest: &mut &[u8],
) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at(count.saturating_sub(received.len()).min(rest.len()));
    received.extend_from_slice(taken).ok()?;
    *rest = left;
    received.get(..count)
}

fn framed(message: &Message) -> Bounded<u8, FRAMED_BYTES> {
    let length = (MESSAGE_BYTES as u16).to_le_bytes();
    length.into_iter().chain(*message).collect()
}

fn unframed(framed: &[u8]) -> Result<&Message, Fault> {
    match framed.split_first_chunk() {
        Some((&length, message)) if usize::from(u16::from_le_bytes(length)) == MESSAGE_BYTES => {
            message.try_into().map_err(|_| Fault::Handshake)
        }
        _ => Err(Fault::Handshake),
    }
}
