//! Decodes the most common formats: four mapped rows times one token, in assembly for an in-order
//! core (see `tile`). The last steps of a block are interleaved with the next block.
//!
//! Registers: v0–v7 weights of four rows, v8 their scales, v9 scales × activation scale, v10 and
//! v11 activations, v14 an activation scale, v15 scales as floats, v16–v27 sums, v28 results. A
//! loop that uses others names them.

use core::arch::asm;

use super::Tokens;
use crate::kernels::GROUP;

/// Four mapped rows of Q8_0 times one token.
///
/// # Safety
/// Four rows, a token and room for four results exist.
#[inline]
pub(super) unsafe fn q8_0(rows: *const u8, x: Tokens<'_>, y: *mut f32) {
    let blocks = x.cols / GROUP;
    let row = blocks * 34;
    // SAFETY: reads `blocks` blocks of codes and scales of each row, and writes four floats, as
    // `single` has checked.
    unsafe {
        asm!(
            "movi v8.4s, #0", "movi v9.4s, #0", "movi v28.4s, #0",
            "movi v24.4s, #0", "movi v25.4s, #0", "movi v26.4s, #0", "movi v27.4s, #0",
            "2:",
            "ldp q10, q11, [{x}], #32",
            "ld1 {{v8.h}}[0], [{w0}], #2",
            "ld1 {{v0.16b, v1.16b}}, [{w0}], #32",
            "addp v24.4s, v24.4s, v25.4s",
            "ld1 {{v8.h}}[1], [{w1}], #2",
            "ld1 {{v2.16b, v3.16b}}, [{w1}], #32",
            "addp v26.4s, v26.4s, v27.4s",
            "ld1 {{v8.h}}[2], [{w2}], #2",
            "ld1 {{v4.16b, v5.16b}}, [{w2}], #32",
            "ld1 {{v8.h}}[3], [{w3}], #2",
            "ld1 {{v6.16b, v7.16b}}, [{w3}], #32",
            "ldr s14, [{s}], #4",
            "smull v16.8h, v0.8b, v10.8b",
            "smull v20.8h, v1.8b, v11.8b",
            "smull v17.8h, v2.8b, v10.8b",
            "smull v21.8h, v3.8b, v11.8b",
            "addp v24.4s, v24.4s, v26.4s",
            "smull v18.8h, v4.8b, v10.8b",
            "smull v22.8h, v5.8b, v11.8b",
            "smull v19.8h, v6.8b, v10.8b",
            "smull v23.8h, v7.8b, v11.8b",
            "fcvtl v15.4s, v8.4h",
            "scvtf v29.4s, v24.4s",
            "smlal2 v16.8h, v0.16b, v10.16b",
            "smlal2 v20.8h, v1.16b, v11.16b",
            "smlal2 v17.8h, v2.16b, v10.16b",
            "smlal2 v21.8h, v3.16b, v11.16b",
            "smlal2 v18.8h, v4.16b, v10.16b",
            "smlal2 v22.8h, v5.16b, v11.16b",
            "fmla v28.4s, v29.4s, v9.4s",
            "smlal2 v19.8h, v6.16b, v10.16b",
            "smlal2 v23.8h, v7.16b, v11.16b",
            "saddlp v24.4s, v16.8h",
            "saddlp v25.4s, v17.8h",
            "saddlp v26.4s, v18.8h",
            "saddlp v27.4s, v19.8h",
            "subs {n}, {n}, #1",
            "fmul v9.4s, v15.4s, v14.s[0]",
            "sadalp v24.4s, v20.8h",
            "sadalp v25.4s, v21.8h",
            "sadalp v26.4s, v22.8h",
            "sadalp v27.4s, v23.8h",
            "b.ne 2b",
            "addp v24.4s, v24.4s, v25.4s",
            "addp v26.4s, v26.4s, v27.4s",
            "addp v24.4s, v24.4s, v26.4s",
            "scvtf v24.4s, v24.4s",
            "fmla v28.4s, v24.4s, v9.4s",
            "str q28, [{y}]",
            w0 = inout(reg) rows => _, w1 = inout(reg) rows.add(row) => _,
            w2 = inout(reg) rows.add(2 * row) => _, w3 = inout(reg) rows.add(3 * row) => _,
            x = inout(reg) x.codes.as_ptr() => _, s = inout(reg) x.scales.as_ptr() => _,
            n = inout(reg) blocks => _, y = in(reg) y,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v14") _, out("v15") _, out("v16") _, out("v17") _,
            out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _, out("v24") _, out("v25") _,
            out("v26") _, out("v27") _, out("v28") _, out("v29") _,
            options(nostack),
        );
    }
}

/// Four mapped rows of Q4_0 times one token. The nibbles are used as 0..=15, and 8 × the sum of the
/// block's activations (its offset / −16) is subtracted. This is exact: the products of a block
/// still fit 16 bits (32 × 15 × 127 over 8 lanes and two halvings of them).
///
/// # Safety
/// As for [`q8_0`].
#[inline]
pub(super) unsafe fn q4_0(rows: *const u8, x: Tokens<'_>, y: *mut f32) {
    let blocks = x.cols / GROUP;
    let row = blocks * 18;
    // SAFETY: as for [`q8_0`], and reads `blocks` offsets.
    unsafe {
        asm!(
            "movi v8.4s, #0", "movi v9.4s, #0", "movi v28.4s, #0", "movi v30.16b, #15", "movi v12.4s, #0",
            "movi v24.4s, #0", "movi v25.4s, #0", "movi v26.4s, #0", "movi v27.4s, #0",
            "2:",
            "ldp q10, q11, [{x}], #32",
            "ld1 {{v8.h}}[0], [{w0}], #2",
            "ld1 {{v1.16b}}, [{w0}], #16",
            "addp v24.8h, v24.8h, v25.8h",
            "ld1 {{v8.h}}[1], [{w1}], #2",
            "ld1 {{v3.16b}}, [{w1}], #16",
            "addp v26.8h, v26.8h, v27.8h",
            "ld1 {{v8.h}}[2], [{w2}], #2",
            "ld1 {{v5.16b}}, [{w2}], #16",
            "ld1 {{v8.h}}[3], [{w3}], #2",
            "ld1 {{v7.16b}}, [{w3}], #16",
            "ldr s14, [{s}], #4",
            "and v0.16b, v1.16b, v30.16b",
            "and v2.16b, v3.16b, v30.16b",
            "addp v29.8h, v24.8h, v26.8h",
            "and v4.16b, v5.16b, v30.16b",
            "and v6.16b, v7.16b, v30.16b",
            "ushr v1.16b, v1.16b, #4",
            "ushr v3.16b, v3.16b, #4",
            "ushr v5.16b, v5.16b, #4",
            "ushr v7.16b, v7.16b, #4",
            "saddlp v29.4s, v29.8h",
            "smull v24.8h, v0.8b, v10.8b",
            "smull v25.8h, v2.8b, v10.8b",
            "smull v26.8h, v4.8b, v10.8b",
            "smull v27.8h, v6.8b, v10.8b",
            "ssra v29.4s, v12.4s, #4",
            "smlal2 v24.8h, v0.16b, v10.16b",
            "smlal2 v25.8h, v2.16b, v10.16b",
            "smlal2 v26.8h, v4.16b, v10.16b",
            "smlal2 v27.8h, v6.16b, v10.16b",
            "ld1r {{v12.4s}}, [{sums}], #4",
            "scvtf v29.4s, v29.4s",
            "smlal v24.8h, v1.8b, v11.8b",
            "smlal v25.8h, v3.8b, v11.8b",
            "smlal v26.8h, v5.8b, v11.8b",
            "smlal v27.8h, v7.8b, v11.8b",
            "fcvtl v15.4s, v8.4h",
            "fmla v28.4s, v29.4s, v9.4s",
            "smlal2 v24.8h, v1.16b, v11.16b",
            "smlal2 v25.8h, v3.16b, v11.16b",
            "smlal2 v26.8h, v5.16b, v11.16b",
            "smlal2 v27.8h, v7.16b, v11.16b",
            "subs {n}, {n}, #1",
            "fmul v9.4s, v15.4s, v14.s[0]",
            "b.ne 2b",
            "addp v24.8h, v24.8h, v25.8h",
            "addp v26.8h, v26.8h, v27.8h",
            "addp v24.8h, v24.8h, v26.8h",
            "saddlp v24.4s, v24.8h",
            "ssra v24.4s, v12.4s, #4",
            "scvtf v24.4s, v24.4s",
            "fmla v28.4s, v24.4s, v9.4s",
            "str q28, [{y}]",
            w0 = inout(reg) rows => _, w1 = inout(reg) rows.add(row) => _,
            w2 = inout(reg) rows.add(2 * row) => _, w3 = inout(reg) rows.add(3 * row) => _,
            x = inout(reg) x.codes.as_ptr() => _, s = inout(reg) x.scales.as_ptr() => _, sums = inout(reg) x.offsets.as_ptr() => _,
            n = inout(reg) blocks => _, y = in(reg) y,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v14") _, out("v15") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _,
            options(nostack),
        );
    }
}

/// Four mapped rows of Q5_0 times one token. A code less 16 is its nibble below four bits that are
/// 1 if the fifth bit is 0: `cmtst` spreads the inverted bits to bytes, `sri` and `sli` join them
/// with the nibbles. Sums fit 16 bits (16 × 16 × 127 = 32,512).
///
/// v12: one bit per byte; v13 and v30, v31 and v29: the positions of the rows' fifth bits in v16
/// (rows 0 and 1) and v18 (rows 2 and 3).
///
/// # Safety
/// As for [`q8_0`].
#[inline]
pub(super) unsafe fn q5_0(rows: *const u8, x: Tokens<'_>, y: *mut f32) {
    let blocks = x.cols / GROUP;
    let row = blocks * 22;
    // After the f16 scales of two rows come their words of fifth bits, alternating 16 bits of one
    // and of the other.
    let places = [0x0404_0404_0404_0404u64, 0x0606_0606_0606_0606];
    const NEXT: u64 = 0x0101_0101_0101_0101;
    // SAFETY: as for `q8_0`.
    unsafe {
        asm!(
            "movi v9.4s, #0", "movi v28.4s, #0",
            "movi v24.4s, #0", "movi v25.4s, #0", "movi v26.4s, #0", "movi v27.4s, #0",
            "fmov d12, {bits}", "mov v12.d[1], {bits}",
            "fmov d13, {even}", "add {even}, {even}, {next}", "mov v13.d[1], {even}",
            "fmov d31, {odd}", "add {odd}, {odd}, {next}", "mov v31.d[1], {odd}",
            "movi v29.16b, #4", "add v30.16b, v13.16b, v29.16b", "add v29.16b, v31.16b, v29.16b",
            "2:",
            "ldr d16, [{w0}], #22",
            "ldr d17, [{w1}], #22",
            "ldr d18, [{w2}], #22",
            "ldr d19, [{w3}], #22",
            "addp v24.8h, v24.8h, v25.8h",
            "ldp q10, q11, [{x}], #32",
            "addp v26.8h, v26.8h, v27.8h",
            "zip1 v16.8h, v16.8h, v17.8h",
            "ldur q0, [{w0}, #-16]",
            "zip1 v18.8h, v18.8h, v19.8h",
            "ldur q2, [{w1}, #-16]",
            "mvn v17.16b, v16.16b",
            "ldur q4, [{w2}, #-16]",
            "mvn v19.16b, v18.16b",
            "ldur q6, [{w3}, #-16]",
            "zip1 v8.4s, v16.4s, v18.4s",
            "addp v24.8h, v24.8h, v26.8h",
            "tbl v1.16b, {{v17.16b}}, v30.16b",
            "tbl v3.16b, {{v17.16b}}, v29.16b",
            "tbl v5.16b, {{v19.16b}}, v30.16b",
            "tbl v7.16b, {{v19.16b}}, v29.16b",
            "tbl v16.16b, {{v17.16b}}, v13.16b",
            "tbl v17.16b, {{v17.16b}}, v31.16b",
            "tbl v18.16b, {{v19.16b}}, v13.16b",
            "tbl v19.16b, {{v19.16b}}, v31.16b",
            "saddlp v20.4s, v24.8h",
            "cmtst v1.16b, v1.16b, v12.16b",
            "cmtst v3.16b, v3.16b, v12.16b",
            "cmtst v5.16b, v5.16b, v12.16b",
            "cmtst v7.16b, v7.16b, v12.16b",
            "cmtst v16.16b, v16.16b, v12.16b",
            "cmtst v17.16b, v17.16b, v12.16b",
            "cmtst v18.16b, v18.16b, v12.16b",
            "cmtst v19.16b, v19.16b, v12.16b",
            "scvtf v20.4s, v20.4s",
            "sri v1.16b, v0.16b, #4",
            "sri v3.16b, v2.16b, #4",
            "sri v5.16b, v4.16b, #4",
            "sri v7.16b, v6.16b, #4",
            "sli v0.16b, v16.16b, #4",
            "sli v2.16b, v17.16b, #4",
            "sli v4.16b, v18.16b, #4",
            "sli v6.16b, v19.16b, #4",
            "ldr s14, [{s}], #4",
            "fcvtl v15.4s, v8.4h",
            "smull v24.8h, v1.8b, v11.8b",
            "smull v25.8h, v3.8b, v11.8b",
            "smull v26.8h, v5.8b, v11.8b",
            "smull v27.8h, v7.8b, v11.8b",
            "fmla v28.4s, v20.4s, v9.4s",
            "smlal2 v24.8h, v1.16b, v11.16b",
            "smlal2 v25.8h, v3.16b, v11.16b",
            "smlal2 v26.8h, v5.16b, v11.16b",
            "smlal2 v27.8h, v7.16b, v11.16b",
            "subs {n}, {n}, #1",
            "smlal v24.8h, v0.8b, v10.8b",
            "smlal v25.8h, v2.8b, v10.8b",
            "smlal v26.8h, v4.8b, v10.8b",
            "smlal v27.8h, v6.8b, v10.8b",
            "fmul v9.4s, v15.4s, v14.s[0]",
            "smlal2 v24.8h, v0.16b, v10.16b",
            "smlal2 v25.8h, v2.16b, v10.16b",
            "smlal2 v26.8h, v4.16b, v10.16b",
            "smlal2 v27.8h, v6.16b, v10.16b",
            "b.ne 2b",
            "addp v24.8h, v24.8h, v25.8h",
            "addp v26.8h, v26.8h, v27.8h",
            "addp v24.8h, v24.8h, v26.8h",
            "saddlp v24.4s, v24.8h",
            "scvtf v24.4s, v24.4s",
            "fmla v28.4s, v24.4s, v9.4s",
            "str q28, [{y}]",
            w0 = inout(reg) rows => _, w1 = inout(reg) rows.add(row) => _,
            w2 = inout(reg) rows.add(2 * row) => _, w3 = inout(reg) rows.add(3 * row) => _,
            x = inout(reg) x.codes.as_ptr() => _, s = inout(reg) x.scales.as_ptr() => _,
            n = inout(reg) blocks => _, y = in(reg) y, bits = in(reg) 0x8040_2010_0804_0201u64,
            even = inout(reg) places[0] => _, odd = inout(reg) places[1] => _, next = in(reg) NEXT,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(nostack),
        );
    }
}
