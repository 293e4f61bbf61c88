//! A pseudo-terminal as a person at a serial line uses it: tests type into it and wait for output.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::processes::node::{TIMEOUT, until};

/// Waits as a person typing does: a line that arrives within milliseconds of another
/// counts as pasted.
#[expect(clippy::disallowed_methods, reason = "typing takes time")]
pub fn pause(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

/// One terminal. Dropping it unplugs it.
pub struct Terminal {
    master: File,
    /// Path of its other end, which a node opens.
    pub path: PathBuf,
    output: Option<Receiver<Vec<u8>>>,
    /// Kept open, because a terminal that nobody has opened reads as end of file.
    slave: Option<File>,
    seen: String,
}

impl Terminal {
    pub fn new() -> Terminal {
        let mut terminal = Terminal::unread();
        let mut reader = terminal.master.try_clone().unwrap();
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(len @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        terminal.output = Some(output);
        terminal.slave = Some(terminal.slave());
        terminal
    }

    /// A terminal whose other end has not turned its echo off, as with `cat /dev/ttyACM0`: what it
    /// receives comes back as Linux echoes it.
    pub fn echoing() -> Terminal {
        let mut terminal = Terminal::unread();
        let (mut reader, mut writer) =
            (terminal.master.try_clone().unwrap(), terminal.master.try_clone().unwrap());
        terminal.slave = Some(terminal.slave());
        thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(len @ 1..) = reader.read(&mut bytes) {
                let echo = |&byte: &u8| match byte {
                    b'\r' | b'\n' => b"\r\n".to_vec(),
                    0..b' ' => vec![b'^', byte + b'@'],
                    _ => vec![byte],
                };
                let echo: Vec<u8> = bytes[..len].iter().flat_map(echo).collect();
                if writer.write_all(&echo).is_err() {
                    return;
                }
            }
        });
        terminal
    }

    /// A terminal that reads nothing of what it is sent.
    pub fn unread() -> Terminal {
        let master: OwnedFd =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
        Terminal { master: master.into(), path, output: None, slave: None, seen: String::new() }
    }

    pub fn types(&mut self, text: impl AsRef<[u8]>) {
        self.master.write_all(text.as_ref()).unwrap();
    }

    /// Waits until the terminal has received `part`. Returns everything up to its end that was not
    /// returned before.
    pub fn sees(&mut self, part: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(at) = self.seen.find(part) {
                let rest = self.seen.split_off(at + part.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.as_ref().expect("its output must be read").recv_timeout(left) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(_) => panic!("{part:?} was not seen, but {:?}", self.seen),
            }
        }
    }

    /// Sets its width in columns.
    pub fn resizes(&self, columns: u16) {
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(self.slave(), size).unwrap();
    }

    /// The terminal's modes.
    pub fn modes(&self) -> Termios {
        tcgetattr(self.slave()).unwrap()
    }

    fn slave(&self) -> File {
        rustix::fs::open(&self.path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
            .unwrap()
            .into()
    }

    /// Starts `potluck` with this terminal as its standard input, output and error.
    pub fn stdio(&self, command: &mut Command) -> Node {
        let end = || Stdio::from(self.slave());
        Node(command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap())
    }
}

/// A running `potluck`, killed when dropped.
pub struct Node(pub Child);

impl Node {
    /// Starts it without standard input, as init does.
    pub fn start(command: &mut Command) -> Node {
        Node(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    /// Waits for its exit, which must happen.
    pub fn ended(&mut self) -> ExitStatus {
        until("potluck ends", || self.0.try_wait().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes `link` point to `path`, replacing its old target.
pub fn plug(link: &Path, path: &Path) {
    let new = link.with_extension("new");
    std::os::unix::fs::symlink(path, &new).unwrap();
    std::fs::rename(new, link).unwrap();
}
