//! The configuration of a Gemma 3 model: every size is read from its file, none is assumed.

use crate::kv::{KvFormat, Plane};

/// The checked configuration of one model.
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
    /// Values per head; even, because RoPE rotates pairs.
    pub head_dim: usize,
    /// The plane of every layer, in order: whether it attends to the whole prefix or only to the
    /// window.
    pub layers: Vec<Plane>,
    /// Tokens that a sliding layer sees, including the query's own.
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

/// Rotary position embedding: rotates pair `i` by `position / factor × base^(-2i/head_dim)`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rope {
    /// 1,000,000 on Gemma 3's global layers, 10,000 on its sliding ones.
    pub base: f32,
    /// Linear position scaling; 1 if the model specifies none.
    pub factor: f32,
}

/// The arithmetic in use. Part of the fingerprint, because KV bytes of one precision are useless to
/// another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Precision {
    /// Activations are quantised to int8, in groups of 32, before a product with a quantised
    /// matrix; otherwise they stay f32.
    pub int8_activations: bool,
    /// How keys and values are stored.
    pub kv: KvFormat,
}

impl Precision {
    /// What the appliance runs: int8 activations, int8 KV.
    pub const INT8: Precision = Precision { int8_activations: true, kv: KvFormat::Int8 };
    /// The exact reference: f32 activations, f32 KV.
    pub const FLOAT: Precision = Precision { int8_activations: false, kv: KvFormat::F32 };
}
