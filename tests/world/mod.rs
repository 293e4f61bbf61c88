//! A LAN in memory: nodes, the datagrams and connections between them, and a clock that only moves when told. The same inputs give
//! the same run.

#![allow(dead_code, reason = "each test uses what it needs of the world")]

pub mod fake;
pub mod faults;
pub mod impostor;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use impostor::{Impostor, Mischief, Truth};
use potluck::cache::{Chain, ChainSecret};
use potluck::catalog::Datagram;
use potluck::id::{BlockKey, BootId, EpochState, Fingerprint, Millis, NodeId, TokenId};
use potluck::kv::KvShape;
use potluck::node::{
    Ask, AskId, ConnId, Figures, Input, Job, JobDone, Node, NodeConfig, Output, Progress, Reply, ResetNews, Status, Watch,
    swarm_tag,
};
use potluck::sampler::Sampling;
use potluck::transfer::Hello;

/// How long the driver tries to connect.
const CONNECT_MS: u64 = 3_000;

/// Runs a node's jobs.
pub trait Engine {
    /// Does the job; `micros` in the result is how long it would have taken.
    fn run(&mut self, job: &Job) -> JobDone;
}

/// An answer as it came.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    Done { tokens: Vec<TokenId>, figures: Figures },
    Failed(String),
}

impl Answer {
    pub fn tokens(&self) -> &[TokenId] {
        match self {
            Answer::Done { tokens, .. } => tokens,
            Answer::Failed(reason) => panic!("no answer: {reason}"),
        }
    }

    pub fn figures(&self) -> &Figures {
        match self {
            Answer::Done { figures, .. } => figures,
            Answer::Failed(reason) => panic!("no answer: {reason}"),
        }
    }
}

struct Member {
    node: Node,
    engine: Box<dyn Engine>,
    addr: SocketAddr,
    alive: bool,
    tokens: BTreeMap<u64, Vec<TokenId>>,
    answers: BTreeMap<u64, Answer>,
    /// A job under way and when it ends.
    job: Option<(Millis, JobDone)>,
    notes: Vec<String>,
    progress: Vec<(Millis, Progress)>,
    card: faults::Card,
    /// No datagram reaches it, and none of its own anyone else.
    deaf: bool,
    resets: Vec<ResetNews>,
    config: NodeConfig,
    mischief: Option<Mischief>,
    impostors: BTreeMap<ConnId, Impostor>,
}

/// A connection: bytes on their way to each end.
struct Wire {
    ends: [(usize, ConnId); 2],
    /// To end 0 and to end 1.
    flying: [VecDeque<u8>; 2],
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Bytes that one connection carries a millisecond, each way.
    pub bytes_per_ms: usize,
    /// Of a hundred datagrams, how many are lost, at random.
    pub lose_percent: u64,
    /// From this millisecond on connections carry nothing.
    pub stall_at: Option<Millis>,
    /// The n-th byte that any connection carries is damaged.
    pub damage_byte: Option<u64>,
}

impl Default for Weather {
    fn default() -> Weather {
        Weather { bytes_per_ms: 100_000, lose_percent: 0, stall_at: None, damage_byte: None }
    }
}

/// The LAN.
pub struct World {
    members: Vec<Member>,
    wires: Vec<Wire>,
    pub now: Millis,
    pub weather: Weather,
    datagrams: u64,
    carried: u64,
    asked: u64,
    /// Connection attempts that nobody answers, and when they are given up.
    hanging: Vec<(Millis, usize, ConnId)>,
    /// Connection attempts so far.
    pub connects: u64,
    /// Every block of every prompt.
    truths: BTreeMap<BlockKey, Truth>,
    /// Bytes of all datagrams sent, with IP and UDP headers.
    pub datagram_bytes: u64,
    /// Every datagram sent, when it is to be kept.
    pub recorded: Option<Vec<(SocketAddr, Datagram)>>,
}

/// A node's settings as the tests use them.
pub fn config(number: u64, shape: &Arc<KvShape>, slab_bytes: usize) -> NodeConfig {
    NodeConfig {
        node: NodeId(number + 1),
        boot: BootId(1_000 + number),
        swarm_key: b"test".to_vec(),
        swarm: swarm_tag(b"test"),
        fingerprint: Fingerprint([7; 16]),
        epochs: EpochState::default(),
        shape: shape.clone(),
        slab_bytes,
        context: 2_048,
        tcp_port: 1,
        sharing: true,
        reuse: true,
        announce_interval_ms: 10_000,
        prefill_tokens_per_s: None,
        end_tokens: Vec::new(),
    }
}

impl World {
    pub fn new() -> World {
        World {
            members: Vec::new(),
            wires: Vec::new(),
            now: Millis(0),
            weather: Weather::default(),
            datagrams: 0,
            carried: 0,
            asked: 0,
            hanging: Vec::new(),
            connects: 0,
            truths: BTreeMap::new(),
            datagram_bytes: 0,
            recorded: None,
        }
    }

    /// A new node; gives its number.
    pub fn join(&mut self, config: NodeConfig, engine: Box<dyn Engine>) -> usize {
        let number = self.members.len();
        let addr = SocketAddr::from(([10, 0, 0, number as u8 + 1], 1));
        let config = NodeConfig { tcp_port: addr.port(), ..config };
        let node = Node::new(config.clone()).expect("the test's settings are good");
        self.members.push(Member {
            node,
            engine,
            addr,
            alive: true,
            tokens: BTreeMap::new(),
            answers: BTreeMap::new(),
            job: None,
            notes: Vec::new(),
            progress: Vec::new(),
            card: faults::Card::default(),
            deaf: false,
            resets: Vec::new(),
            config,
            mischief: None,
            impostors: BTreeMap::new(),
        });
        self.handle(number, Input::Tick);
        number
    }

    /// From here on the node does this to whoever connects to it.
    pub fn corrupt(&mut self, member: usize, mischief: Mischief) {
        self.members[member].mischief = Some(mischief);
    }

    /// The power of a node fails; its peers are told nothing.
    pub fn cut_power(&mut self, member: usize) {
        self.members[member].alive = false;
        self.members[member].job = None;
    }

    /// The node comes back as another start of the same, with nothing but what its card holds.
    pub fn restart(&mut self, member: usize) {
        let own = &mut self.members[member];
        own.config.boot.0 += 1_000;
        own.config.epochs = own.card.saved;
        own.card.saving = None;
        own.node = Node::new(own.config.clone()).expect("the settings were good before");
        own.alive = true;
        self.handle(member, Input::Tick);
    }

    /// Nothing is pinned or reserved on any node: what the end of every answer must leave behind.
    pub fn assert_quiet(&self) {
        for (number, member) in self.members.iter().enumerate() {
            let planes = member.node.status(self.now).cache.planes.map(|plane| (plane.pinned, plane.reserved));
            assert_eq!(planes, [(0, 0), (0, 0)], "pinned and reserved slots of node {number}: {:?}", member.notes);
        }
    }

    /// The node is gone, without a word; its connections break.
    pub fn kill(&mut self, member: usize) {
        self.members[member].alive = false;
        self.members[member].job = None;
        let (broken, rest): (Vec<Wire>, Vec<Wire>) =
            self.wires.drain(..).partition(|wire| wire.ends.iter().any(|(end, _)| *end == member));
        self.wires = rest;
        for wire in broken {
            for (end, conn) in wire.ends {
                if end != member {
                    self.handle(end, Input::Closed(conn));
                }
            }
        }
    }

    pub fn status(&self, member: usize) -> Status {
        self.members[member].node.status(self.now)
    }

    pub fn notes(&self, member: usize) -> &[String] {
        &self.members[member].notes
    }

    /// What a node told of its prompts before their first tokens, and when.
    pub fn progress(&self, member: usize) -> &[(Millis, Progress)] {
        &self.members[member].progress
    }

    /// Gives a node a prompt; gives the prompt's number.
    pub fn ask(&mut self, member: usize, tokens: &[TokenId], max_tokens: usize) -> u64 {
        self.ask_as(member, tokens, max_tokens, false, None)
    }

    /// The same in memory of its own.
    pub fn ask_privately(&mut self, member: usize, tokens: &[TokenId], max_tokens: usize) -> u64 {
        self.ask_as(member, tokens, max_tokens, true, None)
    }

    /// The same as [`World::ask`], with somebody who reads the answer along.
    pub fn ask_watched(&mut self, member: usize, tokens: &[TokenId], max_tokens: usize, watch: Box<dyn Watch>) -> u64 {
        self.ask_as(member, tokens, max_tokens, false, Some(watch))
    }

    fn ask_as(
        &mut self,
        member: usize,
        tokens: &[TokenId],
        max_tokens: usize,
        private: bool,
        watch: Option<Box<dyn Watch>>,
    ) -> u64 {
        self.asked += 1;
        let config = &self.members[member].config;
        let secret = ChainSecret::derive(&config.swarm_key);
        let root = potluck::cache::root(&secret, config.fingerprint);
        for link in Chain::of(&secret, root, tokens).links() {
            self.truths.insert(link.key, Some((link.parent, link.tokens.clone())));
        }
        let id = AskId(self.asked);
        let ask = Ask { id, tokens: tokens.to_vec(), max_tokens, sampling: Sampling::GREEDY, private, watch };
        self.handle(member, Input::Ask(ask));
        self.asked
    }

    /// Ends the answer to prompt `asked`.
    pub fn stop(&mut self, member: usize, asked: u64) {
        self.handle(member, Input::Stop(AskId(asked)));
    }

    /// The answer to prompt `asked`, if it is complete.
    pub fn answer(&self, member: usize, asked: u64) -> Option<&Answer> {
        self.members[member].answers.get(&asked)
    }

    /// Asks, and lets time pass until the answer is there, and then until the swarm has heard of it.
    pub fn answer_now(&mut self, member: usize, tokens: &[TokenId], max_tokens: usize) -> Answer {
        let asked = self.ask(member, tokens, max_tokens);
        let patience = self.now + Millis(3_600_000);
        while self.answer(member, asked).is_none() {
            assert!(self.now < patience, "no answer after an hour: {:?}", self.notes(member));
            self.step();
        }
        let answer = self.answer(member, asked).cloned().expect("just seen");
        self.pass(600);
        answer
    }

    /// Lets `ms` milliseconds pass.
    pub fn pass(&mut self, ms: u64) {
        let until = self.now + Millis(ms);
        while self.now < until {
            self.step();
        }
    }

    /// Lets one millisecond pass.
    pub fn step(&mut self) {
        self.now = self.now + Millis(1);
        self.carry();
        let (over, rest) = self.hanging.drain(..).partition(|(at, ..)| *at <= self.now);
        self.hanging = rest;
        let over: Vec<(Millis, usize, ConnId)> = over;
        for (_, member, conn) in over {
            self.handle(member, Input::Closed(conn));
        }
        for member in 0..self.members.len() {
            if !self.members[member].alive {
                continue;
            }
            if let Some((_, done)) = self.members[member].job.take_if(|(at, _)| *at <= self.now) {
                self.handle(member, Input::Engine(done));
            }
            self.save(member);
            if self.members[member].node.deadline().is_some_and(|at| at <= self.now) {
                self.handle(member, Input::Tick);
            }
        }
    }

    fn handle(&mut self, member: usize, input: Input<'_>) {
        if self.members[member].alive {
            self.members[member].node.handle(input, self.now);
            self.drain(member);
        }
    }

    fn drain(&mut self, member: usize) {
        while let Some(output) = self.members[member].node.poll_output() {
            match output {
                Output::Connect { conn, addr } => self.connect(member, conn, addr),
                Output::Close(conn) => self.close(member, conn),
                Output::Wake(_) => {}
                Output::Engine(job) => {
                    let own = &mut self.members[member];
                    let done = own.engine.run(&job);
                    assert!(own.job.is_none(), "one job at a time");
                    own.job = Some((self.now + Millis(done.micros.div_ceil(1_000)), done));
                }
                Output::Reply(ask, reply) => self.replied(member, ask.0, reply),
                Output::Persist(epochs) => self.members[member].card.saving = Some(epochs),
                Output::Reset(news) => self.members[member].resets.push(news),
                Output::Note(_, line) => self.members[member].notes.push(line),
            }
        }
        while let Some(datagram) = self.members[member].node.poll_datagram(self.now) {
            self.datagrams += 1;
            self.datagram_bytes += datagram.len() as u64 + 28;
            let from = self.members[member].addr;
            if let Some(recorded) = &mut self.recorded {
                recorded.push((from, datagram.clone()));
            }
            if (self.datagrams.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % 100 < self.weather.lose_percent {
                continue;
            }
            if !self.members[member].deaf {
                self.multicast(from, &datagram);
            }
        }
    }

    fn replied(&mut self, member: usize, asked: u64, reply: Reply) {
        let now = self.now;
        let own = &mut self.members[member];
        match reply {
            Reply::Progress(progress) => own.progress.push((now, progress)),
            Reply::Token(token) => own.tokens.entry(asked).or_default().push(token),
            Reply::Done(figures) => {
                let tokens = own.tokens.remove(&asked).unwrap_or_default();
                own.answers.insert(asked, Answer::Done { tokens, figures });
            }
            Reply::Failed(reason) => drop(own.answers.insert(asked, Answer::Failed(reason))),
        }
    }

    fn connect(&mut self, member: usize, conn: ConnId, addr: SocketAddr) {
        self.connects += 1;
        let callee = self.members.iter().position(|other| other.addr == addr && other.alive);
        let accepted = callee.and_then(|callee| Some((callee, self.accept(callee)?)));
        if callee.is_some_and(|callee| self.members[callee].mischief == Some(Mischief::Unreachable)) {
            return self.hanging.push((self.now + Millis(CONNECT_MS), member, conn));
        }
        match accepted {
            Some(end) => {
                self.wires.push(Wire { ends: [(member, conn), end], flying: [VecDeque::new(), VecDeque::new()] });
                self.handle(member, Input::Connected(conn));
            }
            None => self.handle(member, Input::Closed(conn)),
        }
    }

    fn accept(&mut self, callee: usize) -> Option<ConnId> {
        let now = self.now;
        let own = &mut self.members[callee];
        match own.mischief {
            None => own.node.accept(now),
            Some(Mischief::Refuses | Mischief::Unreachable) => None,
            Some(mischief) => {
                let NodeConfig { swarm, node, boot, epochs, fingerprint, shape, .. } = &own.config;
                let hello = Hello::new(*swarm, *node, *boot, epochs.epoch, *fingerprint);
                let conn = ConnId(1 << 40 | self.connects);
                own.impostors.insert(conn, Impostor::new(mischief, hello, shape, now));
                Some(conn)
            }
        }
    }

    fn poll_send(&mut self, member: usize, conn: ConnId, out: &mut Vec<u8>) -> bool {
        let own = &mut self.members[member];
        match own.impostors.get_mut(&conn) {
            Some(impostor) => impostor.say(self.now, out),
            None => own.alive && own.node.poll_send(conn, self.now, out),
        }
    }

    fn close(&mut self, member: usize, conn: ConnId) {
        let Some(at) = self.wires.iter().position(|wire| wire.ends.contains(&(member, conn))) else { return };
        let wire = self.wires.remove(at);
        for (end, conn) in wire.ends.into_iter().filter(|(end, _)| *end != member) {
            if self.members[end].impostors.remove(&conn).is_none() {
                self.handle(end, Input::Closed(conn));
            }
        }
    }
}
