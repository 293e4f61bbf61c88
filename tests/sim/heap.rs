//! Repeatable runs: one queue of events, ordered by time and then by scheduling order, and one
//! source of randomness.

use std::collections::BTreeMap;

/// Virtual time since the start of a run, in microseconds.
pub type Micros = u64;

/// A millisecond of virtual time.
pub const MS: Micros = 1_000;

/// A second of virtual time.
pub const SECOND: Micros = 1_000_000;

/// Pending events.
pub struct Heap<E> {
    events: BTreeMap<(Micros, u64), E>,
    scheduled: u64,
}

impl<E> Heap<E> {
    pub fn new() -> Heap<E> {
        Heap { events: BTreeMap::new(), scheduled: 0 }
    }

    /// Schedules `event`. Events at the same moment happen in scheduling order.
    pub fn push(&mut self, at: Micros, event: E) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<Micros> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn pop(&mut self) -> Option<(Micros, E)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }
}

/// Seeded randomness (SplitMix64).
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(mix(seed ^ 0x51b0_9f2e_77aa_13c5))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    /// True with probability `per_mille` / 1000. A rate of zero draws nothing, so a calm network
    /// consumes no randomness.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.below(1_000) < per_mille
    }

    /// A number from `low` to `high`, inclusive.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// An index of a Zipf distribution over `count` items with exponent 1.
    pub fn zipf(&mut self, count: usize) -> usize {
        let total: f64 = (1..=count).map(|rank| 1.0 / rank as f64).sum();
        let mut left = self.below(1 << 32) as f64 / (1_u64 << 32) as f64 * total;
        for rank in 1..count {
            left -= 1.0 / rank as f64;
            if left < 0.0 {
                return rank - 1;
            }
        }
        count - 1
    }
}

/// Mixes a number so that every bit of the result depends on every bit of `x`.
pub fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
