//! Writes to standard output and standard error. Writing can fail (a full disk, a reader that has
//! gone) and must not panic.

use std::fmt::Display;
use std::io::{self, Write};

use thiserror::Error;

/// Standard output cannot be written.
#[derive(Debug, Error)]
#[error("the output cannot be written: {0}; make room or send it elsewhere")]
pub(crate) struct OutputError(#[from] io::Error);

impl OutputError {
    /// Whether the output's reader has gone, as `head` does when it has enough.
    pub(crate) fn is_unread(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Writes requested output to standard output at once.
pub(crate) fn print(text: impl Display) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    Ok(out.flush()?)
}

/// The same with a line end.
pub(crate) fn print_line(text: impl Display) -> Result<(), OutputError> {
    print(format_args!("{text}\n"))
}

/// Writes everything else to standard error. If that fails, there is nobody to tell.
pub(crate) fn eprint(text: impl Display) {
    let _ = write!(io::stderr().lock(), "{text}");
}
