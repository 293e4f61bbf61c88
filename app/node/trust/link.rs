//! The rate of the link that all peers share, learned from what they deliver at the same time.

use heapless::Vec as Bounded;

use crate::id::{Millis, NodeId};

/// Minimum time over which a rate is measured, in milliseconds. Anything shorter would measure the
/// radio's bursts.
const WINDOW_MS: u64 = 50;

/// A pause, in milliseconds, that ends a window: nobody was delivering.
const PAUSE_MS: u64 = 50;

/// Peers counted separately within a window. More would not change the result.
const MAX_TOLD_APART: usize = 4;

/// Maximum share of a window's bytes from one peer, in eighths. Above it the others were
/// hardly delivering.
const MOST_FROM_ONE: u64 = 7;

/// The weights of a window with a higher rate than known, and of one with a lower rate. The
/// link's capacity is the most that it was seen to carry. A window with less may only have had
/// too little to carry.
const GAIN_UP: f32 = 0.5;
const GAIN_DOWN: f32 = 1.0 / 16.0;

/// Time, in milliseconds, after which a rate that is not measured again is assumed to have doubled,
/// so that a link that was once bad is tried again.
const DOUBLING_MS: f32 = 600_000.0;

/// The current window, and the rate learned from earlier ones.
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
    /// `bytes` arrived from `node`. The bytes that open a window are not counted in it: they were
    /// sent before it.
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
            // More peers than are counted separately: that there is more than one is known already.
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

    /// Whether no peer but `node` has delivered since `since`.
    pub(super) fn alone(&self, node: NodeId, since: Millis) -> bool {
        !self.latest.iter().flatten().any(|(other, at)| *other != node && *at >= since)
    }

    /// The rate, in bytes per millisecond.
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
