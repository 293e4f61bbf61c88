//! What the parts of a node share, lent to each while it handles an event.

use std::collections::VecDeque;

use crate::cache::{Cache, ChainSecret, Slot, outranked};
use crate::catalog::{Catalog, CatalogConfig, DatagramKey};
use crate::id::{BlockKey, Millis};
use crate::kv::Plane;

use super::ask::{AskId, Refusal, Reply};
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
    pub out: VecDeque<Output>,
    pub stats: NodeStats,
    /// Jobs given to the engine so far.
    pub jobs: u64,
}

impl Shared {
    /// With an empty slab. Fails when the slab's budget cannot hold one block.
    pub(super) fn new(config: NodeConfig) -> Result<Shared, NodeError> {
        let secret = ChainSecret::derive(&config.swarm_key);
        let root = crate::cache::root(&secret, config.fingerprint);
        let cache = Cache::new(config.shape.clone(), root, config.slab_bytes)?;
        let catalog = Catalog::new(CatalogConfig {
            node: config.node,
            boot: config.boot,
            swarm: config.swarm,
            fingerprint: config.fingerprint,
            key: DatagramKey::derive(&config.swarm_key),
            epochs: config.epochs,
            tcp_port: config.tcp_port,
            capacity: Plane::ALL.len() * cache.stats().capacity,
            interval_ms: config.announce_interval_ms,
            seed: config.seed,
        });
        let trust = Trust::new(config.prefill_tokens_per_s);
        let (out, stats) = (VecDeque::new(), NodeStats::default());
        Ok(Shared { config, secret, root, cache, catalog, trust, out, stats, jobs: 0 })
    }

    /// A slot to fill, where there is one without taking anything that is in use.
    pub(super) fn reserve(&mut self, plane: Plane) -> Option<Slot> {
        let (catalog, node) = (&self.catalog, self.config.node);
        self.cache.reserve(plane, &|copy| outranked(node, &copy.stem, catalog.holders(&copy.key, plane))).ok()
    }

    /// Puts what has changed in the cache into the catalog.
    pub(super) fn publish_changes(&mut self, now: Millis) {
        while let Some(change) = self.cache.poll_change() {
            if change.added {
                self.catalog.insert(&change.key, change.plane, now);
            } else {
                self.catalog.remove(&change.key, change.plane, now);
            }
        }
    }

    /// Something for people.
    pub(super) fn tell(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    /// There will be no answer.
    pub(super) fn refuse(&mut self, ask: AskId, refusal: Refusal) {
        self.stats.refused += 1;
        self.out.push_back(Output::Reply(ask, Reply::Failed(refusal)));
    }
}
