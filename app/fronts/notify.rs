//! Notifies a service manager, if there is one, by systemd's protocol: datagrams of lines.
//!
//! Sends `READY=1` once the node takes prompts, `STATUS=` with its state, `STOPPING=1` when it
//! ends, and `WATCHDOG=1` while the driver's thread runs, so that a node that hangs is restarted.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::Timer;

use super::host::Host;

/// How often the node's state is checked.
const LOOK: Duration = Duration::from_millis(250);

/// A service manager that expects notifications.
pub(super) struct Manager {
    socket: UnixDatagram,
    to: SocketAddr,
    /// Its watchdog timeout.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The manager that the environment names, if its socket is usable.
    pub(super) fn of_environment() -> Option<Manager> {
        let watchdog = env::var("WATCHDOG_USEC")
            .ok()
            .and_then(|text| text.parse().ok())
            .map(Duration::from_micros);
        Manager::new(&env::var_os("NOTIFY_SOCKET")?, watchdog).ok()
    }

    fn new(name: &OsString, watchdog: Option<Duration>) -> io::Result<Manager> {
        let to = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not block the node.
        socket.set_nonblocking(true)?;
        Ok(Manager { socket, to, watchdog: watchdog.filter(|watchdog| !watchdog.is_zero()) })
    }

    /// Sends it lines. Losing a datagram does no harm: more follow.
    fn send(&self, lines: &str) {
        let _ = self.socket.send_to_addr(lines.as_bytes(), &self.to);
    }

    /// Reports that the node ends. The manager shows the last state for as long as the node is
    /// down.
    pub(super) fn stops(&self) {
        self.send("STOPPING=1\nSTATUS=stopped");
    }

    /// Reports the node's state forever.
    pub(super) async fn follow(self: Rc<Self>, host: Rc<Host>) {
        self.follow_state(|| host.state()).await;
    }

    async fn follow_state(&self, state: impl Fn() -> &'static str) {
        let (mut sent, mut alive) = ("", None::<Instant>);
        loop {
            let now = state();
            if now != sent {
                sent = now;
                let ready = if now == "ready" { "READY=1\n" } else { "" };
                self.send(&format!("{ready}STATUS={now}"));
            }
            // Twice as often as required.
            if let Some(watchdog) = self.watchdog
                && alive
                    .is_none_or(|alive| alive.elapsed() >= watchdog / 2 - (watchdog / 2).min(LOOK))
            {
                alive = Some(Instant::now());
                self.send("WATCHDOG=1");
            }
            Timer::after(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use smol::future::{self, FutureExt};

    use super::*;

    /// A manager kills a node that never sends READY=1 or that stops sending WATCHDOG=1.
    #[test]
    fn a_manager_hears_that_the_node_is_ready_and_lives_and_how_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let next = || {
            let mut bytes = [0; 256];
            loop {
                match heard.recv(&mut bytes) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    len => return String::from_utf8_lossy(&bytes[..len.unwrap()]).into_owned(),
                }
            }
        };
        let manager =
            Manager::new(&path.into_os_string(), Some(Duration::from_millis(600))).unwrap();
        let state = Cell::new("starting");
        let turn = async {
            Timer::after(Duration::from_millis(400)).await;
            state.set("ready");
            Timer::after(Duration::from_millis(600)).await;
        };
        future::block_on(manager.follow_state(|| state.get()).or(turn));
        manager.stops();
        let mut said = Vec::new();
        while said.last().is_none_or(|last| last != "STOPPING=1\nSTATUS=stopped") {
            said.push(next());
        }
        assert_eq!(said[..2], ["STATUS=starting", "WATCHDOG=1"]);
        assert!(said.iter().any(|line| line == "READY=1\nSTATUS=ready"), "{said:?}");
        assert!(said.iter().filter(|line| *line == "WATCHDOG=1").count() >= 3, "{said:?}");
    }
}
