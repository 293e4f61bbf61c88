//! The rate of the link that all peers share, from what they bring at the same time.

use heapless::Vec as Bounded;

use crate::id::{Millis, NodeId};

/// Time over which a rate is taken at least, in milliseconds: below it the radio's bursts would be what is measured.
const WINDOW_MS: u64 = 50;

/// A pause, in milliseconds, that ends a window: nobody was delivering.
const PAUSE_MS: u64 = 50;

/// Peers told apart within a window; more would not change what it says.
const MAX_TOLD_APART: usize = 4;

/// At most this share of a window's bytes, in eighths, came from one peer; else the others were hardly delivering.
const MOST_FROM_ONE: u64 = 7;

/// The weight of a window that brought more than was known, and of one that brought less. What the link can carry is the most that
/// it was seen to carry; a window that brought less may only have lacked something to carry.
const GAIN_UP: f32 = 0.5;
const GAIN_DOWN: f32 = 1.0 / 16.0;

/// Time, in milliseconds, after which a rate not measured anew is thought to have doubled: a link once bad is tried again.
const DOUBLING_MS: f32 = 600_000.0;

/// The window under way, and the rate of those before.
#[derive(Default)]
pub(super) struct Link {
    began: Millis,
    last: Option<Millis>,
    bytes: u64,
    by: Bounded<(NodeId, u64), MAX_TOLD_APART>,
    rate: Option<(f32, Millis)>,
    /// The two peers that delivered last, and when.
    latest: [Option<(NodeId, Millis)>; 2],
}

impl Link {
    /// `bytes` came from `node`. What opens a window is not counted in it: it came before.
    pub(super) fn landed(&mut self, node: NodeId, bytes: u64, now: Millis) {
        if self.latest[0].is_some_and(|(latest, _)| latest != node) {
            self.latest[1] = self.latest[0];
        }
        self.latest[0] = Some((node, now));
        if self.last.is_none_or(|last| now - last > Millis(PAUSE_MS)) {
            self.open(now);
            return;
        }
        self.last = Some(now);
        self.bytes += bytes;
        match self.by.iter_mut().find(|(known, _)| *known == node) {
            Some((_, count)) => *count += bytes,
            // More peers than are told apart: that they are more than one is known already.
            None => drop(self.by.push((node, bytes))),
        }
        if now - self.began >= Millis(WINDOW_MS) {
            let most = self.by.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
            if 8 * most <= MOST_FROM_ONE * self.bytes {
                self.learn(self.bytes as f32 / (now - self.began).0 as f32, now);
            }
            self.open(now);
        }
    }

    /// Whether nobody but `node` has delivered since `since`.
    pub(super) fn alone(&self, node: NodeId, since: Millis) -> bool {
        !self.latest.iter().flatten().any(|(other, at)| *other != node && *at >= since)
    }

    /// The rate, in bytes a millisecond.
    pub(super) fn bytes_per_ms(&self, now: Millis) -> Option<f32> {
        self.rate.map(|(rate, at)| rate * libm::exp2f((now - at).0 as f32 / DOUBLING_MS))
    }

    fn open(&mut self, now: Millis) {
        (self.began, self.last, self.bytes) = (now, Some(now), 0);
        self.by.clear();
    }

    fn learn(&mut self, sample: f32, now: Millis) {
        let rate = self.bytes_per_ms(now).map_or(sample, |known| {
            let gain = if sample > known { GAIN_UP } else { GAIN_DOWN };
            known + gain * (sample - known)
        });
        self.rate = Some((rate, now));
    }
}
