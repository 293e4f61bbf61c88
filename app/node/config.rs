//! What a node is told at its start.

use std::sync::Arc;

use thiserror::Error;

use crate::cache::CacheError;
use crate::id::{BootId, EpochState, Fingerprint, NodeId, SwarmTag, TokenId};
use crate::kv::KvShape;
use crate::transfer::Hello;

/// A node's settings, checked by whoever made them.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Who it is.
    pub node: NodeId,
    /// This start of it.
    pub boot: BootId,
    /// Seed of the random delays. Never on the wire: who knows it knows when this node speaks.
    pub seed: u64,
    /// Keys the block keys: nodes with different keys never match. May be empty.
    pub swarm_key: Vec<u8>,
    /// Derived from the key by [`swarm_tag`].
    pub swarm: SwarmTag,
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
    /// Time between announcements when nothing changes, before stretching.
    pub announce_interval_ms: u32,
    /// This node's prefill rate as measured before its first prompt; none lets the planner assume a board's.
    pub prefill_tokens_per_s: Option<f32>,
    /// Tokens that end an answer.
    pub end_tokens: Vec<TokenId>,
}

impl NodeConfig {
    pub(super) fn hello(&self) -> Hello {
        Hello::new(self.swarm, self.node, self.boot, self.epochs.epoch, self.fingerprint)
    }
}

/// The tag that messages of the swarm with this key carry: tells swarms apart without telling the key.
pub fn swarm_tag(key: &[u8]) -> SwarmTag {
    let hash = blake3::derive_key("potluck swarm tag v1", key);
    let mut tag = [0; 8];
    tag.copy_from_slice(&hash[..8]);
    SwarmTag(u64::from_le_bytes(tag))
}

/// Why a node cannot be.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The slab cannot be made.
    #[error(transparent)]
    Cache(#[from] CacheError),
}
