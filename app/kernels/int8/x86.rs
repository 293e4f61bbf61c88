//! int8 products for x86-64: what AVX2 and AVX-512 have in common, which is the product of one token with rows where they lie,
//! and AVX-512's panels. Bytes of 16 rows lie interleaved in a panel, four columns of a row side by side, so that the lanes of a
//! register are rows: four columns of a token are broadcast against them, and nothing is summed across. Weights are kept 128 too
//! large there, as the unsigned bytes that `vpdpbusd` wants; what that adds is taken off from the start (the activations'
//! `offsets`).
//!
//! One token on AVX2: `vpmaddubsw` wants an unsigned side too, and saturates. Q8_0: magnitudes of weights times activations with
//! the weights' signs (at most 2 × 128 × 127 in 16 bits, which fits), widened at once. Q4_0: nibbles as they are.

use core::arch::x86_64::*;

use super::avx2::scales;
use super::{Panel, Tokens};
use crate::kernels::format::unpack_block;
use crate::kernels::{Format, GROUP};

/// Rows of a panel.
const ROWS: usize = 16;
/// Tokens of a tile.
const TOKENS: usize = 4;
/// How many times eight rows ahead memory is asked for. A hint, harmless past the end.
pub(super) const AHEAD: usize = 2;

/// One token times mapped rows of blocks of `$unit` bytes, eight rows at a time. `$load` reads a block's codes, `$dot` sums
/// their products into eight lanes; what the codes are too large by is taken off with the block's offset, shifted right by
/// `$shift`. A macro, for closures are not compiled with the instructions of the function around them.
macro_rules! single {
    ($unit:literal, $rows:ident, $x:ident, $y:ident, $load:expr, $dot:expr, $shift:expr) => {{
        let blocks = $x.cols / GROUP;
        let row = blocks * $unit;
        assert!($rows.len().is_multiple_of(8 * row));
        assert!($x.codes.len() >= $x.cols && $x.scales.len() >= blocks && $x.offsets.len() >= blocks);
        for eight in 0..$rows.len() / (8 * row) {
            // SAFETY: block `b` of eight rows and of the token are there, by the assertions; the caller has the instructions,
            // and promises room for a result a row.
            unsafe {
                let base = $rows.as_ptr().add(eight * 8 * row);
                let mut acc = _mm256_setzero_ps();
                for b in 0..blocks {
                    let block = base.add(b * $unit);
                    let columns = _mm256_loadu_si256($x.codes.as_ptr().add(b * GROUP).cast());
                    // One behind the other, as memory likes to be read.
                    for line in 0..(8 * $unit as usize).div_ceil(64) {
                        let ahead = $rows.as_ptr().wrapping_add((eight + AHEAD) * 8 * row + b * 8 * $unit + line * 64);
                        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    }
                    let mut s = [_mm256_setzero_si256(); 8];
                    for r in 0..8 {
                        s[r] = $dot($load(block.add(r * row + 2)), columns);
                    }
                    let scales = scales(block, row);
                    // Rows 0–3 and 4–7, the two halves of their lanes still apart.
                    let low = _mm256_hadd_epi32(_mm256_hadd_epi32(s[0], s[1]), _mm256_hadd_epi32(s[2], s[3]));
                    let high = _mm256_hadd_epi32(_mm256_hadd_epi32(s[4], s[5]), _mm256_hadd_epi32(s[6], s[7]));
                    let crossed = _mm256_permute2x128_si256::<0x21>(low, high);
                    let sum = _mm256_add_epi32(_mm256_blend_epi32::<0xf0>(low, high), crossed);
                    let sum = match $shift {
                        Some(shift) => _mm256_add_epi32(sum, _mm256_set1_epi32($x.offsets[b] >> shift)),
                        None => sum,
                    };
                    let scale = _mm256_mul_ps(scales, _mm256_set1_ps($x.scales[b]));
                    acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, acc);
                }
                _mm256_storeu_ps($y.add(eight * 8), acc);
            }
        }
    }};
}

pub(super) use single;

/// 32 columns of 16 rows.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Block {
    /// Four columns at a time, of each row.
    codes: [[[u8; 4]; ROWS]; GROUP / 4],
    scales: [f32; ROWS],
}

impl Block {
    const ZERO: Block = Block { codes: [[[0; 4]; ROWS]; GROUP / 4], scales: [0.0; ROWS] };

    #[inline(always)]
    fn pack(format: Format, rows: &[u8], panel: &mut [Block], offset: u8) {
        let (_, unit) = format.unit();
        for (r, row) in rows.chunks_exact(rows.len() / ROWS).enumerate() {
            for (block, bytes) in panel.iter_mut().zip(row.chunks_exact(unit)) {
                let mut codes = [0i8; GROUP];
                block.scales[r] = unpack_block(format, bytes, &mut codes);
                for (to, from) in block.codes.iter_mut().zip(codes.as_chunks::<4>().0) {
                    to[r] = from.map(|code| (code as u8).wrapping_add(offset));
                }
            }
        }
    }
}

/// Pointers to `TOKENS` tokens of `blocks` blocks: codes, scales and offsets.
#[inline(always)]
fn pointers(x: Tokens<'_>, blocks: usize) -> [(*const i8, *const f32, *const i32); TOKENS] {
    let groups = x.cols / GROUP;
    core::array::from_fn(|t| {
        let codes = &x.codes[t * x.cols..][..blocks * GROUP];
        (codes.as_ptr(), x.scales[t * groups..][..blocks].as_ptr(), x.offsets[t * groups..][..blocks].as_ptr())
    })
}

/// AVX-512 F, BW, VL and VNNI.
pub(super) struct Avx512;

impl Panel for Avx512 {
    const ROWS: usize = ROWS;
    const TOKENS: usize = TOKENS;
    type Block = Block;
    const ZERO: Block = Block::ZERO;
    type Columns = ();
    const NO_COLUMNS: () = ();

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
    unsafe fn pack(format: Format, rows: &[u8], panel: &mut [Block]) {
        Block::pack(format, rows, panel, 128);
    }

    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn tile(_: Format, panel: &[Block], x: Tokens<'_>, _: &[()], y: *mut f32, stride: usize) {
        let x = pointers(x, panel.len());
        let mut acc = [_mm512_setzero_ps(); TOKENS];
        for (b, block) in panel.iter().enumerate() {
            // SAFETY: a block is aligned to 64 bytes; block `b` of every token is there (`pointers`).
            unsafe {
                let w: [__m512i; GROUP / 4] = core::array::from_fn(|i| _mm512_load_si512(block.codes[i].as_ptr().cast()));
                let scales = _mm512_load_ps(block.scales.as_ptr());
                for t in 0..TOKENS {
                    let (codes, scale, offset) = x[t];
                    let columns = codes.add(b * GROUP).cast::<i32>();
                    let mut sum = _mm512_set1_epi32(*offset.add(b));
                    for (i, w) in w.iter().enumerate() {
                        sum = _mm512_dpbusd_epi32(sum, *w, _mm512_set1_epi32(columns.add(i).read_unaligned()));
                    }
                    let scale = _mm512_mul_ps(scales, _mm512_set1_ps(*scale.add(b)));
                    acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, acc[t]);
                }
            }
        }
        for (t, acc) in acc.into_iter().enumerate() {
            // SAFETY: the caller promises the room.
            unsafe { _mm512_storeu_ps(y.add(t * stride), acc) }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn single(format: Format, rows: &[u8], x: Tokens<'_>, y: *mut f32) {
        match format {
            Format::Q4_0 => single!(18, rows, x, y, nibbles, sum_of_unsigned, Some(4)),
            _ => single!(34, rows, x, y, with_128, sum_of_unsigned, Some(0)),
        }
    }
}

/// 32 codes, 128 added to each.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn with_128(bytes: *const u8) -> __m256i {
    // SAFETY: the caller's 32 bytes.
    _mm256_xor_si256(unsafe { _mm256_loadu_si256(bytes.cast()) }, _mm256_set1_epi8(-128))
}

/// Products of 32 bytes, `w` unsigned, in eight lanes.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vl,avx512vnni")]
fn sum_of_unsigned(w: __m256i, x: __m256i) -> __m256i {
    _mm256_dpbusd_epi32(_mm256_setzero_si256(), w, x)
}

/// Products of bytes in pairs of 16 bits: magnitudes of `w`, its signs put on `x`.
#[inline]
#[target_feature(enable = "avx2")]
fn signed_pairs(w: __m256i, x: __m256i) -> __m256i {
    _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
}

/// 32 nibbles as bytes: the low ones, then the high ones.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn nibbles(bytes: *const u8) -> __m256i {
    // SAFETY: the caller's 16 bytes.
    let both = unsafe { _mm_loadu_si128(bytes.cast()) };
    _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), _mm256_set1_epi8(15))
}

/// 32 codes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn as_they_are(bytes: *const u8) -> __m256i {
    // SAFETY: the caller's 32 bytes.
    unsafe { _mm256_loadu_si256(bytes.cast()) }
}

/// Products of 32 bytes in eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum_of_signed(w: __m256i, x: __m256i) -> __m256i {
    _mm256_madd_epi16(signed_pairs(w, x), _mm256_set1_epi16(1))
}

/// The same for `w` of 0..=15.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum_of_nibbles(w: __m256i, x: __m256i) -> __m256i {
    _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1))
}
