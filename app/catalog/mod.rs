//! The catalog: which peer holds which block, as far as can be known without asking.
//!
//! Every node keeps a Bloom filter of the block planes that it holds, and multicasts it: an announcement at every
//! interval says who the node is and gives the digest of each segment of its filter; a change goes out within a quarter of a
//! second as a delta, or as a whole segment where that is smaller. Each of these carries all digests, so that a node that
//! missed one knows with the next which segments are wrong, and pulls those over TCP. A node that hears a newcomer
//! announces itself at once; a node that was silent for three of its intervals, or said goodbye, is forgotten.
//!
//! Every datagram also says which resets its sender has obeyed. What a node of an older epoch says is answered with an
//! announcement, from which it learns of the newer one, and otherwise ignored. Every datagram is closed with a key derived from
//! the swarm's; without that key nothing is believed.
//!
//! What the catalog says is a hint: a peer that seems to hold a block may turn out not to, and the other way round. What it
//! promises: no input makes it panic or grow, and once the network is quiet every directory equals the filters it describes.
//!
//! [`Catalog`] is a state machine without sockets or clock. Hand it what comes in ([`Catalog::handle`],
//! [`Catalog::apply_segment`]) and what changes ([`Catalog::insert`], [`Catalog::remove`]); after each of these, and at
//! [`Catalog::deadline`], take what goes out ([`Catalog::poll_datagram`], [`Catalog::poll_pull`]) until there is no more. The
//! same datagrams serve static peers: send each also to their addresses.

use core::net::SocketAddr;

use crate::id::{BlockKey, BootId, Epoch, EpochState, Fingerprint, Millis, NodeId, SwarmTag};
use crate::kv::Plane;
use crate::limits::{FILTER_SEGMENT_BYTES, MAX_FILTER_SEGMENTS};

mod directory;
mod fault;
pub mod filter;
mod herald;
mod key;
mod order;
mod own;
mod pace;
mod peer;
mod speak;
mod stats;
#[cfg(test)]
mod tests;
mod view;
pub mod wire;

pub use fault::CatalogFault;
pub use herald::{Herald, HeraldConfig, HeraldNews};
pub use key::DatagramKey;
pub use peer::Peer;
pub use stats::CatalogStats;
pub use wire::Datagram;

use directory::{Directory, Heard};
use filter::Geometry;
use order::Order;
use own::Own;
use pace::{Crowd, Dice, Pace};
use wire::{Announce, Header, Message};

/// What a catalog is made for.
#[derive(Clone, Debug)]
pub struct CatalogConfig {
    /// This node.
    pub node: NodeId,
    /// This start of it; never used before.
    pub boot: BootId,
    /// The swarm; datagrams of others are dropped.
    pub swarm: SwarmTag,
    /// What the swarm's datagrams are closed with.
    pub key: DatagramKey,
    /// What must be equal for blocks to be shared.
    pub fingerprint: Fingerprint,
    /// The resets obeyed, as saved.
    pub epochs: EpochState,
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
    /// The swarm knows of a reset that this node has not obeyed: save it, then call [`Catalog::set_epochs`].
    ResetSeen(EpochState),
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
    /// It is at a newer epoch than this node: not asked until they agree.
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
    /// What is older is not believed: this node's epoch, or the one that it has yet to save.
    floor: Epoch,
    order: Order,
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
            floor: config.epochs.epoch,
            order: Order::default(),
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

    /// This node has obeyed and saved the resets of `epochs`, and says so at once: that is its acknowledgement. Where the epoch
    /// rises, peers that are not there yet are forgotten, and the announcement tells this node's whole filter.
    pub fn set_epochs(&mut self, epochs: EpochState, now: Millis) {
        if epochs.epoch > self.config.epochs.epoch {
            self.forget_before(epochs);
            self.own.tell_all();
        }
        self.config.epochs = epochs;
        self.pace.announce_now(now);
    }

    /// Forgets the peers that have not reached `epochs`, and believes no such one any more, without saying that this node has.
    pub fn forget_before(&mut self, epochs: EpochState) {
        self.floor = self.floor.max(epochs.epoch);
        self.stats.reset += self.directory.reset(epochs.epoch);
    }

    /// Tells the swarm, several times, to obey the resets that this node has obeyed.
    pub fn order_reset(&mut self, now: Millis) {
        self.order.start(now);
    }

    /// Takes in a datagram that came from `from`. A fault is counted, and changes nothing else.
    pub fn handle(&mut self, from: SocketAddr, datagram: &[u8], now: Millis) -> Result<Option<Event>, CatalogFault> {
        self.stats.bytes_heard += datagram.len() as u64;
        self.expire(now);
        self.hear(from, datagram, now).inspect_err(|&fault| self.stats.count(fault))
    }

    fn hear(&mut self, from: SocketAddr, datagram: &[u8], now: Millis) -> Result<Option<Event>, CatalogFault> {
        let (header, message) = wire::open(datagram, self.config.swarm, &self.config.key)?;
        if header.node == self.config.node {
            return Ok(self.hear_own_id(from, &header, &message));
        }
        if matches!(message, Message::Reset) {
            self.stats.resets_heard += 1;
            self.pace.answer(&mut self.dice, now);
        }
        if header.epochs.epoch < self.floor {
            self.stats.older_epoch += 1;
            let leaves = matches!(message, Message::Announce(Announce { interval_ms: 0, .. }));
            if header.epochs.epoch < self.config.epochs.epoch && !leaves {
                self.pace.answer(&mut self.dice, now);
            }
            return Ok(None);
        }
        let heard = self.directory.hear(&header, &message, from, &mut self.dice, now);
        if !self.config.epochs.covers(header.epochs) {
            self.stats.newer_epoch += 1;
            return Ok(Some(Event::ResetSeen(header.epochs)));
        }
        let heard = heard?;
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
                self.stats.strangers += u64::from(!matches!(message, Message::Reset));
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
                Message::Reset => {}
            }
        }
        if event.is_some() {
            self.pace.answer(&mut self.dice, now);
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
        let crowd = Crowd { dice: &mut self.dice, nodes: self.directory.len() + 1 };
        let peer = self.directory.get_mut(node).filter(|peer| peer.boot == boot);
        let peer = peer.filter(|peer| index < peer.segments() && bytes.len() == FILTER_SEGMENT_BYTES);
        let result = peer.ok_or(CatalogFault::NotAsked).and_then(|peer| peer.repair(generation, index, bytes, crowd, now));
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
        pulls.chain(expiries).chain(self.order.deadline()).chain([self.pace.deadline(self.nodes())]).min()
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

    /// The resets that this node has obeyed.
    pub fn epochs(&self) -> EpochState {
        self.config.epochs
    }

    /// Within how many milliseconds each node of a swarm of this size announces itself.
    pub fn interval_ms(&self) -> u32 {
        self.pace.interval_ms(self.nodes(), wire::longest_announcement(self.own.filter.geometry().segments()))
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
}

fn standing(config: &CatalogConfig, peer: &Peer) -> Standing {
    if peer.fingerprint != config.fingerprint {
        Standing::OtherModel
    } else if peer.epochs.epoch != config.epochs.epoch {
        Standing::OtherEpoch
    } else {
        Standing::Shares
    }
}
