//! What a node is given at its start.

use std::sync::Arc;

use thiserror::Error;

use crate::cache::CacheError;
use crate::id::{BootId, EpochState, Fingerprint, NodeId, NodeName, TokenId};
use crate::keyring::{Entropy, Keyring};
use crate::kv::KvShape;
use crate::transfer::Hello;

/// A node's settings. The caller has checked them.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's id.
    pub node: NodeId,
    /// The name that people give it.
    pub name: NodeName,
    /// The id of this start.
    pub boot: BootId,
    /// Seed of the random delays. Never sent: anyone who knows it can predict when this node sends.
    pub seed: u64,
    /// The swarm's keys.
    pub keys: Keyring,
    /// Seeds the secrets of its connections: 32 unpredictable bytes, never reused by another start.
    pub entropy: Entropy,
    /// What its KV bytes are compatible with.
    pub fingerprint: Fingerprint,
    /// The resets that it has applied, as saved.
    pub epochs: EpochState,
    /// The layout of its KV state.
    pub shape: Arc<KvShape>,
    /// Size of the slab, in bytes.
    pub slab_bytes: usize,
    /// Maximum length of a sequence, prompt and answer together, in tokens.
    pub context: usize,
    /// Port on which it serves blocks.
    pub tcp_port: u16,
    /// Whether it communicates with the swarm at all.
    pub sharing: bool,
    /// Whether prompts may reuse known blocks. Without it everything is computed: the baseline that
    /// sharing is measured against.
    pub reuse: bool,
    /// Whether to draft tokens of the answer and verify them in one pass. Does not
    /// change any answer.
    pub drafts: bool,
    /// Time between announcements when nothing changes, before it is stretched.
    pub announce_interval_ms: u32,
    /// Maximum number of peers it keeps, within `limits::LEAST_PEERS` and `limits::MAX_PEERS`.
    pub peers: usize,
    /// This node's prefill rate as measured before its first prompt. If none, the planner
    /// assumes a board's.
    pub prefill_tokens_per_s: Option<f32>,
    /// How many of every 10,000 blocks that peers made are audited: 0 none, 10,000 all.
    pub audit_per_10k: u16,
    /// Tokens that end an answer.
    pub end_tokens: Vec<TokenId>,
}

impl NodeConfig {
    pub(super) fn hello(&self) -> Hello {
        Hello::new(self.node, self.boot, self.epochs.epoch, self.fingerprint)
    }
}

/// Why a node cannot be created.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The cache cannot be created.
    #[error(transparent)]
    Cache(#[from] CacheError),
}
