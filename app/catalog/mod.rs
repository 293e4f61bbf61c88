//! The catalog: which peer holds which block, as far as a node can know without asking.
//!
//! Every node keeps a Bloom filter of the block planes that it holds and multicasts it. An
//! announcement at every interval says who the node is and gives the digest of each segment of its
//! filter. A change goes out within a quarter of a second as a delta, or as a whole segment where
//! that is smaller. Each of these carries all digests, so a node that missed one learns from the
//! next which segments are wrong and pulls those over TCP. A node that hears a newcomer announces
//! itself at once. A node that is silent for three of its intervals, or says goodbye, is forgotten.
//!
//! Every datagram also says which resets its sender has obeyed. A datagram of an older epoch is
//! answered with an announcement, from which its sender learns of the newer epoch, and is otherwise
//! ignored. Every datagram is sealed with a key derived from the swarm's: without that key nobody
//! is believed, and nobody can read anything. A node also opens datagrams sealed with a former key,
//! and repeats its own under that key while some peer has no newer one.
//!
//! A valid datagram is not proof enough, since anyone who recorded it can replay it. A boot or an
//! address is believed once it has answered on a connection ([`Catalog::proved`]). Until then it is
//! a claim (`claims`), and nothing is requested on the strength of it.
//!
//! The catalog's answers are hints: a peer that seems to hold a block may not, and the other way
//! round. Its promises: no input makes it panic or grow, and once the network is quiet every
//! directory equals the filters it describes.
//!
//! [`Catalog`] is a state machine without sockets or clock. Pass in what arrives
//! ([`Catalog::handle`], [`Catalog::apply_segment`]) and what changes ([`Catalog::insert`],
//! [`Catalog::remove`]). After each of these, and at [`Catalog::deadline`], drain the output
//! ([`Catalog::poll_datagram`], [`Catalog::poll_pull`], [`Catalog::poll_probe`],
//! [`Catalog::poll_event`]). Static peers get the same datagrams: send each to their addresses too.

use core::net::{IpAddr, SocketAddr};
use std::collections::VecDeque;

use crate::id::{BlockKey, BootId, Epoch, EpochState, Fingerprint, Millis, NodeId, NodeName};
use crate::keyring::Keyring;
use crate::kv::Plane;
use crate::limits::{LEAST_PEERS, MAX_FILTER_SEGMENTS, MAX_OLD_KEYS, MAX_VERSIONS_REPORTED};
use crate::splitmix::SplitMix64;

mod claims;
mod delivery;
mod demand;
mod directory;
mod fault;
pub(crate) mod filter;
mod key;
mod names;
mod own_filter;
mod peer;
mod peer_filter;
mod prefilter;
mod proof;
mod rate_limit;
mod receive;
mod repeat;
mod reset_client;
mod schedule;
mod send;
mod stats;
#[cfg(test)]
mod tests;
mod warnings;
pub mod wire;

pub(crate) use claims::Probe;
pub use delivery::Delivery;
pub(crate) use fault::CatalogFault;
pub(crate) use peer::Peer;
pub use prefilter::Prefilter;
pub(crate) use rate_limit::RateLimiter;
pub use reset_client::{ResetClient, ResetClientConfig, ResetClientEvent};
pub(crate) use stats::CatalogStats;
pub use wire::Datagram;
pub(crate) use wire::Warning;

use claims::Claims;
use delivery::GroupHealth;
use demand::Demand;
use directory::Directory;
use filter::Geometry;
use own_filter::OwnFilter;
use proof::Twins;
use repeat::Repeater;
use schedule::Schedule;
use warnings::WarningQueue;

/// Settings of a catalog.
#[derive(Clone, Debug)]
pub struct CatalogConfig {
    /// This node.
    pub node: NodeId,
    /// The current start of this node; never used before.
    pub boot: BootId,
    /// Its name for people.
    pub name: NodeName,
    /// Keys that seal the swarm's datagrams. Datagrams of other swarms are dropped.
    pub keys: Keyring,
    /// Blocks are shared only between nodes with equal fingerprints.
    pub fingerprint: Fingerprint,
    /// The resets that this node has obeyed and saved.
    pub epochs: EpochState,
    /// Where this node serves blocks and segments; not 0.
    pub tcp_port: u16,
    /// Block planes that this node may hold; sets the size of its filter.
    pub capacity: usize,
    /// Milliseconds between announcements while the swarm is small: `limits::ANNOUNCE_INTERVAL_MS`,
    /// or less in tests.
    pub interval_ms: u32,
    /// Most peers that it keeps track of; see [`crate::limits::MAX_PEERS`].
    pub peers: usize,
    /// Seed of the random delays: any number, different on each node.
    pub seed: u64,
}

/// What a used datagram tells the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A new peer.
    Joined(NodeId),
    /// A known peer restarted: what it held is gone, and so are the connections to it.
    Restarted(NodeId),
    /// A peer said goodbye and is forgotten.
    Left(NodeId),
    /// The swarm knows of a reset that this node has not obeyed: save it, then call
    /// [`Catalog::set_epochs`].
    ResetSeen(EpochState),
    /// Another machine at this address has this node's id, and has answered: a cloned card.
    Twin {
        /// Where it is.
        ip: IpAddr,
        /// This node is the newer of the two and takes another id: see [`Catalog::rename`].
        steps_aside: bool,
    },
    /// A node at this address runs another version of potluck. Reported once per address.
    OtherVersion {
        /// Where it is.
        ip: IpAddr,
        /// Whether it is the older one.
        older: bool,
    },
    /// Peers are heard only by unicast: multicast does not come through.
    GroupSilent {
        /// How many peers.
        peers: usize,
    },
    /// Multicast comes through again.
    GroupWorks,
    /// A peer whose blocks can be used here says that another peer's blocks are wrong. It may lie.
    Warned {
        /// The peer that says so.
        by: NodeId,
        /// What it says.
        warning: Warning,
    },
}

/// What a peer's blocks are good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Its blocks can be used here.
    Shares,
    /// It runs another model, format or numerics: never asked for blocks.
    OtherModel,
    /// It is at a newer epoch than this node: not asked for blocks until the two agree.
    OtherEpoch,
}

/// A filter repair to make: ask the peer for these segments over TCP, and pass each one that
/// arrives to [`Catalog::apply_segment`]. Failures need no report: the pull is offered again later
/// unless the segments arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pull {
    /// The peer.
    pub node: NodeId,
    /// The peer's boot that the segments belong to.
    pub boot: BootId,
    /// Where it serves segments.
    pub(crate) addr: SocketAddr,
    /// Indices of the segments, ascending; at least one.
    pub segments: heapless::Vec<u8, MAX_FILTER_SEGMENTS>,
}

/// The state machine; see the module header.
pub struct Catalog {
    config: CatalogConfig,
    load: u8,
    counter: u64,
    own: OwnFilter,
    demand: Demand,
    directory: Directory,
    claims: Claims,
    twins: Twins,
    /// Addresses whose other version was reported.
    versions_reported: heapless::Vec<IpAddr, MAX_VERSIONS_REPORTED>,
    /// Names of the peers that joined or restarted last.
    names: heapless::Deque<(NodeId, NodeName), LEAST_PEERS>,
    /// Events that `handle` does not return.
    events: VecDeque<Event>,
    schedule: Schedule,
    /// Datagrams of older epochs are not believed: this node's epoch, or the one that it has yet
    /// to save.
    floor: Epoch,
    order: Repeater,
    /// Copies of the last datagram, sealed with former keys and still to be sent.
    copies: heapless::Deque<Datagram, MAX_OLD_KEYS>,
    /// Whether the first announcement is out.
    greeted: bool,
    warnings: WarningQueue,
    /// How the current datagram arrived.
    delivery: Delivery,
    group: GroupHealth,
    dice: SplitMix64,
    stats: CatalogStats,
}

impl Catalog {
    /// An empty catalog, whose first announcement is due at once. Its own filter takes up to 164
    /// kB. Each peer adds its filter, within the directory's room: 1 MiB for few peers, 2 MiB for
    /// a thousand.
    pub fn new(config: CatalogConfig) -> Catalog {
        Catalog {
            load: 0,
            counter: 0,
            own: OwnFilter::new(Geometry::for_capacity(config.capacity)),
            demand: Demand::default(),
            directory: Directory::new(config.peers),
            claims: Claims::default(),
            twins: Twins::default(),
            versions_reported: heapless::Vec::new(),
            names: heapless::Deque::new(),
            events: VecDeque::new(),
            schedule: Schedule::new(config.interval_ms),
            floor: config.epochs.epoch,
            order: Repeater::default(),
            copies: heapless::Deque::new(),
            greeted: false,
            warnings: WarningQueue::default(),
            delivery: Delivery::default(),
            group: GroupHealth::default(),
            dice: SplitMix64(config.seed),
            stats: CatalogStats::default(),
            config,
        }
    }

    /// This node now holds `plane` of `key`. Call it once for each plane that becomes held.
    pub(crate) fn insert(&mut self, key: &BlockKey, plane: Plane, now: Millis) {
        if self.own.filter.insert(key, plane) {
            self.schedule.changed(now);
        }
    }

    /// This node no longer holds `plane` of `key`, which was inserted before.
    pub(crate) fn remove(&mut self, key: &BlockKey, plane: Plane, now: Millis) {
        match self.own.filter.remove(key, plane) {
            Some(true) => self.schedule.changed(now),
            Some(false) => {}
            None => self.stats.removed_absent += 1,
        }
    }

    /// Sets how busy this node is, in percent; sent with the next announcement.
    pub(crate) fn set_load(&mut self, percent: u8) {
        self.load = percent.min(100);
    }

    /// This node has obeyed and saved the resets of `epochs`. It announces that at once, as its
    /// acknowledgement. If the epoch rises, peers that have not reached it are forgotten, and the
    /// announcement covers this node's whole filter.
    pub(crate) fn set_epochs(&mut self, epochs: EpochState, now: Millis) {
        if epochs.epoch > self.config.epochs.epoch {
            self.forget_before(epochs, now);
            self.own.advertise_all();
        }
        self.config.epochs = epochs;
        self.directory.look_for_pulls();
        self.schedule.announce_now(now);
    }

    /// Forgets the peers that have not reached `epochs` and stops believing datagrams from before
    /// it, without saying that this node has reached it.
    pub(crate) fn forget_before(&mut self, epochs: EpochState, now: Millis) {
        self.floor = self.floor.max(epochs.epoch);
        self.claims.reset(epochs.epoch);
        let Catalog { directory, claims, stats, .. } = self;
        directory.reset(epochs.epoch, |peer| {
            // A datagram of the newer epoch cannot have been recorded before.
            claims.vouch(peer.node, peer.boot, peer.addr.ip(), now);
            stats.reset += 1;
        });
    }

    /// Orders the swarm, several times, to obey the resets that this node has obeyed.
    pub(crate) fn order_reset(&mut self, now: Millis) {
        self.order.start(now);
    }

    /// Warns the swarm, several times, of what an audit has found.
    pub(crate) fn warn(&mut self, warning: Warning, now: Millis) {
        self.warnings.push(warning, now);
    }

    /// A segment of this node's filter as last advertised, with its generation; this is what
    /// TCP serves.
    pub(crate) fn own_segment(&self, index: usize) -> Option<(u64, &[u8])> {
        self.own.segment(index).map(|bytes| (self.own.generation(), bytes))
    }

    /// The generation of this node's filter as last advertised.
    pub(crate) fn generation(&self) -> u64 {
        self.own.generation()
    }

    /// Whether every change has been advertised.
    pub(crate) fn is_advertised(&self) -> bool {
        self.own.is_advertised()
    }

    /// The next filter repair to start, if one is due: at most one a second per peer, and fewer
    /// while they fail.
    pub fn poll_pull(&mut self, now: Millis) -> Option<Pull> {
        self.expire(now);
        let (config, dice) = (&self.config, &mut self.dice);
        let peer =
            self.directory.due_for_pull(now, |peer| standing(config, peer) == Standing::Shares)?;
        self.stats.pulls += 1;
        Some(Pull {
            node: peer.node,
            boot: peer.boot,
            addr: peer.addr,
            segments: peer.start_pull(dice, now),
        })
    }

    /// When to poll again, even if nothing comes in.
    pub fn deadline(&self) -> Option<Millis> {
        let claims = [self.claims.deadline(self.config.epochs.epoch), self.twins.deadline()];
        let sayings = [
            self.order.deadline(),
            self.warnings.deadline(),
            Some(self.schedule.deadline(self.nodes())),
        ];
        claims.into_iter().chain(sayings).flatten().chain([self.directory.deadline()]).min()
    }

    /// The peers that seem to hold `plane` of `key` and whose blocks can be used here.
    pub fn holders(&self, key: &BlockKey, plane: Plane) -> impl Iterator<Item = NodeId> + '_ {
        let key = *key;
        let shares = |peer: &&Peer| self.standing(peer) == Standing::Shares;
        self.directory
            .iter()
            .filter(shares)
            .filter(move |peer| peer.holds(&key, plane))
            .map(|peer| peer.node)
    }

    /// Whether `node` seems to hold `plane` of `key`.
    pub(crate) fn seems_to_hold(&self, node: NodeId, key: &BlockKey, plane: Plane) -> bool {
        self.peer(node).is_some_and(|peer| peer.holds(key, plane))
    }

    /// What this node knows of `node`.
    pub(crate) fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.directory.get(node)
    }

    /// All live peers, including those whose blocks cannot be used here.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.directory.iter()
    }

    /// What the blocks of `peer` are good for at this node.
    pub(crate) fn standing(&self, peer: &Peer) -> Standing {
        standing(&self.config, peer)
    }

    /// The resets that this node has obeyed.
    pub(crate) fn epochs(&self) -> EpochState {
        self.config.epochs
    }

    /// The longest time between two announcements of a node, in a swarm of this size.
    pub(crate) fn interval_ms(&self) -> u32 {
        self.schedule.interval_ms(self.nodes(), self.announcement_bytes())
    }

    /// Bits of this node's filter, and how many of them are set.
    pub(crate) fn filter_bits(&self) -> (usize, usize) {
        self.own.bits()
    }

    /// The counters.
    pub(crate) fn stats(&self) -> &CatalogStats {
        &self.stats
    }

    /// Bytes of an announcement, summed over all keys that it is sealed with.
    fn announcement_bytes(&self) -> usize {
        let one = wire::longest_announcement(
            self.own.filter.geometry().segments(),
            self.config.name.as_str().len(),
        );
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
