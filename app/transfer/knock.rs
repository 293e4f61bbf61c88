//! The first message of the connecting side, in clear: the protocol, its version, and the swarm.
//!
//! ```text
//! 0        2     3           7         8 to 10    at most 20   then      then
//! +--------+-----+-----------+---------+----------+------------+---------+----------+
//! | n u16  | 00  | PTLK      | version | swarm    | node, boot | epoch   | finger-  |   all but the magic and the
//! |        |     |           | varint  | varint   | 0 0        | 0       | print    |   fingerprint: varints
//! +--------+-----+-----------+---------+----------+------------+---------+----------+
//! ```
//!
//! This is the hello of version 1, whose layout is the same in every version, so that nodes of all
//! versions can tell each other why they disconnect. Since version 2 it does not identify the
//! sender: the hello that follows does, sealed if the swarm has a key.

use heapless::Vec as Bounded;
use serde::{Deserialize, Serialize};

use super::{ByeReason, Fault, Frame};
use crate::id::{BootId, Epoch, Fingerprint, NodeId, SwarmTag};
use crate::limits::MAX_KNOCK_BYTES;

/// The first bytes of every knock: they mark potluck's transfer protocol.
pub(crate) const MAGIC: [u8; 4] = *b"PTLK";

/// The version of the protocol. Peers of different versions disconnect at once.
pub(crate) const VERSION: u16 = 3;

/// Bytes of the longest knock, its length included.
pub(super) const KNOCK_BYTES: usize = 2 + MAX_KNOCK_BYTES;

/// The number of `Frame::Hello`, and of every knock.
const NUMBER: u8 = 0;

/// The first message in clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FirstMessage {
    /// A node of this version belongs to this swarm.
    Knock(SwarmTag),
    /// The node disconnects.
    Bye(ByeReason),
}

/// The layout that never changes.
#[derive(Serialize, Deserialize)]
struct Knock {
    magic: [u8; 4],
    version: u16,
    swarm: SwarmTag,
    node: NodeId,
    boot: BootId,
    epoch: Epoch,
    fingerprint: Fingerprint,
}

/// The bytes of this version's knock.
pub(super) fn knock(swarm: SwarmTag) -> Bounded<u8, KNOCK_BYTES> {
    let (node, boot, epoch, fingerprint) = (NodeId(0), BootId(0), Epoch(0), Fingerprint([0; 16]));
    let knock = Knock { magic: MAGIC, version: VERSION, swarm, node, boot, epoch, fingerprint };
    let mut bytes = Bounded::from_array([0; KNOCK_BYTES]);
    let header = postcard::to_slice(&(NUMBER, knock), &mut bytes[2..]).map(|header| header.len());
    let header = header.expect("the longest knock fits its limit");
    bytes[..2].copy_from_slice(&(header as u16).to_le_bytes());
    bytes.truncate(2 + header);
    bytes
}

/// Reads the length before a first message. A longer one than any node sends is not from a node.
pub(super) fn message_bytes(length: [u8; 2]) -> Result<usize, Fault> {
    let length = usize::from(u16::from_le_bytes(length));
    if (1..=MAX_KNOCK_BYTES).contains(&length) { Ok(length) } else { Err(Fault::Magic) }
}

/// Reads a first message without its length.
pub(super) fn read(message: &[u8]) -> Result<FirstMessage, Fault> {
    if let Ok((Frame::Bye { reason }, [])) = postcard::take_from_bytes(message) {
        return Ok(FirstMessage::Bye(reason));
    }
    let Ok(((NUMBER, knock), [])) = postcard::take_from_bytes::<(u8, Knock)>(message) else {
        return Err(Fault::Magic);
    };
    if knock.magic != MAGIC {
        return Err(Fault::Magic);
    }
    if knock.version != VERSION {
        return Err(Fault::Version { ours: VERSION, theirs: knock.version });
    }
    Ok(FirstMessage::Knock(knock.swarm))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_knock_has_the_bytes_that_the_wire_document_shows() {
        let bytes = knock(SwarmTag(0x0102));
        assert_eq!(hex(&bytes), "1b000050544c4b03820200000000000000000000000000000000000000");
        assert_eq!(message_bytes([bytes[0], bytes[1]]), Ok(bytes.len() - 2));
        assert_eq!(read(&bytes[2..]), Ok(FirstMessage::Knock(SwarmTag(0x0102))));
        assert_eq!(knock(SwarmTag(u64::MAX)).len(), 2 + 35);
    }

    #[test]
    fn a_node_of_version_1_is_told_so_and_says_so_itself() {
        // The hello of version 1, and its answer to this version's knock, as version 1 pinned them.
        let hello = [&[0][..], b"PTLK", &[1, 0x82, 2, 3, 4, 5], &[6; 16]].concat();
        assert_eq!(read(&hello), Err(Fault::Version { ours: VERSION, theirs: 1 }));
        assert_eq!(read(&[12, 3]), Ok(FirstMessage::Bye(ByeReason::Version)));
        // The longest hello of version 1 fits the read limit.
        let longest = [
            &[0][..],
            b"PTLK",
            &[0xff, 0xff, 3],
            &[[0xff; 9].as_slice(), &[1]].concat().repeat(4),
            &[0xff; 16],
        ]
        .concat();
        assert_eq!(
            (read(&longest), longest.len()),
            (Err(Fault::Version { ours: VERSION, theirs: u16::MAX }), MAX_KNOCK_BYTES)
        );
    }

    #[test]
    fn what_is_no_knock_is_turned_away_at_its_first_bytes() {
        assert_eq!(message_bytes(*b"GE"), Err(Fault::Magic));
        assert_eq!(message_bytes([0, 0]), Err(Fault::Magic));
        let mut bytes = knock(SwarmTag(5));
        bytes[3] ^= 1;
        assert_eq!(read(&bytes[2..]), Err(Fault::Magic), "another magic");
        assert_eq!(read(&[1, 2, 3]), Err(Fault::Magic), "another frame");
        let mut bytes = knock(SwarmTag(5)).to_vec();
        bytes.push(0);
        assert_eq!(read(&bytes[2..]), Err(Fault::Magic), "a byte left over");
    }
}
