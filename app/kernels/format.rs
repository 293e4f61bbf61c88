//! How GGUF stores weights: names, numbers, sizes, and the values of a row as f32.
//!
//! A quantised format is a sequence of *terms* (`terms.rs`): 32 integers under one f32 scale. Here
//! they are converted to f32; the products of `int8` use them as they are.

use super::GROUP;
use super::terms::{MAX_TERMS, unpack_group};

/// How the values of a row are stored; names, numbers and layouts are GGUF's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(non_camel_case_types, reason = "GGUF's own names")]
#[repr(u32)]
pub enum Format {
    /// 4 bytes a value, little endian.
    F32 = 0,
    /// 2 bytes a value, IEEE half.
    F16 = 1,
    /// 32 values in 18 bytes: 4 bits each, less 8, under an f16 scale.
    Q4_0 = 2,
    /// 32 values in 20 bytes: 4 bits each under an f16 scale, plus an f16 offset.
    Q4_1 = 3,
    /// 32 values in 22 bytes: 5 bits each, less 16, under an f16 scale.
    Q5_0 = 6,
    /// 32 values in 24 bytes: 5 bits each under an f16 scale, plus an f16 offset.
    Q5_1 = 7,
    /// 32 values in 34 bytes: int8 under an f16 scale.
    Q8_0 = 8,
    /// 256 values in 84 bytes: 2 bits each; a scale and an offset of 4 bits for 16 values.
    Q2_K = 10,
    /// 256 values in 110 bytes: 3 bits each, less 4; a scale of 6 bits for 16 values.
    Q3_K = 11,
    /// 256 values in 144 bytes: 4 bits each; a scale and an offset of 6 bits for 32 values.
    Q4_K = 12,
    /// 256 values in 176 bytes: 5 bits each; a scale and an offset of 6 bits for 32 values.
    Q5_K = 13,
    /// 256 values in 210 bytes: 6 bits each, less 32; an int8 scale for 16 values.
    Q6_K = 14,
    /// 32 values in 18 bytes: 4 bits that select one of 16 integers, under an f16 scale.
    IQ4_NL = 20,
    /// 256 values in 136 bytes: the same integers; a scale of 6 bits for 32 values.
    IQ4_XS = 23,
    /// 2 bytes a value, the upper half of an f32.
    BF16 = 30,
}

impl Format {
    /// All formats, by number.
    pub const ALL: [Format; 15] = [
        Format::F32,
        Format::F16,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q2_K,
        Format::Q3_K,
        Format::Q4_K,
        Format::Q5_K,
        Format::Q6_K,
        Format::IQ4_NL,
        Format::IQ4_XS,
        Format::BF16,
    ];

    /// Its name, as ggml prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Format::F32 => "F32",
            Format::F16 => "F16",
            Format::Q4_0 => "Q4_0",
            Format::Q4_1 => "Q4_1",
            Format::Q5_0 => "Q5_0",
            Format::Q5_1 => "Q5_1",
            Format::Q8_0 => "Q8_0",
            Format::Q2_K => "Q2_K",
            Format::Q3_K => "Q3_K",
            Format::Q4_K => "Q4_K",
            Format::Q5_K => "Q5_K",
            Format::Q6_K => "Q6_K",
            Format::IQ4_NL => "IQ4_NL",
            Format::IQ4_XS => "IQ4_XS",
            Format::BF16 => "BF16",
        }
    }

    /// Values and bytes of the unit that the format is stored in.
    pub const fn unit(self) -> (usize, usize) {
        match self {
            Format::F32 => (1, 4),
            Format::F16 | Format::BF16 => (1, 2),
            Format::Q4_0 | Format::IQ4_NL => (32, 18),
            Format::Q4_1 => (32, 20),
            Format::Q5_0 => (32, 22),
            Format::Q5_1 => (32, 24),
            Format::Q8_0 => (32, 34),
            Format::Q2_K => (256, 84),
            Format::Q3_K => (256, 110),
            Format::Q4_K => (256, 144),
            Format::Q5_K => (256, 176),
            Format::Q6_K => (256, 210),
            Format::IQ4_XS => (256, 136),
        }
    }

    /// Terms of a group of 32 columns: 0 if the values are floats.
    pub(super) const fn terms(self) -> usize {
        match self {
            Format::F32 | Format::F16 | Format::BF16 => 0,
            Format::Q8_0
            | Format::Q4_0
            | Format::Q5_0
            | Format::Q3_K
            | Format::Q6_K
            | Format::IQ4_NL
            | Format::IQ4_XS => 1,
            Format::Q4_1 | Format::Q5_1 | Format::Q2_K | Format::Q4_K | Format::Q5_K => 2,
        }
    }

    /// Whether values are integers under scales.
    pub(crate) const fn is_quantized(self) -> bool {
        self.terms() > 0
    }

    /// Bytes of `values` values; none if they do not fill complete units (or the count overflows).
    pub(crate) const fn bytes(self, values: usize) -> Option<usize> {
        let (unit, bytes) = self.unit();
        if values.is_multiple_of(unit) { (values / unit).checked_mul(bytes) } else { None }
    }

    /// Bytes of a row of `cols` values, which must fill complete units.
    pub(crate) const fn row_bytes(self, cols: usize) -> usize {
        self.bytes(cols).expect("a row fills whole units")
    }
}

/// A view of a stored matrix: `rows` output rows of `cols` input columns, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) format: Format,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl<'a> Matrix<'a> {
    /// A view of `bytes`.
    ///
    /// # Panics
    /// When `bytes` is not exactly rows × cols values in complete units: the caller must check it.
    pub fn new(bytes: &'a [u8], format: Format, rows: usize, cols: usize) -> Matrix<'a> {
        assert_eq!(
            bytes.len(),
            rows * format.row_bytes(cols),
            "bytes of a {rows} × {cols} matrix in {format:?}"
        );
        Matrix { bytes, format, rows, cols }
    }

    /// The stored bytes of row `row`.
    pub(crate) fn row(&self, row: usize) -> &'a [u8] {
        self.rows(row..row + 1)
    }

    /// The stored bytes of some rows.
    pub(super) fn rows(&self, rows: core::ops::Range<usize>) -> &'a [u8] {
        let len = self.format.row_bytes(self.cols);
        &self.bytes[rows.start * len..rows.end * len]
    }
}

/// An f16 as f32, exactly.
#[inline(always)]
pub(super) fn f16_to_f32(half: [u8; 2]) -> f32 {
    // An f16's exponent and fraction, moved to their f32 positions, give a value too small by 2¹¹².
    // The product is exact, also for subnormals.
    const SCALE: f32 = f32::from_bits((112 + 127) << 23);
    const INFINITE: u32 = 0x7c00 << 13;
    let half = u32::from(u16::from_le_bytes(half));
    let magnitude = (half & 0x7fff) << 13;
    let finite = (f32::from_bits(magnitude) * SCALE).to_bits();
    let bits = if magnitude >= INFINITE { magnitude | 0x7f80_0000 } else { finite };
    f32::from_bits(bits | (half & 0x8000) << 16)
}

/// One group of a quantised row as f32: the products of a term are exact, and two terms are added
/// with one rounding.
#[inline(always)]
fn dequantize_group(format: Format, unit: &[u8], group: usize, out: &mut [f32; GROUP]) {
    let mut codes = [[0i16; GROUP]; MAX_TERMS];
    let scales = unpack_group(format, unit, group, &mut codes);
    for i in 0..GROUP {
        let value = |term: usize| f32::from(codes[term][i]) * scales[term];
        out[i] = if format.terms() == 1 { value(0) } else { value(0) + value(1) };
    }
}

#[inline(always)]
pub(super) fn dequantize_body(format: Format, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(
        bytes.len(),
        format.row_bytes(out.len()),
        "bytes of a row of {} in {format:?}",
        out.len()
    );
    match format {
        Format::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        Format::F16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = f16_to_f32(*bytes);
            }
        }
        Format::BF16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        _ => {
            let (values, unit_bytes) = format.unit();
            for (unit, out) in bytes.chunks_exact(unit_bytes).zip(out.chunks_exact_mut(values)) {
                for (group, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
                    dequantize_group(format, unit, group, out);
                }
            }
        }
    }
}

/// Reads a row of any format as f32. Exact for floats and formats with one term; one rounding if an
/// offset is added.
///
/// # Panics
/// When `bytes` is not the row of `out.len()` values: the caller must check it.
pub(crate) fn dequantize_row(format: Format, bytes: &[u8], out: &mut [f32]) {
    dequantize_body(format, bytes, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_half_is_read_exactly() {
        for bits in 0..=u16::MAX {
            let ours = f16_to_f32(bits.to_le_bytes());
            let truth = f16::from_bits(bits).to_f32();
            assert!(
                ours.to_bits() == truth.to_bits() || (ours.is_nan() && truth.is_nan()),
                "{bits:#x}: {ours} {truth}"
            );
        }
    }

    /// Random, uniform and extreme bytes of every format, and the values that the package `gguf`
    /// decodes from them.
    macro_rules! golden {
        ($($format:ident $file:literal),* $(,)?) => {
            [$((
                Format::$format,
                &include_bytes!(concat!("../../tests/data/gguf-types/", $file, ".bytes"))[..],
                &include_bytes!(concat!("../../tests/data/gguf-types/", $file, ".values"))[..],
            )),*]
        };
    }

    #[test]
    fn bytes_mean_what_the_ecosystem_says_they_mean() {
        let golden = golden! {
            F16 "f16", BF16 "bf16", Q4_0 "q4_0", Q4_1 "q4_1", Q5_0 "q5_0", Q5_1 "q5_1", Q8_0 "q8_0", Q2_K "q2_k", Q3_K "q3_k",
            Q4_K "q4_k", Q5_K "q5_k", Q6_K "q6_k", IQ4_NL "iq4_nl", IQ4_XS "iq4_xs",
        };
        assert_eq!(golden.len() + 1, Format::ALL.len(), "F32 alone needs no proof");
        for (format, bytes, values) in golden {
            let expected: Vec<f32> =
                values.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
            let mut out = vec![0f32; expected.len()];
            dequantize_row(format, bytes, &mut out);
            let damaged = expected.iter().filter(|value| value.is_nan()).count();
            assert!(damaged < expected.len() / 2, "{format:?}: too many NaNs to prove anything");
            for (i, (ours, truth)) in out.iter().zip(&expected).enumerate() {
                // Bit-identical, except for the sign of a zero and the payload of a NaN, which no
                // product distinguishes.
                assert!(
                    ours == truth || (ours.is_nan() && truth.is_nan()),
                    "{format:?} {i}: {ours} {truth}"
                );
            }
        }
    }
}
