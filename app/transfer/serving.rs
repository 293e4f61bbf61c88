//! What the serving side is working on: wants to be served, and copies of filter segments.

use heapless::Vec as Bounded;
use xxhash_rust::xxh3::xxh3_64;

use super::{Frame, Tokens, encode};
use crate::id::BlockKey;
use crate::kv::{Page, Plane};
use crate::limits::{FILTER_SEGMENT_BYTES, MAX_CHUNK_BYTES};

/// A want in the serving side's table.
pub(super) struct Serving {
    pub(super) id: u32,
    pub(super) key: BlockKey,
    pub(super) plane: Plane,
    pub(super) phase: Phase,
    /// The final frame for this want, if it is not a chunk and not yet sent.
    pub(super) reply: Option<Frame>,
    /// Over, but still pinned by the node.
    pub(super) unpin: bool,
}

/// How far a want has come.
pub(super) enum Phase {
    /// The node has not answered yet.
    Asked,
    /// As `Asked`, but the peer has cancelled.
    Withdrawn,
    Sending(Sending),
    Over,
}

/// A plane being sent.
pub(super) struct Sending {
    parent: BlockKey,
    tokens: Tokens,
    page: Page,
    bytes: usize,
    digest: u64,
    /// Bytes sent; `None` until `Found` is sent.
    offset: Option<usize>,
}

/// A copy of a filter segment to send.
pub(super) struct Segment {
    segment: u8,
    generation: u64,
    bytes: Bounded<u8, FILTER_SEGMENT_BYTES>,
}

impl Sending {
    /// The plane in the first `bytes` bytes of `page`; reads them for their digest.
    pub(super) fn new(parent: BlockKey, tokens: Tokens, page: Page, bytes: usize) -> Sending {
        let digest = xxh3_64(&page.read()[..bytes]);
        Sending { parent, tokens, page, bytes, digest, offset: None }
    }
}

impl Serving {
    /// Appends `Found` or the next chunk; false when there is nothing to send yet.
    pub(super) fn send(&mut self, out: &mut Vec<u8>) -> bool {
        let Phase::Sending(sending) = &mut self.phase else { return false };
        let id = self.id;
        let sent = match sending.offset {
            None => {
                let Sending { parent, digest, .. } = *sending;
                let (tokens, bytes) = (sending.tokens.clone(), sending.bytes as u32);
                encode(
                    &Frame::Found { id, plane: self.plane, parent, tokens, bytes, digest },
                    &[],
                    out,
                );
                0
            }
            Some(offset) => {
                let end = sending.bytes.min(offset + MAX_CHUNK_BYTES);
                let page = sending.page.read();
                let chunk = &page[offset..end];
                let (offset, len) = (offset as u32, chunk.len() as u16);
                encode(&Frame::Chunk { id, offset, checksum: xxh3_64(chunk), len }, chunk, out);
                end
            }
        };
        sending.offset = Some(sent);
        if sent == sending.bytes {
            self.phase = Phase::Over;
            self.unpin = true;
        }
        true
    }
}

impl Segment {
    /// Copies `bytes`.
    ///
    /// # Panics
    /// When there are more than `FILTER_SEGMENT_BYTES`: a bug in the caller.
    pub(super) fn new(segment: u8, generation: u64, bytes: &[u8]) -> Segment {
        let bytes = Bounded::from_slice(bytes)
            .expect("a filter segment is at most FILTER_SEGMENT_BYTES long");
        Segment { segment, generation, bytes }
    }

    /// Appends the frame to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (checksum, len) = (xxh3_64(&self.bytes), self.bytes.len() as u16);
        let Segment { segment, generation, .. } = *self;
        encode(&Frame::FilterSegment { segment, generation, checksum, len }, &self.bytes, out);
    }
}
