//! Splits a file's bytes into lines of text, and turns offsets into lines and columns.

use crate::limits::MAX_CONFIG_FILE_BYTES;

use super::fault::{Fault, Problem};
use super::hits::Hits;

/// The byte order mark with which some editors begin a UTF-8 file.
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// A place in a file for people: line and column (in characters), both counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub line: usize,
    pub column: usize,
}

/// The lines of a file. Lines that are not UTF-8 are reported and become empty, as do lines of
/// nothing but white space.
pub(super) fn of(bytes: &[u8], problems: &mut Vec<Problem>) -> Vec<String> {
    if bytes.len() > MAX_CONFIG_FILE_BYTES {
        problems.push(Problem::whole(Fault::TooLarge));
        return Vec::new();
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        problems.push(Problem::whole(Fault::Utf16));
        return Vec::new();
    }
    let bytes = bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes);
    let mut lines = Vec::new();
    // The section of the settings that follow; `None` before the first.
    let mut section: Option<String> = None;
    for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match str::from_utf8(line) {
            Ok(line) if line.trim().is_empty() => lines.push(String::new()),
            Ok(line) => {
                if let Some(rest) = line.trim_start().strip_prefix('[') {
                    section = rest.split(']').next().map(|name| name.trim().to_string());
                }
                lines.push(line.to_string());
            }
            Err(error) => {
                let good = line[..error.valid_up_to()]
                    .utf8_chunks()
                    .map(|chunk| chunk.valid().chars().count());
                let place = Place { line: at + 1, column: good.sum::<usize>() + 1 };
                let text = String::from_utf8_lossy(line);
                let hits = match text.trim_start().chars().next() {
                    Some('#') => Hits::NONE,
                    Some('[') => Hits::ALL,
                    _ => Hits::at(section.as_deref(), &text),
                };
                problems.push(Problem::at(place, Fault::NotUtf8).hitting(hits));
                lines.push(String::new());
            }
        }
    }
    lines
}

/// The place of the byte at `offset` of `text`.
pub(super) fn place(text: &str, offset: usize) -> Place {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let column =
        before[start..].utf8_chunks().map(|chunk| chunk.valid().chars().count()).sum::<usize>() + 1;
    Place { line, column }
}
