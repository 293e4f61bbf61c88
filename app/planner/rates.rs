//! What a node remembers of how fast things are: smoothed, and forgotten after a minute without a new measurement.

use super::PeerRate;
use crate::id::{Millis, NodeId};

/// The weight of a new measurement. An eighth, as TCP smooths its round trip (RFC 6298), would take a prompt's worth of
/// transfers to notice that a radio has slowed down; a quarter notices within a few.
const GAIN: f32 = 0.25;

/// How long a measurement is believed, in milliseconds. A peer once found slow is tried again after this, so one bad moment does
/// not cost its help for long, and a dead one costs little: guess.
const BELIEVED_MS: u64 = 60_000;

/// A smoothed measurement that is forgotten when it has not been renewed for a minute.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Smoothed {
    last: Option<(f32, Millis)>,
}

impl Smoothed {
    /// Takes in a measurement made at `now`. One that is no finite number of zero or more is ignored.
    pub fn update(&mut self, sample: f32, now: Millis) {
        if sample.is_finite() && sample >= 0.0 {
            let value = self.value(now).map_or(sample, |old| old + GAIN * (sample - old));
            self.last = Some((value, now));
        }
    }

    /// The smoothed value however old it is; `None` when nothing was ever measured.
    pub fn latest(&self) -> Option<f32> {
        self.last.map(|(value, _)| value)
    }

    /// The smoothed value; `None` when nothing was measured lately.
    pub fn value(&self, now: Millis) -> Option<f32> {
        self.last.filter(|(_, at)| now - *at < Millis(BELIEVED_MS)).map(|(value, _)| value)
    }
}

/// How fast one peer has delivered.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct PeerSpeed {
    goodput: Smoothed,
    round_trip: Smoothed,
}

impl PeerSpeed {
    /// `bytes` of payload came within `elapsed`.
    pub fn delivered(&mut self, bytes: u64, elapsed: Millis, now: Millis) {
        self.goodput.update(bytes as f32 * 1_000.0 / elapsed.0.max(1) as f32, now);
    }

    /// A question was answered within `elapsed`.
    pub fn answered(&mut self, elapsed: Millis, now: Millis) {
        self.round_trip.update(elapsed.0 as f32, now);
    }

    /// The rates to plan with.
    pub fn rate(&self, node: NodeId, now: Millis) -> PeerRate {
        let (goodput_bytes_per_s, round_trip_ms) = (self.goodput.value(now), self.round_trip.value(now));
        PeerRate { node, goodput_bytes_per_s, round_trip_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_slows_down_is_noticed_within_a_few_fetches() {
        let mut speed = PeerSpeed::default();
        speed.delivered(2_600, Millis(1), Millis(0));
        assert_eq!(speed.rate(NodeId(1), Millis(0)).goodput_bytes_per_s, Some(2_600_000.0));
        for _ in 0..5 {
            speed.delivered(260, Millis(1), Millis(10));
        }
        let now = speed.rate(NodeId(1), Millis(10)).goodput_bytes_per_s.unwrap();
        assert!(now < 1_000_000.0, "{now}");
    }

    #[test]
    fn a_peer_once_dead_gets_another_chance() {
        let mut speed = PeerSpeed::default();
        speed.delivered(0, Millis(900), Millis(5));
        assert_eq!(speed.rate(NodeId(1), Millis(BELIEVED_MS)).goodput_bytes_per_s, Some(0.0));
        assert_eq!(speed.rate(NodeId(1), Millis(BELIEVED_MS + 5)).goodput_bytes_per_s, None);
    }

    #[test]
    fn nonsense_is_not_a_measurement() {
        let mut smoothed = Smoothed::default();
        for sample in [f32::NAN, f32::INFINITY, -1.0] {
            smoothed.update(sample, Millis(0));
        }
        assert_eq!(smoothed.value(Millis(0)), None);
    }
}
