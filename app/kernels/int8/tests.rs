//! Products of int8 against their definition: every instruction set that the machine has, every batch, every edge.

use half::f16;

use super::*;
use crate::kernels::matmul::tests::random_matrix;
use crate::kernels::quantize::tests::noise;
use crate::kernels::quantize_rows;
use crate::kernels::team::tests::with_team;

const FORMATS: [Format; 2] = [Format::Q8_0, Format::Q4_0];

/// The definition, written as plainly as can be, from the bytes.
fn oracle(m: &Matrix<'_>, x: &QuantizedRows, t: usize, r: usize) -> f32 {
    let (_, unit) = m.format.unit();
    let mut acc = 0f32;
    for (b, block) in m.row(r).chunks(unit).enumerate() {
        let code = |i: usize| match m.format {
            Format::Q8_0 => i32::from(block[2 + i] as i8),
            _ if i < 16 => i32::from(block[2 + i] & 15) - 8,
            _ => i32::from(block[2 + i - 16] >> 4) - 8,
        };
        let sum: i32 = (0..32).map(|i| code(i) * i32::from(x.codes[t * m.cols + b * 32 + i])).sum();
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32() * x.scales[t * m.cols / 32 + b];
        acc = (sum as f32).mul_add(scale, acc);
    }
    acc
}

/// Every instruction set and batch against the definition. NaNs are equal whatever their bits.
fn check_all(team: &Team, m: Matrix<'_>, x: &[f32]) {
    let all = quantize_rows(Isa::PORTABLE, x, m.cols);
    let expected: Vec<f32> = (0..all.rows() * m.rows).map(|i| oracle(&m, &all, i / m.rows, i % m.rows)).collect();
    for (isa, tokens) in Isa::all().flat_map(|isa| (1..=all.rows()).map(move |tokens| (isa, tokens))) {
        let x = quantize_rows(isa, &x[..tokens * m.cols], m.cols);
        let mut y = vec![7f32; tokens * m.rows];
        matmul_int8(team, isa, m, &x, &mut y);
        for (i, (y, expected)) in y.iter().zip(&expected).enumerate() {
            let same = y.to_bits() == expected.to_bits() || (y.is_nan() && expected.is_nan());
            let (t, r) = (i / m.rows, i % m.rows);
            assert!(same, "{isa:?} {:?} {} × {}, {tokens} tokens: [{t}][{r}] {y} {expected}", m.format, m.rows, m.cols);
        }
    }
}

#[test]
fn a_product_has_the_bits_of_its_definition_whatever_the_batch() {
    for (n, format) in FORMATS.into_iter().enumerate() {
        for cols in [32, 64, 96, 640] {
            for rows in [1, 3, 4, 5, 8, 15, 16, 17, 36] {
                let bytes = random_matrix(format, rows, cols, n as u32 * 1000 + cols as u32);
                check_all(&Team::alone(), Matrix::new(&bytes, format, rows, cols), &noise(9 * cols, 77));
            }
        }
    }
}

#[test]
fn the_number_of_cores_changes_no_bit() {
    for cores in [2, 3, 8] {
        with_team(cores, |team| {
            for (format, rows) in FORMATS.into_iter().flat_map(|format| [5, 16, 100, 300].map(|rows| (format, rows))) {
                let bytes = random_matrix(format, rows, 64, 5);
                check_all(team, Matrix::new(&bytes, format, rows, 64), &noise(6 * 64, 7));
            }
        });
    }
}

/// 16 rows of two blocks of one byte and one scale.
fn uniform(format: Format, scale: f16, byte: u8) -> Vec<u8> {
    let (_, unit) = format.unit();
    let mut block = scale.to_le_bytes().to_vec();
    block.resize(unit, byte);
    block.repeat(32)
}

#[test]
fn the_largest_codes_do_not_overflow() {
    for format in FORMATS {
        for byte in [0x80, 0x7f, 0x81, 0x00, 0xff, 0x0f, 0xf0] {
            let bytes = uniform(format, f16::ONE, byte);
            for value in [127.0f32, -127.0] {
                check_all(&Team::alone(), Matrix::new(&bytes, format, 16, 64), &[value; 5 * 64]);
            }
        }
    }
    // And what the definition says in numbers.
    let bytes = uniform(Format::Q8_0, f16::ONE, 0x80);
    for isa in Isa::all() {
        let mut y = [0f32; 16];
        matmul_int8(
            &Team::alone(),
            isa,
            Matrix::new(&bytes, Format::Q8_0, 16, 64),
            &quantize_rows(isa, &[-127.0; 64], 64),
            &mut y,
        );
        assert_eq!(y, [128.0 * 127.0 * 64.0; 16]);
    }
}

#[test]
fn odd_scales_are_taken_as_they_are() {
    let halves = [0x0000u16, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00];
    for (format, half) in FORMATS.into_iter().flat_map(|format| halves.map(|half| (format, half))) {
        let bytes = uniform(format, f16::from_bits(half), 0x35);
        for value in [0.0f32, 1e-38, 3.0, 3e38, f32::NAN, f32::INFINITY] {
            check_all(&Team::alone(), Matrix::new(&bytes, format, 16, 64), &[value; 5 * 64]);
        }
    }
}
