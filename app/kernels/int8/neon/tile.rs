//! Tiles: an unpacked panel of four rows times four tokens.
//!
//! The loops are assembly, because the instruction order determines the speed of an in-order core:
//! the last steps of a token's 32 columns (add across, convert to float, fused multiply-add) are
//! interleaved with the next token's multiplications, far enough apart that nothing stalls.
//! Compilers also split `smlal2` into two instructions. docs/inside/kernels.md has the counts.
//!
//! Registers in all loops: v0–v7 weights of four rows, v8 their scales, v9 scales × activation
//! scale, v10–v13 activations, v14 four tokens' activation scales, v15 their sums, v28–v31 results.
//! A step that uses others names them.

use core::arch::asm;

use super::{Kind, Line, Tokens};
use crate::kernels::GROUP;

/// Stands for a step that a tile does not need.
macro_rules! nothing {
    ($($any:tt)*) => {
        ""
    };
}

/// Adds the second term of a token's 32 columns to its results.
macro_rules! join_offset {
    ($result:literal, $scales:literal, $token:literal) => {
        concat!("fmla v", $result, ".4s, v", $scales, ".4s, v15.s[", $token, "]\n")
    };
}

/// Offset scales × activation scale, kept until [`join_offset`].
macro_rules! scale_offset {
    ($scales:literal, $token:literal) => {
        concat!("fmul v", $scales, ".4s, v20.4s, v14.s[", $token, "]\n")
    };
}

/// 16 × the activations' sum, for codes that are stored 16 too small. Exact, as for all
/// integers below 2²⁴.
macro_rules! add_bias {
    ($sums:literal, $token:literal) => {
        concat!("fmla v", $sums, ".4s, v23.4s, v15.s[", $token, "]\n")
    };
}

macro_rules! load_offset_scales {
    () => {
        "ldr q20, [{w}, #144]\n"
    };
}

macro_rules! load_sums {
    () => {
        "ldr q15, [{s}, #16]\n"
    };
}

/// One token, any int8: two products share a 16-bit lane (at most 2 × 128 × 127, which fits) before
/// pairs of lanes are added into 32 bits. Products go to `$p` and v20–v23; `$o` are the sums of the
/// previous token, whose results are `$before`.
macro_rules! wide_step {
    ($p0:literal $p1:literal $p2:literal $p3:literal, $o0:literal $o1:literal $o2:literal $o3:literal, $x0:literal $x1:literal,
     [$($load:literal),*], $token:literal, $before:literal) => {
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
            "fmul v9.4s, v8.4s, v14.s[", $token, "]\n",
        )
    };
}

/// One token, codes within −16..=15: all of a row's products of 32 columns fit 16 bits, and so do
/// their sums across, of 16 products each (16 × 16 × 127 = 32,512). v20 offset scales, v21 and v22
/// those × activation scale, v23 16.0; `$second` are the results, offset scales and number of the
/// token whose second term is added here: two tokens back.
macro_rules! small_step {
    ($p0:literal $p1:literal $p2:literal $p3:literal, $o0:literal $o1:literal $o2:literal $o3:literal, $x0:literal $x1:literal,
     [$($load:literal),*], $token:literal, $before:literal,
     $join:ident($($second:literal),*), $sums:ident, $bias:ident($last:literal), $scale:ident($scales:literal)) => {
        concat!(
            "smull v", $p0, ".8h, v0.8b, v", $x0, ".8b\n",
            "smull v", $p1, ".8h, v2.8b, v", $x0, ".8b\n",
            "addp v", $o0, ".8h, v", $o0, ".8h, v", $o1, ".8h\n",
            "smull v", $p2, ".8h, v4.8b, v", $x0, ".8b\n",
            "addp v", $o2, ".8h, v", $o2, ".8h, v", $o3, ".8h\n",
            "smull v", $p3, ".8h, v6.8b, v", $x0, ".8b\n",
            "smlal2 v", $p0, ".8h, v0.16b, v", $x0, ".16b\n",
            "smlal2 v", $p1, ".8h, v2.16b, v", $x0, ".16b\n",
            "smlal2 v", $p2, ".8h, v4.16b, v", $x0, ".16b\n",
            "addp v", $o0, ".8h, v", $o0, ".8h, v", $o2, ".8h\n",
            "smlal2 v", $p3, ".8h, v6.16b, v", $x0, ".16b\n",
            $join!($($second),*),
            $sums!(),
            $($load, "\n",)*
            "smlal v", $p0, ".8h, v1.8b, v", $x1, ".8b\n",
            "saddlp v", $o0, ".4s, v", $o0, ".8h\n",
            "smlal v", $p1, ".8h, v3.8b, v", $x1, ".8b\n",
            "smlal v", $p2, ".8h, v5.8b, v", $x1, ".8b\n",
            "smlal v", $p3, ".8h, v7.8b, v", $x1, ".8b\n",
            "scvtf v", $o0, ".4s, v", $o0, ".4s\n",
            $scale!($scales, $token),
            "smlal2 v", $p0, ".8h, v1.16b, v", $x1, ".16b\n",
            "smlal2 v", $p1, ".8h, v3.16b, v", $x1, ".16b\n",
            $bias!($o0, $last),
            "smlal2 v", $p2, ".8h, v5.16b, v", $x1, ".16b\n",
            "smlal2 v", $p3, ".8h, v7.16b, v", $x1, ".16b\n",
            "fmla v", $before, ".4s, v", $o0, ".4s, v9.4s\n",
            "fmul v9.4s, v8.4s, v14.s[", $token, "]\n",
        )
    };
}

/// One token, codes within −32..=31 under integer scales of 16 columns (v12, v13: each row's twice,
/// as 16 bits): sums across of 8 products fit 16 bits (8 × 32 × 127 = 32,512) and are multiplied by
/// the scales into 32 bits. v16–v19 and v24–v27 sums of the two halves, v20 those of the first
/// across, v21 and v22 sums times scales.
macro_rules! halves_step {
    ([$($load0:literal),*], [$($load1:literal),*], $token:literal, $before:literal) => {
        concat!(
            "smull v16.8h, v0.8b, v10.8b\n",
            "smull v17.8h, v2.8b, v10.8b\n",
            "addp v24.8h, v24.8h, v26.8h\n",
            "smull2 v22.4s, v20.8h, v12.8h\n",
            "smull v18.8h, v4.8b, v10.8b\n",
            "smull v19.8h, v6.8b, v10.8b\n",
            "smull v21.4s, v20.4h, v12.4h\n",
            "smlal2 v16.8h, v0.16b, v10.16b\n",
            "smlal2 v17.8h, v2.16b, v10.16b\n",
            "smlal2 v22.4s, v24.8h, v13.8h\n",
            "smlal2 v18.8h, v4.16b, v10.16b\n",
            "smlal v21.4s, v24.4h, v13.4h\n",
            "smlal2 v19.8h, v6.16b, v10.16b\n",
            $($load0, "\n",)*
            "smull v24.8h, v1.8b, v11.8b\n",
            "smull v25.8h, v3.8b, v11.8b\n",
            "addp v16.8h, v16.8h, v17.8h\n",
            "smull v26.8h, v5.8b, v11.8b\n",
            "addp v21.4s, v21.4s, v22.4s\n",
            "smull v27.8h, v7.8b, v11.8b\n",
            "addp v18.8h, v18.8h, v19.8h\n",
            "smlal2 v24.8h, v1.16b, v11.16b\n",
            "smlal2 v25.8h, v3.16b, v11.16b\n",
            "scvtf v21.4s, v21.4s\n",
            "smlal2 v26.8h, v5.16b, v11.16b\n",
            "smlal2 v27.8h, v7.16b, v11.16b\n",
            $($load1, "\n",)*
            "addp v20.8h, v16.8h, v18.8h\n",
            "addp v24.8h, v24.8h, v25.8h\n",
            "fmla v", $before, ".4s, v21.4s, v9.4s\n",
            "addp v26.8h, v26.8h, v27.8h\n",
            "fmul v9.4s, v8.4s, v14.s[", $token, "]\n",
        )
    };
}

/// A tile: the setup before the loop, its body, and the code that adds the last token's sums to
/// its results.
macro_rules! tile {
    ($kind:path, $at:ident, [$($before:expr),*], [$($body:expr),*], [$($after:expr),*]) => {{
        let (panel, x, tile, y, stride) = $at;
        let blocks = panel.len() / $kind.lines().0;
        let code = |t: usize| x.codes[t * x.cols..][..blocks * GROUP].as_ptr();
        // SAFETY: reads `blocks` times as many lines of the panel and of `tile` as the caller has
        // checked, and as many codes of four tokens, whose lengths the slices above prove. Writes
        // four floats at each of four places, which the caller guarantees.
        unsafe {
            asm!(
                "movi v9.4s, #0", "movi v28.4s, #0", "movi v29.4s, #0", "movi v30.4s, #0", "movi v31.4s, #0",
                $($before,)*
                "2:",
                "ldp q0, q1, [{w}]",
                "ldp q2, q3, [{w}, #32]",
                "ldp q4, q5, [{w}, #64]",
                "ldp q6, q7, [{w}, #96]",
                "ldr q8, [{w}, #128]",
                "ldr q14, [{s}]",
                $($body,)*
                "subs {n}, {n}, #1",
                "b.ne 2b",
                $($after,)*
                "str q28, [{y}]",
                "add {y}, {y}, {stride}",
                "str q29, [{y}]",
                "add {y}, {y}, {stride}",
                "str q30, [{y}]",
                "add {y}, {y}, {stride}",
                "str q31, [{y}]",
                w = inout(reg) panel.as_ptr() => _, n = inout(reg) blocks => _,
                x0 = inout(reg) code(0) => _, x1 = inout(reg) code(1) => _,
                x2 = inout(reg) code(2) => _, x3 = inout(reg) code(3) => _,
                s = inout(reg) tile.as_ptr() => _,
                y = inout(reg) y => _, stride = in(reg) stride * 4,
                panel = const $kind.lines().0 * 16, side = const $kind.lines().1 * 16,
                out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _, out("v15") _,
                out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                options(nostack),
            );
        }
    }};
}

/// A tile of codes whose products are summed in 16 bits: the parts of the second term, and the
/// bytes of a panel's and a tile's block.
macro_rules! small_tile {
    ($kind:path, $at:ident, $join:ident, $sums:ident, $scale:ident, $scales:ident, $bias:ident) => {
        tile!($kind, $at,
            ["movi v24.4s, #0", "movi v25.4s, #0", "movi v26.4s, #0", "movi v27.4s, #0",
             "movi v15.4s, #0", "movi v21.4s, #0", "movi v22.4s, #0", "fmov v23.4s, #16.0"],
            [$scales!(),
             "ldp q10, q11, [{x0}], #32",
             small_step!("16" "17" "18" "19", "24" "25" "26" "27", "10" "11", ["ldp q12, q13, [{x1}], #32"], "0", "31",
                $join("30", "21", "2"), nothing, $bias("3"), $scale("21")),
             small_step!("24" "25" "26" "27", "16" "17" "18" "19", "12" "13", ["ldp q10, q11, [{x2}], #32"], "1", "28",
                $join("31", "22", "3"), $sums, $bias("0"), $scale("22")),
             small_step!("16" "17" "18" "19", "24" "25" "26" "27", "10" "11", ["ldp q12, q13, [{x3}], #32"], "2", "29",
                $join("28", "21", "0"), nothing, $bias("1"), $scale("21")),
             small_step!("24" "25" "26" "27", "16" "17" "18" "19", "12" "13",
                ["add {w}, {w}, #{panel}", "add {s}, {s}, #{side}"], "3", "30",
                $join("29", "22", "1"), nothing, $bias("2"), $scale("22"))],
            ["addp v24.8h, v24.8h, v25.8h", "addp v26.8h, v26.8h, v27.8h", "addp v24.8h, v24.8h, v26.8h",
             "saddlp v24.4s, v24.8h", "scvtf v24.4s, v24.4s", $bias!("24", "3"), "fmla v31.4s, v24.4s, v9.4s",
             $join!("30", "21", "2"), $join!("31", "22", "3")])
    };
}

/// The results of four tokens.
///
/// # Safety
/// `panel` and `tile` have the lines of `kind` for each block, `x` holds four tokens of as many
/// blocks, and `y` has room for four results per token, `stride` floats apart.
pub(super) unsafe fn tile(
    kind: Kind,
    panel: &[Line],
    x: Tokens<'_>,
    tile: &[Line],
    y: *mut f32,
    stride: usize,
) {
    let (lines, tile_lines) = kind.lines();
    assert!(
        panel.len().is_multiple_of(lines)
            && tile.len() == panel.len() / lines * tile_lines
            && !panel.is_empty()
    );
    let at = (panel, x, tile, y, stride);
    match kind {
        Kind::Small => small_tile!(Kind::Small, at, nothing, nothing, nothing, nothing, nothing),
        Kind::Offset => small_tile!(
            Kind::Offset,
            at,
            join_offset,
            load_sums,
            scale_offset,
            load_offset_scales,
            nothing
        ),
        Kind::Biased => small_tile!(
            Kind::Biased,
            at,
            join_offset,
            load_sums,
            scale_offset,
            load_offset_scales,
            add_bias
        ),
        Kind::Wide => tile!(
            Kind::Wide,
            at,
            ["movi v24.4s, #0", "movi v25.4s, #0", "movi v26.4s, #0", "movi v27.4s, #0"],
            [
                "ldp q10, q11, [{x0}], #32",
                wide_step!("16" "17" "18" "19", "24" "25" "26" "27", "10" "11", ["ldp q12, q13, [{x1}], #32"], "0", "31"),
                wide_step!("24" "25" "26" "27", "16" "17" "18" "19", "12" "13", ["ldp q10, q11, [{x2}], #32"], "1", "28"),
                wide_step!("16" "17" "18" "19", "24" "25" "26" "27", "10" "11", ["ldp q12, q13, [{x3}], #32"], "2", "29"),
                wide_step!("24" "25" "26" "27", "16" "17" "18" "19", "12" "13", ["add {w}, {w}, #{panel}", "add {s}, {s}, #{side}"], "3", "30")
            ],
            [
                "addp v24.4s, v24.4s, v25.4s",
                "addp v26.4s, v26.4s, v27.4s",
                "addp v24.4s, v24.4s, v26.4s",
                "scvtf v24.4s, v24.4s",
                "fmla v31.4s, v24.4s, v9.4s"
            ]
        ),
        Kind::Halves => tile!(
            Kind::Halves,
            at,
            [
                "movi v20.4s, #0",
                "movi v24.4s, #0",
                "movi v26.4s, #0",
                "movi v12.4s, #0",
                "movi v13.4s, #0"
            ],
            [
                "ldp q10, q11, [{x0}], #32",
                halves_step!(
                    ["ldp q12, q13, [{w}, #144]", "ldr q10, [{x1}], #32"],
                    ["ldur q11, [{x1}, #-16]"],
                    "0",
                    "31"
                ),
                halves_step!(["ldr q10, [{x2}], #32"], ["ldur q11, [{x2}, #-16]"], "1", "28"),
                halves_step!(["ldr q10, [{x3}], #32"], ["ldur q11, [{x3}, #-16]"], "2", "29"),
                halves_step!(["add {w}, {w}, #{panel}", "add {s}, {s}, #{side}"], [], "3", "30")
            ],
            [
                "addp v24.8h, v24.8h, v26.8h",
                "smull v21.4s, v20.4h, v12.4h",
                "smull2 v22.4s, v20.8h, v12.8h",
                "smlal v21.4s, v24.4h, v13.4h",
                "smlal2 v22.4s, v24.8h, v13.8h",
                "addp v21.4s, v21.4s, v22.4s",
                "scvtf v21.4s, v21.4s",
                "fmla v31.4s, v21.4s, v9.4s"
            ]
        ),
    }
}
