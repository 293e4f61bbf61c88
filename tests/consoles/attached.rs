//! Consoles attached to a running node through its socket: on terminals and pipes, several at once,
//! attaching and detaching.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use super::*;

/// A node without its own console, and the folder of its socket.
struct Served {
    dir: TempDir,
    node: Node,
}

impl Served {
    fn start(options: &[&str]) -> Served {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("console");
        let mut command = potluck();
        command
            .args([
                "run",
                "--alone",
                "--no-console",
                "--slab",
                "16",
                "--max-tokens",
                "6",
                "--model",
            ])
            .arg(&*MODEL);
        let node = Node::start(command.arg("--console-socket").arg(&socket).args(options));
        let served = Served { dir, node };
        served.wait();
        served
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("console")
    }

    /// Waits until its socket accepts connections.
    fn wait(&self) {
        until("a socket answers", || UnixStream::connect(self.socket()).ok());
        assert!(self.piped("version\n", &[]).starts_with("potluck "));
    }

    fn console(&self, options: &[&str]) -> Command {
        let mut command = potluck();
        command.arg("console").args(options).arg(self.socket());
        command
    }

    /// A client whose standard input is a pipe.
    fn client(&self, options: &[&str]) -> Child {
        let mut command = self.console(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The output of such a client for this input.
    fn piped(&self, input: &str, options: &[&str]) -> String {
        let mut client = self.client(options);
        // If there is no place for it, it has exited before reading any input.
        let _ = client.stdin.take().unwrap().write_all(input.as_bytes());
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn term(&self) {
        let pid = rustix::process::Pid::from_child(&self.node.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn terminals_attach_and_detach_and_the_node_goes_on() {
    let mut served = Served::start(&[]);
    assert_eq!(
        fs::metadata(served.socket()).unwrap().permissions().mode() & 0o777,
        0o600,
        "only the owner may attach"
    );
    let (mut one, mut other) = (Terminal::new(), Terminal::new());
    let before = one.modes();
    let mut first = one.stdio(&mut served.console(&[]));
    let mut second = other.stdio(&mut served.console(&[]));
    for terminal in [&mut one, &mut other] {
        terminal.sees("· attached to ");
        terminal.sees("· potluck ");
        terminal.sees("is ready");
        terminal.sees("> ");
    }
    // Each console has its own settings and conversation, and reuses what the other computed.
    one.types("set max-tokens 3\rHello there\r");
    one.sees("3 generated; ");
    other.types("Hello there\r");
    let said = other.sees("6 generated; ");
    assert!(!said.contains("[6 prompt tokens: 0 own"), "{said}");
    pause(100);
    one.types("quit\r");
    one.sees("· detached");
    assert!(first.ended().success());
    assert_eq!(
        one.modes().local_modes,
        before.local_modes,
        "the terminal's modes must be restored"
    );
    // Ctrl-] detaches even during an answer, which ends with its console.
    other.types("set max-tokens 4000\rask tell me all\r");
    other.sees("> ask tell me all\r\n");
    other.types("\x1d");
    other.sees("· detached");
    assert!(second.ended().success());
    assert!(served.piped("version\n", &[]).starts_with("potluck "), "the node must keep running");
    // Consoles that are attached when the node ends are detached.
    let mut third = Terminal::new();
    let mut last = third.stdio(&mut served.console(&[]));
    third.sees("> ");
    served.term();
    assert!(served.node.ended().success());
    third.sees("· detached");
    assert!(last.ended().success());
    assert!(!served.socket().exists(), "the socket must be removed with its node");
}

#[test]
fn a_terminal_says_how_wide_it_is() {
    let served = Served::start(&[]);
    let mut terminal = Terminal::new();
    terminal.resizes(40);
    let _client = terminal.stdio(&mut served.console(&[]));
    terminal.sees("> ");
    terminal.types("x".repeat(60));
    // A line wider than the terminal stays on one row and marks where it continues.
    let shown = terminal.sees(&format!("<{}", "x".repeat(20)));
    assert!(!shown.contains(&"x".repeat(45)), "{shown:?}");
}

#[test]
fn pipes_and_programs_get_what_they_ask_for_and_every_answer_that_is_due() {
    let served = Served::start(&[]);
    let text = served.piped("Hello there\nHello there\nversion\n", &[]);
    assert_eq!(text.matches("6 generated").count(), 2, "{text}");
    assert!(text.contains("potluck 0."), "{text}");
    assert!(!text.contains("is ready"), "a script did not ask for that: {text}");
    let events = served.piped(
        "{\"ask\": \"Hello there\", \"id\": 7, \"max_tokens\": 2}\n{\"command\": \"quit\"}\n",
        &["--json"],
    );
    let events: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().any(|event| event["event"] == "ready"));
    let done = events.iter().find(|event| event["event"] == "done").expect("the pending answer");
    assert_eq!((&done["id"], &done["figures"]["generated"]), (&7.into(), &2.into()));
}

#[test]
fn places_are_bounded_and_mute_strangers_keep_none() {
    let served = Served::start(&[]);
    // A client that sends nothing takes no place, and one that speaks another protocol is told so.
    let _mute: Vec<UnixStream> =
        (0..20).map(|_| UnixStream::connect(served.socket()).unwrap()).collect();
    let mut stranger = UnixStream::connect(served.socket()).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut reply = String::new();
    stranger.read_to_string(&mut reply).unwrap();
    assert!(reply.contains("this socket is for potluck console"), "{reply}");
    let attached: Vec<Child> = (0..8)
        .map(|_| {
            let mut client = served.client(&[]);
            writeln!(client.stdin.as_mut().unwrap(), "version").unwrap();
            let mut word = [0; 8];
            client.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
            assert_eq!(&word, b"potluck ", "it must get a place, whatever else is connected");
            client
        })
        .collect();
    let text = served.piped("version\n", &[]);
    assert!(text.contains("8 consoles are attached already"), "{text}");
    drop(attached.into_iter().map(|client| client.wait_with_output()).collect::<Vec<_>>());
    until("all places are free again", || {
        Some(served.piped("version\n", &[])).filter(|said| said.starts_with("potluck "))
    });
}

#[test]
fn whoever_cannot_attach_is_told_what_to_do() {
    let served = Served::start(&[]);
    let second = potluck()
        .args(["run", "--alone", "--no-console", "--model"])
        .arg(&*MODEL)
        .arg("--console-socket")
        .arg(served.socket())
        .output()
        .unwrap();
    assert!(
        !second.status.success() && said(&second).contains("another node has its console at"),
        "{}",
        said(&second)
    );
    let nobody = potluck().arg("console").arg(served.dir.path().join("other")).output().unwrap();
    assert!(
        !nobody.status.success() && said(&nobody).contains("no node has a console at"),
        "{}",
        said(&nobody)
    );
    // A killed node leaves its socket behind; the next node replaces it.
    let Served { dir, mut node } = served;
    node.0.kill().unwrap();
    node.ended();
    assert!(dir.path().join("console").exists());
    let mut command = potluck();
    command
        .args(["run", "--alone", "--no-console", "--slab", "16", "--max-tokens", "6", "--model"])
        .arg(&*MODEL);
    let node = Node::start(command.arg("--console-socket").arg(dir.path().join("console")));
    let served = Served { dir, node };
    served.wait();
}

/// The notifications that a service manager waits for.
#[test]
fn a_service_manager_hears_when_the_node_is_ready_that_it_lives_and_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let hears = |part: &str| {
        let mut bytes = [0; 256];
        loop {
            let len = match manager.recv(&mut bytes) {
                // A read with a timeout is not restarted after a child's exit interrupts it.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                heard => heard.unwrap_or_else(|error| panic!("no {part}: {error}")),
            };
            if String::from_utf8_lossy(&bytes[..len]).contains(part) {
                return;
            }
        }
    };
    let mut command = potluck();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000");
    command.args(["run", "--alone", "--no-console", "--slab", "16", "--model"]).arg(&*MODEL);
    let mut node = Node::start(&mut command);
    hears("READY=1");
    hears("WATCHDOG=1");
    hears("WATCHDOG=1");
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&node.0),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    hears("STOPPING=1\nSTATUS=stopped");
    assert!(node.ended().success());
}
