//! The catalog's datagrams: their content, and how they are sealed and opened. docs/inside/wire.md
//! draws the bytes.
//!
//! A datagram is a head in clear followed by the encrypted rest: the sender's epochs and one
//! postcard message. It has at most `MAX_DATAGRAM_BYTES`. Every message about a filter carries the
//! filter's generation and the digest of every segment after the change, so any one of them tells a
//! receiver which of its segments are right. [`seal`] and [`open`] are the only places where
//! datagrams are made and believed. Each is sealed on its own, so losing one costs no other.

use serde::{Deserialize, Serialize};

use super::CatalogFault;
use super::filter::{Geometry, SEGMENT_BITS};
use super::key::{self, NONCE_BYTES, TAG_BYTES};
use crate::id::{BlockKey, BootId, Epoch, EpochState, Fingerprint, NodeId, NodeName, SwarmTag};
use crate::keyring::{Keyring, SwarmSecret};
use crate::kv::Plane;
use crate::limits::{
    FILTER_SEGMENT_BYTES, MAX_DATAGRAM_BYTES, MAX_FILTER_SEGMENTS, MAX_NODE_NAME_BYTES,
};

/// The first bytes of every datagram.
pub(crate) const MAGIC: [u8; 4] = *b"PTLK";

/// The version of the datagrams, as the fifth byte.
pub(crate) const VERSION: u8 = 3;

/// Bytes of the head, which is not encrypted.
pub(crate) const HEAD_BYTES: usize = 37;

/// Bytes of the epochs, which precede the message and are encrypted with it.
const EPOCH_BYTES: usize = 16;

/// Most bytes of encrypted text in one datagram, its epochs included.
pub const MAX_TEXT_BYTES: usize = MAX_DATAGRAM_BYTES - HEAD_BYTES - TAG_BYTES;

/// Where the nonce lies in the head: node, boot and counter.
const NONCE: core::ops::Range<usize> = HEAD_BYTES - NONCE_BYTES..HEAD_BYTES;

/// Bytes of the shortest datagram, whose message is only its kind.
const SHORTEST: usize = HEAD_BYTES + EPOCH_BYTES + 1 + TAG_BYTES;

/// Most bytes of changes in one delta. Beyond that, the segment itself is the smaller message.
pub(crate) const MAX_CHANGE_BYTES: usize = FILTER_SEGMENT_BYTES;

/// Kind, generation, index, and the lengths of two byte strings, each at its longest.
const LONGEST_FIELDS: usize = 1 + 10 + 1 + 2 + 2;
const _: () = assert!(
    HEAD_BYTES
        + EPOCH_BYTES
        + LONGEST_FIELDS
        + MAX_FILTER_SEGMENTS * 8
        + FILTER_SEGMENT_BYTES
        + TAG_BYTES
        <= MAX_DATAGRAM_BYTES,
    "the longest message fits its datagram"
);
const _: () = assert!(MAX_NODE_NAME_BYTES < 128, "a name's length takes one byte");

/// Bytes of an announcement of a filter of `segments` segments by a node whose name has `name`
/// bytes, with every number at its longest.
pub(crate) const fn longest_announcement(segments: usize, name: usize) -> usize {
    let fields = 1 + 16 + 3 + 1 + 5 + 1 + 10 + 2 + 1;
    HEAD_BYTES + EPOCH_BYTES + fields + segments * 8 + name + TAG_BYTES
}

/// One datagram, ready to be sent.
pub type Datagram = heapless::Vec<u8, MAX_DATAGRAM_BYTES>;

/// What every datagram says about its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The swarm that the datagram is meant for.
    pub swarm: SwarmTag,
    /// The sender.
    pub node: NodeId,
    /// The sender's current boot.
    pub boot: BootId,
    /// Grows by one with each datagram of one boot.
    pub counter: u64,
    /// The resets that the sender has obeyed and saved; in a [`Message::Reset`], those that it
    /// orders.
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
    /// 2: this segment changed, by more than a delta should carry.
    Segment(Segment<'a>),
    /// 3: the swarm is at the header's epoch from now on; nodes that are there already announce
    /// themselves. Carries no filter, so a computer that is not a node can send it.
    Reset,
    /// 4: an audit found wrong bytes. Carries no filter.
    Warning(Warning),
}

/// What a node's audit found, for others to check. It proves nothing: every node that hears it runs
/// its own audit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Warning {
    /// The node that served the bytes.
    pub accused: NodeId,
    /// Its boot at that time, as far as the sender knows.
    pub boot: BootId,
    /// The block's key.
    pub key: BlockKey,
    /// Which of its planes.
    pub plane: Plane,
    /// XXH3-64 of the plane's bytes as they were served.
    pub served: u64,
    /// XXH3-64 of the bytes that the sender computes.
    pub computed: u64,
}

/// Who a node is, and the state of its filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Announce<'a> {
    /// Its blocks can be used only by nodes with the same fingerprint.
    pub(crate) fingerprint: Fingerprint,
    /// Port that serves blocks and segments, at the datagram's source address.
    pub(crate) tcp_port: u16,
    /// How busy the node is, in percent.
    pub(crate) load: u8,
    /// Milliseconds until the next announcement, at most. Zero: goodbye.
    pub(crate) interval_ms: u32,
    /// Bits per entry in the filter.
    pub(crate) probes: u8,
    /// Counts the filter's changes since this boot.
    pub(crate) generation: u64,
    /// The digests of all segments.
    #[serde(borrow)]
    pub(crate) digests: Digests<'a>,
    /// The node's name for people; empty if it has none.
    pub(crate) name: NodeName,
}

/// Bits of the filter that changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delta<'a> {
    /// The generation after the change, one more than before it.
    pub(crate) generation: u64,
    /// The digests of all segments, after the change.
    #[serde(borrow)]
    pub(crate) digests: Digests<'a>,
    /// The bits.
    #[serde(borrow)]
    pub(crate) changes: Changes<'a>,
}

/// A whole segment of the filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Segment<'a> {
    /// The generation after the change, one more than before it.
    pub(crate) generation: u64,
    /// The digests of all segments, after the change.
    #[serde(borrow)]
    pub(crate) digests: Digests<'a>,
    /// Which segment.
    pub(crate) index: u8,
    /// Its 1,024 bytes.
    pub(crate) bytes: &'a [u8],
}

/// The digests of a filter's segments: 8 bytes each, little endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Digests<'a>(pub &'a [u8]);

impl Digests<'_> {
    /// How many segments the filter has.
    pub(crate) fn segments(&self) -> usize {
        self.0.len() / 8
    }

    /// The digests, from segment 0 on.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

/// Changed bits, packed: for each, in ascending order of places, the varint of
/// `2 × (places skipped since the last one) + value`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Changes<'a>(pub &'a [u8]);

impl Changes<'_> {
    /// Each changed bit: its place in the filter, and its new value. Ends early at bytes that
    /// cannot be decoded.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, bool)> + '_ {
        let (mut rest, mut next) = (self.0, 0usize);
        core::iter::from_fn(move || {
            let (code, after) = postcard::take_from_bytes::<u32>(rest).ok()?;
            rest = after;
            let place = next + (code >> 1) as usize;
            next = place + 1;
            Some((place, code & 1 == 1))
        })
    }

    /// Whether all bytes decode, and every place lies within a filter of `segments` segments.
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
pub(crate) struct ChangeList {
    bytes: heapless::Vec<u8, MAX_CHANGE_BYTES>,
    next: usize,
}

impl ChangeList {
    /// Adds a changed bit; its place must be behind all earlier ones. Returns false when the list
    /// is full.
    pub(crate) fn push(&mut self, place: usize, value: bool) -> bool {
        debug_assert!(place >= self.next, "places ascend");
        let code = 2 * (place - self.next) as u32 + u32::from(value);
        let mut varint = [0; 5];
        let varint = postcard::to_slice(&code, &mut varint).expect("a u32 takes at most 5 bytes");
        let room = self.bytes.extend_from_slice(varint).is_ok();
        self.next = if room { place + 1 } else { self.next };
        room
    }

    /// The packed bytes.
    pub(crate) fn changes(&self) -> Changes<'_> {
        Changes(&self.bytes)
    }
}

/// The head as postcard lays it out: every field at a fixed place, integers little endian.
#[derive(Serialize, Deserialize)]
struct Head {
    magic: [u8; 4],
    version: u8,
    swarm: [u8; 8],
    node: [u8; 8],
    boot: [u8; 8],
    counter: [u8; 8],
}

/// The epochs, laid out the same way.
#[derive(Serialize, Deserialize)]
struct Epochs {
    epoch: [u8; 8],
    store_epoch: [u8; 8],
}

/// Seals a datagram: encrypts all but its head, and appends the tag.
///
/// # Panics
/// When a byte string of the message exceeds the limits of this module: the caller's mistake.
pub fn seal(header: &Header, message: &Message<'_>, secret: &SwarmSecret) -> Datagram {
    let EpochState { epoch, store_epoch } = header.epochs;
    let epochs = Epochs { epoch: epoch.0.to_le_bytes(), store_epoch: store_epoch.0.to_le_bytes() };
    let mut text = [0; MAX_TEXT_BYTES];
    let text =
        postcard::to_slice(&(epochs, message), &mut text).expect("every message fits its datagram");
    seal_text(header, text, secret)
}

/// Seals arbitrary text in place of epochs and message: what a peer with the key could send.
///
/// # Panics
/// When the text is longer than [`MAX_TEXT_BYTES`]: the caller's mistake.
pub fn seal_text(header: &Header, text: &[u8], secret: &SwarmSecret) -> Datagram {
    let head = Head {
        magic: MAGIC,
        version: VERSION,
        swarm: header.swarm.0.to_le_bytes(),
        node: header.node.0.to_le_bytes(),
        boot: header.boot.0.to_le_bytes(),
        counter: header.counter.to_le_bytes(),
    };
    let mut datagram = Datagram::new();
    datagram.resize_default(HEAD_BYTES).expect("a datagram has room for its head");
    postcard::to_slice(&head, &mut datagram).expect("a head is as long as it is");
    datagram.extend_from_slice(text).expect("the text fits a datagram");
    let (head, text) = datagram.split_at_mut(HEAD_BYTES);
    let tag = key::lock(secret, &nonce(head), head, text);
    datagram.extend_from_slice(&tag).expect("every text leaves room for the tag");
    datagram
}

/// The nonce that a head contains.
fn nonce(head: &[u8]) -> [u8; NONCE_BYTES] {
    *head[NONCE].first_chunk().expect("a head is as long as it is")
}

/// Reads the swarm that a datagram names: cheap, and needs no key.
///
/// # Errors
/// When it is too long or too short, of another program, or of another version.
pub(crate) fn glance(datagram: &[u8]) -> Result<SwarmTag, CatalogFault> {
    if datagram.len() > MAX_DATAGRAM_BYTES {
        return Err(CatalogFault::TooLong(datagram.len()));
    }
    let version = *datagram
        .strip_prefix(&MAGIC)
        .ok_or(CatalogFault::Foreign)?
        .first()
        .ok_or(CatalogFault::Malformed)?;
    if version != VERSION {
        return Err(CatalogFault::Version(version));
    }
    if datagram.len() < SHORTEST {
        return Err(CatalogFault::Malformed);
    }
    let tag = datagram[MAGIC.len() + 1..].first_chunk().expect("a head has a tag");
    Ok(SwarmTag(u64::from_le_bytes(*tag)))
}

/// Opens a datagram of one of the swarms in `keys`, decrypting into `text`. The result is within
/// all limits that can be checked without knowing the peer.
///
/// # Errors
/// When it is of another swarm, forged, damaged or beyond the limits.
pub(crate) fn open<'t>(
    datagram: &[u8],
    keys: &Keyring,
    text: &'t mut Datagram,
) -> Result<(Header, Message<'t>), CatalogFault> {
    let secret = keys.find(glance(datagram)?).ok_or(CatalogFault::OtherSwarm)?;
    let (head, locked) = datagram.split_at(HEAD_BYTES);
    let (locked, tag) = locked.split_last_chunk().ok_or(CatalogFault::Malformed)?;
    text.clear();
    text.extend_from_slice(locked).map_err(|_| CatalogFault::Malformed)?;
    if !key::unlock(secret, &nonce(head), head, text, tag) {
        return Err(CatalogFault::Forged);
    }
    let head = postcard::from_bytes::<Head>(head).map_err(|_| CatalogFault::Malformed)?;
    let (epochs, body) =
        postcard::take_from_bytes::<Epochs>(text).map_err(|_| CatalogFault::Malformed)?;
    let header = Header {
        swarm: SwarmTag(u64::from_le_bytes(head.swarm)),
        node: NodeId(u64::from_le_bytes(head.node)),
        boot: BootId(u64::from_le_bytes(head.boot)),
        counter: u64::from_le_bytes(head.counter),
        epochs: EpochState {
            epoch: Epoch(u64::from_le_bytes(epochs.epoch)),
            store_epoch: Epoch(u64::from_le_bytes(epochs.store_epoch)),
        },
    };
    if header.epochs.store_epoch > header.epochs.epoch {
        return Err(CatalogFault::Malformed);
    }
    let (message, rest) =
        postcard::take_from_bytes::<Message<'_>>(body).map_err(|_| CatalogFault::Malformed)?;
    if !rest.is_empty() {
        return Err(CatalogFault::Malformed);
    }
    check(&message)?;
    Ok((header, message))
}

fn check(message: &Message<'_>) -> Result<(), CatalogFault> {
    let (digests, probes) = match message {
        Message::Announce(announce) => (announce.digests, announce.probes),
        Message::Delta(Delta { digests, .. }) | Message::Segment(Segment { digests, .. }) => {
            (*digests, 1)
        }
        Message::Reset | Message::Warning(_) => return Ok(()),
    };
    let whole = digests.0.len() % 8 == 0;
    if !whole || Geometry::checked(digests.segments(), probes).is_none() {
        return Err(CatalogFault::Geometry);
    }
    match message {
        Message::Announce(announce) if announce.tcp_port == 0 => Err(CatalogFault::Port),
        Message::Delta(delta) if delta.changes.0.len() > MAX_CHANGE_BYTES => {
            Err(CatalogFault::Malformed)
        }
        Message::Delta(delta) if !delta.changes.well_formed(digests.segments()) => {
            Err(CatalogFault::Malformed)
        }
        Message::Segment(segment) if segment.bytes.len() != FILTER_SEGMENT_BYTES => {
            Err(CatalogFault::Malformed)
        }
        Message::Segment(segment) if usize::from(segment.index) >= digests.segments() => {
            Err(CatalogFault::Geometry)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
