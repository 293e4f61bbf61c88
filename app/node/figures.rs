//! What a node reports: the figures of an answer, and its own state.

use core::fmt;
use core::net::SocketAddr;

use serde::Serialize;

use crate::cache::CacheStats;
use crate::catalog::CatalogStats;
use crate::id::{Epoch, Fingerprint, Millis, NodeId};

/// Peers named in one answer's figures; what more of them gave is counted with the last.
const MAX_NAMED: usize = 8;

/// Why an answer ended; in JSON by the names that servers of models use, where they have one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model ended its turn.
    End,
    /// A text that ends answers came.
    #[serde(rename = "stop")]
    StopString,
    /// The asked-for number of tokens was reached.
    #[serde(rename = "length")]
    MaxTokens,
    /// The context is full.
    #[serde(rename = "context")]
    ContextFull,
    /// The slab had no room for another block.
    #[serde(rename = "slab")]
    SlabFull,
    /// Somebody said stop.
    Stopped,
}

/// The figures of one answer.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figures {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of those, how many came from this node's own slab.
    pub own: usize,
    /// Of those, how many each peer gave.
    pub peers: heapless::Vec<(NodeId, usize), MAX_NAMED>,
    /// Of those, how many were computed. The last token always is.
    pub computed: usize,
    /// Tokens of the answer.
    pub generated: usize,
    /// Time to the first token, from the prompt's arrival, waiting in the queue included.
    pub ttft_ms: u64,
    /// Time to the last token.
    pub ttlt_ms: u64,
    /// Why the answer ended.
    #[serde(rename = "finish")]
    pub stop: StopReason,
}

impl Figures {
    pub(super) fn new(prompt_tokens: usize) -> Figures {
        Figures {
            prompt_tokens,
            own: 0,
            peers: heapless::Vec::new(),
            computed: 0,
            generated: 0,
            ttft_ms: 0,
            ttlt_ms: 0,
            stop: StopReason::Stopped,
        }
    }

    /// Of a prompt that was stopped before anything was done for it.
    pub fn never_begun() -> Figures {
        Figures::new(0)
    }

    pub(super) fn took(&mut self, from: Option<NodeId>, tokens: usize) {
        let Some(node) = from else {
            self.own += tokens;
            return;
        };
        if let Some((_, count)) = self.peers.iter_mut().find(|(peer, _)| *peer == node) {
            *count += tokens;
        } else if let Err((_, tokens)) = self.peers.push((node, tokens)) {
            self.peers[MAX_NAMED - 1].1 += tokens;
        }
    }

    pub(super) fn since(asked: Millis, now: Millis) -> u64 {
        (now - asked).0
    }

    /// Tokens that peers gave.
    pub fn from_peers(&self) -> usize {
        self.peers.iter().map(|(_, tokens)| tokens).sum()
    }

    /// Tokens of the answer after the first, over the time they took; none for an answer of one token.
    pub fn tokens_per_s(&self) -> Option<f64> {
        let ms = self.ttlt_ms - self.ttft_ms;
        (self.generated > 1 && ms > 0).then(|| (self.generated - 1) as f64 * 1e3 / ms as f64)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} prompt tokens: {} own slab, {} peers", self.prompt_tokens, self.own, self.from_peers())?;
        if !self.peers.is_empty() {
            let names: Vec<String> = self.peers.iter().map(|(node, tokens)| format!("{node}: {tokens}")).collect();
            write!(f, " ({})", names.join(", "))?;
        }
        write!(f, ", {} computed; {} generated; ", self.computed, self.generated)?;
        write!(f, "TTFT {:.3} s, TTLT {:.3} s", self.ttft_ms as f64 / 1e3, self.ttlt_ms as f64 / 1e3)?;
        if let Some(rate) = self.tokens_per_s() {
            write!(f, ", {rate:.1} tokens/s")?;
        }
        f.write_str(match self.stop {
            StopReason::End => "; the model ended it",
            StopReason::StopString => "; ended at a stop string",
            StopReason::MaxTokens => "; cut at the number of tokens asked for",
            StopReason::ContextFull => "; cut because the context is full",
            StopReason::SlabFull => "; cut because the slab is full",
            StopReason::Stopped => "; stopped",
        })
    }
}

/// Counters of the joints; the rooms keep their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct NodeStats {
    /// Prompts answered.
    pub answered: u64,
    /// Prompts refused, with a reason to the asker.
    pub refused: u64,
    /// Block planes that came from peers, checked, and were used.
    pub planes_fetched: u64,
    /// Bytes of those.
    pub bytes_fetched: u64,
    /// Block planes sent to peers.
    pub planes_served: u64,
    /// Fetches that ended without everything that was asked for: absent, late or lost; the rest was computed.
    pub fetches_cut_short: u64,
    /// Block planes asked of peers.
    pub wants_sent: u64,
    /// Of the planes asked for: the peer did not have them (a false positive or an eviction).
    pub wants_absent: u64,
    /// Of the planes asked for: not there at the deadline.
    pub wants_late: u64,
    /// Connections that ended with wants open.
    pub connections_lost: u64,
    /// Connections closed because the peer sent what it must not.
    pub peer_faults: u64,
    /// Prompts begun anew because the engine could do nothing with the state that was here.
    pub states_distrusted: u64,
    /// Connections ended because their peers held on to room that an answer needed.
    pub serves_ended: u64,
    /// Connections refused because too many stood.
    pub connections_refused: u64,
}

/// One peer as this node sees it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PeerStatus {
    /// Who.
    pub node: NodeId,
    /// Where it serves blocks.
    pub addr: SocketAddr,
    /// The generation of its filter that this node knows.
    pub generation: u64,
    /// How busy it said it is, in percent, with its last announcement.
    pub load_percent: u8,
    /// Whether the whole filter is known at that generation.
    pub current: bool,
    /// Whether its blocks can be used here: same model, build and epoch.
    pub shares: bool,
    /// Measured; none before the first transfer.
    pub goodput_bytes_per_s: Option<f32>,
    /// Measured; none before the first connection.
    pub round_trip_ms: Option<f32>,
}

/// A node's own view of itself.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Status {
    /// Who.
    pub node: NodeId,
    /// What its blocks fit.
    pub fingerprint: Fingerprint,
    /// The swarm's epoch.
    pub epoch: Epoch,
    /// The generation of its own filter, as told to the peers.
    pub generation: u64,
    /// Whether the peers have been told all.
    pub told: bool,
    /// Measured; none before the first prompt.
    pub prefill_tokens_per_s: Option<f32>,
    /// Everyone heard of lately.
    pub peers: Vec<PeerStatus>,
    /// The slab and its index.
    pub cache: CacheStats,
    /// The catalog's counters.
    pub catalog: CatalogStats,
    /// Counters.
    pub node_stats: NodeStats,
}

impl Status {
    /// This node, for a person.
    pub fn summary(&self) -> String {
        let [global, sliding] = self.cache.planes;
        let rate = self.prefill_tokens_per_s.map_or("not measured yet".to_string(), |rate| format!("{rate:.0} tokens/s"));
        format!(
            "node     {}, epoch {}\nmodel    {} (with this build and precision)\n\
             slab     {:.1} MB: {} of {} global and {} of {} sliding slots hold state, {} blocks known\n\
             prefill  {rate}\npeers    {}\n",
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

    /// A line a peer, for a person.
    pub fn peer_table(&self) -> String {
        if self.peers.is_empty() {
            return "no peer has been heard\n".to_string();
        }
        let mut text = String::new();
        for peer in &self.peers {
            let goodput = peer.goodput_bytes_per_s.map_or("not measured".to_string(), |rate| format!("{:.1} MB/s", rate / 1e6));
            let trip = peer.round_trip_ms.map_or("not measured".to_string(), |ms| format!("{ms:.1} ms"));
            let shares = match (peer.shares, peer.current) {
                (false, _) => "other model, build or epoch: shares nothing with this node",
                (true, true) => "catalog known",
                (true, false) => "catalog being repaired",
            };
            text += &format!("{} at {}: {shares}; goodput {goodput}, round trip {trip}\n", peer.node, peer.addr);
        }
        text
    }

    /// What this node and its peers say that they hold, for a person.
    pub fn catalog_table(&self) -> String {
        let Status { catalog, generation, .. } = self;
        let told = if self.told { "all told" } else { "not all told yet" };
        let mut text = format!(
            "this node: generation {generation}, {} blocks, {told}; {:.1} kB said, {:.1} kB heard\n",
            self.cache.entries,
            catalog.bytes_sent as f64 / 1e3,
            catalog.bytes_heard as f64 / 1e3,
        );
        for peer in &self.peers {
            let known = if peer.current { "known" } else { "being repaired" };
            text += &format!("{}: generation {}, {known}; {} % busy\n", peer.node, peer.generation, peer.load_percent);
        }
        text
    }

    /// The memory for KV state, for a person.
    pub fn slab_table(&self) -> String {
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

    /// The counters, a group a line, for a person. What should not happen at all is named only where it did.
    pub fn counters(&self) -> String {
        let (node, cache, catalog) = (&self.node_stats, &self.cache, &self.catalog);
        let mut text = format!("prompts  {} answered, {} refused\n", node.answered, node.refused);
        text += &format!(
            "fetched  {} planes, {:.1} MB; asked for {}, of which {} absent, {} late; {} fetches cut short\n",
            node.planes_fetched,
            node.bytes_fetched as f64 / 1e6,
            node.wants_sent,
            node.wants_absent,
            node.wants_late,
            node.fetches_cut_short,
        );
        text += &format!("served   {} planes\n", node.planes_served);
        text += &format!("slab     {} planes stored, {} evicted, {} refused\n", cache.inserted, cache.evicted, cache.refused);
        text += &format!(
            "said     {} announcements, {} deltas, {} segments, {:.1} kB\n",
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
            catalog.joined, catalog.restarted, catalog.left, catalog.forgotten, catalog.pulls, catalog.segments_pulled,
        );
        let odd = self.oddities();
        let odd: Vec<String> =
            odd.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        text + &format!("odd      {}\n", if odd.is_empty() { "nothing".to_string() } else { odd.join(", ") })
    }

    /// What a healthy swarm of one kind does not have.
    fn oddities(&self) -> [(u64, &'static str); 18] {
        let (node, catalog) = (&self.node_stats, &self.catalog);
        [
            (node.connections_lost, "connections lost in mid-fetch"),
            (node.connections_refused, "connections refused for want of room"),
            (node.peer_faults, "connections closed for a peer's fault"),
            (self.cache.collisions, "collisions of keys"),
            (catalog.duplicate_identity, "datagrams of another node with this id"),
            (catalog.overtaken, "datagrams too late or twice"),
            (catalog.strangers, "datagrams of nodes not announced"),
            (catalog.newer_epoch + catalog.older_epoch, "datagrams of another epoch"),
            (catalog.evicted + catalog.table_full, "peers without a place in the table"),
            (catalog.pull_faults, "repairs of no use"),
            (catalog.removed_absent, "removals of what was not there"),
            (catalog.foreign, "datagrams not potluck's"),
            (catalog.other_version, "datagrams of another version"),
            (catalog.other_swarm, "datagrams of another swarm"),
            (catalog.forged, "datagrams forged or damaged"),
            (catalog.malformed, "datagrams that cannot be decoded"),
            (catalog.out_of_limits, "datagrams with impossible sizes"),
            (catalog.contradictions, "datagrams that contradict others"),
        ]
    }
}
