//! What is checked before a model is made: the configuration's sizes, and every tensor's shape.

use super::{ModelError, RESIDUAL_LIMIT};
use crate::model::{LayerWeights, ModelConfig, Weight, Weights};

/// The widest row that a configuration may have.
const MAX_SIZE: usize = u32::MAX as usize / 64;

const _: () = assert!(
    RESIDUAL_LIMIT * RESIDUAL_LIMIT * (MAX_SIZE as f32) < f32::MAX / 2.0,
    "squares of a row would overflow"
);

/// Checks that the sizes and numbers are ones that the engine can compute with.
pub(super) fn check_config(config: &ModelConfig) -> Result<(), ModelError> {
    let fail = |reason| Err(ModelError::Config(reason));
    let sizes = [
        config.vocab,
        config.hidden,
        config.ffn,
        config.heads,
        config.kv_heads,
        config.head_dim,
        config.context,
    ];
    if sizes.contains(&0) {
        return fail("a size is zero");
    }
    if sizes.iter().any(|size| *size > MAX_SIZE) {
        return fail("a size is absurdly large");
    }
    if !config.heads.is_multiple_of(config.kv_heads) {
        return fail("the number of query heads is not a multiple of the number of KV heads");
    }
    if !config.head_dim.is_multiple_of(2) {
        return fail("the head size is odd, but RoPE rotates pairs");
    }
    let positive = |value: f32| value.is_finite() && value > 0.0;
    let ropes = [config.rope_global, config.rope_sliding];
    if !ropes.iter().all(|rope| positive(rope.base) && positive(rope.factor)) {
        return fail("a RoPE base or factor is not a positive number");
    }
    if !positive(config.query_scale) || !config.rms_eps.is_finite() || config.rms_eps < 0.0 {
        return fail("the query scale or the norm epsilon is not a valid number");
    }
    Ok(())
}

/// Checks that every tensor has the shape that the configuration asks for.
pub(super) fn check_weights(config: &ModelConfig, weights: &Weights) -> Result<(), ModelError> {
    let (vocab, hidden) = (config.vocab, config.hidden);
    check_tensor("token_embd.weight", &weights.embedding, (vocab, hidden))?;
    if let Some(output) = &weights.output {
        check_tensor("output.weight", output, (vocab, hidden))?;
    }
    check_tensor("output_norm.weight", &weights.output_norm, (1, hidden))?;
    if weights.layers.len() != config.layers.len() {
        return Err(ModelError::Layers {
            found: weights.layers.len(),
            expected: config.layers.len(),
        });
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
    tensors.into_iter().try_for_each(|(name, weight, expected)| {
        check_tensor(&format!("blk.{i}.{name}.weight"), weight, expected)
    })
}

fn check_tensor(name: &str, weight: &Weight, expected: (usize, usize)) -> Result<(), ModelError> {
    let found = (weight.rows(), weight.cols());
    if found == expected {
        Ok(())
    } else {
        Err(ModelError::Tensor { name: name.to_owned(), found, expected })
    }
}
