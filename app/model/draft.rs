//! A file in the making: written beside its target, and only a whole one takes the target's place.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::fault::{Fault, FileError};

/// A file under a temporary name. Dropped, it is gone; [`Draft::keep`] makes it the target.
#[derive(Debug)]
pub(super) struct Draft {
    file: Option<BufWriter<File>>,
    temporary: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// Starts a draft of `target`, in the same directory.
    pub(super) fn create(target: &Path) -> Result<Draft, FileError> {
        if target.is_dir() {
            return Err(FileError::new(target, Fault::Directory));
        }
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let temporary = target.with_file_name(name);
        let file = File::create(&temporary).map_err(|error| FileError::new(target, Fault::Write(error)))?;
        Ok(Draft { file: Some(BufWriter::with_capacity(1 << 20, file)), temporary, target: target.to_owned() })
    }

    /// Puts the draft in the target's place, once its bytes are on the disk.
    pub(super) fn keep(mut self) -> Result<(), FileError> {
        let target = self.target.clone();
        self.settle().map_err(|error| FileError::new(&target, Fault::Write(error)))
    }

    fn settle(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        }
        std::fs::rename(&self.temporary, &self.target)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_mut().map_or(Ok(0), |file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.file = None;
        // Once kept, nothing lies here any more.
        let _ = std::fs::remove_file(&self.temporary);
    }
}
