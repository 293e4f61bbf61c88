//! What this node knows of how fast its peers are and how far they can be relied on, and how fast it computes.
//!
//! Of each peer: its goodput, its round trip, and a record of what it did wrong. All of it fades. A measurement loses weight slowly
//! and drifts towards what an unknown peer of a busy radio brings; it is never forgotten at once, so that a slow peer is not taken
//! for an unknown one a minute later. A record heals with time and with every plane delivered; a lie, which cost an answer its
//! time or worse, takes ten times as long and is not healed by deliveries.
//!
//! Of all peers together: what they bring at the same time, which is the rate of the link that they share.

use std::collections::{BTreeMap, BTreeSet};

use crate::draft;
use crate::id::{Millis, NodeId};
use crate::limits::{BLOCK_TOKENS, LEAST_PEERS, MAX_PEERS, PREFILL_STEP_TOKENS};
use crate::transfer::{Fault, Sample};

mod link;

use link::Link;

/// The weight of a new measurement beside a fresh one. An eighth, as TCP smooths its round trip (RFC 6298), would take a prompt's
/// worth of transfers to notice that a radio has slowed down; a quarter notices within a few.
const GAIN: f32 = 0.25;

/// From what factor on a quicker step of computing is believed at once. Other work on the machine makes steps slower by as much.
const MUCH_QUICKER: f32 = 1.5;

/// Time, in milliseconds, after which a measured rate has lost half its weight: links change when boards are moved or a neighbour's
/// radio wakes up, which is a matter of many minutes (guess).
const RATE_HALF_LIFE_MS: f32 = 600_000.0;

/// What an old goodput drifts towards, in bytes a millisecond: 8 Mbit/s, what three boards each get of one radio (20.9 Mbit/s
/// measured on a Zero 2 W).
const PRIOR_BYTES_PER_MS: f32 = 1_000.0;

/// What an old round trip drifts towards, in milliseconds: a board's Wi-Fi with its power saving off.
const PRIOR_ROUND_TRIP_MS: f32 = 10.0;

/// Time, in milliseconds, after which half of a record is forgiven.
const RECORD_HALF_LIFE_MS: f32 = 60_000.0;

/// The same for lies.
const LIE_HALF_LIFE_MS: f32 = 600_000.0;

/// What an absence adds to a record. One is a Bloom filter's false positive and must cost little; two in a row are a stale filter.
const ABSENCE: f32 = 0.75;

/// What a connection that could not be made, or was cut, adds.
const CUT: f32 = 2.0;

/// What a stall adds: the peer was waited for.
const STALL: f32 = 3.0;

/// The worst record: beyond it nothing is added, so that a peer mended is found out about within a few minutes.
const WORST: f32 = 8.0;

/// What is left of a record when the peer delivers a plane.
const FORGIVEN: f32 = 0.5;

/// Lies, faded, from which on a peer is not asked at all: the first one keeps it away for ten minutes, a second for ten more.
const NOT_ASKED_LIES: f32 = 0.5;

/// Milliseconds for which it is remembered how often a peer's drafts were right.
const DRAFTS_MS: u64 = 600_000;

/// Of a peer whose drafts are right less often than this, none is asked.
const POOR_DRAFTS: f32 = 0.3;

/// What is to be expected of a peer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Standing {
    /// Goodput, in bytes a millisecond; none for a peer that has never delivered.
    pub bytes_per_ms: Option<f32>,
    /// Round trip, in milliseconds; none for a peer never connected to.
    pub round_trip_ms: Option<f32>,
    /// 1 for a peer that has never failed; below a half it is on trial, worth one plane a prompt; 0: not to be asked.
    pub worth: f32,
}

/// A quantity that halves again and again.
#[derive(Clone, Copy, Default)]
struct Fading {
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
    failures: Fading,
    lies: Fading,
    /// How often its drafts were right, and when one was last found right or wrong.
    drafts: Option<(draft::Record, Millis)>,
    touched: Millis,
}

/// All that is known of speeds and of reliability. The table is bounded: when it is full, the peer longest without news goes.
pub(crate) struct Trust {
    peers: BTreeMap<NodeId, Record>,
    /// Peers of which it keeps records at most.
    most: usize,
    by_age: BTreeSet<(Millis, NodeId)>,
    link: Link,
    prefill_ms_per_token: Option<f32>,
    /// The least that it ever was.
    quickest_ms_per_token: Option<f32>,
}

impl Trust {
    /// Nothing known but, perhaps, this node's own speed; there will be records of so many peers at most.
    pub(crate) fn new(prefill_tokens_per_s: Option<f32>, peers: usize) -> Trust {
        let known = prefill_tokens_per_s.filter(|rate| rate.is_finite() && *rate > 0.0).map(|rate| 1_000.0 / rate);
        Trust {
            peers: BTreeMap::new(),
            most: peers.clamp(LEAST_PEERS, MAX_PEERS),
            by_age: BTreeSet::new(),
            link: Link::default(),
            prefill_ms_per_token: known,
            quickest_ms_per_token: known,
        }
    }

    /// What is to be expected of a peer.
    pub(crate) fn of(&self, node: NodeId, now: Millis) -> Standing {
        let record = self.peers.get(&node).copied().unwrap_or_default();
        let lies = record.lies.after(LIE_HALF_LIFE_MS, now);
        let blame = record.failures.after(RECORD_HALF_LIFE_MS, now) + 4.0 * lies;
        Standing {
            bytes_per_ms: record.goodput.map(|rate| rate.towards(PRIOR_BYTES_PER_MS, now)),
            round_trip_ms: record.round_trip.map(|rate| rate.towards(PRIOR_ROUND_TRIP_MS, now)),
            worth: if lies > NOT_ASKED_LIES { 0.0 } else { 1.0 / (1.0 + blame) },
        }
    }

    /// A connection to `node` has measured something. `alone`: no other peer delivered meanwhile; if one did, the link was shared,
    /// and the sample says what this peer does at least.
    pub(crate) fn sample(&mut self, node: NodeId, sample: Sample, alone: bool, now: Millis) {
        let record = self.touch(node, now);
        match sample {
            Sample::RoundTrip(elapsed) => {
                record.round_trip = Some(Rate::smoothed(record.round_trip, elapsed.0 as f32, PRIOR_ROUND_TRIP_MS, now));
            }
            Sample::Goodput { bytes, elapsed } => {
                let rate = bytes as f32 / elapsed.0.max(1) as f32;
                let raises = record.goodput.is_none_or(|known| rate > known.towards(PRIOR_BYTES_PER_MS, now));
                if alone || raises {
                    record.goodput = Some(Rate::smoothed(record.goodput, rate, PRIOR_BYTES_PER_MS, now));
                }
            }
        }
    }

    /// Payload has landed, from whichever peer: this is how the shared link is learned.
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

    /// The peer owed planes and brought nothing.
    pub(crate) fn stalled(&mut self, node: NodeId, now: Millis) {
        self.blame(node, STALL, now);
    }

    /// The peer sent what it must not, or state that was of no use.
    pub(crate) fn lied(&mut self, node: NodeId, now: Millis) {
        let record = self.touch(node, now);
        record.lies = Fading { amount: (record.lies.after(LIE_HALF_LIFE_MS, now) + 1.0).min(WORST), at: now };
    }

    /// The peer broke a rule of the protocol: a lie, unless it only fell silent or does not fit this node.
    pub(crate) fn fault(&mut self, node: NodeId, fault: &Fault, now: Millis) {
        match fault {
            Fault::Stalled => self.stalled(node, now),
            // Whoever stands between the two can damage what passes: that speaks for no lie.
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

    /// The peer brought a whole plane.
    pub(crate) fn delivered(&mut self, node: NodeId, now: Millis) {
        let record = self.touch(node, now);
        record.failures = Fading { amount: record.failures.after(RECORD_HALF_LIFE_MS, now) * FORGIVEN, at: now };
    }

    /// The rate of the link that the peers share, in bytes a millisecond; none before two of them delivered at once.
    pub(crate) fn link_bytes_per_ms(&self, now: Millis) -> Option<f32> {
        self.link.bytes_per_ms(now)
    }

    /// The peer is another one now, or started anew: what was measured of it and its small failures are forgotten. Its lies are not,
    /// or a liar would only have to come back.
    pub(crate) fn forget(&mut self, node: NodeId) {
        let Some(record) = self.peers.get_mut(&node) else { return };
        if record.lies.amount > 0.0 {
            *record = Record { lies: record.lies, touched: record.touched, ..Record::default() };
        } else {
            self.by_age.remove(&(record.touched, node));
            self.peers.remove(&node);
        }
    }

    /// Of a peer's draft, `right` tokens were right, and the next one was wrong or is not known.
    pub(crate) fn drafted(&mut self, node: NodeId, right: usize, wrong: bool, now: Millis) {
        let mut drafts = self.drafts(node, now);
        drafts.note(right, wrong);
        self.touch(node, now).drafts = Some((drafts, now));
    }

    /// How often a peer's drafts were right.
    pub(crate) fn drafts(&self, node: NodeId, now: Millis) -> draft::Record {
        let known = self.peers.get(&node).and_then(|record| record.drafts);
        known.filter(|(_, at)| now - *at < Millis(DRAFTS_MS)).map_or(draft::Record::SOUND, |(drafts, _)| drafts)
    }

    /// Whether it is worth asking the peer for a draft: not where those it gave were nearly always wrong.
    pub(crate) fn is_asked_for_drafts(&self, node: NodeId, now: Millis) -> bool {
        self.drafts(node, now).chance() >= POOR_DRAFTS && self.of(node, now).worth > 0.0
    }

    /// A prefill step of `tokens` took `micros`. Steps shorter than a block say more about overheads than about the rate; short
    /// ones weigh less than whole ones.
    pub(crate) fn prefilled(&mut self, tokens: usize, micros: u64) {
        if tokens < BLOCK_TOKENS {
            return;
        }
        let measured = micros.max(1) as f32 / 1_000.0 / tokens as f32;
        self.quickest_ms_per_token = Some(self.quickest_ms_per_token.map_or(measured, |known| known.min(measured)));
        let gain = GAIN * (tokens as f32 / PREFILL_STEP_TOKENS as f32).min(1.0);
        // Nothing makes a step seem much quicker than it can be done: then the node was slowed down before, and is no longer.
        let known = self.prefill_ms_per_token.filter(|known| measured * MUCH_QUICKER > *known);
        self.prefill_ms_per_token = Some(known.map_or(measured, |known| known + gain * (measured - known)));
    }

    /// How long this node computes a token of a prompt, in milliseconds. Its own speed does not change while it is idle: the last
    /// measurement counts, however old.
    pub(crate) fn prefill_ms_per_token(&self) -> Option<f32> {
        self.prefill_ms_per_token
    }

    /// How quickly it has ever computed one. A step that was slow may have been suspended, or in need of memory: what comes next may be
    /// as quick as before, and whoever would rather not compute must reckon with that.
    pub(crate) fn quickest_ms_per_token(&self) -> Option<f32> {
        self.quickest_ms_per_token
    }

    fn blame(&mut self, node: NodeId, amount: f32, now: Millis) {
        let record = self.touch(node, now);
        record.failures = Fading { amount: (record.failures.after(RECORD_HALF_LIFE_MS, now) + amount).min(WORST), at: now };
    }

    /// The record of a peer that there is news of; a full table forgets the one longest without.
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

/// What is left of one after `age`, when half is left after `half_life_ms`.
fn left(age: Millis, half_life_ms: f32) -> f32 {
    libm::exp2f(-(age.0 as f32) / half_life_ms)
}

impl Fading {
    fn after(&self, half_life_ms: f32, now: Millis) -> f32 {
        self.amount * left(now - self.at, half_life_ms)
    }
}

impl Rate {
    /// The value, drifted towards `prior` by its age: in the logarithm, so that neither a fast nor a slow peer's rate is dominated
    /// by the prior at once.
    fn towards(&self, prior: f32, now: Millis) -> f32 {
        if self.at >= now {
            return self.value;
        }
        prior * libm::powf(self.value.max(1e-3) / prior, left(now - self.at, RATE_HALF_LIFE_MS))
    }

    /// `known` with a new measurement. The older what is known, the more the new one weighs.
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
