//! Measures a peer's speed while a connection fetches.

use heapless::Deque;

use crate::id::Millis;

/// Minimum time of a goodput sample, in milliseconds, unless `SAMPLE_BYTES` comes first. A shorter
/// one would measure the clock's millisecond and the radio's bursts (tens of kilobytes at once).
const SAMPLE_MS: u64 = 50;

/// Bytes after which a goodput sample ends even if no time seems to have passed: a wired LAN or
/// loopback moves a prompt's worth in a millisecond.
const SAMPLE_BYTES: u64 = 512 << 10;

/// Silence, in milliseconds, after which a peer that owes planes counts as stalled: twice the worst
/// round trip seen on an idle board's Wi-Fi (127 ms).
const STALL_NOTICE_MS: u64 = 250;

/// Samples kept until the caller takes them; a further one replaces the oldest.
const MAX_SAMPLES: usize = 4;

/// One measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sample {
    /// The time from a request to its answer, while neither side had other work to do first.
    RoundTrip(Millis),
    /// Payload bytes that arrived, and the time that this took while more was in flight; never less
    /// than a millisecond.
    Goodput {
        /// Bytes of payload.
        bytes: u64,
        /// Time on the wire.
        elapsed: Millis,
    },
}

/// Measures goodput over the periods in which wants are in flight. The time before the first chunk
/// of a period is round trip, not goodput, so a period is measured from its first chunk on. Short
/// periods are added up.
#[derive(Default)]
pub(super) struct Meter {
    bytes: u64,
    elapsed: Millis,
    last_chunk: Option<Millis>,
    /// While an answer is due: when the peer last sent or answered anything, or was first asked.
    heard: Option<Millis>,
    samples: Deque<Sample, MAX_SAMPLES>,
}

impl Meter {
    /// A want has gone out.
    pub(super) fn asked(&mut self, now: Millis) {
        self.heard.get_or_insert(now);
    }

    /// A chunk has landed.
    pub(super) fn landed(&mut self, bytes: usize, now: Millis) {
        let bytes = bytes as u64;
        if let Some(last) = self.last_chunk {
            self.bytes += bytes;
            self.elapsed = self.elapsed + (now - last);
        }
        self.last_chunk = Some(now);
        self.answered(now);
        if self.bytes > 0 && (self.elapsed.0 >= SAMPLE_MS || self.bytes >= SAMPLE_BYTES) {
            let elapsed = self.elapsed.max(Millis(1));
            self.keep(Sample::Goodput { bytes: self.bytes, elapsed });
            (self.bytes, self.elapsed) = (0, Millis(0));
        }
    }

    /// The peer has answered a want, in whatever way.
    pub(super) fn answered(&mut self, now: Millis) {
        if let Some(heard) = &mut self.heard {
            *heard = now;
        }
    }

    /// No want is in flight any more.
    pub(super) fn idle(&mut self) {
        self.last_chunk = None;
        self.heard = None;
    }

    /// A want is given up. A silence of at least `STALL_NOTICE_MS` counts as time on the wire, so
    /// that a stalling peer is known to be slow. The next silence begins now.
    pub(super) fn stalled(&mut self, now: Millis) {
        let Some(heard) = self.heard.filter(|&heard| now - heard >= Millis(STALL_NOTICE_MS)) else {
            return;
        };
        self.keep(Sample::Goodput { bytes: self.bytes, elapsed: self.elapsed + (now - heard) });
        (self.bytes, self.elapsed, self.last_chunk, self.heard) = (0, Millis(0), None, Some(now));
    }

    /// A request was answered after `elapsed`.
    pub(super) fn round_trip(&mut self, elapsed: Millis) {
        self.keep(Sample::RoundTrip(elapsed));
    }

    /// The oldest measurement not taken yet.
    pub(super) fn poll_sample(&mut self) -> Option<Sample> {
        self.samples.pop_front()
    }

    fn keep(&mut self, sample: Sample) {
        if self.samples.is_full() {
            self.samples.pop_front();
        }
        let kept = self.samples.push_back(sample);
        debug_assert!(kept.is_ok(), "room was made");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goodput_leaves_out_the_wait_for_the_first_chunk() {
        let mut meter = Meter::default();
        meter.asked(Millis(0));
        for i in 0..=10 {
            meter.landed(16_384, Millis(100 + 6 * i));
        }
        let sample = meter.poll_sample();
        assert_eq!(
            sample,
            Some(Sample::Goodput { bytes: 9 * 16_384, elapsed: Millis(54) }),
            "2.7 MB/s, not less"
        );
    }

    #[test]
    fn short_fetches_add_up_and_the_pauses_between_them_do_not_count() {
        let mut meter = Meter::default();
        for i in 0..10 {
            let now = 1_000 * i;
            meter.asked(Millis(now));
            meter.landed(16_384, Millis(now + 20));
            meter.landed(10_000, Millis(now + 26));
            meter.idle();
        }
        assert_eq!(
            meter.poll_sample(),
            Some(Sample::Goodput { bytes: 90_000, elapsed: Millis(54) })
        );
        assert_eq!(meter.poll_sample(), None);
    }

    #[test]
    fn a_peer_that_sends_nothing_is_known_to_be_slow() {
        let mut meter = Meter::default();
        meter.stalled(Millis(9_000));
        meter.asked(Millis(0));
        meter.stalled(Millis(STALL_NOTICE_MS - 1));
        assert_eq!(meter.poll_sample(), None, "no answer is due, or not for long");
        meter.stalled(Millis(800));
        meter.stalled(Millis(800));
        assert_eq!(meter.poll_sample(), Some(Sample::Goodput { bytes: 0, elapsed: Millis(800) }));
        assert_eq!(
            meter.poll_sample(),
            None,
            "one silence is one measurement, however many wants it ends"
        );
        meter.answered(Millis(1_000));
        meter.stalled(Millis(1_200));
        meter.idle();
        meter.stalled(Millis(5_000));
        assert_eq!(
            meter.poll_sample(),
            None,
            "an answer ends the silence, and so does the end of all wants"
        );
    }

    #[test]
    fn a_stall_in_mid_transfer_lowers_the_goodput_that_was_measured() {
        let mut meter = Meter::default();
        meter.asked(Millis(0));
        meter.landed(16_384, Millis(10));
        meter.landed(16_384, Millis(20));
        meter.stalled(Millis(520));
        assert_eq!(
            meter.poll_sample(),
            Some(Sample::Goodput { bytes: 16_384, elapsed: Millis(510) })
        );
    }

    #[test]
    fn loopback_is_measured_although_no_time_seems_to_pass() {
        let mut meter = Meter::default();
        meter.asked(Millis(0));
        (0..=32).for_each(|_| meter.landed(16_384, Millis(0)));
        assert_eq!(
            meter.poll_sample(),
            Some(Sample::Goodput { bytes: 512 << 10, elapsed: Millis(1) })
        );
    }
}
