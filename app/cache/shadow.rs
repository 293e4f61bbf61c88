//! What a pool would hold under a policy that the cache may not be following. It simulates keys
//! only, so that policies can be compared by their misses.
//!
//! A shadow knows neither pins nor parents nor that planes differ in use. It sees the same uses as
//! the pool and has as many places.

use super::sketch::{Sketch, USE, half};
use crate::id::BlockKey;

/// One block in a shadow.
#[derive(Clone, Copy)]
struct Held {
    key: u64,
    last_use: u64,
    proven: bool,
}

/// The blocks that a policy would hold.
pub(super) struct Shadow {
    held: Vec<Held>,
    slots: usize,
    /// Places for newcomers on probation; `None`: plain LRU.
    probation: Option<usize>,
}

impl Shadow {
    /// An empty shadow of `slots` places.
    pub(super) fn new(slots: usize, probation: Option<usize>) -> Shadow {
        Shadow { held: Vec::with_capacity(slots), slots, probation }
    }

    /// Notes a use of `key`; returns whether the block was here.
    pub(super) fn touch(&mut self, key: &BlockKey, now: u64, sketch: &Sketch) -> bool {
        let key = half(key);
        if let Some(held) = self.held.iter_mut().find(|held| held.key == key) {
            held.last_use = now;
            return true;
        }
        if self.held.len() == self.slots {
            let place = match self.probation {
                None => self.oldest(|_| true),
                Some(probation) => self.rejected(probation, sketch),
            };
            if let Some(place) = place {
                self.held.swap_remove(place);
            }
        }
        self.held.push(Held { key, last_use: now, proven: false });
        false
    }

    fn oldest(&self, of: impl Fn(&Held) -> bool) -> Option<usize> {
        let held = self.held.iter().enumerate().filter(|(_, held)| of(held));
        held.min_by_key(|(_, held)| held.last_use).map(|(place, _)| place)
    }

    /// Chooses by frequency, as `evict` does.
    fn rejected(&mut self, probation: usize, sketch: &Sketch) -> Option<usize> {
        let room = self.slots - probation;
        let mut proven = self.held.iter().filter(|held| held.proven).count();
        let Some(mut newcomer) = self.oldest(|held| !held.proven) else {
            return self.oldest(|_| true);
        };
        while proven < room {
            self.held[newcomer].proven = true;
            proven += 1;
            match self.oldest(|held| !held.proven) {
                Some(next) => newcomer = next,
                None => break,
            }
        }
        let all = self.held.iter().enumerate().filter(|(_, held)| held.proven);
        let weakest =
            all.map(|(place, held)| (sketch.count_half(held.key), held.last_use, place)).min()?;
        if !beats(sketch.count_half(self.held[newcomer].key), weakest.0) {
            return Some(newcomer);
        }
        self.held[newcomer].proven = true;
        Some(weakest.2)
    }
}

/// Whether a newcomer takes the place of a proven block: it must have been used more often by more
/// than one use. Its last use does not count, because the other's may be about to come: in a cycle
/// that does not fit, the latest arrival would always win.
pub(super) fn beats(newcomer: u8, proven: u8) -> bool {
    newcomer > proven.saturating_add(USE)
}
