//! `/metrics`, with Prometheus names and units. Unknown values are absent, never 0.
//!
//! Standard process metrics have the names that Prometheus' own clients use (`process_…`); all
//! others begin with `potluck_`.

mod page;

use std::cell::RefCell;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::id::Millis;
use crate::node::{Figures, Status};

use super::history::{History, Minute};

use page::Page;

/// Seconds to the first token, from a hit on a PC to a long prompt on a board.
const TTFT_BUCKETS: [f64; 12] = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
/// Seconds to the last token.
const TTLT_BUCKETS: [f64; 12] =
    [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];

/// Sums over the answers of a node.
#[derive(Default)]
struct Sums {
    own: u64,
    peers: u64,
    computed: u64,
    generated: u64,
}

/// Measurements of answers.
pub(crate) struct Meters {
    ttft: Histogram,
    ttlt: Histogram,
    sums: RefCell<Sums>,
    history: RefCell<History>,
}

/// Facts about the machine; unknown ones are none.
#[derive(Default)]
pub(crate) struct Machine {
    /// Resident memory of this process, in bytes.
    pub(crate) resident_bytes: Option<u64>,
    /// Available memory, in bytes.
    pub(crate) available_bytes: Option<u64>,
    /// CPU seconds of this process.
    pub(crate) cpu_s: Option<f64>,
    /// Seconds since this node was started.
    pub(crate) up_s: f64,
    /// The processor's temperature.
    pub(crate) celsius: Option<f64>,
    /// The firmware's flags for voltage and heat: bits 0 to 3 now.
    pub(crate) throttled: Option<u32>,
    /// Whether the supply voltage is too low, on boards that report only that.
    pub(crate) under_voltage: Option<bool>,
    /// Signal strength in dBm, by radio.
    pub(crate) signals: Vec<(String, i32)>,
    /// Free and total bytes of the file system that holds the state.
    pub(crate) card: Option<(u64, u64)>,
}

/// A node at one moment.
pub(crate) struct Sample<'a> {
    /// The node's status.
    pub(crate) status: &'a Status,
    /// The model's name.
    pub(crate) model: &'a str,
    /// Requests that wait for a turn at the node.
    pub(crate) waiting: usize,
    /// Facts about the machine.
    pub(crate) machine: &'a Machine,
}

impl Default for Meters {
    fn default() -> Meters {
        let [ttft, ttlt] = [TTFT_BUCKETS, TTLT_BUCKETS].map(Histogram::new);
        Meters { ttft, ttlt, sums: RefCell::default(), history: RefCell::default() }
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
        self.history.borrow_mut().observe(figures, now);
    }

    /// Where the state of the last hour's prompts came from.
    pub(crate) fn history(&self, now: Millis) -> Vec<Minute> {
        self.history.borrow().minutes(now)
    }

    /// All metrics in Prometheus' text format.
    pub(crate) fn text(&self, sample: &Sample<'_>) -> String {
        let mut page = Page(Registry::with_prefix("potluck"));
        page.0.register_with_unit(
            "ttft",
            "Time to the first token of an answer",
            Unit::Seconds,
            self.ttft.clone(),
        );
        page.0.register_with_unit(
            "ttlt",
            "Time to the last token of an answer",
            Unit::Seconds,
            self.ttlt.clone(),
        );
        let sums = self.sums.borrow();
        let sources = [("slab", sums.own), ("peers", sums.peers), ("computed", sums.computed)];
        page.counters(
            "prompt_tokens",
            "Tokens of prompts, by where their state came from",
            "source",
            sources,
        );
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
        written
            .unwrap_or_else(|error| unreachable!("a string takes what is written to it: {error}"));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, Fingerprint, NodeId, NodeName};
    use crate::node::{Counts, NodeStats, PeerStatus, Tally};

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
                drafts: Tally {
                    peers: Counts { drafted: 9, accepted: 8, wrong: 1 },
                    ..Tally::default()
                },
                ..NodeStats::default()
            },
        }
    }

    #[test]
    fn what_is_known_is_said_in_prometheus_form_and_nothing_else() {
        let mut status = status();
        let meters = Meters::default();
        let figures = Figures {
            own: 32,
            computed: 8,
            generated: 5,
            ttft_ms: 90,
            ttlt_ms: 900,
            ..Figures::never_begun()
        };
        meters.observe(&figures, Millis(0));
        meters.observe(&Figures::never_begun(), Millis(0));
        let machine = Machine {
            resident_bytes: Some(1_000),
            under_voltage: Some(true),
            ..Machine::default()
        };
        let text = |status: &Status| {
            meters.text(&Sample { status, model: "gemma.gguf", waiting: 2, machine: &machine })
        };
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
        for unknown in [
            "temperature",
            "goodput",
            "round_trip",
            "prefill",
            "frequency_capped",
            "wifi",
            "card",
            "cpu",
            "available",
        ] {
            assert!(!said.contains(unknown), "{unknown} is unknown and must be absent:\n{said}");
        }
        status.peers = vec![peer(Some(2.5e6))];
        let said = text(&status);
        assert!(
            said.contains("potluck_peer_goodput_bytes_per_second{peer=\"kit\\\"chen"),
            "{said}"
        );
        assert!(said.ends_with("# EOF\n") && said.matches("# EOF").count() == 1);
        assert_eq!(meters.history(Millis(0))[59], [32, 0, 8, 1]);
    }

    /// The metric names of a text in Prometheus' format.
    fn names(text: &str) -> Vec<&str> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let mut names: Vec<&str> =
            samples.filter_map(|line| line.split(['{', ' ']).next()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// A panel that queries a name no board exports stays empty forever, silently.
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
        let text = Meters::default().text(&Sample {
            status: &status,
            model: "m",
            waiting: 0,
            machine: &machine,
        });
        let exported = names(&text);
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../docs/use/grafana.json")).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let targets =
            panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
        let queries: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
        let is_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
        let words = || queries.iter().flat_map(|query| query.split(|letter| !is_name(letter)));
        let asked: Vec<&str> = words()
            .filter(|word| word.starts_with("potluck_") || word.starts_with("process_"))
            .collect();
        assert!(asked.len() > 20, "{asked:?}");
        let missing: Vec<&&str> = asked.iter().filter(|name| !exported.contains(name)).collect();
        assert!(missing.is_empty(), "nodes export no {missing:?}, but {exported:?}");
        // Conversely, the dashboard shows every metric, except the histograms' `_count` and `_sum`,
        // which the buckets cover.
        let is_shown = |name: &&&str| {
            asked.contains(*name) || name.ends_with("_count") || name.ends_with("_sum")
        };
        let unseen: Vec<&&str> = exported.iter().filter(|name| !is_shown(name)).collect();
        assert!(unseen.is_empty(), "the dashboard does not show {unseen:?}");
    }
}
