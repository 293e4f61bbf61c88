//! Products of int8 against their definition: every instruction set of the machine, every
//! batch, every edge.

use half::f16;

use super::*;
use crate::kernels::matmul::tests::{halves, random_matrix};
use crate::kernels::quantize::tests::noise;
use crate::kernels::quantize_rows;
use crate::kernels::team::tests::with_team;
use crate::kernels::terms::{MAX_TERMS, unpack_group};

/// Every quantised format.
fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| format.is_quantized())
}

/// Row widths for a format: one unit, and some that do not fill a larger step of a loop.
fn widths(format: Format) -> &'static [usize] {
    if format.unit().0 == GROUP { &[32, 64, 96, 640] } else { &[256, 512, 768] }
}

/// The definition, written as plainly as possible. (`format` tests the meaning of the bytes.)
fn oracle(m: &Matrix<'_>, x: &QuantizedRows, t: usize, r: usize) -> f32 {
    let (values, unit) = m.format.unit();
    let mut acc = 0f32;
    for b in 0..m.cols / GROUP {
        let stored = &m.row(r)[b * GROUP / values * unit..][..unit];
        let mut terms = [[0; GROUP]; MAX_TERMS];
        let scales = unpack_group(m.format, stored, b % (values / GROUP), &mut terms);
        for (whole, scale) in terms.iter().zip(scales).take(m.format.terms()) {
            let sum: i32 = (0..GROUP)
                .map(|i| i32::from(whole[i]) * i32::from(x.codes[t * m.cols + b * GROUP + i]))
                .sum();
            acc = (sum as f32).mul_add(scale * x.scales[t * m.cols / GROUP + b], acc);
        }
    }
    acc
}

/// Every instruction set and batch against the definition. All NaNs count as equal.
fn check_all(team: &Team, m: Matrix<'_>, x: &[f32]) {
    let all = quantize_rows(Isa::PORTABLE, x, m.cols);
    let expected: Vec<f32> =
        (0..all.rows() * m.rows).map(|i| oracle(&m, &all, i / m.rows, i % m.rows)).collect();
    for (isa, tokens) in
        Isa::all().flat_map(|isa| (1..=all.rows()).map(move |tokens| (isa, tokens)))
    {
        let x = quantize_rows(isa, &x[..tokens * m.cols], m.cols);
        let mut y = vec![7f32; tokens * m.rows];
        matmul_int8(team, isa, m, &x, &mut y);
        for (i, (y, expected)) in y.iter().zip(&expected).enumerate() {
            let same = y.to_bits() == expected.to_bits() || (y.is_nan() && expected.is_nan());
            let (t, r) = (i / m.rows, i % m.rows);
            assert!(
                same,
                "{isa:?} {:?} {} × {}, {tokens} tokens: [{t}][{r}] {y} {expected}",
                m.format, m.rows, m.cols
            );
        }
    }
}

#[test]
fn a_product_has_the_bits_of_its_definition_whatever_the_batch() {
    for (n, format) in formats().enumerate() {
        for &cols in widths(format) {
            for rows in [1, 3, 4, 5, 8, 15, 16, 17, 36] {
                let bytes = random_matrix(format, rows, cols, n as u32 * 1000 + cols as u32);
                check_all(
                    &Team::alone(),
                    Matrix::new(&bytes, format, rows, cols),
                    &noise(9 * cols, 77),
                );
            }
        }
    }
}

#[test]
fn the_number_of_cores_changes_no_bit() {
    for cores in [2, 3, 8] {
        with_team(cores, |team| {
            for (format, rows) in
                formats().flat_map(|format| [5, 16, 100, 300].map(|rows| (format, rows)))
            {
                let cols = widths(format)[0];
                let bytes = random_matrix(format, rows, cols, 5);
                check_all(team, Matrix::new(&bytes, format, rows, cols), &noise(6 * cols, 7));
            }
        });
    }
}

/// 16 rows of two units that repeat one byte under one scale.
fn uniform(format: Format, scale: f16, byte: u8) -> Vec<u8> {
    let (_, bytes) = format.unit();
    let mut unit = vec![byte; bytes];
    for at in halves(format) {
        unit[*at..*at + 2].copy_from_slice(&scale.to_le_bytes());
    }
    unit.repeat(32)
}

#[test]
fn the_largest_codes_do_not_overflow() {
    for format in formats() {
        let cols = 2 * format.unit().0;
        for byte in [0x80, 0x7f, 0x81, 0x00, 0xff, 0x0f, 0xf0] {
            let bytes = uniform(format, f16::ONE, byte);
            for value in [127.0f32, -127.0] {
                check_all(
                    &Team::alone(),
                    Matrix::new(&bytes, format, 16, cols),
                    &vec![value; 5 * cols],
                );
            }
        }
    }
}

/// The definition in numbers, for the codes whose sums come closest to overflow, for tiles and for
/// single tokens.
#[test]
fn the_largest_codes_are_what_they_are() {
    for (format, bytes, whole) in [
        (Format::Q8_0, uniform(Format::Q8_0, f16::ONE, 0x80), -128.0),
        (Format::Q5_0, uniform(Format::Q5_0, f16::ONE, 0x00), -16.0),
        (Format::Q3_K, uniform(Format::Q3_K, f16::ONE, 0x00), 128.0),
        (
            Format::Q6_K,
            [vec![0; 192], vec![0x80; 16], f16::ONE.to_le_bytes().to_vec()].concat().repeat(32),
            4096.0,
        ),
    ] {
        let cols = 2 * format.unit().0;
        for (isa, value) in Isa::all().flat_map(|isa| [(isa, 127.0), (isa, -127.0)]) {
            let mut y = [0f32; 5 * 16];
            let x = quantize_rows(isa, &vec![value; 5 * cols], cols);
            matmul_int8(&Team::alone(), isa, Matrix::new(&bytes, format, 16, cols), &x, &mut y);
            assert_eq!(y, [value * whole * cols as f32; 5 * 16], "{isa:?} {format:?}");
        }
    }
}

#[test]
fn odd_scales_are_taken_as_they_are() {
    let scales = [0x0000u16, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00];
    for (format, half) in formats().flat_map(|format| scales.map(|half| (format, half))) {
        let cols = 2 * format.unit().0;
        let bytes = uniform(format, f16::from_bits(half), 0x35);
        for value in [0.0f32, 1e-38, 3.0, 3e38, f32::NAN, f32::INFINITY] {
            check_all(
                &Team::alone(),
                Matrix::new(&bytes, format, 16, cols),
                &vec![value; 5 * cols],
            );
        }
    }
}
