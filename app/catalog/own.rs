//! This node's own filter, and how far it has been told: the difference between the two becomes deltas and segments.

use super::filter::{CountingFilter, Geometry, SEGMENT_BITS, bit, digest, span};
use super::wire::{ChangeList, Digests};
use crate::limits::MAX_FILTER_SEGMENTS;

/// The next change to tell, already counted as told.
pub(super) enum Step {
    /// These bits.
    Delta(ChangeList),
    /// This segment as a whole, because that is smaller.
    Segment(usize),
}

/// The filter as it is, and as peers were told.
pub(super) struct Own {
    /// As it is.
    pub(super) filter: CountingFilter,
    told: Box<[u8]>,
    /// Of the segments as told, 8 bytes each.
    digests: [u8; MAX_FILTER_SEGMENTS * 8],
    generation: u64,
}

impl Own {
    pub(super) fn new(geometry: Geometry) -> Own {
        let mut own = Own {
            filter: CountingFilter::new(geometry),
            told: vec![0; geometry.bytes()].into_boxed_slice(),
            digests: [0; MAX_FILTER_SEGMENTS * 8],
            generation: 0,
        };
        (0..geometry.segments()).for_each(|index| own.tell(index));
        own
    }

    /// Steps told since the start.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Of the filter as told.
    pub(super) fn digests(&self) -> Digests<'_> {
        Digests(&self.digests[..self.filter.geometry().segments() * 8])
    }

    /// A segment as told.
    pub(super) fn segment(&self, index: usize) -> Option<&[u8]> {
        (index < self.filter.geometry().segments()).then(|| &self.told[span(index)])
    }

    /// The next change to tell, if any: as many changed segments as one delta holds, or one that is smaller as a whole.
    pub(super) fn step(&mut self) -> Option<Step> {
        let mut list = ChangeList::default();
        let mut whole = None;
        let mut taken = heapless::Vec::<usize, MAX_FILTER_SEGMENTS>::new();
        for index in (0..self.filter.geometry().segments()).filter(|&index| self.differs(index)) {
            let mut longer = list.clone();
            if self.pack(index, &mut longer) {
                list = longer;
                taken.push(index).expect("no more than all segments");
            } else if taken.is_empty() {
                whole = Some(index);
                break;
            } else {
                break;
            }
        }
        if taken.is_empty() && whole.is_none() {
            return None;
        }
        self.generation += 1;
        taken.into_iter().chain(whole).for_each(|index| self.tell(index));
        Some(whole.map_or(Step::Delta(list), Step::Segment))
    }

    /// Whether peers were told of everything.
    pub(super) fn is_told(&self) -> bool {
        self.filter.bits() == &*self.told
    }

    fn differs(&self, index: usize) -> bool {
        self.filter.bits()[span(index)] != self.told[span(index)]
    }

    /// Adds the changed bits of a segment to a list. False when they do not fit.
    fn pack(&self, index: usize, list: &mut ChangeList) -> bool {
        let places = index * SEGMENT_BITS..(index + 1) * SEGMENT_BITS;
        let bits = self.filter.bits();
        places.filter(|&place| bit(bits, place) != bit(&self.told, place)).all(|place| list.push(place, bit(bits, place)))
    }

    fn tell(&mut self, index: usize) {
        self.told[span(index)].copy_from_slice(&self.filter.bits()[span(index)]);
        let digest = digest(&self.told[span(index)]);
        self.digests[index * 8..index * 8 + 8].copy_from_slice(&digest.to_le_bytes());
    }
}
