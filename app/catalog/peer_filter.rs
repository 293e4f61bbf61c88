//! A peer's filter as this node knows it: its bits, and for each segment whether they match what
//! the peer advertised.
//!
//! Updates may arrive by multicast or by TCP, in any order. A segment counts as right exactly when
//! its bytes have the digest of the newest generation heard. The bits of a wrong segment are kept
//! as the best guess until it is repaired.

use super::CatalogFault;
use super::filter::{Geometry, SEGMENT_BITS, contains, digest, set_bit, span};
use super::wire::Digests;
use crate::id::BlockKey;
use crate::kv::Plane;
use crate::limits::MAX_FILTER_SEGMENTS;

#[derive(Clone, Copy, Default)]
struct SegmentState {
    /// Digest of the bytes held here.
    have: u64,
    /// Digest of the peer's bytes at `as_of`.
    want: u64,
    /// The generation that `want` belongs to.
    as_of: u64,
}

/// The filter of one peer.
pub(super) struct PeerFilter {
    geometry: Geometry,
    bits: Box<[u8]>,
    segments: Box<[SegmentState]>,
}

impl PeerFilter {
    /// An empty filter of `geometry`, with all memory allocated now.
    pub(super) fn new(geometry: Geometry) -> PeerFilter {
        let bits = vec![0; geometry.bytes()].into_boxed_slice();
        let segments = vec![SegmentState::default(); geometry.segments()].into_boxed_slice();
        let mut filter = PeerFilter { geometry, bits, segments };
        filter.clear();
        filter
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Clears all bits, for a filter of the same geometry.
    pub(super) fn clear(&mut self) {
        self.bits.fill(0);
        let empty = digest(&self.bits[span(0)]);
        self.segments.fill(SegmentState { have: empty, want: empty, as_of: 0 });
    }

    pub(super) fn contains(&self, key: &BlockKey, plane: Plane) -> bool {
        contains(self.geometry, &self.bits, key, plane)
    }

    /// The filter's bytes as known here.
    #[cfg(test)]
    pub(super) fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// The segments that do not match what the peer advertised.
    pub(super) fn stale(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.geometry.segments())
            .filter(|&index| self.segments[index].have != self.segments[index].want)
    }

    /// Records the peer's digests as of `generation`. Segments already known at a later generation
    /// keep theirs.
    pub(super) fn promise(&mut self, generation: u64, digests: Digests<'_>) {
        for (segment, want) in self.segments.iter_mut().zip(digests.iter()) {
            if generation >= segment.as_of {
                (segment.want, segment.as_of) = (want, generation);
            }
        }
    }

    /// Applies the changes that led to `generation`, places in ascending order.
    pub(super) fn change(&mut self, generation: u64, changes: impl Iterator<Item = (usize, bool)>) {
        let mut touched = [false; MAX_FILTER_SEGMENTS];
        for (place, value) in
            changes.take_while(|(place, _)| *place < self.geometry.segments() * SEGMENT_BITS)
        {
            let index = place / SEGMENT_BITS;
            if generation > self.segments[index].as_of {
                set_bit(&mut self.bits, place, value);
                touched[index] = true;
            }
        }
        for index in (0..self.geometry.segments()).filter(|&index| touched[index]) {
            self.segments[index].have = digest(&self.bits[span(index)]);
        }
    }

    /// Takes a whole segment as of `generation`. `bytes` must have `FILTER_SEGMENT_BYTES` bytes,
    /// and `index` must be within the geometry.
    pub(super) fn replace(
        &mut self,
        generation: u64,
        index: usize,
        bytes: &[u8],
    ) -> Result<(), CatalogFault> {
        let segment = &mut self.segments[index];
        let have = digest(bytes);
        if generation < segment.as_of && have != segment.want {
            return Err(CatalogFault::Outdated);
        }
        if generation == segment.as_of && have != segment.want {
            return Err(CatalogFault::Digest);
        }
        if generation > segment.as_of {
            (segment.want, segment.as_of) = (have, generation);
        }
        segment.have = have;
        self.bits[span(index)].copy_from_slice(bytes);
        Ok(())
    }
}
