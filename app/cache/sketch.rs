//! How often blocks are used, including blocks that are no longer here: a count-min sketch with
//! decaying counts.
//!
//! Four rows of counters. A key has one in each, and its count is the least of the four, so a
//! collision can only raise it. The keys are already keyed hashes, so their bits are used as they
//! are. After every `period` uses all counters are halved, so that former popularity is forgotten
//! (TinyLFU; Einziger, Friedman and Manes, 2017).

use crate::id::BlockKey;
use crate::limits::MAX_BLOCKS;

/// What one use adds. More than 1, so that a single use is remembered for several periods instead
/// of one.
pub(super) const USE: u8 = 8;

/// Counters in a row for each slot: enough for the blocks that are here and as many evicted ones,
/// with few collisions.
const COUNTERS_PER_SLOT: usize = 4;

/// Uses between two halvings, for each slot. A longer period is better for stable popularity and
/// worse for shifting popularity; of 1, 3, 4, 6 and 8, four was the best compromise on the traces
/// of `trials`.
const PERIOD_PER_SLOT: usize = 4;

/// The counters.
pub(super) struct Sketch {
    rows: [Vec<u8>; 4],
    uses: usize,
    period: usize,
}

impl Sketch {
    /// All counts zero, for a pool of `slots` slots: 16 to 32 bytes a slot.
    pub(super) fn new(slots: usize) -> Sketch {
        let width = (COUNTERS_PER_SLOT * slots.max(1)).next_power_of_two();
        Sketch {
            rows: [0; 4].map(|zero| vec![zero; width]),
            uses: 0,
            period: PERIOD_PER_SLOT * slots.max(1),
        }
    }

    /// The decayed count of `key`: [`USE`] after a single recent use.
    pub(super) fn count(&self, key: &BlockKey) -> u8 {
        self.count_half(half(key))
    }

    /// The same, by half a key.
    pub(super) fn count_half(&self, key: u64) -> u8 {
        self.places(key).into_iter().zip(&self.rows).map(|(at, row)| row[at]).min().unwrap_or(0)
    }

    /// Counts one use of `key`.
    pub(super) fn add(&mut self, key: &BlockKey) {
        let raised = self.count(key).saturating_add(USE);
        for (at, row) in self.places(half(key)).into_iter().zip(&mut self.rows) {
            row[at] = row[at].max(raised);
        }
        self.uses += 1;
        if self.uses == self.period {
            self.uses = 0;
            self.rows.iter_mut().flatten().for_each(|count| *count /= 2);
        }
    }

    fn places(&self, key: u64) -> [usize; 4] {
        let mask = self.rows[0].len() - 1;
        [0, 16, 32, 48].map(|shift| (key >> shift) as usize & mask)
    }
}

/// Half of a key, by which the tables of the policy identify a block. Two blocks with the same half
/// would share their counts, nothing else.
pub(super) fn half(key: &BlockKey) -> u64 {
    u128::from_le_bytes(key.0) as u64
}

const _: () = assert!(COUNTERS_PER_SLOT * MAX_BLOCKS <= 1 << 16, "each row takes 16 bits of a key");

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_128;

    use super::*;

    fn key(number: u64) -> BlockKey {
        BlockKey(xxh3_128(&number.to_le_bytes()).to_be_bytes())
    }

    #[test]
    fn counts_are_never_too_low_and_seldom_too_high() {
        let mut sketch = Sketch::new(1_000);
        for number in 0..1_000 {
            for _ in 0..1 + number % 3 {
                sketch.add(&key(number));
            }
        }
        let over = |number: &u64| {
            u64::from(sketch.count(&key(*number))) > u64::from(USE) * (1 + number % 3)
        };
        let under = |number: &u64| {
            u64::from(sketch.count(&key(*number))) < u64::from(USE) * (1 + number % 3)
        };
        assert_eq!((0..1_000).filter(under).count(), 0);
        assert!((0..1_000).filter(over).count() < 20);
        assert!((1_000..2_000).filter(|&number| sketch.count(&key(number)) > 0).count() < 20);
    }

    #[test]
    fn what_is_used_no_more_is_forgotten() {
        let mut sketch = Sketch::new(10);
        (0..20).for_each(|_| sketch.add(&key(1)));
        let before = sketch.count(&key(1));
        (0..4 * 10).for_each(|_| sketch.add(&key(2)));
        assert_eq!(sketch.count(&key(1)), before / 2);
        (0..8 * 4 * 10).for_each(|_| sketch.add(&key(2)));
        assert_eq!(sketch.count(&key(1)), 0);
        assert!(sketch.count(&key(2)) > before);
    }
}
