//! Terminals: opened, set raw, read and written without ever waiting for one.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, str};

use rustix::fs::OFlags;
use rustix::termios::{ControlModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, ttyname};
use smol::channel::{Receiver, Sender, bounded};
use smol::future::{self, FutureExt};
use smol::{Async, Timer};

use crate::console::{Screen, Typed};

/// Bytes that are read or written at once.
const PIECE: usize = 4_096;

/// How long a terminal that goes away is given to take what was said last.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A terminal with a screen on it. Dropped, it is as it was before.
pub(super) struct Tty {
    fd: Async<File>,
    before: Termios,
    screen: RefCell<Screen>,
    /// Bytes that were typed behind what is being dealt with.
    rest: RefCell<Vec<u8>>,
    /// Says that there is output.
    waker: (Sender<()>, Receiver<()>),
}

/// Whether the terminal of standard input, output and error can be edited on: all three are one, and it obeys VT100 sequences.
pub(super) fn is_usable() -> bool {
    let all = io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal();
    all && !is_dumb()
}

/// Whether terminals know no escape sequences.
fn is_dumb() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}

impl Tty {
    /// The terminal at `path`; with a speed, a serial line of so many bits a second.
    pub(super) fn open(path: &Path, speed: Option<u32>) -> io::Result<Tty> {
        // No carrier is waited for, and the terminal's keys are not to end this process.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(path)?;
        if !file.is_terminal() {
            return Err(io::Error::other("it is no terminal"));
        }
        let before = tcgetattr(&file)?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        if let Some(speed) = speed {
            raw.control_modes &= !ControlModes::CRTSCTS;
            raw.set_speed(speed)?;
        }
        tcsetattr(&file, OptionalActions::Now, &raw)?;
        let screen = RefCell::new(Screen::new(!is_dumb()));
        Ok(Tty { fd: Async::new(file)?, before, screen, rest: RefCell::default(), waker: bounded(1) })
    }

    /// The terminal of standard input, opened anew so that nobody else who has it notices.
    pub(super) fn of_stdin() -> io::Result<Tty> {
        let name = ttyname(io::stdin(), Vec::new())?;
        let name = str::from_utf8(name.as_bytes()).map_err(io::Error::other)?;
        Tty::open(&PathBuf::from(name), None)
    }

    /// Does something with the screen, and sees to it that the terminal shows it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Screen) -> T) -> T {
        let done = act(&mut self.screen.borrow_mut());
        let _ = self.waker.0.try_send(());
        done
    }

    /// What was typed next. Fails when the terminal has gone.
    pub(super) async fn typed(&self) -> io::Result<Typed> {
        let mut bytes = [0; PIECE];
        loop {
            if let Some(typed) = self.with(Screen::poll) {
                return Ok(typed);
            }
            if self.feed_rest() {
                continue;
            }
            let len = self.fd.read_with(|fd| Ok(rustix::io::read(fd, &mut bytes)?)).await?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let columns = tcgetwinsize(&self.fd).map_or(0, |size| size.ws_col);
            self.with(|screen| {
                if columns > 0 {
                    screen.set_columns(columns.into());
                }
            });
            self.rest.borrow_mut().extend_from_slice(&bytes[..len]);
            // Somebody who pastes without end must not keep the other tasks from their turn.
            future::yield_now().await;
        }
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
            let len = self.fd.write_with(|fd| Ok(rustix::io::write(fd, &piece)?)).await?;
            self.screen.borrow_mut().sent(len);
        }
    }

    /// Sends what is left, for a moment.
    pub(super) async fn show_last(&self) {
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
        let _ = tcsetattr(self.fd.as_fd(), OptionalActions::Now, &self.before);
    }
}
