//! Quantised formats as terms, the only form that products use.
//!
//! A group of 32 columns has one term, or two if the format adds an offset. A term is 32 integers
//! of at most 13 bits and sign (so that 32 products with int8 fit an i32, and its float) under one
//! f32 scale, which is exact: an f16 from the file, or an f16 times an 8-bit integer. Scales of 16
//! columns are multiplied into the integers, so those stay exact, too. The integers of the second
//! term are the factors of the offset.
//!
//! ```text
//! format                  integers                       scale       second term: integers, scale
//! Q4_0 Q5_0 Q8_0 IQ4_NL   code                           d
//! IQ4_XS                  code                           d × s
//! Q3_K Q6_K               code × s (of 16 columns)       d
//! Q4_1 Q5_1               code                           d           1, m
//! Q4_K Q5_K               code                           d × s       1, −(dmin × m)
//! Q2_K                    code × s (of 16 columns)       d           m (of 16 columns), −dmin
//! ```
//!
//! Layouts are those of ggml-common.h. The fields of a unit are in the order in which the functions
//! below split them.

use super::format::f16_to_f32;
use super::{Format, GROUP};

/// The most terms of a group.
pub(super) const MAX_TERMS: usize = 2;

/// The integers of one term.
pub(super) type Codes = [i16; GROUP];

/// The values of the 16 codes of IQ4_NL and IQ4_XS.
pub(super) const NONLINEAR: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Takes the next `N` bytes of a unit.
#[inline(always)]
fn take<'a, const N: usize>(unit: &mut &'a [u8]) -> &'a [u8; N] {
    let (field, rest) = unit.split_first_chunk().expect("a whole unit");
    *unit = rest;
    field
}

#[inline(always)]
fn half(unit: &mut &[u8]) -> f32 {
    f16_to_f32(*take(unit))
}

/// Low nibbles are the values 0..16, high ones 16..32.
#[inline(always)]
fn nibbles(bytes: &[u8; GROUP / 2]) -> [u8; GROUP] {
    core::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
}

/// The same with a fifth bit each, value `i`'s being bit `i`.
#[inline(always)]
fn fives(high: [u8; 4], bytes: &[u8; GROUP / 2]) -> [u8; GROUP] {
    let (high, low) = (u32::from_le_bytes(high), nibbles(bytes));
    core::array::from_fn(|i| low[i] | ((high >> i) as u8 & 1) << 4)
}

/// 32 of the bytes that a unit of 256 shares between groups: `which` counts in steps of 32 bytes.
#[inline(always)]
fn shared<const N: usize>(bytes: &[u8; N], which: usize) -> &[u8; GROUP] {
    bytes[which * GROUP..].first_chunk().expect("a group's bytes")
}

/// Scale and offset of group `g`, 6 bits each, as Q4_K and Q5_K pack eight of both.
#[inline(always)]
pub(super) fn six_bits(packed: &[u8; 12], g: usize) -> (u8, u8) {
    if g < 4 {
        (packed[g] & 63, packed[g + 4] & 63)
    } else {
        (packed[g + 4] & 15 | packed[g - 4] >> 6 << 4, packed[g + 4] >> 4 | packed[g] >> 6 << 4)
    }
}

/// Scale `i` of 16, as Q3_K packs them.
#[inline(always)]
pub(super) fn q3_scale(packed: &[u8; 12], i: usize) -> i16 {
    let low = packed[i % 8] >> (i / 8 * 4) & 15;
    let high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
    i16::from(low | high << 4) - 32
}

/// Scale of group `g`, as IQ4_XS packs eight.
#[inline(always)]
pub(super) fn iq4_scale(high: [u8; 2], low: &[u8; 4], g: usize) -> i16 {
    let low = low[g / 2] >> (g % 2 * 4) & 15;
    let high = (u16::from_le_bytes(high) >> (2 * g)) as u8 & 3;
    i16::from(low | high << 4) - 32
}

#[inline(always)]
fn codes(of: impl Fn(usize) -> i16) -> Codes {
    core::array::from_fn(of)
}

/// Splits group `group` of a unit into the integers and scales of its terms. A term that the format
/// lacks is left unchanged, under the scale 0.
///
/// # Panics
/// When `unit` is not a complete unit of a quantised format.
#[inline(always)]
pub(super) fn unpack_group(
    format: Format,
    mut unit: &[u8],
    group: usize,
    terms: &mut [Codes; MAX_TERMS],
) -> [f32; MAX_TERMS] {
    let unit = &mut unit;
    let g = group;
    match format {
        Format::Q8_0 => {
            let (d, q) = (half(unit), take::<32>(unit));
            terms[0] = codes(|i| i16::from(q[i] as i8));
            [d, 0.0]
        }
        Format::Q4_0 => {
            let (d, q) = (half(unit), nibbles(take(unit)));
            terms[0] = codes(|i| i16::from(q[i]) - 8);
            [d, 0.0]
        }
        Format::Q4_1 => {
            let (d, m, q) = (half(unit), half(unit), nibbles(take(unit)));
            *terms = [codes(|i| i16::from(q[i])), [1; GROUP]];
            [d, m]
        }
        Format::Q5_0 => {
            let (d, high) = (half(unit), *take(unit));
            let q = fives(high, take(unit));
            terms[0] = codes(|i| i16::from(q[i]) - 16);
            [d, 0.0]
        }
        Format::Q5_1 => {
            let (d, m, high) = (half(unit), half(unit), *take(unit));
            let q = fives(high, take(unit));
            *terms = [codes(|i| i16::from(q[i])), [1; GROUP]];
            [d, m]
        }
        Format::IQ4_NL => {
            let (d, q) = (half(unit), nibbles(take(unit)));
            terms[0] = codes(|i| i16::from(NONLINEAR[usize::from(q[i])]));
            [d, 0.0]
        }
        Format::IQ4_XS => {
            let (d, high, low, q) = (half(unit), *take(unit), take(unit), take::<128>(unit));
            let q = nibbles(q[g * 16..].first_chunk().expect("a group's nibbles"));
            terms[0] = codes(|i| i16::from(NONLINEAR[usize::from(q[i])]));
            [d * f32::from(iq4_scale(high, low, g)), 0.0]
        }
        Format::Q2_K => {
            let (packed, q, d, dmin) = (take::<16>(unit), take::<64>(unit), half(unit), half(unit));
            let (q, shift) = (shared(q, g / 4), g % 4 * 2);
            let of_half = |i: usize| packed[g * 2 + i / 16];
            terms[0] = codes(|i| i16::from(q[i] >> shift & 3) * i16::from(of_half(i) & 15));
            terms[1] = codes(|i| i16::from(of_half(i) >> 4));
            [d, -dmin]
        }
        Format::Q3_K => {
            let (high, q, packed, d) = (take::<32>(unit), take::<64>(unit), take(unit), half(unit));
            let (q, shift) = (shared(q, g / 4), g % 4 * 2);
            let scales = [q3_scale(packed, g * 2), q3_scale(packed, g * 2 + 1)];
            terms[0] = codes(|i| {
                (i16::from(q[i] >> shift & 3 | (high[i] >> g & 1) << 2) - 4) * scales[i / 16]
            });
            [d, 0.0]
        }
        Format::Q4_K => {
            let (d, dmin, packed, q) = (half(unit), half(unit), take(unit), take::<128>(unit));
            let (q, shift) = (shared(q, g / 2), g % 2 * 4);
            *terms = [codes(|i| i16::from(q[i] >> shift & 15)), [1; GROUP]];
            let (s, m) = six_bits(packed, g);
            [d * f32::from(s), -(dmin * f32::from(m))]
        }
        Format::Q5_K => {
            let (d, dmin, packed, high, q) =
                (half(unit), half(unit), take(unit), take::<32>(unit), take::<128>(unit));
            let (q, shift) = (shared(q, g / 2), g % 2 * 4);
            *terms =
                [codes(|i| i16::from(q[i] >> shift & 15 | (high[i] >> g & 1) << 4)), [1; GROUP]];
            let (s, m) = six_bits(packed, g);
            [d * f32::from(s), -(dmin * f32::from(m))]
        }
        Format::Q6_K => {
            let (low, high, scales, d) =
                (take::<128>(unit), take::<64>(unit), take::<16>(unit), half(unit));
            let (low, high) = (shared(low, g / 4 * 2 + g % 2), shared(high, g / 4));
            let (low_shift, high_shift) = (g % 4 / 2 * 4, g % 4 * 2);
            let code = |i: usize| {
                i16::from(low[i] >> low_shift & 15 | (high[i] >> high_shift & 3) << 4) - 32
            };
            terms[0] = codes(|i| code(i) * i16::from(scales[g * 2 + i / 16] as i8));
            [d, 0.0]
        }
        Format::F32 | Format::F16 | Format::BF16 => unreachable!("{format:?} has no terms"),
    }
}

/// Splits a quantised row into its terms: `format.terms()` per group, one after another.
#[inline(always)]
pub(super) fn unpack(format: Format, bytes: &[u8], terms: &mut [Codes], scales: &mut [f32]) {
    let (values, unit_bytes) = format.unit();
    let (n, groups) = (format.terms(), values / GROUP);
    let places = terms.chunks_exact_mut(n).zip(scales.chunks_exact_mut(n));
    let at =
        bytes.chunks_exact(unit_bytes).flat_map(|unit| (0..groups).map(move |group| (unit, group)));
    let mut codes = [[0; GROUP]; MAX_TERMS];
    for ((unit, group), (terms, scales)) in at.zip(places) {
        let found = unpack_group(format, unit, group, &mut codes);
        terms.copy_from_slice(&codes[..n]);
        scales.copy_from_slice(&found[..n]);
    }
}
