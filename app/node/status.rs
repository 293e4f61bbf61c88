//! A node's view of itself, as data and in words.

use core::net::SocketAddr;

use serde::Serialize;

use crate::cache::CacheStats;
use crate::catalog::{CatalogStats, Standing};
use crate::draft;
use crate::id::{Epoch, Fingerprint, Millis, NodeId, NodeName};

use super::Node;
use super::figures::NodeStats;
use super::prompt::PromptMap;

/// One peer as this node sees it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PeerStatus {
    /// The peer's id.
    pub node: NodeId,
    /// The name that people give it; may be empty.
    pub name: NodeName,
    /// Whether it has only a former key of the swarm, and still needs the current one.
    pub(crate) former_key: bool,
    /// Address where it serves blocks.
    pub addr: SocketAddr,
    /// How it is heard: "multicast", "unicast" (only at this node's own address), or "not" if
    /// neither worked lately.
    pub heard: &'static str,
    /// The generation of its filter that this node has.
    pub generation: u64,
    /// How busy its last announcement said it is, in percent.
    pub load_percent: u8,
    /// Whether this node has the whole filter at that generation.
    pub current: bool,
    /// Whether this node can use its blocks: same model, build and epoch.
    pub shares: bool,
    /// Its bytes were found wrong: this node does not ask it and ignores its announcements.
    pub distrusted: bool,
    /// Measured; none before the first transfer.
    pub goodput_bytes_per_s: Option<f32>,
    /// Measured; none before the first connection.
    pub(crate) round_trip_ms: Option<f32>,
    /// How far it is trusted, from 0 (not asked) to 1. Absences, stalls and lies lower it;
    /// deliveries and time raise it.
    pub(crate) worth: f32,
}

/// A node's view of itself.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Status {
    /// The node's id.
    pub node: NodeId,
    /// Identifies the KV state that its blocks are compatible with.
    pub(crate) fingerprint: Fingerprint,
    /// The swarm's epoch.
    pub epoch: Epoch,
    /// The generation of its own filter, as announced to the peers.
    pub generation: u64,
    /// Whether the peers have been told everything.
    pub told: bool,
    /// Measured; none before the first prompt.
    pub(crate) prefill_tokens_per_s: Option<f32>,
    /// Number of prompts queued behind the current one.
    pub(crate) waiting: usize,
    /// All peers heard lately.
    pub peers: Vec<PeerStatus>,
    /// Statistics of the slab and its index.
    pub cache: CacheStats,
    /// The catalog's counters.
    pub catalog: CatalogStats,
    /// Number of bits in this node's filter, and how many of them are set.
    pub(crate) filter_bits: (usize, usize),
    /// Counters.
    pub node_stats: NodeStats,
}

impl Status {
    /// A summary of this node, for a person.
    pub(crate) fn summary(&self) -> String {
        let [global, sliding] = self.cache.planes;
        let rate = self
            .prefill_tokens_per_s
            .map_or("not measured yet".to_string(), |rate| format!("{rate:.0} tokens/s"));
        let former = match self.peers.iter().filter(|peer| peer.former_key).count() {
            0 => String::new(),
            count => format!(", {count} of them with a former key only"),
        };
        format!(
            "node     {}, epoch {}\nmodel    {} (with this build and precision)\n\
             slab     {:.1} MB: {} of {} global and {} of {} sliding slots hold state, {} blocks known\n\
             prefill  {rate}\npeers    {}{former}\n",
            self.node,
            self.epoch.0,
            self.fingerprint,
            self.cache.slab_bytes() as f64 / 1e6,
            global.held,
            global.slots,
            sliding.held,
            sliding.slots,
            self.cache.entries,
            self.peers.len(),
        )
    }

    /// One line per peer, for a person.
    pub(crate) fn peer_table(&self) -> String {
        if self.peers.is_empty() {
            return "no peer has been heard\n".to_string();
        }
        let mut text = String::new();
        for peer in &self.peers {
            let goodput = peer
                .goodput_bytes_per_s
                .map_or("not measured".to_string(), |rate| format!("{:.1} MB/s", rate / 1e6));
            let trip =
                peer.round_trip_ms.map_or("not measured".to_string(), |ms| format!("{ms:.1} ms"));
            let shares = match (peer.shares, peer.current) {
                _ if peer.distrusted => "distrusted: it gave wrong bytes",
                (false, _) => "other model, build or epoch: shares nothing with this node",
                (true, true) => "catalog known",
                (true, false) => "catalog being repaired",
            };
            let key = if peer.former_key { "; has only a former key" } else { "" };
            let who = peer.name.label(peer.node);
            let heard = if peer.heard == "unicast" {
                " (by address only: no multicast from there)"
            } else {
                ""
            };
            text += &format!(
                "{who} at {}{heard}: {shares}; goodput {goodput}, round trip {trip}{key}\n",
                peer.addr
            );
        }
        text
    }

    /// What this node and its peers announce of their blocks, for a person.
    pub(crate) fn catalog_table(&self) -> String {
        let Status { catalog, generation, .. } = self;
        let told = if self.told { "all told" } else { "not all told yet" };
        let mut text = format!(
            "this node: generation {generation}, {} blocks, {told}; {:.1} kB sent, {:.1} kB heard\n",
            self.cache.entries,
            catalog.bytes_sent as f64 / 1e3,
            catalog.bytes_heard as f64 / 1e3,
        );
        for peer in &self.peers {
            let known = if peer.current { "known" } else { "being repaired" };
            let who = peer.name.label(peer.node);
            text += &format!(
                "{who}: generation {}, {known}; {} % busy\n",
                peer.generation, peer.load_percent
            );
        }
        text
    }

    /// The memory for KV state, for a person.
    pub(crate) fn slab_table(&self) -> String {
        let cache = &self.cache;
        let mut text = format!(
            "slab     {:.1} MB, {} blocks known of at most {}; {} planes stored, {} evicted\n",
            cache.slab_bytes() as f64 / 1e6,
            cache.entries,
            cache.capacity,
            cache.inserted,
            cache.evicted,
        );
        for (name, plane) in ["global", "sliding"].iter().zip(&cache.planes) {
            let free = plane.slots.saturating_sub(plane.held + plane.reserved);
            text += &format!(
                "{name:<9}{} slots of {:.1} kB: {} hold state ({} in use), {} are being filled, {free} are free\n",
                plane.slots,
                plane.slot_bytes as f64 / 1e3,
                plane.held,
                plane.pinned,
                plane.reserved,
            );
        }
        text
    }

    /// The counters, one group per line, for a person. Oddities are listed only if they occurred.
    pub(crate) fn counters(&self) -> String {
        let (node, cache, catalog) = (&self.node_stats, &self.cache, &self.catalog);
        let mut text = format!("prompts  {} answered, {} refused\n", node.answered, node.refused);
        text += &format!(
            "fetched  {} planes, {:.1} MB, of which {} not used; requested {}, of which {} absent; {} stalls, {} steps abandoned\n",
            node.planes_fetched,
            node.bytes_fetched as f64 / 1e6,
            node.planes_unused,
            node.wants_sent,
            node.wants_absent,
            node.peers_stalled,
            node.steps_abandoned,
        );
        text += &format!("served   {} planes\n", node.planes_served);
        let drafted = |counts: draft::Counts| format!("{} of {}", counts.accepted, counts.drafted);
        text += &format!(
            "drafts   tokens right: {} from the slab, {} from peers, {} echoes, {} habits, {} peers' habits; {} requests sent, {} answered; {} for habits sent, {} answered\n",
            drafted(node.drafts.slab),
            drafted(node.drafts.peers),
            drafted(node.drafts.echo),
            drafted(node.drafts.habit),
            drafted(node.drafts.peer_habit),
            node.drafts_asked,
            node.drafts_served,
            node.habits_asked,
            node.habits_served,
        );
        text += &format!(
            "audits   {} blocks of peers found right, {} audits found wrong bytes, {} skipped\n",
            node.blocks_audited, node.audits_failed, node.audits_skipped,
        );
        text += &format!(
            "slab     {} planes stored, {} evicted, {} refused\n",
            cache.inserted, cache.evicted, cache.refused
        );
        text += &format!(
            "sent     {} announcements, {} deltas, {} segments, {:.1} kB\n",
            catalog.announcements_sent,
            catalog.deltas_sent,
            catalog.segments_sent,
            catalog.bytes_sent as f64 / 1e3,
        );
        text += &format!(
            "heard    {} announcements, {} deltas, {} segments, {:.1} kB\n",
            catalog.announcements_heard,
            catalog.deltas_heard,
            catalog.segments_heard,
            catalog.bytes_heard as f64 / 1e3,
        );
        text += &format!(
            "peers    {} joined, {} restarted, {} left, {} fell silent; {} filter repairs of {} segments\n",
            catalog.joined,
            catalog.restarted,
            catalog.left,
            catalog.forgotten,
            catalog.pulls,
            catalog.segments_pulled,
        );
        let odd = self.oddities();
        let odd: Vec<String> = odd
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        text + &format!(
            "odd      {}\n",
            if odd.is_empty() { "nothing".to_string() } else { odd.join(", ") }
        )
    }

    /// Counters that stay zero in a healthy swarm of identical nodes.
    fn oddities(&self) -> [(u64, &'static str); 21] {
        let (node, catalog) = (&self.node_stats, &self.catalog);
        [
            (node.connections_lost, "connections lost during a fetch"),
            (node.connections_refused, "connections refused for lack of room"),
            (node.connections_throttled, "connections over one address's limit"),
            (node.peer_faults, "connections closed because a peer broke a rule"),
            (self.cache.collisions, "key collisions"),
            (catalog.duplicate_identity, "datagrams from another node with this id"),
            (catalog.overtaken, "datagrams late or repeated"),
            (catalog.strangers, "datagrams from unannounced nodes"),
            (catalog.claims_dropped, "announcements that were never confirmed"),
            (catalog.newer_epoch + catalog.older_epoch, "datagrams from another epoch"),
            (catalog.evicted + catalog.table_full, "peers that did not fit into the table"),
            (catalog.pull_faults, "unusable repairs"),
            (catalog.removed_absent, "removals of unknown blocks"),
            (catalog.foreign, "datagrams of other programs"),
            (catalog.other_version, "datagrams of another version"),
            (catalog.other_swarm, "datagrams from another swarm"),
            (catalog.forged, "forged or damaged datagrams"),
            (catalog.malformed, "undecodable datagrams"),
            (catalog.throttled, "datagrams over one address's limit"),
            (catalog.out_of_limits, "datagrams with invalid sizes"),
            (catalog.contradictions, "contradictory datagrams"),
        ]
    }
}

impl Node {
    /// The display name of a node that is or was known here.
    pub fn called(&self, node: NodeId) -> String {
        self.shared.catalog.name(node).label(node)
    }

    /// A block-by-block map of the prompt being answered; none if there is no prompt.
    pub(crate) fn map(&self, now: Millis) -> Option<PromptMap> {
        self.prompt.as_ref()?.map(&self.shared, now)
    }

    /// The node's current status.
    pub fn status(&self, now: Millis) -> Status {
        let shared = &self.shared;
        let peers = shared.catalog.peers().map(|peer| {
            let trust = shared.trust.of(peer.node, now);
            PeerStatus {
                node: peer.node,
                name: peer.name,
                former_key: peer.swarm != shared.config.keys.current().tag(),
                addr: peer.addr,
                heard: match (peer.deliveries.unicast, peer.deliveries.multicast) {
                    (Some(_), _) => "unicast",
                    (None, Some(_)) => "multicast",
                    (None, None) => "not",
                },
                generation: peer.generation,
                load_percent: peer.load,
                current: peer.stale_segments() == 0,
                distrusted: shared.banned.contains(peer.node),
                shares: shared.catalog.standing(peer) == Standing::Shares,
                goodput_bytes_per_s: trust.bytes_per_ms.map(|rate| rate * 1e3),
                round_trip_ms: trust.round_trip_ms,
                worth: trust.worth,
            }
        });
        Status {
            node: shared.config.node,
            fingerprint: shared.config.fingerprint,
            epoch: shared.catalog.epochs().epoch,
            generation: shared.catalog.generation(),
            told: shared.catalog.is_advertised(),
            prefill_tokens_per_s: shared.trust.prefill_ms_per_token().map(|ms| 1e3 / ms),
            waiting: self.queue.len(),
            peers: peers.collect(),
            cache: shared.cache.stats(),
            catalog: *shared.catalog.stats(),
            filter_bits: shared.catalog.filter_bits(),
            node_stats: shared.stats,
        }
    }
}
