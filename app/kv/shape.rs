//! The byte layout of a block, derived from the model's shape.
//!
//! A plane holds its layers in model order; a layer holds its KV heads in order; a head holds four
//! arrays, each with one row per token:
//!
//! ```text
//! keys    tokens × head_dim           int8 (or f32, little endian)
//! scales  tokens × ceil(head_dim/32)  f16, little endian (int8 only)
//! values  tokens × head_dim
//! scales  tokens × ceil(head_dim/32)
//! ```
//!
//! `tokens` is 16 in every page that attention reads; a ragged block is packed to its actual number
//! of tokens.

use core::ops::Range;

use heapless::Vec;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{BLOCK_TOKENS, MAX_LAYERS, MAX_PLANE_BYTES};

/// Values that share one scale in the int8 format, as in GGUF's Q8_0.
pub(crate) const GROUP: usize = 32;

/// The layers that a plane holds. The numbers are wire values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Plane {
    /// Layers that attend to the whole prefix.
    Global = 0,
    /// Layers that attend to the last `window` tokens.
    Sliding = 1,
}

impl Plane {
    /// Both planes, in wire order.
    pub const ALL: [Plane; 2] = [Plane::Global, Plane::Sliding];
}

/// How a key or value is stored. The numbers are part of the fingerprint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum KvFormat {
    /// int8 in groups of 32 along the head, each with an f16 scale: 1.0625 bytes per value.
    Int8 = 0,
    /// f32: the exact reference.
    F32 = 1,
}

/// Why a model's KV state cannot be laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ShapeError {
    /// More layers than `MAX_LAYERS`, or none.
    #[error("the model has {0} layers; this build takes 1 to {MAX_LAYERS}")]
    Layers(usize),
    /// A head count, head size or window of zero.
    #[error("the model has no KV heads, an empty head, or a window of zero tokens")]
    Empty,
    /// A plane over `MAX_PLANE_BYTES`.
    #[error("a KV block of this model takes {0} bytes; this build takes at most {MAX_PLANE_BYTES}")]
    TooLarge(usize),
}

/// The shape of a model's KV state: all that cache, catalog and transfer need to know about a
/// model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KvShape {
    layers: Vec<Plane, MAX_LAYERS>,
    kv_heads: usize,
    head_dim: usize,
    window: usize,
    format: KvFormat,
}

/// The byte ranges of one KV head's arrays within its plane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeadSpan {
    /// tokens × head_dim codes.
    pub keys: Range<usize>,
    /// tokens × groups f16 scales; empty for f32.
    pub key_scales: Range<usize>,
    /// tokens × head_dim codes.
    pub values: Range<usize>,
    /// tokens × groups f16 scales; empty for f32.
    pub value_scales: Range<usize>,
}

impl KvShape {
    /// Creates a checked shape. `layers[i]` is the plane of layer `i`; `window` includes the token
    /// itself.
    pub fn new(
        layers: &[Plane],
        kv_heads: usize,
        head_dim: usize,
        window: usize,
        format: KvFormat,
    ) -> Result<KvShape, ShapeError> {
        let too_many = ShapeError::Layers(layers.len());
        if layers.is_empty() {
            return Err(too_many);
        }
        let layers = Vec::from_slice(layers).map_err(|_| too_many)?;
        if kv_heads == 0 || head_dim == 0 || window == 0 {
            return Err(ShapeError::Empty);
        }
        if kv_heads > MAX_PLANE_BYTES || head_dim > MAX_PLANE_BYTES {
            return Err(ShapeError::TooLarge(kv_heads.max(head_dim)));
        }
        let shape = KvShape { layers, kv_heads, head_dim, window, format };
        for plane in Plane::ALL {
            let bytes = shape.plane_bytes(plane, BLOCK_TOKENS);
            if bytes > MAX_PLANE_BYTES {
                return Err(ShapeError::TooLarge(bytes));
            }
        }
        Ok(shape)
    }

    /// The plane of every layer, in model order.
    pub fn layers(&self) -> &[Plane] {
        &self.layers
    }

    /// KV heads per layer.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Values per head.
    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Tokens that a sliding layer sees, including the query's own.
    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// How keys and values are stored.
    pub(crate) fn format(&self) -> KvFormat {
        self.format
    }

    /// Scales per row of one head; the last group may be short.
    pub(crate) fn groups(&self) -> usize {
        match self.format {
            KvFormat::Int8 => self.head_dim.div_ceil(GROUP),
            KvFormat::F32 => 0,
        }
    }

    /// Bytes of `plane` for a block of `tokens` tokens. Zero if the model has no layer in it.
    pub fn plane_bytes(&self, plane: Plane, tokens: usize) -> usize {
        self.layers.iter().filter(|&&p| p == plane).count()
            * self.kv_heads
            * self.head_bytes(tokens)
    }

    /// The byte ranges of the arrays of `head` of `layer` within the layer's plane, in a block laid
    /// out for `tokens` tokens.
    ///
    /// # Panics
    /// If the model has no such `layer` or `head`: a bug in the caller.
    pub fn head_span(&self, layer: usize, head: usize, tokens: usize) -> HeadSpan {
        assert!(head < self.kv_heads, "KV head {head} of {}", self.kv_heads);
        let plane = self.layers[layer];
        let before = self.layers[..layer].iter().filter(|&&p| p == plane).count();
        let start = (before * self.kv_heads + head) * self.head_bytes(tokens);
        let codes = tokens * self.row_bytes();
        let scales = tokens * self.groups() * 2;
        let at = |offset: usize, len: usize| start + offset..start + offset + len;
        HeadSpan {
            keys: at(0, codes),
            key_scales: at(codes, scales),
            values: at(codes + scales, codes),
            value_scales: at(2 * codes + scales, scales),
        }
    }

    /// The first token whose sliding plane is needed to resume at token `resume`: a token at
    /// `resume` sees the `window - 1` tokens before it.
    pub fn first_sliding(&self, resume: usize) -> usize {
        (resume + 1).saturating_sub(self.window)
    }

    fn row_bytes(&self) -> usize {
        match self.format {
            KvFormat::Int8 => self.head_dim,
            KvFormat::F32 => self.head_dim * 4,
        }
    }

    fn head_bytes(&self, tokens: usize) -> usize {
        2 * tokens * (self.row_bytes() + self.groups() * 2)
    }
}

/// Copies the first `count` tokens of `plane` from a block laid out for `from_tokens` into one laid
/// out for `to_tokens`. The bytes of each token are copied unchanged. This packs a ragged block,
/// and unpacks it into a page in which work resumes.
///
/// # Panics
/// If `count` exceeds either layout or a slice is shorter than its layout: a bug in the caller.
pub fn copy_tokens(
    shape: &KvShape,
    plane: Plane,
    count: usize,
    (from, from_tokens): (&[u8], usize),
    (to, to_tokens): (&mut [u8], usize),
) {
    assert!(
        count <= from_tokens && count <= to_tokens,
        "{count} tokens from {from_tokens} into {to_tokens}"
    );
    for layer in (0..shape.layers.len()).filter(|&layer| shape.layers[layer] == plane) {
        for head in 0..shape.kv_heads {
            let source = shape.head_span(layer, head, from_tokens);
            let target = shape.head_span(layer, head, to_tokens);
            let rows = count * shape.row_bytes();
            let scales = count * shape.groups() * 2;
            let mut copy = |from_start: usize, to_start: usize, len: usize| {
                to[to_start..to_start + len].copy_from_slice(&from[from_start..from_start + len]);
            };
            copy(source.keys.start, target.keys.start, rows);
            copy(source.key_scales.start, target.key_scales.start, scales);
            copy(source.values.start, target.values.start, rows);
            copy(source.value_scales.start, target.value_scales.start, scales);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gemma_270m(format: KvFormat) -> KvShape {
        let layers: std::vec::Vec<Plane> =
            (0..18).map(|i| if i % 6 == 5 { Plane::Global } else { Plane::Sliding }).collect();
        KvShape::new(&layers, 1, 256, 512, format).unwrap()
    }

    #[test]
    fn a_token_of_gemma_270m_takes_9792_bytes_in_int8() {
        let shape = gemma_270m(KvFormat::Int8);
        let token = shape.plane_bytes(Plane::Global, 1) + shape.plane_bytes(Plane::Sliding, 1);
        assert_eq!(token, 9_792);
        assert_eq!(shape.plane_bytes(Plane::Global, 1), 1_632);
    }

    #[test]
    fn the_heads_of_a_plane_tile_it_without_gap_or_overlap() {
        for format in [KvFormat::Int8, KvFormat::F32] {
            for head_dim in [20, 32, 48, 256] {
                let layers = [Plane::Sliding, Plane::Global, Plane::Sliding];
                let shape = KvShape::new(&layers, 2, head_dim, 24, format).unwrap();
                for tokens in [1, 5, 16] {
                    for plane in Plane::ALL {
                        let mut next = 0;
                        for layer in (0..3).filter(|&l| layers[l] == plane) {
                            for head in 0..2 {
                                let span = shape.head_span(layer, head, tokens);
                                for range in
                                    [span.keys, span.key_scales, span.values, span.value_scales]
                                {
                                    assert_eq!(range.start, next);
                                    next = range.end;
                                }
                            }
                        }
                        assert_eq!(next, shape.plane_bytes(plane, tokens));
                    }
                }
            }
        }
    }

    #[test]
    fn packing_a_ragged_block_and_unpacking_it_keeps_every_byte_of_its_tokens() {
        let shape = gemma_270m(KvFormat::Int8);
        for plane in Plane::ALL {
            let full: std::vec::Vec<u8> =
                (0..shape.plane_bytes(plane, 16)).map(|i| (i % 251) as u8).collect();
            for count in [1, 7, 15] {
                let mut packed = vec![0; shape.plane_bytes(plane, count)];
                copy_tokens(&shape, plane, count, (&full, 16), (&mut packed, count));
                let mut again = vec![0; full.len()];
                copy_tokens(&shape, plane, count, (&packed, count), (&mut again, 16));
                let mut expected = vec![0; full.len()];
                copy_tokens(&shape, plane, count, (&full, 16), (&mut expected, 16));
                assert_eq!(again, expected);
                assert!(again.iter().filter(|&&b| b != 0).count() > packed.len() / 2);
            }
        }
    }

    #[test]
    fn the_window_counts_the_token_itself() {
        let shape = gemma_270m(KvFormat::Int8);
        assert_eq!(shape.first_sliding(511), 0);
        assert_eq!(shape.first_sliding(512), 1);
    }
}
