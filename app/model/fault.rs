//! Faults of a model file, reported to the person at the console: the file, the place in it, and
//! what to do.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::kv::ShapeError;
use crate::limits::MAX_MODEL_FILE_BYTES;

/// A model file that cannot be used.
#[derive(Debug, Error)]
#[error("{}: {fault}", path.display())]
pub struct FileError {
    /// The file.
    pub(crate) path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub(crate) fault: Fault,
}

impl FileError {
    /// `fault`, found in the file at `path`.
    pub(crate) fn new(path: &Path, fault: Fault) -> FileError {
        FileError { path: path.to_owned(), fault }
    }
}

/// What is wrong with a file.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    /// The system refuses to read it.
    #[error("cannot be read: {0}; check its name and permissions")]
    Open(io::Error),
    /// The system refuses to write it.
    #[error("cannot be written: {0}; free some space or choose another place")]
    Write(io::Error),
    /// A missing part of a model that is split into several files.
    #[error("is missing, and is part {part} of {of} of the model: download it to the same folder")]
    MissingPart {
        /// The part's number, counted from 1.
        part: usize,
        /// The number of parts.
        of: usize,
    },
    /// A directory where a file was expected.
    #[error("is a directory; name a file in it")]
    Directory,
    /// A device, socket or pipe.
    #[error("is not a regular file; name one")]
    NotAFile,
    /// No bytes at all.
    #[error("is empty; download it again")]
    Empty,
    /// Over `MAX_MODEL_FILE_BYTES`, or over what this machine can map.
    #[error("has {0} bytes, over {MAX_MODEL_FILE_BYTES}; no model of this size runs here")]
    TooLarge(u64),
    /// Not the expected format.
    #[error("{0}")]
    Foreign(String),
    /// The file is shorter than its contents claim.
    #[error(
        "truncated: {what} ends at byte {needs}, but the file has {has}; download or copy it again"
    )]
    Truncated {
        /// The item that does not fit.
        what: String,
        /// Where the item would end.
        needs: u64,
        /// Bytes that the file has.
        has: u64,
    },
    /// The tensors end in zeros: the copy was interrupted.
    #[error(
        "its end is empty, as if copying had been interrupted: copy it again, and eject the card before you remove it"
    )]
    EmptyEnd,
    /// The file contradicts itself or the format.
    #[error("damaged: {0}; download it again")]
    Damaged(String),
    /// A well-formed file that this build cannot run; the message says what it can run.
    #[error("{0}")]
    Unsupported(String),
    /// The KV state of this model cannot be laid out.
    #[error("{0}")]
    Shape(#[from] ShapeError),
}
