//! Facts about the machine, as Linux reports them in `/proc` and `/sys`: its memory, this process,
//! the board. What the system does not report is none. Decides nothing.

pub(crate) mod board;
pub(crate) mod memory;
pub(crate) mod process;

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most bytes read of a file in `/proc` or `/sys`.
const MOST_BYTES: u64 = 16 << 10;

/// The text of a file in `/proc` or `/sys` under `root`, without surrounding whitespace and zero
/// bytes; none if it is empty or absent.
pub(crate) fn text(root: &Path, path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(root.join(path)).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes)
        .trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .to_string();
    Some(text).filter(|text| !text.is_empty())
}

/// Writes a file under a test's root.
#[cfg(test)]
pub(crate) fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
