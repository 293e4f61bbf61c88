//! The client end of a node's console socket: `potluck console` connects it to the terminal or pipe
//! that it was started on.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use smol::future::{self, FutureExt};
use smol::net::Shutdown;
use thiserror::Error;

use crate::drive::Signals;

use super::printer::Form;
use super::socket::{HELLO, USUAL};
use super::terminal::{OutputError, eprint};
use super::tty;

/// Most bytes passed on at once.
const PIECE: usize = 4_096;

/// Ctrl-] detaches regardless of the node's state, as in telnet.
const DETACH: u8 = 0x1d;

/// Why no console was attached, or why it was lost.
#[derive(Debug, Error)]
pub(crate) enum AttachError {
    #[error(
        "no node has a console at {0} ({1}): start one with potluck run --console-socket {0}, or name its socket"
    )]
    Nobody(PathBuf, io::Error),
    #[error(
        "no node has a console at {USUAL} ({0}): if potluck is a service of this machine, systemctl status potluck says why; else start one with potluck run --console-socket {USUAL}, or name its socket"
    )]
    NoService(io::Error),
    #[error(
        "{0}: this user may not attach: ask as the user that the node runs as, or as a member of its socket_group (usermod -aG GROUP USER adds one, who must then log in again)"
    )]
    Forbidden(PathBuf),
    #[error("the console was lost: {0}")]
    Lost(#[from] io::Error),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Attaches this program's terminal to the console of the node at `path` until either end leaves.
/// Attaches standard input and output instead if they are not a terminal or JSON is requested.
pub(crate) fn attach(path: &Path, form: Form) -> Result<(), AttachError> {
    let socket = UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => AttachError::Forbidden(path.to_path_buf()),
        _ if path == Path::new(USUAL) => AttachError::NoService(error),
        _ => AttachError::Nobody(path.to_path_buf(), error),
    })?;
    if form == Form::Text && tty::is_usable() {
        on_terminal(path, &socket)
    } else {
        on_streams(&socket, form)
    }
}

/// A terminal in raw mode, restored on drop.
struct Raw(Termios);

impl Raw {
    fn new() -> io::Result<Raw> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn on_terminal(path: &Path, socket: &UnixStream) -> Result<(), AttachError> {
    let mut signals = Signals::new()?;
    eprint(format_args!("· attached to {}: Ctrl-] detaches, and so does quit\n", path.display()));
    let raw = Raw::new()?;
    let (mut up, down) = (socket.try_clone()?, socket.try_clone()?);
    up.write_all(format!("{HELLO}terminal\n").as_bytes())?;
    // Ends with the process: a read from a terminal cannot be cancelled.
    thread::Builder::new().name("typed".to_string()).spawn(move || drop(pass_keys(&mut up)))?;
    let shown = smol::unblock(move || pass(down, io::stdout()));
    let ended = async {
        signals.next().await;
        Ok(())
    };
    let result = future::block_on(shown.or(ended));
    drop(raw);
    // Leaves the current row, and ends bracketed paste mode.
    eprint("\x1b[?2004l\r\n· detached\n");
    Ok(result?)
}

/// Passes on typed bytes, and the terminal's size when it has changed, until the detach
/// key arrives.
fn pass_keys(up: &mut UnixStream) -> io::Result<()> {
    let mut bytes = [0; PIECE];
    let mut sent = None;
    loop {
        let size = tcgetwinsize(io::stdin())
            .ok()
            .map(|size| (size.ws_row, size.ws_col))
            .filter(|size| size.1 > 0);
        if let Some((rows, columns)) = size.filter(|_| size != sent) {
            up.write_all(format!("\x1b[8;{rows};{columns}t").as_bytes())?;
            sent = size;
        }
        let len = io::stdin().read(&mut bytes)?;
        let typed = &bytes[..len];
        let kept = typed.iter().position(|byte| *byte == DETACH).unwrap_or(len);
        up.write_all(&typed[..kept])?;
        if len == 0 || kept < len {
            return up.shutdown(Shutdown::Both);
        }
    }
}

fn on_streams(socket: &UnixStream, form: Form) -> Result<(), AttachError> {
    let (mut up, down) = (socket.try_clone()?, socket.try_clone()?);
    let kind = if form == Form::Json { "json" } else { "lines" };
    up.write_all(format!("{HELLO}{kind}\n").as_bytes())?;
    thread::Builder::new().name("input".to_string()).spawn(move || {
        let _ = pass(io::stdin(), &up);
        // The node sends the pending answers, then closes the connection.
        let _ = up.shutdown(Shutdown::Write);
    })?;
    Ok(pass(down, io::stdout())?)
}

/// Passes on bytes as they arrive, until the end of input.
fn pass(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut bytes = [0; PIECE];
    loop {
        let len = match from.read(&mut bytes) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The other end closed without reading everything sent to it: that is an end, too.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        };
        if len == 0 {
            return Ok(());
        }
        to.write_all(&bytes[..len])?;
        to.flush()?;
    }
}
