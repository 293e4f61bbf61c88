//! Atomic file creation: a draft is written beside its target and replaces it only once complete.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::fault::{Fault, FileError};
use super::map::regular;

/// A file under a temporary name. Dropping it deletes the file; [`Draft::keep`] moves it to the
/// target.
#[derive(Debug)]
pub(super) struct Draft {
    file: Option<BufWriter<File>>,
    temporary: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// Starts a draft of `target`, in the same directory. Follows a link, so that the file it
    /// points to is replaced. Refuses an existing target that is not a regular file: renaming over
    /// a device would take it away from the whole system.
    pub(super) fn create(target: &Path) -> Result<Draft, FileError> {
        if target.exists() {
            regular(target)?;
        }
        let temporary = draft_of(target);
        let target = &target.canonicalize().unwrap_or_else(|_| target.to_owned());
        let file =
            begin(&temporary).map_err(|error| FileError::new(target, Fault::Write(error)))?;
        Ok(Draft {
            file: Some(BufWriter::with_capacity(1 << 20, file)),
            temporary,
            target: target.to_owned(),
        })
    }

    /// Moves the draft to the target's name once its bytes are on the disk. Returns its size in
    /// bytes.
    pub(super) fn keep(mut self) -> Result<u64, FileError> {
        let target = self.target.clone();
        self.settle().map_err(|error| FileError::new(&target, Fault::Write(error)))
    }

    fn settle(&mut self) -> io::Result<u64> {
        let mut bytes = 0;
        if let Some(file) = self.file.take() {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            bytes = file.metadata()?.len();
        }
        std::fs::rename(&self.temporary, &self.target)?;
        Ok(bytes)
    }
}

/// Creates a new file at `path`, after removing any existing one. That may be left over from an
/// earlier process with the same id, or be a planted link, which would redirect the bytes.
fn begin(path: &Path) -> io::Result<File> {
    match File::create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            File::create_new(path)
        }
        made => made,
    }
}

/// The path of the draft of `target` while this process writes it.
pub(crate) fn draft_of(target: &Path) -> PathBuf {
    let target = target.canonicalize().unwrap_or_else(|_| target.to_owned());
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    target.with_file_name(name)
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
        // After `keep` nothing is left under this name.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_never_replaced_by_a_file() {
        let refused = Draft::create(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(refused.fault, Fault::NotAFile), "{refused}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_one_and_what_it_points_to_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut draft = Draft::create(&link).unwrap();
        draft.write_all(b"new").unwrap();
        assert_eq!(draft.keep().unwrap(), 3);
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&real).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_under_the_temporary_name_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, other) = (dir.path().join("target"), dir.path().join("other"));
        std::fs::write(&other, "mine").unwrap();
        std::os::unix::fs::symlink(&other, draft_of(&target)).unwrap();
        let mut draft = Draft::create(&target).unwrap();
        draft.write_all(b"new").unwrap();
        draft.keep().unwrap();
        assert_eq!(
            (std::fs::read(&target).unwrap(), std::fs::read(&other).unwrap()),
            (b"new".to_vec(), b"mine".to_vec())
        );
        assert!(!target.is_symlink());
    }
}
