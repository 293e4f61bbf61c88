//! The likeliest rows of an output matrix, exactly, out of half of its bytes.
//!
//! A row of Q8_0 is kept in two halves ([`split_row`]): the upper four bits of its codes, and the
//! lower four. A first pass reads the upper halves of all rows, and gives each row a number that
//! its product cannot exceed ([`Query`]). Then some rows that look likely are computed as `int8`
//! defines it, from both halves; whatever row cannot reach what those have is out, and the others
//! are computed as well. So what comes back has the bits of the product, and no row is missing that
//! could be among the likeliest.
//!
//! The first pass is defined, too, so that a step costs the same everywhere. For lane `l` of four,
//! over the blocks `b` of 32 columns with `b mod 4 = l`, in order, with `n` the upper halves as 0
//! to 15 and `d` a block's scale:
//!
//! ```text
//! sum[l]   = fma(Σ n · activation, d · terms.scale[b], sum[l]), then fma(terms.offset[b], d, sum[l])
//! reach[l] = fma(terms.reach[b], d, reach[l])
//! bound    = fma(the row's width, reach, sum) + ABSOLUTE, lanes added as (0 + 1) + (2 + 3)
//! ```
//!
//! docs/inside/precision.md proves the bound, rounding included.

use super::isa::Kind;
use super::quantize::QuantizedRows;
use super::{Format, GROUP, Isa, Team};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
mod search;
mod split;
#[cfg(test)]
mod tests;

pub(crate) use search::{Asked, Likely, likeliest};
pub(crate) use split::{HeadShape, LANES, Split, split_row};

/// What a lower half is nearest to on average, and at most this far from.
const CENTRE: f64 = 7.5;

/// The most tokens that [`judged_together`] returns for any instruction set.
pub(crate) const MOST_TOGETHER: usize = 4;

/// Rows that are handed out together.
const STEP: usize = 64;

/// Bytes of a block of Q8_0: its scale and its codes.
const BLOCK_BYTES: usize = 2 + GROUP;

/// Parts for each core.
const PARTS: usize = 4;

/// Covers what numbers too small for f32 lose.
const ABSOLUTE: f32 = f32::from_bits((127 - 100) << 23);

/// No product whose bound's terms stay below this overflows.
const MOST: f64 = 1e36;

/// How many tokens to judge together from halves of the output rows: as many as are read more
/// slowly than they are computed. On the board reading all rows takes as long as computing seven
/// products with them, and reading the upper halves as long as computing four. A PC's loops take
/// four whole products at a time, in less time than four from halves, and with AVX-512 than three.
pub(crate) fn judged_together(isa: Isa) -> usize {
    match isa.kind() {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => 2,
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => 3,
        _ => MOST_TOGETHER,
    }
}

/// What the first pass takes of a group of four blocks.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Terms {
    /// 16 × the activations' scale.
    scale: [f32; LANES],
    /// What the upper halves' offset and the lower halves' centre add.
    offset: [f32; LANES],
    /// How far lower halves can be from that, for each unit of a row's width, and all rounding.
    reach: [f32; LANES],
}

/// One token's activations, as the first pass takes them.
struct Query<'a> {
    x: &'a QuantizedRows,
    terms: Vec<Terms>,
    /// The codes of groups of four blocks: the first 16 columns of each, then the last.
    #[cfg(target_arch = "x86_64")]
    fours: Vec<i8>,
}

impl<'a> Query<'a> {
    /// None where a scale is infinite or NaN, or products could overflow: then nothing can be said
    /// of them beforehand.
    fn new(x: &'a QuantizedRows) -> Option<Query<'a>> {
        let blocks = x.cols / GROUP;
        let codes = x.codes.as_chunks::<GROUP>().0;
        let mut terms = vec![Terms::default(); blocks / LANES];
        let mut size = 0.0;
        for (b, codes) in codes.iter().enumerate() {
            let scale = f64::from(x.scales[b]);
            let (spread, ones) = spread(codes, blocks);
            size += scale * f64::from(ones) * 512.0 * 65_504.0;
            let sum = f64::from(x.offsets[b] / -128);
            let lanes = &mut terms[b / LANES];
            lanes.scale[b % LANES] = x.scales[b] * 16.0;
            lanes.offset[b % LANES] = (sum * (CENTRE - 128.0) * scale) as f32;
            lanes.reach[b % LANES] =
                (spread * scale * (1.0 + (blocks + 16) as f64 / f64::from(1 << 22))) as f32;
        }
        #[cfg(target_arch = "x86_64")]
        let fours = codes.as_chunks::<LANES>().0.iter().flat_map(|blocks| {
            let first = blocks.iter().flat_map(|block| &block[..GROUP / 2]);
            first.chain(blocks.iter().flat_map(|block| &block[GROUP / 2..])).copied()
        });
        // Not so of a NaN either.
        (size < MOST).then_some(Query {
            x,
            terms,
            #[cfg(target_arch = "x86_64")]
            fours: fours.collect(),
        })
    }
}

/// How far the lower halves of a block's row can carry its sum from their centre, for each unit of
/// the row's width and with the share of rounding; and the sum of the activations' magnitudes.
///
/// By Cauchy and Schwarz the distance is at most ‖lower − 7.5‖ × ‖activations‖. The largest
/// activations are better taken for themselves, 7.5 times each, as long as that lowers the whole.
fn spread(codes: &[i8; GROUP], blocks: usize) -> (f64, u32) {
    let mut sizes = codes.map(i8::unsigned_abs);
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let mut rest: u32 = sizes.iter().map(|size| u32::from(*size) * u32::from(*size)).sum();
    let (mut taken, mut best) = (0u32, f64::INFINITY);
    for size in sizes {
        best = best.min(
            f64::from(rest).sqrt() / split::PER_UNIT
                + CENTRE * f64::from(taken) / f64::from(split::LEAST_WIDTH),
        );
        taken += u32::from(size);
        rest -= u32::from(size) * u32::from(size);
    }
    best = best.min(CENTRE * f64::from(taken) / f64::from(split::LEAST_WIDTH));
    let rounding = 512.0 * (blocks + 16) as f64 / f64::from(1 << 24);
    (best + rounding * f64::from(taken) / f64::from(split::LEAST_WIDTH), taken)
}

/// The bounds of some rows.
fn bounds(isa: Isa, m: Split<'_>, query: &Query<'_>, out: &mut [f32]) {
    assert!(
        out.len() == m.rows()
            && query.x.cols == m.cols()
            && query.terms.len() * LANES * GROUP == m.cols()
    );
    let whole = m.rows() / 4 * 4;
    let (fours, rest) = out.split_at_mut(whole);
    match isa.kind() {
        // SAFETY: an `Isa` of this kind exists only where the CPU has its instructions; the sizes
        // are checked above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 | Kind::Avx512 => unsafe { avx2::bounds(m.range(0..whole), query, fours) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => unsafe { neon::bounds(m.range(0..whole), query, fours) },
        Kind::Portable => bounds_body(m.range(0..whole), query, fours),
    }
    bounds_body(m.range(whole..m.rows()), query, rest);
}

/// The definition.
fn bounds_body(m: Split<'_>, query: &Query<'_>, out: &mut [f32]) {
    let codes = query.x.codes.as_chunks::<GROUP>().0;
    for (r, out) in out.iter_mut().enumerate() {
        let (mut sum, mut reach) = ([0f32; LANES], [0f32; LANES]);
        for (b, (upper, codes)) in
            m.upper(r).as_chunks::<{ GROUP / 2 }>().0.iter().zip(codes).enumerate()
        {
            let (lane, terms, d) = (b % LANES, &query.terms[b / LANES], m.scale(r, b));
            let whole: i32 = (0..GROUP / 2)
                .map(|i| {
                    i32::from(upper[i] & 15) * i32::from(codes[i])
                        + i32::from(upper[i] >> 4) * i32::from(codes[i + GROUP / 2])
                })
                .sum();
            sum[lane] = (whole as f32).mul_add(d * terms.scale[lane], sum[lane]);
            sum[lane] = terms.offset[lane].mul_add(d, sum[lane]);
            reach[lane] = terms.reach[lane].mul_add(d, reach[lane]);
        }
        let [sum, reach] = [sum, reach].map(|lanes| (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
        *out = f32::from(m.width(r)).mul_add(reach, sum) + ABSOLUTE;
    }
}

/// The products of the rows that `rows` names, as `int8` defines them.
fn exact(isa: Isa, m: Split<'_>, query: &Query<'_>, rows: &[u32], out: &mut [f32]) {
    match isa.kind() {
        // SAFETY: an `Isa` of this kind exists only where the CPU has its instructions; what else
        // is to hold, it checks.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 | Kind::Avx512 => unsafe { avx2::exact(m, query, rows, out) },
        // SAFETY: NEON is the baseline; what else is to hold, it checks.
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => unsafe { neon::exact(m, query.x, rows, out) },
        Kind::Portable => exact_body(m, query.x, rows, out),
    }
}

/// The definition.
fn exact_body(m: Split<'_>, x: &QuantizedRows, rows: &[u32], out: &mut [f32]) {
    assert!(rows.len() == out.len() && x.cols == m.cols());
    let codes = x.codes.as_chunks::<GROUP>().0;
    for (r, out) in rows.iter().zip(out) {
        let r = *r as usize;
        let halves = m
            .upper(r)
            .as_chunks::<{ GROUP / 2 }>()
            .0
            .iter()
            .zip(m.lower(r).as_chunks::<{ GROUP / 2 }>().0);
        let mut acc = 0f32;
        for (b, ((upper, lower), codes)) in halves.zip(codes).enumerate() {
            let mut sum = 0i32;
            for i in 0..GROUP / 2 {
                let first = (upper[i] << 4 | lower[i] & 15) ^ 0x80;
                let last = (upper[i] & 0xf0 | lower[i] >> 4) ^ 0x80;
                let products = i32::from(first as i8) * i32::from(codes[i])
                    + i32::from(last as i8) * i32::from(codes[i + GROUP / 2]);
                // At most 32 × 128 × 127: nothing wraps.
                sum = sum.wrapping_add(products);
            }
            acc = (sum as f32).mul_add(m.scale(r, b) * x.scales[b], acc);
        }
        *out = acc;
    }
}

/// The rows of Q8_0 from which [`split_row`] made these, bit for bit.
///
/// # Panics
/// Unless `out` has room for all rows and no more.
pub(super) fn join_rows(isa: Isa, m: Split<'_>, out: &mut [u8]) {
    let row_bytes = Format::Q8_0.row_bytes(m.cols());
    assert!(out.len() == m.rows() * row_bytes);
    for (r, row) in out.chunks_exact_mut(row_bytes).enumerate() {
        let halves = [m.upper(r), m.lower(r)].map(|half| half.as_chunks::<{ GROUP / 2 }>().0);
        let blocks = row.as_chunks_mut::<BLOCK_BYTES>().0;
        let scales = m.scales(r).as_chunks::<2>().0;
        assert!([halves[0].len(), halves[1].len(), scales.len()] == [blocks.len(); 3]);
        match isa.kind() {
            // SAFETY: an `Isa` of this kind exists only where the CPU has its instructions; there
            // are halves and a scale for each block.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::Avx512 => unsafe { avx2::join(halves, scales, blocks) },
            // SAFETY: NEON is the baseline; otherwise as above.
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => unsafe { neon::join(halves, scales, blocks) },
            Kind::Portable => join_body(halves, scales, blocks),
        }
    }
}

/// The definition.
fn join_body(
    halves: [&[[u8; GROUP / 2]]; 2],
    scales: &[[u8; 2]],
    blocks: &mut [[u8; BLOCK_BYTES]],
) {
    for (b, block) in blocks.iter_mut().enumerate() {
        let (upper, lower) = (halves[0][b], halves[1][b]);
        block[..2].copy_from_slice(&scales[b]);
        for i in 0..GROUP / 2 {
            block[2 + i] = (upper[i] << 4 | lower[i] & 15) ^ 0x80;
            block[2 + GROUP / 2 + i] = (upper[i] & 0xf0 | lower[i] >> 4) ^ 0x80;
        }
    }
}
