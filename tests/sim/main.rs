//! What a swarm promises, in virtual time. `chapters` say what a user may count on, `scenarios` what once broke it and the figures that
//! nodes are held to, `seeds` mix all faults, and `scale` measures large swarms.

mod chapters;
mod scale;
mod scenarios;
mod seeds;
#[path = "mod.rs"]
mod sim;
mod teeth;
