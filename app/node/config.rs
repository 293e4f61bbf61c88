//! What a node is told at its start.

use std::sync::Arc;

use thiserror::Error;

use crate::cache::CacheError;
use crate::id::{BootId, EpochState, Fingerprint, NodeId, NodeName, TokenId};
use crate::keyring::{Entropy, Keyring};
use crate::kv::KvShape;
use crate::transfer::Hello;

/// A node's settings, checked by whoever made them.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Who it is.
    pub node: NodeId,
    /// What people call it.
    pub name: NodeName,
    /// This start of it.
    pub boot: BootId,
    /// Seed of the random delays. Never on the wire: who knows it knows when this node speaks.
    pub seed: u64,
    /// What locks the swarm.
    pub keys: Keyring,
    /// What the secrets of its connections are drawn from: 32 bytes that nobody can guess, used by no other start.
    pub entropy: Entropy,
    /// What its KV bytes are worth anything to.
    pub fingerprint: Fingerprint,
    /// The resets that it has obeyed, as saved.
    pub epochs: EpochState,
    /// How its KV state is laid out.
    pub shape: Arc<KvShape>,
    /// Memory for the slab, in bytes.
    pub slab_bytes: usize,
    /// Longest sequence, prompt and answer, in tokens.
    pub context: usize,
    /// Port that it serves blocks on.
    pub tcp_port: u16,
    /// Whether it talks to the swarm at all.
    pub sharing: bool,
    /// Whether a prompt may begin with blocks that are known already. Without it everything is computed: what sharing is measured
    /// against.
    pub reuse: bool,
    /// Whether tokens that an answer may go on with are guessed, and checked together. It changes no answer.
    pub drafts: bool,
    /// Time between announcements when nothing changes, before stretching.
    pub announce_interval_ms: u32,
    /// Peers that it knows at most, within `limits::LEAST_PEERS` and `limits::MAX_PEERS`.
    pub peers: usize,
    /// This node's prefill rate as measured before its first prompt; none lets the planner assume a board's.
    pub prefill_tokens_per_s: Option<f32>,
    /// Of ten thousand blocks that peers made, so many are audited: 0 none, 10,000 all.
    pub audit_per_10k: u16,
    /// Tokens that end an answer.
    pub end_tokens: Vec<TokenId>,
}

impl NodeConfig {
    pub(super) fn hello(&self) -> Hello {
        Hello::new(self.node, self.boot, self.epochs.epoch, self.fingerprint)
    }
}

/// Why a node cannot be.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The slab cannot be made.
    #[error(transparent)]
    Cache(#[from] CacheError),
}
