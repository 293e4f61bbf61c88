//! The frames of a connection and their bytes.
//!
//! ```text
//! 0        2            2 + n                2 + n + len
//! +--------+------------+--------------------+
//! | n u16  | header     | payload            |   n little endian, 1 to 512
//! +--------+------------+--------------------+   header: postcard of `Frame`; len is in it, at most 16,384
//! ```
//!
//! A variant's position is its number on the wire: new variants go to the end, old ones keep their
//! place. The golden test below pins the bytes of each.

use heapless::Vec as Bounded;
use serde::{Deserialize, Serialize};

use super::Fault;
use crate::id::{BlockKey, BootId, Epoch, Fingerprint, NodeId, TokenId};
use crate::kv::Plane;
use crate::limits::{
    BLOCK_TOKENS, HABIT_RUN, MAX_CHUNK_BYTES, MAX_FRAME_HEADER_BYTES, MAX_PATH_TOKENS,
};

/// Bytes of the longest frame: its length, its header, its payload.
pub(crate) const MAX_FRAME_BYTES: usize = 2 + MAX_FRAME_HEADER_BYTES + MAX_CHUNK_BYTES;

/// The token ids of one block; fewer than 16 for the partial block at a prompt's end.
pub type Tokens = Bounded<TokenId, BLOCK_TOKENS>;

/// The token ids of a draft.
pub type DraftTokens = Bounded<TokenId, MAX_PATH_TOKENS>;

/// The last token ids of a text, for a question about habits.
pub type RecentTokens = Bounded<TokenId, HABIT_RUN>;

/// The first frame of each side, once the channel is open: in a locked swarm, only peers with its
/// key can read it. New fields go to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The sender.
    pub node: NodeId,
    /// The sender's current start.
    pub(crate) boot: BootId,
    /// The sender's epoch.
    pub(crate) epoch: Epoch,
    /// What the sender's KV bytes can be mixed with.
    pub(crate) fingerprint: Fingerprint,
    /// Seconds since the sender's start, when the connection was made.
    pub(crate) uptime_s: u32,
}

/// One message. Frames from the fetching side: `Want`, `Cancel`, `FilterWant`, `Ping`, `DraftWant`,
/// `HabitWant`. From the serving side: `Found`, `Chunk`, `Absent`, `Busy`, `Stopped`,
/// `FilterSegment`, `Pong`, `Draft`. From both: `Hello` first, `Bye` last.
#[allow(clippy::large_enum_variant, reason = "one or two at a time")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Frame {
    /// Identifies the sender. The first frame each way.
    Hello(Hello),
    /// Asks for one plane of one block.
    Want {
        /// Chosen by the fetching side, used once on a connection.
        id: u32,
        /// The block.
        key: BlockKey,
        /// Which of its planes.
        plane: Plane,
    },
    /// Cancels a want. Answered by `Stopped`, unless the final frame for the want is
    /// already in flight.
    Cancel {
        /// The want.
        id: u32,
    },
    /// The plane was found and follows in chunks.
    Found {
        /// The want.
        id: u32,
        /// The plane being sent.
        plane: Plane,
        /// The key of the block before it; for the first block, the root of the chain.
        parent: BlockKey,
        /// The block's tokens.
        tokens: Tokens,
        /// Bytes of the plane.
        bytes: u32,
        /// XXH3-64 of the whole plane.
        digest: u64,
    },
    /// The next bytes of a plane, as payload. Every chunk but the last has 16,384.
    Chunk {
        /// The want.
        id: u32,
        /// Where in the plane the payload starts.
        offset: u32,
        /// XXH3-64 of the payload.
        checksum: u64,
        /// Bytes of the payload.
        len: u16,
    },
    /// The serving side does not hold the plane.
    Absent {
        /// The want.
        id: u32,
    },
    /// The serving side is too busy; it may well hold the plane.
    Busy {
        /// The want.
        id: u32,
    },
    /// The final frame for a cancelled want.
    Stopped {
        /// The want.
        id: u32,
    },
    /// Asks for one segment of the serving side's Bloom filter.
    FilterWant {
        /// The segment's number.
        segment: u8,
    },
    /// A segment of the filter, as payload; empty when the filter has no such segment.
    FilterSegment {
        /// The segment's number.
        segment: u8,
        /// The filter's generation at the moment of sending.
        generation: u64,
        /// XXH3-64 of the payload.
        checksum: u64,
        /// Bytes of the payload.
        len: u16,
    },
    /// Asks for a `Pong`, to measure the round trip.
    Ping {
        /// Comes back in the `Pong`.
        nonce: u64,
    },
    /// Answers a `Ping`.
    Pong {
        /// The `Ping`'s.
        nonce: u64,
    },
    /// The last frame: the sender closes the connection.
    Bye {
        /// Why.
        reason: ByeReason,
    },
    /// Asks which tokens once followed a block.
    DraftWant {
        /// Chosen by the fetching side, used once on a connection.
        id: u32,
        /// The block, or the root of the chain.
        parent: BlockKey,
        /// The tokens after it that are already known: fewer than a block has.
        begun: Tokens,
    },
    /// Answers a `DraftWant`: the tokens that once followed here. Or a `HabitWant`: those that are
    /// likely to follow. A hint that may be wrong.
    Draft {
        /// The request.
        id: u32,
        /// The tokens after the known ones; empty if none are known to have followed.
        tokens: DraftTokens,
    },
    /// Asks which tokens are likely to follow a few, judging by the serving side's answers.
    HabitWant {
        /// Chosen by the fetching side, used once on a connection, for drafts of either kind.
        id: u32,
        /// The last tokens of the text.
        recent: RecentTokens,
    },
}

/// Why a side closes the connection. A variant's position is its number on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ByeReason {
    /// The node stops.
    Leaving,
    /// Nothing was requested for a long time.
    Idle,
    /// All places for served connections are taken.
    Full,
    /// The other side speaks another protocol, or another version of it.
    Version,
    /// The other side belongs to another swarm.
    Swarm,
    /// The other side is in another epoch.
    Epoch,
    /// The other side runs another model or build.
    Fingerprint,
    /// The node has reached itself.
    SameNode,
    /// The other side reads or answers too slowly.
    Stalled,
    /// The other side broke a rule of the protocol.
    Protocol,
    /// The other side has this node's identity but is another machine.
    Twin,
}

impl Hello {
    /// The hello of a node that has just started.
    pub fn new(node: NodeId, boot: BootId, epoch: Epoch, fingerprint: Fingerprint) -> Hello {
        Hello { node, boot, epoch, fingerprint, uptime_s: 0 }
    }

    /// Checks whether this node and the one that sent `theirs` can exchange blocks; the fault
    /// says why not.
    pub(crate) fn check(&self, theirs: &Hello) -> Result<(), Fault> {
        if theirs.node == self.node {
            return Err(if theirs.boot == self.boot { Fault::SameNode } else { Fault::Twin });
        }
        if theirs.epoch != self.epoch {
            return Err(Fault::Epoch { ours: self.epoch.0, theirs: theirs.epoch.0 });
        }
        if theirs.fingerprint != self.fingerprint {
            return Err(Fault::Fingerprint { ours: self.fingerprint, theirs: theirs.fingerprint });
        }
        Ok(())
    }
}

impl Frame {
    /// Bytes of the payload that follows the header.
    pub fn payload_len(&self) -> usize {
        match self {
            Frame::Chunk { len, .. } | Frame::FilterSegment { len, .. } => usize::from(*len),
            _ => 0,
        }
    }

    /// The frame's name, for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Frame::Hello(_) => "Hello",
            Frame::Want { .. } => "Want",
            Frame::Cancel { .. } => "Cancel",
            Frame::Found { .. } => "Found",
            Frame::Chunk { .. } => "Chunk",
            Frame::Absent { .. } => "Absent",
            Frame::Busy { .. } => "Busy",
            Frame::Stopped { .. } => "Stopped",
            Frame::FilterWant { .. } => "FilterWant",
            Frame::FilterSegment { .. } => "FilterSegment",
            Frame::Ping { .. } => "Ping",
            Frame::Pong { .. } => "Pong",
            Frame::Bye { .. } => "Bye",
            Frame::DraftWant { .. } => "DraftWant",
            Frame::Draft { .. } => "Draft",
            Frame::HabitWant { .. } => "HabitWant",
        }
    }
}

/// Appends the bytes of `frame` and its `payload` to `out`.
///
/// # Panics
/// When the payload's length is not the one in the frame, or over the limit: a bug in the caller.
pub fn encode(frame: &Frame, payload: &[u8], out: &mut Vec<u8>) {
    assert!(
        payload.len() == frame.payload_len() && payload.len() <= MAX_CHUNK_BYTES,
        "{} bytes of payload",
        payload.len()
    );
    let mut header = [0; MAX_FRAME_HEADER_BYTES];
    let header =
        postcard::to_slice(frame, &mut header).expect("the longest header is far below the limit");
    out.extend_from_slice(&(header.len() as u16).to_le_bytes());
    out.extend_from_slice(header);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_GREETING_BYTES;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn golden(frame: Frame, payload: &[u8], expected: &str) {
        let mut bytes = Vec::new();
        encode(&frame, payload, &mut bytes);
        assert_eq!(
            hex(&bytes),
            expected,
            "{} changed its bytes: nodes of the same version would not talk",
            frame.name()
        );
        let mut decoder = super::super::Decoder::new();
        assert_eq!(decoder.push(&bytes), bytes.len());
        let (again, rest) = decoder.next_frame().unwrap().unwrap();
        assert_eq!((again, rest), (frame, payload));
    }

    #[test]
    fn every_frame_has_the_bytes_that_the_wire_document_shows() {
        let hello = Hello {
            uptime_s: 300,
            ..Hello::new(NodeId(3), BootId(4), Epoch(5), Fingerprint([6; 16]))
        };
        golden(Frame::Hello(hello), b"", "16000003040506060606060606060606060606060606ac02");
        let key = BlockKey([7; 16]);
        golden(
            Frame::Want { id: 300, key, plane: Plane::Sliding },
            b"",
            "140001ac020707070707070707070707070707070701",
        );
        golden(Frame::Cancel { id: 300 }, b"", "030002ac02");
        let tokens = Tokens::from_slice(&[TokenId(2), TokenId(262_143)]).unwrap();
        golden(
            Frame::Found {
                id: 1,
                plane: Plane::Global,
                parent: key,
                tokens,
                bytes: 26_112,
                digest: 0x1234,
            },
            b"",
            "1d00030100070707070707070707070707070707070202ffff0f80cc01b424",
        );
        golden(
            Frame::Chunk { id: 1, offset: 16_384, checksum: 0x80, len: 3 },
            b"abc",
            "08000401808001800103616263",
        );
        golden(Frame::Absent { id: 1 }, b"", "02000501");
        golden(Frame::Busy { id: 1 }, b"", "02000601");
        golden(Frame::Stopped { id: 1 }, b"", "02000701");
        golden(Frame::FilterWant { segment: 15 }, b"", "0200080f");
        golden(
            Frame::FilterSegment { segment: 15, generation: 9, checksum: 1, len: 2 },
            &[0xff, 0],
            "0500090f090102ff00",
        );
        golden(Frame::Ping { nonce: 129 }, b"", "03000a8101");
        golden(Frame::Pong { nonce: 129 }, b"", "03000b8101");
        let begun = Tokens::from_slice(&[TokenId(2), TokenId(105)]).unwrap();
        golden(
            Frame::DraftWant { id: 7, parent: key, begun },
            b"",
            "15000d0707070707070707070707070707070707020269",
        );
        let tokens = DraftTokens::from_slice(&[TokenId(262_143), TokenId(3)]).unwrap();
        golden(Frame::Draft { id: 7, tokens }, b"", "07000e0702ffff0f03");
        golden(Frame::Draft { id: 7, tokens: DraftTokens::new() }, b"", "03000e0700");
        let recent = RecentTokens::from_slice(&[2, 262_143, 105].map(TokenId)).unwrap();
        golden(Frame::HabitWant { id: 7, recent }, b"", "08000f070302ffff0f69");
    }

    #[test]
    fn every_reason_to_part_keeps_its_number() {
        use ByeReason::*;
        let reasons = [
            Leaving,
            Idle,
            Full,
            Version,
            Swarm,
            Epoch,
            Fingerprint,
            SameNode,
            Stalled,
            Protocol,
            Twin,
        ];
        for (number, reason) in reasons.into_iter().enumerate() {
            golden(Frame::Bye { reason }, b"", &format!("02000c{number:02x}"));
        }
    }

    #[test]
    fn the_longest_headers_fit_the_limit() {
        let tokens = Tokens::from_slice(&[TokenId(u32::MAX); BLOCK_TOKENS]).unwrap();
        let (parent, plane) = (BlockKey([255; 16]), Plane::Sliding);
        let found =
            Frame::Found { id: u32::MAX, plane, parent, tokens, bytes: u32::MAX, digest: u64::MAX };
        let hello = Hello {
            node: NodeId(u64::MAX),
            boot: BootId(u64::MAX),
            epoch: Epoch(u64::MAX),
            fingerprint: Fingerprint([255; 16]),
            uptime_s: u32::MAX,
        };
        let mut greeting = Vec::new();
        encode(&Frame::Hello(hello), &[], &mut greeting);
        assert!(greeting.len() <= MAX_GREETING_BYTES);
        for frame in [found, Frame::Hello(hello)] {
            let mut bytes = Vec::new();
            encode(&frame, &[], &mut bytes);
            assert!(bytes.len() <= 2 + MAX_FRAME_HEADER_BYTES / 2);
        }
        let tokens = DraftTokens::from_slice(&[TokenId(u32::MAX); MAX_PATH_TOKENS]).unwrap();
        let mut bytes = Vec::new();
        encode(&Frame::Draft { id: u32::MAX, tokens }, &[], &mut bytes);
        assert!(bytes.len() <= 2 + MAX_FRAME_HEADER_BYTES);
    }
}
