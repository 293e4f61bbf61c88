//! Terminals: opened, set raw, read and written without ever waiting for one. Some are of this machine, others at the far end of a
//! socket.

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
use rustix::termios::{ControlModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, ttyname};
use smol::channel::{Receiver, Sender, bounded};
use smol::future::{self, FutureExt};
use smol::{Async, Timer};

use crate::console::{Screen, Typed};
use crate::id::Millis;

use super::LAST_WORDS;
use super::socket::UNREAD_TIMEOUT;

/// Bytes that are read or written at once.
const PIECE: usize = 4_096;

/// Between two pieces of what is pasted, by adapters that gather bytes for 16 ms; whoever has seen an answer types later.
const BURST_GAP: Duration = Duration::from_millis(20);
/// How long a line that takes much away is looked at for more lines behind it.
const BURST_END: Duration = Duration::from_millis(200);

/// A terminal with a screen on it. Dropped, it is as it was before.
pub(super) struct Tty {
    path: PathBuf,
    line: Line,
    opened: Instant,
    screen: RefCell<Screen>,
    /// When bytes came last, and how many lines have come without a pause before them.
    burst: Cell<(Instant, usize)>,
    /// Bytes that were typed behind what is being dealt with.
    rest: RefCell<Vec<u8>>,
    /// Says that there is output.
    waker: (Sender<()>, Receiver<()>),
}

/// What leads to a terminal.
enum Line {
    /// Its device.
    Device {
        fd: Async<File>,
        /// The device's number, whatever path led there.
        number: u64,
        /// How it was set.
        before: Termios,
    },
    /// A socket: the terminal is set raw at the other end, which says how wide it is.
    Socket(Async<UnixStream>),
}

impl Line {
    async fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Line::Device { fd, .. } => fd.read_with(|fd| Ok(rustix::io::read(fd, &mut *bytes)?)).await,
            Line::Socket(socket) => socket.read_with(|fd| Ok(rustix::io::read(fd, &mut *bytes)?)).await,
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

    /// The terminal's columns, where its device says them.
    fn columns(&self) -> Option<usize> {
        let Line::Device { fd, .. } = self else { return None };
        tcgetwinsize(fd).ok().map(|size| size.ws_col.into()).filter(|columns| *columns > 0)
    }
}

/// Whether the terminal of standard input, output and error can be edited on: all three are one, and it obeys VT100 sequences.
pub(super) fn is_usable() -> bool {
    let all = io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal();
    all && !is_dumb()
}

/// Whether terminals know no escape sequences.
pub(super) fn is_dumb() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}

impl Tty {
    /// The serial line or the like at `path`, with so many bits a second or as many as it has; none of those that are `taken`.
    pub(super) fn cable(path: &Path, speed: Option<u32>, taken: &[u64]) -> io::Result<Tty> {
        let screen = Screen::on_cable(!is_dumb());
        Tty::open(path, taken, screen, |raw| {
            raw.control_modes &= !ControlModes::CRTSCTS;
            speed.map_or(Ok(()), |speed| Ok(raw.set_speed(speed)?))
        })
    }

    fn open(path: &Path, taken: &[u64], screen: Screen, set: impl FnOnce(&mut Termios) -> io::Result<()>) -> io::Result<Tty> {
        // No carrier is waited for, and the terminal's keys are not to end this process.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(path)?;
        if !file.is_terminal() {
            return Err(io::Error::other("it is no terminal"));
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

    /// The terminal of standard input, opened anew so that nobody else who has it notices.
    pub(super) fn of_stdin() -> io::Result<Tty> {
        let name = ttyname(io::stdin(), Vec::new())?;
        let name = str::from_utf8(name.as_bytes()).map_err(io::Error::other)?;
        Tty::open(&PathBuf::from(name), &[], Screen::new(!is_dumb()), |_| Ok(()))
    }

    /// What it is called.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The number of its device, where it has one.
    pub(super) fn device(&self) -> Option<u64> {
        match &self.line {
            Line::Device { number, .. } => Some(*number),
            Line::Socket(_) => None,
        }
    }

    /// Does something with the screen, and sees to it that the terminal shows it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Screen) -> T) -> T {
        let mut screen = self.screen.borrow_mut();
        screen.at(Millis(self.opened.elapsed().as_millis() as u64));
        let done = act(&mut screen);
        drop(screen);
        let _ = self.waker.0.try_send(());
        done
    }

    /// What was typed next. Fails when the terminal has gone.
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
            // Somebody who pastes without end must not keep the other tasks from their turn.
            future::yield_now().await;
        }
    }

    fn note_burst(&self) {
        let (came, lines) = self.burst.get();
        let lines = if came.elapsed() < BURST_GAP { lines } else { 0 };
        self.burst.set((Instant::now(), lines));
    }

    /// Whether the line that was typed last came alone, as a person types it: neither behind another nor before more. Pasted lines come
    /// at once.
    pub(super) async fn is_alone(&self) -> bool {
        let more = async {
            let mut bytes = [0; PIECE];
            let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
            let mut only_ends = self.rest.borrow().iter().all(is_end);
            // A cable that sends nothing but line ends, and never stops, is not alone either.
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

    /// Gives the screen what it has not looked at; false when there is nothing.
    fn feed_rest(&self) -> bool {
        let mut rest = self.rest.borrow_mut();
        if rest.is_empty() {
            return false;
        }
        let taken = self.with(|screen| screen.feed(&rest));
        rest.drain(..taken);
        true
    }

    /// Sends what the screen has for the terminal, as fast as that takes it. Ends when the terminal has gone.
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
            let piece: Vec<u8> = self.screen.borrow().output().iter().copied().take(PIECE).collect();
            if piece.is_empty() {
                return Ok(());
            }
            let len = self.line.write(&piece).await?;
            self.screen.borrow_mut().sent(len);
        }
    }

    /// Sends what is left, for a moment.
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
        // At once: to wait until everything is out is to wait for whoever does not read.
        if let Line::Device { fd, before, .. } = &self.line {
            let _ = tcsetattr(fd.as_fd(), OptionalActions::Now, before);
        }
    }
}
