//! What potluck promises, chapter by chapter. Each module is a chapter, each test says what would break for a user.

/// Real MMLU prompts, with sharing on and off.
#[cfg(all(feature = "model", feature = "net"))]
mod answers;
/// The same bits on every machine.
#[cfg(feature = "model")]
mod bits;
/// The binary as a newcomer meets it.
#[cfg(all(feature = "model", feature = "net"))]
mod commands;
/// `potluck.toml`, through the binary.
#[cfg(all(feature = "model", feature = "net"))]
mod config;
/// The consoles of the binary, on terminals.
#[cfg(all(feature = "model", feature = "net", target_os = "linux"))]
mod consoles;
/// What a conversation costs.
#[cfg(all(feature = "model", feature = "net"))]
mod conversation;
/// The model that is in the repository.
#[cfg(feature = "model")]
mod demo_model;
/// What a release holds.
#[cfg(all(feature = "model", feature = "net"))]
mod dist;
/// The documents' figures are those that the code computes.
mod docs;
/// What the fuzzer of model files begins with.
#[cfg(feature = "model")]
mod fuzz_seeds;
/// The model's answers against Hugging Face's, and a handed-over prefix against one computed here.
#[cfg(feature = "model")]
mod golden;
/// The HTTP API over real sockets.
#[cfg(all(feature = "model", feature = "net"))]
mod http;
/// Several prompts at once on one small cache, and blocks that left and came back.
#[cfg(feature = "model")]
mod interleaved;
/// A node that takes another machine's time, and the simulator beside it.
#[cfg(all(feature = "model", feature = "net"))]
mod paced;
/// The binary itself: several processes, real sockets, signals.
#[cfg(all(feature = "model", feature = "net"))]
mod processes;
/// Where the published model lies.
#[cfg(feature = "model")]
mod real_file;
/// The published model's answers against llama.cpp's.
#[cfg(feature = "model")]
mod real_model;
/// The vocabulary of the published Gemma 3, where it is at hand.
#[cfg(feature = "model")]
mod real_tokens;
/// A reset of real processes.
#[cfg(all(feature = "model", feature = "net"))]
mod reset;
/// Many nodes in virtual time.
#[cfg(feature = "model")]
mod sim;
/// The house rules: who may know whom, what every file and document must have.
mod tidy;
/// The scripts of `tools/`, where they decide something.
#[cfg(target_os = "linux")]
mod tools;
/// What the radio's own program reads of the settings.
#[cfg(all(feature = "net", target_os = "linux"))]
mod wifi;
