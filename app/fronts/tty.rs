//! Terminals: opened, set raw, read and written without blocking. Some belong to this machine,
//! others are at the far end of a socket.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, str};

use rustix::fs::OFlags;
use rustix::termios::{
    ControlModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, ttyname,
};
use smol::channel::{Receiver, Sender, bounded};
use smol::future::{self, FutureExt};
use smol::{Async, Timer};

use crate::console::{Screen, Typed};
use crate::id::Millis;

use super::LAST_WORDS;
use super::socket::UNREAD_TIMEOUT;

/// Most bytes read or written at once.
const PIECE: usize = 4_096;

/// Longest gap within pasted text: serial adapters gather bytes for 16 ms. A person who has seen an
/// answer types later than this.
const BURST_GAP: Duration = Duration::from_millis(20);
/// How long to wait for more input after a drastic command.
const BURST_END: Duration = Duration::from_millis(200);

/// A terminal with a screen. Dropping it restores the terminal's settings.
pub(super) struct Tty {
    path: PathBuf,
    line: Line,
    opened: Instant,
    screen: RefCell<Screen>,
    /// When the last bytes arrived, and how many lines arrived without a pause.
    burst: Cell<(Instant, usize)>,
    /// Typed bytes that the screen has not taken yet.
    rest: RefCell<Vec<u8>>,
    /// Signals that there is output.
    waker: (Sender<()>, Receiver<()>),
}

/// The connection to a terminal.
enum Line {
    /// Its device.
    Device {
        fd: Async<File>,
        /// The device's number, the same for every path to it.
        number: u64,
        /// Its original settings.
        before: Termios,
    },
    /// A socket. The other end sets the terminal raw and reports its width.
    Socket(Async<UnixStream>),
}

impl Line {
    async fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Line::Device { fd, .. } => {
                fd.read_with(|fd| Ok(rustix::io::read(fd, &mut *bytes)?)).await
            }
            Line::Socket(socket) => {
                socket.read_with(|fd| Ok(rustix::io::read(fd, &mut *bytes)?)).await
            }
        }
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Line::Device { fd, .. } => fd.write_with(|fd| Ok(rustix::io::write(fd, bytes)?)).await,
            Line::Socket(socket) => {
                let unread = async {
                    Timer::after(UNREAD_TIMEOUT).await;
                    Err(io::ErrorKind::TimedOut.into())
                };
                socket.write_with(|fd| Ok(rustix::io::write(fd, bytes)?)).or(unread).await
            }
        }
    }

    /// The terminal's columns, if its device reports them.
    fn columns(&self) -> Option<usize> {
        let Line::Device { fd, .. } = self else { return None };
        tcgetwinsize(fd).ok().map(|size| size.ws_col.into()).filter(|columns| *columns > 0)
    }
}

/// Whether lines can be edited on standard input: all three streams are terminals, and TERM is
/// not "dumb".
pub(super) fn is_usable() -> bool {
    let all = io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal();
    all && !is_dumb()
}

/// Whether terminals do not understand escape sequences.
pub(super) fn is_dumb() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}

impl Tty {
    /// Opens the serial line at `path`, at this speed in bits a second or its current one. Fails if
    /// its device is `taken`.
    pub(super) fn cable(path: &Path, speed: Option<u32>, taken: &[u64]) -> io::Result<Tty> {
        let screen = Screen::on_cable(!is_dumb());
        Tty::open(path, taken, screen, |raw| {
            raw.control_modes &= !ControlModes::CRTSCTS;
            speed.map_or(Ok(()), |speed| Ok(raw.set_speed(speed)?))
        })
    }

    fn open(
        path: &Path,
        taken: &[u64],
        screen: Screen,
        set: impl FnOnce(&mut Termios) -> io::Result<()>,
    ) -> io::Result<Tty> {
        // Opening must not wait for a carrier, and the terminal's keys must not end this process.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags.bits() as i32)
            .open(path)?;
        if !file.is_terminal() {
            return Err(io::Error::other("it is not a terminal"));
        }
        let device = file.metadata()?.rdev();
        if taken.contains(&device) {
            return Err(io::Error::other("it is a terminal that has a console already"));
        }
        let before = tcgetattr(&file)?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        set(&mut raw)?;
        tcsetattr(&file, OptionalActions::Now, &raw)?;
        let line = Line::Device { fd: Async::new(file)?, number: device, before };
        Ok(Tty::with_screen(path.to_path_buf(), line, screen))
    }

    fn with_screen(path: PathBuf, line: Line, screen: Screen) -> Tty {
        let (screen, rest, now) = (RefCell::new(screen), RefCell::default(), Instant::now());
        Tty { path, line, burst: Cell::new((now, 0)), opened: now, screen, rest, waker: bounded(1) }
    }

    /// The terminal at the other end of a socket.
    pub(super) fn far(path: PathBuf, socket: Async<UnixStream>) -> Tty {
        Tty::with_screen(path, Line::Socket(socket), Screen::new(true))
    }

    /// The terminal of standard input, reopened so that other users of it are not affected.
    pub(super) fn of_stdin() -> io::Result<Tty> {
        let name = ttyname(io::stdin(), Vec::new())?;
        let name = str::from_utf8(name.as_bytes()).map_err(io::Error::other)?;
        Tty::open(&PathBuf::from(name), &[], Screen::new(!is_dumb()), |_| Ok(()))
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its device number, if it has one.
    pub(super) fn device(&self) -> Option<u64> {
        match &self.line {
            Line::Device { number, .. } => Some(*number),
            Line::Socket(_) => None,
        }
    }

    /// Acts on the screen, and has the terminal show the result.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Screen) -> T) -> T {
        let mut screen = self.screen.borrow_mut();
        screen.at(Millis(self.opened.elapsed().as_millis() as u64));
        let done = act(&mut screen);
        drop(screen);
        let _ = self.waker.0.try_send(());
        done
    }

    /// Waits for the next thing typed. Fails when the terminal has gone.
    pub(super) async fn typed(&self) -> io::Result<Typed> {
        let mut bytes = [0; PIECE];
        loop {
            if let Some(typed) = self.with(Screen::poll) {
                let (came, lines) = self.burst.get();
                self.burst.set((came, lines + usize::from(matches!(typed, Typed::Line(_)))));
                return Ok(typed);
            }
            if self.feed_rest() {
                continue;
            }
            let wait = self.with(|screen| screen.wait());
            let read = async { self.line.read(&mut bytes).await.map(Some) };
            let waited = async {
                match wait {
                    Some(ms) => Timer::after(Duration::from_millis(ms)).await,
                    None => future::pending().await,
                };
                Ok(None)
            };
            let Some(len) = read.or(waited).await? else {
                self.with(Screen::pause);
                continue;
            };
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.note_burst();
            if let Some(columns) = self.line.columns() {
                self.with(|screen| screen.set_columns(columns));
            }
            self.rest.borrow_mut().extend_from_slice(&bytes[..len]);
            // A paste without end must not starve the other tasks.
            future::yield_now().await;
        }
    }

    fn note_burst(&self) {
        let (came, lines) = self.burst.get();
        let lines = if came.elapsed() < BURST_GAP { lines } else { 0 };
        self.burst.set((Instant::now(), lines));
    }

    /// Whether the last line arrived alone, as a person types it: with none right before or after
    /// it. Pasted lines arrive together.
    pub(super) async fn is_alone(&self) -> bool {
        let more = async {
            let mut bytes = [0; PIECE];
            let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
            let mut only_ends = self.rest.borrow().iter().all(is_end);
            // An endless stream of line ends is not alone either.
            while only_ends && self.rest.borrow().len() < PIECE {
                match self.line.read(&mut bytes).await {
                    Ok(len @ 1..) => {
                        self.rest.borrow_mut().extend_from_slice(&bytes[..len]);
                        only_ends = bytes[..len].iter().all(is_end);
                    }
                    _ => return false,
                }
                future::yield_now().await;
            }
            self.note_burst();
            false
        };
        let quiet = async {
            Timer::after(BURST_END).await;
            true
        };
        self.burst.get().1 <= 1 && more.or(quiet).await
    }

    /// Feeds the screen the bytes not taken yet; false if there are none.
    fn feed_rest(&self) -> bool {
        let mut rest = self.rest.borrow_mut();
        if rest.is_empty() {
            return false;
        }
        let taken = self.with(|screen| screen.feed(&rest));
        rest.drain(..taken);
        true
    }

    /// Sends the screen's output as fast as the terminal takes it. Returns when the terminal
    /// has gone.
    pub(super) async fn show(&self) -> io::Error {
        loop {
            if let Err(error) = self.send_all().await {
                return error;
            }
            let _ = self.waker.1.recv().await;
        }
    }

    async fn send_all(&self) -> io::Result<()> {
        loop {
            let piece: Vec<u8> =
                self.screen.borrow().output().iter().copied().take(PIECE).collect();
            if piece.is_empty() {
                return Ok(());
            }
            let len = self.line.write(&piece).await?;
            self.screen.borrow_mut().sent(len);
        }
    }

    /// Sends the remaining output, for a moment at most.
    pub(super) async fn show_last(&self) {
        self.with(Screen::farewell);
        let sent = async { drop(self.send_all().await) };
        let late = async {
            Timer::after(LAST_WORDS).await;
        };
        sent.or(late).await;
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // Applies at once: waiting for the output to drain would block on a terminal that does
        // not read.
        if let Line::Device { fd, before, .. } = &self.line {
            let _ = tcsetattr(fd.as_fd(), OptionalActions::Now, before);
        }
    }
}
