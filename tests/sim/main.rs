//! What a swarm promises, in virtual time. `chapters` hold what a user may rely on,
//! `scenarios` hold past failures and target figures, `seeds` mixes all faults, and `scale`
//! measures large swarms.

mod chapters;
mod scale;
mod scenarios;
mod seeds;
#[path = "mod.rs"]
mod sim;
mod teeth;
