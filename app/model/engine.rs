//! A model ready to run: weights checked against the configuration, and one call that runs tokens
//! through it.
//!
//! Promise: what [`Model::forward`] computes for a token depends only on the tokens before it.
//! Splitting a prompt differently, or taking the state of its prefix from a cache, changes no bit
//! of the logits or of the KV state.

mod check;

use core::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;
use thiserror::Error;

use super::gemma3::{Chunk, Gemma3};
use super::stripes::{Best, STRIPE_ROWS};
use super::{Head, ModelConfig, Precision, Rope, Weights, ops};
use crate::id::TokenId;
use crate::kernels::{self, Asked, Likely, QuantizedRows, RopeTable, Team};
use crate::kv::{KvShape, Plane, Sequence, ShapeError};
use crate::limits::{BLOCK_TOKENS, MAX_CONTEXT_TOKENS};
use check::{check_config, check_weights};

/// Tokens that pass through the layers together. A larger chunk would amortize each read of the
/// weights further, but its activations would no longer fit in the L2 cache. This also bounds the
/// scratch memory of a pass.
pub(super) const CHUNK_TOKENS: usize = 64;

/// Upper bound on the magnitude of residual values in a sound model (Gemma's stay some ten powers
/// of ten below). A norm sums squares in f32. Below this bound the sum cannot overflow even in the
/// widest row; if it did, the norm would turn the row into zeros, which look like valid numbers
/// again.
const RESIDUAL_LIMIT: f32 = 1e15;

/// Why a model cannot be constructed or run.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum ModelError {
    /// A size in the configuration that no Gemma 3 has.
    #[error("the model's configuration is unusable: {0}; use a Gemma 3 file, or convert it again")]
    Config(&'static str),
    /// The KV state of this model cannot be laid out.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The file and its configuration disagree on the number of layers.
    #[error(
        "the file has the weights of {found} layers, its configuration names {expected}; the file is damaged, fetch or convert it again"
    )]
    Layers {
        /// In the weights.
        found: usize,
        /// In the configuration.
        expected: usize,
    },
    /// A tensor whose shape contradicts the configuration.
    #[error("tensor {name} is {} × {}, the configuration asks for {} × {}; the file is damaged or another model's, fetch or convert it again", found.0, found.1, expected.0, expected.1)]
    Tensor {
        /// Its GGUF name.
        name: String,
        /// Rows and columns in the file.
        found: (usize, usize),
        /// Rows and columns according to the configuration.
        expected: (usize, usize),
    },
    /// A token id outside the vocabulary.
    #[error(
        "token {token} is outside the model's vocabulary of {vocab}; the tokenizer belongs to another model, use the model's own"
    )]
    Token {
        /// The id.
        token: u32,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// A sequence longer than the model or this build supports.
    #[error("the text takes {needed} tokens, at most {limit} fit; shorten it")]
    Context {
        /// Tokens asked for.
        needed: usize,
        /// The smaller of the model's context and this build's.
        limit: usize,
    },
    /// A sequence laid out for another model or KV format.
    #[error(
        "the sequence's KV pages are laid out for another model; make it from this model's kv_shape"
    )]
    ForeignSequence,
    /// A required page that is absent or too short.
    #[error(
        "the {plane:?} page of token {position} is missing or too short; fetch its block again or run the prompt from its start"
    )]
    Page {
        /// The plane of the page.
        plane: Plane,
        /// The first token of the block.
        position: usize,
    },
    /// The layers or the logits contain infinities, NaN or absurdly large numbers. Whatever was
    /// written for this call's tokens is worthless.
    #[error(
        "the model's numbers overflowed at token {position}; the model file is damaged, fetch or convert it again"
    )]
    NotFinite {
        /// The first affected token.
        position: usize,
    },
    /// The caller cancelled the pass. Whatever was written for its tokens is worthless.
    #[error("the pass was cancelled")]
    Abandoned,
}

/// Which logits a pass returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Logits {
    /// None: the pass only updates the KV state.
    None,
    /// Of this many of the last tokens, at most all: vocab values each.
    Last(usize),
    /// Of every token: tokens × vocab values.
    All,
}

/// Which logits of a token the caller needs.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The number of likeliest tokens, at least one.
    pub count: usize,
    /// Further tokens whose logits are needed; they do not count among the likeliest. Sorted by id,
    /// all within the vocabulary.
    pub apart: &'a [u32],
}

/// A model ready to run. Constructing one reads no matrix; the kernel pages in the file as it is
/// used.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    precision: Precision,
    shape: Arc<KvShape>,
    network: Gemma3,
    team: Arc<Team>,
    head: Option<Head>,
    /// Whether the head replaces the output rows altogether.
    joins: bool,
}

impl Model {
    /// Binds weights to a configuration, after checking every tensor's shape.
    pub fn new(
        config: ModelConfig,
        weights: Weights,
        precision: Precision,
    ) -> Result<Model, ModelError> {
        check_config(&config)?;
        check_weights(&config, &weights)?;
        let shape = KvShape::new(
            &config.layers,
            config.kv_heads,
            config.head_dim,
            config.window,
            precision.kv,
        )?;
        let network = Gemma3::new(&config, &weights, precision);
        Ok(Model {
            config,
            precision,
            shape: Arc::new(shape),
            network,
            team: Arc::new(Team::alone()),
            head: None,
            joins: false,
        })
    }

    /// Lets several cores compute. The result does not depend on their number.
    pub fn set_team(&mut self, team: Team) {
        self.team = Arc::new(team);
    }

    /// Finds the likeliest tokens by `head`, which must have been made from the model's output
    /// rows. With `joins`, it also stands for the rows where all logits of some tokens are needed,
    /// so that memory need not hold both; otherwise the rows are used there, which is quicker. The
    /// logits are the same in any case, bit for bit.
    pub fn set_head(&mut self, head: Option<Head>, joins: bool) {
        self.head = head.filter(|_| self.precision.int8_activations);
        self.joins = joins;
    }

    /// Whether the likeliest tokens can be found faster than by computing all logits.
    pub(crate) fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// The name of the instruction set that computes.
    pub(crate) fn instructions(&self) -> &'static str {
        self.team.isa().name()
    }

    /// The number of cores that compute.
    pub(crate) fn cores(&self) -> usize {
        self.team.cores()
    }

    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The arithmetic it uses.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// The layout of its KV state; create the sequences for [`Model::forward`] from it.
    pub fn kv_shape(&self) -> &Arc<KvShape> {
        &self.shape
    }

    /// Tokens of the longest sequence: the smaller of the model's own context and this build's.
    pub fn context(&self) -> usize {
        self.config.context.min(MAX_CONTEXT_TOKENS)
    }

    /// Runs `tokens` at the positions `first ..` and writes their keys and values into the pages of
    /// `sequence`. The sequence must hold the state of all positions before `first` in the global
    /// plane, and of those from [`KvShape::first_sliding`] on in the sliding plane. Returns the
    /// requested logits, token by token, `vocab` values each.
    ///
    /// Checks everything before it writes the first byte, except that the computed numbers stay
    /// finite and within reason.
    pub fn forward(
        &self,
        tokens: &[TokenId],
        first: usize,
        sequence: &Arc<Sequence>,
        logits: Logits,
    ) -> Result<Vec<f32>, ModelError> {
        self.forward_while(tokens, first, sequence, logits, &|| true)
    }

    /// Like [`Model::forward`], but cancelled as soon as `go_on` returns false. It is called before
    /// each layer and before the logits.
    ///
    /// # Errors
    /// [`ModelError::Abandoned`], at most one layer's time after `go_on` would first have returned
    /// false. The pages then hold worthless state for these tokens.
    pub(crate) fn forward_while(
        &self,
        tokens: &[TokenId],
        first: usize,
        sequence: &Arc<Sequence>,
        logits: Logits,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<f32>, ModelError> {
        // The first token whose logits are requested.
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

    /// Runs `tokens` like [`Model::forward_while`] and returns the `wanted` logits of the last
    /// token, sorted by id and bit-identical to those of `forward_while`. Returns all logits if
    /// there is no faster way.
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
        self.walk(
            tokens,
            first,
            sequence,
            tokens.len().saturating_sub(1),
            go_on,
            &mut |hidden, first| {
                let normed = self.network.normed(hidden.clone(), self.team.isa());
                out = match self.likeliest(normed, &[wanted]).and_then(|mut each| each.pop()) {
                    Some(likeliest) => likeliest,
                    None => (0..).zip(self.logits(hidden, first)?).collect(),
                };
                Ok(())
            },
        )?;
        Ok(out)
    }

    /// Runs `tokens` like [`Model::forward_while`] and returns the logits of the last
    /// `wanted.len()` tokens: for each the logits that its `wanted` asks for, sorted by id and
    /// bit-identical to those of `forward_while`. Never holds more than one stripe of all logits in
    /// memory, or a bound for each token of the vocabulary and of four tokens.
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
            let wanted = &wanted[taken..][..normed.dims()[0]];
            if wanted.len() <= kernels::judged_together(self.team.isa())
                && let Some(likeliest) = self.likeliest(normed.clone(), wanted)
            {
                out.extend(likeliest);
                return Ok(());
            }
            let mut best: Vec<Best<'_>> = wanted.iter().copied().map(Best::new).collect();
            for at in (0..self.config.vocab).step_by(STRIPE_ROWS) {
                let rows = at..self.config.vocab.min(at + STRIPE_ROWS);
                let width = rows.len();
                let logits = self.some_logits(normed.clone(), rows);
                check(&logits, f32::INFINITY, width, position)?;
                best.iter_mut()
                    .zip(logits.chunks_exact(width))
                    .for_each(|(best, logits)| best.take(at, logits));
            }
            out.extend(best.into_iter().map(Best::all));
            Ok(())
        })?;
        Ok(out)
    }

    /// The wanted logits of rows of normed hidden states, all finite; `None` if the split head
    /// cannot decide them, or there is none.
    fn likeliest(&self, normed: Tensor<2>, wanted: &[Wanted<'_>]) -> Option<Vec<Vec<Likely>>> {
        let (head, isa) = (self.head.as_ref()?, self.team.isa());
        let normed = ops::into_vec(normed);
        let rows: Vec<QuantizedRows> = normed
            .chunks_exact(self.config.hidden)
            .map(|row| kernels::quantize_rows(isa, row, self.config.hidden))
            .collect();
        let asked: Vec<Asked<'_>> = rows
            .iter()
            .zip(wanted)
            .map(|(x, Wanted { count, apart })| Asked { x, count: *count, apart })
            .collect();
        kernels::likeliest(&self.team, isa, head.split(), &asked)
    }

    /// Runs `tokens` through the layers and passes the hidden states of the tokens from index
    /// `from` on to `take`, piece by piece, each with the position of its first token.
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
                let wanted = if skipped == 0 {
                    hidden
                } else {
                    hidden.narrow(0, skipped, part.len() - skipped)
                };
                take(wanted, chunk.first + skipped)?;
            }
            begin += part.len();
        }
        Ok(())
    }

    /// The logits of hidden states from position `first` on. They are checked too, because they
    /// come from a separate matrix.
    fn logits(&self, hidden: Tensor<2>, first: usize) -> Result<Vec<f32>, ModelError> {
        let normed = self.network.normed(hidden, self.team.isa());
        let logits = self.some_logits(normed, 0..self.config.vocab);
        check(&logits, f32::INFINITY, self.config.vocab, first)?;
        Ok(logits)
    }

    /// The logits of the tokens `ids` for rows of normed hidden states, from the output rows or
    /// from both of their halves.
    ///
    /// # Shapes
    /// `[tokens, hidden]` -> tokens × ids
    fn some_logits(&self, normed: Tensor<2>, ids: Range<usize>) -> Vec<f32> {
        let Some(head) = self.head.as_ref().filter(|_| self.joins) else {
            return ops::into_vec(self.network.some_logits(normed, ids, &self.team));
        };
        let isa = self.team.isa();
        let x = kernels::quantize_rows(isa, &ops::into_vec(normed), self.config.hidden);
        let mut logits = vec![0f32; x.rows() * ids.len()];
        kernels::matmul_halved(&self.team, isa, head.split().range(ids), &x, &mut logits);
        logits
    }

    fn chunk(&self, sequence: &Arc<Sequence>, first: usize, tokens: usize) -> Chunk {
        let table = |rope: Rope| {
            Arc::new(RopeTable::new(rope.base, rope.factor, self.config.head_dim, first, tokens))
        };
        Chunk {
            sequence: sequence.clone(),
            first,
            rope_global: table(self.config.rope_global),
            rope_sliding: table(self.config.rope_sliding),
            team: self.team.clone(),
        }
    }

    fn check_call(
        &self,
        tokens: &[TokenId],
        first: usize,
        sequence: &Sequence,
    ) -> Result<(), ModelError> {
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

/// Checks that the magnitude of all `values`, rows of `width` from position `first` on, is below
/// `limit`.
fn check(values: &[f32], limit: f32, width: usize, first: usize) -> Result<(), ModelError> {
    let is_sound = |value: &f32| value.abs() < limit;
    // Checks every value: a loop without an early exit is vectorized, and there are many logits.
    if values.iter().fold(true, |sound, value| sound & is_sound(value)) {
        return Ok(());
    }
    let at = values.iter().position(|value| !is_sound(value)).unwrap_or(0);
    Err(ModelError::NotFinite { position: first + at / width })
}
