//! The stored form of keys and values: the row of one head of one token.
//!
//! int8: for each 32 values (the last group may be short) the scale is `largest magnitude / 127`
//! rounded to f16, and a code is `value · (1 / scale)` rounded to nearest, ties to even, within
//! ±127. The codes are chosen for the *rounded* scale, the one that attention reads: that halves
//! the error of the largest values. A scale too large for f16 becomes f16's largest number; one
//! too small becomes zero, and so do the codes. Reading multiplies code and scale, which is
//! exact in f32. A group that holds an infinity or a NaN gets a NaN scale, so that damage shows
//! instead of hiding.

use half::f16;

use super::GROUP;
use super::format::f16_to_f32;
use super::isa::per_isa;
use super::quantize::{largest_magnitude, round_to_i8};

/// Quantises one row.
///
/// # Shapes
/// x, codes: head_dim; scales: ceil(head_dim / 32) × 2 bytes, little endian.
pub fn encode_int8(x: &[f32], codes: &mut [u8], scales: &mut [u8]) {
    assert!(codes.len() == x.len() && scales.len() == x.len().div_ceil(GROUP) * 2);
    let groups = x.chunks(GROUP).zip(codes.chunks_mut(GROUP)).zip(scales.as_chunks_mut::<2>().0);
    for ((x, codes), scale_bytes) in groups {
        let largest = largest_magnitude(x);
        let scale = if largest.is_finite() {
            f16::from_f32((largest / 127.0).min(65_504.0))
        } else {
            f16::NAN
        };
        let step = scale.to_f32();
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        *scale_bytes = scale.to_le_bytes();
        for (code, x) in codes.iter_mut().zip(x) {
            *code = round_to_i8((x * inverse).clamp(-127.0, 127.0)) as u8;
        }
    }
}

/// Stores one row unchanged: head_dim × 4 bytes, little endian.
pub(crate) fn encode_f32(x: &[f32], bytes: &mut [u8]) {
    assert_eq!(bytes.len(), x.len() * 4);
    for (bytes, x) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(x) {
        *bytes = x.to_le_bytes();
    }
}

#[inline(always)]
fn decode_int8_body(codes: &[u8], scales: &[u8], head_dim: usize, out: &mut [f32]) {
    let groups = head_dim.div_ceil(GROUP) * 2;
    let rows = out.len() / head_dim;
    let fits =
        out.len() == rows * head_dim && codes.len() == out.len() && scales.len() == rows * groups;
    assert!(
        fits,
        "{} codes and {} bytes of scales for {} values in rows of {head_dim}",
        codes.len(),
        scales.len(),
        out.len()
    );
    let rows = codes
        .chunks_exact(head_dim)
        .zip(scales.chunks_exact(groups))
        .zip(out.chunks_exact_mut(head_dim));
    for ((codes, scales), out) in rows {
        for ((codes, scale), out) in
            codes.chunks(GROUP).zip(scales.as_chunks::<2>().0).zip(out.chunks_mut(GROUP))
        {
            let scale = f16_to_f32(*scale);
            for (out, code) in out.iter_mut().zip(codes) {
                *out = scale * f32::from(*code as i8);
            }
        }
    }
}

per_isa! {
    /// Reads rows that [`encode_int8`] wrote.
    ///
    /// # Shapes
    /// codes, out: rows × head_dim; scales: rows × ceil(head_dim / 32) × 2 bytes.
    pub fn decode_int8(codes: &[u8], scales: &[u8], head_dim: usize, out: &mut [f32]) = decode_int8_body;
}

/// Reads rows that [`encode_f32`] wrote.
pub(crate) fn decode_f32(bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * 4);
    for (bytes, out) in bytes.as_chunks::<4>().0.iter().zip(out) {
        *out = f32::from_le_bytes(*bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::kernels::Isa;
    use crate::kernels::quantize::tests::noise;

    fn round_trip(x: &[f32]) -> (Vec<u8>, Vec<u8>, Vec<f32>) {
        let groups = x.len().div_ceil(32);
        let (mut codes, mut scales, mut out) =
            (vec![0u8; x.len()], vec![0u8; groups * 2], vec![0f32; x.len()]);
        encode_int8(x, &mut codes, &mut scales);
        decode_int8(Isa::best(), &codes, &scales, x.len(), &mut out);
        (codes, scales, out)
    }

    #[test]
    fn a_row_is_read_back_within_half_a_step_of_the_rounded_scale() {
        for head_dim in [2, 20, 32, 48, 256] {
            let x = noise(head_dim, head_dim as u32);
            let (_, scales, out) = round_trip(&x);
            for (i, (x, y)) in x.iter().zip(&out).enumerate() {
                let step =
                    f16::from_le_bytes([scales[i / 32 * 2], scales[i / 32 * 2 + 1]]).to_f32();
                assert!((x - y).abs() <= 0.5 * step * 1.13, "{x} {y}");
            }
        }
    }

    #[test]
    fn extreme_rows_saturate_instead_of_wrapping() {
        let (codes, scales, out) = round_trip(&[1e9; 20]);
        assert_eq!((codes[0] as i8, f16::from_le_bytes([scales[0], scales[1]])), (127, f16::MAX));
        assert_eq!(out[0], 65_504.0 * 127.0);
        let (codes, _, out) = round_trip(&[-1e-9; 20]);
        assert_eq!((codes[0], out[0]), (0, 0.0));
        // The smallest subnormal scale: codes would pass 127 without the clamp.
        let (codes, _, _) = round_trip(&[1.4 * 127.0 * 5.96e-8; 32]);
        assert_eq!(codes[0] as i8, 127);
        assert!(round_trip(&[f32::NAN; 4]).2[0].is_nan());
        assert!(round_trip(&[f32::INFINITY; 4]).2[3].is_nan());
    }

    #[test]
    fn every_instruction_set_reads_the_same_bits() {
        for head_dim in [20, 48, 64] {
            let x = noise(head_dim, 4);
            let (codes, scales, _) = round_trip(&x);
            let read = |isa| {
                let mut out = vec![0f32; head_dim];
                decode_int8(isa, &codes, &scales, head_dim, &mut out);
                out
            };
            let expected = read(Isa::PORTABLE);
            Isa::all().for_each(|isa| assert_eq!(read(isa), expected, "{isa:?}"));
        }
    }

    #[test]
    fn lengths_that_do_not_fit_one_another_panic() {
        // Two rows of 20 values take 40 codes and 2 × 2 bytes of scales.
        decode_int8(Isa::best(), &[0; 40], &[0; 4], 20, &mut [0.0; 40]);
        for (codes, scales, values) in
            [(40, 2, 40), (40, 6, 40), (20, 4, 40), (60, 4, 40), (40, 4, 20), (50, 4, 50)]
        {
            let (codes, scales, mut values) = (vec![0; codes], vec![0; scales], vec![0.0; values]);
            for isa in Isa::all() {
                let decode =
                    AssertUnwindSafe(|| decode_int8(isa, &codes, &scales, 20, &mut values));
                assert!(
                    catch_unwind(decode).is_err(),
                    "{} codes, {} bytes of scales",
                    codes.len(),
                    scales.len()
                );
            }
        }
    }

    #[test]
    fn f32_rows_keep_every_bit() {
        let x = noise(7, 1);
        let (mut bytes, mut out) = ([0u8; 28], [0f32; 7]);
        encode_f32(&x, &mut bytes);
        decode_f32(&bytes, &mut out);
        assert_eq!(out.as_slice(), x.as_slice());
    }
}
