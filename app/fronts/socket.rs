//! A node's Unix socket, through which `potluck console` attaches a terminal with line editing, a
//! pipe's plain lines, or a program's JSON.
//!
//! A client first sends one line that says which:
//!
//! ```text
//! potluck console 1 terminal    bytes of a terminal in raw mode follow, and bytes to show on it come back
//! potluck console 1 lines       lines follow; answers and notes come back as text, in one stream
//! potluck console 1 json        requests follow, one per line, and events come back
//! ```
//!
//! A terminal's client reports its size as xterm does: `ESC [ 8 ; ROWS ; COLUMNS t`.
//!
//! Promises: only the owner and the configured group, if any, may attach, enforced from the
//! socket's creation on. At most `MAX_ATTACHED_CONSOLES` are attached at once. A client that sends
//! nothing takes none of their places (only one of the 64 for callers, for five seconds), and one
//! that reads nothing is detached after a while.

use std::cell::Cell;
use std::fs::{self, Permissions};
use std::io::{self, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::Mode;
use smol::future::FutureExt;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::Shutdown;
use smol::{Async, LocalExecutor, Timer};
use thiserror::Error;

use crate::config::{Console, SocketGroup};
use crate::console::Level;
use crate::limits::{MAX_ATTACHED_CONSOLES, MAX_GROUPS_FILE_BYTES};

use super::fail::Fail;
use super::host::Host;
use super::lines::lines_of;
use super::on_tty;
use super::output_queue::OutputQueue;
use super::printer::{Form, Printer};
use super::session::{Quit, Session, Source};
use super::tty::Tty;

/// Where `potluck console` looks for a node's socket by default.
pub(crate) const USUAL: &str = "/run/potluck/console";

/// What every client sends first, before its kind.
pub(super) const HELLO: &str = "potluck console 1 ";

/// Longest first line, in bytes.
const MAX_HELLO_BYTES: usize = 64;

/// Time allowed for a client's first line.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client that reads nothing stays attached: a person may be reading in a pager.
pub(super) const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Most clients whose first line is awaited, or that are being refused, at once: each takes a file
/// descriptor. Further clients are closed without a reply.
const MAX_CALLERS: usize = 64;

/// Most reads from a refused client: more than any console sends before it sees the refusal.
const MAX_REFUSED_READS: usize = 16;

/// The wait after a failed accept, usually for lack of file descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// The files of groups and of users, with their numbers.
const GROUPS: &str = "/etc/group";
const USERS: &str = "/etc/passwd";

/// Why there is no socket.
#[derive(Debug, Error)]
pub(crate) enum SocketError {
    #[error(
        "the console socket {0} cannot be made: {1}; name another with --console-socket PATH, in a folder that this user may write"
    )]
    Unmade(PathBuf, io::Error),
    #[error(
        "the console socket {path} cannot be given to the group {group}, because the node runs as the user {user}, who is not in it: \
         usermod -aG {group} {user} adds the user; then restart the node"
    )]
    NotMember { path: PathBuf, group: String, user: String },
    #[error("{0} is there already and is no socket: name another with --console-socket PATH")]
    NoSocket(PathBuf),
    #[error(
        "another node has its console at {0}: end it, or name another with --console-socket PATH"
    )]
    Taken(PathBuf),
    #[error(
        "no group is called {0}: name one of {GROUPS}, or its number, as socket_group in [console]"
    )]
    NoGroup(String),
}

/// A node's socket.
pub(crate) struct Socket {
    listener: Async<UnixListener>,
    path: PathBuf,
}

/// The socket's file, removed on drop.
pub(crate) struct Bound {
    path: PathBuf,
    /// The file's inode, so that another node's socket is never removed.
    inode: u64,
}

impl Socket {
    /// Creates the configured socket, if any. Removes one that a killed node has left there.
    pub(crate) fn open(settings: &Console) -> Result<Option<(Socket, Bound)>, SocketError> {
        let Some(path) = &settings.socket else { return Ok(None) };
        let group = settings.socket_group.as_ref().map(number_of).transpose()?;
        make_room(path)?;
        let unmade = |error| SocketError::Unmade(path.clone(), error);
        // Keeps others from connecting before the mode is set.
        let before = rustix::process::umask(Mode::XUSR | Mode::RWXG | Mode::RWXO);
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound.and_then(Async::new).map_err(unmade)?;
        if let Some(number) = group {
            // A service that already has this group may lack the right to change it, and need not.
            if fs::symlink_metadata(path).map_err(unmade)?.gid() != number {
                chown(path, None, group).map_err(|error| ungiven(settings, error))?;
            }
            fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(unmade)?;
        }
        let inode = fs::symlink_metadata(path).map_err(unmade)?.ino();
        Ok(Some((Socket { listener, path: path.clone() }, Bound { path: path.clone(), inode })))
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Attaches clients forever.
    pub(crate) async fn serve(self, host: Rc<Host>, executor: Rc<LocalExecutor<'static>>) {
        let (attached, callers) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        loop {
            match self.listener.accept().await {
                Ok((client, _)) => {
                    let Some(caller) = ClientPermit::take(&callers, MAX_CALLERS) else { continue };
                    let (host, path, attached) =
                        (host.clone(), self.path.clone(), attached.clone());
                    executor.spawn(async move { drop(attend(host, path, client, caller, &attached).await) }).detach();
                }
                Err(error) => {
                    host.note(Level::Warn, &format!("a console cannot be attached: {error}"));
                    Timer::after(PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// One of a limited number of places, freed on drop.
struct ClientPermit(Rc<Cell<usize>>);

impl ClientPermit {
    /// None if all are taken.
    fn take(taken: &Rc<Cell<usize>>, most: usize) -> Option<ClientPermit> {
        (taken.get() < most).then(|| {
            taken.set(taken.get() + 1);
            ClientPermit(taken.clone())
        })
    }
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Removes a socket that nobody listens on.
fn make_room(path: &Path) -> Result<(), SocketError> {
    let Ok(there) = fs::symlink_metadata(path) else { return Ok(()) };
    if !there.file_type().is_socket() {
        return Err(SocketError::NoSocket(path.to_path_buf()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| SocketError::Unmade(path.to_path_buf(), error))
        }
        _ => Err(SocketError::Taken(path.to_path_buf())),
    }
}

/// A group's number, looked up by name in this machine's group file.
fn number_of(group: &SocketGroup) -> Result<u32, SocketError> {
    let name = group.as_str();
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    numbered(&listed(GROUPS), name).ok_or_else(|| SocketError::NoGroup(name.to_string()))
}

/// The text of a file of groups or users; empty if it is unreadable or unusually long.
fn listed(file: &str) -> String {
    let size = fs::metadata(file).map_or(0, |file| file.len());
    if size <= MAX_GROUPS_FILE_BYTES {
        fs::read_to_string(file).unwrap_or_default()
    } else {
        String::new()
    }
}

/// Why the socket was not given to its group. Only a member of a group may give a file to it.
fn ungiven(settings: &Console, error: io::Error) -> SocketError {
    let path = settings.socket.clone().unwrap_or_default();
    match &settings.socket_group {
        Some(group) if error.kind() == io::ErrorKind::PermissionDenied => {
            let number = rustix::process::geteuid().as_raw();
            let user = named(&listed(USERS), number).unwrap_or_else(|| number.to_string());
            SocketError::NotMember { path, group: group.as_str().to_string(), user }
        }
        _ => SocketError::Unmade(path, error),
    }
}

/// The number of the group `name` in the text of a group file: `name:password:number:members`.
fn numbered(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// The name of the user `number` in the text of a file of users: `name:password:number:...`.
fn named(text: &str, number: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, rest) = line.split_once(':')?;
        (rest.split(':').nth(1)?.parse() == Ok(number)).then(|| name.to_string())
    })
}

/// The kind of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Client {
    Terminal,
    Lines(Form),
}

fn client(hello: &str) -> Option<Client> {
    match hello.strip_prefix(HELLO)? {
        "terminal" => Some(Client::Terminal),
        "lines" => Some(Client::Lines(Form::Text)),
        "json" => Some(Client::Lines(Form::Json)),
        _ => None,
    }
}

/// Serves a client from its first line to its last. It takes a console's place only after its
/// first line.
async fn attend(
    host: Rc<Host>,
    path: PathBuf,
    mut socket: Async<UnixStream>,
    caller: ClientPermit,
    attached: &Rc<Cell<usize>>,
) -> Result<(), Fail> {
    let late = async {
        Timer::after(HELLO_TIMEOUT).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    let hello = hello(&mut socket).or(late).await?;
    let client = client(&hello);
    let place = client.and_then(|_| ClientPermit::take(attached, MAX_ATTACHED_CONSOLES));
    let refused = match (client, place) {
        (Some(client), Some(_place)) => {
            drop(caller);
            return talk(host, path, socket, client).await;
        }
        (None, _) => "! this socket is for potluck console: attach with that\r\n".to_string(),
        (Some(Client::Lines(Form::Json)), None) => {
            format!(
                "{{\"event\":\"error\",\"reason\":\"{MAX_ATTACHED_CONSOLES} consoles are attached already\"}}\n"
            )
        }
        (Some(_), None) => format!(
            "! {MAX_ATTACHED_CONSOLES} consoles are attached already: detach one, and try again\r\n"
        ),
    };
    let late = async {
        Timer::after(HELLO_TIMEOUT).await;
        Ok(())
    };
    Ok(refuse(&mut socket, &refused).or(late).await?)
}

/// Tells a client why it is refused, and reads what it sends until it closes, so that it sees
/// no error.
async fn refuse(socket: &mut Async<UnixStream>, why: &str) -> io::Result<()> {
    socket.write_all(why.as_bytes()).await?;
    socket.get_ref().shutdown(Shutdown::Write)?;
    let mut rest = [0; 1 << 12];
    for _ in 0..MAX_REFUSED_READS {
        if socket.read(&mut rest).await? == 0 {
            break;
        }
        // A client that sends without end must not starve others.
        smol::future::yield_now().await;
    }
    Ok(())
}

/// Reads the first line byte by byte, because the rest belongs to the console.
async fn hello(socket: &mut Async<UnixStream>) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() <= MAX_HELLO_BYTES {
        socket.read_exact(&mut byte).await?;
        if byte[0] == b'\n' {
            break;
        }
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

async fn talk(
    host: Rc<Host>,
    path: PathBuf,
    socket: Async<UnixStream>,
    client: Client,
) -> Result<(), Fail> {
    let form = match client {
        Client::Terminal => {
            return on_tty(&host, Rc::new(Tty::far(path, socket)), Quit::Detaches).await;
        }
        Client::Lines(form) => form,
    };
    let socket = socket.into_inner()?;
    socket.set_nonblocking(false)?;
    let (input, output) = (socket.try_clone()?, socket.try_clone()?);
    let printer = Printer::plain(OutputQueue::to_socket(output, UNREAD_TIMEOUT)?, form);
    let (mut session, heard) = Session::new(host, printer, Quit::Detaches);
    // A script that sends lines did not ask for the node's state.
    if form == Form::Json {
        session.greet();
    }
    let lines = lines_of(move || BufReader::new(input))?;
    let result = session.serve(Some(Source::Lines(lines)), heard).await;
    drop(session);
    // This ends the reading thread.
    let _ = socket.shutdown(Shutdown::Both);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_what_it_is_and_nothing_else() {
        assert_eq!(client("potluck console 1 terminal"), Some(Client::Terminal));
        assert_eq!(client("potluck console 1 json"), Some(Client::Lines(Form::Json)));
        for other in [
            "",
            "terminal",
            "potluck console 2 terminal",
            "potluck console 1 terminal ",
            "GET / HTTP/1.1\r",
        ] {
            assert_eq!(client(other), None, "{other}");
        }
    }

    #[test]
    fn a_group_is_found_by_its_name() {
        let text = "root:x:0:\npotluck:x:987:ann,bob\nbroken\npot:x:no:\n";
        assert_eq!(numbered(text, "potluck"), Some(987));
        assert_eq!(
            (numbered(text, "pot"), numbered(text, "luck"), numbered(text, "broken")),
            (None, None, None)
        );
    }

    #[test]
    fn a_node_whose_user_is_not_in_the_group_is_told_how_to_add_it() {
        let text = "root:x:0:0:root:/root:/bin/sh\nbroken\npotluck:x:987:987::/:/bin/false\n";
        assert_eq!(named(text, 987).as_deref(), Some("potluck"));
        assert_eq!((named(text, 1), named(text, 0).as_deref()), (None, Some("root")));
        let group = <SocketGroup as crate::config::Setting>::read(&["adm"]).unwrap();
        let settings = Console {
            socket: Some(PathBuf::from("/run/console")),
            socket_group: Some(group),
            ..Console::default()
        };
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let said = ungiven(&settings, refused).to_string();
        for words in ["/run/console", "the group adm", "usermod -aG adm ", "restart"] {
            assert!(said.contains(words), "{said}");
        }
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(matches!(ungiven(&settings, full), SocketError::Unmade(..)));
    }

    #[test]
    fn what_a_dead_node_has_left_is_removed_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console");
        let settings = Console { socket: Some(path.clone()), ..Console::default() };
        drop(UnixListener::bind(&path).unwrap());
        let socket = Socket::open(&settings).unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Socket::open(&settings), Err(SocketError::Taken(_))));
        drop(socket);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Socket::open(&settings), Err(SocketError::NoSocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_group_may_attach_where_the_settings_name_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console");
        let own = rustix::process::getgid().as_raw().to_string();
        let group = <SocketGroup as crate::config::Setting>::read(&[&own]).unwrap();
        let settings =
            Console { socket: Some(path.clone()), socket_group: Some(group), ..Console::default() };
        let _socket = Socket::open(&settings).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    }
}
