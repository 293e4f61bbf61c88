//! int8 products for AVX-512 with VNNI: prompts times Q8_0, where it was faster than AVX2. The
//! loops of AVX2 do the rest.
//!
//! A panel interleaves the bytes of 16 rows, four columns of a row side by side, so that the lanes
//! of a register are rows: four columns of a token are broadcast to them, and there are no sums
//! across lanes. Weights are stored 128 too large, as the unsigned bytes that `vpdpbusd` needs; the
//! initial value of the sums subtracts the excess (the activations' `offsets`).

use core::arch::x86_64::*;

use super::single::single;
use super::{Panel, Tokens};
use crate::kernels::{Format, GROUP};

/// Rows of a panel.
const ROWS: usize = 16;
/// Tokens of a tile.
const TOKENS: usize = 4;

/// Bytes of 32 columns of Q8_0: an f16 scale and the codes.
const UNIT: usize = SCALE_BYTES + GROUP;
const SCALE_BYTES: usize = 2;

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

    /// Interleaves 16 rows of Q8_0. Takes about as long as reading them from memory; it must be
    /// this fast, because a few tokens may have to bear its cost alone.
    ///
    /// # Safety
    /// The CPU has AVX-512 F and BW.
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn pack(rows: &[u8], panel: &mut [Block]) {
        let row = rows.len() / ROWS;
        assert!(rows.len() == ROWS * row && panel.len() * UNIT <= row);
        let excess = _mm512_set1_epi8(i8::MIN);
        let first = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
        let second = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
        for (b, block) in panel.iter_mut().enumerate() {
            // SAFETY: block `b` of 16 rows exists, by the assertion: two bytes of scale and 32 of
            // codes are read from it. A block of the panel is aligned to 64 bytes.
            unsafe {
                let unit = rows.as_ptr().add(b * UNIT);
                // Prefetches the next panel line by line: sequential access is fastest. A hint,
                // harmless past the end.
                for line in 0..(ROWS * UNIT).div_ceil(64) {
                    let ahead =
                        rows.as_ptr().wrapping_add(rows.len() + b * ROWS * UNIT + line * 64);
                    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                }
                let mut scales = [0u16; ROWS];
                for (r, scale) in scales.iter_mut().enumerate() {
                    *scale = unit.add(r * row).cast::<u16>().read_unaligned();
                }
                _mm512_store_ps(
                    block.scales.as_mut_ptr(),
                    _mm512_cvtph_ps(_mm256_loadu_si256(scales.as_ptr().cast())),
                );
                // Row r beside row r + 8, eight times four columns each. (Loops, because a closure
                // would not be compiled with the target features.)
                let mut rows = [excess; 8];
                for (r, pair) in rows.iter_mut().enumerate() {
                    let low = _mm256_loadu_si256(unit.add(r * row + SCALE_BYTES).cast());
                    let high = _mm256_loadu_si256(unit.add((r + 8) * row + SCALE_BYTES).cast());
                    let both = _mm512_mask_broadcast_i64x4(_mm512_broadcast_i64x4(low), 0xf0, high);
                    *pair = _mm512_xor_si512(both, excess);
                }
                // Brings columns together, first of two rows, then of four, and then joins those of
                // the other four rows.
                let [mut upper, mut lower] = [[excess; 4]; 2];
                for (r, fours) in [(0, &mut upper), (4, &mut lower)] {
                    let (a, b) = (
                        _mm512_unpacklo_epi32(rows[r], rows[r + 1]),
                        _mm512_unpackhi_epi32(rows[r], rows[r + 1]),
                    );
                    let (c, d) = (
                        _mm512_unpacklo_epi32(rows[r + 2], rows[r + 3]),
                        _mm512_unpackhi_epi32(rows[r + 2], rows[r + 3]),
                    );
                    (fours[0], fours[1]) =
                        (_mm512_unpacklo_epi64(a, c), _mm512_unpackhi_epi64(a, c));
                    (fours[2], fours[3]) =
                        (_mm512_unpacklo_epi64(b, d), _mm512_unpackhi_epi64(b, d));
                }
                for (c, (upper, lower)) in upper.into_iter().zip(lower).enumerate() {
                    let columns = &mut block.codes;
                    _mm512_store_si512(
                        columns[c].as_mut_ptr().cast(),
                        _mm512_permutex2var_epi64(upper, first, lower),
                    );
                    _mm512_store_si512(
                        columns[c + 4].as_mut_ptr().cast(),
                        _mm512_permutex2var_epi64(upper, second, lower),
                    );
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
        (
            codes.as_ptr(),
            x.scales[t * groups..][..blocks].as_ptr(),
            x.offsets[t * groups..][..blocks].as_ptr(),
        )
    })
}

/// AVX-512 F, BW, VL and VNNI.
pub(super) struct Avx512;

impl Panel for Avx512 {
    fn takes(format: Format) -> bool {
        format == Format::Q8_0
    }

    const ROWS: usize = ROWS;
    const TOKENS: usize = TOKENS;
    const PADS_FROM: usize = 2;
    type Block = Block;
    const ZERO: Block = Block::ZERO;
    type Columns = ();
    const NO_COLUMNS: () = ();

    unsafe fn pack(_: Format, rows: &[u8], panel: &mut [Block]) {
        // SAFETY: guaranteed by the caller.
        unsafe { Block::pack(rows, panel) }
    }

    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn tile(
        _: Format,
        panel: &[Block],
        x: Tokens<'_>,
        _: &[()],
        y: *mut f32,
        stride: usize,
    ) {
        let x = pointers(x, panel.len());
        let mut acc = [_mm512_setzero_ps(); TOKENS];
        for (b, block) in panel.iter().enumerate() {
            // SAFETY: a block is aligned to 64 bytes, and block `b` of every token exists
            // (`pointers`).
            unsafe {
                let mut w = [_mm512_setzero_si512(); GROUP / 4];
                for (w, codes) in w.iter_mut().zip(&block.codes) {
                    *w = _mm512_load_si512(codes.as_ptr().cast());
                }
                let scales = _mm512_load_ps(block.scales.as_ptr());
                for t in 0..TOKENS {
                    let (codes, scale, offset) = x[t];
                    let columns = codes.add(b * GROUP).cast::<i32>();
                    let mut sum = _mm512_set1_epi32(*offset.add(b));
                    for (i, w) in w.iter().enumerate() {
                        sum = _mm512_dpbusd_epi32(
                            sum,
                            *w,
                            _mm512_set1_epi32(columns.add(i).read_unaligned()),
                        );
                    }
                    let scale = _mm512_mul_ps(scales, _mm512_set1_ps(*scale.add(b)));
                    acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, acc[t]);
                }
            }
        }
        for (t, acc) in acc.into_iter().enumerate() {
            // SAFETY: the caller guarantees the room.
            unsafe { _mm512_storeu_ps(y.add(t * stride), acc) }
        }
    }

    unsafe fn single(format: Format, rows: &[u8], x: Tokens<'_>, y: *mut f32) {
        // SAFETY: guaranteed by the caller; a CPU with AVX-512 has AVX2, FMA and F16C.
        unsafe { single(format, rows, x, y) }
    }
}
