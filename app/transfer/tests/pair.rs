//! A connection in memory: both sides, a store behind the serving one, and the bytes in between,
//! split as a test chooses.

use std::collections::BTreeMap;

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

use super::super::*;
use crate::id::{BlockKey, BootId, Epoch, Fingerprint, Millis, NodeId, TokenId};
use crate::kv::{Page, Plane};

/// The same cases on every run.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

pub(crate) fn hello(node: u64) -> Hello {
    Hello::new(NodeId(node), BootId(10 + node), Epoch(3), Fingerprint([9; 16]))
}

pub(crate) fn key(n: u32) -> BlockKey {
    BlockKey([n as u8; 16])
}

pub(crate) fn tokens(n: u32) -> Tokens {
    (0..1 + n % 16).map(|i| TokenId(1_000 * n + i)).collect()
}

/// The serving node's bytes of block `n`: they differ by block, plane and place.
pub(crate) fn content(n: u32, plane: Plane, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|i| {
            (i as u32 ^ (i as u32 >> 8)).wrapping_mul(31).wrapping_add(7 * n + plane as u32) as u8
        })
        .collect()
}

pub(crate) fn page_of(bytes: &[u8]) -> Page {
    let page = Page::new(bytes.len() + 64);
    page.write()[..bytes.len()].copy_from_slice(bytes);
    page
}

pub(crate) fn expected(n: u32, plane: Plane, bytes: usize) -> Expected {
    Expected { key: key(n), parent: key(n + 100), tokens: tokens(n), plane, bytes }
}

/// How the serving node answers a want.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Answer {
    Found,
    Absent,
    Busy,
    Never,
}

/// How a want ended.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum End {
    Done,
    Absent,
    Busy,
}

pub(crate) struct Pair {
    pub server: Server,
    pub fetcher: Fetcher,
    pub up: Wire,
    pub down: Wire,
    pub store: BTreeMap<(BlockKey, Plane), (u32, usize, Answer)>,
    pub pins: usize,
    pub ends: BTreeMap<u32, End>,
    pub segments: Vec<(u8, Vec<u8>)>,
    pub drafts: Vec<(u32, crate::transfer::DraftTokens)>,
    pub ready: usize,
    pub now: Millis,
}

/// One direction: bytes in flight, and the bit of them to damage, if any.
pub(crate) struct Wire {
    pub bytes: Vec<u8>,
    pub decoder: Decoder,
    pub carried: usize,
    pub damage: Option<usize>,
}

impl Wire {
    fn new() -> Wire {
        Wire { bytes: Vec::new(), decoder: Decoder::new(), carried: 0, damage: None }
    }

    fn damage_new(&mut self, from: usize) {
        let added = self.bytes.len() - from;
        if let Some(bit) =
            self.damage.filter(|bit| (self.carried..self.carried + added).contains(&(bit / 8)))
        {
            self.bytes[from + bit / 8 - self.carried] ^= 1 << (bit % 8);
        }
        self.carried += added;
    }
}

impl Pair {
    pub(crate) fn new() -> Pair {
        Pair {
            server: Server::new(hello(1), Millis(0)),
            fetcher: Fetcher::new(hello(2)),
            up: Wire::new(),
            down: Wire::new(),
            store: BTreeMap::new(),
            pins: 0,
            ends: BTreeMap::new(),
            segments: Vec::new(),
            drafts: Vec::new(),
            ready: 0,
            now: Millis(0),
        }
    }

    /// Puts a plane into the serving node's store and requests it; returns the page
    /// that it goes to.
    pub(crate) fn want(&mut self, n: u32, plane: Plane, bytes: usize, answer: Answer) -> Page {
        self.store.insert((key(n), plane), (n, bytes, answer));
        let page = page_of(&vec![0; bytes]);
        let id = 2 * n + plane as u32;
        self.fetcher.want(id, expected(n, plane, bytes), page.clone()).unwrap();
        page
    }

    /// One frame each way, `cut` bytes delivered each way. False when nothing moved.
    pub(crate) fn step(&mut self, cut: usize) -> Result<bool, Fault> {
        let (up, down) = (self.up.bytes.len(), self.down.bytes.len());
        let mut moved = self.fetcher.poll_send(self.now, &mut self.up.bytes);
        self.up.damage_new(up);
        moved |= self.server.poll_send(self.now, &mut self.down.bytes);
        self.down.damage_new(down);
        self.drain();
        moved |= !self.up.bytes.is_empty() || !self.down.bytes.is_empty();
        let taken = self.up.decoder.push(&self.up.bytes[..cut.min(self.up.bytes.len())]);
        self.up.bytes.drain(..taken);
        while let Some((frame, _)) = self.up.decoder.next_frame()? {
            let event = self.server.on_frame(frame, self.now)?;
            self.serve(event);
            self.drain();
        }
        let taken = self.down.decoder.push(&self.down.bytes[..cut.min(self.down.bytes.len())]);
        self.down.bytes.drain(..taken);
        while let Some((frame, payload)) = self.down.decoder.next_frame()? {
            match self.fetcher.on_frame(frame, payload, self.now)? {
                FetchEvent::Ready(_) => self.ready += 1,
                FetchEvent::Done { id } => assert_eq!(self.ends.insert(id, End::Done), None),
                FetchEvent::Absent { id } => assert_eq!(self.ends.insert(id, End::Absent), None),
                FetchEvent::Busy { id } => assert_eq!(self.ends.insert(id, End::Busy), None),
                FetchEvent::FilterSegment { segment, bytes, .. } => {
                    self.segments.push((segment, bytes.to_vec()))
                }
                FetchEvent::Draft { id, tokens } => self.drafts.push((id, tokens)),
                FetchEvent::Progress { .. } | FetchEvent::Closed(_) | FetchEvent::Nothing => {}
            }
        }
        Ok(moved)
    }

    /// Runs until nothing moves.
    pub(crate) fn run(&mut self, cut: usize) -> Result<(), Fault> {
        while self.step(cut)? {}
        Ok(())
    }

    fn serve(&mut self, event: ServeEvent) {
        match event {
            ServeEvent::Want { id, key, plane } => match self.store.get(&(key, plane)) {
                Some(&(n, bytes, Answer::Found)) => {
                    let page = page_of(&content(n, plane, bytes));
                    assert!(self.server.found(
                        id,
                        super::pair::key(n + 100),
                        tokens(n),
                        page,
                        bytes
                    ));
                    self.pins += 1;
                }
                Some((_, _, Answer::Busy)) => self.server.busy(id),
                Some((_, _, Answer::Never)) => {}
                Some((_, _, Answer::Absent)) | None => self.server.absent(id),
            },
            ServeEvent::FilterWant { segment } => {
                self.server.filter_segment(segment, 7, &vec![segment; 100 * usize::from(segment)])
            }
            ServeEvent::DraftWant { id, begun, .. } => {
                self.server.draft(id, begun.iter().copied().collect())
            }
            ServeEvent::HabitWant { id, recent } => {
                self.server.draft(id, recent.iter().rev().copied().collect())
            }
            ServeEvent::Cancelled { id } => self.server.absent(id),
            ServeEvent::Ready(_) | ServeEvent::Closed(_) | ServeEvent::Nothing => {}
        }
    }

    fn drain(&mut self) {
        while self.server.poll_finished().is_some() {
            self.pins = self.pins.checked_sub(1).expect("unpinned more often than pinned");
        }
    }
}
