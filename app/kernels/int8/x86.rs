//! int8 products for x86-64. Bytes of 16 rows lie interleaved in a panel, four columns of a row side by side, so that the lanes of
//! a register are rows: four columns of a token are broadcast against them, and nothing is summed across.
//!
//! - AVX-512 with VNNI: weights are kept 128 too large, as the unsigned bytes that `vpdpbusd` wants; what that adds is taken off
//!   from the start (the activations' `offsets`).
//! - AVX2: `vpmaddubsw` wants an unsigned side too, and saturates. Q8_0: magnitudes of weights times activations with the
//!   weights' signs (at most 2 × 128 × 127 in 16 bits, which fits), widened at once. Q4_0: nibbles as they are, 0..=15, whose
//!   products with 32 columns fit 16 bits (8 × 2 × 15 × 127), widened once a block.

use core::arch::x86_64::*;

use super::{Panel, Tokens};
use crate::kernels::format::unpack_block;
use crate::kernels::{Format, GROUP};

/// Rows of a panel.
const ROWS: usize = 16;
/// Tokens of a tile.
const TOKENS: usize = 4;
/// How far ahead of a row's block memory is asked for: the rows of a matrix lie one behind the other, so this is the same place
/// of rows to come. A hint, harmless past the end.
const AHEAD: usize = 8 << 10;

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
                    let mut s = [_mm256_setzero_si256(); 8];
                    let mut halves = [0u16; 8];
                    for r in 0..8 {
                        let block = block.add(r * row);
                        _mm_prefetch::<_MM_HINT_T0>(block.add(AHEAD).cast());
                        s[r] = $dot($load(block.add(2)), columns);
                        halves[r] = block.cast::<u16>().read_unaligned();
                    }
                    let scales = _mm256_cvtph_ps(_mm_loadu_si128(halves.as_ptr().cast()));
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

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
    unsafe fn pack(format: Format, rows: &[u8], panel: &mut [Block]) {
        Block::pack(format, rows, panel, 128);
    }

    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn tile(_: Format, panel: &[Block], x: Tokens<'_>, y: *mut f32, stride: usize) {
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

/// AVX2 with FMA and F16C.
pub(super) struct Avx2;

/// Products of bytes in pairs of 16 bits: magnitudes of `w`, its signs put on `x`.
#[inline]
#[target_feature(enable = "avx2")]
fn signed_pairs(w: __m256i, x: __m256i) -> __m256i {
    _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
}

/// 32 nibbles as bytes: the low ones, then the high ones.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibbles(bytes: *const u8) -> __m256i {
    // SAFETY: the caller's 16 bytes.
    let both = unsafe { _mm_loadu_si128(bytes.cast()) };
    _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), _mm256_set1_epi8(15))
}

impl Panel for Avx2 {
    const ROWS: usize = ROWS;
    const TOKENS: usize = TOKENS;
    type Block = Block;
    const ZERO: Block = Block::ZERO;

    #[target_feature(enable = "avx2")]
    unsafe fn pack(format: Format, rows: &[u8], panel: &mut [Block]) {
        Block::pack(format, rows, panel, if format == Format::Q4_0 { 8 } else { 0 });
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile(format: Format, panel: &[Block], x: Tokens<'_>, y: *mut f32, stride: usize) {
        // SAFETY: as the caller's.
        unsafe {
            match format {
                Format::Q4_0 => avx2_tile::<true>(panel, x, y, stride),
                _ => avx2_tile::<false>(panel, x, y, stride),
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn single(format: Format, rows: &[u8], x: Tokens<'_>, y: *mut f32) {
        match format {
            Format::Q4_0 => single!(18, rows, x, y, nibbles, sum_of_nibbles, Some(4)),
            _ => single!(34, rows, x, y, as_they_are, sum_of_signed, None::<u32>),
        }
    }
}

/// 32 codes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn as_they_are(bytes: *const u8) -> __m256i {
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

/// A tile of 16 rows and four tokens, columns four by four: two registers of rows, eight sums.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_tile<const SMALL: bool>(panel: &[Block], x: Tokens<'_>, y: *mut f32, stride: usize) {
    let x = pointers(x, panel.len());
    let ones = _mm256_set1_epi16(1);
    let mut acc = [[_mm256_setzero_ps(); 2]; TOKENS];
    for (b, block) in panel.iter().enumerate() {
        // SAFETY: a block is aligned to 64 bytes; block `b` of every token is there (`pointers`).
        unsafe {
            let mut sums = [[_mm256_setzero_si256(); 2]; TOKENS];
            for i in 0..GROUP / 4 {
                let codes = block.codes[i].as_ptr().cast::<__m256i>();
                let w = [_mm256_load_si256(codes), _mm256_load_si256(codes.add(1))];
                for t in 0..TOKENS {
                    let columns = x[t].0.add(b * GROUP).cast::<i32>();
                    let columns = _mm256_set1_epi32(columns.add(i).read_unaligned());
                    for h in 0..2 {
                        sums[t][h] = if SMALL {
                            _mm256_add_epi16(sums[t][h], _mm256_maddubs_epi16(w[h], columns))
                        } else {
                            _mm256_add_epi32(sums[t][h], _mm256_madd_epi16(signed_pairs(w[h], columns), ones))
                        };
                    }
                }
            }
            for t in 0..TOKENS {
                for h in 0..2 {
                    let mut sum = sums[t][h];
                    if SMALL {
                        let offset = _mm256_set1_epi32(*x[t].2.add(b) >> 4);
                        sum = _mm256_add_epi32(_mm256_madd_epi16(sum, ones), offset);
                    }
                    let scales = _mm256_load_ps(block.scales.as_ptr().add(h * 8));
                    let scale = _mm256_mul_ps(scales, _mm256_set1_ps(*x[t].1.add(b)));
                    acc[t][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, acc[t][h]);
                }
            }
        }
    }
    for (t, halves) in acc.into_iter().enumerate() {
        for (h, half) in halves.into_iter().enumerate() {
            // SAFETY: the caller promises the room.
            unsafe { _mm256_storeu_ps(y.add(t * stride + h * 8), half) }
        }
    }
}
