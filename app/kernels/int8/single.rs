//! int8 products of one token on x86-64 with the stored rows, eight at a time, by AVX2: decoding is
//! limited by memory, and wider registers were slower.
//!
//! `vpmaddubsw` needs one unsigned operand, and saturates. For signed codes: their magnitudes times
//! activations that take the codes' signs (at most 2 × 128 × 127 in 16 bits, which fits). Unsigned
//! codes have at most five bits and are used directly; their excess is subtracted with the
//! activations' sum. Pairs are widened at once, multiplied by the scales of 16 columns if the
//! format has them.

use core::arch::x86_64::*;

use super::Tokens;
use super::layout::{Layout, SIDE, offset, scale, with_layout};
use crate::kernels::{Format, GROUP};

/// The prefetch distance, in steps of eight rows. A hint, harmless past the end.
const AHEAD: usize = 2;

/// The lane sums of `$products` for each of eight rows, side by side. Written out, because loops
/// over registers are not unrolled.
macro_rules! eight {
    ($r:ident => $products:expr) => {{
        macro_rules! of {
            ($row:literal) => {{
                let $r = $row;
                $products
            }};
        }
        // Rows 0–3 and 4–7, with the two halves of their lanes still separate.
        let low =
            _mm256_hadd_epi32(_mm256_hadd_epi32(of!(0), of!(1)), _mm256_hadd_epi32(of!(2), of!(3)));
        let high =
            _mm256_hadd_epi32(_mm256_hadd_epi32(of!(4), of!(5)), _mm256_hadd_epi32(of!(6), of!(7)));
        let crossed = _mm256_permute2x128_si256::<0x21>(low, high);
        _mm256_add_epi32(_mm256_blend_epi32::<0xf0>(low, high), crossed)
    }};
}

/// The results of one token for any multiple of eight rows.
///
/// # Safety
/// As for [`Panel::single`](super::Panel::single); the format has a [`Layout`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn single(format: Format, rows: &[u8], x: Tokens<'_>, y: *mut f32) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        with_layout!(format, L => eights::<L>(rows, x, y), _ => unreachable!("{format:?} has no layout"))
    }
}

/// # Safety
/// As for [`single`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn eights<L: Layout>(rows: &[u8], x: Tokens<'_>, y: *mut f32) {
    let blocks = x.cols / GROUP;
    let (units, row) = (blocks / L::GROUPS, blocks / L::GROUPS * L::UNIT);
    assert!(
        blocks > 0 && blocks.is_multiple_of(L::GROUPS) && rows.len().is_multiple_of(SIDE * row)
    );
    assert!(x.codes.len() >= x.cols && x.scales.len() >= blocks && x.offsets.len() >= blocks);
    for eight in 0..rows.len() / (SIDE * row) {
        // SAFETY: unit `u` of eight rows and the token's groups for it exist, by the assertions.
        // The caller guarantees the instructions, and room for one result per row.
        unsafe {
            let mut acc = _mm256_setzero_ps();
            for u in 0..units {
                let unit = rows.as_ptr().add(eight * SIDE * row + u * L::UNIT);
                // One after another: sequential access is fastest.
                for line in 0..(SIDE * L::UNIT).div_ceil(64) {
                    let ahead =
                        ((eight + AHEAD) * SIDE * row + u * SIDE * L::UNIT + line * 64) as isize;
                    _mm_prefetch::<_MM_HINT_T0>(rows.as_ptr().wrapping_offset(ahead).cast());
                }
                let scales = L::scales(unit, row);
                for g in 0..L::GROUPS {
                    let b = u * L::GROUPS + g;
                    let columns = _mm256_loadu_si256(x.codes.as_ptr().add(b * GROUP).cast());
                    let mut sum = eight!(r => products::<L>(unit.add(r * row), g, columns));
                    let (activations, x_scale) = (x.offsets[b] >> 7, _mm256_set1_ps(x.scales[b]));
                    if L::EXCESS > 0 {
                        sum = _mm256_add_epi32(sum, _mm256_set1_epi32(activations * L::EXCESS));
                    }
                    let joined = _mm256_mul_ps(scale::<L>(&scales, g), x_scale);
                    acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), joined, acc);
                    if L::OFFSET {
                        let joined = _mm256_mul_ps(offset::<L>(&scales, g), x_scale);
                        acc = _mm256_fmadd_ps(_mm256_set1_ps(-activations as f32), joined, acc);
                    }
                }
            }
            _mm256_storeu_ps(y.add(eight * SIDE), acc);
        }
    }
}

/// Products of a row's group with 32 columns, in eight lanes. Inlined into code that is compiled
/// for AVX2, like all of `layout`.
///
/// # Safety
/// The CPU has the instructions; `unit` has the group.
#[inline(always)]
unsafe fn products<L: Layout>(unit: *const u8, g: usize, columns: __m256i) -> __m256i {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let codes = L::codes(unit, g);
        let pairs = if L::UNSIGNED {
            _mm256_maddubs_epi16(codes, columns)
        } else {
            _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(columns, codes))
        };
        let times = if L::HALVES {
            let [low, high] = L::halves(unit, g);
            _mm256_set_m128i(_mm_set1_epi16(high), _mm_set1_epi16(low))
        } else {
            _mm256_set1_epi16(1)
        };
        _mm256_madd_epi16(pairs, times)
    }
}
