//! potluck: boards on one LAN answer prompts with Gemma 3 and share the KV state of every prompt prefix.
//!
//! ARCHITECTURE.md walks through the rooms. The pure core (everything but `model`, `tokenizer`, `answers`, `config`, `mmlu`, and the four rooms
//! around the node: `start`, `drive`, `fronts`, `commands`)
//! builds without burn and without smol: `cargo check --no-default-features`.

#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod cache;
pub mod catalog;
pub mod console;
pub mod id;
pub mod kernels;
pub mod keyring;
pub mod kv;
pub mod limits;
pub mod node;
pub mod planner;
pub mod sampler;
pub mod transfer;

#[cfg(feature = "model")]
pub mod answers;
#[cfg(feature = "net")]
pub mod commands;
#[cfg(feature = "net")]
pub mod config;
#[cfg(feature = "net")]
pub mod drive;
#[cfg(feature = "net")]
mod fronts;
#[cfg(feature = "net")]
pub mod mmlu;
#[cfg(feature = "model")]
pub mod model;
#[cfg(feature = "net")]
mod start;
#[cfg(feature = "model")]
pub mod tokenizer;
