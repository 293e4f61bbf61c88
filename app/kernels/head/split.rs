//! An output matrix in two halves, as it lies in memory: four parts, each row by row.
//!
//! ```text
//! scales   rows × cols / 32 × f16, as Q8_0 has them: numbers from 0 on
//! upper    rows × cols / 2: of a block of 32, byte i holds the upper four bits of code i (low nibble) and of code i + 16, plus 8
//! lower    rows × cols / 2: the same of the lower four bits, as they are
//! widths   rows: how far a row's lower halves are from their centre: at least 6 × the length of the furthest block's
//! ```
//!
//! A code is 16 × its upper half + its lower half. The parts begin at multiples of 64 bytes.

use core::ops::Range;

use super::super::format::f16_to_f32;
use super::{Format, GROUP};

/// Blocks that the first pass takes side by side.
pub(crate) const LANES: usize = 4;

/// Units of a width in a length of 1.
pub(super) const PER_UNIT: f64 = 6.0;

/// A row's width is at least this, 24 in length. Lower halves like noise have a length of some 26
/// for each 32.
pub(super) const LEAST_WIDTH: u8 = 144;

/// Where the parts begin, and their rows, which the first pass reads whole lines of.
const ALIGNMENT: usize = 64;

/// The size of a matrix that can be split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HeadShape {
    rows: usize,
    cols: usize,
}

impl HeadShape {
    /// None unless it is a matrix of Q8_0 whose columns are a multiple of 128.
    pub(crate) fn new(format: Format, rows: usize, cols: usize) -> Option<HeadShape> {
        let fits =
            format == Format::Q8_0 && rows > 0 && cols > 0 && cols.is_multiple_of(LANES * GROUP);
        let bytes = rows.checked_mul(cols)?.checked_mul(2)?;
        (fits && u32::try_from(rows).is_ok() && isize::try_from(bytes).is_ok())
            .then_some(HeadShape { rows, cols })
    }

    /// Rows of the matrix.
    pub(crate) fn rows(self) -> usize {
        self.rows
    }

    /// Columns of the matrix.
    pub(crate) fn cols(self) -> usize {
        self.cols
    }

    /// Bytes of a row of the parts, in their order.
    pub(crate) fn row_bytes(self) -> [usize; 4] {
        [self.cols / GROUP * 2, self.cols / 2, self.cols / 2, 1]
    }

    /// Where the parts lie, in their order.
    pub(crate) fn parts(self) -> [Range<usize>; 4] {
        let mut end = 0;
        self.row_bytes().map(|bytes| {
            let start = end;
            end = (start + bytes * self.rows).next_multiple_of(ALIGNMENT);
            start..start + bytes * self.rows
        })
    }

    /// Bytes of all parts.
    pub(crate) fn bytes(self) -> usize {
        self.parts()[3].end
    }
}

/// Splits a row of Q8_0 into its parts: scales, upper halves, lower halves; returns its width. None
/// where a scale is negative, infinite or NaN: such a row has no bound.
///
/// # Panics
/// When the lengths do not fit one another.
pub(crate) fn split_row(
    row: &[u8],
    scales: &mut [u8],
    upper: &mut [u8],
    lower: &mut [u8],
) -> Option<u8> {
    let (blocks, _) = row.as_chunks::<{ GROUP + 2 }>();
    let (scales, _) = scales.as_chunks_mut::<2>();
    let (upper, _) = upper.as_chunks_mut::<{ GROUP / 2 }>();
    let (lower, _) = lower.as_chunks_mut::<{ GROUP / 2 }>();
    assert!(
        row.len() == blocks.len() * (GROUP + 2)
            && [scales.len(), upper.len(), lower.len()] == [blocks.len(); 3]
    );
    let mut furthest = 0;
    for (((block, scale), upper), lower) in blocks.iter().zip(scales).zip(upper).zip(lower) {
        *scale = [block[0], block[1]];
        let codes: &[u8; GROUP] = block.last_chunk()?;
        let mut far = 0i32;
        for i in 0..GROUP / 2 {
            let (first, last) = (codes[i] ^ 0x80, codes[i + GROUP / 2] ^ 0x80);
            upper[i] = first >> 4 | last & 0xf0;
            lower[i] = first & 15 | last << 4;
            // Twice as far as they are from the centre, so that it is a whole number.
            let [a, b] = [first, last].map(|code| 2 * i32::from(code & 15) - 15);
            far += a * a + b * b;
        }
        furthest = furthest.max(far);
        let value = f16_to_f32(*scale);
        if !(value.is_finite() && value.is_sign_positive()) {
            return None;
        }
    }
    // 6 × the length is 3 × the root of `furthest`, at most 3 × √7,200.
    let width = (u32::from(LEAST_WIDTH)..=255).find(|width| width * width >= 9 * furthest as u32);
    width.map(|width| width as u8)
}

/// A split matrix where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split<'a> {
    shape: HeadShape,
    scales: &'a [u8],
    upper: &'a [u8],
    lower: &'a [u8],
    widths: &'a [u8],
}

impl<'a> Split<'a> {
    /// A view of `bytes`; none unless they are as many as the shape has. Whatever they are, reading
    /// them is safe; what they say is right where [`split_row`] made them.
    pub(crate) fn new(shape: HeadShape, bytes: &'a [u8]) -> Option<Split<'a>> {
        let [scales, upper, lower, widths] = shape.parts().map(|part| bytes.get(part));
        let whole = bytes.len() == shape.bytes();
        whole.then_some(Split {
            shape,
            scales: scales?,
            upper: upper?,
            lower: lower?,
            widths: widths?,
        })
    }

    pub(in crate::kernels) fn rows(&self) -> usize {
        self.shape.rows
    }

    pub(in crate::kernels) fn cols(&self) -> usize {
        self.shape.cols
    }

    /// Some of the rows.
    pub(crate) fn range(&self, rows: Range<usize>) -> Split<'a> {
        let [s, u, l, w] = self.shape.row_bytes().map(|bytes| rows.start * bytes..rows.end * bytes);
        let shape = HeadShape { rows: rows.len(), ..self.shape };
        Split {
            shape,
            scales: &self.scales[s],
            upper: &self.upper[u],
            lower: &self.lower[l],
            widths: &self.widths[w],
        }
    }

    /// The scales of all rows, f16.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub(super) fn all_scales(&self) -> &'a [u8] {
        self.scales
    }

    /// The upper halves of all rows.
    pub(in crate::kernels) fn all_upper(&self) -> &'a [u8] {
        self.upper
    }

    /// The lower halves of all rows.
    pub(in crate::kernels) fn all_lower(&self) -> &'a [u8] {
        self.lower
    }

    #[inline(always)]
    pub(super) fn upper(&self, row: usize) -> &'a [u8] {
        &self.upper[row * self.shape.cols / 2..][..self.shape.cols / 2]
    }

    #[inline(always)]
    pub(super) fn lower(&self, row: usize) -> &'a [u8] {
        &self.lower[row * self.shape.cols / 2..][..self.shape.cols / 2]
    }

    /// The scales of a row, f16.
    pub(super) fn scales(&self, row: usize) -> &'a [u8] {
        let [bytes, ..] = self.shape.row_bytes();
        &self.scales[row * bytes..][..bytes]
    }

    #[inline(always)]
    pub(super) fn scale(&self, row: usize, block: usize) -> f32 {
        let at = (row * (self.shape.cols / GROUP) + block) * 2;
        f16_to_f32([self.scales[at], self.scales[at + 1]])
    }

    #[inline(always)]
    pub(super) fn width(&self, row: usize) -> u8 {
        self.widths[row]
    }
}
