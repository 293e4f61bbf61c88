//! The simulator: many real nodes in virtual time, on a network that does everything that networks do, driven by one queue of events
//! and one seed. The same seed gives the same run.
//!
//! `world` moves the events, `streams` and `datagrams` carry bytes over what `net` describes, `host` is the one place that knows a
//! node's interface, `engine` computes hashes instead of a model, `cast` plays the peers that mean ill, `faults` is what can go wrong,
//! `ledger` writes down what was asked and what came of it, `checks` holds every node to its promises after every event, and `talk` is
//! what tests say to it all.

#![allow(dead_code, reason = "each test uses what it needs of the simulator")]

pub mod cast;
pub mod checks;
mod datagrams;
pub mod engine;
pub mod faults;
pub mod heap;
pub mod host;
pub mod ledger;
pub mod net;
mod streams;
pub mod talk;
pub mod world;

#[allow(unused_imports, reason = "not every binary of tests reads answers by name")]
pub use ledger::Answer;
pub use talk::config;
pub use world::Sim;
