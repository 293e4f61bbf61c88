//! What a user may count on, chapter by chapter. Each test says what would break for a user.

/// Wrong bytes are found, whose they are, and nobody else suffers for it.
mod audit;
/// Multicast does not come through.
mod filtered;
/// What people call a node.
mod names;
/// What was recorded and is said again does nothing.
mod replay;
/// A reset reaches every node, and nothing else passes for one.
mod reset;
/// What a swarm promises, whatever the network does.
mod sharing;
/// What peers, full slabs and impatient people can do to a node.
mod trouble;
