//! The Bloom filter: which bits stand for a block's plane, and the counting filter that a node
//! keeps of its own blocks.
//!
//! A filter is 1 to 16 segments of 1,024 bytes. All bits of a block lie in one segment, chosen by
//! its key, so one known segment is enough to answer for a block, and a new block touches only one
//! segment. The places of the bits are a wire format (docs/inside/wire.md): every build must
//! compute the same ones.

use xxhash_rust::xxh3::xxh3_64;

use crate::id::BlockKey;
use crate::kv::Plane;
use crate::limits::{
    FILTER_BITS_PER_ENTRY, FILTER_PROBES, FILTER_SEGMENT_BYTES, MAX_FILTER_PROBES,
    MAX_FILTER_SEGMENTS,
};

/// Bits of one segment.
pub(crate) const SEGMENT_BITS: usize = FILTER_SEGMENT_BYTES * 8;

/// The size of a filter and the number of bits that stand for one entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    segments: u8,
    probes: u8,
}

impl Geometry {
    /// The geometry for a node that may hold `planes` block planes. Beyond the capacity of the
    /// largest filter it still works, with more false positives.
    pub(crate) fn for_capacity(planes: usize) -> Geometry {
        let segments = planes.saturating_mul(FILTER_BITS_PER_ENTRY).div_ceil(SEGMENT_BITS);
        Geometry {
            segments: segments.clamp(1, MAX_FILTER_SEGMENTS) as u8,
            probes: FILTER_PROBES as u8,
        }
    }

    /// The geometry that a peer announced, if it is within the limits.
    pub(crate) fn checked(segments: usize, probes: u8) -> Option<Geometry> {
        let fits = (1..=MAX_FILTER_SEGMENTS).contains(&segments)
            && (1..=MAX_FILTER_PROBES).contains(&usize::from(probes));
        fits.then_some(Geometry { segments: segments as u8, probes })
    }

    /// Segments of the filter, 1 to 16.
    pub(crate) fn segments(self) -> usize {
        usize::from(self.segments)
    }

    /// Bits that stand for one entry, 1 to 16.
    pub(crate) fn probes(self) -> u8 {
        self.probes
    }

    /// Bytes of the whole filter.
    pub(crate) fn bytes(self) -> usize {
        self.segments() * FILTER_SEGMENT_BYTES
    }

    /// The segment that holds the bits of `key`, for both planes.
    pub(crate) fn segment_of(self, key: &BlockKey) -> usize {
        let (first, _) = halves(key);
        (((first >> 32) * u64::from(self.segments)) >> 32) as usize
    }

    /// The places of the bits that stand for `plane` of `key`, counted from the start of the
    /// filter. A place may occur twice.
    ///
    /// The key is already a keyed hash, so its bits are used as they are. The upper half of its
    /// first word picks the segment. Each plane uses half of the second word: 16 bits for the first
    /// probe and 16 for the step, which grows with each probe: enhanced double hashing (Dillinger
    /// and Manolios, FMCAD 2004).
    pub(crate) fn places(
        self,
        key: &BlockKey,
        plane: Plane,
    ) -> impl Iterator<Item = usize> + use<> {
        let (_, second) = halves(key);
        let word = (second >> (32 * plane as u32)) as u32;
        let base = self.segment_of(key) * SEGMENT_BITS;
        let (mut probe, mut step) = (word & 0xffff, word >> 16);
        (1..=u32::from(self.probes)).map(move |round| {
            let place = base + probe as usize % SEGMENT_BITS;
            probe = probe.wrapping_add(step);
            step = step.wrapping_add(round);
            place
        })
    }
}

/// The two little-endian words of a key.
fn halves(key: &BlockKey) -> (u64, u64) {
    let all = u128::from_le_bytes(key.0);
    (all as u64, (all >> 64) as u64)
}

/// Digest of one segment's bytes, by which two nodes compare segments: XXH3-64.
pub(crate) fn digest(segment: &[u8]) -> u64 {
    xxh3_64(segment)
}

/// The byte range of segment `index` within a filter's bytes.
pub(crate) fn span(index: usize) -> core::ops::Range<usize> {
    index * FILTER_SEGMENT_BYTES..(index + 1) * FILTER_SEGMENT_BYTES
}

/// The bit at `place`: bit `place % 8`, counted from the lowest, of byte `place / 8`.
pub(crate) fn bit(bytes: &[u8], place: usize) -> bool {
    bytes[place / 8] >> (place % 8) & 1 == 1
}

/// Sets the bit at `place` to `value`.
pub(crate) fn set_bit(bytes: &mut [u8], place: usize, value: bool) {
    let mask = 1 << (place % 8);
    if value { bytes[place / 8] |= mask } else { bytes[place / 8] &= !mask }
}

/// Whether all bits of `plane` of `key` are set in `bytes`: the plane is there, or (0.3 % at full
/// load) only seems to be.
pub(crate) fn contains(geometry: Geometry, bytes: &[u8], key: &BlockKey, plane: Plane) -> bool {
    geometry.places(key, plane).all(|place| bit(bytes, place))
}

/// A node's own filter. It counts the entries behind each bit, so a removal leaves exactly the bits
/// that the remaining entries set. A count that reached 255 stays there: a bit may then stay set
/// without need, but none is ever missing.
pub(crate) struct CountingFilter {
    geometry: Geometry,
    counts: Box<[u8]>,
    bits: Box<[u8]>,
}

impl CountingFilter {
    /// An empty filter. It allocates all its memory now: 9 bits for each bit of the filter, 147 kB
    /// for the largest.
    pub(crate) fn new(geometry: Geometry) -> CountingFilter {
        let counts = vec![0; geometry.segments() * SEGMENT_BITS].into_boxed_slice();
        CountingFilter { geometry, counts, bits: vec![0; geometry.bytes()].into_boxed_slice() }
    }

    /// The filter's geometry.
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The plain bits, in the form that peers receive.
    pub(crate) fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// Adds an entry; returns whether a bit changed. An entry added twice must be removed twice.
    pub(crate) fn insert(&mut self, key: &BlockKey, plane: Plane) -> bool {
        let mut changed = false;
        for place in self.geometry.places(key, plane) {
            let count = &mut self.counts[place];
            changed |= *count == 0;
            *count = count.saturating_add(1);
            set_bit(&mut self.bits, place, true);
        }
        changed
    }

    /// Removes an entry; returns whether a bit changed. An entry that cannot have been added (one
    /// of its bits is not set) changes nothing and returns `None`.
    pub(crate) fn remove(&mut self, key: &BlockKey, plane: Plane) -> Option<bool> {
        if !contains(self.geometry, &self.bits, key, plane) {
            return None;
        }
        let mut changed = false;
        for place in self.geometry.places(key, plane) {
            let count = &mut self.counts[place];
            if *count == u8::MAX || *count == 0 {
                continue;
            }
            *count -= 1;
            if *count == 0 {
                set_bit(&mut self.bits, place, false);
                changed = true;
            }
        }
        Some(changed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_128;

    use super::*;
    use crate::limits::MAX_BLOCKS;

    fn key(number: u64) -> BlockKey {
        BlockKey(xxh3_128(&number.to_le_bytes()).to_le_bytes())
    }

    #[test]
    fn the_geometry_follows_the_capacity_within_its_limits() {
        assert_eq!(Geometry::for_capacity(0).segments(), 1);
        assert_eq!(Geometry::for_capacity(1_024).segments(), 2);
        assert_eq!(Geometry::for_capacity(2 * MAX_BLOCKS).segments(), 12);
        assert_eq!(Geometry::for_capacity(usize::MAX).segments(), MAX_FILTER_SEGMENTS);
        assert_eq!(Geometry::checked(0, 8), None);
        assert_eq!(Geometry::checked(17, 8), None);
        assert_eq!(Geometry::checked(4, 0), None);
        assert_eq!(Geometry::checked(4, 17), None);
    }

    /// Two builds that place a block's bits differently never find each other's blocks.
    #[test]
    fn the_places_of_a_key_are_a_wire_format() {
        let key = BlockKey(core::array::from_fn(|i| (i as u8) * 17));
        let places = |segments, plane| -> Vec<usize> {
            Geometry::checked(segments, 8).unwrap().places(&key, plane).collect()
        };
        assert_eq!(places(1, Plane::Global), GLOBAL);
        assert_eq!(places(1, Plane::Sliding), SLIDING);
        assert_eq!(places(12, Plane::Global), GLOBAL.map(|place| 5 * SEGMENT_BITS + place));
    }
    const GLOBAL: [usize; 8] = [6536, 5426, 4317, 3210, 2106, 1006, 8103, 7014];
    const SLIDING: [usize; 8] = [7628, 7610, 7593, 7578, 7566, 7558, 7555, 7558];

    /// False positives cost a round trip each, and the planner counts on them being rare.
    #[test]
    fn a_full_filter_has_few_false_positives_and_no_false_negative() {
        let entries = 2 * MAX_BLOCKS as u64;
        let mut filter = CountingFilter::new(Geometry::for_capacity(entries as usize));
        for number in 0..entries / 2 {
            for plane in Plane::ALL {
                filter.insert(&key(number), plane);
            }
        }
        let found = |key: &BlockKey, plane| contains(filter.geometry(), filter.bits(), key, plane);
        assert!(
            (0..entries / 2)
                .all(|number| Plane::ALL.iter().all(|&plane| found(&key(number), plane)))
        );
        let wrong =
            (1_000_000..1_100_000).filter(|&number| found(&key(number), Plane::Global)).count();
        assert!(wrong < 500, "{wrong} of 100,000 keys found that were never put in");
    }

    #[test]
    fn the_planes_of_a_block_are_told_apart() {
        let mut filter = CountingFilter::new(Geometry::for_capacity(64));
        filter.insert(&key(1), Plane::Global);
        assert!(contains(filter.geometry(), filter.bits(), &key(1), Plane::Global));
        assert!(!contains(filter.geometry(), filter.bits(), &key(1), Plane::Sliding));
    }

    /// A count that wrapped around would hide blocks that are there.
    #[test]
    fn a_saturated_count_never_hides_an_entry() {
        let mut filter = CountingFilter::new(Geometry::for_capacity(64));
        for _ in 0..300 {
            filter.insert(&key(1), Plane::Global);
        }
        for _ in 0..299 {
            filter.remove(&key(1), Plane::Global);
        }
        assert!(contains(filter.geometry(), filter.bits(), &key(1), Plane::Global));
    }

    proptest! {
        #[test]
        fn removal_leaves_the_bits_that_the_rest_would_have_made(
            kept in proptest::collection::btree_set(0u64..10_000, 0..300),
            gone in proptest::collection::btree_set(10_000u64..20_000, 0..300),
            segments in 1usize..=16,
        ) {
            let geometry = Geometry::checked(segments, 8).unwrap();
            let (mut both, mut rest) = (CountingFilter::new(geometry), CountingFilter::new(geometry));
            let plane = |number: u64| Plane::ALL[(number % 2) as usize];
            for &number in gone.iter().chain(&kept) {
                both.insert(&key(number), plane(number));
            }
            for &number in &gone {
                both.remove(&key(number), plane(number));
            }
            for &number in &kept {
                rest.insert(&key(number), plane(number));
            }
            prop_assert!(both.bits() == rest.bits());
            prop_assert!(both.counts == rest.counts);
        }
    }
}
