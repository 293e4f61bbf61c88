//! int8 products of one token on x86-64, with the rows where they lie, eight at a time, by AVX2: decoding waits for memory, and wider
//! registers were found to wait longer.
//!
//! `vpmaddubsw` wants an unsigned side, and saturates. Q8_0: magnitudes of weights times activations with the weights' signs (at most
//! 2 × 128 × 127 in 16 bits, which fits), widened at once. Q4_0: nibbles as they are.

use core::arch::x86_64::*;

use super::Tokens;
use crate::kernels::{Format, GROUP};

/// How many times eight rows ahead memory is asked for. A hint, harmless past the end.
const AHEAD: usize = 2;

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

/// The results of one token for any number of times eight rows.
///
/// # Safety
/// As for [`Panel::single`](super::Panel::single).
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn single(format: Format, rows: &[u8], x: Tokens<'_>, y: *mut f32) {
    match format {
        Format::Q4_0 => single!(18, rows, x, y, nibbles, sum_of_nibbles, Some(4)),
        _ => single!(34, rows, x, y, as_they_are, sum_of_signed, None::<u32>),
    }
}

/// The scales of a block of eight rows, `row` bytes apart.
///
/// # Safety
/// They are there.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn scales(from: *const u8, row: usize) -> __m256 {
    // SAFETY: the caller's.
    let half = |r: usize| unsafe { from.add(r * row).cast::<i16>().read_unaligned() };
    _mm256_cvtph_ps(_mm_setr_epi16(half(0), half(1), half(2), half(3), half(4), half(5), half(6), half(7)))
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
fn sum_of_signed(w: __m256i, x: __m256i) -> __m256i {
    _mm256_madd_epi16(signed_pairs(w, x), _mm256_set1_epi16(1))
}

/// The same for `w` of 0..=15.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_of_nibbles(w: __m256i, x: __m256i) -> __m256i {
    _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1))
}
