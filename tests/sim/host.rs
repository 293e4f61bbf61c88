//! The only place where the simulator touches a node's interface: everything else uses
//! [`Happening`]s and [`Effect`]s.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use potluck::id::{EpochState, Millis, NodeId, TokenId};
use potluck::kv::Sequence;
use potluck::limits::{LEAST_PEERS, MAX_PEERS};
use potluck::node::{Ask, AskId, Delivery, Input, JobFault, Node, NodeConfig, Output, Reply};
use potluck::sampler::Sampling;

pub use potluck::node::{ConnId, Figures, Job, JobDone, Progress, ResetNews, Status, Watch};

/// A prompt as the simulator gives it to a node.
#[derive(Debug)]
pub struct Prompt {
    pub id: u64,
    pub tokens: Vec<TokenId>,
    pub max_tokens: usize,
    pub sampling: Sampling,
    pub private: bool,
    pub watch: Option<Box<dyn Watch>>,
}

/// Work for the engine: run `tokens` from position `first` on, and choose the token that follows
/// each of the last `rows`.
#[derive(Debug)]
pub struct Task {
    pub id: u64,
    pub tokens: Vec<TokenId>,
    pub first: usize,
    pub sequence: Arc<Sequence>,
    pub rows: usize,
    /// The job as the node gave it.
    pub job: Job,
}

/// Why a task has no result.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(dead_code, reason = "a node whose jobs cannot be abandoned never sees the first")]
pub enum TaskFault {
    Abandoned,
    Failed(String),
}

/// Runs jobs with a real model.
pub type Outside = Box<dyn FnMut(&Job) -> JobDone>;

/// A finished task.
#[derive(Debug)]
pub struct TaskDone {
    pub id: u64,
    pub result: Result<Vec<TokenId>, TaskFault>,
    pub micros: u64,
    /// The result of a real model, which replaces `result`.
    pub outside: Option<JobDone>,
}

/// An input to a node.
#[derive(Debug)]
pub enum Happening<'a> {
    Datagram {
        from: SocketAddr,
        bytes: &'a [u8],
    },
    /// A datagram sent to the node's own address.
    Unicast {
        from: SocketAddr,
        bytes: &'a [u8],
    },
    Connected(ConnId),
    Closed(ConnId),
    Bytes {
        conn: ConnId,
        bytes: &'a [u8],
    },
    Ask(Prompt),
    Stop(u64),
    Work(TaskDone),
    Reset {
        store: bool,
    },
    Persisted {
        epochs: EpochState,
        result: Result<(), String>,
    },
    Tick,
}

/// An output of a node.
#[derive(Debug)]
#[allow(dead_code, reason = "a node whose jobs cannot be abandoned never asks for it")]
pub enum Effect {
    Connect {
        conn: ConnId,
        addr: SocketAddr,
    },
    Close(ConnId),
    /// [`Host::pull`] may have bytes for this connection.
    Wake(ConnId),
    Datagram(Vec<u8>),
    Answer(SocketAddr, Vec<u8>),
    Work(Task),
    Abandon(u64),
    Progress(u64, Progress),
    Token(u64, TokenId),
    Done(u64, Box<Figures>),
    Failed(u64, String),
    Persist(EpochState),
    Reset(ResetNews),
    Renamed(NodeId),
    Note(String),
}

/// Sorts before every other connection.
pub const LEAST_CONN: ConnId = ConnId::In(0);

/// The number of peers that a node's tables hold.
pub fn most_peers(config: &NodeConfig) -> usize {
    config.peers
}

/// The settings of a node sized to know `nodes` others.
pub fn sized_for(nodes: usize, config: NodeConfig) -> NodeConfig {
    NodeConfig { peers: nodes.clamp(LEAST_PEERS, MAX_PEERS), ..config }
}

/// A real node.
pub struct Host {
    node: Node,
    /// Bytes sent on each connection that the socket has not taken yet.
    sent: BTreeMap<ConnId, Vec<u8>>,
}

impl Host {
    /// `seed` determines the node's random delays.
    pub fn new(config: &NodeConfig, seed: u64) -> Host {
        let config = NodeConfig { seed, ..config.clone() };
        Host {
            node: Node::new(config).expect("the simulator's settings are good"),
            sent: BTreeMap::new(),
        }
    }

    pub fn handle(&mut self, happening: Happening<'_>, now: Millis) {
        let input = match happening {
            Happening::Datagram { from, bytes } => {
                Input::Datagram { from, delivery: Delivery::Multicast, bytes }
            }
            Happening::Unicast { from, bytes } => {
                Input::Datagram { from, delivery: Delivery::Unicast, bytes }
            }
            Happening::Connected(conn) => Input::Connected(conn),
            Happening::Closed(conn) => Input::Closed(conn),
            Happening::Bytes { conn, bytes } => Input::Bytes { conn, bytes },
            Happening::Ask(Prompt { id, tokens, max_tokens, sampling, private, watch }) => {
                Input::Ask(Ask { id: AskId(id), tokens, max_tokens, sampling, private, watch })
            }
            Happening::Stop(id) => Input::Stop(AskId(id)),
            Happening::Work(TaskDone { outside: Some(done), .. }) => Input::Engine(done),
            Happening::Work(TaskDone { id, result, micros, .. }) => {
                let result = result.map_err(|fault| match fault {
                    TaskFault::Abandoned => JobFault::Abandoned,
                    TaskFault::Failed(reason) => JobFault::Failed(reason),
                });
                Input::Engine(JobDone { id, result, micros, sampling_micros: 0 })
            }
            Happening::Reset { store } => Input::Reset { store },
            Happening::Persisted { epochs, result } => Input::Persisted { epochs, result },
            Happening::Tick => Input::Tick,
        };
        self.node.handle(input, now);
    }

    /// Accepts a connection; `number` is new for this node. A refusal comes as [`Effect::Close`].
    pub fn accept(&mut self, number: u64, from: SocketAddr, now: Millis) -> Option<ConnId> {
        let conn = ConnId::In(number);
        self.node.handle(Input::Accepted { conn, from }, now);
        Some(conn)
    }

    /// Appends the node's next bytes for a connection whose socket has room to `out`; false if
    /// there are none.
    pub fn pull(&mut self, conn: ConnId, now: Millis, out: &mut Vec<u8>) -> bool {
        let Some(bytes) = self.sent.remove(&conn) else { return false };
        out.extend(bytes);
        self.node.handle(Input::Writable(conn), now);
        true
    }

    /// The node's goodbye.
    pub fn farewell(&mut self, now: Millis) -> Option<Vec<u8>> {
        self.node.handle(Input::Leaving, now);
        let outputs = std::iter::from_fn(|| self.node.poll_output());
        let datagrams = outputs.filter_map(|output| match output {
            Output::Datagram(datagram) => Some(datagram.to_vec()),
            _ => None,
        });
        datagrams.last()
    }

    /// The node's next output, `None` when there is nothing more.
    pub fn poll(&mut self, now: Millis) -> Option<Effect> {
        let _ = now;
        let output = self.node.poll_output()?;
        Some(match output {
            Output::Connect { conn, addr } => Effect::Connect { conn, addr },
            Output::Close(conn) => {
                // Bytes sent before go out first.
                Effect::Close(conn)
            }
            Output::Send { conn, bytes } => {
                let before = self.sent.insert(conn, bytes);
                assert!(before.is_none(), "sent twice without waiting for the socket");
                Effect::Wake(conn)
            }
            Output::Datagram(datagram) => Effect::Datagram(datagram.to_vec()),
            Output::Answer { to, datagram } => Effect::Answer(to, datagram.to_vec()),
            Output::Abandon(job) => Effect::Abandon(job),
            Output::Engine(job) => Effect::Work(Task {
                id: job.id,
                rows: job.judge.as_ref().map_or(0, |judge| judge.rows),
                tokens: job.tokens.clone(),
                first: job.first,
                sequence: job.sequence.clone(),
                job,
            }),
            Output::Reply(ask, reply) => match reply {
                Reply::Progress(progress) => Effect::Progress(ask.0, progress),
                Reply::Token(token) => Effect::Token(ask.0, token),
                Reply::Done(figures) => Effect::Done(ask.0, Box::new(figures)),
                Reply::Failed(refusal) => Effect::Failed(ask.0, refusal.to_string()),
            },
            Output::Persist(epochs) => Effect::Persist(epochs),
            Output::Reset(news) => Effect::Reset(news),
            Output::Renamed(node) => Effect::Renamed(node),
            Output::Event(event) => {
                Effect::Note(potluck::console::word(&event, &|node| self.node.called(node)).1)
            }
        })
    }

    pub fn deadline(&self) -> Option<Millis> {
        self.node.deadline()
    }

    pub fn status(&self, now: Millis) -> Status {
        self.node.status(now)
    }
}
