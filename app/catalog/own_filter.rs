//! This node's own filter, current and as last advertised: the difference becomes deltas
//! and segments.

use super::filter::{CountingFilter, Geometry, SEGMENT_BITS, bit, digest, span};
use super::wire::{ChangeList, Changes, Digests};
use crate::limits::MAX_FILTER_SEGMENTS;

/// The next change to send, already counted as advertised.
pub(super) enum Step {
    /// The bits of [`OwnFilter::changes`].
    Delta,
    /// This whole segment, because it is smaller than a delta.
    Segment(usize),
}

/// The current filter, and the filter as last advertised.
pub(super) struct OwnFilter {
    /// The current filter.
    pub(super) filter: CountingFilter,
    advertised: Box<[u8]>,
    /// Digests of the advertised segments, 8 bytes each.
    digests: [u8; MAX_FILTER_SEGMENTS * 8],
    generation: u64,
    /// The changes of the last step, if it was a delta.
    changes: ChangeList,
}

impl OwnFilter {
    pub(super) fn new(geometry: Geometry) -> OwnFilter {
        let mut own = OwnFilter {
            filter: CountingFilter::new(geometry),
            advertised: vec![0; geometry.bytes()].into_boxed_slice(),
            digests: [0; MAX_FILTER_SEGMENTS * 8],
            generation: 0,
            changes: ChangeList::default(),
        };
        (0..geometry.segments()).for_each(|index| own.advertise(index));
        own
    }

    /// Steps since the start.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Bits of the filter, and how many of them are set.
    pub(super) fn bits(&self) -> (usize, usize) {
        let bits = self.filter.bits();
        (bits.len() * 8, bits.iter().map(|byte| byte.count_ones() as usize).sum())
    }

    /// Digests of the advertised filter.
    pub(super) fn digests(&self) -> Digests<'_> {
        Digests(&self.digests[..self.filter.geometry().segments() * 8])
    }

    /// A segment as advertised.
    pub(super) fn segment(&self, index: usize) -> Option<&[u8]> {
        (index < self.filter.geometry().segments()).then(|| &self.advertised[span(index)])
    }

    /// The bits that the last step changed, if it was a delta.
    pub(super) fn changes(&self) -> Changes<'_> {
        self.changes.changes()
    }

    /// The next change to send, if any: as many changed segments as fit in one delta, or one
    /// segment that is smaller whole.
    pub(super) fn step(&mut self) -> Option<Step> {
        let segments = self.filter.geometry().segments();
        let first = (0..segments).find(|&index| self.differs(index))?;
        self.generation += 1;
        self.changes = ChangeList::default();
        for index in first..segments {
            if !self.differs(index) {
                continue;
            }
            let mut longer = self.changes.clone();
            if !self.pack(index, &mut longer) {
                if index != first {
                    break;
                }
                self.advertise(index);
                return Some(Step::Segment(index));
            }
            self.changes = longer;
            self.advertise(index);
        }
        Some(Step::Delta)
    }

    /// Counts everything as advertised: for an announcement to peers that do not know the
    /// filter yet.
    pub(super) fn advertise_all(&mut self) {
        if !self.is_advertised() {
            self.generation += 1;
            (0..self.filter.geometry().segments()).for_each(|index| self.advertise(index));
        }
    }

    /// Whether every change has been advertised.
    pub(super) fn is_advertised(&self) -> bool {
        self.filter.bits() == &*self.advertised
    }

    fn differs(&self, index: usize) -> bool {
        self.filter.bits()[span(index)] != self.advertised[span(index)]
    }

    /// Adds the changed bits of a segment to a list. Returns false when they do not fit.
    fn pack(&self, index: usize, list: &mut ChangeList) -> bool {
        let places = index * SEGMENT_BITS..(index + 1) * SEGMENT_BITS;
        let bits = self.filter.bits();
        places
            .filter(|&place| bit(bits, place) != bit(&self.advertised, place))
            .all(|place| list.push(place, bit(bits, place)))
    }

    fn advertise(&mut self, index: usize) {
        self.advertised[span(index)].copy_from_slice(&self.filter.bits()[span(index)]);
        let digest = digest(&self.advertised[span(index)]);
        self.digests[index * 8..index * 8 + 8].copy_from_slice(&digest.to_le_bytes());
    }
}
