//! Encodes float values in the stored types, exactly like ggml.

use half::{bf16, f16};
use thiserror::Error;

use crate::kernels::Format;

/// Why a value cannot be stored.
#[derive(Clone, Copy, PartialEq, Debug, Error)]
pub enum Unstorable {
    /// NaN or infinity: the weights are broken.
    #[error("value {0} is {1}: the weights are damaged, download them again")]
    NotFinite(usize, f32),
    /// Beyond the range of half precision, the type of the value or of its block's scale.
    #[error("value {0} is {1}, beyond half precision: convert with --type f32")]
    TooLarge(usize, f32),
}

impl Unstorable {
    /// The same error, with its position shifted by the `values` values before.
    pub(crate) fn after(self, values: usize) -> Unstorable {
        match self {
            Unstorable::NotFinite(at, value) => Unstorable::NotFinite(at + values, value),
            Unstorable::TooLarge(at, value) => Unstorable::TooLarge(at + values, value),
        }
    }
}

/// Appends `values` to `out`, encoded in `format`. Positions in errors count from the start of
/// `values`.
///
/// # Panics
/// If the values do not fill whole blocks of `format`, or `format` is read-only: a bug in the
/// caller.
pub(crate) fn encode(format: Format, values: &[f32], out: &mut Vec<u8>) -> Result<(), Unstorable> {
    let (unit, unit_bytes) = format.unit();
    assert_eq!(values.len() % unit, 0, "{} values for blocks of {unit}", values.len());
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        return Err(Unstorable::NotFinite(index, values[index]));
    }
    out.reserve(values.len() / unit * unit_bytes);
    match format {
        Format::F32 => values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
        Format::BF16 => values
            .iter()
            .for_each(|&value| out.extend_from_slice(&bf16::from_f32(value).to_le_bytes())),
        Format::F16 => {
            for (index, &value) in values.iter().enumerate() {
                out.extend_from_slice(
                    &finite_half(value).ok_or(Unstorable::TooLarge(index, value))?.to_le_bytes(),
                );
            }
        }
        Format::Q8_0 => {
            for (block, group) in values.as_chunks::<32>().0.iter().enumerate() {
                q8_0(group, out).ok_or(Unstorable::TooLarge(block * 32, largest(group)))?;
            }
        }
        Format::Q4_0 => {
            for (block, group) in values.as_chunks::<32>().0.iter().enumerate() {
                q4_0(group, out).ok_or(Unstorable::TooLarge(block * 32, largest(group)))?;
            }
        }
        read_only => panic!("{} is read and never written", read_only.name()),
    }
    Ok(())
}

fn finite_half(value: f32) -> Option<f16> {
    let half = f16::from_f32(value);
    half.is_finite().then_some(half)
}

/// The value of the greatest magnitude; of equals, the first.
fn largest(group: &[f32; 32]) -> f32 {
    group
        .iter()
        .fold(0.0, |largest: f32, &value| if value.abs() > largest.abs() { value } else { largest })
}

/// d = amax / 127, stored as f16; codes are x/d rounded to nearest, halves away from zero, with the
/// unrounded d.
fn q8_0(group: &[f32; 32], out: &mut Vec<u8>) -> Option<()> {
    let scale = group.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0;
    out.extend_from_slice(&finite_half(scale)?.to_le_bytes());
    let mut codes = [0u8; 32];
    if scale > 0.0 {
        for (code, value) in codes.iter_mut().zip(group) {
            let ratio = value / scale;
            *code = (ratio + 0.5f32.copysign(ratio)) as i8 as u8;
        }
    }
    out.extend_from_slice(&codes);
    Some(())
}

/// d = the value of the greatest magnitude / -8, so that this value gets the code 0; codes are x/d
/// + 8.5, truncated to an integer, at most 15.
fn q4_0(group: &[f32; 32], out: &mut Vec<u8>) -> Option<()> {
    let scale = largest(group) / -8.0;
    out.extend_from_slice(&finite_half(scale)?.to_le_bytes());
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let code = |value: f32| ((value * inverse + 8.5) as u8).min(15);
    let (low, high) = group.split_at(16);
    let codes: [u8; 16] = core::array::from_fn(|i| code(low[i]) | code(high[i]) << 4);
    out.extend_from_slice(&codes);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(format: Format, values: &[f32]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(format, values, &mut out).unwrap();
        out
    }

    /// Codes and scale worked out by hand from ggml's `quantize_row_q8_0_ref` and
    /// `quantize_row_q4_0_ref`.
    #[test]
    fn codes_are_ggmls_or_published_files_and_ours_would_answer_differently() {
        let mut values = [0.0f32; 32];
        values[..5].copy_from_slice(&[127.0, -127.0, 0.5, -1.5, 2.49]);
        let q8 = encoded(Format::Q8_0, &values);
        assert_eq!(q8[..2], f16::from_f32(1.0).to_le_bytes());
        assert_eq!(q8[2..8].iter().map(|&b| b as i8).collect::<Vec<_>>(), [127, -127, 1, -2, 2, 0]);

        values = [0.0f32; 32];
        values[0] = -16.0; // d = 2: the largest value takes the code 0
        values[1] = 14.0; // 7 + 8.5 -> 15
        values[2] = 16.0; // 8 + 8.5 -> 16, held at 15
        values[16] = -1.0; // -0.5 + 8.5 = 8
        values[17] = 1.0; // 0.5 + 8.5 = 9
        let q4 = encoded(Format::Q4_0, &values);
        assert_eq!(q4[..2], f16::from_f32(2.0).to_le_bytes());
        assert_eq!(q4[2..6], [0x80, 0x9f, 0x8f, 0x88]);
        assert_eq!(q4.len(), 18);
    }

    #[test]
    fn a_group_of_zeros_stays_zero() {
        assert_eq!(encoded(Format::Q8_0, &[0.0; 32]), [0; 34]);
        let q4 = encoded(Format::Q4_0, &[0.0; 32]);
        assert_eq!(f16::from_le_bytes([q4[0], q4[1]]).to_f32(), 0.0);
        assert!(q4[2..].iter().all(|&pair| pair == 0x88));
    }

    #[test]
    fn broken_and_oversized_weights_are_refused_rather_than_stored_as_something_else() {
        let mut values = [1.0f32; 64];
        values[40] = f32::NAN;
        for format in [Format::F32, Format::F16, Format::BF16, Format::Q8_0, Format::Q4_0] {
            assert!(matches!(
                encode(format, &values, &mut Vec::new()),
                Err(Unstorable::NotFinite(40, _))
            ));
        }
        values[40] = 1e8;
        assert_eq!(
            encode(Format::F16, &values, &mut Vec::new()),
            Err(Unstorable::TooLarge(40, 1e8))
        );
        assert_eq!(
            encode(Format::Q8_0, &values, &mut Vec::new()),
            Err(Unstorable::TooLarge(32, 1e8))
        );
        assert_eq!(
            encode(Format::Q4_0, &values, &mut Vec::new()),
            Err(Unstorable::TooLarge(32, 1e8))
        );
        assert!(encode(Format::F32, &values, &mut Vec::new()).is_ok());
    }
}
