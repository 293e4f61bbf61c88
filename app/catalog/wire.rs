//! The catalog's datagrams: what they say, and how they are closed and opened. docs/wire.md draws the bytes.
//!
//! Each datagram is an envelope of fixed layout and one postcard message, together at most `MAX_DATAGRAM_BYTES`. Every
//! message carries the filter's generation and the digest of every segment after the change that it tells of, so whoever
//! hears any datagram knows which of its segments are right. [`seal`] and [`open`] are the only places where datagrams are
//! made and believed: a trailer over everything before it shows that the sender has the swarm's key.

use serde::{Deserialize, Serialize};

use super::CatalogFault;
use super::filter::{Geometry, SEGMENT_BITS};
use super::key::{DatagramKey, TRAILER_BYTES};
use crate::id::{BootId, Epoch, EpochState, Fingerprint, NodeId, SwarmTag};
use crate::limits::{FILTER_SEGMENT_BYTES, MAX_DATAGRAM_BYTES, MAX_FILTER_SEGMENTS};

/// The first bytes of every datagram.
pub const MAGIC: [u8; 4] = *b"PTLK";

/// The version of the datagrams, as the fifth byte.
pub const VERSION: u8 = 2;

/// Bytes of the envelope.
pub const ENVELOPE_BYTES: usize = 53;

/// Bytes of changes that one delta carries at most: with more, the segment itself is the smaller message.
pub const MAX_CHANGE_BYTES: usize = FILTER_SEGMENT_BYTES;

/// Kind, generation, index, and the lengths of two byte strings, each at its longest.
const LONGEST_FIELDS: usize = 1 + 10 + 1 + 2 + 2;
const _: () = assert!(
    ENVELOPE_BYTES + LONGEST_FIELDS + MAX_FILTER_SEGMENTS * 8 + FILTER_SEGMENT_BYTES + TRAILER_BYTES <= MAX_DATAGRAM_BYTES,
    "the longest message fits its datagram"
);

/// Bytes of an announcement of a filter of `segments` segments, with every number at its longest.
pub const fn longest_announcement(segments: usize) -> usize {
    let fields = 1 + 16 + 3 + 1 + 5 + 1 + 10 + 2;
    ENVELOPE_BYTES + fields + segments * 8 + TRAILER_BYTES
}

/// One datagram, ready to be sent.
pub type Datagram = heapless::Vec<u8, MAX_DATAGRAM_BYTES>;

/// What every datagram says of its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The swarm that the datagram is meant for.
    pub swarm: SwarmTag,
    /// The sender.
    pub node: NodeId,
    /// The sender's present start.
    pub boot: BootId,
    /// Grows by one with each datagram of one boot.
    pub counter: u64,
    /// The resets that the sender has obeyed and saved; in a [`Message::Reset`], those that it orders.
    pub epochs: EpochState,
}

/// What a datagram says. The variants' numbers are wire values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message<'a> {
    /// 0: I am here.
    #[serde(borrow)]
    Announce(Announce<'a>),
    /// 1: these bits changed.
    Delta(Delta<'a>),
    /// 2: this segment changed, more than a delta should tell.
    Segment(Segment<'a>),
    /// 3: the swarm is at the header's epoch from now on; whoever is there already announces itself. Says nothing of a filter, so
    /// that a computer that is no node can send it.
    Reset,
}

/// Who a node is and where its filter stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Announce<'a> {
    /// What must be equal for its blocks to be of use.
    pub fingerprint: Fingerprint,
    /// Where blocks and segments are served, at the datagram's source address.
    pub tcp_port: u16,
    /// How busy the node is, in percent.
    pub load: u8,
    /// Milliseconds until the next announcement, at most. Zero: goodbye.
    pub interval_ms: u32,
    /// Bits an entry in the filter.
    pub probes: u8,
    /// Counts the filter's changes since this boot.
    pub generation: u64,
    /// One for each segment.
    #[serde(borrow)]
    pub digests: Digests<'a>,
}

/// Bits of the filter that changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delta<'a> {
    /// The generation that the change leads to; it came from the one before.
    pub generation: u64,
    /// Of every segment, after the change.
    #[serde(borrow)]
    pub digests: Digests<'a>,
    /// The bits.
    #[serde(borrow)]
    pub changes: Changes<'a>,
}

/// A whole segment of the filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Segment<'a> {
    /// The generation that the change leads to; it came from the one before.
    pub generation: u64,
    /// Of every segment, after the change.
    #[serde(borrow)]
    pub digests: Digests<'a>,
    /// Which segment.
    pub index: u8,
    /// Its 1,024 bytes.
    pub bytes: &'a [u8],
}

/// The digests of a filter's segments: 8 bytes each, little endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Digests<'a>(pub &'a [u8]);

impl Digests<'_> {
    /// How many segments the filter has.
    pub fn segments(&self) -> usize {
        self.0.len() / 8
    }

    /// The digests, from segment 0 on.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

/// Changed bits, packed: for each, in ascending order of places, the varint of `2 × (places skipped since the last one) + value`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Changes<'a>(pub &'a [u8]);

impl Changes<'_> {
    /// Each changed bit: its place in the filter, and its new value. Ends early where the bytes make no sense.
    pub fn iter(&self) -> impl Iterator<Item = (usize, bool)> + '_ {
        let (mut rest, mut next) = (self.0, 0usize);
        core::iter::from_fn(move || {
            let (code, after) = postcard::take_from_bytes::<u32>(rest).ok()?;
            rest = after;
            let place = next + (code >> 1) as usize;
            next = place + 1;
            Some((place, code & 1 == 1))
        })
    }

    /// Whether the bytes are whole, and every place lies within a filter of `segments` segments.
    fn well_formed(&self, segments: usize) -> bool {
        let (mut rest, mut next) = (self.0, 0usize);
        while !rest.is_empty() {
            let Ok((code, after)) = postcard::take_from_bytes::<u32>(rest) else { return false };
            rest = after;
            next += (code >> 1) as usize + 1;
            if next > segments * SEGMENT_BITS {
                return false;
            }
        }
        true
    }
}

/// Packs changed bits for [`Changes`].
#[derive(Clone, Default, Debug)]
pub struct ChangeList {
    bytes: heapless::Vec<u8, MAX_CHANGE_BYTES>,
    next: usize,
}

impl ChangeList {
    /// Adds a changed bit whose place lies behind all that came before. False when the list is full.
    pub fn push(&mut self, place: usize, value: bool) -> bool {
        debug_assert!(place >= self.next, "places ascend");
        let code = 2 * (place - self.next) as u32 + u32::from(value);
        let mut varint = [0; 5];
        let varint = postcard::to_slice(&code, &mut varint).expect("a u32 takes at most 5 bytes");
        let room = self.bytes.extend_from_slice(varint).is_ok();
        self.next = if room { place + 1 } else { self.next };
        room
    }

    /// The packed bytes.
    pub fn changes(&self) -> Changes<'_> {
        Changes(&self.bytes)
    }
}

/// The envelope as postcard lays it out: every field at a fixed place, integers little endian.
#[derive(Serialize, Deserialize)]
struct Envelope {
    magic: [u8; 4],
    version: u8,
    swarm: [u8; 8],
    node: [u8; 8],
    boot: [u8; 8],
    counter: [u8; 8],
    epoch: [u8; 8],
    store_epoch: [u8; 8],
}

/// Closes a datagram.
///
/// # Panics
/// When a byte string of the message is longer than the limits of this module allow: the caller's own mistake.
pub fn seal(header: &Header, message: &Message<'_>, key: &DatagramKey) -> Datagram {
    let envelope = Envelope {
        magic: MAGIC,
        version: VERSION,
        swarm: header.swarm.0.to_le_bytes(),
        node: header.node.0.to_le_bytes(),
        boot: header.boot.0.to_le_bytes(),
        counter: header.counter.to_le_bytes(),
        epoch: header.epochs.epoch.0.to_le_bytes(),
        store_epoch: header.epochs.store_epoch.0.to_le_bytes(),
    };
    let mut datagram = Datagram::new();
    datagram.resize_default(MAX_DATAGRAM_BYTES).expect("a datagram holds MAX_DATAGRAM_BYTES");
    let used = postcard::to_slice(&(envelope, message), &mut datagram).expect("every message fits its datagram").len();
    datagram.truncate(used);
    let trailer = key.trailer(&datagram);
    datagram.extend_from_slice(&trailer).expect("every message leaves room for the trailer");
    datagram
}

/// Opens a datagram meant for `swarm` and closed with `key`. What it returns is within all limits that can be checked without
/// knowing the peer.
pub fn open<'a>(datagram: &'a [u8], swarm: SwarmTag, key: &DatagramKey) -> Result<(Header, Message<'a>), CatalogFault> {
    if datagram.len() > MAX_DATAGRAM_BYTES {
        return Err(CatalogFault::TooLong(datagram.len()));
    }
    let version = *datagram.strip_prefix(&MAGIC).ok_or(CatalogFault::Foreign)?.first().ok_or(CatalogFault::Malformed)?;
    if version != VERSION {
        return Err(CatalogFault::Version(version));
    }
    let (envelope, body) = postcard::take_from_bytes::<Envelope>(datagram).map_err(|_| CatalogFault::Malformed)?;
    let header = Header {
        swarm: SwarmTag(u64::from_le_bytes(envelope.swarm)),
        node: NodeId(u64::from_le_bytes(envelope.node)),
        boot: BootId(u64::from_le_bytes(envelope.boot)),
        counter: u64::from_le_bytes(envelope.counter),
        epochs: EpochState {
            epoch: Epoch(u64::from_le_bytes(envelope.epoch)),
            store_epoch: Epoch(u64::from_le_bytes(envelope.store_epoch)),
        },
    };
    if header.swarm != swarm {
        return Err(CatalogFault::OtherSwarm);
    }
    let body = body.split_last_chunk().filter(|(_, trailer)| key.fits(&datagram[..datagram.len() - TRAILER_BYTES], trailer));
    let (body, _) = body.ok_or(CatalogFault::Forged)?;
    if header.epochs.store_epoch > header.epochs.epoch {
        return Err(CatalogFault::Malformed);
    }
    let (message, rest) = postcard::take_from_bytes::<Message<'_>>(body).map_err(|_| CatalogFault::Malformed)?;
    if !rest.is_empty() {
        return Err(CatalogFault::Malformed);
    }
    check(&message)?;
    Ok((header, message))
}

fn check(message: &Message<'_>) -> Result<(), CatalogFault> {
    let (digests, probes) = match message {
        Message::Announce(announce) => (announce.digests, announce.probes),
        Message::Delta(Delta { digests, .. }) | Message::Segment(Segment { digests, .. }) => (*digests, 1),
        Message::Reset => return Ok(()),
    };
    let whole = digests.0.len() % 8 == 0;
    if !whole || Geometry::checked(digests.segments(), probes).is_none() {
        return Err(CatalogFault::Geometry);
    }
    match message {
        Message::Announce(announce) if announce.tcp_port == 0 => Err(CatalogFault::Port),
        Message::Delta(delta) if delta.changes.0.len() > MAX_CHANGE_BYTES => Err(CatalogFault::Malformed),
        Message::Delta(delta) if !delta.changes.well_formed(digests.segments()) => Err(CatalogFault::Malformed),
        Message::Segment(segment) if segment.bytes.len() != FILTER_SEGMENT_BYTES => Err(CatalogFault::Malformed),
        Message::Segment(segment) if usize::from(segment.index) >= digests.segments() => Err(CatalogFault::Geometry),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
