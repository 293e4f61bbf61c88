//! The queue of blocks to audit, and the random numbers that draw them.

use std::collections::VecDeque;

use crate::id::{BlockKey, Millis, NodeId};
use crate::limits::{
    AUDIT_ROOM_MS, MAX_AUDIT_ROUNDS, MAX_AUDITS, MAX_PARKED_AUDITS, MAX_WARNINGS_A_PEER,
    MAX_WARNINGS_HEEDED, WARNING_WINDOW_MS,
};
use crate::splitmix::SplitMix64;

/// Separates these numbers from others derived from a node's seed.
const SALT: u64 = 0x6175_6469_7473_0001;

/// The denominator of a share.
const WHOLE: u64 = 10_000;

/// Why a block is audited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    /// It was drawn at random.
    Drawn,
    /// A peer reports that this node made it wrong.
    Accused,
    /// A peer reports that this other peer made it wrong.
    Warned(NodeId),
    /// An audit found that it, or a block before it, is wrong.
    Doubted,
}

/// A block queued for an audit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub key: BlockKey,
    pub why: Reason,
    /// How many times its audit was started.
    pub tries: u8,
}

/// A doubted block whose audit lacked room.
struct Parked {
    key: BlockKey,
    /// How many times it lacked room.
    rounds: u8,
    /// When its audit starts again; none while it runs.
    at: Option<Millis>,
}

/// A warning that this node acted on.
struct Heeded {
    by: NodeId,
    accused: NodeId,
    key: BlockKey,
    at: Millis,
}

/// The queue. Bounded: urgent requests push out those drawn last.
pub(in super::super) struct Requests {
    per_10k: u64,
    random: SplitMix64,
    waiting: VecDeque<Request>,
    /// Doubted blocks whose audits lacked room.
    parked: Vec<Parked>,
    heeded: VecDeque<Heeded>,
}

impl Requests {
    /// An empty queue. Draws `per_10k` of ten thousand blocks; `seed` determines which.
    pub(in super::super) fn new(per_10k: u16, seed: u64) -> Requests {
        Requests {
            per_10k: per_10k.into(),
            random: SplitMix64(seed ^ SALT),
            waiting: VecDeque::new(),
            parked: Vec::new(),
            heeded: VecDeque::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A block that a peer made has entered the cache: now and then it is audited. Blocks are not
    /// drawn when they are served, or a peer could have one drawn by requesting it over and over.
    pub(in super::super) fn draw(&mut self, key: BlockKey) {
        if self.per_10k > 0 && self.below(WHOLE) < self.per_10k {
            self.wait(Request { key, why: Reason::Drawn, tries: 0 });
        }
    }

    /// A random number below `bound`, which is at least 1.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// Queues a request last, if there is room and the block is not queued already.
    pub(super) fn wait(&mut self, request: Request) {
        if self.waiting.len() < MAX_AUDITS && !self.waits(request) {
            self.waiting.push_back(request);
        }
    }

    /// Queues a request first.
    pub(super) fn push_front(&mut self, request: Request) {
        self.waiting.retain(|waiting| (waiting.key, waiting.why) != (request.key, request.why));
        self.waiting.truncate(MAX_AUDITS - 1);
        self.waiting.push_front(request);
    }

    /// There is no room to audit a doubted block, so it is retried later. False if that happened
    /// too often, or if too many blocks are parked.
    pub(super) fn park(&mut self, key: BlockKey, now: Millis) -> bool {
        let known = self.parked.iter().position(|parked| parked.key == key);
        let rounds = known.map_or(0, |at| self.parked.swap_remove(at).rounds);
        if self.parked.len() >= MAX_PARKED_AUDITS
            && let Some(at) = self.parked.iter().position(|parked| parked.at.is_none())
        {
            self.parked.swap_remove(at);
        }
        let parks = rounds < MAX_AUDIT_ROUNDS && self.parked.len() < MAX_PARKED_AUDITS;
        if parks {
            self.parked.push(Parked {
                key,
                rounds: rounds + 1,
                at: Some(now + Millis(AUDIT_ROOM_MS)),
            });
        }
        parks
    }

    /// When [`Requests::unpark`] has something to do.
    pub(super) fn parked_until(&self) -> Option<Millis> {
        self.parked.iter().filter_map(|parked| parked.at).min()
    }

    /// Makes parked blocks whose time has come urgent again.
    pub(super) fn unpark(&mut self, now: Millis) {
        while let Some(parked) =
            self.parked.iter_mut().find(|parked| parked.at.is_some_and(|at| at <= now))
        {
            parked.at = None;
            let key = parked.key;
            self.push_front(Request { key, why: Reason::Doubted, tries: 0 });
        }
    }

    fn waits(&self, request: Request) -> bool {
        self.waiting.iter().any(|waiting| (waiting.key, waiting.why) == (request.key, request.why))
    }

    /// The next block to audit: an urgent one, otherwise the one drawn last. Blocks of one prompt
    /// are drawn from its head on, so a walk to the last one may cover the others.
    pub(super) fn next(&mut self) -> Option<Request> {
        match self.waiting.front() {
            Some(first) if first.why != Reason::Drawn => self.waiting.pop_front(),
            _ => self.waiting.pop_back(),
        }
    }

    /// Whether an audit that computes `blocks` blocks is worth it for a drawn block. True
    /// just often enough to keep the cost of all audits at their share. Always true if
    /// everything is audited.
    pub(super) fn affords(&mut self, blocks: usize) -> bool {
        self.per_10k >= WHOLE || self.below(blocks.max(1) as u64) == 0
    }

    /// The block was found right during another block's audit.
    pub(super) fn found_right(&mut self, key: BlockKey) {
        self.waiting.retain(|waiting| waiting.key != key || waiting.why != Reason::Drawn);
    }

    /// Whether a warning is new and its sender has not cost this node too much lately. If so, it
    /// counts from now on.
    ///
    /// When too many count, the accuser with the most loses its oldest, provided that leaves it no
    /// fewer than the new accuser then has. So nobody can shut others out by being first, and no
    /// two can push each other out in turns.
    pub(super) fn heeds(
        &mut self,
        by: NodeId,
        accused: NodeId,
        key: BlockKey,
        now: Millis,
    ) -> bool {
        self.heeded.retain(|heeded| now - heeded.at < Millis(WARNING_WINDOW_MS));
        let is_known = self
            .heeded
            .iter()
            .any(|heeded| (heeded.by, heeded.accused, heeded.key) == (by, accused, key));
        let of_peer = self.heeded.iter().filter(|heeded| heeded.by == by).count();
        if is_known || of_peer >= MAX_WARNINGS_A_PEER {
            return false;
        }
        if self.heeded.len() >= MAX_WARNINGS_HEEDED {
            let of = |by: NodeId| self.heeded.iter().filter(|heeded| heeded.by == by).count();
            let counts: Vec<usize> = self.heeded.iter().map(|heeded| of(heeded.by)).collect();
            let most = counts.iter().copied().max().unwrap_or(0);
            if most < of_peer + 2 {
                return false;
            }
            if let Some(oldest) = counts.iter().position(|count| *count == most) {
                self.heeded.remove(oldest);
            }
        }
        self.heeded.push_back(Heeded { by, accused, key, at: now });
        true
    }

    /// Clears the queue: the blocks are dropped.
    pub(in super::super) fn clear(&mut self) {
        self.waiting.clear();
        self.parked.clear();
    }
}
