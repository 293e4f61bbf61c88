//! The JSON output for programs: one object a line, with its kind in `event`.

use std::io;

use serde::Serialize;

use crate::cache::CacheStats;
use crate::catalog::CatalogStats;
use crate::console::{Entry, NetFacts, Report, Settings};
use crate::id::{Epoch, Fingerprint, NodeId, TokenId};
use crate::lan::Interface;
use crate::node::{Figures, NodeStats, PeerStatus, Progress, Status};

use super::terminal::{OutputError, print_line};

/// One line of JSON output.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// The node accepts prompts.
    Ready {
        node: NodeId,
        model: &'a str,
        chat: bool,
        fingerprint: Fingerprint,
        tcp_port: u16,
        #[serde(skip_serializing_if = "Option::is_none")]
        pace: Option<&'a str>,
    },
    /// The progress of a prompt before its first token, if that takes more than a second.
    Progress {
        id: u64,
        #[serde(flatten)]
        progress: &'a Progress,
    },
    /// More of an answer's text.
    Text { id: u64, text: &'a str },
    /// A whole answer.
    Done { id: u64, text: &'a str, tokens: &'a [TokenId], figures: FiguresReport<'a> },
    /// There is no answer, and why.
    Failed { id: u64, reason: &'a str },
    /// This node.
    Status {
        status: &'a Status,
        swarm: SwarmReport<'a>,
        interfaces: &'a [Interface],
        #[serde(skip_serializing_if = "Option::is_none")]
        pace: Option<PaceReport<'a>>,
    },
    /// The network and the board, and what is wrong with them.
    Net { net: &'a NetFacts, faults: &'a [String] },
    /// The doctor's report.
    Doctor { doctor: &'a Report },
    /// The nodes on the LAN.
    Peers { peers: &'a [PeerStatus] },
    /// What this node and its peers announce that they hold.
    Catalog { generation: u64, told: bool, catalog: &'a CatalogStats, peers: &'a [PeerStatus] },
    /// The memory for KV state.
    Slab { slab: &'a CacheStats },
    /// Counters.
    Stats { node: &'a NodeStats, slab: &'a CacheStats, catalog: &'a CatalogStats },
    /// Measured rates of this node.
    Bench {
        bench: Rates,
        #[serde(skip_serializing_if = "Option::is_none")]
        pace: Option<&'a str>,
    },
    /// This console's settings for answers.
    Settings { settings: &'a Settings },
    /// The settings of `potluck.toml`, or what is wrong with the file.
    Config { config: &'a ConfigReport },
    /// Lines of the log.
    Log { log: &'a [&'a Entry] },
    /// The commands.
    Help { help: &'a str },
    /// Which build this is.
    Version { version: &'a str },
    /// The command succeeded without output.
    Ok { command: &'a str },
    /// A line for the log.
    Note { text: &'a str },
    /// The swarm was reset from here, and how many peers were told.
    Reset {
        epoch: Epoch,
        store: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        peers: Option<usize>,
    },
    /// A peer has acknowledged the reset.
    Acknowledged { node: NodeId },
    /// All peers have acknowledged, or the time is up.
    ResetEnded { acknowledged: usize, missing: &'a [NodeId] },
    /// A model file was written.
    Written { path: &'a str, tensors: usize, bytes: u64, notes: &'a [String] },
    /// A key was generated.
    Key { key: &'a str, words: &'a str },
    /// A request was not understood or cannot be carried out.
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        reason: &'a str,
    },
}

impl Event<'_> {
    /// The event as one line.
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|error| unreachable!("events are plain data: {error}"))
    }
}

/// Prints a report as an event of this kind on one line.
pub(crate) fn print_event(event: &'static str, report: &impl Serialize) -> Result<(), OutputError> {
    #[derive(Serialize)]
    struct Whole<'a, R> {
        event: &'static str,
        #[serde(flatten)]
        report: &'a R,
    }
    let line = serde_json::to_string(&Whole { event, report })
        .map_err(|error| OutputError::from(io::Error::from(error)))?;
    print_line(line)
}

/// An answer's figures, with times measured outside the node.
#[derive(Serialize)]
pub(crate) struct FiguresReport<'a> {
    #[serde(flatten)]
    pub figures: &'a Figures,
    #[serde(flatten)]
    pub around: Around,
    /// The machine whose pace was simulated, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pace: Option<&'a str>,
}

impl FiguresReport<'_> {
    /// A report without times from outside the node.
    pub(crate) fn of(figures: &Figures) -> FiguresReport<'_> {
        FiguresReport { figures, around: Around::default(), pace: None }
    }
}

/// Times measured outside the node, which has no clock of its own.
#[derive(Clone, Copy, Default, Serialize)]
pub(crate) struct Around {
    /// Tokenizing the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenising_us: Option<u64>,
    /// From the tokens to the engine's first step: keys, own slab, peers' Bloom filters, plan. None
    /// if another prompt was running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup_us: Option<u64>,
}

/// A simulated machine's pace, and how well it was kept.
#[derive(Serialize)]
pub(crate) struct PaceReport<'a> {
    pub name: &'a str,
    /// Whether the pace was derived rather than measured.
    pub estimate: bool,
    /// Completed jobs.
    pub jobs: u64,
    /// Of those, jobs that this machine was too slow for.
    pub late: u64,
    /// The greatest delay.
    pub latest_us: u64,
}

/// Whom a node shares with.
#[derive(Serialize)]
pub(crate) struct SwarmReport<'a> {
    /// "open", "locked", "shut" or "alone".
    pub sharing: &'static str,
    /// The number of known former keys.
    pub old_keys: usize,
    /// What to fix, if it is shut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// What the command `bench` measured.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Rates {
    pub prefill_tokens: usize,
    pub prefill_tokens_per_s: f64,
    pub decode_tokens: usize,
    /// None if fewer than two were decoded.
    pub decode_tokens_per_s: Option<f64>,
}

/// The effective settings.
#[derive(Serialize)]
pub(crate) struct ConfigReport {
    /// The user's file.
    pub path: Option<String>,
    /// The board's defaults file.
    pub defaults: Option<String>,
    /// Key, value and origin of each setting.
    pub settings: Vec<SettingReport>,
    /// What is wrong with the file.
    pub problems: Vec<String>,
}

/// One setting.
#[derive(Serialize)]
pub(crate) struct SettingReport {
    pub key: String,
    pub value: Option<String>,
    pub origin: String,
}
