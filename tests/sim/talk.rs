//! The simulator's interface for tests: ask, wait, inspect.

use std::net::SocketAddr;
use std::sync::Arc;

use potluck::cache::{Chain, ChainSecret};
use potluck::id::{BlockKey, BootId, EpochState, Fingerprint, Millis, NodeId, NodeName, TokenId};
use potluck::keyring::{Entropy, Keyring};
use potluck::kv::KvShape;
use potluck::node::NodeConfig;
use potluck::sampler::Sampling;

use super::cast::Truth;
use super::checks;
use super::engine::{self, chosen, extend};
use super::heap::{MS, Micros, SECOND};
use super::host::{Happening, Progress, Prompt, ResetNews, Status, Watch};
use super::ledger::{Answer, Asked};
use super::net::Medium;
use super::world::{Power, Sim};

/// The board: about 37 ms per token.
pub const BOARD: Micros = 37 * MS;

/// Slab size of most tests, in bytes.
pub const SLAB: usize = 4 << 20;

/// The longest wait for anything.
const TIMEOUT: Micros = 3_600 * SECOND;

/// A node's settings as the tests use them.
pub fn config(number: u64, shape: &Arc<KvShape>, slab_bytes: usize) -> NodeConfig {
    NodeConfig {
        seed: 0,
        node: NodeId(number + 1),
        boot: BootId(1_000 + number),
        name: NodeName::default(),
        keys: Keyring::new(b"test", []),
        entropy: Entropy(blake3::derive_key("potluck simulator", &number.to_le_bytes())),
        fingerprint: Fingerprint([7; 16]),
        epochs: EpochState::default(),
        shape: shape.clone(),
        slab_bytes,
        context: 2_048,
        tcp_port: 1,
        sharing: true,
        reuse: true,
        drafts: true,
        announce_interval_ms: 10_000,
        peers: potluck::limits::LEAST_PEERS,
        prefill_tokens_per_s: None,
        audit_per_10k: 0,
        end_tokens: Vec::new(),
    }
}

/// `len` tokens that no other seed gives.
pub fn prompt(seed: u32, len: usize) -> Vec<TokenId> {
    (0..len as u32)
        .map(|at| TokenId((at.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) % 50_000))
        .collect()
}

/// The model's answer to `tokens`, on any node.
pub fn expected(fingerprint: Fingerprint, tokens: &[TokenId], count: usize) -> Vec<TokenId> {
    let mut prefix =
        tokens.iter().fold(engine::root(fingerprint), |prefix, token| extend(prefix, *token));
    let mut last = tokens.last().copied().unwrap_or(TokenId(0));
    (0..count)
        .map(|_| {
            last = chosen(prefix, last);
            prefix = extend(prefix, last);
            last
        })
        .collect()
}

impl Sim {
    /// An empty swarm on a fast switch.
    pub fn calm() -> Sim {
        Sim::new("a calm swarm", 1, Medium::Switched, 100_000)
    }

    /// `nodes` boards that know each other, on a switch that carries `bytes_per_ms` for each in
    /// each direction.
    pub fn swarm(
        name: &str,
        nodes: u64,
        shape: &Arc<KvShape>,
        slab_bytes: usize,
        bytes_per_ms: u64,
    ) -> Sim {
        Sim::swarm_on(name, Medium::Switched, nodes, shape, slab_bytes, bytes_per_ms)
    }

    pub fn swarm_on(
        name: &str,
        medium: Medium,
        nodes: u64,
        shape: &Arc<KvShape>,
        slab_bytes: usize,
        bytes_per_ms: u64,
    ) -> Sim {
        let mut sim = Sim::new(name, 1, medium, bytes_per_ms);
        for number in 0..nodes {
            sim.join(config(number, shape, slab_bytes), BOARD);
        }
        sim.pass(2_000);
        sim
    }

    /// Gives a node a prompt. Returns the prompt's number.
    pub fn ask(&mut self, who: usize, tokens: &[TokenId], max_tokens: usize) -> u64 {
        self.ask_as(who, tokens, max_tokens, Sampling::GREEDY, false, None)
    }

    /// The same, with the answer sampled with this luck.
    pub fn ask_drawn(
        &mut self,
        who: usize,
        tokens: &[TokenId],
        max_tokens: usize,
        luck: u64,
    ) -> u64 {
        self.ask_sampled(
            who,
            tokens,
            max_tokens,
            Sampling { temperature: 1.0, top_k: 40, seed: luck, ..Sampling::GREEDY },
        )
    }

    /// The same, with this sampling.
    pub fn ask_sampled(
        &mut self,
        who: usize,
        tokens: &[TokenId],
        max_tokens: usize,
        sampling: Sampling,
    ) -> u64 {
        self.ask_as(who, tokens, max_tokens, sampling, false, None)
    }

    /// The same as a private prompt, in its own memory.
    pub fn ask_privately(&mut self, who: usize, tokens: &[TokenId], max_tokens: usize) -> u64 {
        self.ask_as(who, tokens, max_tokens, Sampling::GREEDY, true, None)
    }

    /// The same as [`Sim::ask`], with a watch that follows the answer.
    pub fn ask_watched(
        &mut self,
        who: usize,
        tokens: &[TokenId],
        max_tokens: usize,
        watch: Box<dyn Watch>,
    ) -> u64 {
        self.ask_as(who, tokens, max_tokens, Sampling::GREEDY, false, Some(watch))
    }

    fn ask_as(
        &mut self,
        who: usize,
        tokens: &[TokenId],
        max_tokens: usize,
        sampling: Sampling,
        private: bool,
        watch: Option<Box<dyn Watch>>,
    ) -> u64 {
        self.asked += 1;
        let id = self.asked;
        let (now, received) = (self.now, self.net.received[who]);
        let station = &mut self.stations[who];
        let root = engine::root(station.config.fingerprint);
        let prompt = Prompt { id, tokens: tokens.to_vec(), max_tokens, sampling, private, watch };
        station.ledger.ask(&prompt, root, now, received);
        if station.disturbed_until > now || station.rate_changed.is_some() {
            station.ledger.disturb();
        }
        self.learn(who, tokens);
        self.handle(who, Happening::Ask(prompt));
        id
    }

    /// Remembers the blocks of a prompt, for the cast.
    fn learn(&mut self, who: usize, tokens: &[TokenId]) {
        let config = &self.stations[who].config;
        let secret = ChainSecret::derive(&[]);
        let mut prefix = engine::root(config.fingerprint);
        for link in
            Chain::of(&secret, potluck::cache::root(&secret, config.fingerprint), tokens).links()
        {
            let prefixes = link.tokens.iter().map(|token| {
                prefix = extend(prefix, *token);
                prefix
            });
            let prefixes = prefixes.collect();
            self.truths.insert(
                link.key,
                Truth { parent: link.parent, tokens: link.tokens.clone(), prefixes },
            );
        }
    }

    /// Remembers the blocks of an answer, each of which may be shared with its last token.
    pub(super) fn learn_answer(&mut self, who: usize, asked: u64) {
        let Some(tokens) = self.stations[who].ledger.find(asked).map(|asked| asked.tokens.clone())
        else {
            return;
        };
        self.learn(who, &tokens);
    }

    /// Prefixes of the sequence that an audit works on, which must be a known one.
    pub(super) fn audited(
        &mut self,
        who: usize,
        key: &BlockKey,
        task: &super::host::Task,
    ) -> Option<Vec<u64>> {
        self.count("block audited");
        if !self.stations[who].ledger.open.is_empty() {
            self.fail(&format!("node {who} begins an audit while a prompt waits"));
        }
        let truth = self.truths.get(key).filter(|truth| truth.tokens[..] == task.tokens[..])?;
        let mut blocks = vec![&truth.prefixes];
        let mut parent = &truth.parent;
        while let Some(truth) = self.truths.get(parent) {
            blocks.push(&truth.prefixes);
            parent = &truth.parent;
        }
        let prefixes: Vec<u64> = blocks.into_iter().rev().flatten().copied().collect();
        (prefixes.len() == task.first + task.tokens.len()).then_some(prefixes)
    }

    /// Stops the answer to prompt `asked`.
    pub fn stop(&mut self, who: usize, asked: u64) {
        if let Some(asked) = self.stations[who].ledger.find(asked) {
            asked.stopped = true;
        }
        self.handle(who, Happening::Stop(asked));
    }

    /// Prompt `asked` with its outcome, if it is answered.
    pub fn closed_prompt(&self, who: usize, asked: u64) -> Option<&Asked> {
        self.stations[who].ledger.closed.get(&asked)
    }

    /// The answer to prompt `asked`, if it is complete.
    pub fn answer(&self, who: usize, asked: u64) -> Option<&Answer> {
        self.closed_prompt(who, asked).and_then(|asked| asked.answer.as_ref())
    }

    /// Lets time pass until prompt `asked` is answered.
    pub fn await_answer(&mut self, who: usize, asked: u64) -> &Asked {
        let deadline = self.now + TIMEOUT;
        while self.closed_prompt(who, asked).is_none() {
            if !self.step(deadline) {
                self.fail(&format!("no answer after an hour: {:?}", self.notes(who)));
            }
        }
        self.closed_prompt(who, asked).expect("just seen")
    }

    /// Asks, and lets time pass until the answer is complete and the swarm has heard of it.
    pub fn answer_now(&mut self, who: usize, tokens: &[TokenId], max_tokens: usize) -> Answer {
        let asked = self.ask(who, tokens, max_tokens);
        let answer =
            self.await_answer(who, asked).answer.clone().expect("closed prompts have answers");
        self.pass(600);
        answer
    }

    /// The same. Returns the time to the first token in milliseconds, as the simulator saw it.
    pub fn ttft_now(&mut self, who: usize, tokens: &[TokenId]) -> u64 {
        let asked = self.ask(who, tokens, 1);
        let ttft = self.await_answer(who, asked).ttft() / MS;
        self.pass(600);
        ttft
    }

    /// Lets `ms` milliseconds pass.
    pub fn pass(&mut self, ms: u64) {
        let until = self.now + ms * MS;
        while self.step(until) {}
    }

    /// Lets time pass until `what` holds, checking every `every_ms`. Returns the milliseconds that
    /// it took, or `None` after `limit_ms`.
    pub fn pass_until(
        &mut self,
        every_ms: u64,
        limit_ms: u64,
        what: impl Fn(&Sim) -> bool,
    ) -> Option<u64> {
        let began = self.now;
        while !what(self) {
            if self.now >= began + limit_ms * MS {
                return None;
            }
            self.pass(every_ms);
        }
        Some((self.now - began) / MS)
    }

    pub fn status(&self, who: usize) -> Status {
        self.stations[who].host.status(self.local(who))
    }

    pub fn notes(&self, who: usize) -> &[String] {
        &self.stations[who].notes
    }

    /// A node's console messages about its resets.
    pub fn resets(&self, who: usize) -> &[ResetNews] {
        &self.stations[who].resets
    }

    /// Resets the swarm from a node's console.
    pub fn reset(&mut self, who: usize, store: bool) {
        self.count("reset");
        self.handle(who, Happening::Reset { store });
    }

    /// The state saved on a node's card.
    pub fn saved(&self, who: usize) -> EpochState {
        self.stations[who].saved
    }

    /// From now on a node's card rejects writes, or accepts them again.
    pub fn fill_card(&mut self, who: usize, full: bool) {
        self.stations[who].card_full = full;
    }

    /// From now on a node neither receives nor sends datagrams, or does so again.
    pub fn deafen(&mut self, who: usize, deaf: bool) {
        self.stations[who].deaf = deaf;
    }

    /// Delivers a datagram from `from` to every node except the one at that address.
    pub fn multicast(&mut self, from: SocketAddr, bytes: &[u8]) {
        for who in 0..self.stations.len() {
            if self.stations[who].addr != from && !self.stations[who].deaf {
                self.handle(who, Happening::Datagram { from, bytes });
            }
        }
    }

    /// A node's progress reports before first tokens, and when they came.
    pub fn progress(&self, who: usize) -> Vec<(Millis, Progress)> {
        let ledger = &self.stations[who].ledger;
        let all = ledger.closed.values().chain(&ledger.open).flat_map(|asked| &asked.progress);
        all.map(|(at, progress)| (Millis(at / MS), *progress)).collect()
    }

    /// The simulator's own clock.
    pub fn clock(&self) -> Millis {
        Millis(self.now / MS)
    }

    /// Sets the rate of every line.
    pub fn set_rates(&mut self, bytes_per_ms: u64) {
        (0..self.stations.len()).for_each(|who| self.set_rate(who, bytes_per_ms));
    }

    /// Stops all streams in `in_ms` milliseconds, or lets them flow again.
    pub fn stall_streams(&mut self, in_ms: Option<u64>) {
        self.net.frozen_from = in_ms.map(|ms| self.now + ms * MS);
    }

    pub fn assert_quiet(&self) {
        if let Err(what) = checks::all_quiet(self) {
            self.fail(&what);
        }
    }

    /// Kills a node's process without a goodbye; its connections break.
    pub fn kill(&mut self, who: usize) {
        self.count("node killed");
        self.end_life(who, Power::Killed);
        for id in self.net.pipes_of(who) {
            self.break_pipe(id);
        }
    }

    /// Cuts the power of a node; its peers are told nothing.
    pub fn cut_power(&mut self, who: usize) {
        self.count("power cut");
        self.end_life(who, Power::Dark);
    }

    fn end_life(&mut self, who: usize, power: Power) {
        let station = &mut self.stations[who];
        station.power = power;
        station.life += 1;
        station.paused_until = 0;
        station.engine.forget_all();
        station.ledger.lose_all();
    }

    /// A node sends its goodbye and exits.
    pub fn leave(&mut self, who: usize) {
        self.count("node left");
        let now = self.local(who);
        if let Some(bytes) = self.stations[who].host.farewell(now) {
            self.say(who, bytes);
        }
        self.end_life(who, Power::Killed);
        for id in self.net.pipes_of(who) {
            self.break_pipe(id);
        }
    }

    /// Restarts the node with nothing but what its card holds.
    pub fn restart(&mut self, who: usize) {
        self.count("node restarted");
        if self.stations[who].power == Power::On {
            self.kill(who);
        }
        for pipe in self.net.pipes_of(who) {
            self.heap.push(self.now + SECOND, super::world::Event::Breaks { pipe });
        }
        let seed = self.seed ^ self.events;
        let station = &mut self.stations[who];
        station.config.boot.0 += 1_000;
        station.config.entropy = Entropy(blake3::hash(&station.config.entropy.0).into());
        station.config.epochs = station.saved;
        station.life += 1;
        station.power = Power::On;
        // A node measures its engine at each start.
        if station.config.prefill_tokens_per_s.is_some() {
            station.config.prefill_tokens_per_s =
                Some(1e6 / station.engine.micros_per_token as f32);
        }
        station.rate_changed = None;
        station.host = super::host::Host::new(&station.config, seed);
        self.handle(who, Happening::Tick);
    }

    /// Pauses a node; its inputs wait.
    pub fn pause(&mut self, who: usize, ms: u64) {
        self.count("node paused");
        let until = self.now + ms * MS;
        let station = &mut self.stations[who];
        station.paused_until = until;
        station.ledger.disturb();
        station.disturbed_until = until;
        self.heap.push(until, super::world::Event::Resumes { who });
    }

    /// From now on the node does this to nodes that connect to it.
    pub fn corrupt(&mut self, who: usize, mischief: super::cast::Mischief) {
        self.stations[who].mischief = Some(mischief);
        if mischief.lies_in_content() {
            self.rules.lies = true;
        }
        let ended: Vec<u64> = self
            .net
            .pipes
            .iter()
            .filter(|(_, pipe)| pipe.ends[1].who == who)
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            self.break_pipe(id);
        }
    }

    /// Sets the rate of a node's lines.
    pub fn set_rate(&mut self, who: usize, bytes_per_ms: u64) {
        self.net.lines[who].iter_mut().for_each(|lane| lane.bytes_per_ms = bytes_per_ms);
    }

    /// From now on nothing passes from one to the other.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.net.cuts.insert((from, to));
    }
}
