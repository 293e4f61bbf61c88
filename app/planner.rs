//! What to take from where: for every block of a prompt, use the own copy, fetch it from a peer, or compute it.
//!
//! A pure function of what is available and how fast things are. A prompt's work can resume at a token `r` when the global
//! plane of every block before `r` is at hand, and the sliding plane of every block that a token at `r` still sees. [`plan`]
//! looks at every such `r`, estimates fetching plus computing the rest, and takes the cheapest; without a peer worth asking it
//! is plain prefill behind the own prefix.
//!
//! What it promises, with *the gain* for the computing time that the fetch would replace, as estimated from this node's measured
//! rate (where none is known: from [`PRIOR_PREFILL_TOKENS_PER_S`]):
//!
//! - Nothing is fetched unless the fetch is expected to take less than three fifths of the gain ([`WAIT_SHARE`]); less than a
//!   quarter ([`UNMEASURED_SHARE`]) where a peer's speed has yet to be measured.
//! - The wait ends after twice the expected time ([`PATIENCE`]), or, with an unmeasured peer, after a quarter of the gain. It never
//!   lasts longer than three fifths of the gain, or a quarter of a second ([`GRACE_MS`]) where that is more. So this is the bound:
//!   an answer comes later than computing alone by at most three fifths of the gain or a quarter of a second, whichever is more.
//!   Mostly it is far less, because a fetch worth making is short against its gain.
//! - A plan fetches exactly the planes that its resume point needs and this node lacks.

mod rates;

use core::ops::Range;

use heapless::Vec as Bounded;

pub use rates::{PeerSpeed, Smoothed};

use crate::id::NodeId;
use crate::kv::Plane;
use crate::limits::{MAX_PEERS, MAX_SOURCES};

/// The share of the gain that a fetch may take, as expected and as waited for. Lower, and a fast board (Pi 5 with the 1B: 1.3 s of
/// int8 state against 2.6 s of prefill) would never ask; higher, and a fetch that fails costs most of what it could have saved.
/// Guess between the two, to be lowered when computing goes on while bytes come.
pub const WAIT_SHARE: f32 = 0.6;

/// The same when a peer involved has not been measured: its first fetch is how its speed is learned, and should lose less.
/// Guess: on the board's published figures (0.86 s of transfer against 12.6 s of prefill) a quarter leaves room for a third of
/// the goodput measured there.
pub const UNMEASURED_SHARE: f32 = 0.25;

/// How often the expected time a fetch may take before it counts as failed. Wi-Fi goodput falls to half without anything being
/// wrong (another station talks); guess.
pub const PATIENCE: f32 = 2.0;

/// The shortest wait, in milliseconds, whatever the gain: connecting, and the timers, queues and threads of two busy nodes.
/// Guess: on two cores shared by eight busy processes a fetch of 4 ms may well stall for a tenth of a second.
pub const GRACE_MS: f32 = 250.0;

/// What a fetch must gain beyond its own time, in milliseconds: the message handling that the estimate leaves out. Guess.
pub const MARGIN_MS: f32 = 1.0;

/// Goodput of a peer that has not been measured, in bytes a second: gigabit Ethernet. Optimistic on purpose: who is never asked
/// is never measured, and the deadline bounds the loss.
pub const PRIOR_GOODPUT_BYTES_PER_S: f32 = 118e6;

/// Round trip to a peer that has not been measured, in milliseconds: a quiet LAN. Optimistic for the same reason.
pub const PRIOR_ROUND_TRIP_MS: f32 = 1.0;

/// Prefill rate of a node that has not computed anything lately, in tokens a second: Gemma-3 270M on a Zero 2 W as published (33 to
/// 40 ms a token, arXiv 2602.22812).
pub const PRIOR_PREFILL_TOKENS_PER_S: f32 = 27.0;

/// How fast a peer delivers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PeerRate {
    /// The peer.
    pub node: NodeId,
    /// Payload bytes a second; `None` when it has not been measured.
    pub goodput_bytes_per_s: Option<f32>,
    /// Time from a question to its answer; `None` when it has not been measured.
    pub round_trip_ms: Option<f32>,
}

/// How fast things are, as this node has measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Costs<'a> {
    /// Tokens a second of prefill on this node; `None` when it has not been measured.
    pub prefill_tokens_per_s: Option<f32>,
    /// Bytes a second that this node's own link carries from all peers together; `None` when nothing is known to bound it.
    pub link_bytes_per_s: Option<f32>,
    /// The peers that answer, at most `MAX_PEERS`. One that a block names and this list does not is not asked.
    pub peers: &'a [PeerRate],
}

/// Where one block of the prompt can be had. Planes are indexed by their wire number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BlockSupply {
    /// Tokens of the block.
    pub tokens: usize,
    /// Bytes of each plane; a plane of no bytes needs no fetching.
    pub bytes: [usize; 2],
    /// Which planes this node holds.
    pub own: [bool; 2],
    /// Which peers seem to hold each plane.
    pub peers: [Bounded<NodeId, MAX_SOURCES>; 2],
}

/// One plane to fetch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// The block's place in the prompt.
    pub block: usize,
    /// Which of its planes.
    pub plane: Plane,
    /// Whom to ask.
    pub node: NodeId,
}

/// What to do for one prompt.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// The first token to compute; all before it come out of blocks. Below the number of the prompt's tokens.
    pub resume: usize,
    /// Tokens before `resume` of whose blocks nothing has to be fetched.
    pub own: usize,
    /// What to fetch, head first.
    pub fetch: Vec<Fetch>,
    /// How long fetching is expected to take.
    pub fetch_ms: f32,
    /// How much earlier the prompt is expected to be done than without fetching.
    pub saved_ms: f32,
    /// How long to wait for the whole fetch, from its start. What has not come by then is given up, and what has come is the own
    /// part of the next plan, which is made without peers. Zero when nothing is fetched.
    pub deadline_ms: u64,
}

/// Makes the plan for a prompt of `total_tokens` tokens.
///
/// `blocks` are the prompt's blocks from its first token on, as far as they are known: full ones, then possibly the ragged end.
/// `first_sliding(r)` is the first token whose sliding plane is needed to resume at `r`
/// ([`KvShape::first_sliding`](crate::kv::KvShape::first_sliding)). The last token is always computed, because no logits
/// travel: blocks that cover the whole prompt resume at its last token.
pub fn plan(blocks: &[BlockSupply], total_tokens: usize, first_sliding: impl Fn(usize) -> usize, costs: &Costs) -> Plan {
    let ms_per_token = 1_000.0 / positive(costs.prefill_tokens_per_s).unwrap_or(PRIOR_PREFILL_TOKENS_PER_S);
    let alone = own_prefix(blocks, total_tokens, &first_sliding);
    let mut best = Plan { resume: alone.resume, own: alone.resume, ..Plan::default() };
    if costs.peers.is_empty() {
        return best;
    }

    let mut cheapest = (alone.computing_ms(total_tokens, ms_per_token), 0);
    let mut heads = Load::new(costs);
    for point in Points::new(blocks, total_tokens).skip(1) {
        // Global planes are needed from the head on whatever the resume point, so their load only grows.
        if !heads.add(blocks, point.blocks - 1, Plane::Global) {
            break;
        }
        if point.resume <= alone.resume {
            continue;
        }
        let mut load = heads.clone();
        if !point.sliding(blocks, &first_sliding).all(|index| load.add(blocks, index, Plane::Sliding)) {
            continue;
        }
        let gain_ms = (point.resume - alone.resume) as f32 * ms_per_token;
        let Some(deadline_ms) = load.deadline_ms(gain_ms) else { continue };
        let fetch_ms = load.expected_ms();
        let cost = (point.computing_ms(total_tokens, ms_per_token) + fetch_ms, load.bytes);
        if cost < cheapest {
            cheapest = cost;
            let saved_ms = gain_ms - fetch_ms;
            best = Plan { resume: point.resume, own: 0, fetch: load.fetch, fetch_ms, saved_ms, deadline_ms };
        }
    }
    best.fetch.sort_unstable_by_key(|fetch| (fetch.block, fetch.plane));
    best.own = own_tokens(blocks, &best);
    best
}

/// The furthest point that this node reaches by itself.
fn own_prefix(blocks: &[BlockSupply], total_tokens: usize, first_sliding: impl Fn(usize) -> usize) -> Point {
    let own_head = |point: &Point| blocks[..point.blocks].last().is_none_or(|block| block.has(Plane::Global));
    let own_tail = |point: &Point| point.sliding(blocks, &first_sliding).all(|index| blocks[index].has(Plane::Sliding));
    Points::new(blocks, total_tokens).take_while(own_head).filter(own_tail).last().unwrap_or_default()
}

/// Tokens before the plan's resume point whose blocks have nothing to fetch.
fn own_tokens(blocks: &[BlockSupply], plan: &Plan) -> usize {
    let mut fetch = plan.fetch.iter().map(|fetch| fetch.block).peekable();
    let (mut start, mut own) = (0, 0);
    for (index, block) in blocks.iter().enumerate() {
        let end = plan.resume.min(start + block.tokens);
        if fetch.next_if_eq(&index).is_none() {
            own += end - start;
        }
        while fetch.next_if_eq(&index).is_some() {}
        start = end;
    }
    own
}

/// A place where work may resume: behind the first `blocks` blocks.
#[derive(Clone, Copy, Default)]
struct Point {
    blocks: usize,
    resume: usize,
}

/// All places where work may resume, from the head on.
struct Points<'a> {
    blocks: &'a [BlockSupply],
    total: usize,
    next: Option<Point>,
}

impl<'a> Points<'a> {
    fn new(blocks: &'a [BlockSupply], total: usize) -> Points<'a> {
        Points { blocks, total, next: Some(Point::default()) }
    }
}

impl Iterator for Points<'_> {
    type Item = Point;

    fn next(&mut self) -> Option<Point> {
        let point = self.next?;
        let last = self.total.saturating_sub(1);
        // A block that starts at the last token or behind it holds nothing that is not computed anyway.
        self.next = self
            .blocks
            .get(point.blocks)
            .filter(|_| point.resume < last)
            .map(|block| Point { blocks: point.blocks + 1, resume: last.min(point.resume + block.tokens) });
        Some(point)
    }
}

impl Point {
    /// The blocks whose sliding plane a token at the resume point sees.
    fn sliding(self, blocks: &[BlockSupply], first_sliding: impl Fn(usize) -> usize) -> Range<usize> {
        let first = first_sliding(self.resume);
        if first >= self.resume {
            return self.blocks..self.blocks;
        }
        let mut end = 0;
        let before = blocks[..self.blocks].iter().take_while(|block| {
            end += block.tokens;
            end <= first
        });
        before.count()..self.blocks
    }

    fn computing_ms(self, total: usize, ms_per_token: f32) -> f32 {
        total.saturating_sub(self.resume) as f32 * ms_per_token
    }
}

impl BlockSupply {
    fn has(&self, plane: Plane) -> bool {
        self.own[plane as usize] || self.bytes[plane as usize] == 0
    }
}

/// What a fetch would ask of each peer.
#[derive(Clone)]
struct Load {
    peers: Bounded<PeerLoad, MAX_PEERS>,
    ms_per_link_byte: f32,
    bytes: usize,
    fetch: Vec<Fetch>,
}

#[derive(Clone)]
struct PeerLoad {
    node: NodeId,
    round_trip_ms: f32,
    ms_per_byte: f32,
    measured: bool,
    bytes: usize,
}

impl Load {
    fn new(costs: &Costs) -> Load {
        let peers = costs.peers.iter().take(MAX_PEERS).map(PeerLoad::new).collect();
        let ms_per_link_byte = positive(costs.link_bytes_per_s).map_or(0.0, |link| 1_000.0 / link);
        Load { peers, ms_per_link_byte, bytes: 0, fetch: Vec::new() }
    }

    /// Adds a plane, unless this node has it, to the peer that would have it here first; false when it can be had nowhere.
    fn add(&mut self, blocks: &[BlockSupply], index: usize, plane: Plane) -> bool {
        let block = &blocks[index];
        if block.has(plane) {
            return true;
        }
        let bytes = block.bytes[plane as usize];
        let sources = &block.peers[plane as usize];
        let holders = self.peers.iter_mut().filter(|peer| sources.contains(&peer.node));
        let Some(peer) = holders.min_by(|a, b| a.ms_with(bytes).total_cmp(&b.ms_with(bytes))) else { return false };
        peer.bytes += bytes;
        self.bytes += bytes;
        self.fetch.push(Fetch { block: index, plane, node: peer.node });
        true
    }

    fn asked(&self) -> impl Iterator<Item = &PeerLoad> {
        self.peers.iter().filter(|peer| peer.bytes > 0)
    }

    /// Until the last peer is done, each at its own pace, all through this node's one link.
    fn expected_ms(&self) -> f32 {
        let slowest = self.asked().map(|peer| peer.ms_with(0)).fold(0.0, f32::max);
        let first = self.asked().map(|peer| peer.round_trip_ms).fold(f32::INFINITY, f32::min);
        slowest.max(first + self.bytes as f32 * self.ms_per_link_byte)
    }

    /// How long to wait for this fetch when it replaces `gain_ms` of computing; `None` when it does not pay.
    fn deadline_ms(&self, gain_ms: f32) -> Option<u64> {
        let expected = self.expected_ms();
        let measured = self.asked().all(|peer| peer.measured);
        let bound = gain_ms * if measured { WAIT_SHARE } else { UNMEASURED_SHARE };
        if expected + MARGIN_MS > bound {
            return None;
        }
        let patience = if measured { expected * PATIENCE } else { bound };
        Some(patience.min(bound).max(GRACE_MS) as u64)
    }
}

impl PeerLoad {
    fn new(rate: &PeerRate) -> PeerLoad {
        // A goodput of zero is a measurement too: such a peer takes for ever, and is not asked.
        let goodput = rate.goodput_bytes_per_s.filter(|goodput| *goodput >= 0.0);
        let round_trip = rate.round_trip_ms.filter(|ms| *ms >= 0.0);
        PeerLoad {
            node: rate.node,
            round_trip_ms: round_trip.unwrap_or(PRIOR_ROUND_TRIP_MS),
            ms_per_byte: 1_000.0 / goodput.unwrap_or(PRIOR_GOODPUT_BYTES_PER_S),
            measured: goodput.is_some(),
            bytes: 0,
        }
    }

    /// When this peer would be done with what it has to send and `more` bytes.
    fn ms_with(&self, more: usize) -> f32 {
        self.round_trip_ms + (self.bytes + more) as f32 * self.ms_per_byte
    }
}

fn positive(rate: Option<f32>) -> Option<f32> {
    rate.filter(|rate| *rate > 0.0)
}

#[cfg(test)]
mod tests;
