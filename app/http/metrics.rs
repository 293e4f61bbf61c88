//! `/metrics`, in Prometheus' names and units. What is not known is absent, and never 0.
//!
//! What every process has goes by the names that Prometheus' own clients give it (`process_…`); all else begins with `potluck_`.

use std::cell::RefCell;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::id::Millis;
use crate::node::{Counts, Figures, Status, Tally};

use super::hour::{Hour, Minute};

/// Seconds to a first token, from a hit on a PC to a long prompt on a board.
const TTFT_BUCKETS: [f64; 12] = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
/// Seconds to a last one.
const TTLT_BUCKETS: [f64; 12] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];

type Labels = Vec<(&'static str, String)>;
type Number = Gauge<f64, AtomicU64>;

/// What is added up over the answers of a node.
#[derive(Default)]
struct Sums {
    own: u64,
    peers: u64,
    computed: u64,
    generated: u64,
}

/// See the file's head.
pub(crate) struct Meters {
    ttft: Histogram,
    ttlt: Histogram,
    sums: RefCell<Sums>,
    hour: RefCell<Hour>,
}

/// What the machine says of itself; what it does not tell is none.
#[derive(Default)]
pub(crate) struct Machine {
    /// Bytes of this process that lie in memory.
    pub(crate) resident_bytes: Option<u64>,
    /// Bytes that could be had.
    pub(crate) available_bytes: Option<u64>,
    /// Seconds that this process has computed.
    pub(crate) cpu_s: Option<f64>,
    /// Seconds since this node was started.
    pub(crate) up_s: f64,
    /// Of the processor.
    pub(crate) celsius: Option<f64>,
    /// The firmware's word on voltage and heat: bits 0 to 3 now.
    pub(crate) throttled: Option<u32>,
    /// Whether the supply's voltage is too low, where only that is known.
    pub(crate) under_voltage: Option<bool>,
    /// dBm by radio.
    pub(crate) signals: Vec<(String, i32)>,
    /// Bytes free and in all where state is kept.
    pub(crate) card: Option<(u64, u64)>,
}

/// A node at one moment.
pub(crate) struct Sample<'a> {
    /// What the node says of itself.
    pub(crate) status: &'a Status,
    /// The model's name.
    pub(crate) model: &'a str,
    /// Requests that wait for a place at the node.
    pub(crate) waiting: usize,
    /// What the machine says of itself.
    pub(crate) machine: &'a Machine,
}

impl Default for Meters {
    fn default() -> Meters {
        let [ttft, ttlt] = [TTFT_BUCKETS, TTLT_BUCKETS].map(Histogram::new);
        Meters { ttft, ttlt, sums: RefCell::default(), hour: RefCell::default() }
    }
}

impl Meters {
    /// Counts an answer.
    pub(crate) fn observe(&self, figures: &Figures, now: Millis) {
        if figures.generated == 0 {
            return;
        }
        self.ttft.observe(figures.ttft_ms as f64 / 1e3);
        self.ttlt.observe(figures.ttlt_ms as f64 / 1e3);
        let mut sums = self.sums.borrow_mut();
        sums.own += figures.own as u64;
        sums.peers += figures.from_peers() as u64;
        sums.computed += figures.computed as u64;
        sums.generated += figures.generated as u64;
        self.hour.borrow_mut().observe(figures, now);
    }

    /// Where the state of the last hour's prompts came from.
    pub(crate) fn hour(&self, now: Millis) -> Vec<Minute> {
        self.hour.borrow().minutes(now)
    }

    /// All that is measured, as Prometheus reads it.
    pub(crate) fn text(&self, sample: &Sample<'_>) -> String {
        let mut page = Page(Registry::with_prefix("potluck"));
        page.0.register_with_unit("ttft", "Time to the first token of an answer", Unit::Seconds, self.ttft.clone());
        page.0.register_with_unit("ttlt", "Time to the last token of an answer", Unit::Seconds, self.ttlt.clone());
        let sums = self.sums.borrow();
        let sources = [("slab", sums.own), ("peers", sums.peers), ("computed", sums.computed)];
        page.counters("prompt_tokens", "Tokens of prompts, by where their state came from", "source", sources);
        page.counter("generated_tokens", "Tokens of answers", sums.generated);
        page.node(sample);
        page.peers(sample.status);
        page.slab(sample.status);
        page.catalog(sample.status);
        page.machine(sample.machine);
        let mut process = Page(Registry::default());
        process.process(sample.machine);
        let mut text = String::new();
        let written = encode_registry(&mut text, &page.0)
            .and_then(|()| encode_registry(&mut text, &process.0))
            .and_then(|()| encode_eof(&mut text));
        written.unwrap_or_else(|error| unreachable!("a string takes what is written to it: {error}"));
        text
    }
}

/// What is being written.
struct Page(Registry);

impl Page {
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        self.0.register(name, help, counter);
    }

    fn counters<const N: usize>(&mut self, name: &str, help: &str, label: &'static str, values: [(&str, u64); N]) {
        let family = Family::<Labels, Counter>::default();
        for (value, count) in values {
            family.get_or_create(&vec![(label, value.to_string())]).inc_by(count);
        }
        self.0.register(name, help, family);
    }

    fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) {
        if let Some(value) = value {
            let gauge = Number::default();
            gauge.set(value);
            self.0.register(name, help, gauge);
        }
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, Option<f64>)>) {
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

    fn node(&mut self, sample: &Sample<'_>) {
        let Sample { status, model, waiting, .. } = sample;
        let stats = &status.node_stats;
        let version = env!("CARGO_PKG_VERSION").to_string();
        let labels = vec![("node", status.node.to_string()), ("model", (*model).to_string()), ("version", version)];
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
            let Tally { slab, peers, echo, habit } = &stats.drafts;
            [("slab", of(slab)), ("peers", of(peers)), ("echo", of(echo)), ("habit", of(habit))]
        };
        let what = "Tokens of answers that were guessed and checked, by where they came from";
        self.counters("drafted_tokens", what, "source", by_source(|counts| counts.drafted));
        self.counters("drafted_tokens_right", "Those of them that were right", "source", by_source(|counts| counts.accepted));
        self.counter("fetched_bytes", "Bytes of state that came from peers, checked", stats.bytes_fetched);
        let planes = [("fetched", stats.planes_fetched), ("served", stats.planes_served), ("unused", stats.planes_unused)];
        self.counters("planes", "Planes of blocks, by what was done with them", "kind", planes);
        self.counter("wants", "Planes of blocks that were asked of peers", stats.wants_sent);
        let audits = [("passed", stats.blocks_audited), ("failed", stats.audits_failed), ("skipped", stats.audits_skipped)];
        self.counters("audits", "Blocks of peers that were computed again, by what was found", "outcome", audits);
        let rate = status.prefill_tokens_per_s.map(f64::from);
        self.gauge("prefill_tokens_per_second", "Tokens of prompts that this node computes in a second", rate);
        self.gauge("epoch", "The swarm's epoch: resets of the swarm", Some(status.epoch.0 as f64));
    }

    fn catalog(&mut self, status: &Status) {
        let catalog = &status.catalog;
        let bytes = [("sent", catalog.bytes_sent), ("heard", catalog.bytes_heard)];
        self.counters("catalog_bytes", "Bytes of the catalog's datagrams, without headers", "direction", bytes);
        let of = |kind: &str, direction: &str| vec![("kind", kind.to_string()), ("direction", direction.to_string())];
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
        let bits = bits.map(|(state, count)| (vec![("state", state.to_string())], Some(count as f64)));
        self.gauges("filter_bits", "Bits of this node's Bloom filter", bits);
    }

    fn machine(&mut self, machine: &Machine) {
        self.gauge("uptime_seconds", "Time since this node was started", Some(machine.up_s));
        self.gauge("temperature_celsius", "Temperature of the processor", machine.celsius);
        let now = |bit: u32| machine.throttled.map(|bits| bits & (1 << bit) != 0);
        let reasons = [
            ("under_voltage", now(0).or(machine.under_voltage)),
            ("frequency_capped", now(1)),
            ("throttled", now(2)),
            ("soft_temperature_limit", now(3)),
        ];
        let reasons = reasons.map(|(reason, is)| (vec![("reason", reason.to_string())], is.map(|is| f64::from(u8::from(is)))));
        self.gauges("throttled", "Whether the board is slowed down now, by reason", reasons);
        let signals = machine.signals.iter().map(|(radio, dbm)| (vec![("interface", radio.clone())], Some(f64::from(*dbm))));
        self.gauges("wifi_signal_dbm", "The strength of a radio's network", signals);
        let available = machine.available_bytes.map(|bytes| bytes as f64);
        self.gauge("memory_available_bytes", "Memory that could be had beside what is held", available);
        let bytes = |of: fn((u64, u64)) -> u64| machine.card.map(|card| of(card) as f64);
        let card = [("free", bytes(|card| card.0)), ("total", bytes(|card| card.1))];
        let card = card.map(|(state, bytes)| (vec![("state", state.to_string())], bytes));
        self.gauges("card_bytes", "The file system that state is kept on", card);
    }

    fn process(&mut self, machine: &Machine) {
        let resident = machine.resident_bytes.map(|bytes| bytes as f64);
        self.gauge("process_resident_memory_bytes", "Memory of this process that is in RAM", resident);
        if let Some(seconds) = machine.cpu_s {
            let counter = Counter::<f64, AtomicU64>::default();
            counter.inc_by(seconds);
            self.0.register("process_cpu_seconds", "Time that this process has computed", counter);
        }
    }

    fn peers(&mut self, status: &Status) {
        let labels = |at: usize| vec![("peer", status.peers[at].name.label(status.peers[at].node))];
        let all = || status.peers.iter().enumerate();
        self.gauge("peers", "Peers that were heard of lately", Some(status.peers.len() as f64));
        let goodput = all().map(|(at, peer)| (labels(at), peer.goodput_bytes_per_s.map(f64::from)));
        self.gauges("peer_goodput_bytes_per_second", "What a peer brings in a second, where it was measured", goodput);
        let trip = all().map(|(at, peer)| (labels(at), peer.round_trip_ms.map(|ms| f64::from(ms) / 1e3)));
        self.gauges("peer_round_trip_seconds", "The round trip to a peer, where it was measured", trip);
        let worth = all().map(|(at, peer)| (labels(at), Some(f64::from(peer.worth))));
        self.gauges("peer_worth", "How far a peer is trusted, from 0 to 1", worth);
    }

    fn slab(&mut self, status: &Status) {
        let cache = &status.cache;
        let planes = || ["global", "sliding"].into_iter().zip(&cache.planes);
        let slots = planes().flat_map(|(name, plane)| {
            [("held", plane.held), ("filling", plane.reserved), ("total", plane.slots)]
                .map(|(state, count)| (vec![("plane", name.to_string()), ("state", state.to_string())], Some(count as f64)))
        });
        self.gauges("slab_slots", "Slots of the slab, by plane and state", slots);
        self.gauge("slab_bytes", "Bytes of the slab", Some(cache.slab_bytes() as f64));
        self.gauge("blocks", "Blocks that this node knows", Some(cache.entries as f64));
        let planes = [("stored", cache.inserted), ("evicted", cache.evicted), ("refused", cache.refused)];
        self.counters("slab_planes", "Planes that the slab took, evicted or refused", "kind", planes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, Fingerprint, NodeId, NodeName};
    use crate::node::{NodeStats, PeerStatus};

    fn peer(goodput: Option<f32>) -> PeerStatus {
        PeerStatus {
            node: NodeId(1),
            name: NodeName::of("kit\"chen"),
            former_key: false,
            addr: "10.0.0.2:7".parse().unwrap(),
            generation: 0,
            load_percent: 0,
            current: true,
            shares: true,
            distrusted: false,
            goodput_bytes_per_s: goodput,
            round_trip_ms: None,
            worth: 1.0,
            heard: "multicast",
        }
    }

    fn status() -> Status {
        Status {
            node: NodeId(7),
            fingerprint: Fingerprint([0; 16]),
            epoch: Epoch(3),
            generation: 0,
            told: true,
            prefill_tokens_per_s: None,
            waiting: 1,
            filter_bits: (8, 3),
            peers: vec![peer(None)],
            cache: Default::default(),
            catalog: Default::default(),
            node_stats: NodeStats {
                answered: 2,
                drafts: Tally { peers: Counts { drafted: 9, accepted: 8, wrong: 1 }, ..Tally::default() },
                ..NodeStats::default()
            },
        }
    }

    #[test]
    fn what_is_known_is_said_in_prometheus_form_and_nothing_else() {
        let mut status = status();
        let meters = Meters::default();
        let figures = Figures { own: 32, computed: 8, generated: 5, ttft_ms: 90, ttlt_ms: 900, ..Figures::never_begun() };
        meters.observe(&figures, Millis(0));
        meters.observe(&Figures::never_begun(), Millis(0));
        let machine = Machine { resident_bytes: Some(1_000), under_voltage: Some(true), ..Machine::default() };
        let text = |status: &Status| meters.text(&Sample { status, model: "gemma.gguf", waiting: 2, machine: &machine });
        let said = text(&status);
        for line in [
            "potluck_ttft_seconds_bucket{le=\"0.1\"} 1",
            "potluck_ttft_seconds_count 1",
            "potluck_ttlt_seconds_sum 0.9",
            "potluck_prompt_tokens_total{source=\"slab\"} 32",
            "potluck_generated_tokens_total 5",
            "potluck_prompts_total{outcome=\"answered\"} 2",
            "potluck_prompts_waiting 3.0",
            "potluck_filter_bits{state=\"set\"} 3.0",
            "potluck_catalog_datagrams_total{kind=\"delta\",direction=\"heard\"} 0",
            "potluck_throttled{reason=\"under_voltage\"} 1.0",
            "process_resident_memory_bytes 1000.0",
            "potluck_epoch 3.0",
            "potluck_drafted_tokens_total{source=\"peers\"} 9",
            "potluck_drafted_tokens_right_total{source=\"peers\"} 8",
        ] {
            assert!(said.lines().any(|said| said == line), "{line} is missing in:\n{said}");
        }
        for unknown in ["temperature", "goodput", "round_trip", "prefill", "frequency_capped", "wifi", "card", "cpu", "available"]
        {
            assert!(!said.contains(unknown), "{unknown} is not known:\n{said}");
        }
        status.peers = vec![peer(Some(2.5e6))];
        let said = text(&status);
        assert!(said.contains("potluck_peer_goodput_bytes_per_second{peer=\"kit\\\"chen"), "{said}");
        assert!(said.ends_with("# EOF\n") && said.matches("# EOF").count() == 1);
        assert_eq!(meters.hour(Millis(0))[59], [32, 0, 8, 1]);
    }

    /// The names of a text in Prometheus' form.
    fn names(text: &str) -> Vec<&str> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let mut names: Vec<&str> = samples.filter_map(|line| line.split(['{', ' ']).next()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// A name that a board would never export leaves its panel empty for good, and nobody is told.
    #[test]
    fn the_dashboard_asks_for_what_a_node_exports() {
        let status = Status {
            prefill_tokens_per_s: Some(90.0),
            peers: vec![PeerStatus { round_trip_ms: Some(3.0), ..peer(Some(2e6)) }],
            ..status()
        };
        let machine = Machine {
            resident_bytes: Some(1),
            available_bytes: Some(1),
            cpu_s: Some(1.0),
            up_s: 1.0,
            celsius: Some(40.0),
            throttled: Some(0),
            under_voltage: None,
            signals: vec![("wlan0".to_string(), -60)],
            card: Some((1, 2)),
        };
        let text = Meters::default().text(&Sample { status: &status, model: "m", waiting: 0, machine: &machine });
        let exported = names(&text);
        let dashboard: serde_json::Value = serde_json::from_str(include_str!("../../docs/use/grafana.json")).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
        let queries: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
        let is_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
        let words = || queries.iter().flat_map(|query| query.split(|letter| !is_name(letter)));
        let asked: Vec<&str> = words().filter(|word| word.starts_with("potluck_") || word.starts_with("process_")).collect();
        assert!(asked.len() > 20, "{asked:?}");
        let missing: Vec<&&str> = asked.iter().filter(|name| !exported.contains(name)).collect();
        assert!(missing.is_empty(), "nodes export no {missing:?}, but {exported:?}");
        // And nothing that is measured is missing from it, but for the parts of the histograms that the buckets sum up.
        let is_shown = |name: &&&str| asked.contains(*name) || name.ends_with("_count") || name.ends_with("_sum");
        let unseen: Vec<&&str> = exported.iter().filter(|name| !is_shown(name)).collect();
        assert!(unseen.is_empty(), "the dashboard does not show {unseen:?}");
    }
}
