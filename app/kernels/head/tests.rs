//! The likeliest rows against the whole product: bits, ties, and no row missing.

use half::f16;

use super::*;
use crate::kernels::matmul::tests::random_matrix;
use crate::kernels::quantize::tests::noise;
use crate::kernels::team::tests::with_team;
use crate::kernels::{Matrix, matmul_halved, matmul_int8, quantize_rows};

/// What is found for one token.
fn alone(
    team: &Team,
    isa: Isa,
    m: Split<'_>,
    x: &QuantizedRows,
    count: usize,
    apart: &[u32],
) -> Option<Vec<Likely>> {
    likeliest(team, isa, m, &[Asked { x, count, apart }])?.pop()
}

/// A matrix of Q8_0 in both forms.
struct Both {
    rows: usize,
    cols: usize,
    whole: Vec<u8>,
    shape: HeadShape,
    split: Vec<u8>,
}

impl Both {
    fn of(rows: usize, cols: usize, whole: Vec<u8>) -> Both {
        let shape = HeadShape::new(Format::Q8_0, rows, cols).unwrap();
        let mut split = vec![0u8; shape.bytes()];
        let [s, u, l, w] = shape.parts();
        let [sb, ub, lb, _] = shape.row_bytes();
        for (r, row) in whole.chunks_exact(cols / 32 * 34).enumerate() {
            let (mut scales, mut upper, mut lower) = (vec![0; sb], vec![0; ub], vec![0; lb]);
            split[w.start + r] = split_row(row, &mut scales, &mut upper, &mut lower).unwrap();
            split[s.start + r * sb..][..sb].copy_from_slice(&scales);
            split[u.start + r * ub..][..ub].copy_from_slice(&upper);
            split[l.start + r * lb..][..lb].copy_from_slice(&lower);
        }
        Both { rows, cols, whole, shape, split }
    }

    /// Random codes under random scales from 0 on.
    fn random(rows: usize, cols: usize, seed: u32) -> Both {
        let mut whole = random_matrix(Format::Q8_0, rows, cols, seed);
        whole.chunks_exact_mut(34).for_each(|block| block[1] &= 0x7f);
        Both::of(rows, cols, whole)
    }

    fn split(&self) -> Split<'_> {
        Split::new(self.shape, &self.split).unwrap()
    }

    fn product(&self, isa: Isa, x: &QuantizedRows) -> Vec<f32> {
        let mut y = vec![0f32; self.rows];
        matmul_int8(
            &Team::alone(),
            isa,
            Matrix::new(&self.whole, Format::Q8_0, self.rows, self.cols),
            x,
            &mut y,
        );
        y
    }

    /// Holds every promise of `likeliest` against the whole product; how many rows were computed.
    fn check(
        &self,
        team: &Team,
        isa: Isa,
        x: &QuantizedRows,
        count: usize,
        apart: &[u32],
    ) -> usize {
        let all = self.product(isa, x);
        let found = alone(team, isa, self.split(), x, count, apart).unwrap();
        assert!(found.is_sorted_by(|a, b| a.0 < b.0));
        for (row, value) in &found {
            assert_eq!(
                value.to_bits(),
                all[*row as usize].to_bits(),
                "{isa:?}: row {row} has another product"
            );
        }
        let is_found = |row: u32| found.binary_search_by_key(&row, |(row, _)| *row).is_ok();
        assert!(apart.iter().all(|row| is_found(*row)));
        let mut others: Vec<f32> = (0u32..)
            .zip(&all)
            .filter(|(row, _)| !apart.contains(row))
            .map(|(_, value)| *value)
            .collect();
        others.sort_by(|a, b| b.total_cmp(a));
        let least = others.get(count - 1).copied().unwrap_or(f32::NEG_INFINITY);
        for (row, value) in (0u32..).zip(&all) {
            assert!(
                *value < least || is_found(row),
                "{isa:?}: row {row} has {value}, and {least} is enough for {count}"
            );
        }
        found.len()
    }
}

/// Activations like those behind a norm: some far larger than others.
fn activations(cols: usize, seed: u32) -> Vec<f32> {
    noise(cols, seed)
        .into_iter()
        .enumerate()
        .map(|(i, v)| if (i as u32 + seed).is_multiple_of(97) { v * 40.0 } else { v * v * v * 4.0 })
        .collect()
}

#[test]
fn halves_are_the_codes_of_the_row() {
    let both = Both::random(9, 256, 3);
    for r in 0..9 {
        for b in 0..8 {
            for i in 0..32 {
                let nibble = |bytes: &[u8]| bytes[b * 16 + i % 16] >> (i / 16 * 4) & 15;
                let code = 16 * (i32::from(nibble(both.split().upper(r))) - 8)
                    + i32::from(nibble(both.split().lower(r)));
                assert_eq!(code, i32::from(both.whole[(r * 8 + b) * 34 + 2 + i] as i8));
            }
        }
    }
}

#[test]
fn joined_rows_are_the_rows_that_were_split() {
    for (rows, cols) in [(1, 128), (5, 256), (16, 640)] {
        let both = Both::random(rows, cols, (rows + cols) as u32);
        for isa in Isa::all() {
            let mut joined = vec![7; both.whole.len()];
            join_rows(isa, both.split(), &mut joined);
            assert_eq!(joined, both.whole, "{isa:?}");
        }
    }
}

#[test]
fn a_product_with_halves_has_the_bits_of_the_whole_one() {
    for (rows, cols) in [(1, 128), (16, 128), (35, 256), (150, 640)] {
        let both = Both::random(rows, cols, (rows * cols) as u32);
        let whole = Matrix::new(&both.whole, Format::Q8_0, rows, cols);
        let activations = activations(17 * cols, 5);
        for cores in [1, 3] {
            with_team(cores, |team| {
                for (isa, tokens) in
                    Isa::all().flat_map(|isa| (1..=17).map(move |tokens| (isa, tokens)))
                {
                    let x = quantize_rows(isa, &activations[..tokens * cols], cols);
                    let mut y = [vec![7f32; tokens * rows], vec![9f32; tokens * rows]];
                    let [of_whole, of_halves] = &mut y;
                    matmul_int8(team, isa, whole, &x, of_whole);
                    matmul_halved(team, isa, both.split(), &x, of_halves);
                    let [of_whole, of_halves] = y.map(|y| y.into_iter().map(f32::to_bits));
                    assert!(of_whole.eq(of_halves), "{isa:?}: {rows} × {cols}, {tokens} tokens");
                }
            });
        }
    }
}

#[test]
fn the_first_pass_has_the_bits_of_its_definition() {
    for (rows, cols) in [(1, 128), (4, 128), (7, 256), (64, 640), (33, 1152)] {
        let both = Both::random(rows, cols, (rows * cols) as u32);
        for seed in 0..4 {
            let x = quantize_rows(Isa::PORTABLE, &activations(cols, seed), cols);
            let query = Query::new(&x).unwrap();
            let mut expected = vec![0f32; rows];
            bounds_body(both.split(), &query, &mut expected);
            for isa in Isa::all() {
                let mut out = vec![7f32; rows];
                bounds(isa, both.split(), &query, &mut out);
                assert!(
                    out.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{isa:?} {rows} × {cols}"
                );
            }
        }
    }
}

#[test]
fn no_product_exceeds_its_bound() {
    let both = Both::random(3_000, 256, 11);
    for seed in 0..60 {
        let x = quantize_rows(Isa::best(), &activations(256, seed), 256);
        let mut most = vec![0f32; both.rows];
        bounds(Isa::best(), both.split(), &Query::new(&x).unwrap(), &mut most);
        assert!(both.product(Isa::best(), &x).iter().zip(&most).all(|(value, most)| value <= most));
    }
}

/// Rows whose lower halves all lie on the activations' side: the worst that there is.
#[test]
fn the_worst_rows_keep_to_their_bounds_and_come_near_them() {
    let cols = 640;
    for seed in 0..40 {
        let flat = seed % 2 == 0;
        let values: Vec<f32> =
            noise(cols, seed).iter().map(|v| if flat { v.signum() } else { *v }).collect();
        let x = quantize_rows(Isa::best(), &values, cols);
        let row = |up: bool| -> Vec<u8> {
            let block = |b: usize| {
                let codes = (0..32).map(|i| {
                    let upper = ((b + i) % 16) as i32 - 8;
                    let far = (x.codes[b * 32 + i] >= 0) == up;
                    (16 * upper + if far { 15 } else { 0 }) as i8 as u8
                });
                let scale = f16::from_f32(0.01 + (b as f32) * 0.003).to_le_bytes();
                scale.into_iter().chain(codes).collect::<Vec<u8>>()
            };
            (0..cols / 32).flat_map(block).collect()
        };
        let both = Both::of(8, cols, [row(true), row(false)].concat().repeat(4));
        let mut most = [0f32; 8];
        bounds(Isa::best(), both.split(), &Query::new(&x).unwrap(), &mut most);
        let values = both.product(Isa::best(), &x);
        assert!(values.iter().zip(&most).all(|(value, most)| value <= most), "{values:?} {most:?}");
        if flat {
            // Here Cauchy and Schwarz's is the very distance: what is left is the width's rounding
            // and the share of rounding.
            let distance = most[1] - values[1];
            assert!(
                values[0] > most[0] - distance * 0.01 - most[0].abs() * 1e-3,
                "{values:?} {most:?}"
            );
        }
    }
}

#[test]
fn no_likeliest_row_is_missing_whatever_the_activations() {
    for (rows, cols, seeds) in [(5, 128, 300), (400, 128, 500), (2_100, 640, 40)] {
        let both = Both::random(rows, cols, rows as u32);
        for seed in 0..seeds {
            let x = quantize_rows(Isa::best(), &activations(cols, seed), cols);
            for (count, apart) in
                [(1, &[][..]), (3, &[0, 2]), (64, &[4]), (1, &[1, 2, 3]), (rows + 5, &[])]
            {
                both.check(&Team::alone(), Isa::best(), &x, count, apart);
            }
        }
        for isa in Isa::all() {
            let x = quantize_rows(isa, &activations(cols, 5), cols);
            both.check(&Team::alone(), isa, &x, 40, &[]);
        }
    }
}

#[test]
fn the_number_of_cores_changes_nothing() {
    let both = Both::random(3_001, 256, 8);
    let x = quantize_rows(Isa::best(), &activations(256, 8), 256);
    let single = alone(&Team::alone(), Isa::best(), both.split(), &x, 20, &[7]).unwrap();
    for cores in [2, 3, 8] {
        with_team(cores, |team| {
            assert_eq!(alone(team, Isa::best(), both.split(), &x, 20, &[7]).unwrap(), single);
            both.check(team, Isa::best(), &x, 20, &[7]);
        });
    }
}

#[test]
fn all_of_equals_are_there() {
    let both = Both::random(1, 256, 5);
    let many = Both::of(700, 256, both.whole.repeat(700));
    let x = quantize_rows(Isa::best(), &activations(256, 5), 256);
    for count in [1, 40] {
        assert_eq!(many.check(&Team::alone(), Isa::best(), &x, count, &[]), 700);
    }
}

#[test]
fn zeros_and_extremes_are_products_like_others() {
    let cols = 256;
    for byte in [0x80u8, 0x7f, 0x81, 0x00, 0xff, 0x0f, 0xf0] {
        for half in [0x0000u16, 0x0001, 0x03ff, 0x3c00, 0x7bff] {
            let mut block = [byte; 34];
            block[..2].copy_from_slice(&half.to_le_bytes());
            let both = Both::of(21, cols, block.repeat(21 * cols / 32));
            for value in [0.0f32, 1e-38, 1e-30, 1e-29, 3.0, -3.0, 1e15, -1e15] {
                for isa in Isa::all() {
                    let x = quantize_rows(isa, &vec![value; cols], cols);
                    assert_eq!(both.check(&Team::alone(), isa, &x, 1, &[]), 21);
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_bounded_is_left_to_the_whole_product() {
    let both = Both::random(8, 128, 4);
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, f32::MAX] {
        let mut values = activations(128, 1);
        values[100] = value;
        let x = quantize_rows(Isa::best(), &values, 128);
        assert!(alone(&Team::alone(), Isa::best(), both.split(), &x, 1, &[]).is_none(), "{value}");
    }
    for half in [0xbc00u16, 0x8000, 0x7c00, 0x7e00] {
        let mut row = vec![3u8; 34 * 4];
        row[34..36].copy_from_slice(&half.to_le_bytes());
        assert_eq!(split_row(&row, &mut [0; 8], &mut [0; 64], &mut [0; 64]), None, "{half:#x}");
    }
    assert!(
        HeadShape::new(Format::Q8_0, 10, 96).is_none()
            && HeadShape::new(Format::Q4_0, 10, 128).is_none()
    );
    let shape = HeadShape::new(Format::Q8_0, 10, 128).unwrap();
    assert!(Split::new(shape, &vec![0; shape.bytes() - 1]).is_none());
}

/// A draft's tokens are judged together: each must get what it would get alone, whatever the others
/// ask for.
#[test]
fn several_tokens_find_together_what_each_finds_alone() {
    let both = Both::random(1_003, 256, 5);
    let tokens: Vec<QuantizedRows> =
        (0..3).map(|seed| quantize_rows(Isa::best(), &noise(256, 40 + seed), 256)).collect();
    let aparts: [&[u32]; 3] = [&[], &[0, 64, 1_002], &[7]];
    let asked: Vec<Asked<'_>> = tokens
        .iter()
        .zip([1, 5, 40])
        .zip(aparts)
        .map(|((x, count), apart)| Asked { x, count, apart })
        .collect();
    let single: Vec<Vec<Likely>> = asked
        .iter()
        .map(|Asked { x, count, apart }| {
            alone(&Team::alone(), Isa::best(), both.split(), x, *count, apart).unwrap()
        })
        .collect();
    for isa in Isa::all() {
        assert_eq!(likeliest(&Team::alone(), isa, both.split(), &asked).unwrap(), single);
    }
    with_team(3, |team| {
        assert_eq!(likeliest(team, Isa::best(), both.split(), &asked).unwrap(), single);
    });
    assert_eq!(likeliest(&Team::alone(), Isa::best(), both.split(), &[]), Some(Vec::new()));
    let infinite = QuantizedRows { scales: vec![f32::INFINITY; 8], ..tokens[0].clone() };
    let with_one = [asked[0], Asked { x: &infinite, ..asked[1] }];
    assert!(likeliest(&Team::alone(), Isa::best(), both.split(), &with_one).is_none());
}
