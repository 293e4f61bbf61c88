//! One want of the fetching side: what it asks for, how far it has come, and the checks on what the
//! peer sends for it.

use xxhash_rust::xxh3::xxh3_64;

use super::{Fault, Tokens};
use crate::id::{BlockKey, Millis};
use crate::kv::{Page, Plane};
use crate::limits::MAX_CHUNK_BYTES;

/// What the answer to a want must match.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    /// The block.
    pub key: BlockKey,
    /// The block before it; for the first block, the root of the chain.
    pub parent: BlockKey,
    /// The block's tokens.
    pub tokens: Tokens,
    /// Which of its planes.
    pub plane: Plane,
    /// Bytes of that plane, as the model's shape gives them.
    pub bytes: usize,
}

/// A want in the fetching side's table.
pub(super) struct Wanted {
    pub(super) id: u32,
    pub(super) expected: Expected,
    pub(super) phase: Phase,
}

/// How far a want has come.
pub(super) enum Phase {
    /// Not sent yet.
    Queued(Page),
    /// Sent, not answered yet.
    Asked(Page),
    /// `Found` and `offset` bytes have arrived.
    Receiving { page: Page, digest: u64, offset: usize },
    /// Cancelled after it was sent: waits until `deadline` for the peer's final frame. `offset` is
    /// `None` before `Found`.
    Draining { cancel_sent: bool, offset: Option<usize>, deadline: Millis },
}

impl Wanted {
    /// The deadline for the peer's final frame, once cancelled.
    pub(super) fn deadline(&self) -> Option<Millis> {
        match self.phase {
            Phase::Draining { deadline, .. } => Some(deadline),
            _ => None,
        }
    }

    /// Checks that the peer offers what was asked for.
    pub(super) fn found(
        &mut self,
        plane: Plane,
        parent: &BlockKey,
        tokens: &Tokens,
        bytes: u32,
        digest: u64,
    ) -> Result<(), Fault> {
        let Expected {
            parent: our_parent, tokens: our_tokens, plane: our_plane, bytes: ours, ..
        } = &self.expected;
        if parent != our_parent {
            return Err(Fault::Parent(self.id));
        }
        if tokens != our_tokens {
            return Err(Fault::Tokens(self.id));
        }
        if plane != *our_plane {
            return Err(Fault::Plane(self.id));
        }
        if bytes as usize != *ours {
            return Err(Fault::Length { ours: *ours, theirs: bytes });
        }
        match &mut self.phase {
            Phase::Asked(page) => {
                self.phase = Phase::Receiving { page: page.clone(), digest, offset: 0 }
            }
            Phase::Draining { offset: offset @ None, .. } => *offset = Some(0),
            _ => return Err(Fault::Unexpected("Found")),
        }
        Ok(())
    }

    /// Checks that the chunk is the next one and undamaged, then writes it. False when the want is
    /// cancelled and nothing is written.
    pub(super) fn chunk(
        &mut self,
        offset: u32,
        checksum: u64,
        len: u16,
        payload: &[u8],
    ) -> Result<bool, Fault> {
        let bytes = self.expected.bytes;
        let next = match &mut self.phase {
            Phase::Receiving { offset, .. } | Phase::Draining { offset: Some(offset), .. } => {
                offset
            }
            _ => return Err(Fault::Unexpected("Chunk")),
        };
        let start = *next;
        let end = bytes.min(start + MAX_CHUNK_BYTES);
        if offset as usize != start || payload.len() != end - start || start == bytes {
            return Err(Fault::ChunkOrder { offset, len, expected: start, bytes });
        }
        *next = end;
        let Phase::Receiving { page, .. } = &self.phase else { return Ok(false) };
        if xxh3_64(payload) != checksum {
            return Err(Fault::Checksum { id: self.id, offset });
        }
        page.write()[start..end].copy_from_slice(payload);
        Ok(true)
    }
}
