//! What potluck promises, chapter by chapter. Each module is a chapter; each test says what would
//! break for a user.

/// Real MMLU prompts, with sharing on and off.
#[cfg(all(feature = "model", feature = "net"))]
mod answers;
/// The same bits on every machine.
#[cfg(feature = "model")]
mod bits;
/// The binary as a new user meets it.
#[cfg(all(feature = "model", feature = "net"))]
mod commands;
/// `potluck.toml`, as the binary reads it.
#[cfg(all(feature = "model", feature = "net"))]
mod config;
/// The binary's consoles, on terminals.
#[cfg(all(feature = "model", feature = "net", target_os = "linux"))]
mod consoles;
/// What a conversation costs.
#[cfg(all(feature = "model", feature = "net"))]
mod conversation;
/// The demo model in the repository.
#[cfg(feature = "model")]
mod demo_model;
/// The contents of a release.
#[cfg(all(feature = "model", feature = "net"))]
mod dist;
/// The figures in the documents match what the code computes.
mod docs;
/// Seeds of the fuzzer of model files.
#[cfg(feature = "model")]
mod fuzz_seeds;
/// The model's answers against Hugging Face's, and a transferred prefix against one
/// computed locally.
#[cfg(feature = "model")]
mod golden;
/// The HTTP API over real sockets.
#[cfg(all(feature = "model", feature = "net"))]
mod http;
/// Several concurrent prompts on one small cache, and blocks that are evicted and fetched again.
#[cfg(feature = "model")]
mod interleaved;
/// A node that runs at another machine's pace, compared with the simulator.
#[cfg(all(feature = "model", feature = "net"))]
mod paced;
/// The binary itself: several processes, real sockets, signals.
#[cfg(all(feature = "model", feature = "net"))]
mod processes;
/// Location of the published model.
#[cfg(feature = "model")]
mod real_file;
/// The published model's answers against llama.cpp's.
#[cfg(feature = "model")]
mod real_model;
/// The vocabulary of the published Gemma 3, where the model is available.
#[cfg(feature = "model")]
mod real_tokens;
/// A reset of real processes.
#[cfg(all(feature = "model", feature = "net"))]
mod reset;
/// Many nodes in virtual time.
#[cfg(feature = "model")]
mod sim;
/// The house rules: which rooms may depend on which, and what every file and document must have.
mod tidy;
/// The decisions that scripts in `tools/` make.
#[cfg(target_os = "linux")]
mod tools;
/// What wpa_supplicant reads from the Wi-Fi settings.
#[cfg(all(feature = "net", target_os = "linux"))]
mod wifi;
