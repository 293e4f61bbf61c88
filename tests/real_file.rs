//! Locates the published Gemma 3 270M for the chapters that need it: at
//! `target/models/gemma-3-270m-q4_k_m.gguf`, where `make model` puts it, or at the path in
//! POTLUCK_REAL_MODEL.

use std::io::Write;
use std::path::{Path, PathBuf};

/// The path of the real model, if this machine has it. Otherwise prints which test is skipped.
pub fn real_file(test: &str) -> Option<PathBuf> {
    let default =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/models/gemma-3-270m-q4_k_m.gguf");
    let path = std::env::var_os("POTLUCK_REAL_MODEL").map_or(default, PathBuf::from);
    if path.exists() {
        return Some(path);
    }
    // Bypasses the test harness, which hides the output of tests that pass.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: there is no {}", path.display());
    None
}
