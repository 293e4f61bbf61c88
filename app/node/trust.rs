//! What this node knows of its peers' speed and reliability, and of its own computing speed.
//!
//! For each peer: its goodput, its round trip, and a record of its failures. All of these fade.
//! A measurement loses weight slowly and drifts towards what an unknown peer on a busy radio
//! would deliver. It is never dropped at once, so that a slow peer is not treated as an unknown
//! one a minute later. A record of failures heals with time and with every plane delivered. A
//! lie costs an answer its time or worse, so it takes ten times as long to fade, and deliveries
//! do not heal it.
//!
//! For all peers together: the rate that they reach when they deliver at the same time, which is
//! the rate of the link that they share.

use std::collections::{BTreeMap, BTreeSet};

use crate::draft;
use crate::id::{Millis, NodeId};
use crate::limits::{BLOCK_TOKENS, LEAST_PEERS, MAX_PEERS, PREFILL_STEP_TOKENS};
use crate::transfer::{Fault, Sample};

mod link;

use link::Link;

/// The weight of a new measurement against a recent one. With an eighth, which TCP uses to smooth
/// its round trip (RFC 6298), it would take a prompt's worth of transfers to notice that a radio
/// has slowed down. A quarter notices within a few.
const GAIN: f32 = 0.25;

/// A compute step that is quicker by this factor is believed at once. Other work on the machine
/// slows steps down by as much.
const MUCH_QUICKER: f32 = 1.5;

/// Time, in milliseconds, after which a measured rate has lost half its weight. Links change when
/// boards are moved or a neighbour's radio wakes up, which takes many minutes (guess).
const RATE_HALF_LIFE_MS: f32 = 600_000.0;

/// What an old goodput drifts towards, in bytes per millisecond: 8 Mbit/s, each of three boards'
/// share of one radio (20.9 Mbit/s measured on a Zero 2 W).
const PRIOR_BYTES_PER_MS: f32 = 1_000.0;

/// What an old round trip drifts towards, in milliseconds: a board's Wi-Fi with power saving off.
const PRIOR_ROUND_TRIP_MS: f32 = 10.0;

/// Time, in milliseconds, after which half of a peer's failures are forgiven.
const RECORD_HALF_LIFE_MS: f32 = 60_000.0;

/// The same for lies.
const LIE_HALF_LIFE_MS: f32 = 600_000.0;

/// What an absence adds to a peer's failures. One may be a Bloom filter's false positive and must
/// cost little; two in a row mean a stale filter.
const ABSENCE: f32 = 0.75;

/// What a failed or cut connection adds.
const CUT: f32 = 2.0;

/// What a stall adds: this node waited for the peer.
const STALL: f32 = 3.0;

/// The maximum amount of failures or lies, so that a repaired peer is noticed within a few minutes.
const WORST: f32 = 8.0;

/// The fraction of a peer's failures that remains after it delivers a plane.
const FORGIVEN: f32 = 0.5;

/// Above this amount of faded lies a peer is not asked at all. The first lie keeps it away for ten
/// minutes, a second for ten more.
const NOT_ASKED_LIES: f32 = 0.5;

/// How long the record of a peer's drafts is kept, in milliseconds.
const DRAFTS_MS: u64 = 600_000;

/// Peers whose drafts are right less often than this are not asked for any.
const POOR_DRAFTS: f32 = 0.3;

/// Questions about its habits to which a peer may have no guess, in a row, before it is left alone.
/// Such a question costs next to nothing, and the next text may resemble what the peer has answered.
const VAIN_ANSWERS: u32 = 16;

/// A guess that is wrong from its first token counts as this many of them: it also costs a drafted
/// row.
const VAIN_GUESS: u32 = 4;

/// How long it is left alone then, in milliseconds. Each of its answers may teach it what was
/// asked, so it gets one more question a minute.
const VAIN_MS: u64 = 60_000;

/// What to expect of a peer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct PeerEstimate {
    /// Goodput, in bytes per millisecond; none for a peer that has never delivered.
    pub bytes_per_ms: Option<f32>,
    /// Round trip, in milliseconds; none for a peer never connected to.
    pub round_trip_ms: Option<f32>,
    /// 1 for a peer that has never failed. Below a half the peer is on trial and gets one plane per
    /// prompt. At 0 it is not asked.
    pub worth: f32,
}

/// A quantity with a half-life.
#[derive(Clone, Copy, Default)]
struct Decaying {
    amount: f32,
    at: Millis,
}

/// A smoothed rate, with the time of its last measurement.
#[derive(Clone, Copy)]
struct Rate {
    value: f32,
    at: Millis,
}

#[derive(Clone, Copy, Default)]
struct Record {
    goodput: Option<Rate>,
    round_trip: Option<Rate>,
    failures: Decaying,
    lies: Decaying,
    /// How often its drafts were right, and when one was last judged.
    drafts: Option<(draft::Record, Millis)>,
    /// The same for its habits, which say nothing about its drafts.
    habits: Option<(draft::Record, Millis)>,
    /// Questions about its habits that were in vain since the last useful one, and when the last
    /// of them was answered.
    vain: (u32, Millis),
    touched: Millis,
}

/// All known speeds and failures. The table is bounded: when it is full, the record without news
/// for longest is dropped.
pub(crate) struct Trust {
    peers: BTreeMap<NodeId, Record>,
    /// Maximum number of peers with a record.
    most: usize,
    by_age: BTreeSet<(Millis, NodeId)>,
    link: Link,
    prefill_ms_per_token: Option<f32>,
    /// The lowest value ever measured.
    quickest_ms_per_token: Option<f32>,
}

impl Trust {
    /// Starts with no knowledge except, perhaps, this node's own speed. Keeps records of at most
    /// `peers` peers.
    pub(crate) fn new(prefill_tokens_per_s: Option<f32>, peers: usize) -> Trust {
        let known = prefill_tokens_per_s
            .filter(|rate| rate.is_finite() && *rate > 0.0)
            .map(|rate| 1_000.0 / rate);
        Trust {
            peers: BTreeMap::new(),
            most: peers.clamp(LEAST_PEERS, MAX_PEERS),
            by_age: BTreeSet::new(),
            link: Link::default(),
            prefill_ms_per_token: known,
            quickest_ms_per_token: known,
        }
    }

    /// What to expect of a peer.
    pub(crate) fn of(&self, node: NodeId, now: Millis) -> PeerEstimate {
        let record = self.peers.get(&node).copied().unwrap_or_default();
        let lies = record.lies.after(LIE_HALF_LIFE_MS, now);
        let blame = record.failures.after(RECORD_HALF_LIFE_MS, now) + 4.0 * lies;
        PeerEstimate {
            bytes_per_ms: record.goodput.map(|rate| rate.towards(PRIOR_BYTES_PER_MS, now)),
            round_trip_ms: record.round_trip.map(|rate| rate.towards(PRIOR_ROUND_TRIP_MS, now)),
            worth: if lies > NOT_ASKED_LIES { 0.0 } else { 1.0 / (1.0 + blame) },
        }
    }

    /// Takes a measurement from a connection to `node`. `alone`: no other peer delivered meanwhile.
    /// If one did, the link was shared and the sample is only a lower bound.
    pub(crate) fn sample(&mut self, node: NodeId, sample: Sample, alone: bool, now: Millis) {
        let record = self.touch(node, now);
        match sample {
            Sample::RoundTrip(elapsed) => {
                record.round_trip = Some(Rate::smoothed(
                    record.round_trip,
                    elapsed.0 as f32,
                    PRIOR_ROUND_TRIP_MS,
                    now,
                ));
            }
            Sample::Goodput { bytes, elapsed } => {
                let rate = bytes as f32 / elapsed.0.max(1) as f32;
                let raises = record
                    .goodput
                    .is_none_or(|known| rate > known.towards(PRIOR_BYTES_PER_MS, now));
                if alone || raises {
                    record.goodput =
                        Some(Rate::smoothed(record.goodput, rate, PRIOR_BYTES_PER_MS, now));
                }
            }
        }
    }

    /// Payload has arrived from a peer. The shared link's rate is learned from this.
    pub(crate) fn landed(&mut self, node: NodeId, bytes: usize, now: Millis) {
        self.link.landed(node, bytes as u64, now);
    }

    /// Whether no other peer has delivered anything since `since`.
    pub(crate) fn alone(&self, node: NodeId, since: Millis) -> bool {
        self.link.alone(node, since)
    }

    /// The peer did not hold what its filter promised.
    pub(crate) fn absent(&mut self, node: NodeId, now: Millis) {
        self.blame(node, ABSENCE, now);
    }

    /// The peer could not be reached, or its connection ended with planes open.
    pub(crate) fn cut(&mut self, node: NodeId, now: Millis) {
        self.blame(node, CUT, now);
    }

    /// The peer owed planes and delivered nothing.
    pub(crate) fn stalled(&mut self, node: NodeId, now: Millis) {
        self.blame(node, STALL, now);
    }

    /// The peer sent something illegal, or state that was unusable.
    pub(crate) fn lied(&mut self, node: NodeId, now: Millis) {
        let record = self.touch(node, now);
        record.lies = Decaying {
            amount: (record.lies.after(LIE_HALF_LIFE_MS, now) + 1.0).min(WORST),
            at: now,
        };
    }

    /// The peer broke a rule of the protocol. This counts as a lie, unless it only fell silent or
    /// is incompatible with this node.
    pub(crate) fn fault(&mut self, node: NodeId, fault: &Fault, now: Millis) {
        match fault {
            Fault::Stalled => self.stalled(node, now),
            // A third party between the two can damage the bytes, so this does not prove a lie.
            Fault::Handshake | Fault::SealedLength(_) | Fault::Unsealed => self.cut(node, now),
            Fault::Silent
            | Fault::Idle
            | Fault::Version { .. }
            | Fault::Swarm
            | Fault::SameNode
            | Fault::Twin
            | Fault::OtherNode(_)
            | Fault::Epoch { .. }
            | Fault::Fingerprint { .. } => self.cut(node, now),
            _ => self.lied(node, now),
        }
    }

    /// The peer delivered a whole plane.
    pub(crate) fn delivered(&mut self, node: NodeId, now: Millis) {
        let record = self.touch(node, now);
        record.failures = Decaying {
            amount: record.failures.after(RECORD_HALF_LIFE_MS, now) * FORGIVEN,
            at: now,
        };
    }

    /// The rate of the link that the peers share, in bytes per millisecond; none until two of them
    /// have delivered at once.
    pub(crate) fn link_bytes_per_ms(&self, now: Millis) -> Option<f32> {
        self.link.bytes_per_ms(now)
    }

    /// The peer has restarted or is a different one. Drops its measurements and small failures but
    /// keeps its lies, or a liar would only have to come back.
    pub(crate) fn forget(&mut self, node: NodeId) {
        let Some(record) = self.peers.get_mut(&node) else { return };
        if record.lies.amount > 0.0 {
            *record = Record { lies: record.lies, touched: record.touched, ..Record::default() };
        } else {
            self.by_age.remove(&(record.touched, node));
            self.peers.remove(&node);
        }
    }

    /// `right` tokens of a peer's draft were right. `wrong`: the next one was wrong,
    /// otherwise unknown.
    pub(crate) fn drafted(&mut self, node: NodeId, right: usize, wrong: bool, now: Millis) {
        let mut drafts = self.drafts(node, now);
        drafts.note(right, wrong);
        self.touch(node, now).drafts = Some((drafts, now));
    }

    /// How often a peer's drafts were right.
    pub(crate) fn drafts(&self, node: NodeId, now: Millis) -> draft::Record {
        let known = self.peers.get(&node).and_then(|record| record.drafts);
        known
            .filter(|(_, at)| now - *at < Millis(DRAFTS_MS))
            .map_or(draft::Record::SOUND, |(drafts, _)| drafts)
    }

    /// Whether it is worth asking the peer for a draft: not if its drafts were nearly always wrong.
    pub(crate) fn is_asked_for_drafts(&self, node: NodeId, now: Millis) -> bool {
        self.drafts(node, now).chance() >= POOR_DRAFTS && self.of(node, now).worth > 0.0
    }

    /// `right` tokens of what a peer's habits suggested were right. `wrong`: the next one was
    /// wrong, otherwise unknown.
    pub(crate) fn guessed(&mut self, node: NodeId, right: usize, wrong: bool, now: Millis) {
        let mut habits = self.habits(node, now);
        habits.note(right, wrong);
        let record = self.touch(node, now);
        record.habits = Some((habits, now));
        if right > 0 {
            record.vain.0 = 0;
        }
    }

    /// A question about the peer's habits was in vain: its guess was wrong from the first token
    /// (`guessed`), or it knew nothing or said nothing in time.
    pub(crate) fn asked_in_vain(&mut self, node: NodeId, guessed: bool, now: Millis) {
        let record = self.touch(node, now);
        let weight = if guessed { VAIN_GUESS } else { 1 };
        record.vain = (record.vain.0.saturating_add(weight), now);
    }

    /// How often what a peer's habits suggested was right.
    pub(crate) fn habits(&self, node: NodeId, now: Millis) -> draft::Record {
        let known = self.peers.get(&node).and_then(|record| record.habits);
        known
            .filter(|(_, at)| now - *at < Millis(DRAFTS_MS))
            .map_or(draft::Record::GUESS, |(habits, _)| habits)
    }

    /// How promising it is to ask the peer about its habits: the chance that it is right, less for
    /// each question in vain. None if it is to be left alone.
    pub(crate) fn promise(&self, node: NodeId, now: Millis) -> Option<f32> {
        let (vain, at) = self.peers.get(&node).map_or((0, Millis(0)), |record| record.vain);
        let asked = vain < VAIN_ANSWERS || now >= at + Millis(VAIN_MS);
        (asked && self.of(node, now).worth > 0.0)
            .then(|| self.habits(node, now).chance() / (1.0 + vain as f32 / VAIN_GUESS as f32))
    }

    /// A prefill step of `tokens` took `micros`. Steps shorter than a block are ignored: they
    /// measure overhead rather than the rate. Short steps weigh less than full ones.
    pub(crate) fn prefilled(&mut self, tokens: usize, micros: u64) {
        if tokens < BLOCK_TOKENS {
            return;
        }
        let measured = micros.max(1) as f32 / 1_000.0 / tokens as f32;
        self.quickest_ms_per_token =
            Some(self.quickest_ms_per_token.map_or(measured, |known| known.min(measured)));
        let gain = GAIN * (tokens as f32 / PREFILL_STEP_TOKENS as f32).min(1.0);
        // Nothing makes a step appear much quicker than it is. The node must have been slowed down
        // before and no longer is.
        let known = self.prefill_ms_per_token.filter(|known| measured * MUCH_QUICKER > *known);
        self.prefill_ms_per_token =
            Some(known.map_or(measured, |known| known + gain * (measured - known)));
    }

    /// How long this node takes to compute a prompt token, in milliseconds. Its own speed does not
    /// change while it is idle, so the last measurement counts, however old.
    pub(crate) fn prefill_ms_per_token(&self) -> Option<f32> {
        self.prefill_ms_per_token
    }

    /// The shortest time it ever took to compute one. A slow step may have been suspended or short
    /// of memory, so the next one may be fast again. Callers that would rather not compute must
    /// allow for that.
    pub(crate) fn quickest_ms_per_token(&self) -> Option<f32> {
        self.quickest_ms_per_token
    }

    fn blame(&mut self, node: NodeId, amount: f32, now: Millis) {
        let record = self.touch(node, now);
        record.failures = Decaying {
            amount: (record.failures.after(RECORD_HALF_LIFE_MS, now) + amount).min(WORST),
            at: now,
        };
    }

    /// The record of a peer, marked as just updated. A full table drops the one without
    /// news for longest.
    fn touch(&mut self, node: NodeId, now: Millis) -> &mut Record {
        match self.peers.get(&node) {
            Some(record) => {
                self.by_age.remove(&(record.touched, node));
            }
            None if self.peers.len() >= self.most => {
                if let Some((_, oldest)) = self.by_age.pop_first() {
                    self.peers.remove(&oldest);
                }
            }
            None => {}
        }
        self.by_age.insert((now, node));
        let record = self.peers.entry(node).or_default();
        record.touched = now;
        record
    }
}

/// The fraction left after `age`, given a half-life of `half_life_ms`.
fn left(age: Millis, half_life_ms: f32) -> f32 {
    libm::exp2f(-(age.0 as f32) / half_life_ms)
}

impl Decaying {
    fn after(&self, half_life_ms: f32, now: Millis) -> f32 {
        self.amount * left(now - self.at, half_life_ms)
    }
}

impl Rate {
    /// The value, drifted towards `prior` according to its age. The drift is logarithmic, so that
    /// the prior does not at once dominate the rate of a very fast or very slow peer.
    fn towards(&self, prior: f32, now: Millis) -> f32 {
        if self.at >= now {
            return self.value;
        }
        prior * libm::powf(self.value.max(1e-3) / prior, left(now - self.at, RATE_HALF_LIFE_MS))
    }

    /// Combines `known` with a new measurement, which weighs more the older `known` is.
    fn smoothed(known: Option<Rate>, sample: f32, prior: f32, now: Millis) -> Rate {
        let value = known.map_or(sample, |known| {
            let kept = (1.0 - GAIN) * left(now - known.at, RATE_HALF_LIFE_MS);
            let value = known.towards(prior, now);
            sample + kept * (value - sample)
        });
        Rate { value, at: now }
    }
}

#[cfg(test)]
mod tests;
