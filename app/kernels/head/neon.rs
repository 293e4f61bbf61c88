//! The first pass for ARMv8.0-A, four rows and four blocks at a time, in assembly for an in-order
//! core (see `int8/neon`). Products of 32 columns fit 16 bits in eight lanes and in the pairs of
//! those (4 × 4 × 2 × 15 × 127 at most, one halving before the end), so four blocks of a row come
//! to lie side by side by three pairwise adds and one that widens.
//!
//! Registers: v0–v7 upper halves of a row, v8–v11 sums of four rows, v12–v15 their reaches, v16–v23
//! activations, v24–v27 sums of a row's blocks, v28–v30 terms, v31 a nibble's bits.

use core::arch::aarch64::*;
use core::arch::asm;

use super::{ABSOLUTE, BLOCK_BYTES, GROUP, LANES, QuantizedRows, Query, Split};

/// Rows of a round.
const ROWS: usize = 4;

/// Four blocks of a row: where its upper halves and its scales are, and what they add to.
macro_rules! row {
    ($upper:literal, $scales:literal, $sum:literal, $reach:literal) => {
        concat!(
            "ld1 {{v0.16b, v1.16b, v2.16b, v3.16b}}, [{",
            $upper,
            "}], #64\n",
            "ushr v4.16b, v0.16b, #4\n",
            "ushr v5.16b, v1.16b, #4\n",
            "ushr v6.16b, v2.16b, #4\n",
            "ushr v7.16b, v3.16b, #4\n",
            "and v0.16b, v0.16b, v31.16b\n",
            "and v1.16b, v1.16b, v31.16b\n",
            "and v2.16b, v2.16b, v31.16b\n",
            "and v3.16b, v3.16b, v31.16b\n",
            "smull v24.8h, v4.8b, v17.8b\n",
            "smull v25.8h, v5.8b, v19.8b\n",
            "smull v26.8h, v6.8b, v21.8b\n",
            "smull v27.8h, v7.8b, v23.8b\n",
            "smlal2 v24.8h, v4.16b, v17.16b\n",
            "smlal2 v25.8h, v5.16b, v19.16b\n",
            "smlal2 v26.8h, v6.16b, v21.16b\n",
            "smlal2 v27.8h, v7.16b, v23.16b\n",
            "ldr d4, [{",
            $scales,
            "}], #8\n",
            "smlal v24.8h, v0.8b, v16.8b\n",
            "smlal v25.8h, v1.8b, v18.8b\n",
            "smlal v26.8h, v2.8b, v20.8b\n",
            "smlal v27.8h, v3.8b, v22.8b\n",
            "fcvtl v4.4s, v4.4h\n",
            "smlal2 v24.8h, v0.16b, v16.16b\n",
            "smlal2 v25.8h, v1.16b, v18.16b\n",
            "smlal2 v26.8h, v2.16b, v20.16b\n",
            "smlal2 v27.8h, v3.16b, v22.16b\n",
            "fmul v5.4s, v4.4s, v28.4s\n",
            "addp v24.8h, v24.8h, v25.8h\n",
            "addp v26.8h, v26.8h, v27.8h\n",
            "fmla v",
            $reach,
            ".4s, v30.4s, v4.4s\n",
            "addp v24.8h, v24.8h, v26.8h\n",
            "saddlp v24.4s, v24.8h\n",
            "scvtf v24.4s, v24.4s\n",
            "fmla v",
            $sum,
            ".4s, v24.4s, v5.4s\n",
            "fmla v",
            $sum,
            ".4s, v29.4s, v4.4s\n",
        )
    };
}

/// The bounds of rows, a multiple of four.
///
/// # Safety
/// There are as many results as rows, and the query is of the matrix's columns.
pub(super) unsafe fn bounds(m: Split<'_>, query: &Query<'_>, out: &mut [f32]) {
    let groups = m.cols() / (LANES * GROUP);
    let (row, scale_row) = (m.cols() / 2, m.cols() / GROUP * 2);
    assert!(
        m.rows() == out.len()
            && out.len().is_multiple_of(ROWS)
            && groups > 0
            && query.terms.len() == groups
    );
    assert!(query.x.codes.len() >= m.cols());
    assert!(m.all_upper().len() == m.rows() * row && m.all_scales().len() == m.rows() * scale_row);
    for (round, out) in out.chunks_exact_mut(ROWS).enumerate() {
        let mut lanes = [[0f32; LANES]; 2];
        // SAFETY: reads `groups` groups of four rows, of their scales and of the query, all there
        // by the assertions, and writes eight floats.
        unsafe {
            let upper = m.all_upper().as_ptr().add(round * ROWS * row);
            let scales = m.all_scales().as_ptr().add(round * ROWS * scale_row);
            asm!(
                "movi v31.16b, #15",
                "movi v8.4s, #0", "movi v9.4s, #0", "movi v10.4s, #0", "movi v11.4s, #0",
                "movi v12.4s, #0", "movi v13.4s, #0", "movi v14.4s, #0", "movi v15.4s, #0",
                "2:",
                "ld1 {{v16.16b, v17.16b, v18.16b, v19.16b}}, [{x}], #64",
                "ld1 {{v20.16b, v21.16b, v22.16b, v23.16b}}, [{x}], #64",
                "ld1 {{v28.4s, v29.4s, v30.4s}}, [{t}], #48",
                row!("u0", "s0", "8", "12"),
                row!("u1", "s1", "9", "13"),
                row!("u2", "s2", "10", "14"),
                row!("u3", "s3", "11", "15"),
                "subs {n}, {n}, #1",
                "b.ne 2b",
                // Lanes (0 + 1) and (2 + 3) of rows 0 and 1, of 2 and 3; then rows.
                "faddp v8.4s, v8.4s, v9.4s",
                "faddp v10.4s, v10.4s, v11.4s",
                "faddp v12.4s, v12.4s, v13.4s",
                "faddp v14.4s, v14.4s, v15.4s",
                "faddp v8.4s, v8.4s, v10.4s",
                "faddp v12.4s, v12.4s, v14.4s",
                "str q8, [{y}]",
                "str q12, [{y}, #16]",
                u0 = inout(reg) upper => _, u1 = inout(reg) upper.add(row) => _,
                u2 = inout(reg) upper.add(2 * row) => _, u3 = inout(reg) upper.add(3 * row) => _,
                s0 = inout(reg) scales => _, s1 = inout(reg) scales.add(scale_row) => _,
                s2 = inout(reg) scales.add(2 * scale_row) => _, s3 = inout(reg) scales.add(3 * scale_row) => _,
                x = inout(reg) query.x.codes.as_ptr() => _, t = inout(reg) query.terms.as_ptr() => _,
                n = inout(reg) groups => _, y = in(reg) lanes.as_mut_ptr(),
                out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _, out("v15") _,
                out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                options(nostack),
            );
        }
        let [sums, reaches] = lanes;
        for (r, out) in out.iter_mut().enumerate() {
            *out = f32::from(m.width(round * ROWS + r)).mul_add(reaches[r], sums[r]) + ABSOLUTE;
        }
    }
}

/// The products of the rows that `rows` names, as `int8` defines them: four blocks' sums side by
/// side, then one multiply-add after the other.
///
/// # Safety
/// The rows are the matrix's, as many as there are results, and `x` is a token of its columns.
pub(super) unsafe fn exact(m: Split<'_>, x: &QuantizedRows, rows: &[u32], out: &mut [f32]) {
    let groups = m.cols() / (LANES * GROUP);
    assert!(
        rows.len() == out.len() && x.codes.len() >= m.cols() && x.scales.len() >= groups * LANES
    );
    for (r, out) in rows.iter().zip(out) {
        let r = *r as usize;
        let (upper, lower, scales) = (m.upper(r), m.lower(r), m.scales(r));
        let mut acc = 0f32;
        for g in 0..groups {
            // SAFETY: four blocks of the row, of its scales and of the token are there: slices of
            // the row have its length.
            let (sums, joined) = unsafe {
                let sums: [int32x4_t; LANES] = core::array::from_fn(|b| {
                    let at = g * LANES + b;
                    let halves =
                        [upper, lower].map(|half| vld1q_u8(half.as_ptr().add(at * GROUP / 2)));
                    block(halves, x.codes.as_ptr().add(at * GROUP))
                });
                let whole = vpaddq_s32(vpaddq_s32(sums[0], sums[1]), vpaddq_s32(sums[2], sums[3]));
                let d: float32x4_t;
                let halves = vld1_u16(scales.as_ptr().add(g * LANES * 2).cast());
                asm!("fcvtl {d:v}.4s, {halves:v}.4h", d = out(vreg) d, halves = in(vreg) halves, options(pure, nomem, nostack));
                let mut out = [[0f32; LANES]; 2];
                vst1q_f32(out[0].as_mut_ptr(), vcvtq_f32_s32(whole));
                vst1q_f32(
                    out[1].as_mut_ptr(),
                    vmulq_f32(d, vld1q_f32(x.scales.as_ptr().add(g * LANES))),
                );
                (out[0], out[1])
            };
            for (sum, scale) in sums.iter().zip(joined) {
                acc = sum.mul_add(scale, acc);
            }
        }
        *out = acc;
    }
}

/// The codes of a block, first and last 16.
#[inline(always)]
fn whole_codes(upper: uint8x16_t, lower: uint8x16_t) -> [int8x16_t; 2] {
    // SAFETY: registers only; every aarch64 has NEON.
    unsafe {
        let signs = vdupq_n_u8(0x80);
        let codes = [vsliq_n_u8::<4>(lower, upper), vsriq_n_u8::<4>(upper, lower)];
        codes.map(|codes| vreinterpretq_s8_u8(veorq_u8(codes, signs)))
    }
}

/// The sums of a block, in four lanes. Two products share 16 bits, at most 2 × 128 × 127.
///
/// # Safety
/// 32 activations are there.
#[inline(always)]
unsafe fn block([upper, lower]: [uint8x16_t; 2], codes: *const i8) -> int32x4_t {
    // SAFETY: the caller's.
    unsafe {
        let [first, last] = whole_codes(upper, lower);
        let [a, b] = [vld1q_s8(codes), vld1q_s8(codes.add(GROUP / 2))];
        let firsts = vmlal_high_s8(vmull_s8(vget_low_s8(first), vget_low_s8(a)), first, a);
        let lasts = vmlal_high_s8(vmull_s8(vget_low_s8(last), vget_low_s8(b)), last, b);
        vpadalq_s16(vpaddlq_s16(firsts), lasts)
    }
}

/// Blocks of Q8_0 from their halves and scales.
///
/// # Safety
/// There are halves and a scale for each block.
pub(super) unsafe fn join(
    halves: [&[[u8; GROUP / 2]]; 2],
    scales: &[[u8; 2]],
    blocks: &mut [[u8; BLOCK_BYTES]],
) {
    for (b, block) in blocks.iter_mut().enumerate() {
        // SAFETY: 16 bytes of each half and two of scales are read, by the caller's promise, and a
        // block is written.
        unsafe {
            let upper = vld1q_u8(halves[0].as_ptr().add(b).cast());
            let lower = vld1q_u8(halves[1].as_ptr().add(b).cast());
            let to = block.as_mut_ptr();
            to.cast::<[u8; 2]>().write(*scales.get_unchecked(b));
            for (at, codes) in whole_codes(upper, lower).into_iter().enumerate() {
                vst1q_s8(to.add(2 + at * GROUP / 2).cast(), codes);
            }
        }
    }
}
