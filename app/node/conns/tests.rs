//! Several nodes' connections talk to each other in memory.

mod fetching;
mod serving;
mod world;
