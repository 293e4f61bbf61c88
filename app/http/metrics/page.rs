//! The metrics of a node by name: its prompts, peers, slab, catalog, machine and process.
//!
//! Promise: an unknown value is absent, never 0.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::node::{Counts, Status, Tally};

use super::{Machine, Sample};

type Labels = Vec<(&'static str, String)>;
type Number = Gauge<f64, AtomicU64>;

/// The page being written.
pub(super) struct Page(pub(super) Registry);

impl Page {
    /// Adds a counter without labels.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        self.0.register(name, help, counter);
    }

    /// Adds a counter for each value of one label.
    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: [(&str, u64); N],
    ) {
        let family = Family::<Labels, Counter>::default();
        for (value, count) in values {
            family.get_or_create(&vec![(label, value.to_string())]).inc_by(count);
        }
        self.0.register(name, help, family);
    }

    /// Adds a gauge, if its value is known.
    fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) {
        if let Some(value) = value {
            let gauge = Number::default();
            gauge.set(value);
            self.0.register(name, help, gauge);
        }
    }

    /// Adds a gauge with labels, as far as its values are known.
    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, Option<f64>)>,
    ) {
        let family = Family::<Labels, Number>::default();
        let mut is_known = false;
        for (labels, value) in values {
            if let Some(value) = value {
                family.get_or_create(&labels).set(value);
                is_known = true;
            }
        }
        if is_known {
            self.0.register(name, help, family);
        }
    }

    /// The node itself: its prompts, failures, drafts, transfers and audits.
    pub(super) fn node(&mut self, sample: &Sample<'_>) {
        let Sample { status, model, waiting, .. } = sample;
        let stats = &status.node_stats;
        let version = env!("CARGO_PKG_VERSION").to_string();
        let labels = vec![
            ("node", status.node.to_string()),
            ("model", (*model).to_string()),
            ("version", version),
        ];
        self.gauges("node_info", "This node, its model and its build", [(labels, Some(1.0))]);
        let prompts = [("answered", stats.answered), ("refused", stats.refused)];
        self.counters("prompts", "Prompts, by what became of them", "outcome", prompts);
        let waiting = status.waiting + waiting;
        self.gauge("prompts_waiting", "Prompts that wait for their turn", Some(waiting as f64));
        self.counters(
            "failures",
            "What went wrong with peers, by kind",
            "kind",
            [
                ("stalled", stats.peers_stalled),
                ("absent", stats.wants_absent),
                ("connection_lost", stats.connections_lost),
                ("protocol", stats.peer_faults),
                ("audit", stats.audits_failed),
                ("refused_by_peer", stats.refused_by_peers),
                ("connection_refused", stats.connections_refused),
                ("connection_throttled", stats.connections_throttled),
                ("state_distrusted", stats.states_distrusted),
            ],
        );
        let by_source = |of: fn(&Counts) -> u64| {
            let Tally { slab, peers, echo, habit, peer_habit } = &stats.drafts;
            [
                ("slab", of(slab)),
                ("peers", of(peers)),
                ("echo", of(echo)),
                ("habit", of(habit)),
                ("peer_habit", of(peer_habit)),
            ]
        };
        let what = "Tokens of answers that were drafted and checked, by where they came from";
        self.counters("drafted_tokens", what, "source", by_source(|counts| counts.drafted));
        self.counters(
            "drafted_tokens_right",
            "Those of them that were right",
            "source",
            by_source(|counts| counts.accepted),
        );
        self.counter(
            "fetched_bytes",
            "Bytes of state that came from peers, checked",
            stats.bytes_fetched,
        );
        let planes = [
            ("fetched", stats.planes_fetched),
            ("served", stats.planes_served),
            ("unused", stats.planes_unused),
        ];
        self.counters("planes", "Planes of blocks, by what was done with them", "kind", planes);
        self.counter("wants", "Planes of blocks that were asked of peers", stats.wants_sent);
        let audits = [
            ("passed", stats.blocks_audited),
            ("failed", stats.audits_failed),
            ("skipped", stats.audits_skipped),
        ];
        self.counters("audits", "Blocks of peers that were audited, by outcome", "outcome", audits);
        let rate = status.prefill_tokens_per_s.map(f64::from);
        self.gauge(
            "prefill_tokens_per_second",
            "Tokens of prompts that this node computes in a second",
            rate,
        );
        self.gauge("epoch", "The swarm's epoch: resets of the swarm", Some(status.epoch.0 as f64));
    }

    /// The catalog's traffic, and this node's Bloom filter.
    pub(super) fn catalog(&mut self, status: &Status) {
        let catalog = &status.catalog;
        let bytes = [("sent", catalog.bytes_sent), ("heard", catalog.bytes_heard)];
        self.counters(
            "catalog_bytes",
            "Bytes of the catalog's datagrams, without headers",
            "direction",
            bytes,
        );
        let of = |kind: &str, direction: &str| {
            vec![("kind", kind.to_string()), ("direction", direction.to_string())]
        };
        let family = Family::<Labels, Counter>::default();
        for (kind, sent, heard) in [
            ("announcement", catalog.announcements_sent, catalog.announcements_heard),
            ("delta", catalog.deltas_sent, catalog.deltas_heard),
            ("segment", catalog.segments_sent, catalog.segments_heard),
        ] {
            family.get_or_create(&of(kind, "sent")).inc_by(sent);
            family.get_or_create(&of(kind, "heard")).inc_by(heard);
        }
        self.0.register("catalog_datagrams", "Datagrams of the catalog, by kind", family);
        let (all, set) = status.filter_bits;
        let bits = [("set", set), ("total", all)];
        let bits =
            bits.map(|(state, count)| (vec![("state", state.to_string())], Some(count as f64)));
        self.gauges("filter_bits", "Bits of this node's Bloom filter", bits);
    }

    /// The machine that the node runs on.
    pub(super) fn machine(&mut self, machine: &Machine) {
        self.gauge("uptime_seconds", "Time since this node was started", Some(machine.up_s));
        self.gauge("temperature_celsius", "Temperature of the processor", machine.celsius);
        let now = |bit: u32| machine.throttled.map(|bits| bits & (1 << bit) != 0);
        let reasons = [
            ("under_voltage", now(0).or(machine.under_voltage)),
            ("frequency_capped", now(1)),
            ("throttled", now(2)),
            ("soft_temperature_limit", now(3)),
        ];
        let reasons = reasons.map(|(reason, is)| {
            (vec![("reason", reason.to_string())], is.map(|is| f64::from(u8::from(is))))
        });
        self.gauges("throttled", "Whether the board is slowed down now, by reason", reasons);
        let signals = machine
            .signals
            .iter()
            .map(|(radio, dbm)| (vec![("interface", radio.clone())], Some(f64::from(*dbm))));
        self.gauges("wifi_signal_dbm", "Signal strength of a radio's network", signals);
        let available = machine.available_bytes.map(|bytes| bytes as f64);
        self.gauge(
            "memory_available_bytes",
            "Memory available in addition to what is held",
            available,
        );
        let bytes = |of: fn((u64, u64)) -> u64| machine.card.map(|card| of(card) as f64);
        let card = [("free", bytes(|card| card.0)), ("total", bytes(|card| card.1))];
        let card = card.map(|(state, bytes)| (vec![("state", state.to_string())], bytes));
        self.gauges("card_bytes", "The file system that state is kept on", card);
    }

    /// Standard process metrics, which have no prefix.
    pub(super) fn process(&mut self, machine: &Machine) {
        let resident = machine.resident_bytes.map(|bytes| bytes as f64);
        self.gauge(
            "process_resident_memory_bytes",
            "Memory of this process that is in RAM",
            resident,
        );
        if let Some(seconds) = machine.cpu_s {
            let counter = Counter::<f64, AtomicU64>::default();
            counter.inc_by(seconds);
            self.0.register("process_cpu_seconds", "CPU time of this process", counter);
        }
    }

    /// Each peer, by its name.
    pub(super) fn peers(&mut self, status: &Status) {
        let labels = |at: usize| vec![("peer", status.peers[at].name.label(status.peers[at].node))];
        let all = || status.peers.iter().enumerate();
        self.gauge("peers", "Peers heard recently", Some(status.peers.len() as f64));
        let goodput = all().map(|(at, peer)| (labels(at), peer.goodput_bytes_per_s.map(f64::from)));
        self.gauges(
            "peer_goodput_bytes_per_second",
            "Goodput of a peer, where it was measured",
            goodput,
        );
        let trip =
            all().map(|(at, peer)| (labels(at), peer.round_trip_ms.map(|ms| f64::from(ms) / 1e3)));
        self.gauges(
            "peer_round_trip_seconds",
            "The round trip to a peer, where it was measured",
            trip,
        );
        let worth = all().map(|(at, peer)| (labels(at), Some(f64::from(peer.worth))));
        self.gauges("peer_worth", "How far a peer is trusted, from 0 to 1", worth);
    }

    /// The slab and the blocks in it.
    pub(super) fn slab(&mut self, status: &Status) {
        let cache = &status.cache;
        let planes = || ["global", "sliding"].into_iter().zip(&cache.planes);
        let slots = planes().flat_map(|(name, plane)| {
            [("held", plane.held), ("filling", plane.reserved), ("total", plane.slots)].map(
                |(state, count)| {
                    (
                        vec![("plane", name.to_string()), ("state", state.to_string())],
                        Some(count as f64),
                    )
                },
            )
        });
        self.gauges("slab_slots", "Slots of the slab, by plane and state", slots);
        self.gauge("slab_bytes", "Bytes of the slab", Some(cache.slab_bytes() as f64));
        self.gauge("blocks", "Blocks that this node knows", Some(cache.entries as f64));
        let planes =
            [("stored", cache.inserted), ("evicted", cache.evicted), ("refused", cache.refused)];
        self.counters(
            "slab_planes",
            "Planes that the slab took, evicted or refused",
            "kind",
            planes,
        );
    }
}
