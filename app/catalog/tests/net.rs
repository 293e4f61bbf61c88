//! A simulated network from a seed: datagrams are lost, duplicated and delayed, pulls fail or come
//! late, and all nodes are driven only by their deadlines.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_128;

use crate::catalog::*;
use crate::splitmix::SplitMix64;

/// IPv4 and UDP headers, which count as traffic too.
pub(crate) const UDP_IP_BYTES: u64 = 28;

pub(crate) fn key(number: u64) -> BlockKey {
    BlockKey(xxh3_128(&number.to_le_bytes()).to_le_bytes())
}

pub(crate) fn config(number: u8) -> CatalogConfig {
    CatalogConfig {
        node: NodeId(1_000 + u64::from(number)),
        boot: BootId(2_000 + u64::from(number)),
        name: NodeName::default(),
        keys: Keyring::new(b"a swarm key", []),
        fingerprint: Fingerprint([7; 16]),
        epochs: resets(1),
        tcp_port: 7_000 + u16::from(number),
        capacity: 2_000,
        interval_ms: crate::limits::ANNOUNCE_INTERVAL_MS,
        peers: crate::limits::LEAST_PEERS,
        seed: u64::from(number),
    }
}

/// The state after `epoch` resets of the catalog alone.
pub(crate) fn resets(epoch: u64) -> EpochState {
    EpochState { epoch: Epoch(epoch), ..EpochState::default() }
}

/// The source address of a node's datagrams.
pub(crate) fn udp(number: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1 + number as u8)), 7_654)
}

/// How bad the network is, in percent.
#[derive(Clone, Copy)]
pub(crate) struct Weather {
    pub loss: u64,
    pub doubled: u64,
    pub pull_failure: u64,
    /// Longest delay of a datagram or an answer, in milliseconds.
    pub delay: u64,
}

pub(crate) const CALM: Weather = Weather { loss: 0, doubled: 0, pull_failure: 0, delay: 1 };

enum Parcel {
    Datagram { from: usize, to: usize, bytes: Vec<u8> },
    Answer { by: usize, to: usize, pull: Pull },
    Hello { by: usize, to: usize },
}

pub(crate) struct Net {
    /// `None` for a node that is off.
    pub nodes: Vec<Option<Catalog>>,
    /// What each node holds.
    pub held: Vec<BTreeSet<(u64, Plane)>>,
    pub now: Millis,
    pub weather: Weather,
    /// Nodes on different sides do not hear each other.
    pub side: Vec<u8>,
    /// The events of each node.
    pub events: Vec<(usize, Event)>,
    pub bytes_sent: u64,
    /// The connections made for a hello.
    pub probes: Vec<(usize, Probe)>,
    dice: SplitMix64,
    underway: BTreeMap<(Millis, u64), Parcel>,
    sent: u64,
}

impl Net {
    pub(crate) fn new(
        configs: impl IntoIterator<Item = CatalogConfig>,
        weather: Weather,
        seed: u64,
    ) -> Net {
        let nodes: Vec<_> = configs.into_iter().map(|config| Some(Catalog::new(config))).collect();
        Net {
            held: vec![BTreeSet::new(); nodes.len()],
            side: vec![0; nodes.len()],
            nodes,
            now: Millis(0),
            weather,
            events: Vec::new(),
            bytes_sent: 0,
            probes: Vec::new(),
            dice: SplitMix64(seed),
            underway: BTreeMap::new(),
            sent: 0,
        }
    }

    pub(crate) fn of(count: u8, weather: Weather, seed: u64) -> Net {
        Net::new((0..count).map(config), weather, seed)
    }

    pub(crate) fn node(&self, index: usize) -> &Catalog {
        self.nodes[index].as_ref().expect("the node is on")
    }

    pub(crate) fn node_mut(&mut self, index: usize) -> &mut Catalog {
        self.nodes[index].as_mut().expect("the node is on")
    }

    pub(crate) fn insert(&mut self, index: usize, number: u64, plane: Plane) {
        if self.held[index].insert((number, plane)) {
            let now = self.now;
            self.node_mut(index).insert(&key(number), plane, now);
        }
    }

    pub(crate) fn remove(&mut self, index: usize, number: u64, plane: Plane) {
        if self.held[index].remove(&(number, plane)) {
            let now = self.now;
            self.node_mut(index).remove(&key(number), plane, now);
        }
    }

    /// Lets `ms` pass.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now + Millis(ms);
        loop {
            self.poll();
            let deadline = self.nodes.iter().flatten().filter_map(Catalog::deadline).min();
            assert!(
                deadline.is_none_or(|at| at > self.now),
                "a deadline that stays due would keep the processor busy"
            );
            let parcel = self.underway.keys().next().map(|&(at, _)| at);
            let next = deadline.into_iter().chain(parcel).min().unwrap_or(end);
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            self.deliver();
        }
    }

    fn poll(&mut self) {
        for from in 0..self.nodes.len() {
            let Some(mut catalog) = self.nodes[from].take() else { continue };
            while let Some(bytes) = catalog.poll_datagram(self.now) {
                self.multicast(from, &bytes);
            }
            while let Some(pull) = catalog.poll_pull(self.now) {
                let by = usize::from(pull.addr.port()) - 7_000;
                assert_eq!(pull.addr.ip(), udp(by).ip());
                if self.dice.below(100) >= self.weather.pull_failure {
                    self.send(Parcel::Answer { by, to: from, pull });
                }
            }
            while let Some(probe) = catalog.poll_probe(self.now) {
                self.probes.push((from, probe));
                let by = (0..self.nodes.len()).find(|&by| udp(by).ip() == probe.addr.ip());
                if let Some(by) = by.filter(|_| self.dice.below(100) >= self.weather.pull_failure) {
                    self.send(Parcel::Hello { by, to: from });
                }
            }
            self.events
                .extend(core::iter::from_fn(|| catalog.poll_event()).map(|event| (from, event)));
            self.nodes[from] = Some(catalog);
        }
    }

    /// `to` has connected to `by`: each gets the other's hello.
    fn greet(&mut self, by: usize, to: usize) {
        if self.side[by] != self.side[to] || self.nodes[by].is_none() || self.nodes[to].is_none() {
            return;
        }
        for (who, other) in [(by, to), (to, by)] {
            let (now, CatalogConfig { node, boot, .. }) =
                (self.now, self.node(other).config.clone());
            self.node_mut(who).proved(node, boot, udp(other).ip(), now);
        }
    }

    pub(crate) fn multicast(&mut self, from: usize, bytes: &Datagram) {
        self.bytes_sent += bytes.len() as u64 + UDP_IP_BYTES;
        for to in 0..self.nodes.len() {
            let copies = 1 + u64::from(self.dice.below(100) < self.weather.doubled);
            let lost = self.dice.below(100) < self.weather.loss;
            if lost || self.side[from] != self.side[to] {
                continue;
            }
            (0..copies)
                .for_each(|_| self.send(Parcel::Datagram { from, to, bytes: bytes.to_vec() }));
        }
    }

    fn send(&mut self, parcel: Parcel) {
        let at = self.now + Millis(1 + self.dice.below(self.weather.delay));
        self.underway.insert((at, self.sent), parcel);
        self.sent += 1;
    }

    fn deliver(&mut self) {
        while let Some(entry) =
            self.underway.first_entry().filter(|entry| entry.key().0 <= self.now)
        {
            match entry.remove() {
                Parcel::Datagram { from, to, bytes } => {
                    let Some(catalog) = self.nodes[to].as_mut() else { continue };
                    let event = catalog.handle(udp(from), &bytes, self.now);
                    if let Ok(Some(Event::ResetSeen(epochs))) = event {
                        catalog.set_epochs(epochs, self.now);
                    }
                    self.events.extend(event.ok().flatten().map(|event| (to, event)));
                }
                Parcel::Answer { by, to, pull } => {
                    self.greet(by, to);
                    self.answer(by, to, &pull);
                }
                Parcel::Hello { by, to } => self.greet(by, to),
            }
        }
    }

    /// The segments as they are when the answer is made, which may be later than the puller knows.
    fn answer(&mut self, by: usize, to: usize, pull: &Pull) {
        if self.side[by] != self.side[to] || self.nodes[to].is_none() {
            return;
        }
        let Some(server) = self.nodes[by].as_ref() else { return };
        let segments: Vec<_> =
            pull.segments.iter().filter_map(|&index| server.own_segment(index.into())).collect();
        let segments: Vec<(u64, Vec<u8>)> =
            segments.into_iter().map(|(generation, bytes)| (generation, bytes.to_vec())).collect();
        let now = self.now;
        for (&index, (generation, bytes)) in pull.segments.iter().zip(segments) {
            let _ = self.node_mut(to).apply_segment(
                pull.node,
                pull.boot,
                generation,
                index.into(),
                &bytes,
                now,
            );
        }
    }

    /// The first difference between what a node knows of another and what that one announced,
    /// if any.
    pub(crate) fn disagreement(&self) -> Option<String> {
        let on = |index: &usize| self.nodes[*index].is_some();
        for a in (0..self.nodes.len()).filter(on) {
            for b in (0..self.nodes.len()).filter(on).filter(|&b| b != a) {
                let (node, other) = (self.node(a), self.node(b));
                let Some(peer) = node.peer(other.config.node) else {
                    return Some(format!("{a} does not know {b}"));
                };
                if peer.boot != other.config.boot || peer.epochs != other.epochs() {
                    return Some(format!("{a} knows another boot or epoch of {b}"));
                }
                if peer.filter.bits() != other.own.filter.bits() || peer.stale_segments() > 0 {
                    return Some(format!(
                        "{a} knows another filter of {b}, {} segments stale",
                        peer.stale_segments()
                    ));
                }
                let found = |&(number, plane): &(u64, Plane)| {
                    node.holders(&key(number), plane).any(|n| n == other.config.node)
                };
                if !self.held[b].iter().all(found) {
                    return Some(format!("{a} does not find a block of {b}"));
                }
            }
        }
        None
    }
}
