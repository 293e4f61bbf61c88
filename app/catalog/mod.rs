//! The catalog: which peer holds which block, as far as can be known without asking.
//!
//! Every node keeps a Bloom filter of the block planes that it holds, and multicasts it: an announcement at every
//! interval says who the node is and gives the digest of each segment of its filter; a change goes out within a quarter of a
//! second as a delta, or as a whole segment where that is smaller. Each of these carries all digests, so that a node that
//! missed one knows with the next which segments are wrong, and pulls those over TCP. A node that hears a newcomer
//! announces itself at once; a node that was silent for three of its intervals, or said goodbye, is forgotten.
//!
//! Every datagram also says which resets its sender has obeyed. What a node of an older epoch says is answered with an
//! announcement, from which it learns of the newer one, and otherwise ignored. Every datagram is sealed with a key derived from the
//! swarm's; without that key nothing is believed, and nothing can be read. A node opens what is sealed with a former key too, and says
//! what it has to say under that key as well while a peer has none other.
//!
//! Nor is a datagram alone enough: whoever has recorded one may send it again. A boot or an address is believed once it has answered on
//! a connection ([`Catalog::proved`]); until then it is a claim (`claims`), which nobody is asked for anything on account of.
//!
//! What the catalog says is a hint: a peer that seems to hold a block may turn out not to, and the other way round. What it
//! promises: no input makes it panic or grow, and once the network is quiet every directory equals the filters it describes.
//!
//! [`Catalog`] is a state machine without sockets or clock. Hand it what comes in ([`Catalog::handle`],
//! [`Catalog::apply_segment`]) and what changes ([`Catalog::insert`], [`Catalog::remove`]); after each of these, and at
//! [`Catalog::deadline`], take what goes out ([`Catalog::poll_datagram`], [`Catalog::poll_pull`], [`Catalog::poll_probe`],
//! [`Catalog::poll_event`]) until there is no more. The same datagrams serve static peers: send each also to their addresses.

use core::net::{IpAddr, SocketAddr};
use std::collections::VecDeque;

use crate::id::{BlockKey, BootId, Epoch, EpochState, Fingerprint, Millis, NodeId, NodeName};
use crate::keyring::Keyring;
use crate::kv::Plane;
use crate::limits::{FILTER_SEGMENT_BYTES, LEAST_PEERS, MAX_FILTER_SEGMENTS, MAX_OLD_KEYS, MAX_VERSIONS_TOLD};

mod alarm;
mod claims;
mod demand;
mod directory;
mod fault;
pub(crate) mod filter;
mod herald;
mod key;
mod names;
mod order;
mod own;
mod pace;
mod peer;
mod proof;
mod sieve;
mod speak;
mod stats;
#[cfg(test)]
mod tests;
mod toll;
mod view;
mod ways;
pub mod wire;

pub(crate) use claims::Probe;
pub(crate) use fault::CatalogFault;
pub use herald::{Herald, HeraldConfig, HeraldNews};
pub(crate) use peer::Peer;
pub use sieve::Sieve;
pub(crate) use stats::CatalogStats;
pub(crate) use toll::Toll;
pub use ways::Way;
pub use wire::Datagram;
pub(crate) use wire::Warning;

use alarm::Alarms;
use claims::Claims;
use demand::Demand;
use directory::{Directory, Heard};
use filter::Geometry;
use order::Order;
use own::Own;
use pace::{Crowd, Dice, Pace};
use proof::Twins;
use ways::{Group, canonical};
use wire::{Announce, Message};

/// What a catalog is made for.
#[derive(Clone, Debug)]
pub struct CatalogConfig {
    /// This node.
    pub node: NodeId,
    /// This start of it; never used before.
    pub boot: BootId,
    /// What people call it.
    pub name: NodeName,
    /// What the swarm's datagrams are sealed with; those of other swarms are dropped.
    pub keys: Keyring,
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
    /// Peers that it knows at most; see [`crate::limits::MAX_PEERS`].
    pub peers: usize,
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
    /// Another machine, at this address, has this node's id, and has answered: a copied card.
    Twin {
        /// Where it is.
        ip: IpAddr,
        /// This node is the newer of the two, and takes another id: see [`Catalog::rename`].
        steps_aside: bool,
    },
    /// A node at this address runs another version of potluck. Told once of each address.
    OtherVersion {
        /// Where it is.
        ip: IpAddr,
        /// Whether it is the older one.
        older: bool,
    },
    /// Peers are heard at this node's address only: multicast does not come through.
    GroupSilent {
        /// So many.
        peers: usize,
    },
    /// Multicast comes through again.
    GroupWorks,
    /// A peer whose blocks can be used here says that another one's are wrong. It may lie.
    Warned {
        /// Who says so.
        by: NodeId,
        /// What it says.
        warning: Warning,
    },
}

/// Of what use a peer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
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
    pub(crate) addr: SocketAddr,
    /// Indices of the segments, ascending; at least one.
    pub segments: heapless::Vec<u8, MAX_FILTER_SEGMENTS>,
}

/// The state machine; see the module's head.
pub struct Catalog {
    config: CatalogConfig,
    load: u8,
    counter: u64,
    own: Own,
    demand: Demand,
    directory: Directory,
    claims: Claims,
    twins: Twins,
    /// Addresses whose other version was told of.
    versions_told: heapless::Vec<IpAddr, MAX_VERSIONS_TOLD>,
    /// What the last peers that came are called.
    names: heapless::Deque<(NodeId, NodeName), LEAST_PEERS>,
    /// What the node should know and no datagram's return says.
    events: VecDeque<Event>,
    pace: Pace,
    /// What is older is not believed: this node's epoch, or the one that it has yet to save.
    floor: Epoch,
    order: Order,
    /// What was said under the key in use, sealed with former ones too, and still to be sent.
    copies: heapless::Deque<Datagram, MAX_OLD_KEYS>,
    /// The first announcement is out.
    greeted: bool,
    alarms: Alarms,
    /// How the datagram at hand came.
    way: Way,
    group: Group,
    dice: Dice,
    stats: CatalogStats,
}

impl Catalog {
    /// An empty catalog, whose first announcement is due at once. The own filter takes up to 164 kB, and with each peer comes its
    /// filter, within what the directory has room for: 1 MiB for few peers, 2 MiB for a thousand.
    pub fn new(config: CatalogConfig) -> Catalog {
        Catalog {
            load: 0,
            counter: 0,
            own: Own::new(Geometry::for_capacity(config.capacity)),
            demand: Demand::default(),
            directory: Directory::new(config.peers),
            claims: Claims::default(),
            twins: Twins::default(),
            versions_told: heapless::Vec::new(),
            names: heapless::Deque::new(),
            events: VecDeque::new(),
            pace: Pace::new(config.interval_ms),
            floor: config.epochs.epoch,
            order: Order::default(),
            copies: heapless::Deque::new(),
            greeted: false,
            alarms: Alarms::default(),
            way: Way::default(),
            group: Group::default(),
            dice: Dice(config.seed),
            stats: CatalogStats::default(),
            config,
        }
    }

    /// This node now holds `plane` of `key`. To be called once for each plane that it comes to hold.
    pub(crate) fn insert(&mut self, key: &BlockKey, plane: Plane, now: Millis) {
        if self.own.filter.insert(key, plane) {
            self.pace.changed(now);
        }
    }

    /// This node no longer holds `plane` of `key`, for which `insert` was called.
    pub(crate) fn remove(&mut self, key: &BlockKey, plane: Plane, now: Millis) {
        match self.own.filter.remove(key, plane) {
            Some(true) => self.pace.changed(now),
            Some(false) => {}
            None => self.stats.removed_absent += 1,
        }
    }

    /// How busy this node is, in percent: told with the next announcement.
    pub(crate) fn set_load(&mut self, percent: u8) {
        self.load = percent.min(100);
    }

    /// This node has obeyed and saved the resets of `epochs`, and says so at once: that is its acknowledgement. Where the epoch
    /// rises, peers that are not there yet are forgotten, and the announcement tells this node's whole filter.
    pub(crate) fn set_epochs(&mut self, epochs: EpochState, now: Millis) {
        if epochs.epoch > self.config.epochs.epoch {
            self.forget_before(epochs, now);
            self.own.tell_all();
        }
        self.config.epochs = epochs;
        self.directory.look_for_pulls();
        self.pace.announce_now(now);
    }

    /// Forgets the peers that have not reached `epochs`, and believes no such one any more, without saying that this node has.
    pub(crate) fn forget_before(&mut self, epochs: EpochState, now: Millis) {
        self.floor = self.floor.max(epochs.epoch);
        self.claims.reset(epochs.epoch);
        let Catalog { directory, claims, stats, .. } = self;
        directory.reset(epochs.epoch, |peer| {
            // What it says from the newer epoch cannot have been recorded before.
            claims.vouch(peer.node, peer.boot, peer.addr.ip(), now);
            stats.reset += 1;
        });
    }

    /// Tells the swarm, several times, to obey the resets that this node has obeyed.
    pub(crate) fn order_reset(&mut self, now: Millis) {
        self.order.start(now);
    }

    /// Tells the swarm, several times, what an audit has found.
    pub(crate) fn warn(&mut self, warning: Warning, now: Millis) {
        self.alarms.raise(warning, now);
    }

    /// Takes in a datagram that came from `from`, through the group. A fault is counted, and changes nothing else.
    pub fn handle(&mut self, from: SocketAddr, datagram: &[u8], now: Millis) -> Result<Option<Event>, CatalogFault> {
        self.stats.bytes_heard += datagram.len() as u64;
        self.expire(now);
        let from = canonical(from);
        let heard = self.hear(from, datagram, now).inspect_err(|&fault| self.stats.count(fault));
        match heard {
            Err(CatalogFault::Version(version)) if self.tells_version(from.ip()) => {
                Ok(Some(Event::OtherVersion { ip: from.ip(), older: version < wire::VERSION }))
            }
            heard => heard,
        }
    }

    fn hear(&mut self, from: SocketAddr, datagram: &[u8], now: Millis) -> Result<Option<Event>, CatalogFault> {
        let mut text = Datagram::new();
        let (header, message) = wire::open(datagram, &self.config.keys, &mut text)?;
        if header.node == self.config.node {
            self.hear_own_id(from, &header, &message, now);
            return Ok(None);
        }
        if matches!(message, Message::Reset) {
            self.stats.resets_heard += 1;
            self.pace.answer(self.nodes(), &mut self.dice, now);
        }
        if header.epochs.epoch < self.floor {
            self.stats.older_epoch += 1;
            let leaves = matches!(message, Message::Announce(Announce { interval_ms: 0, .. }));
            if header.epochs.epoch < self.config.epochs.epoch && !leaves {
                self.pace.answer(self.nodes(), &mut self.dice, now);
            }
            return Ok(None);
        }
        let heard = self.hear_peer(from, &header, &message, now);
        if !self.config.epochs.covers(header.epochs) {
            self.stats.newer_epoch += 1;
            return Ok(Some(Event::ResetSeen(header.epochs)));
        }
        let heard = heard?;
        if matches!(heard, Heard::Known | Heard::Moved | Heard::Joined { .. } | Heard::Restarted) {
            match message {
                Message::Announce(_) => {
                    self.stats.announcements_heard += 1;
                    if heard == Heard::Known {
                        self.answer_again(header.node, now);
                    }
                }
                Message::Delta(_) => self.stats.deltas_heard += 1,
                Message::Segment(_) => self.stats.segments_heard += 1,
                Message::Reset => {}
                Message::Warning(warning) => return Ok(self.hear_warning(header.node, warning)),
            }
        }
        Ok(self.note(header.node, heard, &message, now))
    }

    /// Counts what became of a datagram, and says what the node should know of it.
    fn note(&mut self, node: NodeId, heard: Heard, message: &Message<'_>, now: Millis) -> Option<Event> {
        let stats = &mut self.stats;
        let (counter, event) = match heard {
            Heard::Joined { evicted } => {
                stats.evicted += evicted;
                (&mut stats.joined, Some(Event::Joined(node)))
            }
            Heard::Restarted => (&mut stats.restarted, Some(Event::Restarted(node))),
            Heard::Left => (&mut stats.left, Some(Event::Left(node))),
            Heard::Overtaken => (&mut stats.overtaken, None),
            Heard::Stranger if matches!(message, Message::Reset) => return None,
            Heard::Stranger => (&mut stats.strangers, None),
            Heard::Full => (&mut stats.table_full, None),
            Heard::Known | Heard::Moved | Heard::Claimed => return None,
        };
        *counter += 1;
        if matches!(heard, Heard::Joined { .. } | Heard::Restarted) {
            self.remember_name(node);
            self.pace.answer(self.nodes(), &mut self.dice, now);
        }
        event
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
        let repaired = self.directory.with(node, |peer| {
            let asked = peer.boot == boot && index < peer.segments() && bytes.len() == FILTER_SEGMENT_BYTES;
            if asked { peer.repair(generation, index, bytes, crowd, now) } else { Err(CatalogFault::NotAsked) }
        });
        let result = repaired.unwrap_or(Err(CatalogFault::NotAsked));
        match result {
            Ok(()) => self.stats.segments_pulled += 1,
            Err(_) => self.stats.pull_faults += 1,
        }
        result
    }

    /// A segment of this node's filter as peers were told, with its generation: what is served over TCP.
    pub(crate) fn own_segment(&self, index: usize) -> Option<(u64, &[u8])> {
        self.own.segment(index).map(|bytes| (self.own.generation(), bytes))
    }

    /// The generation of this node's filter, as peers were told.
    pub(crate) fn generation(&self) -> u64 {
        self.own.generation()
    }

    /// Whether peers were told of every change.
    pub(crate) fn is_told(&self) -> bool {
        self.own.is_told()
    }

    /// The next filter repair to start, if one is due: at most one a second from each peer, less often while they fail.
    pub fn poll_pull(&mut self, now: Millis) -> Option<Pull> {
        self.expire(now);
        let (config, dice) = (&self.config, &mut self.dice);
        let peer = self.directory.due_for_pull(now, |peer| standing(config, peer) == Standing::Shares)?;
        self.stats.pulls += 1;
        Some(Pull { node: peer.node, boot: peer.boot, addr: peer.addr, segments: peer.start_pull(dice, now) })
    }

    /// When to poll again, even if nothing comes in.
    pub fn deadline(&self) -> Option<Millis> {
        let claims = [self.claims.deadline(self.config.epochs.epoch), self.twins.deadline()];
        let sayings = [self.order.deadline(), self.alarms.deadline(), Some(self.pace.deadline(self.nodes()))];
        claims.into_iter().chain(sayings).flatten().chain([self.directory.deadline()]).min()
    }

    /// The peers that seem to hold `plane` of `key` and whose blocks can be used here.
    pub fn holders(&self, key: &BlockKey, plane: Plane) -> impl Iterator<Item = NodeId> + '_ {
        let key = *key;
        let shares = |peer: &&Peer| self.standing(peer) == Standing::Shares;
        self.directory.iter().filter(shares).filter(move |peer| peer.holds(&key, plane)).map(|peer| peer.node)
    }

    /// Whether `node` seems to hold `plane` of `key`.
    pub(crate) fn seems_to_hold(&self, node: NodeId, key: &BlockKey, plane: Plane) -> bool {
        self.peer(node).is_some_and(|peer| peer.holds(key, plane))
    }

    /// What is known of `node`.
    pub(crate) fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.directory.get(node)
    }

    /// All peers that were heard of lately, those included whose blocks are of no use here.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.directory.iter()
    }

    /// Of what use `peer` is to this node.
    pub(crate) fn standing(&self, peer: &Peer) -> Standing {
        standing(&self.config, peer)
    }

    /// The resets that this node has obeyed.
    pub(crate) fn epochs(&self) -> EpochState {
        self.config.epochs
    }

    /// Within how many milliseconds each node of a swarm of this size announces itself.
    pub(crate) fn interval_ms(&self) -> u32 {
        self.pace.interval_ms(self.nodes(), self.announcement_bytes())
    }

    /// Bits of this node's filter, and how many of them are set.
    pub(crate) fn filter_bits(&self) -> (usize, usize) {
        self.own.bits()
    }

    /// What was counted.
    pub(crate) fn stats(&self) -> &CatalogStats {
        &self.stats
    }

    /// Bytes that an announcement takes, under every key that it is sealed with.
    fn announcement_bytes(&self) -> usize {
        let one = wire::longest_announcement(self.own.filter.geometry().segments(), self.config.name.as_str().len());
        one * (1 + self.former_in_use().len())
    }

    /// Nodes of the swarm, this one included.
    fn nodes(&self) -> usize {
        self.directory.len() + 1
    }

    fn expire(&mut self, now: Millis) {
        self.twins.begin(now);
        self.claims.expire(now);
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
