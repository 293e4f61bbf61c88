//! Loads four rows of each format into registers, 32 columns at a time. `kernels::terms` defines
//! the bytes; tests compare the two.
//!
//! Functions are fully inlined into loops that LLVM schedules for the core. Intrinsics are `unsafe`
//! because of CPUs without NEON, but every aarch64 has it: a comment "registers only" means that
//! there is no other condition.

use core::arch::aarch64::*;
use core::arch::asm;

use super::Kind;
use crate::kernels::Format;
use crate::kernels::terms::NONLINEAR;

/// 32 columns of four rows.
pub(super) struct Group {
    /// Two vectors per row, as its [`Kind`] stores them.
    pub(super) codes: [uint8x16_t; 8],
    pub(super) scales: float32x4_t,
    pub(super) second: Second,
}

/// What a kind has in addition.
pub(super) enum Second {
    Nothing,
    /// Scales of the second term.
    Offsets(float32x4_t),
    /// Integer scales of both 16 columns, each row's twice.
    Halves([int16x8_t; 2]),
}

/// The receiver of groups.
pub(super) trait Take {
    /// # Safety
    /// There is room for one more group.
    unsafe fn take(&mut self, group: Group);
}

/// How a format stores its rows.
pub(super) trait Layout {
    const FORMAT: Format;
    const KIND: Kind = Kind::of(Self::FORMAT).expect("a format with loops");

    /// Passes on the groups of one unit of four rows, in order.
    ///
    /// # Safety
    /// A unit can be read at each of `rows`, and there is room for its groups.
    unsafe fn unit(rows: [*const u8; 4], to: &mut impl Take);
}

/// A type for each format, which only defines how its unit is read.
macro_rules! layout {
    ($format:ident, |$rows:ident, $to:ident| $body:block) => {
        #[allow(non_camel_case_types, reason = "GGUF's own names")]
        pub(super) struct $format;

        impl Layout for $format {
            const FORMAT: Format = Format::$format;

            #[inline(always)]
            unsafe fn unit($rows: [*const u8; 4], $to: &mut impl Take) {
                // SAFETY: reads within a unit and passes on its groups; the caller guarantees both.
                unsafe { $body }
            }
        }
    };
}

/// Repeats a block for each group of a unit of 256 columns; `$g` is a constant.
macro_rules! eight {
    (|$g:ident| $body:block) => {
        eight!(@ $g $body 0 1 2 3 4 5 6 7)
    };
    (@ $g:ident $body:block $($n:literal)*) => {
        $({
            let $g: usize = $n;
            $body
        })*
    };
}

/// # Safety
/// 16 bytes can be read at `at`.
#[inline(always)]
unsafe fn load(at: *const u8) -> uint8x16_t {
    // SAFETY: guaranteed by the caller.
    unsafe { vld1q_u8(at) }
}

/// Loads 16 bytes, `at` bytes into each row.
///
/// # Safety
/// 16 bytes can be read there.
#[inline(always)]
unsafe fn load_4(rows: [*const u8; 4], at: usize) -> [uint8x16_t; 4] {
    // SAFETY: guaranteed by the caller.
    rows.map(|row| unsafe { load(row.add(at)) })
}

/// # Safety
/// An f16 can be read `at` bytes into each row.
#[inline(always)]
unsafe fn halves(rows: [*const u8; 4], at: usize) -> float32x4_t {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let half = |r: usize| rows[r].add(at).cast::<u16>().read_unaligned();
        let v = vset_lane_u16::<0>(half(0), vdup_n_u16(0));
        let v = vset_lane_u16::<1>(half(1), v);
        let v = vset_lane_u16::<2>(half(2), v);
        to_floats(vset_lane_u16::<3>(half(3), v))
    }
}

/// # Safety
/// A word can be read `at` bytes into each row.
#[inline(always)]
unsafe fn words(rows: [*const u8; 4], at: usize) -> uint32x4_t {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let word = |r: usize| rows[r].add(at).cast::<u32>().read_unaligned();
        let v = vsetq_lane_u32::<0>(word(0), vdupq_n_u32(0));
        let v = vsetq_lane_u32::<1>(word(1), v);
        let v = vsetq_lane_u32::<2>(word(2), v);
        vsetq_lane_u32::<3>(word(3), v)
    }
}

/// f16 values as floats, exactly.
#[inline(always)]
fn to_floats(halves: uint16x4_t) -> float32x4_t {
    let floats;
    // SAFETY: one instruction on registers, in every ARMv8.0-A.
    unsafe {
        asm!("fcvtl {floats:v}.4s, {halves:v}.4h", floats = lateout(vreg) floats, halves = in(vreg) halves,
             options(pure, nomem, nostack, preserves_flags));
    }
    floats
}

/// The two f16 values at the start of each row.
#[inline(always)]
fn two_halves(words: uint32x4_t) -> (float32x4_t, float32x4_t) {
    // SAFETY: registers only.
    unsafe { (to_floats(vmovn_u32(words)), to_floats(vshrn_n_u32::<16>(words))) }
}

/// Low and high nibbles of each row.
#[inline(always)]
fn nibbles(q: [uint8x16_t; 4]) -> [uint8x16_t; 8] {
    // SAFETY: registers only.
    unsafe {
        core::array::from_fn(|i| {
            if i % 2 == 0 { vandq_u8(q[i / 2], vdupq_n_u8(15)) } else { vshrq_n_u8::<4>(q[i / 2]) }
        })
    }
}

/// The same with a fifth bit each, from one word per row, less 16: the upper four bits are all 1 if
/// the fifth is 0.
#[inline(always)]
fn fives(high: uint32x4_t, q: [uint8x16_t; 4]) -> [uint8x16_t; 8] {
    // SAFETY: uses registers and reads constants.
    unsafe {
        const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
        const BYTES: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
        let clear = vmvnq_u8(vreinterpretq_u8_u32(high));
        let (bits, bytes) = (load(BITS.as_ptr()), load(BYTES.as_ptr()));
        core::array::from_fn(|i| {
            let clear = vtstq_u8(vqtbl1q_u8(clear, vaddq_u8(bytes, vdupq_n_u8(2 * i as u8))), bits);
            if i % 2 == 0 {
                vsliq_n_u8::<4>(q[i / 2], clear)
            } else {
                vsriq_n_u8::<4>(clear, q[i / 2])
            }
        })
    }
}

/// Nibbles as the integers that they stand for.
#[inline(always)]
fn nonlinear(q: [uint8x16_t; 4]) -> [uint8x16_t; 8] {
    // SAFETY: uses registers and reads constants.
    unsafe {
        let numbers = load(NONLINEAR.as_ptr().cast());
        nibbles(q).map(|code| vqtbl1q_u8(numbers, code))
    }
}

layout!(Q8_0, |rows, to| {
    let (low, high) = (load_4(rows, 2), load_4(rows, 18));
    let codes = core::array::from_fn(|i| if i % 2 == 0 { low[i / 2] } else { high[i / 2] });
    to.take(Group { codes, scales: halves(rows, 0), second: Second::Nothing });
});

layout!(Q4_0, |rows, to| {
    let codes = nibbles(load_4(rows, 2)).map(|code| vsubq_u8(code, vdupq_n_u8(8)));
    to.take(Group { codes, scales: halves(rows, 0), second: Second::Nothing });
});

layout!(Q4_1, |rows, to| {
    let (scales, offsets) = two_halves(words(rows, 0));
    to.take(Group { codes: nibbles(load_4(rows, 4)), scales, second: Second::Offsets(offsets) });
});

layout!(Q5_0, |rows, to| {
    let codes = fives(words(rows, 2), load_4(rows, 6));
    to.take(Group { codes, scales: halves(rows, 0), second: Second::Nothing });
});

layout!(Q5_1, |rows, to| {
    let (scales, offsets) = two_halves(words(rows, 0));
    let codes = fives(words(rows, 4), load_4(rows, 8));
    to.take(Group { codes, scales, second: Second::Offsets(offsets) });
});

layout!(IQ4_NL, |rows, to| {
    to.take(Group {
        codes: nonlinear(load_4(rows, 2)),
        scales: halves(rows, 0),
        second: Second::Nothing,
    });
});

layout!(IQ4_XS, |rows, to| {
    let (first, low) = (words(rows, 0), words(rows, 4));
    let d = to_floats(vmovn_u32(first));
    eight!(|g| {
        let shifted = |word: uint32x4_t, by: usize| vshlq_u32(word, vdupq_n_s32(-(by as i32)));
        let scale = vsliq_n_u32::<4>(shifted(low, 4 * g), shifted(first, 16 + 2 * g));
        let scale = vreinterpretq_s32_u32(vandq_u32(scale, vdupq_n_u32(63)));
        let scales = vmulq_f32(d, vcvtq_f32_s32(vsubq_s32(scale, vdupq_n_s32(32))));
        to.take(Group {
            codes: nonlinear(load_4(rows, 8 + 16 * g)),
            scales,
            second: Second::Nothing,
        });
    });
});

/// Scales and offset scales of Q4_K and Q5_K: 6-bit integers, four groups per vector and one byte
/// each, under two f16 values.
struct SixBits {
    d: float32x4_t,
    dmin: float32x4_t,
    scales: [uint8x16_t; 2],
    offsets: [uint8x16_t; 2],
}

impl SixBits {
    /// # Safety
    /// 16 bytes can be read at each of `rows`.
    #[inline(always)]
    unsafe fn new(rows: [*const u8; 4]) -> SixBits {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let v = load_4(rows, 0).map(|v| vreinterpretq_u32_u8(v));
            // Four rows of four words become four words of four rows.
            let (low, high) = (vtrn1q_u32(v[0], v[1]), vtrn2q_u32(v[0], v[1]));
            let (low_2, high_2) = (vtrn1q_u32(v[2], v[3]), vtrn2q_u32(v[2], v[3]));
            let pair = |upper: bool, a: uint32x4_t, b: uint32x4_t| {
                let (a, b) = (vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b));
                vreinterpretq_u8_u64(if upper { vtrn2q_u64(a, b) } else { vtrn1q_u64(a, b) })
            };
            let (d, dmin) = two_halves(vreinterpretq_u32_u8(pair(false, low, low_2)));
            let (a, b, c) =
                (pair(false, high, high_2), pair(true, low, low_2), pair(true, high, high_2));
            let six = |v| vandq_u8(v, vdupq_n_u8(63));
            SixBits {
                d,
                dmin: vnegq_f32(dmin),
                scales: [six(a), vsliq_n_u8::<4>(c, vshrq_n_u8::<6>(a))],
                offsets: [six(b), vsliq_n_u8::<4>(vshrq_n_u8::<4>(c), vshrq_n_u8::<6>(b))],
            }
        }
    }

    #[inline(always)]
    fn group(&self, g: usize) -> (float32x4_t, Second) {
        // SAFETY: uses registers and reads a constant.
        unsafe {
            // Byte `g` of each word, widened: a table lookup out of range gives 0.
            const FIRST: [u8; 16] = [0, 64, 64, 64, 4, 64, 64, 64, 8, 64, 64, 64, 12, 64, 64, 64];
            let index = vaddq_u8(load(FIRST.as_ptr()), vdupq_n_u8((g % 4) as u8));
            let of = |bytes: [uint8x16_t; 2]| {
                vcvtq_f32_u32(vreinterpretq_u32_u8(vqtbl1q_u8(bytes[g / 4], index)))
            };
            (
                vmulq_f32(self.d, of(self.scales)),
                Second::Offsets(vmulq_f32(self.dmin, of(self.offsets))),
            )
        }
    }
}

layout!(Q4_K, |rows, to| {
    let six_bits = SixBits::new(rows);
    eight!(|g| {
        let (low, high) = (load_4(rows, 16 + g / 2 * 32), load_4(rows, 32 + g / 2 * 32));
        let codes = core::array::from_fn(|i| {
            let q = if i % 2 == 0 { low[i / 2] } else { high[i / 2] };
            if g.is_multiple_of(2) { vandq_u8(q, vdupq_n_u8(15)) } else { vshrq_n_u8::<4>(q) }
        });
        let (scales, second) = six_bits.group(g);
        to.take(Group { codes, scales, second });
    });
});

layout!(Q5_K, |rows, to| {
    let six_bits = SixBits::new(rows);
    eight!(|g| {
        let codes = core::array::from_fn(|i| {
            let (row, at) = (rows[i / 2], i % 2 * 16);
            let (high, q) = (load(row.add(16 + at)), load(row.add(48 + g / 2 * 32 + at)));
            let clear = vceqq_u8(vandq_u8(high, vdupq_n_u8(1 << g)), vdupq_n_u8(0));
            if g.is_multiple_of(2) { vsliq_n_u8::<4>(q, clear) } else { vsriq_n_u8::<4>(clear, q) }
        });
        let (scales, second) = six_bits.group(g);
        to.take(Group { codes, scales, second });
    });
});

/// Integer scales of 16 columns each, for a unit of 256 columns: each byte is widened to 16 bits,
/// each row's twice.
struct Whole([uint8x16_t; 4]);

impl Whole {
    /// Transposes rows of bytes to columns of bytes, four columns per vector.
    #[inline(always)]
    fn new(v: [uint8x16_t; 4]) -> Whole {
        // SAFETY: registers only.
        unsafe {
            let (even, odd) = (
                (vzip1q_u8(v[0], v[2]), vzip2q_u8(v[0], v[2])),
                (vzip1q_u8(v[1], v[3]), vzip2q_u8(v[1], v[3])),
            );
            Whole([
                vzip1q_u8(even.0, odd.0),
                vzip2q_u8(even.0, odd.0),
                vzip1q_u8(even.1, odd.1),
                vzip2q_u8(even.1, odd.1),
            ])
        }
    }

    #[inline(always)]
    fn group(&self, g: usize) -> Second {
        // SAFETY: registers only.
        unsafe {
            let four = self.0[g / 2];
            let twice = vreinterpretq_s8_u8(if g.is_multiple_of(2) {
                vzip1q_u8(four, four)
            } else {
                vzip2q_u8(four, four)
            });
            Second::Halves([vmovl_s8(vget_low_s8(twice)), vmovl_high_s8(twice)])
        }
    }
}

layout!(Q3_K, |rows, to| {
    // The first eight scales are in the low nibbles of eight bytes, the others in the high ones;
    // four bytes hold two more bits of each.
    const LOW: [i8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, -4, -4, -4, -4, -4, -4, -4, -4];
    const HIGH: [i8; 16] = [0, 0, 0, 0, -2, -2, -2, -2, -4, -4, -4, -4, -6, -6, -6, -6];
    let (low_shift, high_shift) = (vld1q_s8(LOW.as_ptr()), vld1q_s8(HIGH.as_ptr()));
    // The 16 bytes that end with the twelve of the scales.
    let whole = Whole::new(load_4(rows, 92).map(|v| {
        let words = vreinterpretq_u32_u8(v);
        let low = vreinterpretq_u8_u64(vdupq_laneq_u64::<0>(vreinterpretq_u64_u32(
            vextq_u32::<1>(words, words),
        )));
        let high = vreinterpretq_u8_u32(vdupq_laneq_u32::<3>(words));
        let scale = vsliq_n_u8::<4>(vshlq_u8(low, low_shift), vshlq_u8(high, high_shift));
        vsubq_u8(vandq_u8(scale, vdupq_n_u8(63)), vdupq_n_u8(32))
    }));
    let scales = halves(rows, 108);
    eight!(|g| {
        let codes = core::array::from_fn(|i| {
            let (row, at) = (rows[i / 2], i % 2 * 16);
            let (high, q) = (load(row.add(at)), load(row.add(32 + g / 4 * 32 + at)));
            let clear = vceqq_u8(vandq_u8(high, vdupq_n_u8(1 << g)), vdupq_n_u8(0));
            vsliq_n_u8::<2>(vshlq_u8(q, vdupq_n_s8(-(g as i8 % 4 * 2))), clear)
        });
        to.take(Group { codes, scales, second: whole.group(g) });
    });
});

layout!(Q6_K, |rows, to| {
    let whole = Whole::new(load_4(rows, 192));
    let scales = halves(rows, 208);
    eight!(|g| {
        let codes = core::array::from_fn(|i| {
            let (row, at) = (rows[i / 2], i % 2 * 16);
            let low = load(row.add(g / 4 * 64 + g % 2 * 32 + at));
            let high = load(row.add(128 + g / 4 * 32 + at));
            // Moves two of the high bits above a nibble.
            let six = match g % 4 {
                0 => vsliq_n_u8::<4>(low, high),
                1 => vsliq_n_u8::<4>(low, vshrq_n_u8::<2>(high)),
                2 => vsriq_n_u8::<4>(high, low),
                _ => vsriq_n_u8::<4>(vshrq_n_u8::<2>(high), low),
            };
            vsubq_u8(vandq_u8(six, vdupq_n_u8(63)), vdupq_n_u8(32))
        });
        to.take(Group { codes, scales, second: whole.group(g) });
    });
});
