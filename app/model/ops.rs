//! What burn lacks for Gemma 3 on mapped weights and paged KV: one backend extension, implemented
//! for NdArray with our kernels.
//!
//! Each op reads its input slices in place, uses the weights in place in the mapped file, and does
//! all per-token computation, so that burn's own small ops stay out of the hot path. Moving to
//! another backend takes one more implementation of [`GemmaOps`].

#![allow(deprecated)]
#![expect(
    clippy::disallowed_macros,
    reason = "burn writes `unimplemented!` for the backends that are not built"
)]

use std::borrow::Cow;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, NdArray, backend_extension};
use burn::tensor::{Device, Tensor, TensorData};
use burn_ndarray::NdArrayTensor;
use ndarray::{ArrayD, IxDyn};

use super::Weight;
use super::attention::{self, AttentionSite};
use crate::id::TokenId;
use crate::kernels::{self, Isa, Matrix, RopeTable, Team};

/// The values of a norm: 1 + w in f32. Vectors are copied into memory once; matrices never are.
#[derive(Clone, Debug)]
pub(crate) struct NormWeight(pub Arc<[f32]>);

/// Our ops, on tensors of [tokens, features].
#[backend_extension(NdArray)]
pub(crate) trait GemmaOps: Backend {
    /// x [tokens, cols] times the transposed weight (rows × cols): [tokens, rows].
    fn gemma_linear(
        x: FloatTensor<Self>,
        weight: Weight,
        int8: bool,
        team: Arc<Team>,
    ) -> FloatTensor<Self>;

    /// RMSNorm of each run of x that is as long as `weight`: a row of the residual stream, or each
    /// head of it.
    fn gemma_norm(
        x: FloatTensor<Self>,
        weight: NormWeight,
        eps: f32,
        isa: Isa,
    ) -> FloatTensor<Self>;

    /// residual + RMSNorm(x), both [tokens, hidden].
    fn gemma_norm_add(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        weight: NormWeight,
        eps: f32,
        isa: Isa,
    ) -> FloatTensor<Self>;

    /// Rotates every head of x [tokens, heads × head_dim] by its token's position, then multiplies
    /// by `scale`.
    fn gemma_rotate(
        x: FloatTensor<Self>,
        table: Arc<RopeTable>,
        heads: usize,
        scale: f32,
    ) -> FloatTensor<Self>;

    /// gelu_tanh(gate) × up, both [tokens, ffn].
    fn gemma_gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, isa: Isa) -> FloatTensor<Self>;

    /// Writes keys and values [tokens, kv_heads × head_dim] into the sequence's pages, then attends
    /// to them for the queries [tokens, heads × head_dim]. The result has the shape of the queries.
    fn gemma_attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        site: AttentionSite,
    ) -> FloatTensor<Self>;
}

/// A tensor's values in row order; copied only if they are stored in another order.
fn values(x: &NdArrayTensor) -> Cow<'_, [f32]> {
    let NdArrayTensor::F32(storage) = x else { unreachable!("every tensor of this model is f32") };
    let view = storage.view();
    match view.to_slice() {
        Some(slice) => Cow::Borrowed(slice),
        None => Cow::Owned(view.iter().copied().collect()),
    }
}

fn rows(x: &NdArrayTensor) -> usize {
    let NdArrayTensor::F32(storage) = x else { unreachable!("every tensor of this model is f32") };
    storage.shape()[0]
}

fn tensor(values: Vec<f32>, rows: usize) -> NdArrayTensor {
    let shape = IxDyn(&[rows, values.len() / rows]);
    let array = ArrayD::from_shape_vec(shape, values).expect("every op returns whole rows");
    NdArrayTensor::from(array.into_shared())
}

impl GemmaOps for NdArray {
    fn gemma_linear(
        x: FloatTensor<Self>,
        weight: Weight,
        int8: bool,
        team: Arc<Team>,
    ) -> FloatTensor<Self> {
        let isa = team.isa();
        let matrix = weight.matrix();
        let input = values(&x);
        let mut out = vec![0f32; rows(&x) * weight.rows()];
        if int8 && weight.format().is_quantized() {
            kernels::matmul_int8(
                &team,
                isa,
                matrix,
                &kernels::quantize_rows(isa, &input, weight.cols()),
                &mut out,
            );
        } else {
            kernels::matmul(&team, isa, matrix, &input, &mut out);
        }
        tensor(out, rows(&x))
    }

    fn gemma_norm(
        x: FloatTensor<Self>,
        weight: NormWeight,
        eps: f32,
        isa: Isa,
    ) -> FloatTensor<Self> {
        let input = values(&x);
        let mut out = vec![0f32; input.len()];
        kernels::rms_norm(isa, &input, &weight.0, eps, None, &mut out);
        tensor(out, rows(&x))
    }

    fn gemma_norm_add(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        weight: NormWeight,
        eps: f32,
        isa: Isa,
    ) -> FloatTensor<Self> {
        let input = values(&x);
        let mut out = vec![0f32; input.len()];
        kernels::rms_norm(isa, &input, &weight.0, eps, Some(&values(&residual)), &mut out);
        tensor(out, rows(&x))
    }

    fn gemma_rotate(
        x: FloatTensor<Self>,
        table: Arc<RopeTable>,
        heads: usize,
        scale: f32,
    ) -> FloatTensor<Self> {
        let mut out = values(&x).into_owned();
        kernels::rotate(&table, heads, scale, &mut out);
        tensor(out, rows(&x))
    }

    fn gemma_gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, isa: Isa) -> FloatTensor<Self> {
        let input = values(&gate);
        let mut out = vec![0f32; input.len()];
        kernels::gelu_mul(isa, &input, &values(&up), &mut out);
        tensor(out, rows(&gate))
    }

    fn gemma_attend(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        site: AttentionSite,
    ) -> FloatTensor<Self> {
        attention::write(&site, &values(&key), &values(&value));
        tensor(attention::attend(site.team.isa(), &site, &values(&query)), rows(&query))
    }
}

impl Weight {
    fn matrix(&self) -> Matrix<'_> {
        Matrix::new(self.bytes(), self.format(), self.rows(), self.cols())
    }

    /// Row `row` as f32.
    ///
    /// # Panics
    /// If the row does not exist: a bug in the caller.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let mut out = vec![0f32; self.cols()];
        kernels::dequantize_row(self.format(), self.matrix().row(row), &mut out);
        out
    }
}

/// x [tokens, cols] times the transposed weight (rows × cols): [tokens, rows]. With `int8`, the
/// activations for a quantised weight are quantised to int8.
pub(crate) fn linear(x: Tensor<2>, weight: &Weight, int8: bool, team: &Arc<Team>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as GemmaOps>::gemma_linear(
        x.into_dispatch(),
        weight.clone(),
        int8,
        team.clone(),
    ))
}

/// RMSNorm of each run of x that is as long as `weight`: a row, or each head of it. Keeps the
/// shape.
pub(crate) fn norm(x: Tensor<2>, weight: &NormWeight, eps: f32, isa: Isa) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as GemmaOps>::gemma_norm(
        x.into_dispatch(),
        weight.clone(),
        eps,
        isa,
    ))
}

/// residual + RMSNorm(x), both [tokens, hidden].
pub(crate) fn norm_add(
    x: Tensor<2>,
    residual: Tensor<2>,
    weight: &NormWeight,
    eps: f32,
    isa: Isa,
) -> Tensor<2> {
    let (x, residual) = (x.into_dispatch(), residual.into_dispatch());
    Tensor::from_dispatch(<Dispatch as GemmaOps>::gemma_norm_add(
        x,
        residual,
        weight.clone(),
        eps,
        isa,
    ))
}

/// Rotates every head of x [tokens, heads × head_dim] by its token's position, then multiplies by
/// `scale`.
pub(crate) fn rotate(x: Tensor<2>, table: &Arc<RopeTable>, heads: usize, scale: f32) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as GemmaOps>::gemma_rotate(
        x.into_dispatch(),
        table.clone(),
        heads,
        scale,
    ))
}

/// gelu_tanh(gate) × up, both [tokens, ffn].
pub(crate) fn gated(gate: Tensor<2>, up: Tensor<2>, isa: Isa) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as GemmaOps>::gemma_gated(
        gate.into_dispatch(),
        up.into_dispatch(),
        isa,
    ))
}

/// Writes keys and values [tokens, kv_heads × head_dim] into the pages, then attends for queries
/// [tokens, heads × head_dim].
pub(crate) fn attend(
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    site: AttentionSite,
) -> Tensor<2> {
    let (query, key, value) = (query.into_dispatch(), key.into_dispatch(), value.into_dispatch());
    Tensor::from_dispatch(<Dispatch as GemmaOps>::gemma_attend(query, key, value, site))
}

/// The embedding's rows of `tokens`, each times `scale`: [tokens, hidden]. Only those rows of the
/// file are read.
pub(crate) fn embed(weight: &Weight, tokens: &[TokenId], scale: f32) -> Tensor<2> {
    let rows = tokens
        .iter()
        .flat_map(|token| weight.row(token.0 as usize).into_iter().map(|value| value * scale));
    let data = TensorData::new(rows.collect::<Vec<f32>>(), [tokens.len(), weight.cols()]);
    Tensor::from_data(data, &Device::ndarray())
}

/// A tensor's values, row by row. Reuses the tensor's own memory if nothing else shares it, because
/// logits are a megabyte.
pub(crate) fn into_vec(x: Tensor<2>) -> Vec<f32> {
    let storage = match x.try_into_primitive::<NdArray>() {
        Ok(NdArrayTensor::F32(storage)) => storage,
        Ok(_) => unreachable!("every tensor of this model is f32"),
        Err(error) => unreachable!("every tensor of this model is NdArray's: {error:?}"),
    };
    let array = storage.into_owned();
    if !array.is_standard_layout() {
        return array.iter().copied().collect();
    }
    let count = array.len();
    let (mut values, first) = array.into_owned().into_raw_vec_and_offset();
    values.drain(..first.unwrap_or(0));
    values.truncate(count);
    values
}
