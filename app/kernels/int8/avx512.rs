//! int8 products for AVX-512 with VNNI: prompts times Q8_0, where it was found faster than AVX2, whose loops do the rest.
//!
//! Bytes of 16 rows lie interleaved in a panel, four columns of a row side by side, so that the lanes of a register are rows: four
//! columns of a token are broadcast against them, and nothing is summed across. Weights are kept 128 too large there, as the unsigned
//! bytes that `vpdpbusd` wants; what that adds is taken off from the start (the activations' `offsets`).

use core::arch::x86_64::*;

use super::single::single;
use super::{Panel, Tokens};
use crate::kernels::terms::{MAX_TERMS, unpack_group};
use crate::kernels::{Format, GROUP};

/// Rows of a panel.
const ROWS: usize = 16;
/// Tokens of a tile.
const TOKENS: usize = 4;

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
    fn pack(format: Format, rows: &[u8], panel: &mut [Block]) {
        let (_, unit) = format.unit();
        for (r, row) in rows.chunks_exact(rows.len() / ROWS).enumerate() {
            for (block, bytes) in panel.iter_mut().zip(row.chunks_exact(unit)) {
                let mut codes = [0i8; GROUP];
                block.scales[r] = unpack_block(format, bytes, &mut codes);
                for (to, from) in block.codes.iter_mut().zip(codes.as_chunks::<4>().0) {
                    to[r] = from.map(|code| (code as u8).wrapping_add(128));
                }
            }
        }
    }
}

/// Splits a block into its codes and its scale.
#[inline(always)]
fn unpack_block(format: Format, block: &[u8], codes: &mut [i8; GROUP]) -> f32 {
    let mut terms = [[0; GROUP]; MAX_TERMS];
    let [scale, _] = unpack_group(format, block, 0, &mut terms);
    for (code, whole) in codes.iter_mut().zip(terms[0]) {
        *code = whole as i8;
    }
    scale
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
    fn takes(format: Format) -> bool {
        format == Format::Q8_0
    }

    const ROWS: usize = ROWS;
    const TOKENS: usize = TOKENS;
    type Block = Block;
    const ZERO: Block = Block::ZERO;
    type Columns = ();
    const NO_COLUMNS: () = ();

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
    unsafe fn pack(format: Format, rows: &[u8], panel: &mut [Block]) {
        Block::pack(format, rows, panel);
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

    unsafe fn single(format: Format, rows: &[u8], x: Tokens<'_>, y: *mut f32) {
        // SAFETY: the caller's; a CPU with AVX-512 has AVX2, FMA and F16C.
        unsafe { single(format, rows, x, y) }
    }
}
