//! int8 products for ARMv8.0-A: no dot product instruction, so two products share a 16-bit lane (at most 2 × 128 × 127, which
//! fits) before pairs of lanes are added into 32 bits. Four rows' sums are then added across with pairwise adds, so that one
//! vector holds a block's exact sums of four rows, and one fused multiply-add joins them to the four results.
//!
//! The loops are assembly, because the order of instructions is what an in-order core runs at: a block's last steps (across,
//! to float, fused multiply-add) stand between the next block's multiplications, far enough apart that nothing waits. Compilers
//! also split `smlal2` into two instructions. docs/kernels.md has the counts.
//!
//! Registers, in all four: v0–v7 weights of four rows, v8 their scales, v9 scales × activation scale, v10–v13 activations, v14 an
//! activation scale, v16–v19 and v24–v27 sums of this step and the one before, v20–v23 more sums, v28–v31 results.

use core::arch::asm;

use super::{Panel, Tokens};
use crate::kernels::Format;
use crate::kernels::GROUP;
use crate::kernels::terms::unpack_block;

/// One block of four rows, unpacked for a tile.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Block {
    codes: [[i8; GROUP]; 4],
    scales: [f32; 4],
}

/// ARMv8.0-A with NEON.
pub(super) struct Neon;

/// One token of a tile of whole codes: products into `$p`, and the end of the step before, whose sums are in `$o`.
macro_rules! step {
    ($p0:literal $p1:literal $p2:literal $p3:literal, $o0:literal $o1:literal $o2:literal $o3:literal,
     $x0:literal $x1:literal, $before:literal, [$($load:literal),*], $scale:expr) => {
        concat!(
            "smull v", $p0, ".8h, v0.8b, v", $x0, ".8b\n",
            "smull v20.8h, v1.8b, v", $x1, ".8b\n",
            "smull v", $p1, ".8h, v2.8b, v", $x0, ".8b\n",
            "smull v21.8h, v3.8b, v", $x1, ".8b\n",
            "addp v", $o0, ".4s, v", $o0, ".4s, v", $o1, ".4s\n",
            "smull v", $p2, ".8h, v4.8b, v", $x0, ".8b\n",
            "smull v22.8h, v5.8b, v", $x1, ".8b\n",
            "addp v", $o2, ".4s, v", $o2, ".4s, v", $o3, ".4s\n",
            "smull v", $p3, ".8h, v6.8b, v", $x0, ".8b\n",
            "smull v23.8h, v7.8b, v", $x1, ".8b\n",
            "smlal2 v", $p0, ".8h, v0.16b, v", $x0, ".16b\n",
            "smlal2 v20.8h, v1.16b, v", $x1, ".16b\n",
            "smlal2 v", $p1, ".8h, v2.16b, v", $x0, ".16b\n",
            "smlal2 v21.8h, v3.16b, v", $x1, ".16b\n",
            "addp v", $o0, ".4s, v", $o0, ".4s, v", $o2, ".4s\n",
            "smlal2 v", $p2, ".8h, v4.16b, v", $x0, ".16b\n",
            "smlal2 v22.8h, v5.16b, v", $x1, ".16b\n",
            "smlal2 v", $p3, ".8h, v6.16b, v", $x0, ".16b\n",
            "smlal2 v23.8h, v7.16b, v", $x1, ".16b\n",
            "saddlp v", $p0, ".4s, v", $p0, ".8h\n",
            "saddlp v", $p1, ".4s, v", $p1, ".8h\n",
            "scvtf v", $o0, ".4s, v", $o0, ".4s\n",
            "saddlp v", $p2, ".4s, v", $p2, ".8h\n",
            "saddlp v", $p3, ".4s, v", $p3, ".8h\n",
            $($load, "\n",)*
            "sadalp v", $p0, ".4s, v20.8h\n",
            "sadalp v", $p1, ".4s, v21.8h\n",
            "sadalp v", $p2, ".4s, v22.8h\n",
            "fmla v", $before, ".4s, v", $o0, ".4s, v9.4s\n",
            "sadalp v", $p3, ".4s, v23.8h\n",
            $scale,
        )
    };
}

/// The same for codes within ±8 (Q4_0): all of a row's products of a block fit 16 bits, and so do their sums across.
macro_rules! small_step {
    ($p0:literal $p1:literal $p2:literal $p3:literal, $o0:literal $o1:literal $o2:literal $o3:literal,
     $x0:literal $x1:literal, $before:literal, [$($load:literal),*], $scale:expr) => {
        concat!(
            "smull v", $p0, ".8h, v0.8b, v", $x0, ".8b\n",
            "smull v", $p1, ".8h, v2.8b, v", $x0, ".8b\n",
            "addp v", $o0, ".8h, v", $o0, ".8h, v", $o1, ".8h\n",
            "smull v", $p2, ".8h, v4.8b, v", $x0, ".8b\n",
            "smull v", $p3, ".8h, v6.8b, v", $x0, ".8b\n",
            "addp v", $o2, ".8h, v", $o2, ".8h, v", $o3, ".8h\n",
            "smlal2 v", $p0, ".8h, v0.16b, v", $x0, ".16b\n",
            "smlal2 v", $p1, ".8h, v2.16b, v", $x0, ".16b\n",
            "smlal2 v", $p2, ".8h, v4.16b, v", $x0, ".16b\n",
            "smlal2 v", $p3, ".8h, v6.16b, v", $x0, ".16b\n",
            "addp v", $o0, ".8h, v", $o0, ".8h, v", $o2, ".8h\n",
            $($load, "\n",)*
            "smlal v", $p0, ".8h, v1.8b, v", $x1, ".8b\n",
            "smlal v", $p1, ".8h, v3.8b, v", $x1, ".8b\n",
            "smlal v", $p2, ".8h, v5.8b, v", $x1, ".8b\n",
            "smlal v", $p3, ".8h, v7.8b, v", $x1, ".8b\n",
            "saddlp v", $o0, ".4s, v", $o0, ".8h\n",
            "smlal2 v", $p0, ".8h, v1.16b, v", $x1, ".16b\n",
            "smlal2 v", $p1, ".8h, v3.16b, v", $x1, ".16b\n",
            "smlal2 v", $p2, ".8h, v5.16b, v", $x1, ".16b\n",
            "smlal2 v", $p3, ".8h, v7.16b, v", $x1, ".16b\n",
            "scvtf v", $o0, ".4s, v", $o0, ".4s\n",
            "fmla v", $before, ".4s, v", $o0, ".4s, v9.4s\n",
            $scale,
        )
    };
}

/// A tile of four rows and four tokens. `$across` are the lanes of the sums between steps, `$end` brings them to 32 bits.
macro_rules! tile {
    ($step:ident, $across:literal, $end:literal, $panel:ident, $x:ident, $y:ident, $stride:ident) => {{
        let blocks = $panel.len();
        let code = |t: usize| $x.codes[t * $x.cols..][..blocks * GROUP].as_ptr();
        let scale = |t: usize| $x.scales[t * ($x.cols / GROUP)..][..blocks].as_ptr();
        // SAFETY: reads `blocks` blocks of the panel, of four rows of codes and of their scales, whose lengths the slices above
        // prove; writes four floats at each of four places, which the caller promises.
        unsafe {
            asm!(
                "movi v9.4s, #0", "movi v24.4s, #0", "movi v25.4s, #0", "movi v26.4s, #0", "movi v27.4s, #0",
                "movi v28.4s, #0", "movi v29.4s, #0", "movi v30.4s, #0", "movi v31.4s, #0",
                "2:",
                "ldp q10, q11, [{x0}], #32",
                "ldp q0, q1, [{w}]",
                "ldp q2, q3, [{w}, #32]",
                "ldp q4, q5, [{w}, #64]",
                "ldp q6, q7, [{w}, #96]",
                "ldr q8, [{w}, #128]",
                "ldr s14, [{s0}], #4",
                $step!("16" "17" "18" "19", "24" "25" "26" "27", "10" "11", "31", ["ldp q12, q13, [{x1}], #32"],
                    "fmul v9.4s, v8.4s, v14.s[0]\nldr s14, [{s1}], #4"),
                $step!("24" "25" "26" "27", "16" "17" "18" "19", "12" "13", "28", ["ldp q10, q11, [{x2}], #32"],
                    "fmul v9.4s, v8.4s, v14.s[0]\nldr s14, [{s2}], #4"),
                $step!("16" "17" "18" "19", "24" "25" "26" "27", "10" "11", "29", ["ldp q12, q13, [{x3}], #32"],
                    "fmul v9.4s, v8.4s, v14.s[0]\nldr s14, [{s3}], #4"),
                $step!("24" "25" "26" "27", "16" "17" "18" "19", "12" "13", "30", ["add {w}, {w}, #144"],
                    "fmul v9.4s, v8.4s, v14.s[0]"),
                "subs {n}, {n}, #1",
                "b.ne 2b",
                concat!("addp v24.", $across, ", v24.", $across, ", v25.", $across),
                concat!("addp v26.", $across, ", v26.", $across, ", v27.", $across),
                concat!("addp v24.", $across, ", v24.", $across, ", v26.", $across),
                $end,
                "scvtf v24.4s, v24.4s",
                "fmla v31.4s, v24.4s, v9.4s",
                "str q28, [{y}]",
                "add {y}, {y}, {stride}",
                "str q29, [{y}]",
                "add {y}, {y}, {stride}",
                "str q30, [{y}]",
                "add {y}, {y}, {stride}",
                "str q31, [{y}]",
                w = inout(reg) $panel.as_ptr() => _, n = inout(reg) blocks => _,
                x0 = inout(reg) code(0) => _, x1 = inout(reg) code(1) => _,
                x2 = inout(reg) code(2) => _, x3 = inout(reg) code(3) => _,
                s0 = inout(reg) scale(0) => _, s1 = inout(reg) scale(1) => _,
                s2 = inout(reg) scale(2) => _, s3 = inout(reg) scale(3) => _,
                y = inout(reg) $y => _, stride = in(reg) $stride * 4,
                out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
                out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                options(nostack),
            );
        }
    }};
}

/// Four mapped rows of Q8_0 times one token.
///
/// # Safety
/// Four rows, a token and room for four results are there.
#[inline]
unsafe fn single_q8(rows: *const u8, x: Tokens<'_>, y: *mut f32) {
    let blocks = x.cols / GROUP;
    let row = blocks * 34;
    // SAFETY: reads `blocks` blocks of each row, of codes and of scales, and writes four floats, as `single` has checked.
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

/// Four mapped rows of Q4_0 times one token. The nibbles are taken as 0..=15, and 8 × the sum of the block's activations
/// (its offset / −16) off again, which is exact: the products of a block fit 16 bits even so (32 × 15 × 127 over 8 lanes and two halvings of them).
///
/// # Safety
/// As for [`single_q8`].
#[inline]
unsafe fn single_q4(rows: *const u8, x: Tokens<'_>, y: *mut f32) {
    let blocks = x.cols / GROUP;
    let row = blocks * 18;
    // SAFETY: as for `single_q8`, and reads `blocks` offsets.
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

impl Panel for Neon {
    fn takes(format: Format) -> bool {
        matches!(format, Format::Q8_0 | Format::Q4_0)
    }

    const ROWS: usize = 4;
    const TOKENS: usize = 4;
    type Block = Block;
    const ZERO: Block = Block { codes: [[0; GROUP]; 4], scales: [0.0; 4] };
    type Columns = ();
    const NO_COLUMNS: () = ();

    unsafe fn pack(format: Format, rows: &[u8], panel: &mut [Block]) {
        let (_, unit) = format.unit();
        for (r, row) in rows.chunks_exact(rows.len() / 4).enumerate() {
            for (block, bytes) in panel.iter_mut().zip(row.chunks_exact(unit)) {
                block.scales[r] = unpack_block(format, bytes, &mut block.codes[r]);
            }
        }
    }

    unsafe fn tile(format: Format, panel: &[Block], x: Tokens<'_>, _: &[()], y: *mut f32, stride: usize) {
        match format {
            Format::Q4_0 => tile!(small_step, "8h", "saddlp v24.4s, v24.8h", panel, x, y, stride),
            _ => tile!(step, "4s", "", panel, x, y, stride),
        }
    }

    unsafe fn single(format: Format, rows: &[u8], x: Tokens<'_>, y: *mut f32) {
        let (_, unit) = format.unit();
        let blocks = x.cols / GROUP;
        let panel = 4 * blocks * unit;
        assert!(blocks > 0 && rows.len().is_multiple_of(panel));
        assert!(x.codes.len() >= x.cols && x.scales.len() >= blocks && x.offsets.len() >= blocks);
        for p in 0..rows.len() / panel {
            // SAFETY: panel `p` and the token are there, by the assertions; the caller promises room for a result a row.
            unsafe {
                let (rows, y) = (rows.as_ptr().add(p * panel), y.add(4 * p));
                match format {
                    Format::Q4_0 => single_q4(rows, x, y),
                    _ => single_q8(rows, x, y),
                }
            }
        }
    }
}
