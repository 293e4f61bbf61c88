//! Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s (the Noise Protocol Framework, revision 34), by `snow`:
//! the only file that deals with ciphers.
//!
//! Both sides hold one swarm key and draw one ephemeral key each. The connection's keys depend on
//! both ephemeral keys, so a swarm key that leaks later opens no earlier recording. A side without
//! the swarm key fails at the first tag.
//!
//! Nothing is ambient: the caller passes the ephemeral key, drawn from the node's entropy once
//! per connection.

mod ciphers;

use snow::resolvers::CryptoResolver;
use snow::{Builder, HandshakeState, TransportState};

use super::Fault;
use crate::limits::REKEY_BYTES;

/// Bytes of each of the two handshake messages: an ephemeral key and the tag of an empty payload.
pub(super) const MESSAGE_BYTES: usize = 32 + TAG_BYTES;

/// Bytes that sealing adds to a message.
pub(super) const TAG_BYTES: usize = 16;

/// The pattern and its ciphers, as Noise names them.
const PROTOCOL: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// One message of a handshake.
pub(super) type Message = [u8; MESSAGE_BYTES];

/// The connecting side, until its message is answered.
pub(super) struct Opening(HandshakeState);

/// An established connection. Each direction has its own key and message counter, so a damaged,
/// missing, repeated or reordered message does not open.
pub(super) struct Session {
    noise: TransportState,
    sealed: Volume,
    opened: Volume,
}

/// Bytes since a direction's last key change. Both sides count the same bytes: those of
/// sealed messages.
#[derive(Default)]
struct Volume(usize);

impl Opening {
    /// The connecting side's message. `prologue` binds the earlier clear bytes into the handshake.
    pub(super) fn new(
        psk: &[u8; 32],
        prologue: &[u8],
        ephemeral: [u8; 32],
    ) -> Result<(Opening, Message), Fault> {
        let mut noise = builder(psk, prologue, ephemeral)
            .and_then(Builder::build_initiator)
            .map_err(|_| Fault::Handshake)?;
        let message = write(&mut noise)?;
        Ok((Opening(noise), message))
    }

    /// Takes the accepting side's answer.
    pub(super) fn answered(self, answer: &Message) -> Result<Session, Fault> {
        let Opening(mut noise) = self;
        read(&mut noise, answer)?;
        Session::new(noise)
    }
}

impl Session {
    /// Answers the connecting side's message, if it was made with the key.
    pub(super) fn answer(
        psk: &[u8; 32],
        prologue: &[u8],
        ephemeral: [u8; 32],
        message: &Message,
    ) -> Result<(Session, Message), Fault> {
        let mut noise = builder(psk, prologue, ephemeral)
            .and_then(Builder::build_responder)
            .map_err(|_| Fault::Handshake)?;
        read(&mut noise, message)?;
        let answer = write(&mut noise)?;
        Ok((Session::new(noise)?, answer))
    }

    fn new(noise: HandshakeState) -> Result<Session, Fault> {
        let noise = noise.into_transport_mode().map_err(|_| Fault::Handshake)?;
        Ok(Session { noise, sealed: Volume::default(), opened: Volume::default() })
    }

    /// Appends the sealed `plain` to `out`.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        let (start, length) = (out.len(), plain.len() + TAG_BYTES);
        out.resize(start + length, 0);
        let written = self.noise.write_message(plain, &mut out[start..]);
        assert_eq!(
            written.ok(),
            Some(length),
            "a message is far below Noise's limits, and there are fewer than 2^64"
        );
        if self.sealed.is_over(length) {
            self.noise.rekey_outgoing();
        }
    }

    /// Opens the next message into the beginning of `plain`, which has room for it, and returns its
    /// length. A message that is not the next one as sealed is a fault; after it, no message opens.
    pub(super) fn open(&mut self, sealed: &[u8], plain: &mut [u8]) -> Result<usize, Fault> {
        let length = self.noise.read_message(sealed, plain).map_err(|_| Fault::Unsealed)?;
        if self.opened.is_over(sealed.len()) {
            self.noise.rekey_incoming();
        }
        Ok(length)
    }
}

impl Volume {
    /// Counts a message; true if it was the last one under its key.
    fn is_over(&mut self, bytes: usize) -> bool {
        self.0 += bytes;
        let over = self.0 >= REKEY_BYTES;
        if over {
            self.0 = 0;
        }
        over
    }
}

fn builder<'a>(
    psk: &'a [u8; 32],
    prologue: &'a [u8],
    ephemeral: [u8; 32],
) -> Result<Builder<'a>, snow::Error> {
    let resolver: Box<dyn CryptoResolver + Send> = Box::new(ciphers::Ours { ephemeral });
    Builder::with_resolver(PROTOCOL.parse()?, resolver).psk(0, psk)?.prologue(prologue)
}

fn write(noise: &mut HandshakeState) -> Result<Message, Fault> {
    let mut message = [0; MESSAGE_BYTES];
    match noise.write_message(&[], &mut message) {
        Ok(MESSAGE_BYTES) => Ok(message),
        _ => Err(Fault::Handshake),
    }
}

fn read(noise: &mut HandshakeState, message: &Message) -> Result<(), Fault> {
    noise.read_message(message, &mut []).map(drop).map_err(|_| Fault::Handshake)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> (Session, Session) {
        let (opening, message) = Opening::new(&[3; 32], b"knock", [1; 32]).unwrap();
        let (called, answer) = Session::answer(&[3; 32], b"knock", [2; 32], &message).unwrap();
        (opening.answered(&answer).unwrap(), called)
    }

    #[test]
    fn the_key_changes_right_behind_the_message_that_fills_the_volume() {
        let (mut caller, mut called) = sessions();
        let (mut sealed, mut plain) = (Vec::new(), [0; 1 << 16]);
        let messages = REKEY_BYTES.div_ceil((1 << 15) + TAG_BYTES);
        for message in 0..messages {
            sealed.clear();
            caller.seal(&[7; 1 << 15], &mut sealed);
            // A side that counts one byte less than the other misses that the volume is full.
            if message + 1 == messages {
                assert_eq!(caller.sealed.0, 0);
                called.opened.0 = 0;
            }
            assert_eq!(called.open(&sealed, &mut plain), Ok(1 << 15));
        }
        sealed.clear();
        caller.seal(b"more", &mut sealed);
        assert_eq!(
            called.open(&sealed, &mut plain),
            Err(Fault::Unsealed),
            "the key is another one"
        );
        called.noise.rekey_incoming();
        assert_eq!(called.open(&sealed, &mut plain), Ok(4));
        assert_eq!(&plain[..4], b"more");
    }

    #[test]
    fn the_handshake_binds_the_knock_and_the_key() {
        let (_, message) = Opening::new(&[3; 32], b"knock", [1; 32]).unwrap();
        for (psk, prologue) in [([3; 32], b"knick"), ([4; 32], b"knock")] {
            assert_eq!(
                Session::answer(&psk, prologue, [2; 32], &message).err(),
                Some(Fault::Handshake)
            );
        }
        assert!(Session::answer(&[3; 32], b"knock", [2; 32], &message).is_ok());
    }
}
