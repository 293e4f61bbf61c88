//! One peer, as this node knows it.

use core::net::SocketAddr;

use super::CatalogFault;
use super::delivery::Deliveries;
use super::filter::Geometry;
use super::peer_filter::PeerFilter;
use super::schedule::Jitter;
use super::wire::{Announce, Header, Message};
use crate::id::{BlockKey, BootId, EpochState, Fingerprint, Millis, NodeId, NodeName, SwarmTag};
use crate::kv::Plane;
use crate::limits::{
    LIFETIME_INTERVALS, MAX_FILTER_SEGMENTS, MAX_INTERVAL_MS, MAX_PULL_GAP_MS, MIN_INTERVAL_MS,
    NEWCOMER_MS, PULL_DELAY_MS, PULL_DELAY_PER_NODE_MS, PULL_GAP_MS,
};
use crate::splitmix::SplitMix64;

/// What this node knows of a peer.
pub struct Peer {
    /// The peer.
    pub(crate) node: NodeId,
    /// Its current boot.
    pub(crate) boot: BootId,
    /// Where it serves blocks and segments over TCP.
    pub(crate) addr: SocketAddr,
    /// The resets that it has obeyed, as of the last datagram.
    pub(crate) epochs: EpochState,
    /// The swarm whose key it uses: the current one if it has that, otherwise the former one under
    /// which it was heard.
    pub(crate) swarm: SwarmTag,
    /// Its name for people.
    pub(crate) name: NodeName,
    /// Its blocks can be used only if this equals ours.
    pub(crate) fingerprint: Fingerprint,
    /// Its filter's generation, as of the last datagram.
    pub(crate) generation: u64,
    /// How busy it is, in percent, as of the last announcement.
    pub(crate) load: u8,
    /// The longest time to its next announcement, as it promised, clamped.
    pub(crate) interval_ms: u32,
    /// When its last datagram came.
    pub(crate) last_heard: Millis,
    /// How it is heard.
    pub(crate) deliveries: Deliveries,
    /// Datagrams used since its boot became known.
    pub(crate) datagrams: u64,
    /// Datagrams of this boot that never arrived or arrived too late to be used: packet loss.
    pub(crate) lost: u64,
    counter: u64,
    /// When this boot was first heard.
    since: Option<Millis>,
    /// Whether it has connected to this node, and so knows of it.
    pub(super) called: bool,
    /// When it was last heard under the current key.
    current_heard: Option<Millis>,
    pub(super) filter: PeerFilter,
    repair: Repair,
}

/// When the next pull is due, if one is needed.
#[derive(Clone, Copy, Default)]
struct Repair {
    at: Option<Millis>,
    last: Option<Millis>,
    failures: u32,
}

impl Peer {
    /// A new peer from its announcement, which must be passed to `hear` next.
    pub(super) fn new(
        header: &Header,
        announce: &Announce<'_>,
        from: SocketAddr,
        geometry: Geometry,
    ) -> Peer {
        Peer {
            node: header.node,
            boot: header.boot,
            addr: from,
            epochs: header.epochs,
            swarm: header.swarm,
            name: announce.name,
            fingerprint: announce.fingerprint,
            generation: 0,
            load: 0,
            interval_ms: 0,
            last_heard: Millis(0),
            deliveries: Deliveries::default(),
            datagrams: 0,
            lost: 0,
            counter: header.counter.saturating_sub(1),
            since: None,
            called: false,
            current_heard: None,
            filter: PeerFilter::new(geometry),
            repair: Repair::default(),
        }
    }

    /// Segments of its filter.
    pub(crate) fn segments(&self) -> usize {
        self.filter.geometry().segments()
    }

    /// Segments of its filter that are known to be wrong here and await repair.
    pub(crate) fn stale_segments(&self) -> usize {
        self.filter.stale().count()
    }

    /// Whether it seems to hold `plane` of `key`.
    pub(super) fn holds(&self, key: &BlockKey, plane: Plane) -> bool {
        self.filter.contains(key, plane)
    }

    /// Notes which key it uses, from new datagrams and from copies alike. A peer that uses a former
    /// key as well counts as using the current one, until it has not been heard under the current
    /// one for the lifetime of a silent peer.
    pub(super) fn note_key(&mut self, header: &Header, current: SwarmTag, now: Millis) {
        if header.counter < self.counter {
            return;
        }
        let lifetime = Millis(LIFETIME_INTERVALS * u64::from(self.interval_ms));
        if header.swarm == current {
            self.current_heard = Some(now);
        }
        let speaks_it = self.current_heard.is_some_and(|at| now <= at + lifetime);
        self.swarm = if speaks_it { current } else { header.swarm };
    }

    /// Whether a datagram of this boot is a duplicate or was overtaken by a later one.
    pub(super) fn is_overtaken(&self, header: &Header) -> bool {
        header.counter <= self.counter
    }

    /// When it will be forgotten unless it is heard again.
    pub(super) fn expires_at(&self) -> Millis {
        self.last_heard + Millis(LIFETIME_INTERVALS * u64::from(self.interval_ms))
    }

    /// Whether an announcement is overdue.
    pub(super) fn is_late(&self, now: Millis) -> bool {
        now - self.last_heard > Millis(u64::from(self.interval_ms) * 3 / 2)
    }

    /// Whether it started recently and may not know of this node.
    pub(super) fn may_miss_us(&self, now: Millis) -> bool {
        !self.called && self.since.is_some_and(|since| now < since + Millis(NEWCOMER_MS))
    }

    /// Takes in a datagram of the current boot that is newer than all before. A faulty one
    /// changes nothing.
    pub(super) fn handle(
        &mut self,
        header: &Header,
        message: &Message<'_>,
        jitter: Jitter<'_>,
        now: Millis,
    ) -> Result<(), CatalogFault> {
        let (generation, digests) = match message {
            Message::Announce(announce) => (announce.generation, announce.digests),
            Message::Delta(delta) => (delta.generation, delta.digests),
            Message::Segment(segment) => (segment.generation, segment.digests),
            Message::Reset | Message::Warning(_) => {
                self.count(header);
                return Ok(());
            }
        };
        let geometry = Geometry::checked(digests.segments(), self.filter.geometry().probes());
        if geometry != Some(self.filter.geometry()) || generation < self.generation {
            return Err(CatalogFault::Contradiction);
        }
        if let Message::Segment(segment) = message
            && digests.iter().nth(usize::from(segment.index))
                != Some(super::filter::digest(segment.bytes))
        {
            return Err(CatalogFault::Digest);
        }
        if header.epochs.epoch != self.epochs.epoch {
            self.filter.clear();
            self.repair = Repair::default();
        }
        self.epochs = header.epochs;
        self.count(header);
        self.generation = generation;
        self.last_heard = now;
        self.since.get_or_insert(now);
        match message {
            Message::Announce(announce) => {
                self.addr.set_port(announce.tcp_port);
                self.load = announce.load.min(100);
                self.name = announce.name;
                self.interval_ms = announce.interval_ms.clamp(MIN_INTERVAL_MS, MAX_INTERVAL_MS);
            }
            Message::Delta(delta) => self.filter.change(generation, delta.changes.iter()),
            Message::Segment(_) | Message::Reset | Message::Warning(_) => {}
        }
        self.filter.promise(generation, digests);
        if let Message::Segment(segment) = message {
            // A segment pulled meanwhile may be newer: then this one is useless, but no fault.
            let _ = self.filter.replace(generation, usize::from(segment.index), segment.bytes);
        }
        self.plan_repair(jitter, now);
        Ok(())
    }

    fn count(&mut self, header: &Header) {
        self.lost = self.lost.saturating_add(header.counter.saturating_sub(self.counter + 1));
        self.datagrams += 1;
        self.counter = header.counter;
    }

    /// Takes in a segment pulled over TCP.
    pub(super) fn repair(
        &mut self,
        generation: u64,
        index: usize,
        bytes: &[u8],
        jitter: Jitter<'_>,
        now: Millis,
    ) -> Result<(), CatalogFault> {
        let result = self.filter.replace(generation, index, bytes);
        self.repair.failures = if result.is_ok() { 0 } else { self.repair.failures };
        self.plan_repair(jitter, now);
        result
    }

    /// When a pull is due, if one is needed.
    pub(super) fn pull_at(&self) -> Option<Millis> {
        self.repair.at
    }

    /// Makes a planned pull due now: a connection to the peer may be open.
    pub(super) fn repair_now(&mut self, now: Millis) {
        self.repair.at = self.repair.at.map(|at| at.min(now));
    }

    /// Notes that a pull starts now and schedules the next in case it fails. Returns the segments
    /// to ask for.
    pub(super) fn start_pull(
        &mut self,
        dice: &mut SplitMix64,
        now: Millis,
    ) -> heapless::Vec<u8, MAX_FILTER_SEGMENTS> {
        let gap = PULL_GAP_MS
            .checked_shl(self.repair.failures)
            .unwrap_or(MAX_PULL_GAP_MS)
            .min(MAX_PULL_GAP_MS);
        self.repair.at = Some(now + Millis(gap + dice.below(gap / 4 + 1)));
        self.repair.last = Some(now);
        self.repair.failures = (self.repair.failures + 1).min(u32::BITS - 1);
        self.filter.stale().map(|index| index as u8).collect()
    }

    /// Schedules a pull if one is needed and none is scheduled. Other nodes missed the same
    /// datagram, so the pulls of all are spread over a time that grows with the size of the swarm.
    /// Only few nodes need to pull from a new peer.
    fn plan_repair(&mut self, jitter: Jitter<'_>, now: Millis) {
        if self.filter.stale().next().is_none() {
            self.repair = Repair { last: self.repair.last, ..Repair::default() };
        } else if self.repair.at.is_none() {
            let earliest = self.repair.last.map_or(now, |last| now.max(last + Millis(PULL_GAP_MS)));
            let others =
                if self.datagrams > 1 { PULL_DELAY_PER_NODE_MS * jitter.nodes as u64 } else { 0 };
            self.repair.at =
                Some(earliest + Millis(jitter.dice.below(PULL_DELAY_MS.max(others) + 1)));
        }
    }
}
