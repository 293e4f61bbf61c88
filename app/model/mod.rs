//! Gemma 3 as burn modules over mapped weights: the only room that names burn.

pub mod convert;
pub mod gguf;
pub mod inspect;
pub mod quantize;
pub mod synth;

mod config;
mod draft;
mod fault;
mod load;
mod map;
mod safetensors;
mod weight;

pub use config::{ModelConfig, Precision, Rope};
pub use fault::{Fault, FileError};
pub use load::{Opened, fingerprint, open};
pub use weight::{Bytes, DType, LayerWeights, Weight, Weights};

/// How far a long work on a file has come. Called often; what to show, and how often, is the caller's choice.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Bytes (or steps) done.
    pub done: u64,
    /// Of how many.
    pub total: u64,
    /// What is being worked on: a tensor's name, a stage.
    pub item: &'a str,
}
