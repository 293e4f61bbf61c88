//! Maps tensors to [`Weights`]: every name that Gemma 3 has, each with a type and shape that fits
//! the configuration.

use super::TensorType;
use super::read::Gguf;
use crate::kernels::Format;
use crate::limits::MAX_LAYERS;
use crate::model::config::ModelConfig;
use crate::model::fault::{Fault, FileError};
use crate::model::weight::{Bytes, LayerWeights, Weight, Weights};

/// The role of a tensor, which determines its shape and how it may be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// vocab × hidden.
    Embedding,
    /// vocab × hidden; absent if tied to the embedding.
    Output,
    /// A vector of `hidden`.
    HiddenNorm,
    /// A vector of `head_dim`.
    HeadNorm,
    /// (heads × head_dim) × hidden.
    Query,
    /// (kv_heads × head_dim) × hidden.
    KeyOrValue,
    /// hidden × (heads × head_dim).
    AttentionOutput,
    /// ffn × hidden.
    Widen,
    /// hidden × ffn.
    Narrow,
}

impl Part {
    /// Rows and columns in a model with configuration `config`.
    pub fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let ModelConfig { vocab, hidden, ffn, heads, kv_heads, head_dim, .. } = *config;
        match self {
            Part::Embedding | Part::Output => (vocab, hidden),
            Part::HiddenNorm => (1, hidden),
            Part::HeadNorm => (1, head_dim),
            Part::Query => (heads * head_dim, hidden),
            Part::KeyOrValue => (kv_heads * head_dim, hidden),
            Part::AttentionOutput => (hidden, heads * head_dim),
            Part::Widen => (ffn, hidden),
            Part::Narrow => (hidden, ffn),
        }
    }

    /// Whether it is the vector of a norm, which is always F32 in memory.
    pub fn is_norm(self) -> bool {
        matches!(self, Part::HiddenNorm | Part::HeadNorm)
    }
}

/// The names and roles of a layer's tensors, in writing order.
pub(crate) fn layer_tensors(layer: usize) -> Vec<(String, Part)> {
    let parts = [
        ("attn_norm", Part::HiddenNorm),
        ("attn_q", Part::Query),
        ("attn_k", Part::KeyOrValue),
        ("attn_v", Part::KeyOrValue),
        ("attn_q_norm", Part::HeadNorm),
        ("attn_k_norm", Part::HeadNorm),
        ("attn_output", Part::AttentionOutput),
        ("post_attention_norm", Part::HiddenNorm),
        ("ffn_norm", Part::HiddenNorm),
        ("ffn_gate", Part::Widen),
        ("ffn_up", Part::Widen),
        ("ffn_down", Part::Narrow),
        ("post_ffw_norm", Part::HiddenNorm),
    ];
    parts.into_iter().map(|(name, part)| (format!("blk.{layer}.{name}.weight"), part)).collect()
}

/// The names and roles of all tensors of a model with `layers` layers, in writing order. Includes
/// the output matrix only if it is not tied.
pub fn tensor_names(layers: usize, tied: bool) -> Vec<(String, Part)> {
    let mut names = vec![("token_embd.weight".to_owned(), Part::Embedding)];
    if !tied {
        names.push(("output.weight".to_owned(), Part::Output));
    }
    names.extend((0..layers).flat_map(layer_tensors));
    names.push(("output_norm.weight".to_owned(), Part::HiddenNorm));
    names
}

/// Prefixes of tensors in multimodal files that serve vision only: the vision tower and its
/// projector.
const VISION: [&str; 3] = ["v.", "mm.", "vision."];

impl Gguf {
    /// The model's tensors, in place. Only norms that are not stored in F32 are copied, as F32.
    pub fn weights(&self, config: &ModelConfig) -> Result<Weights, FileError> {
        self.refuse_unknown(config)?;
        let mut layers = Vec::with_capacity(config.layers.len().min(MAX_LAYERS));
        for layer in 0..config.layers.len() {
            layers.push(self.layer(layer, config)?);
        }
        let output = self.tensors().contains_key("output.weight");
        Ok(Weights {
            embedding: self.weight("token_embd.weight", Part::Embedding, config)?,
            output: if output {
                Some(self.weight("output.weight", Part::Output, config)?)
            } else {
                None
            },
            output_norm: self.weight("output_norm.weight", Part::HiddenNorm, config)?,
            layers,
        })
    }

    fn layer(&self, layer: usize, config: &ModelConfig) -> Result<LayerWeights, FileError> {
        let take = |name: &str, part: Part| {
            self.weight(&format!("blk.{layer}.{name}.weight"), part, config)
        };
        Ok(LayerWeights {
            attention_norm: take("attn_norm", Part::HiddenNorm)?,
            query: take("attn_q", Part::Query)?,
            key: take("attn_k", Part::KeyOrValue)?,
            value: take("attn_v", Part::KeyOrValue)?,
            query_norm: take("attn_q_norm", Part::HeadNorm)?,
            key_norm: take("attn_k_norm", Part::HeadNorm)?,
            attention_output: take("attn_output", Part::AttentionOutput)?,
            post_attention_norm: take("post_attention_norm", Part::HiddenNorm)?,
            ffn_norm: take("ffn_norm", Part::HiddenNorm)?,
            gate: take("ffn_gate", Part::Widen)?,
            up: take("ffn_up", Part::Widen)?,
            down: take("ffn_down", Part::Narrow)?,
            post_ffn_norm: take("post_ffw_norm", Part::HiddenNorm)?,
        })
    }

    fn weight(&self, name: &str, part: Part, config: &ModelConfig) -> Result<Weight, FileError> {
        let Some(tensor) = self.tensors().get(name) else {
            return Err(self.fault(Fault::Damaged(format!("tensor {name} is missing"))));
        };
        let (rows, cols) = part.shape(config);
        if tensor.matrix() != Some((rows, cols)) {
            let dims =
                tensor.dims.iter().rev().map(usize::to_string).collect::<Vec<_>>().join(" x ");
            let message =
                format!("tensor {name} is {dims}, but the metadata makes it {rows} x {cols}");
            return Err(self.tensor_fault(tensor, Fault::Damaged(message)));
        }
        let Some(format) = tensor.ty.format() else {
            return Err(self.tensor_fault(tensor, Fault::Unsupported(unread(name, tensor.ty))));
        };
        let bytes = self.files()[tensor.file].bytes.clone();
        let weight = Weight::new(bytes, tensor.range.clone(), format, rows, cols);
        let weight = weight
            .and_then(|weight| if part.is_norm() { float_norm(weight) } else { Some(weight) });
        weight.ok_or_else(|| {
            let message =
                format!("tensor {name} of type {} cannot be used as {rows} x {cols}", tensor.ty);
            self.tensor_fault(tensor, Fault::Unsupported(message))
        })
    }

    /// Refuses unknown tensors: one that is ignored (a bias, an adapter) could change the answers,
    /// and no model is better than a different one.
    fn refuse_unknown(&self, config: &ModelConfig) -> Result<(), FileError> {
        let mut known: Vec<String> =
            tensor_names(config.layers.len(), false).into_iter().map(|(name, _)| name).collect();
        known.sort_unstable();
        let unknown = self.tensors().keys().find(|name| {
            known.binary_search(name).is_err()
                && !VISION.iter().any(|prefix| name.starts_with(prefix))
        });
        match unknown {
            None => Ok(()),
            Some(name) => {
                let message = format!(
                    "tensor {name} does not belong to Gemma 3's text model of {} layers",
                    config.layers.len()
                );
                Err(self.fault(Fault::Unsupported(message)))
            }
        }
    }
}

/// A norm's vector as F32: it is only a few kB, so any other type is converted once.
fn float_norm(weight: Weight) -> Option<Weight> {
    if weight.format() == Format::F32 {
        return Some(weight);
    }
    let bytes: Vec<u8> = weight.row(0).into_iter().flat_map(f32::to_le_bytes).collect();
    let length = bytes.len();
    Weight::new(Bytes::new(bytes), 0..length, Format::F32, 1, weight.cols())
}

/// The message for a type that no kernel here reads.
fn unread(tensor: &str, ty: TensorType) -> String {
    let types: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
    format!(
        "tensor {tensor} has type {ty}, but this build reads {}: get the model as Q4_K_M, Q4_0 or Q8_0, \
         or make it with potluck convert from its Hugging Face directory",
        types.join(", ")
    )
}
