//! The plain reference: Gemma 3 built only from burn's own float ops, over a whole sequence at
//! once, without our pages, tiles or kernels. Slow and simple; the modules of `gemma3` are tested
//! against it.

#![allow(deprecated)]

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

use super::{LayerWeights, ModelConfig, Rope, Weight, Weights};
use crate::id::TokenId;
use crate::kv::Plane;

fn tensor(values: Vec<f32>, rows: usize) -> Tensor<2> {
    let cols = values.len() / rows;
    Tensor::from_data(TensorData::new(values, [rows, cols]), &Device::ndarray())
}

/// A weight as a float tensor [rows, cols].
fn dense(weight: &Weight) -> Tensor<2> {
    tensor((0..weight.rows()).flat_map(|row| weight.row(row)).collect(), weight.rows())
}

/// [tokens, cols] times the transposed weight: [tokens, rows].
fn linear(x: Tensor<2>, weight: &Weight) -> Tensor<2> {
    x.matmul(dense(weight).transpose())
}

/// RMSNorm over the last axis.
fn norm<const D: usize>(x: Tensor<D>, weight: &Weight, eps: f32) -> Tensor<D> {
    let mut shape = [1; D];
    shape[D - 1] = weight.cols();
    let mean = (x.clone() * x.clone()).mean_dim(D - 1);
    x / (mean + eps).sqrt() * dense(weight).reshape(shape)
}

fn gelu_tanh(x: Tensor<2>) -> Tensor<2> {
    let cube = x.clone() * x.clone() * x.clone();
    let inner = (x.clone() + cube * 0.044715) * (2.0 / core::f32::consts::PI).sqrt();
    x * 0.5 * (inner.tanh() + 1.0)
}

/// Rotates x [heads, tokens, head_dim] by each token's position.
#[expect(clippy::disallowed_methods, reason = "the expected values are computed another way")]
fn rotate(x: Tensor<3>, rope: Rope) -> Tensor<3> {
    let [_, tokens, dim] = x.dims();
    let angle = |t: usize, i: usize| {
        t as f64 / f64::from(rope.factor) / f64::from(rope.base).powf((2 * i) as f64 / dim as f64)
    };
    let table = |f: fn(f64) -> f64| {
        let values = (0..tokens)
            .flat_map(|t| (0..dim).map(move |i| f(angle(t, i % (dim / 2))) as f32))
            .collect();
        tensor(values, tokens).unsqueeze_dim::<3>(0)
    };
    let low = x.clone().narrow(2, 0, dim / 2);
    let high = x.clone().narrow(2, dim / 2, dim / 2);
    x * table(f64::cos) + Tensor::cat(vec![-high, low], 2) * table(f64::sin)
}

/// Splits [tokens, heads × head_dim] into [heads, tokens, head_dim].
fn split(x: Tensor<2>, heads: usize) -> Tensor<3> {
    let [tokens, features] = x.dims();
    x.reshape([tokens, heads, features / heads]).swap_dims(0, 1)
}

/// 0 where a query (row) sees a key (column), a large negative number elsewhere.
fn mask(config: &ModelConfig, plane: Plane, tokens: usize) -> Tensor<3> {
    let sees = |q: usize, k: usize| k <= q && (plane == Plane::Global || k + config.window > q);
    let values = (0..tokens * tokens)
        .map(|i| if sees(i / tokens, i % tokens) { 0.0 } else { -1e30 })
        .collect();
    tensor(values, tokens).unsqueeze_dim::<3>(0)
}

fn attention(
    config: &ModelConfig,
    weights: &LayerWeights,
    plane: Plane,
    x: Tensor<2>,
) -> Tensor<2> {
    let [tokens, _] = x.dims();
    let rope = if plane == Plane::Global { config.rope_global } else { config.rope_sliding };
    let query = norm(
        split(linear(x.clone(), &weights.query), config.heads),
        &weights.query_norm,
        config.rms_eps,
    );
    let key = norm(
        split(linear(x.clone(), &weights.key), config.kv_heads),
        &weights.key_norm,
        config.rms_eps,
    );
    let value = split(linear(x, &weights.value), config.kv_heads);
    let group = config.heads / config.kv_heads;
    let spread = |x: Tensor<3>| {
        Tensor::cat((0..config.heads).map(|h| x.clone().narrow(0, h / group, 1)).collect(), 0)
    };
    let (query, key, value) = (rotate(query, rope), spread(rotate(key, rope)), spread(value));
    let scores =
        query.matmul(key.swap_dims(1, 2)) * config.query_scale + mask(config, plane, tokens);
    let mixed = softmax(scores, 2)
        .matmul(value)
        .swap_dims(0, 1)
        .reshape([tokens, config.heads * config.head_dim]);
    linear(mixed, &weights.attention_output)
}

/// The logits of every token, row by row: tokens × vocab.
pub(crate) fn logits(config: &ModelConfig, weights: &Weights, tokens: &[TokenId]) -> Vec<f32> {
    let eps = config.rms_eps;
    let rows = tokens.iter().flat_map(|token| weights.embedding.row(token.0 as usize)).collect();
    let mut x = tensor(rows, tokens.len()) * (config.hidden as f32).sqrt();
    for (layer, plane) in weights.layers.iter().zip(&config.layers) {
        let attended =
            attention(config, layer, *plane, norm(x.clone(), &layer.attention_norm, eps));
        x = x + norm(attended, &layer.post_attention_norm, eps);
        let inner = norm(x.clone(), &layer.ffn_norm, eps);
        let fed = linear(
            gelu_tanh(linear(inner.clone(), &layer.gate)) * linear(inner, &layer.up),
            &layer.down,
        );
        x = x + norm(fed, &layer.post_ffn_norm, eps);
    }
    let output = weights.output.as_ref().unwrap_or(&weights.embedding);
    linear(norm(x, &weights.output_norm, eps), output).into_data().to_vec().expect("f32 logits")
}
