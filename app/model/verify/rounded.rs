//! Weights rounded the way the golden file rounds them.
//!
//! `logits_q8w` comes from matrices rounded in groups of 32 values over the whole matrix, row after
//! row. If the number of columns is a multiple of 32, this is what Q8_0 stores, and the converted
//! file is used as it is. Otherwise a group spans two rows, which GGUF cannot represent (the
//! converted file has F16 there): such a matrix is rounded here and kept as f32.

use half::f16;

use crate::kernels::Format;
use crate::model::quantize::encode;
use crate::model::weight::{Bytes, Weight, Weights};

/// The weights of the Q8_0 file. Matrices that it could not round are taken from the f32 file and
/// rounded here. `None` if a matrix is not a whole number of groups, because the golden file cannot
/// have rounded it.
pub(super) fn weights(float: &Weights, q8: &Weights) -> Option<Weights> {
    let mut weights = q8.clone();
    replace(&float.embedding, &mut weights.embedding)?;
    if let (Some(from), Some(to)) = (&float.output, &mut weights.output) {
        replace(from, to)?;
    }
    for (from, to) in float.layers.iter().zip(&mut weights.layers) {
        for (from, to) in [
            (&from.query, &mut to.query),
            (&from.key, &mut to.key),
            (&from.value, &mut to.value),
            (&from.attention_output, &mut to.attention_output),
            (&from.gate, &mut to.gate),
            (&from.up, &mut to.up),
            (&from.down, &mut to.down),
        ] {
            replace(from, to)?;
        }
    }
    Some(weights)
}

fn replace(float: &Weight, weight: &mut Weight) -> Option<()> {
    if weight.format() == Format::F16 {
        *weight = rounded(float)?;
    }
    Some(())
}

fn rounded(float: &Weight) -> Option<Weight> {
    let values: Vec<f32> =
        float.bytes().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    if !values.len().is_multiple_of(32) {
        return None;
    }
    let mut stored = Vec::new();
    encode(Format::Q8_0, &values, &mut stored).ok()?;
    let mut bytes = Vec::with_capacity(values.len() * 4);
    for block in stored.as_chunks::<34>().0 {
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
        bytes.extend(
            block[2..].iter().flat_map(|&code| (scale * f32::from(code as i8)).to_le_bytes()),
        );
    }
    let length = bytes.len();
    Weight::new(Bytes::new(bytes), 0..length, Format::F32, float.rows(), float.cols())
}
