//! What a Gemma 3 is, as its file says: every size is read, none assumed.

use crate::kv::{KvFormat, Plane};

/// A checked description of one model.
#[derive(Clone, PartialEq, Debug)]
pub struct ModelConfig {
    /// Rows of the embedding.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values a head; even, for RoPE turns pairs.
    pub head_dim: usize,
    /// The plane of every layer, in order: whether it attends to the whole prefix or to the window.
    pub layers: Vec<Plane>,
    /// Tokens that a sliding layer sees, its own included.
    pub window: usize,
    /// Tokens that the model was trained for.
    pub context: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_eps: f32,
    /// Queries are multiplied by this: `query_pre_attn_scalar`^-1/2.
    pub query_scale: f32,
    /// RoPE of the layers in the global plane.
    pub rope_global: Rope,
    /// RoPE of the layers in the sliding plane.
    pub rope_sliding: Rope,
}

/// Rotary position embedding: the pair `i` turns by `position / factor × base^(-2i/head_dim)`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rope {
    /// 1,000,000 on Gemma 3's global layers, 10,000 on its sliding ones.
    pub base: f32,
    /// Linear position scaling; 1 where the model names none.
    pub factor: f32,
}

/// Which arithmetic runs: part of the fingerprint, for KV bytes of one are of no use to the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Precision {
    /// Activations are quantised to int8 per 32 as they enter a product with a quantised matrix; else they stay f32.
    pub int8_activations: bool,
    /// How keys and values are kept.
    pub kv: KvFormat,
}

impl Precision {
    /// What the appliance runs: int8 activations, int8 KV.
    pub const INT8: Precision = Precision { int8_activations: true, kv: KvFormat::Int8 };
    /// The exact reference: f32 activations, f32 KV.
    pub const FLOAT: Precision = Precision { int8_activations: false, kv: KvFormat::F32 };
}
