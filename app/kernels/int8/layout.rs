//! How x86-64 reads quantised formats: the codes of a group of 32 columns as the bytes of one
//! register, and the scales of eight rows.
//!
//! [`Layout`] follows `terms.rs`, split for speed: codes stay bytes, scales of 16 columns
//! ([`Layout::halves`]) are multiplied into their products as integers, and the second term of a
//! format with offsets is a multiple of the activations' sum.
//!
//! Functions here are inlined into loops that are compiled for AVX2, and so are not marked with the
//! target feature: the compiler may choose not to inline marked functions, and a call for each
//! block costs a third of a product.

use core::arch::x86_64::*;

use crate::kernels::terms::{NONLINEAR, iq4_scale, q3_scale};
use crate::kernels::{Format, GROUP};

/// Rows that are read side by side.
pub(super) const SIDE: usize = 8;

/// What panels and tiles are made of.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; 64]);

/// Scales and offsets of eight rows, for each group of a unit that has its own.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    scale: [__m256; 8],
    offset: [__m256; 8],
}

impl Scales {
    /// The same for all groups.
    #[inline(always)]
    fn of_unit(scale: __m256, offset: __m256) -> Scales {
        Scales { scale: [scale; 8], offset: [offset; 8] }
    }
}

/// How a format is read.
///
/// # Safety
/// For all functions: the CPU has AVX2, FMA and F16C; `unit` points to a complete unit of
/// the format, or to eight of them `row` bytes apart if eight rows are read; `g` is a group
/// of the unit.
pub(super) trait Layout {
    const FORMAT: Format;
    /// Bytes of a unit.
    const UNIT: usize = Self::FORMAT.unit().1;
    /// Groups of a unit.
    const GROUPS: usize = Self::FORMAT.unit().0 / GROUP;
    /// Whether codes are unsigned, of at most five bits, and by how much they are then too large.
    const UNSIGNED: bool = false;
    const EXCESS: i32 = 0;
    /// Whether each group has its own scale; otherwise the unit has one.
    const SCALE_PER_GROUP: bool = false;
    /// Whether the integers are codes times a scale of 16 columns.
    const HALVES: bool = false;
    /// Whether there is an offset, for all 32 columns.
    const OFFSET: bool = false;

    /// The codes of a group.
    unsafe fn codes(unit: *const u8, g: usize) -> __m256i;

    /// The scales of its two halves.
    #[inline(always)]
    unsafe fn halves(_: *const u8, _: usize) -> [i16; 2] {
        [1, 1]
    }

    /// Scales, and offsets if there are any, of eight rows.
    unsafe fn scales(unit: *const u8, row: usize) -> Scales;
}

/// The scales of group `g`.
#[inline(always)]
pub(super) fn scale<L: Layout>(scales: &Scales, g: usize) -> __m256 {
    scales.scale[if L::SCALE_PER_GROUP { g } else { 0 }]
}

/// The offsets of group `g`.
#[inline(always)]
pub(super) fn offset<L: Layout>(scales: &Scales, g: usize) -> __m256 {
    scales.offset[if L::SCALE_PER_GROUP { g } else { 0 }]
}

/// f16 values of eight rows, `row` bytes apart.
///
/// # Safety
/// The values exist; the CPU has AVX2 and F16C (also for all functions below).
#[inline(always)]
unsafe fn eight_halves(from: *const u8, row: usize) -> __m256 {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut halves = [0i16; SIDE];
        for (r, half) in halves.iter_mut().enumerate() {
            *half = from.add(r * row).cast::<i16>().read_unaligned();
        }
        let [a, b, c, d, e, f, g, h] = halves;
        _mm256_cvtph_ps(_mm_setr_epi16(a, b, c, d, e, f, g, h))
    }
}

/// One scale per row, `at` bytes into the unit, and no offset.
#[inline(always)]
unsafe fn one_scale(at: *const u8, row: usize) -> Scales {
    // SAFETY: guaranteed by the caller.
    unsafe { Scales::of_unit(eight_halves(at, row), _mm256_setzero_ps()) }
}

/// One scale and offset per row, at the start of the unit.
#[inline(always)]
unsafe fn scale_and_offset(unit: *const u8, row: usize) -> Scales {
    // SAFETY: guaranteed by the caller.
    unsafe { Scales::of_unit(eight_halves(unit, row), eight_halves(unit.add(2), row)) }
}

/// 32 bytes unchanged.
#[inline(always)]
unsafe fn bytes(from: *const u8) -> __m256i {
    // SAFETY: the caller guarantees 32 bytes.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

/// 32 nibbles as bytes: the low ones, then the high ones.
#[inline(always)]
unsafe fn nibbles(from: *const u8) -> __m256i {
    // SAFETY: the caller guarantees 16 bytes.
    unsafe {
        let both = _mm_loadu_si128(from.cast());
        _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), _mm256_set1_epi8(15))
    }
}

/// The same with a fifth bit each, from the four bytes at `high`.
#[inline(always)]
unsafe fn fives(high: *const u8, from: *const u8) -> __m256i {
    // SAFETY: the caller guarantees 4 and 16 bytes.
    unsafe {
        let spread = _mm256_setr_epi64x(
            0,
            0x0101_0101_0101_0101,
            0x0202_0202_0202_0202,
            0x0303_0303_0303_0303,
        );
        let each =
            _mm256_shuffle_epi8(_mm256_set1_epi32(high.cast::<i32>().read_unaligned()), spread);
        let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(each, bit), bit);
        _mm256_or_si256(nibbles(from), _mm256_and_si256(set, _mm256_set1_epi8(16)))
    }
}

/// The bits of `mask` of each byte starting at bit `shift`, moved to bit `to`. (The shifts work on
/// words: bits carried between bytes are masked off.)
#[inline(always)]
unsafe fn bits(of: __m256i, shift: usize, mask: i8, to: i32) -> __m256i {
    // SAFETY: the caller guarantees the CPU features.
    unsafe {
        let low = _mm256_and_si256(
            _mm256_srl_epi16(of, _mm_cvtsi32_si128(shift as i32)),
            _mm256_set1_epi8(mask),
        );
        _mm256_sll_epi16(low, _mm_cvtsi32_si128(to))
    }
}

/// The values that the nibbles of IQ4_NL and IQ4_XS select.
#[inline(always)]
unsafe fn chosen(from: *const u8) -> __m256i {
    // SAFETY: the table has 16 bytes, and the caller guarantees the other 16.
    unsafe {
        _mm256_shuffle_epi8(
            _mm256_broadcastsi128_si256(_mm_loadu_si128(NONLINEAR.as_ptr().cast())),
            nibbles(from),
        )
    }
}

/// Transposes the lanes of eight rows to eight vectors over the rows.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256; SIDE]) -> [__m256; 8] {
    let mut pairs = [_mm256_setzero_ps(); 8];
    for i in 0..4 {
        pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    let mut fours = [_mm256_setzero_ps(); 8];
    for i in 0..2 {
        for j in 0..2 {
            let (a, b) = (pairs[4 * i + j], pairs[4 * i + j + 2]);
            fours[4 * i + 2 * j] = _mm256_shuffle_ps::<0x44>(a, b);
            fours[4 * i + 2 * j + 1] = _mm256_shuffle_ps::<0xee>(a, b);
        }
    }
    let mut lanes = [_mm256_setzero_ps(); 8];
    for i in 0..4 {
        lanes[i] = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
        lanes[i + 4] = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
    }
    lanes
}

/// Scales and offsets of Q4_K and Q5_K, whose units start with d, dmin and eight of each in 6 bits.
///
/// # Safety
/// As for [`Layout`].
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn k_scales(unit: *const u8, row: usize) -> Scales {
    const SIX: u32 = 0x3f3f_3f3f;
    const FOUR: u32 = 0x0f0f_0f0f;
    const TWO: u32 = 0x3030_3030;
    let (mut scales, mut offsets) = ([_mm256_setzero_ps(); SIDE], [_mm256_setzero_ps(); SIDE]);
    for r in 0..SIDE {
        // SAFETY: the caller guarantees eight units.
        let [a, b, c] = unsafe { unit.add(r * row + 4).cast::<[u32; 3]>().read_unaligned() };
        let s = u64::from(a & SIX) | u64::from(c & FOUR | a >> 2 & TWO) << 32;
        let m = u64::from(b & SIX) | u64::from(c >> 4 & FOUR | b >> 2 & TWO) << 32;
        scales[r] = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(s as i64)));
        offsets[r] = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(m as i64)));
    }
    // SAFETY: as above.
    let (d, dmin) = unsafe { (eight_halves(unit, row), eight_halves(unit.add(2), row)) };
    let less = _mm256_xor_ps(dmin, _mm256_set1_ps(-0.0));
    let mut to = Scales { scale: transpose(scales), offset: transpose(offsets) };
    for (scale, offset) in to.scale.iter_mut().zip(&mut to.offset) {
        (*scale, *offset) = (_mm256_mul_ps(*scale, d), _mm256_mul_ps(*offset, less));
    }
    to
}

/// Scales of IQ4_XS.
///
/// # Safety
/// As for [`Layout`].
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn iq4_scales(unit: *const u8, row: usize) -> Scales {
    let mut scales = [[0f32; 8]; SIDE];
    for (r, scales) in scales.iter_mut().enumerate() {
        // SAFETY: the caller guarantees eight units.
        let (high, low) = unsafe {
            let unit = unit.add(r * row);
            (unit.add(2).cast::<[u8; 2]>().read(), unit.add(4).cast::<[u8; 4]>().read())
        };
        for (g, scale) in scales.iter_mut().enumerate() {
            *scale = f32::from(iq4_scale(high, &low, g));
        }
    }
    let mut rows = [_mm256_setzero_ps(); SIDE];
    for (row, scales) in rows.iter_mut().zip(&scales) {
        // SAFETY: eight floats.
        *row = unsafe { _mm256_loadu_ps(scales.as_ptr()) };
    }
    // SAFETY: as above.
    let d = unsafe { eight_halves(unit, row) };
    let mut to = Scales { scale: transpose(rows), offset: [_mm256_setzero_ps(); 8] };
    for scale in &mut to.scale {
        *scale = _mm256_mul_ps(*scale, d);
    }
    to
}

/// One format: its constants, its codes, and the location of its scales.
macro_rules! layout {
    ($name:ident { $($constant:ident = $value:expr),* $(,)? } |$unit:ident, $g:ident| $codes:expr, |$row:ident| $scales:expr
        $(, halves $halves:expr)?) => {
        #[allow(non_camel_case_types, reason = "GGUF's own names")]
        pub(super) struct $name;

        impl Layout for $name {
            const FORMAT: Format = Format::$name;
            $(const $constant: layout!(@type $constant) = $value;)*

            #[inline(always)]
            unsafe fn codes($unit: *const u8, $g: usize) -> __m256i {
                // SAFETY: the caller guarantees the unit.
                unsafe { $codes }
            }

            #[inline(always)]
            unsafe fn scales($unit: *const u8, $row: usize) -> Scales {
                // SAFETY: the caller guarantees eight units.
                unsafe { $scales }
            }

            $(
                #[inline(always)]
                unsafe fn halves($unit: *const u8, $g: usize) -> [i16; 2] {
                    // SAFETY: the caller guarantees the unit.
                    unsafe { $halves }
                }
            )?
        }
    };
    (@type EXCESS) => { i32 };
    (@type $other:ident) => { bool };
}

layout!(Q8_0 {} | unit, _g | bytes(unit.add(2)), |row| one_scale(unit, row));

layout!(Q4_0 { UNSIGNED = true, EXCESS = 8 } |unit, _g| nibbles(unit.add(2)), |row| one_scale(unit, row));

layout!(Q4_1 { UNSIGNED = true, OFFSET = true } |unit, _g| nibbles(unit.add(4)), |row| scale_and_offset(unit, row));

layout!(Q5_0 { UNSIGNED = true, EXCESS = 16 } |unit, _g| fives(unit.add(2), unit.add(6)), |row| one_scale(unit, row));

layout!(Q5_1 { UNSIGNED = true, OFFSET = true } |unit, _g| fives(unit.add(4), unit.add(8)), |row| scale_and_offset(unit, row));

layout!(IQ4_NL {} | unit, _g | chosen(unit.add(2)), |row| one_scale(unit, row));

layout!(IQ4_XS { SCALE_PER_GROUP = true } |unit, g| chosen(unit.add(8 + g * 16)), |row| iq4_scales(unit, row));

layout!(Q4_K { UNSIGNED = true, OFFSET = true, SCALE_PER_GROUP = true }
    |unit, g| bits(bytes(unit.add(16 + g / 2 * GROUP)), g % 2 * 4, 15, 0), |row| k_scales(unit, row));

layout!(Q5_K { UNSIGNED = true, OFFSET = true, SCALE_PER_GROUP = true }
    |unit, g| _mm256_or_si256(
        bits(bytes(unit.add(48 + g / 2 * GROUP)), g % 2 * 4, 15, 0),
        bits(bytes(unit.add(16)), g, 1, 4),
    ),
    |row| k_scales(unit, row));

layout!(Q6_K { HALVES = true }
    |unit, g| {
        let low = bits(bytes(unit.add((g / 4 * 2 + g % 2) * GROUP)), g % 4 / 2 * 4, 15, 0);
        let high = bits(bytes(unit.add(128 + g / 4 * GROUP)), g % 4 * 2, 3, 4);
        _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32))
    },
    |row| one_scale(unit.add(208), row),
    halves [i16::from(unit.add(192 + 2 * g).read() as i8), i16::from(unit.add(193 + 2 * g).read() as i8)]);

layout!(Q3_K { HALVES = true }
|unit, g| {
    let low = bits(bytes(unit.add(32 + g / 4 * GROUP)), g % 4 * 2, 3, 0);
    _mm256_sub_epi8(_mm256_or_si256(low, bits(bytes(unit), g, 1, 2)), _mm256_set1_epi8(4))
},
|row| one_scale(unit.add(108), row),
halves {
    let packed = unit.add(96).cast::<[u8; 12]>().read();
    [q3_scale(&packed, 2 * g), q3_scale(&packed, 2 * g + 1)]
});

/// Runs `$body` with `$layout` as the layout of `$format`, or `$rest` for formats without one here.
macro_rules! with_layout {
    ($format:expr, $layout:ident => $body:expr, _ => $rest:expr) => {{
        use $crate::kernels::int8::layout::*;
        macro_rules! choose {
            ($chosen:ident) => {{
                type $layout = $chosen;
                $body
            }};
        }
        match $format {
            Format::Q8_0 => choose!(Q8_0),
            Format::Q4_0 => choose!(Q4_0),
            Format::Q4_1 => choose!(Q4_1),
            Format::Q5_0 => choose!(Q5_0),
            Format::Q5_1 => choose!(Q5_1),
            Format::Q3_K => choose!(Q3_K),
            Format::Q4_K => choose!(Q4_K),
            Format::Q5_K => choose!(Q5_K),
            Format::Q6_K => choose!(Q6_K),
            Format::IQ4_NL => choose!(IQ4_NL),
            Format::IQ4_XS => choose!(IQ4_XS),
            _ => $rest,
        }
    }};
}
pub(super) use with_layout;
