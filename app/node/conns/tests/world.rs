//! A LAN of connections in memory. Each member has a cache, a catalog and its connections; a test
//! chooses how bytes are split.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cache::{ChainSecret, Link, Maker, link, root};
use crate::id::{BootId, Epoch, EpochState, Fingerprint, Millis, NodeId, TokenId};
use crate::keyring::{Entropy, Keyring};
use crate::kv::{KvFormat, KvShape, Page, Plane};
use crate::node::NodeConfig;
use crate::node::conns::{ConnEvent, Conns, WantId};
use crate::node::io::{ConnId, Output};
use crate::node::shared::Shared;
use crate::node::trust::PeerEstimate;
use crate::transfer::{Channel, Expected, Hello, Question};

const FINGERPRINT: Fingerprint = Fingerprint([7; 16]);

pub(crate) struct Member {
    pub conns: Conns,
    pub shared: Shared,
    pub addr: SocketAddr,
    pub node: NodeId,
    pub events: Vec<ConnEvent>,
    pub told: Vec<crate::node::Event>,
}

/// One connection: its two ends, and the bytes in transit to each.
pub(crate) struct Wire {
    pub ends: [(usize, ConnId); 2],
    pub bytes: [Vec<u8>; 2],
    /// Breaks after this many more bytes, counted in both directions.
    pub life: usize,
    /// The ends that have closed it.
    closed: [bool; 2],
    /// The ends that wait until their last send is accepted.
    sending: [bool; 2],
}

pub(crate) struct World {
    pub now: Millis,
    pub members: Vec<Member>,
    pub wires: Vec<Wire>,
    /// The byte limits of wires yet to be made.
    pub life: usize,
    /// Connections that nobody answers, and those of strangers, with the bytes sent to them.
    pub strangers: BTreeMap<ConnId, Vec<u8>>,
    /// All bytes ever sent to them.
    pub told: BTreeMap<ConnId, Vec<u8>>,
    named: u64,
}

pub(crate) fn addr(index: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1 + index as u8)), 7_000)
}

pub(crate) fn hello(index: usize) -> Hello {
    Hello::new(NodeId(1 + index as u64), BootId(100 + index as u64), Epoch(0), FINGERPRINT)
}

/// The first bytes of a caller from the open swarm.
pub(crate) fn knock() -> Vec<u8> {
    let mut channel = Channel::initiator(Keyring::open().current(), [9; 32]);
    channel.writable();
    channel.send(|_| false).expect("a caller knocks")
}

pub(crate) fn chain(blocks: usize) -> Vec<Link> {
    let secret = ChainSecret::derive(b"");
    let mut parent = root(&secret, FINGERPRINT);
    let mut out = Vec::new();
    for block in 0..blocks {
        let tokens: Vec<TokenId> = (0..16).map(|i| TokenId(100 * block as u32 + i)).collect();
        let next = link(&secret, parent, &tokens);
        parent = next.key;
        out.push(next);
    }
    out
}

/// The content of block `n`: bytes that differ by block, plane and position.
pub(crate) fn content(n: usize, plane: Plane, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| ((i ^ (i >> 8)) * 31 + 7 * n + plane as usize) as u8).collect()
}

impl World {
    /// `count` nodes that have heard of each other.
    pub(crate) fn new(count: usize) -> World {
        let mut world = World::strangers(count);
        world.introduce();
        world
    }

    /// `count` nodes that have not.
    pub(crate) fn strangers(count: usize) -> World {
        World::keyed(count, |_| Keyring::open())
    }

    /// `count` nodes that have not, each with its own keys.
    pub(crate) fn keyed(count: usize, keys: impl Fn(usize) -> Keyring) -> World {
        let layers = [Plane::Sliding, Plane::Sliding, Plane::Global];
        let shape = Arc::new(KvShape::new(&layers, 1, 512, 64, KvFormat::F32).unwrap());
        let member = |index: usize| {
            let config = NodeConfig {
                node: NodeId(1 + index as u64),
                boot: BootId(100 + index as u64),
                seed: index as u64,
                name: Default::default(),
                keys: keys(index),
                entropy: Entropy([index as u8; 32]),
                fingerprint: FINGERPRINT,
                epochs: EpochState::default(),
                shape: shape.clone(),
                slab_bytes: 8 << 20,
                context: 2_048,
                tcp_port: 7_000,
                sharing: true,
                reuse: true,
                drafts: true,
                announce_interval_ms: 300_000,
                peers: 8,
                prefill_tokens_per_s: None,
                audit_per_10k: 0,
                end_tokens: Vec::new(),
            };
            Member {
                conns: Conns::new(hello(index), index as u64),
                shared: Shared::new(config).unwrap(),
                addr: addr(index),
                node: NodeId(1 + index as u64),
                events: Vec::new(),
                told: Vec::new(),
            }
        };
        let members = (0..count).map(member).collect();
        let (now, life, strangers) = (Millis(1_000), usize::MAX, BTreeMap::new());
        World { now, members, wires: Vec::new(), life, strangers, told: BTreeMap::new(), named: 0 }
    }

    /// Every member hears every announcement that is due.
    pub(crate) fn introduce(&mut self) {
        for from in 0..self.members.len() {
            while let Some(datagram) = self.members[from].shared.catalog.poll_datagram(self.now) {
                for to in (0..self.members.len()).filter(|to| *to != from) {
                    let (node, boot, now) =
                        (self.members[from].node, BootId(100 + from as u64), self.now);
                    self.members[to].shared.catalog.proved(node, boot, addr(from).ip(), now);
                    self.members[to]
                        .shared
                        .catalog
                        .handle(addr(from), &datagram, self.now)
                        .unwrap();
                }
            }
        }
    }

    /// Stores the first `blocks` blocks at member `index`.
    pub(crate) fn fill(&mut self, index: usize, blocks: usize) {
        let cache = &mut self.members[index].shared.cache;
        for (n, link) in chain(blocks).iter().enumerate() {
            for plane in Plane::ALL {
                let slot = cache.reserve(plane, &|_| false).unwrap();
                let bytes = cache.shape().plane_bytes(plane, 16);
                slot.page().write()[..bytes].copy_from_slice(&content(n, plane, bytes));
                assert!(cache.commit(link, slot, Maker::Own).into_slot().is_none());
            }
        }
    }

    pub(crate) fn expected(&self, block: usize, plane: Plane) -> Expected {
        let link = chain(block + 1).remove(block);
        let bytes = self.members[0].shared.cache.shape().plane_bytes(plane, 16);
        Expected { key: link.key, parent: link.parent, tokens: link.tokens, plane, bytes }
    }

    /// Member `from` requests a plane from member `of`; returns its page, if there was room.
    pub(crate) fn want(
        &mut self,
        from: usize,
        of: usize,
        id: u32,
        block: usize,
        plane: Plane,
    ) -> Option<Page> {
        let expected = self.expected(block, plane);
        let page = Page::new(expected.bytes);
        let to = (NodeId(1 + of as u64), addr(of));
        let Member { conns, shared, .. } = &mut self.members[from];
        conns.want(to, WantId(id), expected, page.clone(), shared, self.now).then_some(page)
    }

    /// Member `from` asks member `of` about its habits; returns the request's id, if it was taken.
    pub(crate) fn ask_habits(&mut self, from: usize, of: usize, recent: &[TokenId]) -> Option<u32> {
        let to = (NodeId(1 + of as u64), addr(of));
        let question = Question::Habit { recent: recent.iter().copied().collect() };
        let Member { conns, shared, .. } = &mut self.members[from];
        conns.want_draft(to, question, shared, self.now)
    }

    pub(crate) fn cancel(&mut self, from: usize, id: u32) {
        let Member { conns, shared, .. } = &mut self.members[from];
        conns.cancel(WantId(id), shared, self.now);
    }

    pub(crate) fn holds(&self, page: &Page, block: usize, plane: Plane) -> bool {
        let bytes = self.expected(block, plane).bytes;
        page.read()[..bytes] == content(block, plane, bytes)[..]
    }

    pub(crate) fn standing(&self, of: usize, with: usize) -> PeerEstimate {
        self.members[of].shared.trust.of(NodeId(1 + with as u64), self.now)
    }

    /// A program that is not a node connects to `callee` from an address; returns the
    /// connection's id.
    pub(crate) fn call(&mut self, callee: usize, from: SocketAddr) -> ConnId {
        self.named += 1;
        let conn = ConnId::In(self.named);
        self.strangers.insert(conn, Vec::new());
        let Member { conns, shared, .. } = &mut self.members[callee];
        conns.on_accepted(conn, from, shared, self.now);
        self.settle(callee);
        conn
    }

    /// Does what a node does after every input.
    pub(crate) fn settle(&mut self, index: usize) {
        let now = self.now;
        let Member { conns, shared, events, .. } = &mut self.members[index];
        conns.on_time(shared, now);
        while let Some(probe) = shared.catalog.poll_probe(now) {
            conns.probe(probe, shared, now);
        }
        while let Some(pull) = shared.catalog.poll_pull(now) {
            conns.pull(pull, shared, now);
        }
        events.extend(std::iter::from_fn(|| conns.poll_event()));
        conns.flush(shared, now);
        while let Some(output) = self.members[index].shared.out.pop_front() {
            self.act(index, output);
        }
    }

    fn act(&mut self, index: usize, output: Output) {
        match output {
            Output::Connect { conn, addr: to } => match self
                .members
                .iter()
                .position(|member| member.addr == to)
            {
                Some(callee) => {
                    self.named += 1;
                    let ends = [(index, conn), (callee, ConnId::In(self.named))];
                    let (bytes, closed, sending) =
                        ([Vec::new(), Vec::new()], [false; 2], [false; 2]);
                    self.wires.push(Wire { ends, bytes, life: self.life, closed, sending });
                    let from = SocketAddr::new(addr(index).ip(), 40_000);
                    self.give(index, |conns, shared, now| conns.on_connected(conn, shared, now));
                    self.give(callee, |conns, shared, now| {
                        conns.on_accepted(ends[1].1, from, shared, now)
                    });
                }
                None => self.give(index, |conns, shared, now| conns.on_closed(conn, shared, now)),
            },
            Output::Send { conn, bytes } => {
                if let Some((wire, end)) = self.find(index, conn) {
                    assert!(!self.wires[wire].sending[end], "two pieces in flight");
                    self.wires[wire].bytes[1 - end].extend(bytes);
                    self.wires[wire].sending[end] = true;
                } else if let Some(sent) = self.strangers.get_mut(&conn) {
                    self.told.entry(conn).or_default().extend(&bytes);
                    sent.extend(bytes);
                    self.give(index, |conns, _, _| conns.on_writable(conn));
                }
            }
            Output::Close(conn) => {
                if let Some((wire, end)) = self.find(index, conn) {
                    self.wires[wire].closed[end] = true;
                }
                self.strangers.remove(&conn);
            }
            Output::Event(event) => self.members[index].told.push(event),
            other => panic!("connections do not ask for {other:?}"),
        }
    }

    fn find(&self, index: usize, conn: ConnId) -> Option<(usize, usize)> {
        let at = self.wires.iter().position(|wire| wire.ends.contains(&(index, conn)))?;
        Some((at, usize::from(self.wires[at].ends[1] == (index, conn))))
    }

    /// Passes an input to a member.
    pub(crate) fn give(
        &mut self,
        index: usize,
        input: impl FnOnce(&mut Conns, &mut Shared, Millis),
    ) {
        let now = self.now;
        let Member { conns, shared, .. } = &mut self.members[index];
        input(conns, shared, now);
        self.settle(index);
    }

    /// Delivers at most `cut` bytes in each direction of every connection; false if nothing moved.
    pub(crate) fn step(&mut self, cut: usize) -> bool {
        let mut moved = false;
        for index in 0..self.members.len() {
            self.settle(index);
        }
        for wire in 0..self.wires.len() {
            for end in [0, 1] {
                let Some(Wire { ends, bytes, life, closed, sending }) = self.wires.get_mut(wire)
                else {
                    continue;
                };
                let count = cut.min(bytes[end].len()).min(*life);
                let piece: Vec<u8> = bytes[end].drain(..count).collect();
                *life -= count;
                let ((to, conn), (from, sender)) = (ends[end], ends[1 - end]);
                let taken = bytes[end].is_empty()
                    && core::mem::take(&mut sending[1 - end])
                    && !closed[1 - end];
                moved |= count > 0;
                if count > 0 && !closed[end] {
                    self.give(to, |conns, shared, now| conns.on_bytes(conn, &piece, shared, now));
                }
                if taken {
                    self.give(from, |conns, _, _| conns.on_writable(sender));
                }
            }
        }
        let over = |wire: &Wire| {
            wire.life == 0 || (0..2).any(|end| wire.closed[end] && wire.bytes[1 - end].is_empty())
        };
        while let Some(at) = self.wires.iter().position(over) {
            moved = true;
            let wire = self.wires.remove(at);
            for end in (0..2).filter(|end| !wire.closed[*end]) {
                let (to, conn) = wire.ends[end];
                self.give(to, |conns, shared, now| conns.on_closed(conn, shared, now));
            }
        }
        moved
    }

    /// Runs until nothing moves.
    pub(crate) fn run(&mut self, cut: usize) {
        while self.step(cut) {}
    }

    /// Lets time pass, and wakes every member at its deadlines.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now + Millis(ms);
        self.run(usize::MAX);
        while self.now < end {
            let next = self.members.iter().filter_map(|member| member.conns.deadline()).min();
            self.now = next.unwrap_or(end).clamp(self.now + Millis(1), end);
            self.run(usize::MAX);
        }
    }

    /// Number of planes pinned in a member's cache.
    pub(crate) fn pinned(&self, index: usize) -> usize {
        self.members[index].shared.cache.stats().planes.iter().map(|plane| plane.pinned).sum()
    }

    /// Number of connections that lead to a member.
    pub(crate) fn served(&self, index: usize) -> usize {
        self.wires.iter().filter(|wire| wire.ends[1].0 == index).count()
    }
}
