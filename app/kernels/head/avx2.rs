//! The first pass for AVX2, four rows and four blocks at a time. Upper halves of two blocks fill a
//! register; products with 32 columns stay within 16 bits (at most 8 × 15 × 127 in a lane once
//! pairs of lanes are added), then pairwise adds bring the blocks' sums side by side.

use core::arch::x86_64::*;

use super::{ABSOLUTE, BLOCK_BYTES, GROUP, LANES, Query, Split};

/// Rows of a round.
const ROWS: usize = 4;

/// How many rounds ahead memory is asked for. A hint, harmless past the end.
const AHEAD: usize = 3;

/// The bounds of rows, a multiple of four.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; there are as many results as rows, and the query is of the
/// matrix's columns.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn bounds(m: Split<'_>, query: &Query<'_>, out: &mut [f32]) {
    let groups = m.cols() / (LANES * GROUP);
    let (row, scale_row) = (m.cols() / 2, m.cols() / GROUP * 2);
    assert!(m.rows() == out.len() && out.len().is_multiple_of(ROWS) && query.terms.len() == groups);
    assert!(
        query.fours.len() == m.cols()
            && m.all_upper().len() == m.rows() * row
            && m.all_scales().len() == m.rows() * scale_row
    );
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (round, out) in out.chunks_exact_mut(ROWS).enumerate() {
        let (mut sums, mut reaches) = ([_mm256_setzero_ps(); 2], [_mm256_setzero_ps(); 2]);
        // SAFETY: `ROWS` rows from this one on are there, of `groups` groups each, and so are the
        // query's, by the assertions.
        unsafe {
            let upper = m.all_upper().as_ptr().add(round * ROWS * row);
            let scales = m.all_scales().as_ptr().add(round * ROWS * scale_row);
            for g in 0..groups {
                for line in 0..ROWS {
                    let ahead = (AHEAD * ROWS * row + (g * ROWS + line) * 64) as isize;
                    _mm_prefetch::<_MM_HINT_T0>(upper.wrapping_offset(ahead).cast());
                }
                if g * 64 < ROWS * scale_row {
                    let ahead = (AHEAD * ROWS * scale_row + g * 64) as isize;
                    _mm_prefetch::<_MM_HINT_T0>(scales.wrapping_offset(ahead).cast());
                }
                let columns = query.fours.as_ptr().add(g * LANES * GROUP).cast::<__m256i>();
                let columns = [
                    _mm256_loadu_si256(columns),
                    _mm256_loadu_si256(columns.add(1)),
                    _mm256_loadu_si256(columns.add(2)),
                    _mm256_loadu_si256(columns.add(3)),
                ];
                let terms = &query.terms[g];
                let scale = _mm256_broadcast_ps(&_mm_loadu_ps(terms.scale.as_ptr()));
                let offset = _mm256_broadcast_ps(&_mm_loadu_ps(terms.offset.as_ptr()));
                let reach = _mm256_broadcast_ps(&_mm_loadu_ps(terms.reach.as_ptr()));
                for two in 0..2 {
                    let first = upper.add(two * 2 * row + g * 64);
                    let a = four_blocks(first, columns);
                    let b = four_blocks(first.add(row), columns);
                    let whole = _mm256_permutevar8x32_epi32(_mm256_hadd_epi32(a, b), order);
                    let first = scales.add(two * 2 * scale_row + g * 8);
                    let d = _mm256_cvtph_ps(_mm_set_epi64x(
                        first.add(scale_row).cast::<i64>().read_unaligned(),
                        first.cast::<i64>().read_unaligned(),
                    ));
                    let joined = _mm256_mul_ps(d, scale);
                    sums[two] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), joined, sums[two]);
                    sums[two] = _mm256_fmadd_ps(offset, d, sums[two]);
                    reaches[two] = _mm256_fmadd_ps(reach, d, reaches[two]);
                }
            }
        }
        // Lanes of both halves: rows 0 and 2, then 1 and 3.
        let [sum, reach] = [sums, reaches].map(|[low, high]| {
            let pairs = _mm256_hadd_ps(low, high);
            let rows = _mm256_hadd_ps(pairs, pairs);
            _mm_unpacklo_ps(_mm256_castps256_ps128(rows), _mm256_extractf128_ps::<1>(rows))
        });
        let widths: [f32; ROWS] = core::array::from_fn(|r| f32::from(m.width(round * ROWS + r)));
        // SAFETY: four floats each.
        unsafe {
            let bound = _mm_fmadd_ps(_mm_loadu_ps(widths.as_ptr()), reach, sum);
            _mm_storeu_ps(out.as_mut_ptr(), _mm_add_ps(bound, _mm_set1_ps(ABSOLUTE)));
        }
    }
}

/// Sums of four blocks of a row, in pairs of lanes: blocks 0 and 2 in the lower half, 1 and 3 in
/// the upper.
///
/// # Safety
/// 64 bytes are there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn four_blocks(upper: *const u8, columns: [__m256i; 4]) -> __m256i {
    // SAFETY: the caller's.
    let (a, b) = unsafe {
        (_mm256_loadu_si256(upper.cast()), _mm256_loadu_si256(upper.cast::<__m256i>().add(1)))
    };
    let a = pairs_of_blocks(a, columns[0], columns[2]);
    let b = pairs_of_blocks(b, columns[1], columns[3]);
    let pairs = _mm256_hadd_epi16(a, b);
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// Sums of four columns for two blocks of a row: eight lanes each.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs_of_blocks(codes: __m256i, first: __m256i, last: __m256i) -> __m256i {
    let nibbles = _mm256_set1_epi8(15);
    let low = _mm256_and_si256(codes, nibbles);
    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibbles);
    _mm256_add_epi16(_mm256_maddubs_epi16(low, first), _mm256_maddubs_epi16(high, last))
}

/// The products of the rows that `rows` names, as `int8` defines them: four blocks' sums side by
/// side, then one multiply-add after the other.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn exact(m: Split<'_>, query: &Query<'_>, rows: &[u32], out: &mut [f32]) {
    let groups = m.cols() / (LANES * GROUP);
    let scales = &query.x.scales;
    assert!(
        rows.len() == out.len() && query.fours.len() == m.cols() && scales.len() == groups * LANES
    );
    for (r, out) in rows.iter().zip(out) {
        let r = *r as usize;
        let (upper, lower, d) = (m.upper(r), m.lower(r), m.scales(r));
        let mut acc = 0f32;
        for g in 0..groups {
            let (mut sums, mut joined) = ([0f32; LANES], [0f32; LANES]);
            // SAFETY: four blocks of the row, of its scales and of the token are there: slices of
            // the row have its length, and the query's were checked.
            unsafe {
                let columns = query.fours.as_ptr().add(g * LANES * GROUP).cast::<__m256i>();
                let [upper, lower] =
                    [upper, lower].map(|half| half.as_ptr().add(g * 64).cast::<__m256i>());
                let [a, b] = [0, 1].map(|two| {
                    let halves =
                        [_mm256_loadu_si256(upper.add(two)), _mm256_loadu_si256(lower.add(two))];
                    two_blocks(
                        halves,
                        [
                            _mm256_loadu_si256(columns.add(two)),
                            _mm256_loadu_si256(columns.add(two + 2)),
                        ],
                    )
                });
                let fours = _mm256_hadd_epi32(a, b);
                let twos = _mm256_hadd_epi32(fours, fours);
                let whole = _mm_unpacklo_epi32(
                    _mm256_castsi256_si128(twos),
                    _mm256_extracti128_si256::<1>(twos),
                );
                let d = _mm_cvtph_ps(_mm_loadl_epi64(d.as_ptr().add(g * LANES * 2).cast()));
                _mm_storeu_ps(sums.as_mut_ptr(), _mm_cvtepi32_ps(whole));
                _mm_storeu_ps(
                    joined.as_mut_ptr(),
                    _mm_mul_ps(d, _mm_loadu_ps(scales.as_ptr().add(g * LANES))),
                );
            }
            for (sum, joined) in sums.iter().zip(joined) {
                acc = sum.mul_add(joined, acc);
            }
        }
        *out = acc;
    }
}

/// Sums of two blocks of a row, in four lanes each. Two products share 16 bits, at most 2 × 128 ×
/// 127.
#[inline]
#[target_feature(enable = "avx2")]
fn two_blocks([upper, lower]: [__m256i; 2], [first, last]: [__m256i; 2]) -> __m256i {
    let (nibbles, signs) = (_mm256_set1_epi8(15), _mm256_set1_epi8(-128));
    let shifted = _mm256_andnot_si256(nibbles, _mm256_slli_epi16::<4>(upper));
    let firsts =
        _mm256_xor_si256(_mm256_or_si256(shifted, _mm256_and_si256(nibbles, lower)), signs);
    let shifted = _mm256_and_si256(nibbles, _mm256_srli_epi16::<4>(lower));
    let lasts =
        _mm256_xor_si256(_mm256_or_si256(_mm256_andnot_si256(nibbles, upper), shifted), signs);
    let products = |codes, columns| {
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(columns, codes));
        _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
    };
    _mm256_add_epi32(products(firsts, first), products(lasts, last))
}

/// Blocks of Q8_0 from their halves and scales. The codes of a block fill a register: its first 16
/// lie in the low nibbles of both halves, its last 16 in the high ones.
///
/// # Safety
/// The CPU has AVX2; there are halves and a scale for each block.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn join(
    halves: [&[[u8; GROUP / 2]]; 2],
    scales: &[[u8; 2]],
    blocks: &mut [[u8; BLOCK_BYTES]],
) {
    let (nibbles, signs) = (_mm_set1_epi8(15), _mm_set1_epi8(-128));
    for (b, block) in blocks.iter_mut().enumerate() {
        // SAFETY: 16 bytes of each half and two of scales are read, by the caller's promise, and a
        // block is written.
        unsafe {
            let upper = _mm_loadu_si128(halves[0].as_ptr().add(b).cast());
            let lower = _mm_loadu_si128(halves[1].as_ptr().add(b).cast());
            let first = _mm_or_si128(
                _mm_slli_epi16::<4>(_mm_and_si128(upper, nibbles)),
                _mm_and_si128(lower, nibbles),
            );
            let last = _mm_or_si128(
                _mm_andnot_si128(nibbles, upper),
                _mm_and_si128(_mm_srli_epi16::<4>(lower), nibbles),
            );
            let to = block.as_mut_ptr();
            to.cast::<[u8; 2]>().write(*scales.get_unchecked(b));
            _mm_storeu_si128(to.add(2).cast(), _mm_xor_si128(first, signs));
            _mm_storeu_si128(to.add(2 + GROUP / 2).cast(), _mm_xor_si128(last, signs));
        }
    }
}
