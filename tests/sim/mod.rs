//! The simulator: many real nodes in virtual time, on a network with all the faults of real ones,
//! driven by one queue of events and one seed. The same seed gives the same run.
//!
//! `world` processes the events; `streams` and `datagrams` carry bytes over the network that `net`
//! describes; `host` is the only place that knows a node's interface; `engine` computes hashes
//! instead of a model, and `jobs` runs it; `cast` plays hostile peers; `faults` lists what can go
//! wrong; `ledger` records prompts and their outcomes; `checks` tests every node's invariants after
//! every event; and `talk` is the interface for tests.

#![allow(dead_code, reason = "each test uses only a part of the simulator")]

pub mod cast;
pub mod checks;
mod datagrams;
pub mod engine;
pub mod faults;
pub mod heap;
pub mod host;
mod jobs;
pub mod ledger;
pub mod net;
mod streams;
pub mod talk;
pub mod world;

#[allow(unused_imports, reason = "not every test binary reads answers by name")]
pub use ledger::Answer;
pub use talk::config;
pub use world::Sim;
