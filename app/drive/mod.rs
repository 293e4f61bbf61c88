//! The driver: the only module that uses sockets, threads and clocks. It feeds the node's state
//! machine and carries out its outputs.
//!
//! One thread runs every task; the node sits in a `RefCell` that is never borrowed across an await.
//! The engine has a thread of its own, and so has the console's reader.

mod engine;
mod epochs;
pub(crate) mod heartbeat;
mod identity;
mod interfaces;
mod lan;
mod mailbox;
mod net;
mod paced;
mod probe;
mod reset_client;
mod signals;
mod state;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use async_net::{TcpListener, TcpStream};
use smol::channel::{Receiver, Sender, bounded, unbounded};
use smol::future::{self, FutureExt};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{LocalExecutor, Timer};

use crate::catalog::{Datagram, Prefilter};
use crate::console::{Level, word};
use crate::id::{EpochState, Millis, NodeId};
use crate::lan::RadioCounts;
use crate::limits::{CONNECT_TIMEOUT_MS, MAX_CHUNK_BYTES, MAX_DATAGRAM_BYTES};
use crate::model::Bytes;
use crate::node::{AskId, ConnId, Input, Node, Output, PromptMap, Reply, ResetNews, Status};
use crate::start::{Changed, UnreadModel};

pub use engine::run_job;
pub(crate) use net::NetSettings;

pub(crate) use engine::Engine;
pub(crate) use identity::MachineId;
pub(crate) use mailbox::{Mailbox, Priority};
pub(crate) use net::{NetError, Sockets, free_port};
pub(crate) use paced::{PaceStats, Paced};
pub(crate) use probe::{HeardMachine, Probe, interfaces_of, is_shared, ports, probe, taken};
pub(crate) use reset_client::{ResetClientError, order};
pub(crate) use signals::Signals;
pub(crate) use state::StateDir;

use net::{Arrival, CatalogSocket};

/// A peer that accepts no bytes for this long is gone. Its connection is closed so that it
/// holds no pins.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of datagrams queued for the socket, including those to single peers. If the
/// socket accepts none for longer, the excess is lost and the catalog repairs itself.
const MAX_QUEUED_DATAGRAMS: usize = 256;

/// What the node and its driver tell people.
#[expect(
    clippy::large_enum_variant,
    reason = "it holds an answer's figures; the queue of events is short and bounded"
)]
#[derive(Debug)]
pub(crate) enum DriverEvent {
    /// Part or end of an answer.
    Reply(AskId, Reply),
    /// The progress of a reset that was requested here.
    Reset(ResetNews),
    /// A line for the log.
    Note(Level, String),
    /// The board must reboot: its radio is deaf, and nothing else has helped.
    Reboot,
    /// The engine's thread has ended: there will be no answer.
    EngineEnded,
    /// Something that a former start saved has changed since.
    Changed(Changed),
}

/// Both ends of a channel between the driver's own tasks.
type Channel<T> = (Sender<T>, Receiver<T>);

/// The node and everything that it acts through.
pub(crate) struct Driver {
    node: RefCell<Node>,
    start: Instant,
    engine: Engine,
    socket: Option<CatalogSocket>,
    /// Drops datagrams that do not belong to the swarm.
    prefilter: RefCell<Prefilter>,
    /// Present until it is listened on.
    listener: RefCell<Option<TcpListener>>,
    /// The send queue of each open connection.
    conns: RefCell<BTreeMap<ConnId, Sender<Vec<u8>>>>,
    /// Connections accepted so far.
    accepted: Cell<u64>,
    connects: Channel<(ConnId, SocketAddr)>,
    /// Datagrams to send, to the swarm or to one peer.
    datagrams: Channel<(Option<SocketAddr>, Datagram)>,
    timer: Channel<()>,
    epochs: Channel<EpochState>,
    renames: Channel<NodeId>,
    /// Where the epoch is saved; none if nothing is saved.
    state: Option<StateDir>,
    /// The machine that a saved id belongs to.
    machine: Option<MachineId>,
    words: Mailbox<DriverEvent>,
    /// What was heard on each interface.
    heard: RefCell<BTreeMap<u32, lan::LastHeard>>,
    /// When the interfaces were last checked.
    looked: Cell<Millis>,
    /// Number of renewed memberships, and the steps tried on radios.
    recoveries: Cell<(u64, RadioCounts)>,
}

impl Driver {
    /// A driver around `node`. The receiver yields its messages to people. Without sockets the
    /// node is alone.
    pub(crate) fn new(
        node: Node,
        start: Instant,
        engine: Engine,
        sockets: Option<Sockets>,
    ) -> (Driver, Receiver<DriverEvent>) {
        let (words, out) = Mailbox::new();
        let (socket, listener) =
            sockets.map(|Sockets { catalog, listener, .. }| (catalog, listener)).unzip();
        let driver = Driver {
            prefilter: RefCell::new(node.prefilter()),
            node: RefCell::new(node),
            start,
            engine,
            socket,
            listener: RefCell::new(listener),
            conns: RefCell::default(),
            accepted: Cell::new(0),
            connects: unbounded(),
            datagrams: bounded(MAX_QUEUED_DATAGRAMS),
            timer: bounded(1),
            epochs: bounded(1),
            renames: bounded(1),
            state: None,
            machine: None,
            words,
            heard: RefCell::default(),
            looked: Cell::new(Millis(0)),
            recoveries: Cell::default(),
        };
        (driver, out)
    }

    /// Makes it save the swarm's epoch in `state`, and a changed id as belonging to `machine`.
    pub(crate) fn with_state(self, state: Option<StateDir>, machine: Option<MachineId>) -> Driver {
        Driver { state, machine, ..self }
    }

    /// Passes an input to the node, then carries out its outputs.
    pub(crate) fn handle(&self, input: Input<'_>) {
        let now = self.now();
        self.node.borrow_mut().handle(input, now);
        self.pump();
    }

    /// Brings the model into memory on a separate thread. Locks its files if requested, and reads
    /// them through if their content was trusted from an earlier start.
    pub(crate) fn read_model(
        &self,
        lock: Option<Vec<Bytes>>,
        unread: Option<UnreadModel>,
    ) -> std::io::Result<()> {
        if lock.is_none() && unread.is_none() {
            return Ok(());
        }
        let words = self.words.clone();
        let read = move || {
            if let Err(error) = lock.unwrap_or_default().iter().try_for_each(Bytes::lock) {
                let remedy = "raise the limit of locked memory (ulimit -l), or set lock = \"nothing\" in [memory]";
                say(
                    &words,
                    DriverEvent::Note(
                        Level::Warn,
                        format!("the weights are not locked in memory ({error}): {remedy}"),
                    ),
                );
            }
            if let Some(Err(changed)) = unread.map(|unread| unread.read()) {
                say(&words, DriverEvent::Changed(changed));
            }
        };
        std::thread::Builder::new().name("reader".to_string()).spawn(read).map(drop)
    }

    /// The node's current status.
    pub(crate) fn status(&self) -> Status {
        let mut status = self.node.borrow().status(self.now());
        status.catalog.add_dropped(self.prefilter.borrow().stats());
        status
    }

    /// A block-by-block map of the prompt being answered.
    pub(crate) fn map(&self) -> Option<PromptMap> {
        self.node.borrow().map(self.now())
    }

    /// The display name of a node that is or was known here.
    pub(crate) fn called(&self, node: NodeId) -> String {
        self.node.borrow().called(node)
    }

    /// Starts the node's tasks on `executor`.
    pub(crate) fn start(self: &Rc<Self>, executor: &Rc<LocalExecutor<'static>>) {
        executor.spawn(self.clone().engine_results()).detach();
        executor.spawn(self.clone().deadlines()).detach();
        executor.spawn(self.clone().save_epochs()).detach();
        executor.spawn(self.clone().save_names()).detach();
        if self.socket.is_some() {
            executor.spawn(self.clone().receive()).detach();
            executor.spawn(self.clone().send()).detach();
            executor.spawn(self.clone().follow()).detach();
        }
        if let Some(listener) = self.listener.take() {
            executor.spawn(self.clone().accept(Rc::downgrade(executor), listener)).detach();
            executor.spawn(self.clone().connect_on_request(Rc::downgrade(executor))).detach();
        }
        self.handle(Input::Tick);
    }

    /// Runs the node's tasks on this thread until `talk` ends.
    pub(crate) fn run_until<T>(self: &Rc<Self>, talk: impl Future<Output = T>) -> T {
        let executor = Rc::new(LocalExecutor::new());
        self.start(&executor);
        future::block_on(executor.run(talk))
    }

    /// Says goodbye to the swarm. The node is unusable afterwards.
    pub(crate) async fn farewell(&self) {
        self.handle(Input::Leaving);
        while let (Some(socket), Ok((to, datagram))) = (&self.socket, self.datagrams.1.try_recv()) {
            send_one(socket, to, &datagram).await;
        }
    }

    fn now(&self) -> Millis {
        Millis(self.start.elapsed().as_millis() as u64)
    }

    /// Carries out the node's outputs.
    fn pump(&self) {
        loop {
            let output = self.node.borrow_mut().poll_output();
            match output {
                None => break,
                Some(Output::Connect { conn, addr }) => wake(&self.connects.0, (conn, addr)),
                Some(Output::Close(conn)) => drop(self.conns.borrow_mut().remove(&conn)),
                Some(Output::Send { conn, bytes }) => {
                    if let Some(writer) = self.conns.borrow().get(&conn) {
                        wake(writer, bytes);
                    }
                }
                Some(Output::Datagram(datagram)) => wake(&self.datagrams.0, (None, datagram)),
                Some(Output::Answer { to, datagram }) => {
                    wake(&self.datagrams.0, (Some(to), datagram))
                }
                Some(Output::Abandon(job)) => self.engine.abandon(job),
                Some(Output::Engine(job)) => wake(&self.engine.jobs, job),
                Some(Output::Reply(ask, reply)) => say(&self.words, DriverEvent::Reply(ask, reply)),
                Some(Output::Persist(epochs)) => wake(&self.epochs.0, epochs),
                Some(Output::Renamed(node)) => wake(&self.renames.0, node),
                Some(Output::Reset(news)) => say(&self.words, DriverEvent::Reset(news)),
                Some(Output::Event(event)) => {
                    let (level, line) = word(&event, &|node| self.called(node));
                    say(&self.words, DriverEvent::Note(level, line));
                }
            }
        }
        wake(&self.timer.0, ());
    }

    /// Passes on the engine's results. Ends only if the engine's thread does, which happens
    /// only by a panic.
    async fn engine_results(self: Rc<Self>) {
        while let Ok(done) = self.engine.done.recv().await {
            self.handle(Input::Engine(done));
        }
        say(&self.words, DriverEvent::EngineEnded);
    }

    async fn deadlines(self: Rc<Self>) {
        loop {
            let deadline = self.node.borrow().deadline();
            let due = async {
                match deadline {
                    Some(at) => drop(Timer::at(self.start + Duration::from_millis(at.0)).await),
                    None => future::pending().await,
                }
                true
            };
            let changed = async {
                let _ = self.timer.1.recv().await;
                false
            };
            if due.or(changed).await {
                self.handle(Input::Tick);
                // A deadline that stays due must not starve the tasks that would move it.
                future::yield_now().await;
            }
        }
    }

    async fn receive(self: Rc<Self>) {
        let Some(socket) = &self.socket else { return };
        let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
        loop {
            match socket.receive(&mut buffer).await {
                Ok(Arrival { len, from, delivery, index }) => {
                    let bytes = &buffer[..len];
                    let passes = self.prefilter.borrow_mut().passes(from, bytes, self.now());
                    self.note_heard(from.ip(), index, passes);
                    if passes {
                        self.handle(Input::Datagram { from, delivery, bytes });
                    }
                    if let Some(thrown) = self.prefilter.borrow_mut().flood(self.now()) {
                        say(&self.words, DriverEvent::Note(Level::Warn, flooded(thrown)));
                    }
                    // A flood of datagrams must not starve the other tasks.
                    future::yield_now().await;
                }
                // The interface may be down; the next datagram may be fine.
                Err(_) => drop(Timer::after(Duration::from_millis(100)).await),
            }
        }
    }

    async fn send(self: Rc<Self>) {
        let Some(socket) = &self.socket else { return };
        while let Ok((to, datagram)) = self.datagrams.1.recv().await {
            send_one(socket, to, &datagram).await;
        }
    }

    async fn accept(self: Rc<Self>, executor: Weak<LocalExecutor<'static>>, listener: TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                // Out of descriptors: open connections must end first.
                Timer::after(Duration::from_millis(100)).await;
                continue;
            };
            let Some(executor) = executor.upgrade() else { return };
            let conn = ConnId::In(self.accepted.replace(self.accepted.get() + 1));
            executor.spawn(self.clone().converse(conn, from, stream)).detach();
            // A peer that connects over and over must not starve the other tasks.
            future::yield_now().await;
        }
    }

    async fn connect_on_request(self: Rc<Self>, executor: Weak<LocalExecutor<'static>>) {
        while let Ok((conn, addr)) = self.connects.1.recv().await {
            let Some(executor) = executor.upgrade() else { return };
            let driver = self.clone();
            executor
                .spawn(async move {
                    let timeout = async {
                        Timer::after(Duration::from_millis(CONNECT_TIMEOUT_MS)).await;
                        Err(std::io::ErrorKind::TimedOut.into())
                    };
                    match TcpStream::connect(addr).or(timeout).await {
                        Ok(stream) => driver.converse(conn, addr, stream).await,
                        Err(_) => driver.handle(Input::Closed(conn)),
                    }
                })
                .detach();
        }
    }

    /// Carries one connection's bytes in both directions until either side ends it.
    async fn converse(self: Rc<Self>, conn: ConnId, peer: SocketAddr, stream: TcpStream) {
        // Small frames (wants, hellos) must not wait for more.
        let _ = stream.set_nodelay(true);
        let (outbox, queue) = bounded(1);
        self.conns.borrow_mut().insert(conn, outbox);
        self.handle(match conn {
            ConnId::In(_) => Input::Accepted { conn, from: peer },
            ConnId::Out(_) => Input::Connected(conn),
        });
        if !self.conns.borrow().contains_key(&conn) {
            // The node refuses it, or dropped it while it was being made.
            return;
        }
        let reading = self.read(conn, stream.clone());
        let writing = self.write(conn, stream, queue);
        reading.or(writing).await;
        if self.conns.borrow_mut().remove(&conn).is_some() {
            self.handle(Input::Closed(conn));
        }
    }

    async fn read(&self, conn: ConnId, mut stream: TcpStream) {
        let mut buffer = vec![0; MAX_CHUNK_BYTES];
        while let Ok(len) = stream.read(&mut buffer).await {
            if len == 0 || !self.conns.borrow().contains_key(&conn) {
                return;
            }
            self.handle(Input::Bytes { conn, bytes: &buffer[..len] });
            // A peer that never stops sending must not starve the other tasks.
            future::yield_now().await;
        }
    }

    /// Writes what the node sends on this connection. When the node closes it, sends what is
    /// queued and ends.
    async fn write(&self, conn: ConnId, mut stream: TcpStream, queue: Receiver<Vec<u8>>) {
        while let Ok(bytes) = queue.recv().await {
            let timeout = async {
                Timer::after(WRITE_TIMEOUT).await;
                Err(std::io::ErrorKind::TimedOut.into())
            };
            if stream.write_all(&bytes).or(timeout).await.is_err() {
                return;
            }
            self.handle(Input::Writable(conn));
        }
    }
}

/// Sends to the swarm, or to one of its peers.
async fn send_one(socket: &CatalogSocket, to: Option<SocketAddr>, datagram: &Datagram) {
    match to {
        None => socket.send(datagram).await,
        Some(to) => socket.answer(datagram, to).await,
    }
}

/// Queues a message to people. If notes were dropped because the queue was full, their count is
/// sent before the next message that fits.
fn say(words: &Mailbox<DriverEvent>, word: DriverEvent) {
    let weight = match &word {
        DriverEvent::Note(..) | DriverEvent::Reply(_, Reply::Progress(_)) => Priority::Note,
        DriverEvent::Reply(..)
        | DriverEvent::Reset(_)
        | DriverEvent::Reboot
        | DriverEvent::EngineEnded
        | DriverEvent::Changed(_) => Priority::Answer,
    };
    let dropped = words.dropped();
    if dropped > 0 {
        words.send(
            DriverEvent::Note(
                Level::Warn,
                format!("{dropped} notes were lost: they came faster than they were read"),
            ),
            Priority::Note,
        );
    }
    words.send(word, weight);
}

/// The note about a flood of datagrams that do not belong to the swarm.
fn flooded(thrown: u64) -> String {
    format!(
        "{thrown} datagrams in the last minute did not belong to this swarm: another program or swarm uses this port, or it is a flood"
    )
}

/// Sends without waiting. A full channel of one already carries the message, a full datagram queue
/// loses one as the air does, and neither the engine nor the card ever gets more than one job.
fn wake<T>(channel: &Sender<T>, message: T) {
    let _ = channel.try_send(message);
}
