//! potluck: boards on one LAN answer prompts with Gemma 3 and share the KV state of every
//! prompt prefix.
//!
//! ARCHITECTURE.md describes the modules. The pure core (everything but `model`, `tokenizer`,
//! `answers`, `config`, `http`, `mmlu`, and the four modules around the node: `start`, `drive`,
//! `fronts`, `commands`) builds without burn and without smol: `cargo check --no-default-features`.

#![deny(missing_docs)]
#![warn(clippy::missing_docs_in_private_items)]
#![warn(unreachable_pub)]
#![allow(rustdoc::private_intra_doc_links, reason = "`make doc` documents what is private, too")]
#![cfg_attr(
    not(all(feature = "model", feature = "net")),
    allow(
        dead_code,
        unused_imports,
        reason = "unused code is reported in full builds: the pure core alone uses only part of it"
    )
)]

pub mod cache;
pub mod catalog;
pub mod console;
mod draft;
pub mod id;
pub mod kernels;
pub mod keyring;
pub mod kv;
mod lan;
pub mod limits;
pub mod node;
pub mod pace;
mod planner;
pub mod sampler;
mod splitmix;
pub mod transfer;

#[cfg(feature = "model")]
pub mod answers;
#[cfg(feature = "net")]
pub mod commands;
#[cfg(feature = "net")]
pub mod config;
#[cfg(feature = "net")]
#[allow(
    clippy::missing_docs_in_private_items,
    reason = "names and messages say enough around the node"
)]
pub mod drive;
#[cfg(feature = "net")]
#[allow(
    clippy::missing_docs_in_private_items,
    reason = "names and messages say enough around the node"
)]
mod fronts;
#[cfg(feature = "net")]
pub mod http;
#[cfg(feature = "net")]
#[allow(
    clippy::missing_docs_in_private_items,
    reason = "names and messages say enough around the node"
)]
mod machine;
#[cfg(feature = "net")]
pub mod mmlu;
#[cfg(feature = "model")]
pub mod model;
#[cfg(feature = "net")]
#[allow(
    clippy::missing_docs_in_private_items,
    reason = "names and messages say enough around the node"
)]
mod start;
#[cfg(feature = "model")]
pub mod tokenizer;
