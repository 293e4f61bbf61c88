//! The simulator itself: many real nodes in virtual time, the events between them, and what each node wants done.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use potluck::id::{BlockKey, EpochState, Millis};
use potluck::limits::{BLOCK_TOKENS, PREFILL_STEP_TOKENS};
use potluck::node::NodeConfig;

use super::cast::{Cast, Mischief, Truth};
use super::checks::{self, Rules};
use super::engine::Engine;
use super::heap::{Dice, Heap, MS, Micros};
use super::host::{ConnId, Effect, Happening, Host, ResetNews};
use super::ledger::Ledger;
use super::net::{Medium, Net};

/// Things that one input may make a node ask for, far above any honest number.
const MAX_EFFECTS: usize = 20_000;

/// What is scheduled.
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
    /// A segment is at the access point, or the switch.
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

/// Whether a machine runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Power {
    On,
    /// The process is gone; its machine answers for it.
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
    /// Grows with each start and end of the node.
    pub life: u64,
    pub engine: Engine,
    pub ledger: Ledger,
    /// The node's own clock: where it stood at the start, and how many millionths too fast it runs.
    pub clock_offset: Micros,
    pub clock_ppm: i64,
    pub paused_until: Micros,
    tick_at: Option<Micros>,
    /// What survives a restart.
    pub saved: EpochState,
    pub card_full: bool,
    /// No datagram reaches it, and none of its own anyone else.
    pub deaf: bool,
    pub mischief: Option<Mischief>,
    pub notes: Vec<String>,
    pub resets: Vec<ResetNews>,
    /// Its times say nothing until then.
    pub disturbed_until: Micros,
    /// Its engine's rate is not the one that it has measured: since when, and how many tokens it has computed at the new one.
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
    /// Every block of every prompt.
    pub truths: BTreeMap<BlockKey, Truth>,
    pub rules: Rules,
    /// Every datagram sent, when it is to be kept.
    pub recorded: Option<Vec<(SocketAddr, Vec<u8>)>>,
    /// Every byte that a connection brought, by sender and receiver, when it is to be kept.
    pub taped: Option<BTreeMap<(usize, usize), Vec<u8>>>,
    /// What strangers were told.
    pub overheard: Vec<u8>,
    /// The n-th byte that any connection carries is damaged.
    pub damage_byte: Option<u64>,
    /// How often each thing happened.
    pub counts: BTreeMap<&'static str, u64>,
    pub events: u64,
    /// A run with more events than this is not getting anywhere.
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

    /// A new node whose engine takes `micros_per_token`; gives its number.
    pub fn join(&mut self, config: NodeConfig, micros_per_token: Micros) -> usize {
        self.join_with_clock(config, micros_per_token, 0, 0)
    }

    pub fn join_with_clock(&mut self, config: NodeConfig, micros_per_token: Micros, offset: Micros, ppm: i64) -> usize {
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

    /// A rule is broken: ends the run with all that is needed to see it again.
    pub fn fail(&self, what: &str) -> ! {
        panic!(
            "{}: seed {}, event {}, {} ms: {what}\n(to see it again: make sim SEED={} for a mixed seed; SIM_TRACE=1 traces)",
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
        let drift = self.now as i64 / 1_000_000 * station.clock_ppm + self.now as i64 % 1_000_000 * station.clock_ppm / 1_000_000;
        Millis(((station.clock_offset + self.now) as i64 + drift) as u64 / MS)
    }

    /// The first moment at which a node's own clock shows `due` or later, but not before now.
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

    /// Lets the next event happen, if it is due by `until`.
    pub fn step(&mut self, until: Micros) -> bool {
        if self.heap.next_at().is_none_or(|at| at > until) {
            self.now = self.now.max(until);
            return false;
        }
        let Some((at, event)) = self.heap.pop() else { return false };
        self.now = self.now.max(at);
        self.events += 1;
        if self.events > self.most_events {
            self.fail("the run has no end");
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
            Event::Heard { from, to, bytes } => self.hear(from, to, &bytes),
            Event::CallArrives { who, life, conn, callee } => self.call_arrives(who, life, conn, callee),
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
            Event::Said { from, bytes } => eprintln!("{at:>12} node {from} says {} bytes", bytes.len()),
            Event::Heard { from, to, bytes } => eprintln!("{at:>12} node {to} hears {} bytes of {from}", bytes.len()),
            Event::Relayed { .. } => {}
            Event::Arrives { pipe, to, bytes } => {
                let who = self.net.pipes.get(pipe).map(|pipe| (pipe.ends[1 - to].who, pipe.ends[*to].who));
                eprintln!("{at:>12} pipe {pipe} {who:?} carries {} bytes", bytes.len());
            }
            Event::Tick { .. } => {}
            other => eprintln!("{at:>12} {other:?}"),
        }
    }

    /// Tells a node something, and does what it wants done.
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
                self.fail(&format!("node {who} has no end of things to do"));
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
        // A node that is due at once although it has just been handled is looked at again a millisecond later.
        let at = self.global(who, due.max(self.local(who) + Millis(1))).max(self.stations[who].paused_until);
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
        if station.paused_until > self.now || station.host.deadline().is_none_or(|due| due > self.local(who)) {
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
            Effect::Abandon(id) => {
                let now = self.now;
                let station = &mut self.stations[who];
                let life = station.life;
                if let Some(at) = station.engine.abandon(id, now) {
                    self.count("job abandoned");
                    self.heap.push(at, Event::JobEnds { who, life });
                }
            }
            Effect::Progress(id, progress) => {
                let now = self.now;
                if let Some(asked) = self.stations[who].ledger.find(id) {
                    asked.progress.push((now, progress));
                }
            }
            Effect::Token(id, token) => {
                let now = self.now;
                if !self.stations[who].ledger.token(id, token, now) {
                    self.fail(&format!("node {who} gives a token for prompt {id}, which is not open"));
                }
                self.learn_answer(who, id);
            }
            Effect::Done(id, figures) => self.closed(who, id, Ok(figures)),
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

    fn closed(&mut self, who: usize, id: u64, answer: Result<super::host::Figures, String>) {
        let (now, received) = (self.now, self.net.received[who]);
        if self.stations[who].ledger.close(id, answer, now, received).is_none() {
            self.fail(&format!("node {who} ends prompt {id}, which is not open"));
        }
        if let Err(what) = checks::outcome_holds(self, who, id) {
            self.fail(&what);
        }
        self.count_deeds(who, id);
    }

    fn count_deeds(&mut self, who: usize, id: u64) {
        let Some(asked) = self.stations[who].ledger.closed.get(&id) else { return };
        let Some(deeds) = asked.deeds() else { return self.count("prompt refused") };
        deeds.into_iter().filter(|(_, done)| *done).for_each(|(deed, _)| self.count(deed));
    }

    fn job_begins(&mut self, who: usize, task: super::host::Task) {
        let prefixes = match task.job.audits {
            Some(key) => self.audited(who, &key, &task),
            None => self.stations[who].ledger.prefixes(&task),
        };
        let Some(prefixes) = prefixes else {
            self.fail(&format!("node {who} computes what nobody asked for: {} tokens from {}", task.tokens.len(), task.first));
        };
        let now = self.now;
        let station = &mut self.stations[who];
        if station.engine.is_running() {
            self.fail(&format!("node {who} begins a job while one is under way"));
        }
        let at = station.engine.begin(task, prefixes, now);
        let life = station.life;
        self.heap.push(at, Event::JobEnds { who, life });
    }

    fn job_ends(&mut self, who: usize, life: u64) {
        if self.stations[who].life != life {
            return;
        }
        if self.stations[who].paused_until > self.now {
            let at = self.stations[who].paused_until;
            return self.heap.push(at, Event::JobEnds { who, life });
        }
        let now = self.now;
        let station = &mut self.stations[who];
        let Some((task, done, seen)) = station.engine.finish(now) else { return };
        let abandoned = matches!(&done.result, Err(super::host::TaskFault::Abandoned));
        if task.job.audits.is_some() {
            if let Err(what) = checks::job_holds(self, who, &seen, &Default::default()) {
                self.fail(&what);
            }
            return self.handle(who, Happening::Work(done));
        }
        let before = station.ledger.open.front().map(|asked| asked.computed.clone()).unwrap_or_default();
        // A node learns its rate by steps of prefill that began after the change and ran to their end.
        if let Some((since, computed)) = &mut station.rate_changed {
            let counts = !abandoned && task.tokens.len() >= BLOCK_TOKENS && now - done.micros >= *since;
            *computed += if counts { task.tokens.len() } else { 0 };
        }
        station.rate_changed = station.rate_changed.filter(|(_, computed)| *computed < PREFILL_STEP_TOKENS);
        station.ledger.worked(&task, abandoned, &seen);
        if let Err(what) = checks::job_holds(self, who, &seen, &before) {
            self.fail(&what);
        }
        self.handle(who, Happening::Work(done));
    }

    fn card_saves(&mut self, who: usize, life: u64, epochs: EpochState) {
        let station = &mut self.stations[who];
        if station.life != life {
            return;
        }
        let result = if station.card_full { Err("the card is full".to_string()) } else { Ok(()) };
        if result.is_ok() {
            station.saved = epochs;
        }
        self.handle(who, Happening::Persisted { epochs, result });
    }
}
