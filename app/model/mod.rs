//! Gemma 3 as burn modules over mapped weights: the only room that names burn.

mod config;
mod weight;

pub use config::{ModelConfig, Precision, Rope};
pub use weight::{Bytes, DType, LayerWeights, Weight, Weights};
