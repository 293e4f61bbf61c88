//! A model ready to run: weights checked against the configuration, and one call that takes tokens through it.
//!
//! Promise: what [`Model::forward`] computes for a token depends on the tokens before it and nothing else. Cutting a prompt
//! differently, or taking the state of its head from a cache, changes no bit of the logits or of the KV state.

use std::sync::Arc;

use burn::tensor::Tensor;
use thiserror::Error;

use super::gemma3::{Chunk, Gemma3};
use super::stripes::{Best, STRIPE_ROWS};
use super::{Head, LayerWeights, ModelConfig, Precision, Rope, Weight, Weights, ops};
use crate::id::TokenId;
use crate::kernels::{self, Likely, RopeTable, Team};
use crate::kv::{KvShape, Plane, Sequence, ShapeError};
use crate::limits::{BLOCK_TOKENS, MAX_CONTEXT_TOKENS};

/// Tokens that pass through the layers together. More would share each reading of the weights further, but their activations
/// would leave the second cache; it bounds the scratch memory of a pass.
pub(super) const CHUNK_TOKENS: usize = 64;

/// What no value of the residual stream reaches in a sound model (Gemma's stay some ten powers of ten below). A norm sums squares
/// in f32: of values below this, in the widest row, they do not overflow; where they do, the norm makes zeros of the row, which
/// look like numbers again.
const RESIDUAL_LIMIT: f32 = 1e15;

/// The widest row that a configuration may have.
const MAX_SIZE: usize = u32::MAX as usize / 64;

const _: () = assert!(RESIDUAL_LIMIT * RESIDUAL_LIMIT * (MAX_SIZE as f32) < f32::MAX / 2.0, "squares of a row would overflow");

/// Why a model cannot be made or cannot run.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum ModelError {
    /// A size in the configuration that no Gemma 3 has.
    #[error("the model's configuration is unusable: {0}; take a Gemma 3 file, or convert it anew")]
    Config(&'static str),
    /// The KV state of such a model cannot be laid out.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The weights of another number of layers than the configuration names.
    #[error(
        "the file has the weights of {found} layers, its configuration names {expected}; the file is damaged, fetch or convert it anew"
    )]
    Layers {
        /// In the weights.
        found: usize,
        /// In the configuration.
        expected: usize,
    },
    /// A tensor whose shape does not follow from the configuration.
    #[error("tensor {name} is {} × {}, the configuration asks for {} × {}; the file is damaged or another model's, fetch or convert it anew", found.0, found.1, expected.0, expected.1)]
    Tensor {
        /// As GGUF names it.
        name: String,
        /// Rows and columns in the file.
        found: (usize, usize),
        /// Rows and columns by the configuration.
        expected: (usize, usize),
    },
    /// A token id that the vocabulary does not have.
    #[error(
        "token {token} is outside the model's vocabulary of {vocab}; the tokenizer belongs to another model, use the model's own"
    )]
    Token {
        /// The id.
        token: u32,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// A sequence longer than the model or this build takes.
    #[error("the text takes {needed} tokens, at most {limit} fit; shorten it")]
    Context {
        /// Tokens asked for.
        needed: usize,
        /// The model's context or this build's, whichever is less.
        limit: usize,
    },
    /// A sequence laid out for another model or KV format.
    #[error("the sequence's KV pages are laid out for another model; make it from this model's kv_shape")]
    ForeignSequence,
    /// A page that is needed and absent or too short.
    #[error("the {plane:?} page of token {position} is missing or too short; fetch its block again or start the prompt anew")]
    Page {
        /// Of which layers.
        plane: Plane,
        /// The first token of the block.
        position: usize,
    },
    /// Infinities, NaN or numbers beyond any reason came out of the layers or as logits: what was written for this call's tokens is
    /// worthless.
    #[error("the model's numbers overflowed at token {position}; the model file is damaged, fetch or convert it anew")]
    NotFinite {
        /// The first token that is off.
        position: usize,
    },
    /// The caller gave the pass up: what was written for its tokens is worthless.
    #[error("the pass was given up")]
    Abandoned,
}

/// Which logits a pass returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Logits {
    /// None: the pass is for the KV state.
    None,
    /// Of so many of the last tokens, all at most: vocab values each.
    Last(usize),
    /// Of every token: tokens × vocab values.
    All,
}

/// Which logits of the last token decide.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// So many of the likeliest, at least one.
    pub count: usize,
    /// And those of these tokens, which do not count among them: by rising id, all in the vocabulary.
    pub apart: &'a [u32],
}

/// A model ready to run. Making one reads no matrix; the file's pages come in as they are used.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    precision: Precision,
    shape: Arc<KvShape>,
    network: Gemma3,
    team: Arc<Team>,
    head: Option<Head>,
}

impl Model {
    /// Binds weights to a configuration, after checking every tensor's shape.
    pub fn new(config: ModelConfig, weights: Weights, precision: Precision) -> Result<Model, ModelError> {
        check_config(&config)?;
        check_weights(&config, &weights)?;
        let shape = KvShape::new(&config.layers, config.kv_heads, config.head_dim, config.window, precision.kv)?;
        let network = Gemma3::new(&config, &weights, precision);
        Ok(Model { config, precision, shape: Arc::new(shape), network, team: Arc::new(Team::alone()), head: None })
    }

    /// Lets several cores compute. What comes out does not depend on how many.
    pub fn set_team(&mut self, team: Team) {
        self.team = Arc::new(team);
    }

    /// Lets [`Model::likeliest_while`] read `head`, which must be made of this model's output rows, in their place.
    pub fn set_head(&mut self, head: Option<Head>) {
        self.head = head.filter(|_| self.precision.int8_activations);
    }

    /// Whether there is a quicker way to the likeliest tokens than by all logits.
    pub(crate) fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// How many cores compute.
    pub(crate) fn cores(&self) -> usize {
        self.team.cores()
    }

    /// What the model is.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Which arithmetic it runs.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// How its KV state is laid out: sequences for [`Model::forward`] are made from it.
    pub fn kv_shape(&self) -> &Arc<KvShape> {
        &self.shape
    }

    /// Tokens of the longest sequence: the model's own context or this build's, whichever is less.
    pub fn context(&self) -> usize {
        self.config.context.min(MAX_CONTEXT_TOKENS)
    }

    /// Runs `tokens` at the positions `first ..` and writes their keys and values into the pages of `sequence`, which must hold
    /// the state of all positions before `first`: in the global plane all of them, in the sliding plane those from
    /// [`KvShape::first_sliding`] on. Returns the logits asked for, token by token, each `vocab` values.
    ///
    /// Everything is checked before the first byte is written, except that the numbers stay finite and within reason.
    pub fn forward(
        &self,
        tokens: &[TokenId],
        first: usize,
        sequence: &Arc<Sequence>,
        logits: Logits,
    ) -> Result<Vec<f32>, ModelError> {
        self.forward_while(tokens, first, sequence, logits, &|| true)
    }

    /// The same, given up where `go_on`, which is asked before each layer and before the logits, says no.
    ///
    /// # Errors
    /// [`ModelError::Abandoned`], at most one layer's time after `go_on` would first have said no. What the pages then hold of
    /// these tokens is worthless.
    pub(crate) fn forward_while(
        &self,
        tokens: &[TokenId],
        first: usize,
        sequence: &Arc<Sequence>,
        logits: Logits,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>, ModelError> {
        // The first token whose logits are asked for.
        let from = match logits {
            Logits::None => tokens.len(),
            Logits::Last(count) => tokens.len().saturating_sub(count),
            Logits::All => 0,
        };
        let mut out = Vec::new();
        self.walk(tokens, first, sequence, from, go_on, &mut |hidden, first| {
            let logits = self.logits(hidden, first)?;
            if out.is_empty() {
                out = logits
            } else {
                out.extend(logits)
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// Runs `tokens` as [`Model::forward_while`] does, and returns logits of the last one, by rising id: those that are wanted,
    /// with the bits that it would give. Where there is no quicker way, all.
    ///
    /// # Errors
    /// As [`Model::forward_while`].
    pub fn likeliest_while(
        &self,
        tokens: &[TokenId],
        first: usize,
        sequence: &Arc<Sequence>,
        wanted: Wanted<'_>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Likely>, ModelError> {
        let mut out = Vec::new();
        self.walk(tokens, first, sequence, tokens.len().saturating_sub(1), go_on, &mut |hidden, first| {
            out = match self.likeliest(hidden.clone(), wanted) {
                Some(likeliest) => likeliest,
                None => (0..).zip(self.logits(hidden, first)?).collect(),
            };
            Ok(())
        })?;
        Ok(out)
    }

    /// Runs `tokens` as [`Model::forward_while`] does, and returns logits of the last ones, a list for each that something is `wanted` of,
    /// by rising id: those that are wanted, with the bits that it would give. No more than a stripe of all logits is ever in memory.
    ///
    /// # Errors
    /// As [`Model::forward_while`].
    pub(crate) fn likeliest_of_each_while(
        &self,
        tokens: &[TokenId],
        first: usize,
        sequence: &Arc<Sequence>,
        wanted: &[Wanted<'_>],
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<Likely>>, ModelError> {
        let from = tokens.len().saturating_sub(wanted.len());
        let mut out = Vec::with_capacity(wanted.len());
        self.walk(tokens, first, sequence, from, go_on, &mut |hidden, position| {
            let normed = self.network.normed(hidden, self.team.isa());
            let taken = out.len();
            let mut best: Vec<Best<'_>> = wanted[taken..].iter().take(normed.dims()[0]).copied().map(Best::new).collect();
            for at in (0..self.config.vocab).step_by(STRIPE_ROWS) {
                let rows = at..self.config.vocab.min(at + STRIPE_ROWS);
                let width = rows.len();
                let logits = ops::into_vec(self.network.some_logits(normed.clone(), rows, &self.team));
                check(&logits, f32::INFINITY, width, position)?;
                best.iter_mut().zip(logits.chunks_exact(width)).for_each(|(best, logits)| best.take(at, logits));
            }
            out.extend(best.into_iter().map(Best::all));
            Ok(())
        })?;
        Ok(out)
    }

    /// The wanted logits of a hidden state, all finite; none where the halves say nothing of them.
    fn likeliest(&self, hidden: Tensor<2>, wanted: Wanted<'_>) -> Option<Vec<Likely>> {
        let (head, isa) = (self.head.as_ref()?, self.team.isa());
        let normed = ops::into_vec(self.network.normed(hidden, isa));
        let x = kernels::quantize_rows(isa, &normed, self.config.hidden);
        kernels::likeliest(&self.team, isa, head.split(), &x, wanted.count, wanted.apart)
    }

    /// Runs `tokens` through the layers, and gives `take` the hidden states of those from the `from`-th on, in pieces, with the
    /// position of a piece's first.
    fn walk(
        &self,
        tokens: &[TokenId],
        first: usize,
        sequence: &Arc<Sequence>,
        from: usize,
        go_on: &dyn Fn() -> bool,
        take: &mut dyn FnMut(Tensor<2>, usize) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        self.check_call(tokens, first, sequence)?;
        let mut begin = 0;
        for part in tokens.chunks(CHUNK_TOKENS) {
            let chunk = self.chunk(sequence, first + begin, part.len());
            let hidden = self.network.forward(part, &chunk, go_on).ok_or(ModelError::Abandoned)?;
            check(&ops::into_vec(hidden.clone()), RESIDUAL_LIMIT, self.config.hidden, chunk.first)?;
            let skipped = from.saturating_sub(begin);
            if skipped < part.len() {
                if !go_on() {
                    return Err(ModelError::Abandoned);
                }
                let wanted = if skipped == 0 { hidden } else { hidden.narrow(0, skipped, part.len() - skipped) };
                take(wanted, chunk.first + skipped)?;
            }
            begin += part.len();
        }
        Ok(())
    }

    /// The logits of hidden states from position `first` on: a matrix of its own makes them, so they are looked at as well.
    fn logits(&self, hidden: Tensor<2>, first: usize) -> Result<Vec<f32>, ModelError> {
        let logits = ops::into_vec(self.network.logits(hidden, &self.team));
        check(&logits, f32::INFINITY, self.config.vocab, first)?;
        Ok(logits)
    }

    fn chunk(&self, sequence: &Arc<Sequence>, first: usize, tokens: usize) -> Chunk {
        let table = |rope: Rope| Arc::new(RopeTable::new(rope.base, rope.factor, self.config.head_dim, first, tokens));
        Chunk {
            sequence: sequence.clone(),
            first,
            rope_global: table(self.config.rope_global),
            rope_sliding: table(self.config.rope_sliding),
            team: self.team.clone(),
        }
    }

    fn check_call(&self, tokens: &[TokenId], first: usize, sequence: &Sequence) -> Result<(), ModelError> {
        let needed = first.saturating_add(tokens.len());
        if needed > self.context() {
            return Err(ModelError::Context { needed, limit: self.context() });
        }
        if let Some(token) = tokens.iter().find(|token| token.0 as usize >= self.config.vocab) {
            return Err(ModelError::Token { token: token.0, vocab: self.config.vocab });
        }
        if *sequence.shape != *self.shape {
            return Err(ModelError::ForeignSequence);
        }
        for plane in Plane::ALL {
            let bytes = self.shape.plane_bytes(plane, BLOCK_TOKENS);
            let from = match plane {
                Plane::Global => 0,
                Plane::Sliding => self.shape.first_sliding(first),
            };
            if bytes == 0 || tokens.is_empty() {
                continue;
            }
            for block in from / BLOCK_TOKENS..needed.div_ceil(BLOCK_TOKENS) {
                let page = sequence.blocks.get(block).and_then(|block| block.plane(plane));
                if page.is_none_or(|page| page.read().len() < bytes) {
                    return Err(ModelError::Page { plane, position: block * BLOCK_TOKENS });
                }
            }
        }
        Ok(())
    }
}

/// Whether all of `values`, rows of `width` from position `first` on, are numbers below `limit` in size.
fn check(values: &[f32], limit: f32, width: usize, first: usize) -> Result<(), ModelError> {
    let is_sound = |value: &f32| value.abs() < limit;
    // All of them are looked at, for a loop without a way out takes several values at a time, and logits are many.
    if values.iter().fold(true, |sound, value| sound & is_sound(value)) {
        return Ok(());
    }
    let at = values.iter().position(|value| !is_sound(value)).unwrap_or(0);
    Err(ModelError::NotFinite { position: first + at / width })
}

fn check_config(config: &ModelConfig) -> Result<(), ModelError> {
    let fail = |reason| Err(ModelError::Config(reason));
    let sizes = [config.vocab, config.hidden, config.ffn, config.heads, config.kv_heads, config.head_dim, config.context];
    if sizes.contains(&0) {
        return fail("a size is zero");
    }
    if sizes.iter().any(|size| *size > MAX_SIZE) {
        return fail("a size is beyond reason");
    }
    if !config.heads.is_multiple_of(config.kv_heads) {
        return fail("the query heads do not divide among the KV heads");
    }
    if !config.head_dim.is_multiple_of(2) {
        return fail("the head size is odd, so RoPE has no pairs to turn");
    }
    let positive = |value: f32| value.is_finite() && value > 0.0;
    let ropes = [config.rope_global, config.rope_sliding];
    if !ropes.iter().all(|rope| positive(rope.base) && positive(rope.factor)) {
        return fail("a RoPE base or factor is not a positive number");
    }
    if !positive(config.query_scale) || !config.rms_eps.is_finite() || config.rms_eps < 0.0 {
        return fail("the query scale or the norm epsilon is not a sound number");
    }
    Ok(())
}

fn check_weights(config: &ModelConfig, weights: &Weights) -> Result<(), ModelError> {
    let (vocab, hidden) = (config.vocab, config.hidden);
    check_tensor("token_embd.weight", &weights.embedding, (vocab, hidden))?;
    if let Some(output) = &weights.output {
        check_tensor("output.weight", output, (vocab, hidden))?;
    }
    check_tensor("output_norm.weight", &weights.output_norm, (1, hidden))?;
    if weights.layers.len() != config.layers.len() {
        return Err(ModelError::Layers { found: weights.layers.len(), expected: config.layers.len() });
    }
    weights.layers.iter().enumerate().try_for_each(|(i, layer)| check_layer(config, i, layer))
}

fn check_layer(config: &ModelConfig, i: usize, layer: &LayerWeights) -> Result<(), ModelError> {
    let hidden = config.hidden;
    let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let tensors = [
        ("attn_norm", &layer.attention_norm, (1, hidden)),
        ("attn_q", &layer.query, (queries, hidden)),
        ("attn_k", &layer.key, (keys, hidden)),
        ("attn_v", &layer.value, (keys, hidden)),
        ("attn_q_norm", &layer.query_norm, (1, config.head_dim)),
        ("attn_k_norm", &layer.key_norm, (1, config.head_dim)),
        ("attn_output", &layer.attention_output, (hidden, queries)),
        ("post_attention_norm", &layer.post_attention_norm, (1, hidden)),
        ("ffn_norm", &layer.ffn_norm, (1, hidden)),
        ("ffn_gate", &layer.gate, (config.ffn, hidden)),
        ("ffn_up", &layer.up, (config.ffn, hidden)),
        ("ffn_down", &layer.down, (hidden, config.ffn)),
        ("post_ffw_norm", &layer.post_ffn_norm, (1, hidden)),
    ];
    tensors.into_iter().try_for_each(|(name, weight, expected)| check_tensor(&format!("blk.{i}.{name}.weight"), weight, expected))
}

fn check_tensor(name: &str, weight: &Weight, expected: (usize, usize)) -> Result<(), ModelError> {
    let found = (weight.rows(), weight.cols());
    if found == expected { Ok(()) } else { Err(ModelError::Tensor { name: name.to_owned(), found, expected }) }
}
