//! Gemma 3 as burn modules, in the order in which a token passes through them.
//!
//! Modules exchange `Tensor<2>` of [tokens, features]; matrices stay in the mapped file. The
//! modules have no parameter that burn could train or move: their weights are views.

use core::ops::Range;
use std::sync::Arc;

use burn::module::{Content, Module, ModuleDisplay, ModuleDisplayDefault};
use burn::tensor::Tensor;

use super::attention::AttentionSite;
use super::ops::{self, NormWeight};
use super::{LayerWeights, ModelConfig, Precision, Weight, Weights};
use crate::id::TokenId;
use crate::kernels::{Isa, RopeTable, Team};
use crate::kv::{Plane, Sequence};

/// What a chunk of tokens carries through the layers: its sequence, its position and its RoPE
/// tables.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// The pages that the chunk writes and reads.
    pub sequence: Arc<Sequence>,
    /// The position of its first token.
    pub first: usize,
    /// RoPE of the layers in the global plane.
    pub rope_global: Arc<RopeTable>,
    /// RoPE of the layers in the sliding plane.
    pub rope_sliding: Arc<RopeTable>,
    /// The cores that compute it.
    pub team: Arc<Team>,
}

/// The whole network.
#[derive(Module, Debug)]
pub(crate) struct Gemma3 {
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    output: Linear,
}

impl Gemma3 {
    /// Binds checked weights. The output matrix is the embedding if the file ties them.
    pub(crate) fn new(config: &ModelConfig, weights: &Weights, precision: Precision) -> Gemma3 {
        let output = weights.output.as_ref().unwrap_or(&weights.embedding);
        Gemma3 {
            embedding: Embedding {
                weight: weights.embedding.clone(),
                scale: (config.hidden as f32).sqrt(),
            },
            layers: (0..config.layers.len())
                .map(|i| Layer::new(config, &weights.layers[i], i, precision))
                .collect(),
            norm: RmsNorm::new(&weights.output_norm, config.rms_eps),
            output: Linear::new(output, precision),
        }
    }

    /// Runs a chunk through all layers and leaves its keys and values in its pages. Returns `None`
    /// as soon as `go_on`, called before each layer, returns false.
    ///
    /// # Shapes
    /// tokens: `[tokens]` -> `[tokens, hidden]`, before the last norm.
    pub(crate) fn forward(
        &self,
        tokens: &[TokenId],
        chunk: &Chunk,
        go_on: &dyn Fn() -> bool,
    ) -> Option<Tensor<2>> {
        self.layers.iter().try_fold(self.embedding.forward(tokens), |x, layer| {
            go_on().then(|| layer.forward(x, chunk))
        })
    }

    /// The logits of some of the vocabulary's tokens, for hidden states returned by
    /// [`Gemma3::normed`].
    ///
    /// # Shapes
    /// `[tokens, hidden]` -> `[tokens, rows]`
    pub(crate) fn some_logits(
        &self,
        normed: Tensor<2>,
        rows: Range<usize>,
        team: &Arc<Team>,
    ) -> Tensor<2> {
        ops::linear(normed, &self.output.weight.some_rows(rows), self.output.int8, team)
    }

    /// Hidden states after the last norm: the input of the output matrix.
    ///
    /// # Shapes
    /// `[tokens, hidden]` -> `[tokens, hidden]`
    pub(crate) fn normed(&self, hidden: Tensor<2>, isa: Isa) -> Tensor<2> {
        self.norm.forward(hidden, isa)
    }
}

/// Token ids to rows of the residual stream, times sqrt(hidden).
#[derive(Module, Debug)]
pub(crate) struct Embedding {
    #[module(skip)]
    weight: Weight,
    #[module(skip)]
    scale: f32,
}

impl Embedding {
    /// # Shapes
    /// tokens: `[tokens]` -> `[tokens, hidden]`
    pub(crate) fn forward(&self, tokens: &[TokenId]) -> Tensor<2> {
        ops::embed(&self.weight, tokens, self.scale)
    }
}

/// Attention and feed-forward, each between two norms, each added to the residual stream.
#[derive(Module, Debug)]
pub(crate) struct Layer {
    attention_norm: RmsNorm,
    attention: Attention,
    post_attention_norm: RmsNorm,
    ffn_norm: RmsNorm,
    ffn: FeedForward,
    post_ffn_norm: RmsNorm,
}

impl Layer {
    fn new(
        config: &ModelConfig,
        weights: &LayerWeights,
        layer: usize,
        precision: Precision,
    ) -> Layer {
        let norm = |weight: &Weight| RmsNorm::new(weight, config.rms_eps);
        Layer {
            attention_norm: norm(&weights.attention_norm),
            attention: Attention::new(config, weights, layer, precision),
            post_attention_norm: norm(&weights.post_attention_norm),
            ffn_norm: norm(&weights.ffn_norm),
            ffn: FeedForward::new(weights, precision),
            post_ffn_norm: norm(&weights.post_ffn_norm),
        }
    }

    /// # Shapes
    /// `[tokens, hidden]` -> `[tokens, hidden]`
    pub(crate) fn forward(&self, x: Tensor<2>, chunk: &Chunk) -> Tensor<2> {
        let isa = chunk.team.isa();
        let attended = self.attention.forward(self.attention_norm.forward(x.clone(), isa), chunk);
        let x = self.post_attention_norm.forward_add(attended, x, isa);
        let fed = self.ffn.forward(self.ffn_norm.forward(x.clone(), isa), &chunk.team);
        self.post_ffn_norm.forward_add(fed, x, isa)
    }
}

/// Grouped-query attention with norms on queries and keys, over the pages of the sequence.
#[derive(Module, Debug)]
pub(crate) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    query_norm: RmsNorm,
    key_norm: RmsNorm,
    output: Linear,
    #[module(skip)]
    layer: usize,
    #[module(skip)]
    sliding: bool,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    kv_heads: usize,
    #[module(skip)]
    query_scale: f32,
}

impl Attention {
    fn new(
        config: &ModelConfig,
        weights: &LayerWeights,
        layer: usize,
        precision: Precision,
    ) -> Attention {
        Attention {
            query: Linear::new(&weights.query, precision),
            key: Linear::new(&weights.key, precision),
            value: Linear::new(&weights.value, precision),
            query_norm: RmsNorm::new(&weights.query_norm, config.rms_eps),
            key_norm: RmsNorm::new(&weights.key_norm, config.rms_eps),
            output: Linear::new(&weights.attention_output, precision),
            layer,
            sliding: config.layers[layer] == Plane::Sliding,
            heads: config.heads,
            kv_heads: config.kv_heads,
            query_scale: config.query_scale,
        }
    }

    /// # Shapes
    /// `[tokens, hidden]` -> `[tokens, hidden]`
    pub(crate) fn forward(&self, x: Tensor<2>, chunk: &Chunk) -> Tensor<2> {
        let rope = if self.sliding { &chunk.rope_sliding } else { &chunk.rope_global };
        let team = &chunk.team;
        let query = self.query_norm.forward(self.query.forward(x.clone(), team), team.isa());
        let key = self.key_norm.forward(self.key.forward(x.clone(), team), team.isa());
        let value = self.value.forward(x, team);
        let query = ops::rotate(query, rope, self.heads, self.query_scale);
        let key = ops::rotate(key, rope, self.kv_heads, 1.0);
        let (sequence, layer, first) = (chunk.sequence.clone(), self.layer, chunk.first);
        let site = AttentionSite { sequence, layer, first, heads: self.heads, team: team.clone() };
        self.output.forward(ops::attend(query, key, value, site), team)
    }
}

/// GELU-gated: `down(gelu_tanh(gate(x)) × up(x))`.
#[derive(Module, Debug)]
pub(crate) struct FeedForward {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl FeedForward {
    fn new(weights: &LayerWeights, precision: Precision) -> FeedForward {
        FeedForward {
            gate: Linear::new(&weights.gate, precision),
            up: Linear::new(&weights.up, precision),
            down: Linear::new(&weights.down, precision),
        }
    }

    /// # Shapes
    /// `[tokens, hidden]` -> `[tokens, hidden]`
    pub(crate) fn forward(&self, x: Tensor<2>, team: &Arc<Team>) -> Tensor<2> {
        self.down.forward(
            ops::gated(self.gate.forward(x.clone(), team), self.up.forward(x, team), team.isa()),
            team,
        )
    }
}

/// A product with a mapped matrix, without bias.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    #[module(skip)]
    weight: Weight,
    #[module(skip)]
    int8: bool,
}

impl Linear {
    fn new(weight: &Weight, precision: Precision) -> Linear {
        Linear { weight: weight.clone(), int8: precision.int8_activations }
    }

    /// # Shapes
    /// `[tokens, cols]` -> `[tokens, rows]`
    pub(crate) fn forward(&self, x: Tensor<2>, team: &Arc<Team>) -> Tensor<2> {
        ops::linear(x, &self.weight, self.int8, team)
    }
}

/// Scales each run of `n` values to a mean square of 1, then by 1 + w; `n` is the length of a row,
/// or of a head within it.
#[derive(Module, Debug)]
pub(crate) struct RmsNorm {
    #[module(skip)]
    weight: NormWeight,
    #[module(skip)]
    eps: f32,
}

impl RmsNorm {
    fn new(weight: &Weight, eps: f32) -> RmsNorm {
        RmsNorm { weight: NormWeight(weight.row(0).into()), eps }
    }

    /// # Shapes
    /// `[tokens, features]` -> `[tokens, features]`, features a multiple of n
    pub(crate) fn forward(&self, x: Tensor<2>, isa: Isa) -> Tensor<2> {
        ops::norm(x, &self.weight, self.eps, isa)
    }

    /// The norm of `x`, added to the residual stream.
    ///
    /// # Shapes
    /// `[tokens, hidden]`, `[tokens, hidden]` -> `[tokens, hidden]`
    pub(crate) fn forward_add(&self, x: Tensor<2>, residual: Tensor<2>, isa: Isa) -> Tensor<2> {
        ops::norm_add(x, residual, &self.weight, self.eps, isa)
    }
}

impl ModuleDisplayDefault for Weight {
    fn content(&self, content: Content) -> Option<Content> {
        Some(content)
    }
}

impl ModuleDisplay for Weight {}

impl ModuleDisplayDefault for NormWeight {
    fn content(&self, content: Content) -> Option<Content> {
        Some(content)
    }
}

impl ModuleDisplay for NormWeight {}
