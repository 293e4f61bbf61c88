//! When this node speaks. What it promises: the swarm's announcements together take at most 1/200 of the air, a change is
//! told within a quarter of a second unless the node has long been busy, and no two nodes fall into step.
//!
//! The arithmetic. A multicast datagram of `n` bytes goes out at the lowest basic rate, 1 Mbit/s, unacknowledged:
//! `8 × (n + 64) + 1,000` microseconds, where 64 bytes are IP, UDP, MAC and LLC headers, and 1,000 µs are preamble, mean
//! back-off and the way to the access point. `N` nodes that announce every `T` take `N × air / T`; below 1/200 that is
//! `T ≥ 200 × N × air`. With a filter of two segments (up to 1,365 block planes) an announcement has 124 bytes and takes
//! 2.5 ms: ten seconds do for 19 nodes, and 64 nodes announce every 32 seconds. Deltas earn as much again, to be spent up to
//! two minutes ahead; a node that has spent it still sends one delta for each 250 ms and node of the swarm.

use crate::id::Millis;
use crate::limits::{
    AIR_SHARE, ANNOUNCE_GAP_MS, ANSWER_DELAY_MS, DELTA_BURST_MS, DELTA_DELAY_MS, DELTA_SPACING_MS, DELTA_SPACING_PER_NODE_MS,
    ECHO_MS, ECHOES, MAX_INTERVAL_MS, MIN_INTERVAL_MS,
};

/// Seeded randomness for delays (SplitMix64, Steele et al., OOPSLA 2014). Not for secrets.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// A number below `bound` (which is at least 1).
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What a delay is drawn from that must not make a swarm speak in one voice.
pub(super) struct Crowd<'a> {
    pub(super) dice: &'a mut Dice,
    /// Nodes of the swarm, this one included.
    pub(super) nodes: usize,
}

/// Microseconds that a datagram of `bytes` keeps the air busy.
fn air_us(bytes: usize) -> u64 {
    8 * (bytes as u64 + 64) + 1_000
}

/// Milliseconds over which a datagram's air time is a node's fair share, in a swarm of `nodes`.
fn fair_ms(nodes: usize, bytes: usize) -> u64 {
    AIR_SHARE * nodes as u64 * air_us(bytes) / 1_000
}

/// The timers of one node.
pub(super) struct Pace {
    interval_ms: u32,
    announce_at: Millis,
    announced_at: Option<Millis>,
    /// When a change that was told is told of again, by an announcement: whoever has lost the delta learns that it has.
    echo_at: Option<Millis>,
    echoes: u32,
    changed_at: Option<Millis>,
    told_at: Option<Millis>,
    /// When the air time used for deltas will have been earned.
    earned_at: Millis,
}

impl Pace {
    /// The first announcement is due at once.
    pub(super) fn new(interval_ms: u32) -> Pace {
        Pace {
            interval_ms: interval_ms.clamp(MIN_INTERVAL_MS, MAX_INTERVAL_MS),
            announce_at: Millis(0),
            announced_at: None,
            echo_at: None,
            echoes: 0,
            changed_at: None,
            told_at: None,
            earned_at: Millis(0),
        }
    }

    /// The longest time between two announcements of `bytes` each, in a swarm of `nodes`.
    pub(super) fn interval_ms(&self, nodes: usize, bytes: usize) -> u32 {
        fair_ms(nodes, bytes).clamp(u64::from(self.interval_ms), u64::from(MAX_INTERVAL_MS)) as u32
    }

    pub(super) fn announce_due(&self, now: Millis) -> bool {
        now >= self.next_announcement()
    }

    fn next_announcement(&self) -> Millis {
        self.echo_at.map_or(self.announce_at, |at| at.min(self.announce_at))
    }

    /// An announcement went out that promises the next within `interval_ms`: it comes after 0.8 to 1.0 of that.
    pub(super) fn announced(&mut self, interval_ms: u32, dice: &mut Dice, now: Millis) {
        let interval = u64::from(interval_ms);
        self.announced_at = Some(now);
        self.echoes = self.echoes.saturating_sub(1);
        self.echo_at = (self.echoes > 0).then(|| now + Millis(ECHO_MS + dice.below(ECHO_MS / 2 + 1)));
        self.announce_at = now + Millis(interval - dice.below(interval / 5 + 1));
    }

    /// Somebody should hear of this node soon: the next announcement comes within 0.2 s, but a second after the last one.
    pub(super) fn answer(&mut self, dice: &mut Dice, now: Millis) {
        let earliest = self.announced_at.map_or(now, |last| now.max(last + Millis(ANNOUNCE_GAP_MS)));
        self.announce_at = self.announce_at.min(earliest + Millis(dice.below(ANSWER_DELAY_MS + 1)));
    }

    /// Everybody should hear of this node now.
    pub(super) fn announce_now(&mut self, now: Millis) {
        self.announce_at = self.announce_at.min(now);
    }

    /// The filter changed.
    pub(super) fn changed(&mut self, now: Millis) {
        self.changed_at.get_or_insert(now);
    }

    /// When changes are to be told, if there are any.
    pub(super) fn tell_at(&self, nodes: usize) -> Option<Millis> {
        let spacing = DELTA_SPACING_MS.max(DELTA_SPACING_PER_NODE_MS * nodes as u64);
        let earned = self.earned_at - Millis(DELTA_BURST_MS);
        let allowed = self.told_at.map_or(Millis(0), |last| earned.min(last + Millis(spacing)));
        self.changed_at.map(|at| allowed.max(at + Millis(DELTA_DELAY_MS)))
    }

    /// A datagram of `bytes` told of a change.
    pub(super) fn told(&mut self, nodes: usize, bytes: usize, now: Millis) {
        self.told_at = Some(now);
        self.earned_at = self.earned_at.max(now) + Millis(fair_ms(nodes, bytes));
    }

    /// All changes are told; an announcement takes `bytes`. Where the node has not used up its air, it says twice more how its filter
    /// is now, unless it says so by another delta before.
    pub(super) fn echo(&mut self, nodes: usize, bytes: usize, dice: &mut Dice, now: Millis) {
        (self.echo_at, self.echoes) = (None, 0);
        if self.earned_at <= now + Millis(DELTA_BURST_MS / 2) {
            self.earned_at = self.earned_at.max(now) + Millis(u64::from(ECHOES) * fair_ms(nodes, bytes));
            self.echoes = ECHOES;
            self.echo_at = Some(now + Millis(ECHO_MS + dice.below(ECHO_MS / 2 + 1)));
        }
    }

    /// There is nothing more to tell.
    pub(super) fn all_told(&mut self) {
        self.changed_at = None;
    }

    /// The next moment at which something is due.
    pub(super) fn deadline(&self, nodes: usize) -> Millis {
        let announcement = self.next_announcement();
        self.tell_at(nodes).map_or(announcement, |at| at.min(announcement))
    }
}
