//! What nodes and commands say to programs: one JSON object a line, which says in `event` what it is.

use std::io;

use serde::Serialize;

use crate::cache::CacheStats;
use crate::catalog::CatalogStats;
use crate::console::{Entry, NetFacts, Report, Settings};
use crate::id::{Epoch, Fingerprint, NodeId, TokenId};
use crate::lan::Interface;
use crate::node::{Figures, NodeStats, PeerStatus, Progress, Status};

use super::terminal::{OutputError, give_line};

/// One line of the JSON form.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// The node runs and takes prompts.
    Ready {
        node: NodeId,
        model: &'a str,
        chat: bool,
        fingerprint: Fingerprint,
        tcp_port: u16,
        #[serde(skip_serializing_if = "Option::is_none")]
        pace: Option<&'a str>,
    },
    /// How far a prompt has come before its first token, where that takes more than a second.
    Progress {
        id: u64,
        #[serde(flatten)]
        progress: &'a Progress,
    },
    /// More of an answer's text.
    Text { id: u64, text: &'a str },
    /// A whole answer.
    Done { id: u64, text: &'a str, tokens: &'a [TokenId], figures: FiguresReport<'a> },
    /// No answer, and why.
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
    /// All that a node needs.
    Doctor { doctor: &'a Report },
    /// The nodes on the LAN.
    Peers { peers: &'a [PeerStatus] },
    /// What this node and its peers say that they hold.
    Catalog { generation: u64, told: bool, catalog: &'a CatalogStats, peers: &'a [PeerStatus] },
    /// The memory for KV state.
    Slab { slab: &'a CacheStats },
    /// Counters.
    Stats { node: &'a NodeStats, slab: &'a CacheStats, catalog: &'a CatalogStats },
    /// This node, measured.
    Bench {
        bench: Rates,
        #[serde(skip_serializing_if = "Option::is_none")]
        pace: Option<&'a str>,
    },
    /// How answers are made on this console.
    Settings { settings: &'a Settings },
    /// The settings of `potluck.toml`, or what is wrong with the file.
    Config { config: &'a ConfigReport },
    /// Lines of the log.
    Log { log: &'a [&'a Entry] },
    /// The commands.
    Help { help: &'a str },
    /// Which build this is.
    Version { version: &'a str },
    /// It is done, and there is nothing to say.
    Ok { command: &'a str },
    /// A line for the log.
    Note { text: &'a str },
    /// The swarm was reset from here; how many peers a node has told.
    Reset {
        epoch: Epoch,
        store: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        peers: Option<usize>,
    },
    /// A peer has obeyed the reset.
    Acknowledged { node: NodeId },
    /// Everybody has, or the time for it is over.
    ResetEnded { acknowledged: usize, missing: &'a [NodeId] },
    /// A model file was written.
    Written { path: &'a str, tensors: usize, bytes: u64, notes: &'a [String] },
    /// A key was drawn.
    Key { key: &'a str, words: &'a str },
    /// A request was not understood, or cannot be obeyed.
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        reason: &'a str,
    },
}

impl Event<'_> {
    /// The event on a line of its own.
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| unreachable!("events are plain data: {error}"))
    }
}

/// Prints a report as one event of this kind, on a line of its own.
pub(crate) fn give_event(event: &'static str, report: &impl Serialize) -> Result<(), OutputError> {
    #[derive(Serialize)]
    struct Whole<'a, R> {
        event: &'static str,
        #[serde(flatten)]
        report: &'a R,
    }
    let line = serde_json::to_string(&Whole { event, report }).map_err(|error| OutputError::from(io::Error::from(error)))?;
    give_line(line)
}

/// The figures of an answer, with what was measured around the node.
#[derive(Serialize)]
pub(crate) struct FiguresReport<'a> {
    #[serde(flatten)]
    pub figures: &'a Figures,
    #[serde(flatten)]
    pub around: Around,
    /// Whose times these are, where not this machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pace: Option<&'a str>,
}

impl FiguresReport<'_> {
    /// Of a node that nothing was measured around.
    pub(crate) fn of(figures: &Figures) -> FiguresReport<'_> {
        FiguresReport { figures, around: Around::default(), pace: None }
    }
}

/// What is measured around the node, which has no clock of its own.
#[derive(Clone, Copy, Default, Serialize)]
pub(crate) struct Around {
    /// Putting the prompt into tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenising_us: Option<u64>,
    /// From the tokens to the engine's first step: keys, the own slab, the peers' Bloom filters, the plan. None where another prompt was
    /// under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup_us: Option<u64>,
}

/// Another machine's pace, and how well it was kept.
#[derive(Serialize)]
pub(crate) struct PaceReport<'a> {
    pub name: &'a str,
    /// Whether it was derived rather than measured.
    pub estimate: bool,
    /// Jobs that ran to their end.
    pub jobs: u64,
    /// Of those, how many this machine was too slow for.
    pub late: u64,
    /// By how much at most.
    pub latest_us: u64,
}

/// With whom a node shares.
#[derive(Serialize)]
pub(crate) struct SwarmReport<'a> {
    /// "open", "locked", "shut" or "alone".
    pub sharing: &'static str,
    /// Former keys that are known.
    pub old_keys: usize,
    /// What must be mended, where it is shut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// What the command bench measured.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Rates {
    pub prefill_tokens: usize,
    pub prefill_tokens_per_s: f64,
    pub decode_tokens: usize,
    /// None where fewer than two were decoded.
    pub decode_tokens_per_s: Option<f64>,
}

/// The settings as they count.
#[derive(Serialize)]
pub(crate) struct ConfigReport {
    /// The person's file.
    pub path: Option<String>,
    /// The board's own.
    pub defaults: Option<String>,
    /// Key, value and where it comes from.
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
