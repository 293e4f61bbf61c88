//! int8 products for AVX-512 with VNNI, 16 rows and four tokens at a time.
//!
//! A panel interleaves the bytes of 16 rows, four columns of a row side by side, so that the lanes
//! of a register are rows: four columns of a token are broadcast to them, and there are no sums
//! across lanes. `vpdpbusd` needs unsigned weights. Codes that a format stores unsigned are used as
//! they are, signed ones 128 too large; the initial value of the sums subtracts the excess (the
//! activations' `offsets`). Scales of 16 columns are multiplied into the sums of their columns.
//!
//! One token is multiplied by AVX2's loop: it waits for memory, and wider registers were slower.

use core::arch::x86_64::*;

use super::layout::{Layout, Line, SIDE, offset, scale, with_layout};
use super::single::single;
use super::{Ahead, Panel, Tokens};
use crate::kernels::{Format, GROUP};

/// Rows of a panel.
const ROWS: usize = 16;
/// Tokens of a tile.
const TOKENS: usize = 4;

/// Lines of a block of 32 columns in a panel: four columns of each row in a line, the scales, then
/// the offsets or the integer scales of the two halves, if there are any.
const CODES: usize = GROUP / 4;
const SCALES: usize = CODES;
const MORE: usize = SCALES + 1;

const fn lines_of<L: Layout>() -> usize {
    MORE + if L::HALVES { 2 } else { L::OFFSET as usize }
}

/// Initial values of the sums of 16 columns, four tokens side by side: one block of a tile, for
/// formats with scales of 16 columns.
type Halves = [[i32; TOKENS]; 2];

/// AVX-512 F, BW, VL and VNNI.
pub(super) struct Avx512;

impl Panel for Avx512 {
    fn takes(format: Format) -> bool {
        with_layout!(format, L => L::FORMAT == format, _ => false)
    }

    const ROWS: usize = ROWS;
    const TOKENS: usize = TOKENS;
    const PADS_FROM: usize = 2;
    type Block = Line;
    const ZERO: Line = Line([0; 64]);
    type Columns = Halves;
    const NO_COLUMNS: Halves = [[0; TOKENS]; 2];

    fn lines(format: Format) -> (usize, usize) {
        with_layout!(format, L => (lines_of::<L>(), usize::from(L::HALVES)), _ => (1, 0))
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw")]
    unsafe fn pack(format: Format, rows: &[u8], ahead: Ahead<'_>, panel: &mut [Line]) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            with_layout!(format, L => pack::<L>(rows, ahead, panel), _ => unreachable!("{format:?} has no layout"))
        }
    }

    fn gather(_: Format, x: Tokens<'_>, tile: &mut [Halves]) {
        for (b, halves) in tile.iter_mut().enumerate() {
            for t in 0..TOKENS {
                let codes = &x.codes[t * x.cols + b * GROUP..][..GROUP];
                for (half, codes) in halves.iter_mut().zip(codes.chunks_exact(GROUP / 2)) {
                    half[t] = -128 * codes.iter().map(|&code| i32::from(code)).sum::<i32>();
                }
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn tile(
        format: Format,
        panel: &[Line],
        x: Tokens<'_>,
        tile: &[Halves],
        ahead: Ahead<'_>,
        y: *mut f32,
        stride: usize,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            with_layout!(
                format,
                L => multiply::<L>(panel, x, tile, ahead, y, stride),
                _ => unreachable!("{format:?} has no layout")
            )
        }
    }

    unsafe fn single(format: Format, rows: &[u8], x: Tokens<'_>, y: *mut f32) {
        // SAFETY: guaranteed by the caller; a CPU with AVX-512 has AVX2, FMA and F16C.
        unsafe { single(format, rows, x, y) }
    }
}

/// Cache lines of each part to prefetch in each of `steps` steps.
#[inline(always)]
fn per_step(ahead: Ahead<'_>, steps: usize) -> [usize; 2] {
    ahead.map(|part| part.len().div_ceil(64).div_ceil(steps.max(1)))
}

/// Prefetches what falls to step `step`. A few lines at a time, in address order: many at once wait
/// for one another, and hold up the calculation that they should run beside.
#[inline(always)]
fn prefetch(ahead: Ahead<'_>, step: usize, per: [usize; 2]) {
    for (part, per) in ahead.iter().zip(per) {
        for line in step * per..(step + 1) * per {
            // SAFETY: a hint, which reads nothing, and is harmless past the end.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(part.as_ptr().wrapping_add(line * 64).cast()) }
        }
    }
}

/// Interleaves 16 rows. For Q8_0 this takes about as long as reading them from memory; it must be
/// this fast, because a few tokens may have to bear its cost alone.
///
/// # Safety
/// As for [`Panel::pack`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw")]
unsafe fn pack<L: Layout>(rows: &[u8], ahead: Ahead<'_>, panel: &mut [Line]) {
    let row = rows.len() / ROWS;
    assert!(rows.len() == ROWS * row && row.is_multiple_of(L::UNIT));
    assert_eq!(row / L::UNIT * L::GROUPS * lines_of::<L>(), panel.len());
    let per = per_step(ahead, row / L::UNIT);
    let blocks = panel.chunks_exact_mut(L::GROUPS * lines_of::<L>());
    for (u, blocks) in blocks.enumerate() {
        // SAFETY: unit `u` of 16 rows exists, and a block of the panel has the lines that are
        // written, each aligned to 64 bytes.
        unsafe {
            let upper = rows.as_ptr().add(u * L::UNIT);
            let lower = upper.add(SIDE * row);
            prefetch(ahead, u, per);
            let (upper_scales, lower_scales) = (L::scales(upper, row), L::scales(lower, row));
            for (g, block) in blocks.chunks_exact_mut(lines_of::<L>()).enumerate() {
                let to = block.as_mut_ptr().cast::<__m512i>();
                let floats = to.add(SCALES).cast::<__m256>();
                floats.write(scale::<L>(&upper_scales, g));
                floats.add(1).write(scale::<L>(&lower_scales, g));
                if L::OFFSET {
                    floats.add(2).write(offset::<L>(&upper_scales, g));
                    floats.add(3).write(offset::<L>(&lower_scales, g));
                }
                write_codes::<L>([upper, lower], row, g, to);
                if L::HALVES {
                    let halves = to.add(MORE).cast::<i32>();
                    for r in 0..SIDE {
                        for (at, unit) in [(r, upper), (r + SIDE, lower)] {
                            let [first, second] = L::halves(unit.add(r * row), g);
                            halves.add(at).write(i32::from(first));
                            halves.add(ROWS + at).write(i32::from(second));
                        }
                    }
                }
            }
        }
    }
}

/// Writes the codes of a group of 16 rows, the eight starting at each of `units`, four columns of
/// each row at a time.
///
/// # Safety
/// The units and the room exist.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
unsafe fn write_codes<L: Layout>(units: [*const u8; 2], row: usize, g: usize, to: *mut __m512i) {
    let first = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    let second = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
    // Row r beside row r + 8. (Loops, because what a closure is passed to is not compiled with the
    // target features.)
    let mut rows = [_mm512_setzero_si512(); SIDE];
    for (r, pair) in rows.iter_mut().enumerate() {
        // SAFETY: guaranteed by the caller.
        let (upper, lower) =
            unsafe { (L::codes(units[0].add(r * row), g), L::codes(units[1].add(r * row), g)) };
        *pair = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(upper), lower);
        if !L::UNSIGNED {
            *pair = _mm512_xor_si512(*pair, _mm512_set1_epi8(i8::MIN));
        }
    }
    // Brings columns together, first of two rows, then of four, and then joins those of the other
    // four rows.
    let mut fours = [[_mm512_setzero_si512(); 4]; 2];
    for (rows, fours) in rows.chunks_exact(4).zip(&mut fours) {
        let (a, b) =
            (_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[0], rows[1]));
        let (c, d) =
            (_mm512_unpacklo_epi32(rows[2], rows[3]), _mm512_unpackhi_epi32(rows[2], rows[3]));
        (fours[0], fours[1]) = (_mm512_unpacklo_epi64(a, c), _mm512_unpackhi_epi64(a, c));
        (fours[2], fours[3]) = (_mm512_unpacklo_epi64(b, d), _mm512_unpackhi_epi64(b, d));
    }
    let [upper, lower] = fours;
    for (c, (upper, lower)) in upper.into_iter().zip(lower).enumerate() {
        // SAFETY: the caller guarantees the room.
        unsafe {
            to.add(c).write(_mm512_permutex2var_epi64(upper, first, lower));
            to.add(c + 4).write(_mm512_permutex2var_epi64(upper, second, lower));
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

/// The products of a tile.
///
/// # Safety
/// As for [`Panel::tile`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn multiply<L: Layout>(
    panel: &[Line],
    x: Tokens<'_>,
    tile: &[Halves],
    ahead: Ahead<'_>,
    y: *mut f32,
    stride: usize,
) {
    let n = panel.len() / lines_of::<L>();
    assert!(tile.len() == if L::HALVES { n } else { 0 });
    let x = pointers(x, n);
    let per = per_step(ahead, n);
    let mut acc = [_mm512_setzero_ps(); TOKENS];
    for (b, block) in panel.chunks_exact(lines_of::<L>()).enumerate() {
        // SAFETY: a line is aligned to 64 bytes, a block has the lines that are read, and block `b`
        // of every token exists (`pointers`).
        unsafe {
            prefetch(ahead, b, per);
            let block = block.as_ptr().cast::<__m512i>();
            let mut w = [_mm512_setzero_si512(); CODES];
            for (i, w) in w.iter_mut().enumerate() {
                *w = block.add(i).read();
            }
            let scales = block.add(SCALES).cast::<__m512>().read();
            for t in 0..TOKENS {
                let (codes, scale, offset) = x[t];
                let columns = codes.add(b * GROUP).cast::<i32>();
                let offset = *offset.add(b);
                let mut sum = _mm512_set1_epi32(match L::EXCESS {
                    _ if L::HALVES => tile[b][0][t],
                    _ if !L::UNSIGNED => offset,
                    // `offset` is −128 × the sum of the codes, so the shift is exact.
                    excess => (offset >> 7) * excess,
                });
                for (i, w) in w.iter().enumerate().take(if L::HALVES { CODES / 2 } else { CODES }) {
                    let columns = _mm512_set1_epi32(columns.add(i).read_unaligned());
                    sum = _mm512_dpbusd_epi32(sum, *w, columns);
                }
                if L::HALVES {
                    let mut second = _mm512_set1_epi32(tile[b][1][t]);
                    for (i, w) in w.iter().enumerate().skip(CODES / 2) {
                        let columns = _mm512_set1_epi32(columns.add(i).read_unaligned());
                        second = _mm512_dpbusd_epi32(second, *w, columns);
                    }
                    sum = _mm512_add_epi32(
                        _mm512_mullo_epi32(sum, block.add(MORE).read()),
                        _mm512_mullo_epi32(second, block.add(MORE + 1).read()),
                    );
                }
                let factor = _mm512_set1_ps(*scale.add(b));
                let scale = _mm512_mul_ps(scales, factor);
                acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, acc[t]);
                if L::OFFSET {
                    let offsets = block.add(MORE).cast::<__m512>().read();
                    let sum = _mm512_set1_ps(-(offset >> 7) as f32);
                    acc[t] = _mm512_fmadd_ps(sum, _mm512_mul_ps(offsets, factor), acc[t]);
                }
            }
        }
    }
    for (t, acc) in acc.into_iter().enumerate() {
        // SAFETY: the caller guarantees the room.
        unsafe { _mm512_storeu_ps(y.add(t * stride), acc) }
    }
}
