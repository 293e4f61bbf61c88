//! What a user may rely on, chapter by chapter. Each test says what would break for a user.

/// Wrong bytes are found and traced to their source, and nobody else suffers for it.
mod audit;
/// Networks that drop multicast.
mod filtered;
/// Names of nodes.
mod names;
/// Replayed traffic does nothing.
mod replay;
/// A reset reaches every node, and nothing else passes for one.
mod reset;
/// What a swarm promises, whatever the network does.
mod sharing;
/// What peers, full slabs and impatient people can do to a node.
mod trouble;
