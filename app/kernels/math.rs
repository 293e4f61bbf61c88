//! Sums, norms and the functions that other programs take from libm.
//!
//! - A sum over a row runs in 16 lanes: lane `l` takes the elements `l`, `l + 16`, `l + 32`, … in
//!   that order; then the lanes are added in halves (8 + 8, 4 + 4, 2 + 2, 1 + 1).
//! - `exp` is Cody-Waite reduction by ln 2 and a polynomial of degree 7, within 2 ulp of the true
//!   value for arguments in −87.3..=88. Other arguments are clamped to that range. NaN stays NaN.
//! - GELU (tanh) is computed as `x · sigmoid(2u)`, `u = sqrt(2/π)(x + 0.044715 x³)`: the same
//!   function without cancellation.

use super::isa::per_isa;

/// Lanes of every float sum: one AVX-512 register, two of AVX2, four of NEON.
pub(super) const LANES: usize = 16;

/// Adds the lanes in halves.
#[inline(always)]
pub(super) fn tree(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `lanes + w · x`, lane by lane. By value, so that lanes stay in registers.
#[inline(always)]
fn fused(mut lanes: [f32; LANES], w: &[f32; LANES], x: &[f32; LANES]) -> [f32; LANES] {
    for l in 0..LANES {
        lanes[l] = w[l].mul_add(x[l], lanes[l]);
    }
    lanes
}

/// Finishes a sum: the last elements, fewer than there are lanes, then the halves.
#[inline(always)]
fn finish(mut lanes: [f32; LANES], w: &[f32], x: &[f32]) -> f32 {
    for ((lane, w), x) in lanes.iter_mut().zip(w).zip(x) {
        *lane = w.mul_add(*x, *lane);
    }
    tree(lanes)
}

/// The dot product of `w` and `x`, which have the same length.
#[inline(always)]
pub(super) fn dot(w: &[f32], x: &[f32]) -> f32 {
    let ((w, w_rest), (x, x_rest)) = (w.as_chunks::<LANES>(), x[..w.len()].as_chunks::<LANES>());
    let mut lanes = [0f32; LANES];
    for (w, x) in w.iter().zip(x) {
        lanes = fused(lanes, w, x);
    }
    finish(lanes, w_rest, x_rest)
}

/// The dot products of `w` with four rows: [`dot`] of each, reading `w` once.
#[inline(always)]
pub(super) fn dot_4(w: &[f32], rows: [&[f32]; 4]) -> [f32; 4] {
    let [a, b, c, d] = rows.map(|row| row[..w.len()].as_chunks::<LANES>());
    let (w, w_rest) = w.as_chunks::<LANES>();
    let [mut sum_a, mut sum_b, mut sum_c, mut sum_d] = [[0f32; LANES]; 4];
    for ((((w, a), b), c), d) in w.iter().zip(a.0).zip(b.0).zip(c.0).zip(d.0) {
        sum_a = fused(sum_a, w, a);
        sum_b = fused(sum_b, w, b);
        sum_c = fused(sum_c, w, c);
        sum_d = fused(sum_d, w, d);
    }
    [
        finish(sum_a, w_rest, a.1),
        finish(sum_b, w_rest, b.1),
        finish(sum_c, w_rest, c.1),
        finish(sum_d, w_rest, d.1),
    ]
}

#[inline(always)]
fn sum(row: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    for chunk in row.chunks(LANES) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    tree(lanes)
}

/// Added to a float of magnitude below 2²² and subtracted again, it leaves the nearest
/// integer, ties to even. Before the subtraction, the low bits of the sum are that integer in
/// two's complement.
pub(super) const ROUND: f32 = 12_582_912.0;

/// e to the `x`. See the file header.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // 1/7!, 1/6!, … 1/0!
    const TERMS: [f32; 8] =
        [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let x = x.clamp(-87.3, 88.0);
    let shifted = x.mul_add(core::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let mut p = TERMS[0];
    for term in &TERMS[1..] {
        p = p.mul_add(r, *term);
    }
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    p * f32::from_bits(exponent << 23)
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    // 2·sqrt(2/π) and that times 0.044715.
    const LINEAR: f32 = 1.595_769;
    const CUBIC: f32 = 0.071_354_814;
    let u = x * (x * x).mul_add(CUBIC, LINEAR);
    x / (1.0 + exp(-u))
}

#[inline(always)]
fn gelu_mul_body(gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(
        gate.len() == up.len() && up.len() == out.len(),
        "gelu_mul takes three slices of one length"
    );
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gelu(*gate) * up;
    }
}

per_isa! {
    /// `out[i] = gelu_tanh(gate[i]) · up[i]`, all of one length.
    pub fn gelu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) = gelu_mul_body;
}

/// The factor that gives a row a mean square of 1: `1 / sqrt(Σx²/n + eps)`.
#[inline(always)]
fn rms_factor(row: &[f32], eps: f32) -> f32 {
    let squares = dot(row, row);
    1.0 / (squares / row.len() as f32 + eps).sqrt()
}

#[inline(always)]
fn rms_norm_body(x: &[f32], weight: &[f32], eps: f32, residual: Option<&[f32]>, out: &mut [f32]) {
    let cols = weight.len();
    assert!(
        x.len() == out.len() && x.len().is_multiple_of(cols),
        "rms_norm takes whole rows of {cols}"
    );
    for (r, (row, out)) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)).enumerate() {
        let factor = rms_factor(row, eps);
        match residual {
            None => {
                for ((out, x), w) in out.iter_mut().zip(row).zip(weight) {
                    *out = x * factor * w;
                }
            }
            Some(residual) => {
                let residual = &residual[r * cols..][..cols];
                for (((out, x), w), add) in out.iter_mut().zip(row).zip(weight).zip(residual) {
                    *out = add + x * factor * w;
                }
            }
        }
    }
}

per_isa! {
    /// RMSNorm of each row: `out = x · (1 / sqrt(Σx²/n + eps)) · weight`, plus `residual` if
    /// one is given.
    ///
    /// # Shapes
    /// x, residual, out: rows × n; weight: n, holding 1 + w.
    pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, residual: Option<&[f32]>, out: &mut [f32]) = rms_norm_body;
}

#[inline(always)]
fn softmax_body(row: &mut [f32], total: &mut f32) {
    let mut largest = f32::NEG_INFINITY;
    for &score in row.iter() {
        largest = if score > largest { score } else { largest };
    }
    for score in row.iter_mut() {
        *score = exp(*score - largest);
    }
    *total = sum(row);
}

per_isa! {
    /// Replaces scores with `exp(score − largest)` and leaves their sum in `total`, for
    /// [`normalize`] at the end.
    pub fn softmax(row: &mut [f32], total: &mut f32) = softmax_body;
}

#[inline(always)]
fn normalize_body(row: &mut [f32], total: f32) {
    let factor = 1.0 / total;
    for value in row {
        *value *= factor;
    }
}

per_isa! {
    /// Multiplies a row by `1 / total`.
    pub(crate) fn normalize(row: &mut [f32], total: f32) = normalize_body;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    #[test]
    fn exp_is_within_two_ulp_over_its_range() {
        let mut worst = 0f64;
        for i in 0..=2_000_000 {
            let x = -87.3 + (i as f32) * (175.3 / 2_000_000.0);
            let truth = libm::exp(f64::from(x.clamp(-87.3, 88.0)));
            worst = worst.max(((f64::from(exp(x)) - truth) / truth).abs());
        }
        assert!(worst < 2.4e-7, "relative error {worst:e}");
    }

    #[test]
    fn exp_outside_its_range_is_the_nearer_end_and_nan_stays() {
        assert_eq!(exp(f32::NEG_INFINITY), exp(-87.3));
        assert_eq!(exp(f32::INFINITY), exp(88.0));
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn gelu_is_the_tanh_form_of_hugging_face() {
        let mut worst = 0f64;
        for i in -200_000..=200_000 {
            let x = i as f32 * 1e-4;
            let d = f64::from(x);
            let truth = 0.5
                * d
                * (1.0
                    + libm::tanh(
                        (2.0 / core::f64::consts::PI).sqrt() * (d + 0.044715 * d * d * d),
                    ));
            worst = worst.max((f64::from(gelu(x)) - truth).abs() / d.abs().max(1.0));
        }
        assert!(worst < 4e-7, "error {worst:e}");
        assert_eq!(gelu(1e30), 1e30);
        assert!(gelu(-1e9).abs() < 1e-25);
    }

    #[test]
    fn a_sum_has_the_documented_order() {
        let w: Vec<f32> = (0..37).map(|i| 1.0 + (i * i % 17) as f32 / 7.0).collect();
        let x: Vec<f32> = (0..37).map(|i| (i * 5 % 13) as f32 - 6.3).collect();
        let mut lanes = [0f32; 16];
        for i in 0..37 {
            lanes[i % 16] = w[i].mul_add(x[i], lanes[i % 16]);
        }
        let eight: Vec<f32> = (0..8).map(|i| lanes[i] + lanes[i + 8]).collect();
        let four: Vec<f32> = (0..4).map(|i| eight[i] + eight[i + 4]).collect();
        let expected = (four[0] + four[2]) + (four[1] + four[3]);
        assert_eq!(dot(&w, &x).to_bits(), expected.to_bits());
        assert_eq!(dot_4(&w, [&w, &w, &w, &x])[3].to_bits(), expected.to_bits());
    }

    fn noise(n: usize, seed: u32) -> Vec<f32> {
        crate::kernels::quantize::tests::noise(n, seed)
    }

    #[test]
    fn every_instruction_set_gives_the_bits_of_the_oracle() {
        for n in [1usize, 2, 15, 16, 17, 31, 33, 64, 100, 640] {
            let (x, y, weight) = (noise(3 * n, 1), noise(3 * n, 2), noise(n, 3));
            let bits = |isa| {
                let mut all = Vec::new();
                let mut out = vec![0f32; 3 * n];
                gelu_mul(isa, &x, &y, &mut out);
                all.extend(out.iter().map(|v| v.to_bits()));
                rms_norm(isa, &x, &weight, 1e-6, None, &mut out);
                all.extend(out.iter().map(|v| v.to_bits()));
                rms_norm(isa, &x, &weight, 1e-6, Some(&y), &mut out);
                all.extend(out.iter().map(|v| v.to_bits()));
                let mut row: Vec<f32> = x.iter().map(|v| v * 40.0).collect();
                let mut total = 0.0;
                softmax(isa, &mut row, &mut total);
                normalize(isa, &mut row, total);
                all.extend(row.iter().map(|v| v.to_bits()));
                all
            };
            let expected = bits(Isa::PORTABLE);
            Isa::all().for_each(|isa| assert_eq!(bits(isa), expected, "{isa:?}, rows of {n}"));
        }
    }
}
