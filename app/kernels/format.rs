//! How weights are stored, and how they are read: unpacked row by row into scratch that fits the first cache, then used for
//! every token of the batch.

use super::GROUP;

/// How the values of a row are stored; names and layouts are GGUF's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// 4 bytes a value, little endian.
    F32,
    /// 2 bytes a value, IEEE half.
    F16,
    /// 2 bytes a value, the upper half of an f32.
    BF16,
    /// 32 values in 34 bytes: an f16 scale, then 32 int8.
    Q8_0,
    /// 32 values in 18 bytes: an f16 scale, then 16 bytes; low nibbles are the values 0..16, high nibbles 16..32, less 8.
    Q4_0,
}

impl Format {
    /// Values and bytes of the unit that the format is stored in.
    pub const fn unit(self) -> (usize, usize) {
        match self {
            Format::F32 => (1, 4),
            Format::F16 | Format::BF16 => (1, 2),
            Format::Q8_0 => (GROUP, 34),
            Format::Q4_0 => (GROUP, 18),
        }
    }

    /// Whether values are small integers under a scale per 32.
    pub const fn is_quantized(self) -> bool {
        matches!(self, Format::Q8_0 | Format::Q4_0)
    }

    /// Bytes of a row of `cols` values, which must fill whole units.
    pub const fn row_bytes(self, cols: usize) -> usize {
        let (values, bytes) = self.unit();
        assert!(cols.is_multiple_of(values), "a row must fill whole units");
        cols / values * bytes
    }
}

/// A matrix where it lies: `rows` output rows of `cols` input columns, row by row.
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
    /// When `bytes` is not exactly rows × cols values in whole units: the caller has checked it.
    pub fn new(bytes: &'a [u8], format: Format, rows: usize, cols: usize) -> Matrix<'a> {
        assert_eq!(bytes.len(), rows * format.row_bytes(cols), "bytes of a {rows} × {cols} matrix in {format:?}");
        Matrix { bytes, format, rows, cols }
    }

    /// The stored bytes of row `row`.
    pub fn row(&self, row: usize) -> &'a [u8] {
        self.rows(row..row + 1)
    }

    /// The stored bytes of some rows.
    pub(super) fn rows(&self, rows: core::ops::Range<usize>) -> &'a [u8] {
        let len = self.format.row_bytes(self.cols);
        &self.bytes[rows.start * len..rows.end * len]
    }
}

/// An IEEE half as f32, exactly.
#[inline(always)]
pub(super) fn f16_to_f32(half: [u8; 2]) -> f32 {
    // The half's exponent and fraction moved into an f32's place are too small by 2¹¹²; the product is exact, also for subnormals.
    const SCALE: f32 = f32::from_bits((112 + 127) << 23);
    const INFINITE: u32 = 0x7c00 << 13;
    let half = u32::from(u16::from_le_bytes(half));
    let magnitude = (half & 0x7fff) << 13;
    let finite = (f32::from_bits(magnitude) * SCALE).to_bits();
    let bits = if magnitude >= INFINITE { magnitude | 0x7f80_0000 } else { finite };
    f32::from_bits(bits | (half & 0x8000) << 16)
}

/// Splits a block of Q8_0 or Q4_0 into its whole numbers and its scale.
#[inline(always)]
pub(super) fn unpack_block(format: Format, block: &[u8], codes: &mut [i8; GROUP]) -> f32 {
    match format {
        Format::Q8_0 => {
            let block: &[u8; 34] = block.first_chunk().expect("a whole block");
            for i in 0..GROUP {
                codes[i] = block[2 + i] as i8;
            }
        }
        Format::Q4_0 => {
            let block: &[u8; 18] = block.first_chunk().expect("a whole block");
            for i in 0..GROUP / 2 {
                codes[i] = ((block[2 + i] & 15) as i8).wrapping_sub(8);
                codes[i + GROUP / 2] = ((block[2 + i] >> 4) as i8).wrapping_sub(8);
            }
        }
        Format::F32 | Format::F16 | Format::BF16 => unreachable!("{format:?} has no scales"),
    }
    f16_to_f32([block[0], block[1]])
}

/// Splits a row of Q8_0 or Q4_0 into its whole numbers and its scales.
#[inline(always)]
pub(super) fn unpack(format: Format, bytes: &[u8], codes: &mut [i8], scales: &mut [f32]) {
    let (_, unit) = format.unit();
    for ((block, codes), scale) in bytes.chunks_exact(unit).zip(codes.as_chunks_mut().0).zip(scales) {
        *scale = unpack_block(format, block, codes);
    }
}

#[inline(always)]
fn dequantize_blocks<const BYTES: usize>(format: Format, bytes: &[u8], out: &mut [f32]) {
    let (mut codes, mut scale) = ([0i8; GROUP], [0f32]);
    for (block, out) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<GROUP>().0) {
        unpack(format, block, &mut codes, &mut scale);
        for i in 0..GROUP {
            out[i] = scale[0] * f32::from(codes[i]);
        }
    }
}

#[inline(always)]
pub(super) fn dequantize_body(format: Format, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), format.row_bytes(out.len()), "bytes of a row of {} in {format:?}", out.len());
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
        Format::Q8_0 => dequantize_blocks::<34>(Format::Q8_0, bytes, out),
        Format::Q4_0 => dequantize_blocks::<18>(Format::Q4_0, bytes, out),
    }
}

/// Reads a row of any format as f32. Exact: a scale of 11 bits times a code of 8 fits an f32.
///
/// # Panics
/// When `bytes` is not the row of `out.len()` values: the caller has checked it.
pub fn dequantize_row(format: Format, bytes: &[u8], out: &mut [f32]) {
    dequantize_body(format, bytes, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    #[test]
    fn every_half_is_read_exactly() {
        for bits in 0..=u16::MAX {
            let ours = f16_to_f32(bits.to_le_bytes());
            let truth = f16::from_bits(bits).to_f32();
            assert!(ours.to_bits() == truth.to_bits() || (ours.is_nan() && truth.is_nan()), "{bits:#x}: {ours} {truth}");
        }
    }

    #[test]
    fn rows_are_read_as_gguf_lays_them_out() {
        let values = [1.0f32, -0.5, 3.25];
        let mut out = [0f32; 3];
        let f32s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        dequantize_row(Format::F32, &f32s, &mut out);
        assert_eq!(out, values);
        let f16s: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        dequantize_row(Format::F16, &f16s, &mut out);
        assert_eq!(out, values);
        let bf16s: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        dequantize_row(Format::BF16, &bf16s, &mut out);
        assert_eq!(out, values);

        let mut block = f16::from_f32(0.5).to_le_bytes().to_vec();
        block.extend((0..32).map(|i| (i * 8 - 128) as i8 as u8));
        let mut out = [0f32; 32];
        dequantize_row(Format::Q8_0, &block, &mut out);
        assert_eq!(out, core::array::from_fn(|i| 0.5 * (i as f32 * 8.0 - 128.0)));

        let mut block = f16::from_f32(-2.0).to_le_bytes().to_vec();
        block.extend((0..16).map(|i| i | (15 - i) << 4));
        dequantize_row(Format::Q4_0, &block, &mut out);
        let expected: [f32; 32] = core::array::from_fn(|i| -2.0 * (if i < 16 { i as f32 } else { 31.0 - i as f32 } - 8.0));
        assert_eq!(out, expected);
    }

    #[test]
    fn unpacked_codes_times_scales_are_the_dequantized_values() {
        for (format, bytes) in [(Format::Q8_0, 34), (Format::Q4_0, 18)] {
            let row: Vec<u8> = (0..3 * bytes).map(|i| if i % bytes == 1 { 0x3c } else { (i * 37 % 256) as u8 }).collect();
            let (mut values, mut codes, mut scales) = ([0f32; 96], [0i8; 96], [0f32; 3]);
            dequantize_row(format, &row, &mut values);
            unpack(format, &row, &mut codes, &mut scales);
            for i in 0..96 {
                assert_eq!(values[i], scales[i / 32] * f32::from(codes[i]));
            }
        }
    }
}
