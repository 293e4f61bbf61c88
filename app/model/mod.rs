//! Gemma 3 as burn modules over mapped weights: the only room that names burn.
//!
//! `gemma3` holds the modules, `ops` extends burn's backend with our kernels, `attention` walks the pages of a sequence, and
//! `engine` is what the other rooms call.

mod attention;
mod config;
mod engine;
mod gemma3;
mod ops;
mod weight;

pub use config::{ModelConfig, Precision, Rope};
pub use engine::{Logits, Model, ModelError};
pub use gemma3::{Attention, Chunk, Embedding, FeedForward, Gemma3, Layer, Linear, RmsNorm};
pub use weight::{Bytes, DType, LayerWeights, Weight, Weights};

pub use crate::kernels::NUMERICS_VERSION;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
