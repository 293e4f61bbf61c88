//! What potluck promises, chapter by chapter. Each module is a chapter, each test says what would break for a user.

/// Real MMLU prompts, with sharing on and off.
#[cfg(all(feature = "model", feature = "net"))]
mod answers;
/// The documents' figures are those that the code computes.
mod docs;
/// The model's answers against Hugging Face's, and a handed-over prefix against one computed here.
#[cfg(feature = "model")]
mod golden;
/// A reset reaches every node, and nothing else passes for one.
mod reset;
/// What a swarm promises, whatever the network does.
mod sharing;
/// The house rules: who may know whom, what every file and document must have.
mod tidy;
/// A LAN in memory.
mod world;
