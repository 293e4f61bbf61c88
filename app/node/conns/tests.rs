//! Tests in which several nodes' connections talk to each other in memory.

mod fetching;
mod locked;
mod serving;
mod world;
