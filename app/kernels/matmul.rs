//! Products of rows of activations with a matrix of weights: `y[t][r] = Σ_c x[t][c] · w[r][c]`.
//!
//! - [`matmul`]: the weight row is read as f32, then the sum of `math` (16 lanes, fused multiply-adds, halves).
//! - [`matmul_int8`]: for each 32 columns, in order, the products of codes are summed exactly in i32, and one fused multiply-add
//!   joins them: `acc = fma(sum, weight scale · activation scale, acc)`.
//!
//! Weight rows run outside and tokens inside, in small tiles, so that a row is read and unpacked once a batch.

use super::format::{dequantize_body, unpack};
use super::isa::per_isa;
use super::math::{dot, dot_4};
use super::quantize::QuantizedRows;
use super::{GROUP, Matrix};

/// Tokens that share a pass over one weight row: their sums and the row fit the registers of AVX2 and NEON.
const TILE: usize = 4;

#[inline(always)]
fn check(m: &Matrix<'_>, values: usize, y: &[f32]) -> usize {
    assert!(values.is_multiple_of(m.cols), "{values} activations in rows of {}", m.cols);
    let tokens = values / m.cols;
    assert_eq!(y.len(), tokens * m.rows, "{tokens} × {} results", m.rows);
    tokens
}

#[inline(always)]
fn matmul_body(m: Matrix<'_>, x: &[f32], y: &mut [f32]) {
    let tokens = check(&m, x.len(), y);
    let mut weights = vec![0f32; m.cols];
    for r in 0..m.rows {
        dequantize_body(m.format, m.row(r), &mut weights);
        let mut t = 0;
        while t + TILE <= tokens {
            let sums = dot_4(&weights, core::array::from_fn(|i| &x[(t + i) * m.cols..][..m.cols]));
            for i in 0..TILE {
                y[(t + i) * m.rows + r] = sums[i];
            }
            t += TILE;
        }
        for t in t..tokens {
            y[t * m.rows + r] = dot(&weights, &x[t * m.cols..][..m.cols]);
        }
    }
}

per_isa! {
    /// Float product; a matrix of any format.
    ///
    /// # Shapes
    /// x: tokens × cols; y: tokens × rows.
    pub fn matmul(m: Matrix<'_>, x: &[f32], y: &mut [f32]) = matmul_body;
}

#[inline(always)]
fn int8_dots<const T: usize>(codes: &[[i8; GROUP]], scales: &[f32], x: [(&[[i8; GROUP]], &[f32]); T]) -> [f32; T] {
    let blocks = codes.len();
    let scales = &scales[..blocks];
    let x = x.map(|(codes, scales)| (&codes[..blocks], &scales[..blocks]));
    let mut acc = [0f32; T];
    for b in 0..blocks {
        for t in 0..T {
            let (w, a) = (&codes[b], &x[t].0[b]);
            let mut sum = 0i32;
            for i in 0..GROUP {
                // At most 32 × 128 × 127 in size: nothing wraps. Saying so keeps overflow checks, and their branches, out.
                sum = sum.wrapping_add(i32::from(w[i]).wrapping_mul(i32::from(a[i])));
            }
            acc[t] = (sum as f32).mul_add(scales[b] * x[t].1[b], acc[t]);
        }
    }
    acc
}

#[inline(always)]
fn int8_body(m: Matrix<'_>, x: &QuantizedRows, y: &mut [f32]) {
    assert!(m.format.is_quantized() && x.cols == m.cols);
    let tokens = check(&m, x.codes.len(), y);
    let blocks = m.cols / GROUP;
    let mut codes = vec![0i8; m.cols];
    let mut scales = vec![0f32; blocks];
    let all = x.codes.as_chunks::<GROUP>().0;
    let row = |t: usize| (&all[t * blocks..][..blocks], &x.scales[t * blocks..][..blocks]);
    for r in 0..m.rows {
        unpack(m.format, m.row(r), &mut codes, &mut scales);
        let codes = codes.as_chunks::<GROUP>().0;
        let mut t = 0;
        while t + TILE <= tokens {
            let sums = int8_dots::<TILE>(codes, &scales, core::array::from_fn(|i| row(t + i)));
            for i in 0..TILE {
                y[(t + i) * m.rows + r] = sums[i];
            }
            t += TILE;
        }
        for t in t..tokens {
            [y[t * m.rows + r]] = int8_dots::<1>(codes, &scales, [row(t)]);
        }
    }
}

per_isa! {
    /// Product of a quantised matrix with quantised activations.
    ///
    /// # Shapes
    /// x: tokens × cols; y: tokens × rows.
    pub fn matmul_int8(m: Matrix<'_>, x: &QuantizedRows, y: &mut [f32]) = int8_body;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::quantize::tests::noise;
    use crate::kernels::{Format, Isa, dequantize_row, quantize_rows};
    use half::{bf16, f16};

    /// A matrix of random bytes whose scales are sane halves.
    fn random_matrix(format: Format, rows: usize, cols: usize, seed: u32) -> Vec<u8> {
        let values = noise(rows * cols, seed);
        match format {
            Format::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Format::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            Format::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
            Format::Q8_0 | Format::Q4_0 => {
                let (_, unit) = format.unit();
                let blocks = values.chunks(32).zip(noise(rows * cols / 32, seed + 1));
                let block = |(values, scale): (&[f32], f32)| {
                    let mut bytes = f16::from_f32(scale * 0.02).to_le_bytes().to_vec();
                    bytes.extend(values[..unit - 2].iter().map(|v| (v * 128.0) as i8 as u8));
                    bytes
                };
                blocks.flat_map(block).collect()
            }
        }
    }

    /// The definition, written as plainly as can be.
    fn oracle_float(m: &Matrix<'_>, x: &[f32], t: usize, r: usize) -> f32 {
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

    fn oracle_int8(m: &Matrix<'_>, x: &QuantizedRows, t: usize, r: usize) -> f32 {
        let mut w = vec![0f32; m.cols];
        dequantize_row(m.format, m.row(r), &mut w);
        let (_, unit) = m.format.unit();
        let mut acc = 0f32;
        for b in 0..m.cols / 32 {
            let head = &m.row(r)[b * unit..];
            let scale = f16::from_le_bytes([head[0], head[1]]).to_f32();
            let code = |i: usize| if scale == 0.0 { 0 } else { (w[b * 32 + i] / scale).round() as i32 };
            let sum: i32 = (0..32).map(|i| code(i) * i32::from(x.codes[t * m.cols + b * 32 + i])).sum();
            acc = (sum as f32).mul_add(scale * x.scales[t * m.cols / 32 + b], acc);
        }
        acc
    }

    #[test]
    fn a_product_has_the_bits_of_its_definition_whatever_the_batch() {
        let formats = [Format::F32, Format::F16, Format::BF16, Format::Q8_0, Format::Q4_0];
        for (n, &format) in formats.iter().enumerate() {
            let widths: &[usize] = if format.is_quantized() { &[32, 64, 96, 160] } else { &[1, 15, 16, 17, 32, 47, 100] };
            for &cols in widths {
                for rows in [1, 3, 8] {
                    let bytes = random_matrix(format, rows, cols, n as u32 * 100 + cols as u32);
                    let m = Matrix::new(&bytes, format, rows, cols);
                    let x = noise(9 * cols, 77);
                    for tokens in 1..=9 {
                        let x = &x[..tokens * cols];
                        for isa in [Isa::PORTABLE, Isa::best()] {
                            let mut y = vec![0f32; tokens * rows];
                            matmul(isa, m, x, &mut y);
                            for (i, y) in y.iter().enumerate() {
                                assert_eq!(y.to_bits(), oracle_float(&m, x, i / rows, i % rows).to_bits());
                            }
                            if format.is_quantized() {
                                let q = quantize_rows(isa, x, cols);
                                let mut y = vec![0f32; tokens * rows];
                                matmul_int8(isa, m, &q, &mut y);
                                for (i, y) in y.iter().enumerate() {
                                    assert_eq!(y.to_bits(), oracle_int8(&m, &q, i / rows, i % rows).to_bits());
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_largest_codes_do_not_overflow() {
        let mut block = f16::from_f32(1.0).to_le_bytes().to_vec();
        block.extend([128u8; 32]);
        let m = Matrix::new(&block, Format::Q8_0, 1, 32);
        for isa in [Isa::PORTABLE, Isa::best()] {
            for value in [127.0f32, -127.0] {
                let mut y = [0f32];
                matmul_int8(isa, m, &quantize_rows(isa, &[value; 32], 32), &mut y);
                assert_eq!(y[0], -128.0 * value * 32.0);
            }
        }
    }
}
