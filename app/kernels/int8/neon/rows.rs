//! Four rows of any format, as `formats` reads them: packed for `tile`, or multiplied with one
//! token directly.

use core::arch::aarch64::*;
use core::arch::asm;

use super::formats::*;
use super::{Kind, Line, Tokens};
use crate::kernels::{Format, GROUP};

/// The loop `$run`, compiled for each of the layouts.
macro_rules! of_format {
    ($format:expr, [$($of:ident),*], $run:ident $args:tt) => {
        match $format {
            $(Format::$of => $run::<$of> $args,)*
            format => unreachable!("{format:?} has no such loop"),
        }
    };
}

/// Passes on all groups of four rows, `row` bytes apart.
///
/// # Safety
/// `units` units can be read at each row, and there is room for all groups.
#[inline(always)]
unsafe fn each_group<L: Layout>(rows: *const u8, row: usize, units: usize, to: &mut impl Take) {
    let (_, bytes) = const { L::FORMAT.unit() };
    let mut at: [*const u8; 4] = core::array::from_fn(|r| rows.wrapping_add(r * row));
    for _ in 0..units {
        // SAFETY: guaranteed by the caller.
        unsafe { L::unit(at, to) }
        at = at.map(|row| row.wrapping_add(bytes));
    }
}

/// Stores groups as `tile` reads them.
struct Pack {
    block: *mut Line,
}

impl Take for Pack {
    #[inline(always)]
    unsafe fn take(&mut self, group: Group) {
        let line = |i: usize| self.block.wrapping_add(i);
        // SAFETY: there is room for the lines of one group.
        unsafe {
            for (i, codes) in group.codes.into_iter().enumerate() {
                vst1q_u8(line(i).cast(), codes);
            }
            vst1q_f32(line(8).cast(), group.scales);
            let lines = match group.second {
                Second::Nothing => 9,
                Second::Offsets(offsets) => {
                    vst1q_f32(line(9).cast(), offsets);
                    10
                }
                Second::Halves([first, second]) => {
                    vst1q_s16(line(9).cast(), first);
                    vst1q_s16(line(10).cast(), second);
                    11
                }
            };
            self.block = line(lines);
        }
    }
}

fn pack_as<L: Layout>(rows: &[u8], panel: &mut [Line]) {
    let (values, bytes) = const { L::FORMAT.unit() };
    let (row, lines) = (rows.len() / 4, L::KIND.lines().0);
    assert!(row.is_multiple_of(bytes) && panel.len() == row / bytes * (values / GROUP) * lines);
    let mut to = Pack { block: panel.as_mut_ptr() };
    // SAFETY: reads the units of four rows, and `panel` has lines for as many groups, by
    // the assertion.
    unsafe { each_group::<L>(rows.as_ptr(), row, row / bytes, &mut to) }
}

/// Unpacks four rows for `tile`.
pub(super) fn pack(format: Format, rows: &[u8], panel: &mut [Line]) {
    of_format!(
        format,
        [Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS],
        pack_as(rows, panel)
    );
}

/// Adds products of four rows with 16 columns to 16-bit sums, two products to a lane.
macro_rules! multiply {
    ($first:literal, $sums:ident, $w:ident, $x:ident, $half:expr, $mode:ident) => {
        {
            let [s0, s1, s2, s3] = &mut $sums;
            asm!(
                concat!($first, " {s0:v}.8h, {w0:v}.8b, {x:v}.8b"),
                concat!($first, " {s1:v}.8h, {w1:v}.8b, {x:v}.8b"),
                concat!($first, " {s2:v}.8h, {w2:v}.8b, {x:v}.8b"),
                concat!($first, " {s3:v}.8h, {w3:v}.8b, {x:v}.8b"),
                "smlal2 {s0:v}.8h, {w0:v}.16b, {x:v}.16b",
                "smlal2 {s1:v}.8h, {w1:v}.16b, {x:v}.16b",
                "smlal2 {s2:v}.8h, {w2:v}.16b, {x:v}.16b",
                "smlal2 {s3:v}.8h, {w3:v}.16b, {x:v}.16b",
                s0 = $mode(vreg) *s0, s1 = $mode(vreg) *s1, s2 = $mode(vreg) *s2, s3 = $mode(vreg) *s3,
                w0 = in(vreg) $w[$half], w1 = in(vreg) $w[2 + $half], w2 = in(vreg) $w[4 + $half], w3 = in(vreg) $w[6 + $half],
                x = in(vreg) $x[$half],
                options(pure, nomem, nostack, preserves_flags),
            );
        }
    };
}

/// Adds four rows' lanes across: each row's lanes are side by side.
#[inline(always)]
fn across([s0, s1, s2, s3]: [int16x8_t; 4]) -> int16x8_t {
    // SAFETY: registers only.
    unsafe { vpaddq_s16(vpaddq_s16(s0, s1), vpaddq_s16(s2, s3)) }
}

/// One token times four stored rows.
struct Single {
    kind: Kind,
    /// Whether the code repeats the groups one after another. Then the compiler must not start one
    /// before the previous one has its results, because it would run out of registers.
    unrolled: bool,
    codes: *const i8,
    scale: *const f32,
    offset: *const i32,
    results: float32x4_t,
}

impl Take for Single {
    #[inline(always)]
    unsafe fn take(&mut self, group: Group) {
        // SAFETY: reads the token's next 32 columns, which exist.
        unsafe {
            let (x, scale) = ([vld1q_s8(self.codes), vld1q_s8(self.codes.add(16))], *self.scale);
            let w = group.codes;
            let mut first = [vdupq_n_s16(0); 4];
            let mut second = first;
            multiply!("smull", first, w, x, 0, out);
            let sums = match group.second {
                Second::Halves(scales) => {
                    multiply!("smull", second, w, x, 1, out);
                    let (first, second) = (across(first), across(second));
                    let low = vmull_s16(vget_low_s16(first), vget_low_s16(scales[0]));
                    let high = vmull_high_s16(first, scales[0]);
                    let low = vmlal_s16(low, vget_low_s16(second), vget_low_s16(scales[1]));
                    vpaddq_s32(low, vmlal_high_s16(high, second, scales[1]))
                }
                _ if self.kind == Kind::Wide => {
                    multiply!("smull", second, w, x, 1, out);
                    let sum = |r: usize| vpadalq_s16(vpaddlq_s16(first[r]), second[r]);
                    vpaddq_s32(vpaddq_s32(sum(0), sum(1)), vpaddq_s32(sum(2), sum(3)))
                }
                _ => {
                    multiply!("smlal", first, w, x, 1, inout);
                    vpaddlq_s16(across(first))
                }
            };
            let mut sums = vcvtq_f32_s32(sums);
            // Less the activations' sum: the offset is −128 times it.
            let less = vcvtq_n_f32_s32::<7>(vld1q_dup_s32(self.offset));
            if self.kind == Kind::Biased {
                sums = vfmsq_f32(sums, vdupq_n_f32(16.0), less);
            }
            self.results = vfmaq_f32(self.results, sums, vmulq_n_f32(group.scales, scale));
            if let Second::Offsets(offsets) = group.second {
                self.results = vfmsq_f32(self.results, vmulq_n_f32(offsets, scale), less);
            }
            self.codes = self.codes.wrapping_add(GROUP);
            self.scale = self.scale.wrapping_add(1);
            self.offset = self.offset.wrapping_add(1);
            if self.unrolled {
                asm!("/* {results:v} */", results = inout(vreg) self.results, options(nostack, preserves_flags));
            }
        }
    }
}

unsafe fn single_as<L: Layout>(rows: *const u8, panels: usize, x: Tokens<'_>, y: *mut f32) {
    let (values, bytes) = const { L::FORMAT.unit() };
    let units = x.cols / values;
    let row = units * bytes;
    for p in 0..panels {
        let (codes, scale, offset) = (x.codes.as_ptr(), x.scales.as_ptr(), x.offsets.as_ptr());
        // SAFETY: guaranteed by the caller.
        unsafe {
            let mut to = Single {
                kind: L::KIND,
                unrolled: values > GROUP,
                codes,
                scale,
                offset,
                results: vdupq_n_f32(0.0),
            };
            each_group::<L>(rows.add(4 * p * row), row, units, &mut to);
            vst1q_f32(y.add(4 * p), to.results);
        }
    }
}

/// `panels` times four rows times one token, for formats that `single` lacks.
///
/// # Safety
/// The rows, a token and room for one result per row exist.
pub(super) unsafe fn single(
    format: Format,
    rows: *const u8,
    panels: usize,
    x: Tokens<'_>,
    y: *mut f32,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        of_format!(
            format,
            [Q4_1, Q5_1, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS],
            single_as(rows, panels, x, y)
        )
    }
}
