//! The catalog: which peer holds which block, as far as can be known without asking.
//!
//! Every node keeps a Bloom filter of the block planes that it holds, and multicasts it: an announcement at every
//! interval says who the node is and gives the digest of each segment of its filter; a change goes out within a quarter of a
//! second as a delta, or as a whole segment where that is smaller. Each of these carries all digests, so that a node that
//! missed one knows with the next which segments are wrong, and pulls those over TCP. A node that hears a newcomer
//! announces itself at once; a node that was silent for three of its intervals, or said goodbye, is forgotten.
//!
//! What the catalog says is a hint: a peer that seems to hold a block may turn out not to, and the other way round. What it
//! promises: no input makes it panic or grow, and once the network is quiet every directory equals the filters it describes.
//!
//! [`Catalog`] is a state machine without sockets or clock. Hand it what comes in ([`Catalog::handle`],
//! [`Catalog::apply_segment`]) and what changes ([`Catalog::insert`], [`Catalog::remove`]); after each of these, and at
//! [`Catalog::deadline`], take what goes out ([`Catalog::poll_datagram`], [`Catalog::poll_pull`]) until there is no more. The
//! same datagrams serve static peers: send each also to their addresses.

use core::net::SocketAddr;

use crate::id::{BlockKey, BootId, Epoch, Fingerprint, Millis, NodeId, SwarmTag};
use crate::kv::Plane;
use crate::limits::{FILTER_SEGMENT_BYTES, MAX_FILTER_SEGMENTS};

mod directory;
mod fault;
pub mod filter;
mod own;
mod pace;
mod peer;
mod stats;
#[cfg(test)]
mod tests;
mod view;
pub mod wire;

pub use fault::CatalogFault;
pub use peer::Peer;
pub use stats::CatalogStats;
pub use wire::Datagram;

use directory::{Directory, Heard};
use filter::Geometry;
use own::{Own, Step};
use pace::{Dice, Pace};
use wire::{Announce, Delta, Header, Message, Segment};

/// What a catalog is made for.
#[derive(Clone, Debug)]
pub struct CatalogConfig {
    /// This node.
    pub node: NodeId,
    /// This start of it; never used before.
    pub boot: BootId,
    /// The swarm; datagrams of others are dropped.
    pub swarm: SwarmTag,
    /// What must be equal for blocks to be shared.
    pub fingerprint: Fingerprint,
    /// The epoch, as persisted.
    pub epoch: Epoch,
    /// Where this node serves blocks and segments; not 0.
    pub tcp_port: u16,
    /// Block planes that this node may hold: the size of its filter follows from it.
    pub capacity: usize,
    /// Milliseconds between announcements while the swarm is small: `limits::ANNOUNCE_INTERVAL_MS`, or less in tests.
    pub interval_ms: u32,
    /// Seed of the random delays; any number, different on each node.
    pub seed: u64,
}

/// What the node should know of a datagram that was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A peer that was not known.
    Joined(NodeId),
    /// A known peer started anew: what it held is gone, and so are the connections to it.
    Restarted(NodeId),
    /// A peer said goodbye, and is forgotten.
    Left(NodeId),
    /// The swarm is at a newer epoch than this node: persist it, then call [`Catalog::set_epoch`].
    EpochSeen(Epoch),
    /// Another machine, at this address, uses this node's id (a copied SD card?): warn the user; one of them needs a new id.
    DuplicateIdentity(SocketAddr),
}

/// Of what use a peer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Its blocks can be used here.
    Shares,
    /// It runs another model, format or numerics: never asked.
    OtherModel,
    /// It is at another epoch than this node: not asked until they agree.
    OtherEpoch,
}

/// Repair wanted: ask the peer for these segments over TCP, and hand each that comes to [`Catalog::apply_segment`]. Failures
/// need no report: unless the segments came, the pull is offered again later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pull {
    /// The peer.
    pub node: NodeId,
    /// The start of it that the segments belong to.
    pub boot: BootId,
    /// Where it serves.
    pub addr: SocketAddr,
    /// Indices of the segments, ascending; at least one.
    pub segments: heapless::Vec<u8, MAX_FILTER_SEGMENTS>,
}

/// The state machine; see the module's head.
pub struct Catalog {
    config: CatalogConfig,
    load: u8,
    counter: u64,
    own: Own,
    directory: Directory,
    pace: Pace,
    dice: Dice,
    stats: CatalogStats,
}

impl Catalog {
    /// An empty catalog, whose first announcement is due at once. All memory that it will ever use is taken now: 1 MiB for the
    /// peers' filters, and up to 164 kB for the own one.
    pub fn new(config: CatalogConfig) -> Catalog {
        Catalog {
            load: 0,
            counter: 0,
            own: Own::new(Geometry::for_capacity(config.capacity)),
            directory: Directory::new(),
            pace: Pace::new(config.interval_ms),
            dice: Dice(config.seed),
            stats: CatalogStats::default(),
            config,
        }
    }

    /// This node now holds `plane` of `key`. To be called once for each plane that it comes to hold.
    pub fn insert(&mut self, key: &BlockKey, plane: Plane, now: Millis) {
        if self.own.filter.insert(key, plane) {
            self.pace.changed(now);
        }
    }

    /// This node no longer holds `plane` of `key`, for which `insert` was called.
    pub fn remove(&mut self, key: &BlockKey, plane: Plane, now: Millis) {
        match self.own.filter.remove(key, plane) {
            Some(true) => self.pace.changed(now),
            Some(false) => {}
            None => self.stats.removed_absent += 1,
        }
    }

    /// How busy this node is, in percent: told with the next announcement.
    pub fn set_load(&mut self, percent: u8) {
        self.load = percent.min(100);
    }

    /// This node is at `epoch` from now on, and says so at once. What peers of other epochs told is no longer believed.
    pub fn set_epoch(&mut self, epoch: Epoch, now: Millis) {
        if epoch != self.config.epoch {
            self.config.epoch = epoch;
            self.pace.announce_now(now);
        }
    }

    /// Takes in a datagram that came from `from`. A fault is counted, and changes nothing else.
    pub fn handle(&mut self, from: SocketAddr, datagram: &[u8], now: Millis) -> Result<Option<Event>, CatalogFault> {
        self.stats.bytes_heard += datagram.len() as u64;
        self.expire(now);
        self.hear(from, datagram, now).inspect_err(|&fault| self.stats.count(fault))
    }

    fn hear(&mut self, from: SocketAddr, datagram: &[u8], now: Millis) -> Result<Option<Event>, CatalogFault> {
        let (header, message) = wire::open(datagram, self.config.swarm)?;
        if header.node == self.config.node {
            return Ok(self.hear_own_id(from, &header, &message));
        }
        let heard = self.directory.hear(&header, &message, from, &mut self.dice, now)?;
        let event = match heard {
            Heard::Joined { evicted } => {
                self.stats.joined += 1;
                self.stats.evicted += u64::from(evicted);
                Some(Event::Joined(header.node))
            }
            Heard::Restarted => {
                self.stats.restarted += 1;
                Some(Event::Restarted(header.node))
            }
            Heard::Left => {
                self.stats.left += 1;
                return Ok(Some(Event::Left(header.node)));
            }
            Heard::Overtaken => {
                self.stats.overtaken += 1;
                return Ok(None);
            }
            Heard::Stranger => {
                self.stats.strangers += 1;
                None
            }
            Heard::Full => {
                self.stats.table_full += 1;
                None
            }
            Heard::Known => None,
        };
        if !matches!(heard, Heard::Stranger | Heard::Full) {
            match message {
                Message::Announce(_) => self.stats.announcements_heard += 1,
                Message::Delta(_) => self.stats.deltas_heard += 1,
                Message::Segment(_) => self.stats.segments_heard += 1,
            }
        }
        let behind = header.epoch < self.config.epoch;
        self.stats.older_epoch += u64::from(behind);
        if behind || event.is_some() {
            self.pace.answer(&mut self.dice, now);
        }
        if header.epoch > self.config.epoch {
            self.stats.newer_epoch += 1;
            return Ok(Some(Event::EpochSeen(header.epoch)));
        }
        Ok(event)
    }

    fn hear_own_id(&mut self, from: SocketAddr, header: &Header, message: &Message<'_>) -> Option<Event> {
        if header.boot == self.config.boot {
            self.stats.echoes += 1;
            return None;
        }
        self.stats.duplicate_identity += 1;
        matches!(message, Message::Announce(_)).then_some(Event::DuplicateIdentity(from))
    }

    /// Takes in a segment that `boot` of `node` served over TCP: its bytes as they were at `generation`.
    pub fn apply_segment(
        &mut self,
        node: NodeId,
        boot: BootId,
        generation: u64,
        index: usize,
        bytes: &[u8],
        now: Millis,
    ) -> Result<(), CatalogFault> {
        let peer = self.directory.get_mut(node).filter(|peer| peer.boot == boot);
        let peer = peer.filter(|peer| index < peer.segments() && bytes.len() == FILTER_SEGMENT_BYTES);
        let result =
            peer.ok_or(CatalogFault::NotAsked).and_then(|peer| peer.repair(generation, index, bytes, &mut self.dice, now));
        match result {
            Ok(()) => self.stats.segments_pulled += 1,
            Err(_) => self.stats.pull_faults += 1,
        }
        result
    }

    /// A segment of this node's filter as peers were told, with its generation: what is served over TCP.
    pub fn own_segment(&self, index: usize) -> Option<(u64, &[u8])> {
        self.own.segment(index).map(|bytes| (self.own.generation(), bytes))
    }

    /// The generation of this node's filter, as peers were told.
    pub fn generation(&self) -> u64 {
        self.own.generation()
    }

    /// Whether peers were told of every change.
    pub fn is_told(&self) -> bool {
        self.own.is_told()
    }

    /// The next datagram to multicast, if one is due.
    pub fn poll_datagram(&mut self, now: Millis) -> Option<Datagram> {
        self.expire(now);
        if self.pace.announce_due(now) {
            return Some(self.announce(now));
        }
        let due = self.pace.tell_at(self.nodes()).is_some_and(|at| at <= now);
        if !due {
            return None;
        }
        let Some(step) = self.own.step() else {
            self.pace.all_told();
            return None;
        };
        let header = self.next_header();
        let (generation, digests) = (self.own.generation(), self.own.digests());
        let datagram = match step {
            Step::Delta => {
                self.stats.deltas_sent += 1;
                wire::seal(&header, &Message::Delta(Delta { generation, digests, changes: self.own.changes() }))
            }
            Step::Segment(index) => {
                self.stats.segments_sent += 1;
                let bytes = self.own.segment(index).expect("a step names a segment of the filter");
                wire::seal(&header, &Message::Segment(Segment { generation, digests, index: index as u8, bytes }))
            }
        };
        self.stats.bytes_sent += datagram.len() as u64;
        self.pace.told(self.nodes(), datagram.len(), now);
        if self.own.is_told() {
            self.pace.all_told();
        }
        Some(datagram)
    }

    /// The datagram by which a node that stops says goodbye. Peers forget it at once.
    pub fn goodbye(&mut self) -> Datagram {
        self.seal_announcement(0)
    }

    /// The next filter repair to start, if one is due: at most one a second from each peer, less often while they fail.
    pub fn poll_pull(&mut self, now: Millis) -> Option<Pull> {
        self.expire(now);
        let (config, dice) = (&self.config, &mut self.dice);
        let due = |peer: &&mut Peer| standing(config, peer) == Standing::Shares && peer.pull_at().is_some_and(|at| at <= now);
        let peer = self.directory.iter_mut().find(due)?;
        self.stats.pulls += 1;
        Some(Pull { node: peer.node, boot: peer.boot, addr: peer.addr, segments: peer.start_pull(dice, now) })
    }

    /// When to poll again, even if nothing comes in.
    pub fn deadline(&self) -> Option<Millis> {
        let shares = |peer: &&Peer| self.standing(peer) == Standing::Shares;
        let pulls = self.directory.iter().filter(shares).filter_map(Peer::pull_at);
        let expiries = self.directory.iter().map(Peer::expires_at);
        pulls.chain(expiries).chain([self.pace.deadline(self.nodes())]).min()
    }

    /// The peers that seem to hold `plane` of `key` and whose blocks can be used here.
    pub fn holders(&self, key: &BlockKey, plane: Plane) -> impl Iterator<Item = NodeId> + '_ {
        let key = *key;
        let shares = |peer: &&Peer| self.standing(peer) == Standing::Shares;
        self.directory.iter().filter(shares).filter(move |peer| peer.holds(&key, plane)).map(|peer| peer.node)
    }

    /// Whether any peer seems to hold `plane` of `key`, so that dropping it here loses little.
    pub fn held_by_any(&self, key: &BlockKey, plane: Plane) -> bool {
        self.holders(key, plane).next().is_some()
    }

    /// What is known of `node`.
    pub fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.directory.get(node)
    }

    /// All peers that were heard of lately, those included whose blocks are of no use here.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.directory.iter()
    }

    /// Of what use `peer` is to this node.
    pub fn standing(&self, peer: &Peer) -> Standing {
        standing(&self.config, peer)
    }

    /// This node's epoch.
    pub fn epoch(&self) -> Epoch {
        self.config.epoch
    }

    /// What was counted.
    pub fn stats(&self) -> &CatalogStats {
        &self.stats
    }

    /// Nodes of the swarm, this one included.
    fn nodes(&self) -> usize {
        self.directory.len() + 1
    }

    fn expire(&mut self, now: Millis) {
        self.stats.forgotten += self.directory.expire(now);
    }

    fn announce(&mut self, now: Millis) -> Datagram {
        let bytes = wire::longest_announcement(self.own.filter.geometry().segments());
        let interval_ms = self.pace.interval_ms(self.nodes(), bytes);
        let datagram = self.seal_announcement(interval_ms);
        self.pace.announced(interval_ms, &mut self.dice, now);
        datagram
    }

    fn seal_announcement(&mut self, interval_ms: u32) -> Datagram {
        let header = self.next_header();
        let announce = Announce {
            fingerprint: self.config.fingerprint,
            tcp_port: self.config.tcp_port,
            load: self.load,
            interval_ms,
            probes: self.own.filter.geometry().probes(),
            generation: self.own.generation(),
            digests: self.own.digests(),
        };
        let datagram = wire::seal(&header, &Message::Announce(announce));
        self.stats.announcements_sent += 1;
        self.stats.bytes_sent += datagram.len() as u64;
        datagram
    }

    fn next_header(&mut self) -> Header {
        self.counter += 1;
        let CatalogConfig { swarm, node, boot, epoch, .. } = self.config;
        Header { swarm, node, boot, counter: self.counter, epoch }
    }
}

fn standing(config: &CatalogConfig, peer: &Peer) -> Standing {
    if peer.fingerprint != config.fingerprint {
        Standing::OtherModel
    } else if peer.epoch != config.epoch {
        Standing::OtherEpoch
    } else {
        Standing::Shares
    }
}
