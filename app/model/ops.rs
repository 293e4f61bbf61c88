//! What burn lacks for Gemma 3 on mapped weights and paged KV: one backend extension, implemented for NdArray with our kernels.
//!
//! Each op reads its input slices in place, takes weights where they lie in the file, and computes whatever runs per token, so
//! that burn's own small ops stay out of the hot path. Moving to another backend is one more implementation of [`GemmaOps`].

#![allow(deprecated)]

use std::borrow::Cow;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, NdArray, backend_extension};
use burn::tensor::{Device, Tensor, TensorData};
use burn_ndarray::NdArrayTensor;
use ndarray::{ArrayD, IxDyn};

use super::attention::{self, AttentionSite};
use super::{DType, Weight};
use crate::id::TokenId;
use crate::kernels::{self, Format, Isa, Matrix, RopeTable};

/// The values of a norm: 1 + w in f32. Vectors are read into memory once; matrices never are.
#[derive(Clone, Debug)]
pub struct NormWeight(pub Arc<[f32]>);

/// Our ops, on tensors of [tokens, features].
#[backend_extension(NdArray)]
pub trait GemmaOps: Backend {
    /// x [tokens, cols] times the transposed weight (rows × cols): [tokens, rows].
    fn gemma_linear(x: FloatTensor<Self>, weight: Weight, int8: bool) -> FloatTensor<Self>;

    /// RMSNorm of each run of `weight` values of x: a row of the residual stream, or each head of it.
    fn gemma_norm(x: FloatTensor<Self>, weight: NormWeight, eps: f32) -> FloatTensor<Self>;

    /// residual + RMSNorm(x), both [tokens, hidden].
    fn gemma_norm_add(x: FloatTensor<Self>, residual: FloatTensor<Self>, weight: NormWeight, eps: f32) -> FloatTensor<Self>;

    /// Turns every head of x [tokens, heads × head_dim] by its token's position, then multiplies by `scale`.
    fn gemma_rotate(x: FloatTensor<Self>, table: Arc<RopeTable>, heads: usize, scale: f32) -> FloatTensor<Self>;

    /// gelu_tanh(gate) × up, both [tokens, ffn].
    fn gemma_gated(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Writes keys and values [tokens, kv_heads × head_dim] into the sequence's pages, then attends from them for the queries
    /// [tokens, heads × head_dim]: the shape of the queries.
    fn gemma_attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        site: AttentionSite,
    ) -> FloatTensor<Self>;
}

/// A tensor's values in row order; copied only where they do not lie so.
fn values(x: &NdArrayTensor) -> Cow<'_, [f32]> {
    let NdArrayTensor::F32(storage) = x else { unreachable!("every tensor of this model is f32") };
    let view = storage.view();
    let len = view.len();
    match view.to_slice() {
        Some(slice) if slice.len() == len => Cow::Owned(slice.to_vec()),
        _ => Cow::Owned(view.iter().copied().collect()),
    }
}

fn tensor(values: Vec<f32>, rows: usize) -> NdArrayTensor {
    let cols = values.len() / rows;
    let array = ArrayD::from_shape_vec(IxDyn(&[rows, cols]), values).expect("whole rows");
    NdArrayTensor::from(array.into_shared())
}
