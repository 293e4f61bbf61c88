//! Activations as int8, quantised when they enter a product with a quantised matrix.
//!
//! For each 32 values of a row: the scale is `largest magnitude / 127`, kept in f32 (it is
//! never stored or sent, so rounding it to f16 as in GGUF's weights gains nothing); a code is
//! `value · (127 / largest magnitude)` rounded to nearest, ties to even (one instruction on
//! every CPU, or one addition). A group whose largest magnitude is below 1e-30 counts as zero,
//! so that nothing overflows; one that holds an infinity or a NaN gets a NaN scale, so that
//! damage shows instead of hiding.

use super::isa::per_isa;
use super::math::ROUND;
use super::{GROUP, Isa};

/// Rows of activations as int8.
#[derive(Clone, Debug)]
pub struct QuantizedRows {
    pub(super) cols: usize,
    /// rows × cols.
    pub(super) codes: Vec<i8>,
    /// rows × (cols / 32).
    pub(super) scales: Vec<f32>,
    /// rows × (cols / 32): −128 × the sum of a group's codes, exactly. Adding it corrects a product
    /// with weights that are stored 128 too large.
    pub(super) offsets: Vec<i32>,
}

impl QuantizedRows {
    /// The number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.codes.len() / self.cols
    }

    /// The same rows, padded with zero rows to a multiple of `tile`.
    pub(super) fn padded(&self, tile: usize) -> QuantizedRows {
        let (rows, groups) = (self.rows().next_multiple_of(tile), self.cols / GROUP);
        let mut padded = self.clone();
        padded.codes.resize(rows * self.cols, 0);
        padded.scales.resize(rows * groups, 0.0);
        padded.offsets.resize(rows * groups, 0);
        padded
    }
}

/// The largest magnitude; infinity or NaN if the values contain one.
#[inline(always)]
pub(super) fn largest_magnitude(values: &[f32]) -> f32 {
    let mut largest = 0u32;
    for value in values {
        largest = largest.max(value.to_bits() & 0x7fff_ffff);
    }
    f32::from_bits(largest)
}

/// The integer nearest to `value`, ties to even, for |value| < 2²²; its low 8 bits in
/// two's complement.
#[inline(always)]
pub(super) fn round_to_i8(value: f32) -> i8 {
    (value + ROUND).to_bits() as u8 as i8
}

#[inline(always)]
fn quantize_body(x: &[f32], codes: &mut [i8], scales: &mut [f32], offsets: &mut [i32]) {
    let (groups, rest) = x.as_chunks::<GROUP>();
    let (codes, _) = codes.as_chunks_mut::<GROUP>();
    assert!(
        rest.is_empty()
            && codes.len() == groups.len()
            && scales.len() == groups.len()
            && offsets.len() == groups.len()
    );
    for (((group, codes), scale), offset) in groups.iter().zip(codes).zip(scales).zip(offsets) {
        let largest = largest_magnitude(group);
        let (step, inverse) = match largest {
            _ if !largest.is_finite() => (f32::NAN, 0.0),
            _ if largest < 1e-30 => (0.0, 0.0),
            _ => (largest / 127.0, 127.0 / largest),
        };
        *scale = step;
        for i in 0..GROUP {
            codes[i] = round_to_i8(group[i] * inverse);
        }
        let mut sum = 0i32;
        for code in codes {
            sum = sum.wrapping_add(i32::from(*code));
        }
        *offset = sum.wrapping_mul(-128);
    }
}

per_isa! {
    fn quantize_into(x: &[f32], codes: &mut [i8], scales: &mut [f32], offsets: &mut [i32]) = quantize_body;
}

/// Quantises rows × cols activations.
///
/// # Panics
/// When `cols` is not a multiple of 32 or `x` is not complete rows: such matrices are refused when
/// a file is read.
pub fn quantize_rows(isa: Isa, x: &[f32], cols: usize) -> QuantizedRows {
    assert!(
        cols > 0 && cols.is_multiple_of(GROUP) && x.len().is_multiple_of(cols),
        "{} values in rows of {cols}",
        x.len()
    );
    let groups = x.len() / GROUP;
    let mut rows = QuantizedRows {
        cols,
        codes: vec![0; x.len()],
        scales: vec![0.0; groups],
        offsets: vec![0; groups],
    };
    quantize_into(isa, x, &mut rows.codes, &mut rows.scales, &mut rows.offsets);
    rows
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Values in −1..1 from a linear congruential generator: the same on every machine.
    pub(in crate::kernels) fn noise(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn codes_and_scales_follow_the_definition() {
        let x = noise(96, 5);
        let rows = quantize_rows(Isa::best(), &x, 96);
        for (g, group) in x.chunks(32).enumerate() {
            let largest = group.iter().fold(0f32, |m, v| m.max(v.abs()));
            assert_eq!(rows.scales[g], largest / 127.0);
            assert_eq!(
                rows.offsets[g],
                -128 * rows.codes[g * 32..][..32].iter().map(|code| i32::from(*code)).sum::<i32>()
            );
            for (code, value) in rows.codes[g * 32..].iter().zip(group) {
                assert_eq!(f32::from(*code), (value * (127.0 / largest)).round_ties_even());
            }
        }
    }

    #[test]
    fn extreme_groups_neither_wrap_nor_hide_damage() {
        for (value, scale, code) in [
            (0.0, 0.0, 0i8),
            (1e-38, 0.0, 0),
            (f32::MIN_POSITIVE / 8.0, 0.0, 0),
            (1e-30, 1e-30 / 127.0, 127),
            (f32::MAX, f32::MAX / 127.0, 127),
        ] {
            for isa in Isa::all() {
                let rows = quantize_rows(isa, &[-value; 32], 32);
                assert_eq!((rows.scales[0], rows.codes[7]), (scale, -code), "{value:e}");
            }
        }
        for damage in [f32::INFINITY, f32::NAN] {
            let mut x = [1.0; 32];
            x[3] = damage;
            assert!(Isa::all().all(|isa| quantize_rows(isa, &x, 32).scales[0].is_nan()));
        }
    }

    #[test]
    fn every_instruction_set_gives_the_bits_of_the_oracle() {
        for cols in [32, 64, 96, 640] {
            let x: Vec<f32> = noise(3 * cols, 9).iter().map(|v| v * v * v * 30.0).collect();
            let expected = quantize_rows(Isa::PORTABLE, &x, cols);
            for isa in Isa::all() {
                let rows = quantize_rows(isa, &x, cols);
                assert_eq!(
                    (&rows.codes, &rows.offsets),
                    (&expected.codes, &expected.offsets),
                    "{isa:?}"
                );
                assert!(
                    rows.scales
                        .iter()
                        .zip(&expected.scales)
                        .all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{isa:?}"
                );
            }
        }
    }
}
