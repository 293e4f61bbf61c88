//! When this node sends. Promises: the announcements of the whole swarm take at most 1/200 of the
//! air time; a change is sent within a quarter of a second unless the node has long been busy or
//! the swarm is large; no two nodes fall into step.
//!
//! The arithmetic. A multicast datagram of `n` bytes goes out at the lowest basic rate, 1 Mbit/s,
//! unacknowledged: `8 × (n + 64) + 1,000` microseconds, where 64 bytes are IP, UDP, MAC and LLC
//! headers, and 1,000 µs are preamble, mean back-off and the hop to the access point. `N` nodes
//! that announce every `T` take `N × air / T`; below 1/200 that means `T ≥ 200 × N × air`. With a
//! filter of two segments (up to 1,365 block planes) an announcement has 125 bytes and takes 2.5
//! ms: ten seconds suffice for 19 nodes, and 64 nodes announce every 32 seconds. Deltas have the
//! same budget again, which may be spent up to two minutes ahead, or further if a few deltas need
//! it. A node that has spent it still sends one delta per 250 ms times the nodes of the swarm.

use crate::id::Millis;
use crate::limits::{
    AIR_SHARE, ANNOUNCE_GAP_MS, ANSWER_DELAY_MS, ANSWER_DELAY_PER_NODE_MS, DELTA_BURST_BYTES,
    DELTA_BURST_MS, DELTA_DELAY_MS, DELTA_DELAY_PER_NODE_MS, DELTA_SPACING_MS,
    DELTA_SPACING_PER_NODE_MS, ECHO_MS, ECHOES, GREETING_GAP_MS, GREETINGS, LATE_ECHO_MS,
    LATE_ECHO_PER_NODE_MS, MAX_INTERVAL_MS, MIN_INTERVAL_MS,
};
use crate::splitmix::SplitMix64;

/// Input for random delays that keep the nodes of a swarm from sending at the same moment.
pub(super) struct Jitter<'a> {
    pub(super) dice: &'a mut SplitMix64,
    /// Nodes of the swarm, this one included.
    pub(super) nodes: usize,
}

/// Microseconds of air time of a datagram of `bytes`.
fn air_us(bytes: usize) -> u64 {
    8 * (bytes as u64 + 64) + 1_000
}

/// Milliseconds over which a datagram's air time is a node's fair share, in a swarm of `nodes`.
fn fair_ms(nodes: usize, bytes: usize) -> u64 {
    AIR_SHARE * nodes as u64 * air_us(bytes) / 1_000
}

/// Milliseconds of its share of the air time that a node may spend ahead, in a swarm of `nodes`.
fn burst_ms(nodes: usize) -> u64 {
    DELTA_BURST_MS.max(fair_ms(nodes, DELTA_BURST_BYTES))
}

/// The timers of one node.
pub(super) struct Schedule {
    interval_ms: u32,
    announce_at: Millis,
    announced_at: Option<Millis>,
    /// When an announcement repeats the state after a delta, so that peers that lost the
    /// delta notice.
    echo_at: Option<Millis>,
    echoes: u32,
    /// Announcements of a new boot still to come soon, for peers that missed the first. Answers to
    /// others do not count: a newcomer sends those within its first few seconds.
    greetings: u32,
    /// The earliest announcement that counts as the next greeting.
    greet_at: Millis,
    /// Whether a greeting is due then, because the next regular announcement is far off.
    greets: bool,
    changed_at: Option<Millis>,
    change_sent_at: Option<Millis>,
    /// When the air time used for deltas will have been earned.
    earned_at: Millis,
}

impl Schedule {
    /// The first announcement is due at once.
    pub(super) fn new(interval_ms: u32) -> Schedule {
        Schedule {
            interval_ms: interval_ms.clamp(MIN_INTERVAL_MS, MAX_INTERVAL_MS),
            announce_at: Millis(0),
            announced_at: None,
            echo_at: None,
            echoes: 0,
            greetings: 1 + GREETINGS,
            greet_at: Millis(0),
            greets: false,
            changed_at: None,
            change_sent_at: None,
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
        let greeting = self.greets.then_some(self.greet_at);
        [self.echo_at, greeting].into_iter().flatten().fold(self.announce_at, Millis::min)
    }

    /// An announcement of `bytes` went out that promises the next within `interval_ms`: that is
    /// scheduled after 0.8 to 1.0 of it. An announcement that only echoes a delta is paid for from
    /// the budget of deltas.
    pub(super) fn announced(
        &mut self,
        nodes: usize,
        bytes: usize,
        interval_ms: u32,
        dice: &mut SplitMix64,
        now: Millis,
    ) {
        if self.announce_at > now && self.echo_at.is_some_and(|at| at <= now) {
            self.earned_at = self.earned_at.max(now) + Millis(fair_ms(nodes, bytes));
        }
        let interval = u64::from(interval_ms);
        self.announced_at = Some(now);
        self.plan_echo(self.echoes.saturating_sub(1), nodes, dice, now);
        let early = dice.below(interval / 5 + 1);
        self.announce_at = now + Millis(interval - early);
        if now >= self.greet_at {
            self.greetings = self.greetings.saturating_sub(1);
            self.greet_at = now + Millis(GREETING_GAP_MS - early % (GREETING_GAP_MS / 5 + 1));
        }
        self.greets = self.greetings > 0 && interval > GREETING_GAP_MS;
    }

    /// A peer should hear of this node soon: the next announcement comes within 0.2 s, or later in
    /// a swarm of many `nodes` to leave air time to others, and at the earliest a second after the
    /// last one.
    pub(super) fn answer(&mut self, nodes: usize, dice: &mut SplitMix64, now: Millis) {
        let earliest =
            self.announced_at.map_or(now, |last| now.max(last + Millis(ANNOUNCE_GAP_MS)));
        let delay = ANSWER_DELAY_MS.max(ANSWER_DELAY_PER_NODE_MS * nodes as u64);
        self.announce_at = self.announce_at.min(earliest + Millis(dice.below(delay + 1)));
    }

    /// Everybody should hear of this node now, and peers that miss it soon after.
    pub(super) fn announce_now(&mut self, now: Millis) {
        (self.greetings, self.greet_at) = (1 + GREETINGS, now);
        self.announce_at = self.announce_at.min(now);
    }

    /// The filter changed.
    pub(super) fn changed(&mut self, now: Millis) {
        self.changed_at.get_or_insert(now);
    }

    /// When changes are due to be sent, if there are any.
    pub(super) fn change_due_at(&self, nodes: usize) -> Option<Millis> {
        let spacing = DELTA_SPACING_MS.max(DELTA_SPACING_PER_NODE_MS * nodes as u64);
        let delay = DELTA_DELAY_MS.max(DELTA_DELAY_PER_NODE_MS * nodes as u64);
        let earned = self.earned_at - Millis(burst_ms(nodes));
        let allowed =
            self.change_sent_at.map_or(Millis(0), |last| earned.min(last + Millis(spacing)));
        self.changed_at.map(|at| allowed.max(at + Millis(delay)))
    }

    /// A datagram of `bytes` with a change was sent.
    pub(super) fn change_sent(&mut self, nodes: usize, bytes: usize, now: Millis) {
        self.change_sent_at = Some(now);
        self.earned_at = self.earned_at.max(now) + Millis(fair_ms(nodes, bytes));
    }

    /// All changes are sent. With air time left, announcements echo the new state twice; without
    /// it, once and later. A further delta replaces these echoes.
    pub(super) fn echo(&mut self, nodes: usize, dice: &mut SplitMix64, now: Millis) {
        self.plan_echo(ECHOES, nodes, dice, now);
    }

    fn plan_echo(&mut self, echoes: u32, nodes: usize, dice: &mut SplitMix64, now: Millis) {
        let there_is_air = self.earned_at <= now + Millis(burst_ms(nodes) / 2);
        let late = LATE_ECHO_MS.max(LATE_ECHO_PER_NODE_MS * nodes as u64);
        let (echoes, wait) = if there_is_air { (echoes, ECHO_MS) } else { (echoes.min(1), late) };
        self.echoes = echoes;
        self.echo_at = (echoes > 0).then(|| now + Millis(wait + dice.below(wait / 2 + 1)));
    }

    /// There is nothing more to send.
    pub(super) fn all_sent(&mut self) {
        self.changed_at = None;
    }

    /// The next moment at which something is due.
    pub(super) fn deadline(&self, nodes: usize) -> Millis {
        let announcement = self.next_announcement();
        self.change_due_at(nodes).map_or(announcement, |at| at.min(announcement))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that lost the last delta of a busy node would otherwise wait for minutes.
    #[test]
    fn the_last_delta_is_echoed_once_where_all_air_is_used_up() {
        let (mut schedule, mut dice, now) = (Schedule::new(10_000), SplitMix64(1), Millis(700_000));
        schedule.announced(1_000, 166, 600_000, &mut dice, now);
        (0..10).for_each(|_| schedule.change_sent(1_000, 1_200, now));
        schedule.echo(1_000, &mut dice, now);
        let at = schedule.echo_at.expect("once");
        assert!((now + Millis(10_000)..=now + Millis(15_000)).contains(&at), "{at:?}");
        schedule.announced(1_000, 166, 600_000, &mut dice, at);
        assert_eq!(schedule.echo_at, None);
    }

    #[test]
    fn a_new_start_announces_itself_four_times_within_a_minute_however_large_the_swarm() {
        let (mut schedule, mut dice, mut now) = (Schedule::new(10_000), SplitMix64(1), Millis(0));
        let mut times = Vec::new();
        for _ in 0..5 {
            times.push(now.0);
            schedule.announced(1_000, 166, 600_000, &mut dice, now);
            // Nodes that hear it announce themselves and are answered: that is no greeting.
            if times.len() == 1 {
                for answer in [1_000, 2_000, 3_000, 4_000] {
                    schedule.announced(1_000, 166, 600_000, &mut dice, Millis(answer));
                }
            }
            now = schedule.next_announcement();
        }
        assert!(
            times[3] <= 45_000 && times[1] >= 12_000 && times[4] - times[3] >= 480_000,
            "{times:?}"
        );
    }

    /// Only the last of a row of deltas is echoed. That echo must not wait until the budget has
    /// also earned the echoes that were replaced.
    #[test]
    fn an_echo_that_another_delta_replaces_costs_nothing() {
        let (mut schedule, mut dice, mut now) = (Schedule::new(10_000), SplitMix64(1), Millis(0));
        schedule.announced(6, 166, 10_000, &mut dice, now);
        for _ in 0..10 {
            now = now + Millis(650);
            schedule.change_sent(6, 290, now);
            schedule.echo(6, &mut dice, now);
        }
        let earned_at = schedule.earned_at;
        for _ in 0..ECHOES {
            now = schedule.echo_at.expect("there is air for it");
            assert!(now < schedule.announce_at, "it comes before the next regular announcement");
            schedule.announced(6, 166, 10_000, &mut dice, now);
        }
        assert_eq!(schedule.echo_at, None);
        assert_eq!(
            schedule.earned_at,
            earned_at + Millis(u64::from(ECHOES) * fair_ms(6, 166)),
            "those that went out are paid for"
        );
    }
}
