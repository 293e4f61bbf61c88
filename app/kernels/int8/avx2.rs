//! int8 products for AVX2 with FMA and F16C, 16 rows and four tokens at a time. Rows are the lanes of a register: a few columns of
//! a token are broadcast against them, and nothing is summed across. Formats lie in a panel in one of two ways:
//!
//! - Words: whole numbers in 16 bits, two columns to a lane of 32 bits, for `vpmaddwd`: two instructions for 16 products, and each
//!   multiplication already adds. (`vpmaddubsw` takes bytes, but wants one side unsigned and needs as many instructions, the signs
//!   and the widening among them.) Scales of 16 columns are multiplied in as a panel is packed.
//! - Nibbles (Q4_0, Q4_1, Q4_K), 0..=15, four columns to a lane, for `vpmaddubsw`: products with 32 columns fit 16 bits (8 × 2 × 15 ×
//!   127), so they are widened once a block. What the nibbles of Q4_0 are too large by, 8 × the activations' sum, is where the sums
//!   start from: half of it in each half of a lane, where it fits too.
//!
//! An offset, where the format has one, is a second fused multiply-add, of the activations' sum.
//!
//! The loops are assembly, for compilers move loads out of them until sums no longer fit the registers: ymm0–ymm7 sums of four
//! tokens and two halves of the panel, ymm8–ymm9 weights, ymm10 columns of a token, ymm11–ymm12 products, ymm13 ones. Results stay
//! in memory, which a block touches once.

use core::arch::asm;
use core::arch::x86_64::*;

use super::layout::{Layout, SIDE, offset, scale, with_layout};
use super::single::single;
use super::{Panel, Tokens};
use crate::kernels::{Format, GROUP};

/// Rows of a panel.
const ROWS: usize = 16;
/// Tokens of a tile.
const TOKENS: usize = 4;

/// Panels and tiles lie in these. A block of 32 columns takes, in a panel, whole numbers, then 16 scales, then 16 offsets if there are
/// any; in a tile, codes of the four tokens side by side, and one line of their scales, of what their sums start from, and of the sums
/// of their codes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line([u8; 64]);

/// AVX2 with FMA and F16C.
pub(super) struct Avx2;

/// Two columns of four tokens by 16 rows (words), or four columns (nibbles): the next 64 bytes of the panel, the next 16 of the tile.
/// `$token` multiplies and adds.
macro_rules! columns {
    ($token:ident) => {
        concat!(
            "vmovdqa ymm8, [{w}]\n",
            "vmovdqa ymm9, [{w} + 32]\n",
            $token!("0", "0", "1"),
            $token!("4", "2", "3"),
            "add {w}, 64\n",
            $token!("8", "4", "5"),
            $token!("12", "6", "7"),
            "add {x}, 16\n",
        )
    };
}

/// The first products of a block.
macro_rules! first_words {
    ($at:literal, $low:literal, $high:literal) => {
        concat!(
            "vpbroadcastd ymm10, [{x} + ",
            $at,
            "]\n",
            "vpmaddwd ymm",
            $low,
            ", ymm10, ymm8\n",
            "vpmaddwd ymm",
            $high,
            ", ymm10, ymm9\n",
        )
    };
}

/// The products after them.
macro_rules! words {
    ($at:literal, $low:literal, $high:literal) => {
        concat!(
            "vpbroadcastd ymm10, [{x} + ",
            $at,
            "]\n",
            "vpmaddwd ymm11, ymm10, ymm8\n",
            "vpmaddwd ymm12, ymm10, ymm9\n",
            "vpaddd ymm",
            $low,
            ", ymm",
            $low,
            ", ymm11\n",
            "vpaddd ymm",
            $high,
            ", ymm",
            $high,
            ", ymm12\n",
        )
    };
}

/// The same with nibbles, in 16 bits.
macro_rules! bytes {
    ($at:literal, $low:literal, $high:literal) => {
        concat!(
            "vpbroadcastd ymm10, [{x} + ",
            $at,
            "]\n",
            "vpmaddubsw ymm11, ymm8, ymm10\n",
            "vpmaddubsw ymm12, ymm9, ymm10\n",
            "vpaddw ymm",
            $low,
            ", ymm",
            $low,
            ", ymm11\n",
            "vpaddw ymm",
            $high,
            ", ymm",
            $high,
            ", ymm12\n",
        )
    };
}

/// A token's sums join its results. `$scale` is where the tile has its scale, `$result` where its results are.
macro_rules! join {
    ($scale:literal, $low:literal, $high:literal, $result:literal, $result_high:literal) => {
        concat!(
            "vbroadcastss ymm10, [{x} + ",
            $scale,
            "]\n",
            "vcvtdq2ps ymm",
            $low,
            ", ymm",
            $low,
            "\n",
            "vcvtdq2ps ymm",
            $high,
            ", ymm",
            $high,
            "\n",
            "vmulps ymm11, ymm8, ymm10\n",
            "vmulps ymm12, ymm9, ymm10\n",
            "vfmadd213ps ymm",
            $low,
            ", ymm11, [{y} + ",
            $result,
            "]\n",
            "vfmadd213ps ymm",
            $high,
            ", ymm12, [{y} + ",
            $result_high,
            "]\n",
            "vmovaps [{y} + ",
            $result,
            "], ymm",
            $low,
            "\n",
            "vmovaps [{y} + ",
            $result_high,
            "], ymm",
            $high,
            "\n",
        )
    };
}

/// The panel's scales join every token's sums.
macro_rules! join_all {
    () => {
        concat!(
            "vmovaps ymm8, [{w}]\n",
            "vmovaps ymm9, [{w} + 32]\n",
            join!("0", "0", "1", "0", "32"),
            join!("4", "2", "3", "64", "96"),
            join!("8", "4", "5", "128", "160"),
            join!("12", "6", "7", "192", "224"),
        )
    };
}

/// A token's offsets join its results: the sum of its codes times the panel's offsets. `$scale` and `$sum` are where the tile has them.
macro_rules! join_offset {
    ($scale:literal, $sum:literal, $result:literal, $result_high:literal) => {
        concat!(
            "vbroadcastss ymm10, [{x} + ",
            $scale,
            "]\n",
            "vbroadcastss ymm0, [{x} + ",
            $sum,
            "]\n",
            "vmulps ymm11, ymm8, ymm10\n",
            "vmulps ymm12, ymm9, ymm10\n",
            "vfmadd213ps ymm11, ymm0, [{y} + ",
            $result,
            "]\n",
            "vfmadd213ps ymm12, ymm0, [{y} + ",
            $result_high,
            "]\n",
            "vmovaps [{y} + ",
            $result,
            "], ymm11\n",
            "vmovaps [{y} + ",
            $result_high,
            "], ymm12\n",
        )
    };
}

/// The panel's offsets join every token's results.
macro_rules! join_offsets {
    () => {
        concat!(
            "add {w}, 64\n",
            "vmovaps ymm8, [{w}]\n",
            "vmovaps ymm9, [{w} + 32]\n",
            join_offset!("0", "32", "0", "32"),
            join_offset!("4", "36", "64", "96"),
            join_offset!("8", "40", "128", "160"),
            join_offset!("12", "44", "192", "224"),
        )
    };
}

/// The next block.
macro_rules! next {
    () => {
        concat!("add {w}, 64\n", "add {x}, 64\n", "dec {n}\n", "jnz 2b\n")
    };
}

/// Ones in 16 bits.
macro_rules! ones {
    () => {
        concat!("vpcmpeqw ymm13, ymm13, ymm13\n", "vpabsw ymm13, ymm13\n")
    };
}

/// Sums of a block of words.
macro_rules! sum_words {
    () => {
        concat!("2:\n", columns!(first_words), ".rept 15\n", columns!(words), ".endr\n")
    };
}

/// Sums of a block of nibbles.
macro_rules! sum_nibbles {
    () => {
        concat!(
            "2:\n",
            "vpbroadcastd ymm0, [{x} + 144]\n",
            "vmovdqa ymm1, ymm0\n",
            "vpbroadcastd ymm2, [{x} + 148]\n",
            "vmovdqa ymm3, ymm2\n",
            "vpbroadcastd ymm4, [{x} + 152]\n",
            "vmovdqa ymm5, ymm4\n",
            "vpbroadcastd ymm6, [{x} + 156]\n",
            "vmovdqa ymm7, ymm6\n",
            ".rept 8\n",
            columns!(bytes),
            ".endr\n",
            "vpmaddwd ymm0, ymm0, ymm13\n",
            "vpmaddwd ymm1, ymm1, ymm13\n",
            "vpmaddwd ymm2, ymm2, ymm13\n",
            "vpmaddwd ymm3, ymm3, ymm13\n",
            "vpmaddwd ymm4, ymm4, ymm13\n",
            "vpmaddwd ymm5, ymm5, ymm13\n",
            "vpmaddwd ymm6, ymm6, ymm13\n",
            "vpmaddwd ymm7, ymm7, ymm13\n",
        )
    };
}

/// All blocks of a tile.
macro_rules! blocks {
    ($n:ident, $panel:ident, $tile:ident, $y:ident, [$($text:expr),* $(,)?]) => {
        asm!(
            $($text,)*
            w = inout(reg) $panel.as_ptr() => _, x = inout(reg) $tile.as_ptr() => _, y = in(reg) $y.as_mut_ptr(),
            n = inout(reg) $n => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _, out("ymm6") _,
            out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _, out("ymm12") _, out("ymm13") _,
            options(nostack),
        )
    };
}

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
    const PADS: bool = true;
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
    unsafe fn pack(format: Format, rows: &[u8], panel: &mut [Line]) {
        // SAFETY: the caller's.
        unsafe { with_layout!(format, L => pack::<L>(rows, panel), _ => unreachable!("{format:?} has no layout")) }
    }

    fn expect(bytes: &[u8]) {
        for line in bytes.chunks(64) {
            // SAFETY: a hint, which reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
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
                        codes[to / 64].0[to % 64..][..4].copy_from_slice(&columns.map(|code| code as u8));
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
                // Half of what the nibbles of Q4_0 are too large by.
                let start = if format == Format::Q4_0 { (-4 * sum) as i16 } else { 0 }.to_le_bytes();
                rest[16 + t * 4..][..4].copy_from_slice(&[start[0], start[1], start[0], start[1]]);
                rest[32 + t * 4..][..4].copy_from_slice(&(sum as f32).to_le_bytes());
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile(format: Format, panel: &[Line], _: Tokens<'_>, tile: &[Line], y: *mut f32, stride: usize) {
        let (panel_lines, tile_lines) = Avx2::lines(format);
        let n = panel.len() / panel_lines;
        assert!(n > 0 && panel.len() == n * panel_lines && tile.len() == n * tile_lines);
        let mut sums = [_mm256_setzero_ps(); 2 * TOKENS];
        // SAFETY: both have `n` blocks, of as many lines as the loops walk over; the results are eight registers.
        unsafe {
            match (is_nibbles(format), with_layout!(format, L => L::OFFSET, _ => false)) {
                (true, false) => blocks!(n, panel, tile, sums, [ones!(), sum_nibbles!(), join_all!(), next!()]),
                (true, true) => blocks!(n, panel, tile, sums, [ones!(), sum_nibbles!(), join_all!(), join_offsets!(), next!()]),
                (false, false) => blocks!(n, panel, tile, sums, [sum_words!(), join_all!(), next!()]),
                (false, true) => blocks!(n, panel, tile, sums, [sum_words!(), join_all!(), join_offsets!(), next!()]),
            }
        }
        for (i, half) in sums.into_iter().enumerate() {
            // SAFETY: the caller promises the room.
            unsafe { _mm256_storeu_ps(y.add(i / 2 * stride + i % 2 * 8), half) }
        }
    }

    unsafe fn single(format: Format, rows: &[u8], x: Tokens<'_>, y: *mut f32) {
        // SAFETY: the caller's.
        unsafe { single(format, rows, x, y) }
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
            // SAFETY: units of eight rows, within `rows`; a block of the panel has 16 registers of words or 8 of bytes for each half,
            // and two of scales and of offsets.
            unsafe {
                let unit = rows.as_ptr().add(half * SIDE * row + u * L::UNIT);
                let scales = L::scales(unit, row);
                for (g, block) in blocks.chunks_exact_mut(lines).enumerate() {
                    let to = block.as_mut_ptr().cast::<__m256i>();
                    to.cast::<__m256>().add(code_lines * 2 + half).write(scale::<L>(&scales, g));
                    if L::OFFSET {
                        to.cast::<__m256>().add(code_lines * 2 + 2 + half).write(offset::<L>(&scales, g));
                    }
                    write_codes::<L>(unit, row, g, to.add(half));
                }
            }
        }
    }
}

/// Writes the whole numbers of a group of eight rows to every other register from `to` on.
///
/// # Safety
/// The units and the room are there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn write_codes<L: Layout>(unit: *const u8, row: usize, g: usize, to: *mut __m256i) {
    // SAFETY: the caller's.
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
        // Each half's scale twice, for two columns share a lane. (Loops, for a closure is not compiled into what has the instructions.)
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
            let words = [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(quad)), _mm256_srai_epi16::<8>(quad)];
            for (j, mut words) in words.into_iter().enumerate() {
                if L::HALVES {
                    words = _mm256_mullo_epi16(words, _mm256_loadu_si256(scales[i / 4].as_ptr().cast()));
                }
                to.add(i * 4 + j * 2).write(words);
            }
        }
    }
}

/// Four columns of each of eight rows in each result, as bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed(rows: [__m256i; SIDE]) -> [__m256i; 8] {
    let mut pairs = [_mm256_setzero_si256(); 8];
    for i in 0..4 {
        pairs[i * 2] = _mm256_unpacklo_epi32(rows[i * 2], rows[i * 2 + 1]);
        pairs[i * 2 + 1] = _mm256_unpackhi_epi32(rows[i * 2], rows[i * 2 + 1]);
    }
    // Four rows of columns 4i to 4i + 3 in the lower half, of 16 columns more in the upper.
    let mut fours = [_mm256_setzero_si256(); 8];
    for i in 0..2 {
        for j in 0..2 {
            fours[i * 4 + j * 2] = _mm256_unpacklo_epi64(pairs[i * 4 + j], pairs[i * 4 + j + 2]);
            fours[i * 4 + j * 2 + 1] = _mm256_unpackhi_epi64(pairs[i * 4 + j], pairs[i * 4 + j + 2]);
        }
    }
    let mut columns = [_mm256_setzero_si256(); 8];
    for i in 0..4 {
        columns[i] = _mm256_permute2x128_si256::<0x20>(fours[i], fours[i + 4]);
        columns[i + 4] = _mm256_permute2x128_si256::<0x31>(fours[i], fours[i + 4]);
    }
    columns
}
