//! GGUF: the file format in which the ecosystem publishes weights. Read in place, never trusted;
//! written by `convert` and `synth`.
//!
//! ```text
//! 0   "GGUF"                   magic
//! 4   u32  version             2 or 3, all numbers little endian
//! 8   u64  tensor count
//! 16  u64  metadata count
//! 24  metadata                 key (u64 length, bytes), u32 type, value; value types in `value.rs`
//!     tensor descriptions      name, u32 dimensions, u64 each (innermost first), u32 type, u64 offset within the data
//!     zeros to a multiple of general.alignment (default 32)
//!     data                     each tensor at its offset, a multiple of the alignment
//! ```
//!
//! [`Gguf::open`] checks all of that against the file's length before anything is used: counts,
//! lengths, types, duplicates, offsets, overlaps. Its result can be read without further checks.
//! [`Gguf::config`], [`Gguf::weights`] and [`Gguf::vocabulary`] then check the meaning.
//!
//! A model may be split into several such files (`parts.rs`): the first has the metadata, and each
//! has tensors of its own.

mod config;
mod cursor;
mod ggml;
mod parts;
mod read;
mod value;
mod vocabulary;
mod weights;
mod write;

#[cfg(test)]
mod tests;

pub(super) use config::{check, every_nth_global, inverse_root};
pub(crate) use ggml::TensorType;
pub use read::Gguf;
pub(crate) use read::{GgufFile, TensorInfo};
#[cfg(test)]
pub(crate) use value::Value;
pub(crate) use weights::layer_tensors;
pub use weights::{Part, tensor_names};
pub(crate) use write::vocabulary_entries;
pub use write::{Entry, TensorPlan, Writer, kept_entries, model_entries};

/// The only architecture that potluck runs, as spelled in `general.architecture`.
pub(crate) const ARCHITECTURE: &str = "gemma3";
