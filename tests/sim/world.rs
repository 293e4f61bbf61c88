//! The simulator itself: many real nodes in virtual time, the events between them, and the
//! execution of their outputs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use potluck::id::{BlockKey, EpochState, Millis};
use potluck::node::NodeConfig;

use super::cast::{Cast, Mischief, Truth};
use super::checks::{self, Rules};
use super::engine::Engine;
use super::heap::{Dice, Heap, MS, Micros};
use super::host::{ConnId, Effect, Happening, Host, ResetNews};
use super::ledger::Ledger;
use super::net::{Medium, Net};

/// Outputs that one input may cause, far above any legitimate number.
const MAX_EFFECTS: usize = 20_000;

/// A scheduled event.
#[derive(Debug)]
pub enum Event {
    Tick {
        who: usize,
    },
    Said {
        from: usize,
        bytes: Arc<Vec<u8>>,
    },
    Heard {
        from: usize,
        to: usize,
        bytes: Arc<Vec<u8>>,
    },
    CallArrives {
        who: usize,
        life: u64,
        conn: ConnId,
        callee: usize,
    },
    CallFails {
        who: usize,
        life: u64,
        conn: ConnId,
    },
    /// A segment has reached the access point or the switch.
    Relayed {
        pipe: u64,
        to: usize,
        bytes: Vec<u8>,
    },
    Arrives {
        pipe: u64,
        to: usize,
        bytes: Vec<u8>,
    },
    Ends {
        pipe: u64,
        to: usize,
    },
    Breaks {
        pipe: u64,
    },
    JobEnds {
        who: usize,
        life: u64,
    },
    Saved {
        who: usize,
        life: u64,
        epochs: EpochState,
    },
    CastTick {
        who: usize,
        cast: u64,
    },
    /// A pause is over.
    Resumes {
        who: usize,
    },
}

/// Whether a machine is running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Power {
    On,
    /// The process is gone; its machine still refuses connections.
    Killed,
    /// The machine is gone, and answers nothing.
    Dark,
}

/// A machine with a node.
pub struct Station {
    pub host: Host,
    pub config: NodeConfig,
    pub addr: SocketAddr,
    pub power: Power,
    /// Incremented at each start and end of the node.
    pub life: u64,
    pub engine: Engine,
    pub ledger: Ledger,
    /// The node's own clock: its value at the start, and how many parts per million it runs fast.
    pub clock_offset: Micros,
    pub clock_ppm: i64,
    pub paused_until: Micros,
    tick_at: Option<Micros>,
    /// What survives a restart.
    pub saved: EpochState,
    pub card_full: bool,
    /// It receives no datagrams, and nobody receives its own.
    pub deaf: bool,
    pub mischief: Option<Mischief>,
    pub notes: Vec<String>,
    pub resets: Vec<ResetNews>,
    /// Its times are meaningless until then.
    pub disturbed_until: Micros,
    /// Its engine's rate differs from the measured one: since when, and how many tokens it has
    /// computed at the new rate.
    pub rate_changed: Option<(Micros, usize)>,
}

/// The simulator.
pub struct Sim {
    pub name: String,
    pub seed: u64,
    pub now: Micros,
    pub heap: Heap<Event>,
    pub dice: Dice,
    pub net: Net,
    pub stations: Vec<Station>,
    pub casts: BTreeMap<u64, Cast>,
    /// Every block of every prompt, by key.
    pub truths: BTreeMap<BlockKey, Truth>,
    pub rules: Rules,
    /// Every datagram sent, if recording is on.
    pub recorded: Option<Vec<(SocketAddr, Vec<u8>)>>,
    /// Every byte that connections delivered, by sender and receiver, if recording is on.
    pub taped: Option<BTreeMap<(usize, usize), Vec<u8>>>,
    /// Bytes that strangers received.
    pub overheard: Vec<u8>,
    /// Damages the n-th byte that any connection carries.
    pub damage_byte: Option<u64>,
    /// How often each thing happened.
    pub counts: BTreeMap<&'static str, u64>,
    pub events: u64,
    /// A run with more events than this makes no progress.
    pub most_events: u64,
    pub trace: bool,
    pub(super) accepted: u64,
    pub(super) asked: u64,
}

impl Sim {
    pub fn new(name: &str, seed: u64, medium: Medium, bytes_per_ms: u64) -> Sim {
        Sim {
            name: name.to_string(),
            seed,
            now: 0,
            heap: Heap::new(),
            dice: Dice::new(seed),
            net: Net::new(medium, bytes_per_ms),
            stations: Vec::new(),
            casts: BTreeMap::new(),
            truths: BTreeMap::new(),
            rules: Rules::default(),
            recorded: None,
            taped: None,
            overheard: Vec::new(),
            damage_byte: None,
            counts: BTreeMap::new(),
            events: 0,
            most_events: u64::MAX,
            trace: std::env::var_os("SIM_TRACE").is_some(),
            accepted: 1 << 40,
            asked: 0,
        }
    }

    /// Adds a node whose engine takes `micros_per_token`. Returns its number.
    pub fn join(&mut self, config: NodeConfig, micros_per_token: Micros) -> usize {
        self.join_with_clock(config, micros_per_token, 0, 0)
    }

    pub fn join_with_clock(
        &mut self,
        config: NodeConfig,
        micros_per_token: Micros,
        offset: Micros,
        ppm: i64,
    ) -> usize {
        let who = self.stations.len();
        let at = who + 1;
        let addr = SocketAddr::from(([10, (at >> 16) as u8, (at >> 8) as u8, at as u8], 7_000));
        let config = NodeConfig { tcp_port: addr.port(), ..config };
        self.stations.push(Station {
            host: Host::new(&config, self.seed ^ who as u64),
            engine: Engine::new(&config.shape, micros_per_token),
            config,
            addr,
            power: Power::On,
            life: 0,
            ledger: Ledger::default(),
            clock_offset: offset,
            clock_ppm: ppm,
            paused_until: 0,
            tick_at: None,
            saved: EpochState::default(),
            card_full: false,
            deaf: false,
            mischief: None,
            notes: Vec::new(),
            resets: Vec::new(),
            disturbed_until: 0,
            rate_changed: None,
        });
        self.net.plug_in();
        self.handle(who, Happening::Tick);
        who
    }

    /// Counts something that happened.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A rule is broken: ends the run with everything needed to reproduce it.
    pub fn fail(&self, what: &str) -> ! {
        panic!(
            "{}: seed {}, event {}, {} ms: {what}\n(to reproduce: make sim SEED={} for a mixed seed; SIM_TRACE=1 traces)",
            self.name,
            self.seed,
            self.events,
            self.now / MS,
            self.seed
        );
    }

    /// The time on a node's own clock.
    pub fn local(&self, who: usize) -> Millis {
        let station = &self.stations[who];
        let drift = self.now as i64 / 1_000_000 * station.clock_ppm
            + self.now as i64 % 1_000_000 * station.clock_ppm / 1_000_000;
        Millis(((station.clock_offset + self.now) as i64 + drift) as u64 / MS)
    }

    /// The first moment, not before now, at which a node's own clock shows `due` or later.
    fn global(&self, who: usize, due: Millis) -> Micros {
        let ahead = due.0.saturating_sub(self.local(who).0);
        if ahead == 0 {
            return self.now;
        }
        let station = &self.stations[who];
        let boundary = (station.clock_offset + self.now) % MS;
        let drift = ahead as i64 * station.clock_ppm / 1_000;
        self.now + ((ahead * MS - boundary) as i64 - drift).max(1) as u64
    }

    /// Processes the next event if it is due by `until`.
    pub fn step(&mut self, until: Micros) -> bool {
        if self.heap.next_at().is_none_or(|at| at > until) {
            self.now = self.now.max(until);
            return false;
        }
        let Some((at, event)) = self.heap.pop() else { return false };
        self.now = self.now.max(at);
        self.events += 1;
        if self.events > self.most_events {
            self.fail("the run does not end");
        }
        if self.trace {
            self.show(&event);
        }
        self.dispatch(event);
        true
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Tick { who } => self.tick(who),
            Event::Said { from, bytes } => self.said(from, &bytes),
            Event::Heard { from, to, bytes } => self.receive(from, to, &bytes),
            Event::CallArrives { who, life, conn, callee } => {
                self.call_arrives(who, life, conn, callee)
            }
            Event::CallFails { who, life, conn } => self.call_fails(who, life, conn),
            Event::Relayed { pipe, to, bytes } => self.relayed(pipe, to, bytes),
            Event::Arrives { pipe, to, bytes } => self.arrives(pipe, to, bytes),
            Event::Ends { pipe, to } => self.ends(pipe, to),
            Event::Breaks { pipe } => self.break_pipe(pipe),
            Event::JobEnds { who, life } => self.job_ends(who, life),
            Event::Saved { who, life, epochs } => self.card_saves(who, life, epochs),
            Event::CastTick { who, cast } => self.cast_ticks(who, cast),
            Event::Resumes { who } => self.resumes(who),
        }
    }

    fn show(&self, event: &Event) {
        let at = self.now;
        match event {
            Event::Said { from, bytes } => {
                eprintln!("{at:>12} node {from} says {} bytes", bytes.len())
            }
            Event::Heard { from, to, bytes } => {
                eprintln!("{at:>12} node {to} hears {} bytes of {from}", bytes.len())
            }
            Event::Relayed { .. } => {}
            Event::Arrives { pipe, to, bytes } => {
                let who = self
                    .net
                    .pipes
                    .get(pipe)
                    .map(|pipe| (pipe.ends[1 - to].who, pipe.ends[*to].who));
                eprintln!("{at:>12} pipe {pipe} {who:?} carries {} bytes", bytes.len());
            }
            Event::Tick { .. } => {}
            other => eprintln!("{at:>12} {other:?}"),
        }
    }

    /// Gives a node an input, and carries out its outputs.
    pub fn handle(&mut self, who: usize, happening: Happening<'_>) {
        if self.stations[who].power != Power::On {
            return;
        }
        let now = self.local(who);
        self.stations[who].host.handle(happening, now);
        self.drain(who);
    }

    pub(super) fn drain(&mut self, who: usize) {
        if self.stations[who].power != Power::On {
            return;
        }
        let now = self.local(who);
        for count in 0.. {
            let Some(effect) = self.stations[who].host.poll(now) else { break };
            if count > MAX_EFFECTS {
                self.fail(&format!("node {who} never runs out of outputs"));
            }
            self.obey(who, effect);
        }
        self.schedule_tick(who);
        if self.rules.every_event
            && let Err(what) = checks::node_holds(self, who)
        {
            self.fail(&what);
        }
    }

    fn schedule_tick(&mut self, who: usize) {
        let Some(due) = self.stations[who].host.deadline() else { return };
        // A node that is due at once although it has just been handled is handled again a
        // millisecond later.
        let at = self
            .global(who, due.max(self.local(who) + Millis(1)))
            .max(self.stations[who].paused_until);
        let station = &mut self.stations[who];
        if station.tick_at.is_none_or(|scheduled| at < scheduled || scheduled <= self.now) {
            station.tick_at = Some(at);
            self.heap.push(at, Event::Tick { who });
        }
    }

    fn tick(&mut self, who: usize) {
        let station = &mut self.stations[who];
        if station.tick_at != Some(self.now) {
            return;
        }
        station.tick_at = None;
        if station.power != Power::On {
            return;
        }
        if station.paused_until > self.now
            || station.host.deadline().is_none_or(|due| due > self.local(who))
        {
            return self.schedule_tick(who);
        }
        self.handle(who, Happening::Tick);
    }

    fn obey(&mut self, who: usize, effect: Effect) {
        if self.trace && !matches!(effect, Effect::Wake(_) | Effect::Datagram(_)) {
            let mut text = format!("{effect:?}");
            text.truncate(160);
            eprintln!("{:>12} node {who}: {text}", self.now);
        }
        match effect {
            Effect::Connect { conn, addr } => self.call(who, conn, addr),
            Effect::Close(conn) => self.hang_up(who, conn),
            Effect::Wake(conn) => {
                let handle = super::net::Handle::Node(conn);
                if let Some((id, side)) = self.net.by_handle.get(&(who, handle)).copied() {
                    self.pump(id, side);
                }
            }
            Effect::Datagram(bytes) => self.say(who, bytes),
            Effect::Answer(to, bytes) => self.say_to(who, to, bytes),
            Effect::Work(task) => self.job_begins(who, task),
            Effect::Abandon(id) => self.job_abandoned(who, id),
            Effect::Progress(id, progress) => {
                let now = self.now;
                if let Some(asked) = self.stations[who].ledger.find(id) {
                    asked.progress.push((now, progress));
                }
            }
            Effect::Token(id, token) => {
                let now = self.now;
                if !self.stations[who].ledger.token(id, token, now) {
                    self.fail(&format!(
                        "node {who} gives a token for prompt {id}, which is not open"
                    ));
                }
                self.learn_answer(who, id);
            }
            Effect::Done(id, figures) => self.closed(who, id, Ok(*figures)),
            Effect::Failed(id, reason) => self.closed(who, id, Err(reason)),
            Effect::Persist(epochs) => {
                let life = self.stations[who].life;
                self.heap.push(self.now + MS, Event::Saved { who, life, epochs });
            }
            Effect::Renamed(node) => self.stations[who].config.node = node,
            Effect::Reset(news) => self.stations[who].resets.push(news),
            Effect::Note(line) => self.stations[who].notes.push(line),
        }
    }
}
