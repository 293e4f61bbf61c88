//! Maps files into memory: read-only, never copied. The kernel pages them in when they are touched
//! and may evict the pages again, so a model costs the board no more memory than the part it uses.

use core::ops::Range;
use std::fs::{File, Metadata};
use std::path::Path;

use memmap2::MmapOptions;

use super::fault::{Fault, FileError};
use super::weight::Bytes;
use crate::limits::MAX_MODEL_FILE_BYTES;

/// Maps the file at `path`. Refuses a file that is not regular, is empty, or exceeds
/// `MAX_MODEL_FILE_BYTES`.
pub(crate) fn map(path: &Path) -> Result<Bytes, FileError> {
    let at = |fault| FileError::new(path, fault);
    let meta = regular(path)?;
    let file = File::open(path).map_err(|error| at(Fault::Open(error)))?;
    if meta.len() == 0 {
        return Err(at(Fault::Empty));
    }
    if meta.len() > MAX_MODEL_FILE_BYTES || usize::try_from(meta.len()).is_err() {
        return Err(at(Fault::TooLarge(meta.len())));
    }
    map_file(&file).map_err(|error| at(Fault::Open(error)))
}

/// Maps the part of the file at `path` that is to be locked in memory. The file has been mapped
/// before.
pub(crate) fn map_part(path: &Path, part: Range<usize>) -> Result<Bytes, FileError> {
    let at = |error| FileError::new(path, Fault::Open(error));
    let file = File::open(path).map_err(at)?;
    map_options(&file, MmapOptions::new().offset(part.start as u64).len(part.len())).map_err(at)
}

/// Metadata of the file at `path`, which must be a regular file. Call this before opening the file:
/// opening a pipe blocks until there is a writer.
pub(super) fn regular(path: &Path) -> Result<Metadata, FileError> {
    let at = |fault| FileError::new(path, fault);
    let meta = std::fs::metadata(path).map_err(|error| at(Fault::Open(error)))?;
    match (meta.is_dir(), meta.is_file()) {
        (true, _) => Err(at(Fault::Directory)),
        (_, false) => Err(at(Fault::NotAFile)),
        _ => Ok(meta),
    }
}

fn map_file(file: &File) -> std::io::Result<Bytes> {
    map_options(file, &MmapOptions::new())
}

#[allow(unsafe_code)]
fn map_options(file: &File, options: &MmapOptions) -> std::io::Result<Bytes> {
    // SAFETY: the mapping is private and read-only, and potluck never writes a model in place:
    // every writer here makes a new file and renames it. What remains is a foreign program that
    // truncates or rewrites the file while it is mapped; that ends this process with a bus error or
    // changes weights, as it would for any program that maps its data. The board's model is on a
    // partition that nothing else writes.
    let map = unsafe { options.map(file)? };
    Ok(Bytes::mapped(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(path: &Path) -> String {
        map(path).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_a_model_is_refused_with_the_files_name_and_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("absent.gguf");
        assert!(message(&missing).starts_with(&format!("{}: cannot be read", missing.display())));
        assert!(message(dir.path()).ends_with("is a directory; name a file in it"));
        let empty = dir.path().join("empty.gguf");
        File::create(&empty).unwrap();
        assert!(message(&empty).ends_with("is empty; download it again"));
        let huge = dir.path().join("huge.gguf");
        File::create(&huge).unwrap().set_len(MAX_MODEL_FILE_BYTES + 1).unwrap();
        assert!(message(&huge).contains("no model of this size runs here"));
    }

    #[test]
    fn a_locked_file_stays_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some");
        std::fs::write(&path, vec![1; 64 << 10]).unwrap();
        let locked = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let bytes = map(&path).unwrap();
        let before = locked();
        bytes.lock().unwrap();
        assert!(locked() >= before + 64, "the system may evict the pages");
    }

    #[test]
    fn a_file_is_seen_as_it_lies_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some");
        std::fs::write(&path, b"weights").unwrap();
        assert_eq!(map(&path).unwrap().as_slice(), b"weights");
        std::fs::write(&path, vec![7; 9_000]).unwrap();
        assert_eq!(map_part(&path, 5_000..9_000).unwrap().as_slice(), vec![7; 4_000]);
    }
}
