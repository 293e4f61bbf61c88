//! The two products of attention, for one query over one block of positions at a time.
//!
//! A score is the sum of `math` over the head (16 lanes, halves). Weighted values are added
//! position by position, in order, with one fused multiply-add each, so splitting the positions
//! into blocks, or a prompt into chunks, changes no bit.

use super::isa::per_isa;
use super::math::{dot, dot_4};

/// Positions whose scores are computed together.
const TILE: usize = 4;

/// Values of the head that stay in registers while positions are added.
const STRIP: usize = 32;

#[inline(always)]
fn scores_body(query: &[f32], keys: &[f32], out: &mut [f32]) {
    let dim = query.len();
    assert_eq!(keys.len(), out.len() * dim);
    let key = |p: usize| &keys[p * dim..][..dim];
    let mut p = 0;
    while p + TILE <= out.len() {
        let sums = dot_4(query, core::array::from_fn(|i| key(p + i)));
        out[p..p + TILE].copy_from_slice(&sums);
        p += TILE;
    }
    for (out, key) in out[p..].iter_mut().zip(keys[p * dim..].chunks_exact(dim)) {
        *out = dot(query, key);
    }
}

per_isa! {
    /// `out[p] = query · keys[p]`.
    ///
    /// # Shapes
    /// query: head_dim; keys: positions × head_dim; out: positions.
    pub fn scores(query: &[f32], keys: &[f32], out: &mut [f32]) = scores_body;
}

#[inline(always)]
fn accumulate_body(weights: &[f32], values: &[f32], out: &mut [f32]) {
    let dim = out.len();
    assert_eq!(values.len(), weights.len() * dim);
    let mut start = 0;
    while start + STRIP <= dim {
        let strip: &mut [f32; STRIP] =
            out[start..].first_chunk_mut().expect("the loop's condition");
        let mut sums = *strip;
        for (p, weight) in weights.iter().enumerate() {
            let value: &[f32; STRIP] = values[p * dim + start..].first_chunk().expect("whole rows");
            for i in 0..STRIP {
                sums[i] = weight.mul_add(value[i], sums[i]);
            }
        }
        *strip = sums;
        start += STRIP;
    }
    for (p, weight) in weights.iter().enumerate() {
        for (out, value) in out[start..].iter_mut().zip(&values[p * dim + start..(p + 1) * dim]) {
            *out = weight.mul_add(*value, *out);
        }
    }
}

per_isa! {
    /// `out += Σ_p weights[p] · values[p]`, in the order of `p`.
    ///
    /// # Shapes
    /// weights: positions; values: positions × head_dim; out: head_dim.
    pub fn accumulate(weights: &[f32], values: &[f32], out: &mut [f32]) = accumulate_body;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;
    use crate::kernels::quantize::tests::noise;

    #[test]
    fn scores_and_sums_have_the_bits_of_their_definition_however_positions_are_cut() {
        for dim in [2, 16, 20, 32, 48, 70, 256] {
            let (query, rows, weights) = (noise(dim, 1), noise(dim * 11, 2), noise(11, 3));
            let mut expected = noise(dim, 4);
            for p in 0..11 {
                for d in 0..dim {
                    expected[d] = weights[p].mul_add(rows[p * dim + d], expected[d]);
                }
            }
            for isa in Isa::all() {
                for cut in 0..=11 {
                    let mut out = noise(dim, 4);
                    accumulate(isa, &weights[..cut], &rows[..cut * dim], &mut out);
                    accumulate(isa, &weights[cut..], &rows[cut * dim..], &mut out);
                    assert_eq!(out, expected);

                    let mut got = [0f32; 11];
                    scores(isa, &query, &rows[..cut * dim], &mut got[..cut]);
                    scores(isa, &query, &rows[cut * dim..], &mut got[cut..]);
                    for p in 0..11 {
                        let alone = dot(&query, &rows[p * dim..][..dim]);
                        assert_eq!(got[p].to_bits(), alone.to_bits());
                    }
                }
            }
        }
    }
}
