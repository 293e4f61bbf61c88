//! The output rows split into two halves, as a mapped file that replaces them (`kernels::head`
//! explains what the halves are for).
//!
//! ```text
//! 0     "potluck head 1\n\0", 16 bytes
//! 16    hash of the content of the model it was made from, 16 bytes
//! 32    rows and columns, u64 each, little endian
//! 48    hash of the parts, 16 bytes: XXH3-128 of the XXH3-128 of each
//! 64    XXH3-64 of bytes 0 to 63
//! 4096  the parts (`kernels::HeadShape`)
//! ```
//!
//! A new file is written beside its final path and renamed once its bytes are on the disk, so a
//! file at the final path is complete. Writing needs memory for only some rows at a time.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64, xxh3_128};

use super::fault::{Fault, FileError};
use super::{Bytes, Progress, Weight, map};
use crate::kernels::{HeadShape, Split, split_row};

const MAGIC: &[u8; 16] = b"potluck head 1\n\0";
/// Offset of the parts: a page, so that they are aligned in a map.
const START: usize = 4096;
const HEADER: usize = 72;
/// Rows split between two writes: 0.7 MB of the board's model.
const ROWS: usize = 1024;

/// Output rows split into two halves, mapped.
#[derive(Clone, Debug)]
pub struct Head {
    bytes: Bytes,
    shape: HeadShape,
}

impl Head {
    /// Whether the rows of `weight` can be split.
    pub(crate) fn fits(weight: &Weight) -> bool {
        shape(weight).is_some()
    }

    /// Size of the file for `weight` in bytes; 0 if it cannot be split.
    pub(crate) fn file_bytes(weight: &Weight) -> u64 {
        shape(weight).map_or(0, |shape| (START + shape.bytes()) as u64)
    }

    /// Opens the file at `path` if it was made from the rows of `weight` in the model with content
    /// `made_from`. Does not read the parts: see [`Head::is_sound`].
    pub fn open(path: &Path, weight: &Weight, made_from: [u8; 16]) -> Option<Head> {
        let shape = shape(weight)?;
        let bytes = map(path).ok()?;
        let all = bytes.as_slice();
        let told = header(shape, made_from, *all.get(48..64)?.first_chunk()?);
        let is_whole = all.len() == START + shape.bytes() && all.get(..HEADER)? == told;
        is_whole.then_some(Head { bytes, shape })
    }

    /// Whether the parts match their hash. Reads all of them, which also pages them into memory.
    pub(crate) fn is_sound(&self) -> bool {
        let parts = self.shape.parts().map(|part| xxh3_128(&self.bytes.as_slice()[START..][part]));
        self.bytes.as_slice()[48..64] == joined(parts)
    }

    /// Its bytes, for locking in memory.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The parts, for the kernels.
    pub(super) fn split(&self) -> Split<'_> {
        let parts = &self.bytes.as_slice()[START..];
        Split::new(self.shape, parts)
            .unwrap_or_else(|| unreachable!("the length was checked when it was opened"))
    }

    /// Splits the rows of `weight` into a file at `path`. Overwrites the temporary file of an
    /// earlier attempt. Fails if another process is writing the same file.
    ///
    /// # Errors
    /// The system's errors; [`Fault::Unsupported`] for rows that cannot be split. Deletes what it
    /// has written if it fails after that.
    pub fn build(
        path: &Path,
        weight: &Weight,
        made_from: [u8; 16],
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), FileError> {
        let at = |fault| FileError::new(path, fault);
        let shape = shape(weight)
            .ok_or_else(|| at(Fault::Unsupported("these rows cannot be split".to_string())))?;
        let new = path.with_extension("newhead");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&new)
            .map_err(|error| at(Fault::Write(error)))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(at(Fault::Unsupported(
                    "another process is splitting them: the next start will use them".to_string(),
                )));
            }
            Err(TryLockError::Error(error)) => return Err(at(Fault::Write(error))),
        }
        // Between opening and locking, the previous holder of the lock may have renamed the file:
        // it is then in use under its final name.
        let same = |one: &fs::Metadata, other: &fs::Metadata| {
            (one.dev(), one.ino()) == (other.dev(), other.ino())
        };
        if !file.metadata().and_then(|own| Ok(same(&own, &fs::metadata(&new)?))).unwrap_or(false) {
            return Err(at(Fault::Unsupported(
                "another process has just split them: the next start will use them".to_string(),
            )));
        }
        let done = write(&file, shape, weight, made_from, progress).and_then(|()| {
            file.sync_all().and_then(|()| fs::rename(&new, path)).map_err(Fault::Write)
        });
        if done.is_err() {
            let _ = fs::remove_file(&new);
        }
        done.map_err(at)
    }
}

fn shape(weight: &Weight) -> Option<HeadShape> {
    HeadShape::new(weight.format(), weight.rows(), weight.cols())
}

fn joined(parts: [u128; 4]) -> [u8; 16] {
    let bytes: Vec<u8> = parts.iter().flat_map(|hash| hash.to_le_bytes()).collect();
    xxh3_128(&bytes).to_le_bytes()
}

fn header(shape: HeadShape, made_from: [u8; 16], hash: [u8; 16]) -> Vec<u8> {
    let sizes = [shape.rows(), shape.cols()].map(|size| (size as u64).to_le_bytes());
    let mut header = [&MAGIC[..], &made_from, &sizes[0], &sizes[1], &hash].concat();
    header.extend(xxh3_64(&header).to_le_bytes());
    header
}

fn write(
    file: &File,
    shape: HeadShape,
    weight: &Weight,
    made_from: [u8; 16],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Fault> {
    let total = weight.bytes().len() as u64;
    file.set_len(0)
        .and_then(|()| file.set_len((START + shape.bytes()) as u64))
        .map_err(Fault::Write)?;
    let mut hashes: [Xxh3Default; 4] = core::array::from_fn(|_| Xxh3Default::new());
    let mut ends = shape.parts().map(|part| (START + part.start) as u64);
    let sizes = shape.row_bytes();
    let mut buffers = sizes.map(|bytes| vec![0u8; bytes * ROWS]);
    let row_bytes = weight.bytes().len() / weight.rows();
    for (number, rows) in weight.bytes().chunks(row_bytes * ROWS).enumerate() {
        let [scales, upper, lower, widths] = &mut buffers;
        for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
            let part = |size: usize| r * size..(r + 1) * size;
            let halves = (
                &mut scales[part(sizes[0])],
                &mut upper[part(sizes[1])],
                &mut lower[part(sizes[2])],
            );
            widths[r] = split_row(row, halves.0, halves.1, halves.2).ok_or_else(|| {
                Fault::Unsupported(format!("row {} has no bound", number * ROWS + r))
            })?;
        }
        let count = rows.len() / row_bytes;
        for (((buffer, size), hash), end) in
            buffers.iter().zip(sizes).zip(&mut hashes).zip(&mut ends)
        {
            let bytes = &buffer[..count * size];
            hash.update(bytes);
            file.write_all_at(bytes, *end).map_err(Fault::Write)?;
            *end += bytes.len() as u64;
        }
        progress(Progress {
            done: ((number * ROWS + count) * row_bytes) as u64,
            total,
            item: "output rows",
        });
    }
    let hash = joined(hashes.map(|hash| hash.digest128()));
    file.write_all_at(&header(shape, made_from, hash), 0).map_err(Fault::Write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Format;

    fn rows(count: usize, seed: u8) -> Weight {
        let block = |n: usize| {
            let codes = (0..32usize).map(move |i| (n * 37 + i * 11 + usize::from(seed)) as u8);
            [0x11u8, 0x22].into_iter().chain(codes)
        };
        let bytes: Vec<u8> = (0..count * 4).flat_map(block).collect();
        let end = bytes.len();
        Weight::new(Bytes::new(bytes), 0..end, Format::Q8_0, count, 128).unwrap()
    }

    #[test]
    fn a_file_comes_back_for_its_model_only_and_damage_shows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.head");
        let weight = rows(2_500, 1);
        assert!(Head::open(&path, &weight, [1; 16]).is_none());
        fs::write(path.with_extension("newhead"), vec![7; 9_000_000]).unwrap();
        let mut last = 0;
        Head::build(&path, &weight, [1; 16], &mut |progress| last = progress.done).unwrap();
        assert_eq!(last, weight.bytes().len() as u64);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().len(), Head::file_bytes(&weight));
        assert!(Head::open(&path, &weight, [1; 16]).unwrap().is_sound());
        assert!(
            Head::open(&path, &weight, [2; 16]).is_none()
                && Head::open(&path, &rows(2_499, 1), [1; 16]).is_none()
        );
        let whole = fs::read(&path).unwrap();
        for at in [0, 20, 40, 50, 65] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(Head::open(&path, &weight, [1; 16]).is_none(), "byte {at}");
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(Head::open(&path, &weight, [1; 16]).is_none());
        for at in [START, START + 300_000, whole.len() - 70] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(!Head::open(&path, &weight, [1; 16]).unwrap().is_sound(), "byte {at}");
        }
    }

    #[test]
    fn rows_without_a_bound_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.head");
        let mut bytes = rows(1_100, 1).bytes().to_vec();
        bytes[1_050 * 136 + 1] = 0xbc;
        let end = bytes.len();
        let weight = Weight::new(Bytes::new(bytes), 0..end, Format::Q8_0, 1_100, 128).unwrap();
        let said = Head::build(&path, &weight, [0; 16], &mut |_| {}).unwrap_err().to_string();
        assert!(said.contains("row 1050"), "{said}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(
            Head::build(
                &dir.path().join("absent").join("some.head"),
                &weight,
                [0; 16],
                &mut |_| {}
            )
            .is_err()
        );
    }

    #[test]
    fn two_processes_do_not_write_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.head");
        let other = File::create(path.with_extension("newhead")).unwrap();
        other.lock().unwrap();
        let said = Head::build(&path, &rows(10, 1), [0; 16], &mut |_| {}).unwrap_err().to_string();
        assert!(said.contains("another process") && said.contains("the next start"), "{said}");
        drop(other);
        Head::build(&path, &rows(10, 1), [0; 16], &mut |_| {}).unwrap();
    }
}
