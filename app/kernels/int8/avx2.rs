//! int8 products for AVX2 with FMA and F16C, 16 rows and four tokens at a time. Rows are the lanes of a register: a few columns of
//! a token are broadcast against them, and nothing is summed across.
//!
//! - Q8_0: codes widened to 16 bits when a panel is packed, two columns to a lane of 32 bits, for `vpmaddwd`: two instructions for
//!   16 products, and each multiplication already adds. `vpmaddubsw` takes bytes, but wants one side unsigned and needs as many
//!   instructions, the signs and the widening among them.
//! - Q4_0: nibbles as they are, 0..=15, four columns to a lane, for `vpmaddubsw`: products with 32 columns fit 16 bits (8 × 2 × 15 ×
//!   127), so they are widened once a block. What the nibbles are too large by, 8 × the activations' sum, is where the sums
//!   start from: half of it in each half of a lane, where it fits too.
//!
//! The loops are assembly, for compilers move loads out of them until sums no longer fit the registers: ymm0–ymm7 sums of four
//! tokens and two halves of the panel, ymm8–ymm9 weights, ymm10 columns of a token, ymm11–ymm12 products, ymm13 ones. Results stay
//! in memory, which a block touches once.

use core::arch::asm;
use core::arch::x86_64::*;

use super::single::{as_they_are, nibbles, scales, single};
use super::{Panel, Tokens};
use crate::kernels::{Format, GROUP};

/// Rows of a panel.
const ROWS: usize = 16;
/// Tokens of a tile.
const TOKENS: usize = 4;

/// Panels and tiles lie in these. A block of 32 columns takes, in a panel, codes and then 16 scales; in a tile, codes of the four
/// tokens side by side, their scales, and for Q4_0 what their sums start from.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line([u8; 64]);

/// AVX2 with FMA and F16C.
pub(super) struct Avx2;

/// Two columns of four tokens by 16 rows (Q8_0), or four columns (Q4_0): the next 64 bytes of the panel, the next 16 of the tile.
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

/// The end of a block: the panel's scales, and every token's.
macro_rules! join_all {
    () => {
        concat!(
            "vmovaps ymm8, [{w}]\n",
            "vmovaps ymm9, [{w} + 32]\n",
            join!("0", "0", "1", "0", "32"),
            join!("4", "2", "3", "64", "96"),
            join!("8", "4", "5", "128", "160"),
            join!("12", "6", "7", "192", "224"),
            "add {w}, 64\n",
            "add {x}, 64\n",
            "dec {n}\n",
            "jnz 2b\n",
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

impl Panel for Avx2 {
    fn takes(format: Format) -> bool {
        matches!(format, Format::Q8_0 | Format::Q4_0)
    }

    const ROWS: usize = ROWS;
    const TOKENS: usize = TOKENS;
    type Block = Line;
    const ZERO: Line = Line([0; 64]);
    type Columns = Line;
    const NO_COLUMNS: Line = Line([0; 64]);

    fn lines(format: Format) -> (usize, usize) {
        if format == Format::Q4_0 { (9, 3) } else { (17, 5) }
    }

    #[target_feature(enable = "avx2,f16c")]
    unsafe fn pack(format: Format, rows: &[u8], panel: &mut [Line]) {
        let (_, unit) = format.unit();
        let (lines, _) = Avx2::lines(format);
        let row = rows.len() / ROWS;
        assert_eq!(row / unit * lines, panel.len());
        for (b, block) in panel.chunks_exact_mut(lines).enumerate() {
            let to = block.as_mut_ptr().cast::<__m256i>();
            for half in 0..2 {
                // SAFETY: a block of eight rows, within `rows`; a block of the panel has 16 registers of words or 8 of bytes for
                // each half, and two of scales.
                unsafe {
                    let from = rows.as_ptr().add(half * 8 * row + b * unit);
                    to.cast::<__m256>().add((lines - 1) * 2 + half).write(scales(from, row));
                    for (i, quad) in transposed(format, from.add(2), row).into_iter().enumerate() {
                        if format == Format::Q4_0 {
                            to.add(i * 2 + half).write(quad);
                        } else {
                            // Columns 0 and 2 of four, then 1 and 3.
                            to.add(i * 4 + half).write(_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(quad)));
                            to.add(i * 4 + 2 + half).write(_mm256_srai_epi16::<8>(quad));
                        }
                    }
                }
            }
        }
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
                    if format == Format::Q4_0 {
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
                // −128 × the sum of the codes, so −4 × it: half of what nibbles are too large by.
                let start = ((x.offsets[t * groups + b] >> 5) as i16).to_le_bytes();
                rest[16 + t * 4..][..4].copy_from_slice(&[start[0], start[1], start[0], start[1]]);
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
            match format {
                Format::Q4_0 => blocks!(
                    n,
                    panel,
                    tile,
                    sums,
                    [
                        "vpcmpeqw ymm13, ymm13, ymm13",
                        "vpabsw ymm13, ymm13",
                        "2:",
                        "vpbroadcastd ymm0, [{x} + 144]",
                        "vmovdqa ymm1, ymm0",
                        "vpbroadcastd ymm2, [{x} + 148]",
                        "vmovdqa ymm3, ymm2",
                        "vpbroadcastd ymm4, [{x} + 152]",
                        "vmovdqa ymm5, ymm4",
                        "vpbroadcastd ymm6, [{x} + 156]",
                        "vmovdqa ymm7, ymm6",
                        ".rept 8",
                        columns!(bytes),
                        ".endr",
                        "vpmaddwd ymm0, ymm0, ymm13",
                        "vpmaddwd ymm1, ymm1, ymm13",
                        "vpmaddwd ymm2, ymm2, ymm13",
                        "vpmaddwd ymm3, ymm3, ymm13",
                        "vpmaddwd ymm4, ymm4, ymm13",
                        "vpmaddwd ymm5, ymm5, ymm13",
                        "vpmaddwd ymm6, ymm6, ymm13",
                        "vpmaddwd ymm7, ymm7, ymm13",
                        join_all!(),
                    ]
                ),
                _ => blocks!(
                    n,
                    panel,
                    tile,
                    sums,
                    ["2:", columns!(first_words), ".rept 15", columns!(words), ".endr", join_all!(),]
                ),
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

/// Codes of eight rows, `row` bytes apart: four columns of each row in each result, as bytes.
///
/// # Safety
/// They are there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transposed(format: Format, from: *const u8, row: usize) -> [__m256i; 8] {
    let mut rows = [_mm256_setzero_si256(); 8];
    for (r, codes) in rows.iter_mut().enumerate() {
        // SAFETY: the caller's.
        *codes = unsafe { if format == Format::Q4_0 { nibbles(from.add(r * row)) } else { as_they_are(from.add(r * row)) } };
    }
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
