//! int8 products for AVX2 with FMA and F16C, 16 rows and four tokens at a time. The lanes of a
//! register are rows: a few columns of a token are broadcast to them, and there are no sums across
//! lanes. A panel stores formats in one of two ways:
//!
//! - Words: 16-bit integers, two columns to a 32-bit lane, for `vpmaddwd`: two instructions for 16
//!   products, and each multiplication already adds. (`vpmaddubsw` takes bytes, but needs one side
//!   unsigned and as many instructions, including those for signs and widening.) Scales of 16
//!   columns are multiplied in when a panel is packed.
//! - Nibbles (Q4_0, Q4_1, Q4_K), 0..=15, four columns to a lane, for `vpmaddubsw`: products with 32
//!   columns fit 16 bits (8 × 2 × 15 × 127), so they are widened once per block. The excess of
//!   Q4_0's nibbles, 8 × the activations' sum, is subtracted in the initial value of the sums: half
//!   of it in each half of a lane, where it fits too.
//!
//! An offset, if the format has one, is a second fused multiply-add with the activations' sum.
//!
//! A block of 32 columns takes, in a panel, the integers, then 16 scales, then 16 offsets if there
//! are any; in a tile, the codes of the four tokens side by side, and one line with their scales,
//! the initial values of their sums, and the sums of their codes. The loops that multiply them are
//! in `asm`.

#[macro_use]
mod asm;

use core::arch::x86_64::*;

use super::layout::{Layout, Line, SIDE, offset, scale, with_layout};
use super::single::single;
use super::{Ahead, Panel, Tokens};
use crate::kernels::{Format, GROUP};

/// Rows of a panel.
const ROWS: usize = 16;
/// Tokens of a tile.
const TOKENS: usize = 4;

/// AVX2 with FMA and F16C.
pub(super) struct Avx2;

/// Whether a format's codes are nibbles in a panel.
const fn is_nibbles(format: Format) -> bool {
    matches!(format, Format::Q4_0 | Format::Q4_1 | Format::Q4_K)
}

impl Panel for Avx2 {
    fn takes(format: Format) -> bool {
        with_layout!(format, L => L::FORMAT == format, _ => false)
    }

    const ROWS: usize = ROWS;
    const TOKENS: usize = TOKENS;
    const PADS_FROM: usize = 3;
    type Block = Line;
    const ZERO: Line = Line([0; 64]);
    type Columns = Line;
    const NO_COLUMNS: Line = Line([0; 64]);

    fn lines(format: Format) -> (usize, usize) {
        let (codes, columns) = if is_nibbles(format) { (8, 2) } else { (16, 4) };
        let scales = with_layout!(format, L => 1 + usize::from(L::OFFSET), _ => 1);
        (codes + scales, columns + 1)
    }

    #[target_feature(enable = "avx2,f16c")]
    unsafe fn pack(format: Format, rows: &[u8], ahead: Ahead<'_>, panel: &mut [Line]) {
        prefetch(ahead);
        // SAFETY: guaranteed by the caller.
        unsafe {
            with_layout!(format, L => pack::<L>(rows, panel), _ => unreachable!("{format:?} has no layout"))
        }
    }

    fn gather(format: Format, x: Tokens<'_>, tile: &mut [Line]) {
        let (_, lines) = Avx2::lines(format);
        let groups = x.cols / GROUP;
        for (b, block) in tile.chunks_exact_mut(lines).enumerate() {
            let (codes, rest) = block.split_at_mut(lines - 1);
            for t in 0..TOKENS {
                let (columns, _) = x.codes[t * x.cols + b * GROUP..][..GROUP].as_chunks::<4>();
                for (i, columns) in columns.iter().enumerate() {
                    if is_nibbles(format) {
                        let to = i * 16 + t * 4;
                        codes[to / 64].0[to % 64..][..4]
                            .copy_from_slice(&columns.map(|code| code as u8));
                    } else {
                        let [a, b, c, d] = columns.map(|code| i16::from(code).to_le_bytes());
                        let to = i * 32 + t * 4;
                        let line = &mut codes[to / 64].0;
                        line[to % 64..][..4].copy_from_slice(&[a[0], a[1], c[0], c[1]]);
                        line[to % 64 + 16..][..4].copy_from_slice(&[b[0], b[1], d[0], d[1]]);
                    }
                }
                let rest = &mut rest[0].0;
                rest[t * 4..][..4].copy_from_slice(&x.scales[t * groups + b].to_le_bytes());
                let sum = -(x.offsets[t * groups + b] >> 7);
                // Half of the excess of Q4_0's nibbles.
                let start =
                    if format == Format::Q4_0 { (-4 * sum) as i16 } else { 0 }.to_le_bytes();
                rest[16 + t * 4..][..4].copy_from_slice(&[start[0], start[1], start[0], start[1]]);
                rest[32 + t * 4..][..4].copy_from_slice(&(sum as f32).to_le_bytes());
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile(
        format: Format,
        panel: &[Line],
        _: Tokens<'_>,
        tile: &[Line],
        ahead: Ahead<'_>,
        y: *mut f32,
        stride: usize,
    ) {
        prefetch(ahead);
        let (panel_lines, tile_lines) = Avx2::lines(format);
        let n = panel.len() / panel_lines;
        assert!(n > 0 && panel.len() == n * panel_lines && tile.len() == n * tile_lines);
        let mut sums = [_mm256_setzero_ps(); 2 * TOKENS];
        // SAFETY: both have `n` blocks, of as many lines as the loops read; the results are
        // eight registers.
        unsafe {
            match (is_nibbles(format), with_layout!(format, L => L::OFFSET, _ => false)) {
                (true, false) => {
                    blocks!(n, panel, tile, sums, [ones!(), sum_nibbles!(), join_all!(), next!()])
                }
                (true, true) => blocks!(
                    n,
                    panel,
                    tile,
                    sums,
                    [ones!(), sum_nibbles!(), join_all!(), join_offsets!(), next!()]
                ),
                (false, false) => {
                    blocks!(n, panel, tile, sums, [sum_words!(), join_all!(), next!()])
                }
                (false, true) => blocks!(
                    n,
                    panel,
                    tile,
                    sums,
                    [sum_words!(), join_all!(), join_offsets!(), next!()]
                ),
            }
        }
        for (i, half) in sums.into_iter().enumerate() {
            // SAFETY: the caller guarantees the room.
            unsafe { _mm256_storeu_ps(y.add(i / 2 * stride + i % 2 * 8), half) }
        }
    }

    unsafe fn single(format: Format, rows: &[u8], x: Tokens<'_>, y: *mut f32) {
        // SAFETY: guaranteed by the caller.
        unsafe { single(format, rows, x, y) }
    }
}

fn prefetch(ahead: Ahead<'_>) {
    for line in ahead.iter().flat_map(|part| part.chunks(64)) {
        // SAFETY: a hint, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
}

/// # Safety
/// As for [`Panel::pack`].
#[target_feature(enable = "avx2,f16c")]
unsafe fn pack<L: Layout>(rows: &[u8], panel: &mut [Line]) {
    let (lines, _) = Avx2::lines(L::FORMAT);
    let code_lines = if is_nibbles(L::FORMAT) { 8 } else { 16 };
    let row = rows.len() / ROWS;
    assert_eq!(row / L::UNIT * L::GROUPS * lines, panel.len());
    for (u, blocks) in panel.chunks_exact_mut(L::GROUPS * lines).enumerate() {
        for half in 0..2 {
            // SAFETY: units of eight rows, within `rows`; a block of the panel has 16 registers of
            // words or 8 of bytes for each half, and two each of scales and offsets.
            unsafe {
                let unit = rows.as_ptr().add(half * SIDE * row + u * L::UNIT);
                let scales = L::scales(unit, row);
                for (g, block) in blocks.chunks_exact_mut(lines).enumerate() {
                    let to = block.as_mut_ptr().cast::<__m256i>();
                    to.cast::<__m256>().add(code_lines * 2 + half).write(scale::<L>(&scales, g));
                    if L::OFFSET {
                        to.cast::<__m256>()
                            .add(code_lines * 2 + 2 + half)
                            .write(offset::<L>(&scales, g));
                    }
                    write_codes::<L>(unit, row, g, to.add(half));
                }
            }
        }
    }
}

/// Writes the integers of a group of eight rows to every other register, starting at `to`.
///
/// # Safety
/// The units and the room exist.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn write_codes<L: Layout>(unit: *const u8, row: usize, g: usize, to: *mut __m256i) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut rows = [_mm256_setzero_si256(); SIDE];
        for (r, codes) in rows.iter_mut().enumerate() {
            *codes = L::codes(unit.add(r * row), g);
        }
        if is_nibbles(L::FORMAT) {
            for (i, quad) in transposed(rows).into_iter().enumerate() {
                to.add(i * 2).write(quad);
            }
            return;
        }
        // Each half's scale twice, because two columns share a lane. (Loops, because what a
        // closure is passed to is not compiled with the target features.)
        let mut scales = [[[0i16; 2]; SIDE]; 2];
        for r in 0..SIDE {
            if L::EXCESS > 0 {
                rows[r] = _mm256_sub_epi8(rows[r], _mm256_set1_epi8(L::EXCESS as i8));
            }
            if L::HALVES {
                let [low, high] = L::halves(unit.add(r * row), g);
                (scales[0][r], scales[1][r]) = ([low; 2], [high; 2]);
            }
        }
        for (i, quad) in transposed(rows).into_iter().enumerate() {
            // Columns 0 and 2 of four, then 1 and 3.
            let words = [
                _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(quad)),
                _mm256_srai_epi16::<8>(quad),
            ];
            for (j, mut words) in words.into_iter().enumerate() {
                if L::HALVES {
                    words = _mm256_mullo_epi16(
                        words,
                        _mm256_loadu_si256(scales[i / 4].as_ptr().cast()),
                    );
                }
                to.add(i * 4 + j * 2).write(words);
            }
        }
    }
}

/// Each result holds four columns of each of eight rows, as bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed(rows: [__m256i; SIDE]) -> [__m256i; 8] {
    let mut pairs = [_mm256_setzero_si256(); 8];
    for i in 0..4 {
        pairs[i * 2] = _mm256_unpacklo_epi32(rows[i * 2], rows[i * 2 + 1]);
        pairs[i * 2 + 1] = _mm256_unpackhi_epi32(rows[i * 2], rows[i * 2 + 1]);
    }
    // Four rows of columns 4i to 4i + 3 in the lower half, and 16 columns further in
    // the upper half.
    let mut fours = [_mm256_setzero_si256(); 8];
    for i in 0..2 {
        for j in 0..2 {
            fours[i * 4 + j * 2] = _mm256_unpacklo_epi64(pairs[i * 4 + j], pairs[i * 4 + j + 2]);
            fours[i * 4 + j * 2 + 1] =
                _mm256_unpackhi_epi64(pairs[i * 4 + j], pairs[i * 4 + j + 2]);
        }
    }
    let mut columns = [_mm256_setzero_si256(); 8];
    for i in 0..4 {
        columns[i] = _mm256_permute2x128_si256::<0x20>(fours[i], fours[i + 4]);
        columns[i + 4] = _mm256_permute2x128_si256::<0x31>(fours[i], fours[i + 4]);
    }
    columns
}
