//! What a node says to programs: one JSON object a line.

use serde::Serialize;

use crate::cache::CacheStats;
use crate::catalog::CatalogStats;
use crate::console::{Entry, Settings};
use crate::id::{Epoch, Fingerprint, NodeId, TokenId};
use crate::node::{Figures, NodeStats, PeerStatus, Progress, Status};

/// One line of the JSON form.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// The node runs and takes prompts.
    Ready { node: NodeId, model: &'a str, chat: bool, fingerprint: Fingerprint, tcp_port: u16 },
    /// How far a prompt has come before its first token, where that takes more than a second.
    Progress {
        id: u64,
        #[serde(flatten)]
        progress: &'a Progress,
    },
    /// More of an answer's text.
    Text { id: u64, text: &'a str },
    /// A whole answer.
    Done { id: u64, text: &'a str, tokens: &'a [TokenId], figures: &'a Figures },
    /// No answer, and why.
    Failed { id: u64, reason: &'a str },
    /// This node.
    Status { status: &'a Status, swarm: SwarmReport<'a> },
    /// The nodes on the LAN.
    Peers { peers: &'a [PeerStatus] },
    /// What this node and its peers say that they hold.
    Catalog { generation: u64, told: bool, catalog: &'a CatalogStats, peers: &'a [PeerStatus] },
    /// The memory for KV state.
    Slab { slab: &'a CacheStats },
    /// Counters.
    Stats { node: &'a NodeStats, slab: &'a CacheStats, catalog: &'a CatalogStats },
    /// This node, measured.
    Bench { bench: Rates },
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
    /// The swarm was reset from here.
    Reset { epoch: Epoch, store: bool, peers: usize },
    /// A peer has obeyed the reset.
    Acknowledged { node: NodeId },
    /// Everybody has, or the time for it is over.
    ResetEnded { acknowledged: usize, missing: &'a [NodeId] },
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
