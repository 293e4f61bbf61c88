//! Gemma 3 as burn modules over mapped weights: the only room that uses burn.
//!
//! `gemma3` holds the modules, `ops` extends burn's backend with our kernels, `attention` walks the
//! pages of a sequence, and `engine` is the interface for the other rooms. The rest deals with
//! model files: `gguf` reads and writes the format, `load` opens a model and identifies it by its
//! content, `convert` and `synth` create files, `inspect` describes them, `verify` compares this
//! build with Hugging Face, and `perplexity` measures what the number formats cost.

pub mod convert;
pub mod gguf;
pub(crate) mod inspect;
pub(crate) mod perplexity;
pub(crate) mod quantize;
pub mod synth;
pub(crate) mod verify;

mod attention;
mod config;
mod draft;
mod engine;
mod fault;
mod gemma3;
mod head;
mod load;
mod map;
mod ops;
mod safetensors;
mod stripes;
mod weight;

pub use config::{ModelConfig, Precision, Rope};
pub(crate) use draft::draft_of;
pub(crate) use engine::ModelError;
pub use engine::{Logits, Model, Wanted};
pub(crate) use fault::{Fault, FileError};
pub use head::Head;
pub(crate) use load::Content;
pub use load::{Opened, fingerprint, open};
pub(crate) use map::{map, map_part};
pub use weight::{Bytes, LayerWeights, Weight, Weights};

/// Progress of a long operation on a file. Reported often; the caller chooses what to show and how
/// often.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Bytes (or steps) done.
    pub(crate) done: u64,
    /// Total of the same.
    pub(crate) total: u64,
    /// What is being worked on: a tensor's name, a stage.
    pub(crate) item: &'a str,
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
