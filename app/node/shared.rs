//! The state that the parts of a node share. Each part borrows it while it handles an event.

use std::collections::VecDeque;

use crate::cache::{Cache, ChainSecret, PeerCopy, Slot, outranked};
use crate::catalog::{Catalog, CatalogConfig, Datagram};
use crate::draft;
use crate::id::{BlockKey, Millis, NodeId};
use crate::kv::Plane;

use super::ask::{AskId, Refusal, Reply};
use super::audit::{BannedPeers, Requests};
use super::config::{NodeConfig, NodeError};
use super::event::Event;
use super::figures::NodeStats;
use super::io::Output;
use super::trust::Trust;

/// The shared parts.
pub(super) struct Shared {
    pub config: NodeConfig,
    pub secret: ChainSecret,
    pub root: BlockKey,
    pub cache: Cache,
    pub catalog: Catalog,
    pub trust: Trust,
    /// Blocks queued for an audit.
    pub audits: Requests,
    /// Peers whose bytes were wrong.
    pub banned: BannedPeers,
    pub out: VecDeque<Output>,
    pub stats: NodeStats,
    /// Number of jobs given to the engine so far.
    pub jobs: u64,
    /// Measured costs of decode steps.
    pub costs: draft::Costs,
    /// How often each kind of local draft was right: from the slab, echoes, and habits.
    pub slab_drafts: draft::Record,
    pub echoes: draft::Record,
    pub habit_drafts: draft::Record,
    pub habits: draft::Habits,
}

impl Shared {
    /// Starts with an empty slab. Fails if the slab's budget cannot hold one block.
    pub(super) fn new(config: NodeConfig) -> Result<Shared, NodeError> {
        let secret = ChainSecret::derive(&[]);
        let root = crate::cache::root(&secret, config.fingerprint);
        let cache = Cache::new(config.shape.clone(), root, config.slab_bytes)?;
        let catalog = Catalog::new(CatalogConfig {
            node: config.node,
            boot: config.boot,
            name: config.name,
            keys: config.keys.clone(),
            fingerprint: config.fingerprint,
            epochs: config.epochs,
            tcp_port: config.tcp_port,
            capacity: Plane::ALL.len() * cache.stats().capacity,
            interval_ms: config.announce_interval_ms,
            peers: config.peers,
            seed: config.seed,
        });
        let trust = Trust::new(config.prefill_tokens_per_s, config.peers);
        let audits = Requests::new(config.audit_per_10k, config.seed);
        let (out, stats) = (VecDeque::new(), NodeStats::default());
        Ok(Shared {
            config,
            secret,
            root,
            cache,
            catalog,
            trust,
            audits,
            banned: BannedPeers::default(),
            out,
            stats,
            jobs: 0,
            costs: draft::Costs::default(),
            slab_drafts: draft::Record::SOUND,
            echoes: draft::Record::GUESS,
            habit_drafts: draft::Record::GUESS,
            habits: draft::Habits::default(),
        })
    }

    /// Whether this is the open swarm, whose key is public.
    pub(super) fn is_open(&self) -> bool {
        self.config.keys.current().is_open()
    }

    /// A slot to fill, if one is available without taking anything that is in use.
    pub(super) fn reserve(&mut self, plane: Plane) -> Option<Slot> {
        let (catalog, node, banned) = (&self.catalog, self.config.node, &self.banned);
        let is_spared = |copy: &PeerCopy| {
            let holders = catalog.holders(&copy.key, plane).filter(|node| !banned.contains(*node));
            outranked(node, &copy.stem, holders)
        };
        self.cache.reserve(plane, &is_spared).ok()
    }

    /// Publishes the cache's changes in the catalog.
    pub(super) fn publish_changes(&mut self, now: Millis) {
        while let Some(change) = self.cache.poll_change() {
            if change.added {
                self.catalog.insert(&change.key, change.plane, now);
            } else {
                self.catalog.remove(&change.key, change.plane, now);
            }
        }
    }

    /// Switches to a newly drawn id and has it saved, because another machine has this node's id.
    pub(super) fn rename(&mut self, now: Millis) -> NodeId {
        let NodeConfig { node, boot, entropy, .. } = &self.config;
        let material = [&entropy.0[..], &node.0.to_le_bytes(), &boot.0.to_le_bytes()].concat();
        let drawn = blake3::derive_key("potluck another id v1", &material);
        let node = NodeId(u64::from_le_bytes(*drawn.first_chunk().expect("8 of 32 bytes")));
        self.config.node = node;
        self.catalog.rename(node, now);
        self.out.push_back(Output::Renamed(node));
        node
    }

    /// Readmits distrusted peers whose time has come.
    pub(super) fn readmit(&mut self, now: Millis) {
        let catalog = &self.catalog;
        self.banned.readmit(|node| catalog.peer(node).map(|peer| peer.boot), now);
    }

    /// Queues a datagram for the swarm, with copies for the peers that do not hear the group.
    pub(super) fn send_to_swarm(&mut self, datagram: Datagram, now: Millis) {
        self.out.push_back(Output::Datagram(datagram.clone()));
        for to in self.catalog.unicast_destinations(now) {
            self.out.push_back(Output::Answer { to, datagram: datagram.clone() });
        }
    }

    /// Queues an event for people.
    pub(super) fn report(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    /// Tells the asker that there will be no answer.
    pub(super) fn refuse(&mut self, ask: AskId, refusal: Refusal) {
        self.stats.refused += 1;
        self.out.push_back(Output::Reply(ask, Reply::Failed(refusal)));
    }
}
