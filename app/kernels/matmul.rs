//! Products of rows of activations with a matrix of weights: `y[t][r] = Σ_c x[t][c] · w[r][c]`.
//! This file has the float products, and distributes the rows of any product among the cores.
//! Products of int8 are in `int8`.
//!
//! The weight row is read as f32 and summed as in `math` (16 lanes, fused multiply-adds, halves).
//! The outer loop runs over weight rows and the inner one over tokens, in small tiles, so that a
//! row is read and unpacked once per batch.

use core::ops::Range;

use super::format::dequantize_body;
use super::isa::per_isa;
use super::math::{dot, dot_4};
use super::team::Out;
use super::{Isa, Matrix, Team};

/// Tokens that share a pass over one weight row: their sums and the row fit the registers of AVX2
/// and NEON.
const TILE: usize = 4;

/// Rows that are handed out together: complete panels of every instruction set.
const STEP: usize = 16;

/// Parts per core: a core that is held up leaves its remaining parts to the others.
const PARTS: usize = 4;

/// Panics unless `values` activations and the results `y` fit a matrix of `rows` × `cols`.
pub(super) fn check(rows: usize, cols: usize, values: usize, y: &[f32]) {
    assert!(values.is_multiple_of(cols), "{values} activations in rows of {cols}");
    let tokens = values / cols;
    assert_eq!(y.len(), tokens * rows, "{tokens} × {rows} results");
}

/// Calls `work` for ranges of `rows` rows that together cover all of them, on all cores.
pub(super) fn each_rows(
    team: &Team,
    rows: usize,
    y: &mut [f32],
    work: &(dyn Fn(Range<usize>, Out) + Sync),
) {
    let parts = if team.cores() == 1 { 1 } else { rows.div_ceil(STEP).min(team.cores() * PARTS) };
    let range = rows.div_ceil(parts * STEP) * STEP;
    let out = Out::new(y);
    team.each(rows.div_ceil(range), &|part| {
        work(part * range..((part + 1) * range).min(rows), out)
    });
}

/// # Safety
/// `y` has room for tokens × rows, and no one else accesses `range` of them.
#[inline(always)]
unsafe fn rows_body(m: Matrix<'_>, x: &[f32], range: Range<usize>, y: Out) {
    let tokens = x.len() / m.cols;
    let mut weights = vec![0f32; m.cols];
    for r in range {
        dequantize_body(m.format, m.row(r), &mut weights);
        // SAFETY: the index is within this range.
        let put = |t: usize, sum: f32| unsafe { y.at(t * m.rows + r).write(sum) };
        let mut t = 0;
        while t + TILE <= tokens {
            let sums = dot_4(&weights, core::array::from_fn(|i| &x[(t + i) * m.cols..][..m.cols]));
            sums.into_iter().enumerate().for_each(|(i, sum)| put(t + i, sum));
            t += TILE;
        }
        for t in t..tokens {
            put(t, dot(&weights, &x[t * m.cols..][..m.cols]));
        }
    }
}

per_isa! {
    /// # Safety
    /// As for [`rows_body`].
    unsafe fn float_rows(m: Matrix<'_>, x: &[f32], range: Range<usize>, y: Out) = rows_body;
}

/// Float product; a matrix of any format.
///
/// # Shapes
/// x: tokens × cols; y: tokens × rows.
pub(crate) fn matmul(team: &Team, isa: Isa, m: Matrix<'_>, x: &[f32], y: &mut [f32]) {
    check(m.rows, m.cols, x.len(), y);
    // SAFETY: the sizes are checked above; every range of rows is handed out once.
    each_rows(team, m.rows, y, &|range, y| unsafe { float_rows(isa, m, x, range, y) });
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kernels::quantize::tests::noise;
    use crate::kernels::team::tests::with_team;
    use crate::kernels::{Format, dequantize_row};
    use half::{bf16, f16};

    /// Where a unit of a quantised format has its f16 values.
    pub(in crate::kernels) fn halves(format: Format) -> &'static [usize] {
        match format {
            Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
            Format::Q2_K => &[80, 82],
            Format::Q3_K => &[108],
            Format::Q6_K => &[208],
            _ => &[0],
        }
    }

    /// A matrix of random bytes with plausible f16 scales.
    pub(in crate::kernels) fn random_matrix(
        format: Format,
        rows: usize,
        cols: usize,
        seed: u32,
    ) -> Vec<u8> {
        let values = noise(rows * cols, seed);
        match format {
            Format::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Format::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            Format::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
            _ => {
                let (_, unit) = format.unit();
                let mut bytes: Vec<u8> = noise(rows * format.row_bytes(cols), seed)
                    .iter()
                    .map(|v| (v * 128.0) as i8 as u8)
                    .collect();
                let scales = noise(bytes.len() / unit * 2, seed + 1);
                for (unit, scales) in bytes.chunks_exact_mut(unit).zip(scales.chunks_exact(2)) {
                    for (at, scale) in halves(format).iter().zip(scales) {
                        unit[*at..*at + 2]
                            .copy_from_slice(&f16::from_f32(scale * 0.02).to_le_bytes());
                    }
                }
                bytes
            }
        }
    }

    /// The definition, written as plainly as can be.
    fn oracle(m: &Matrix<'_>, x: &[f32], t: usize, r: usize) -> f32 {
        let mut w = vec![0f32; m.cols];
        dequantize_row(m.format, m.row(r), &mut w);
        let mut lanes = [0f32; 16];
        for c in 0..m.cols {
            lanes[c % 16] = w[c].mul_add(x[t * m.cols + c], lanes[c % 16]);
        }
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
        }
        lanes[0]
    }

    #[test]
    fn a_product_has_the_bits_of_its_definition_whatever_the_batch() {
        for (n, format) in Format::ALL.into_iter().enumerate() {
            let widths: &[usize] = match format.unit().0 {
                1 => &[1, 15, 16, 17, 32, 47, 100],
                32 => &[32, 64, 160],
                _ => &[256, 512],
            };
            for (&cols, rows) in widths.iter().flat_map(|cols| [1, 3, 40].map(|rows| (cols, rows)))
            {
                let bytes = random_matrix(format, rows, cols, n as u32 * 100 + cols as u32);
                let m = Matrix::new(&bytes, format, rows, cols);
                let x = noise(9 * cols, 77);
                let expected: Vec<u32> =
                    (0..9 * rows).map(|i| oracle(&m, &x, i / rows, i % rows).to_bits()).collect();
                for cores in [1, 3] {
                    with_team(cores, |team| {
                        for (isa, tokens) in
                            Isa::all().flat_map(|isa| (1..=9).map(move |tokens| (isa, tokens)))
                        {
                            let mut y = vec![0f32; tokens * rows];
                            matmul(team, isa, m, &x[..tokens * cols], &mut y);
                            assert!(
                                y.iter()
                                    .map(|y| y.to_bits())
                                    .eq(expected[..tokens * rows].iter().copied()),
                                "{isa:?}"
                            );
                        }
                    });
                }
            }
        }
    }
}
