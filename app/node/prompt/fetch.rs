//! A prompt's peers: which may be asked for how much, how they responded, and which are not worth
//! counting on at the moment.

use crate::cache::{Chain, Link};
use crate::catalog::{self, Standing};
use crate::id::{Millis, NodeId, TokenId};
use crate::kv::Plane;
use crate::limits::{BLOCK_TOKENS, MAX_CHUNK_BYTES};
use crate::planner::{MAX_VIEW_SOURCES, PRIOR_MS_PER_TOKEN, Place, Source, SourceSet, View, Want};
use crate::transfer::Expected;

use super::super::conns::{ConnEvent, Conns, Loss, WantId};
use super::super::shared::Shared;
use super::blocks::{Blocks, Cell, Ending, Row};

/// A peer whose worth is below this is on trial: it is asked for one plane per prompt, and no plan
/// counts on that plane until it has arrived.
const ON_TRIAL: f32 = 0.5;

/// How many planes an untried peer is asked for at once. Each plane that it delivers adds one.
const UNTRIED_PLANES: usize = 2;

/// How much is requested from a peer ahead, as the time that it needs to deliver it beyond a round
/// trip. Enough to keep the link busy, and little enough to ask others when the peer hesitates.
/// Covers several of a radio's pauses.
const AHEAD_MS: f32 = 60.0;

/// Minimum number of planes requested at once, so that no source sits idle until the next request.
const LEAST_PLANES: usize = 2;

/// The combined rate expected of several sources before it has been measured, as a multiple of the
/// best one's: they may well share a radio.
const UNKNOWN_LINK: f32 = 2.0;

/// Minimum and maximum time, in milliseconds, after which a peer that owes planes and delivers
/// nothing has stalled. Within these bounds it is four round trips plus the time of four chunks.
const STALL_MS: [f32; 2] = [200.0, 2_000.0];

/// The same for a peer whose rate is unknown.
const UNTRIED_STALL_MS: f32 = 500.0;

/// This prompt's record of one peer.
struct Peer {
    node: NodeId,
    asked: usize,
    delivered: usize,
    /// When it last delivered something, or was asked after having nothing to do.
    heard_at: Millis,
    stalled: bool,
    /// Its connection was lost.
    lost: bool,
}

/// The peers that a prompt may ask, and how long it has held back computing for them.
pub(super) struct Peers {
    list: Vec<Peer>,
    held: Millis,
    holding: Option<Holding>,
    /// The earliest time at which a peer may turn out to have stalled.
    stall_at: Option<Millis>,
}

/// Computing is held back because the fetch is expected to be quicker.
struct Holding {
    since: Millis,
    until: Millis,
}

impl Peers {
    /// No peers.
    pub(super) fn none() -> Peers {
        Peers { list: Vec::new(), held: Millis(0), holding: None, stall_at: None }
    }

    /// All peers that this node shares with and has no reason to avoid. If there are too many, the
    /// most trusted ones that seem to hold most of the prompt's beginning.
    pub(super) fn of(shared: &Shared, tokens: &[TokenId], now: Millis) -> Peers {
        if !shared.config.sharing || !shared.config.reuse {
            return Peers::none();
        }
        let shares = |peer: &&catalog::Peer| {
            shared.catalog.standing(peer) == Standing::Shares && !shared.banned.contains(peer.node)
        };
        let shares = shared.catalog.peers().filter(shares);
        let worth = |node: NodeId| shared.trust.of(node, now).worth;
        let mut nodes: Vec<(NodeId, f32)> = shares
            .map(|peer| (peer.node, worth(peer.node)))
            .filter(|(_, worth)| *worth > 0.0)
            .collect();
        if nodes.len() > MAX_VIEW_SOURCES {
            choose(&mut nodes, shared, tokens);
        }
        nodes.sort_by_key(|(node, _)| *node);
        let peer = |(node, _)| Peer {
            node,
            asked: 0,
            delivered: 0,
            heard_at: now,
            stalled: false,
            lost: false,
        };
        Peers { list: nodes.into_iter().map(peer).collect(), ..Peers::none() }
    }

    /// The peers' ids, in ascending order.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.list.iter().map(|peer| peer.node).collect()
    }

    /// When to decide again even if nothing has happened.
    pub(super) fn deadline(&self) -> Option<Millis> {
        let until = self.holding.as_ref().map(|holding| holding.until);
        [until, self.stall_at].into_iter().flatten().min()
    }

    /// Calls `look` with the current view of the table.
    pub(super) fn view<T>(
        &self,
        blocks: &Blocks,
        (ready, total): (usize, usize),
        shared: &Shared,
        conns: &Conns,
        now: Millis,
        look: impl FnOnce(&View<'_>) -> T,
    ) -> T {
        let counted = |peer: &Peer| {
            !peer.lost && !peer.on_trial(shared, now) && !conns.avoids(peer.node, now)
        };
        let usable = self
            .list
            .iter()
            .enumerate()
            .filter(|(_, peer)| counted(peer))
            .fold(0, |set, (at, _)| set | 1 << at);
        let (rows, ending) = blocks.view_rows(shared, usable);
        let sources = self.sources(blocks, shared, conns, now);
        let link = shared
            .trust
            .link_bytes_per_ms(now)
            .or_else(|| best(&sources).map(|best| UNKNOWN_LINK * best));
        let shape = &shared.config.shape;
        look(&View {
            total,
            ready,
            rows: &rows,
            ending: ending.as_ref(),
            bytes: Plane::ALL.map(|plane| shape.plane_bytes(plane, BLOCK_TOKENS)),
            sources: &sources,
            ms_per_token: ms_per_token(shared),
            quickest_ms_per_token: quickest_ms_per_token(shared),
            link_bytes_per_ms: link,
            room: room_in_all(&sources, link, shared),
            first_sliding: &|resume| shape.first_sliding(resume),
        })
    }

    fn sources(&self, blocks: &Blocks, shared: &Shared, conns: &Conns, now: Millis) -> Vec<Source> {
        let mut open = vec![(0, 0); self.list.len()];
        for (source, slot, landed) in blocks.wants() {
            if let Some((planes, bytes)) = open.get_mut(source) {
                *planes += 1;
                *bytes += shared
                    .config
                    .shape
                    .plane_bytes(slot.plane(), BLOCK_TOKENS)
                    .saturating_sub(landed);
            }
        }
        let source = |(peer, (planes, in_flight)): (&Peer, (usize, usize))| {
            let standing = shared.trust.of(peer.node, now);
            let room = conns
                .room(peer.node, now)
                .min(peer.allowance(&standing, planes, in_flight, shared));
            let bytes_per_ms = if peer.stalled {
                Some(0.0)
            } else {
                standing.bytes_per_ms.map(|rate| rate * standing.worth)
            };
            Source { bytes_per_ms, round_trip_ms: standing.round_trip_ms, in_flight, room }
        };
        self.list.iter().zip(open).map(source).collect()
    }

    /// One missing plane for each peer on trial to prove itself with: the last one that it
    /// seems to hold.
    pub(super) fn probes(
        &self,
        ready: usize,
        blocks: &Blocks,
        shared: &Shared,
        now: Millis,
    ) -> Vec<Want> {
        let on_trial = self
            .list
            .iter()
            .enumerate()
            .filter(|(_, peer)| !peer.lost && peer.asked == 0 && peer.on_trial(shared, now));
        let mut wants: Vec<Want> = Vec::new();
        for (source, _) in on_trial {
            let holds = |at: &usize| {
                let row = &blocks.rows[*at];
                matches!(row.cells[0], Cell::Missing) && row.holders[0] & (1 << source) != 0
            };
            let free = |at: &usize| !wants.iter().any(|want| want.place == Place::Row(*at));
            if let Some(at) =
                (ready.div_ceil(BLOCK_TOKENS)..blocks.whole).rev().filter(free).find(holds)
            {
                wants.push(Want { place: Place::Row(at), plane: Plane::Global, source });
            }
        }
        wants
    }

    /// Requests planes. One that is already on its way is requested elsewhere instead.
    pub(super) fn ask(
        &mut self,
        wants: &[Want],
        blocks: &mut Blocks,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) {
        let busy: SourceSet = blocks.wants().fold(0, |set, (source, ..)| set | 1 << source);
        for want in wants {
            let Some(peer) = self.list.get_mut(want.source) else { continue };
            let Some(addr) = shared.catalog.peer(peer.node).map(|known| known.addr) else {
                continue;
            };
            let Some(row) = blocks.block_mut(want.place) else { continue };
            let Some(link) = row.link.clone() else { continue };
            let cell = &mut row.cells[want.plane as usize];
            let slot = match std::mem::replace(cell, Cell::Missing) {
                Cell::Wanted { id, slot, .. } => {
                    conns.cancel(id, shared, now);
                    Some(slot)
                }
                Cell::Missing => shared.reserve(want.plane),
                other => {
                    *cell = other;
                    continue;
                }
            };
            let Some(slot) = slot else { continue };
            let id = WantId(shared.stats.wants_sent as u32);
            let bytes = shared.config.shape.plane_bytes(want.plane, link.tokens.len());
            let expected = Expected {
                key: link.key,
                parent: link.parent,
                tokens: link.tokens,
                plane: want.plane,
                bytes,
            };
            if !conns.want((peer.node, addr), id, expected, slot.page().clone(), shared, now) {
                shared.cache.release(slot);
                continue;
            }
            shared.stats.wants_sent += 1;
            if busy & (1 << want.source) == 0 {
                peer.heard_at = now;
            }
            peer.asked += 1;
            *cell = Cell::Wanted { id, source: want.source, slot, landed: 0 };
        }
        self.watch(blocks, shared, now);
    }

    /// Records an event of a want; returns whether it changes what to do next.
    pub(super) fn handle(
        &mut self,
        event: &ConnEvent,
        blocks: &mut Blocks,
        shared: &mut Shared,
        now: Millis,
    ) -> bool {
        let Some((row, plane)) = blocks.wanted(event.id()) else { return false };
        let tokens = row.link.as_ref().map_or(BLOCK_TOKENS, |link| link.tokens.len());
        let Row { cells, holders, denied, .. } = row;
        let (cell, holders, denied) = (&mut cells[plane], &mut holders[plane], &mut denied[plane]);
        let Cell::Wanted { source, slot, id, .. } = std::mem::replace(cell, Cell::Missing) else {
            return false;
        };
        let Some(peer) = self.list.get_mut(source) else { return false };
        let resumed = std::mem::replace(&mut peer.stalled, false);
        peer.heard_at = now;
        match event {
            ConnEvent::Progress { bytes, .. } => {
                *cell = Cell::Wanted { id, source, slot, landed: *bytes };
                return resumed;
            }
            ConnEvent::Arrived { .. } => {
                peer.delivered += 1;
                shared.stats.planes_fetched += 1;
                shared.stats.bytes_fetched +=
                    shared.config.shape.plane_bytes(slot.plane(), tokens) as u64;
                *cell = Cell::Arrived { from: peer.node, slot };
            }
            ConnEvent::Absent { .. } | ConnEvent::Busy { .. } => {
                shared.stats.wants_absent += u64::from(matches!(event, ConnEvent::Absent { .. }));
                *holders &= !(1 << source);
                *denied |= 1 << source;
                shared.cache.release(slot);
            }
            ConnEvent::Lost { why, .. } => {
                peer.lost = *why != Loss::Full;
                shared.cache.release(slot);
            }
        }
        true
    }

    /// Finds the peers that have delivered nothing for too long.
    pub(super) fn notice_stalls(&mut self, blocks: &Blocks, shared: &mut Shared, now: Millis) {
        let wanted: SourceSet = blocks.wants().fold(0, |set, (source, ..)| set | 1 << source);
        let sharers = wanted.count_ones();
        for (at, peer) in self.list.iter_mut().enumerate() {
            if wanted & (1 << at) != 0
                && !peer.stalled
                && now >= peer.heard_at + peer.stall_after(sharers, shared, now)
            {
                peer.stalled = true;
                shared.stats.peers_stalled += 1;
                shared.trust.stalled(peer.node, now);
            }
        }
        self.watch(blocks, shared, now);
    }

    /// Determines when to check for stalls next.
    fn watch(&mut self, blocks: &Blocks, shared: &Shared, now: Millis) {
        let wanted: SourceSet = blocks.wants().fold(0, |set, (source, ..)| set | 1 << source);
        let watched = self
            .list
            .iter()
            .enumerate()
            .filter(|(at, peer)| wanted & (1 << at) != 0 && !peer.stalled);
        self.stall_at = watched
            .map(|(_, peer)| peer.heard_at + peer.stall_after(wanted.count_ones(), shared, now))
            .min();
    }

    /// Whether to hold back computing for a fetch that is expected to finish in `ms`. The total per
    /// prompt is limited to the shortest time that this node ever took to compute one block.
    pub(super) fn holds(&mut self, ms: Option<f32>, shared: &Shared, now: Millis) -> bool {
        if let Some(holding) = &self.holding {
            if ms.is_some() && now < holding.until {
                return true;
            }
            self.held = self.held + (now - holding.since);
            self.holding = None;
        }
        let left = BLOCK_TOKENS as f32 * quickest_ms_per_token(shared) - self.held.0 as f32;
        let Some(ms) = ms.filter(|_| left >= 1.0) else { return false };
        // A little longer than expected, because estimates are means.
        let wait = (1.5 * ms + 1.0).min(left).ceil();
        self.holding = Some(Holding { since: now, until: now + Millis(wait as u64) });
        true
    }
}

impl Peer {
    fn on_trial(&self, shared: &Shared, now: Millis) -> bool {
        self.delivered == 0 && shared.trust.of(self.node, now).worth < ON_TRIAL
    }

    /// How many more planes it may be asked for, given the planes and bytes that are on their way.
    fn allowance(
        &self,
        standing: &super::super::trust::PeerEstimate,
        planes: usize,
        in_flight: usize,
        shared: &Shared,
    ) -> usize {
        let plane = largest_plane(shared);
        let Some(rate) = standing.bytes_per_ms else {
            return (UNTRIED_PLANES + self.delivered).saturating_sub(planes);
        };
        let ahead = rate * (AHEAD_MS + standing.round_trip_ms.unwrap_or(0.0));
        let budget = (ahead as usize).max(2 * plane);
        if self.stalled || in_flight >= budget { 0 } else { (budget - in_flight).div_ceil(plane) }
    }

    /// `sharers` peers may share one link, this one included.
    fn stall_after(&self, sharers: u32, shared: &Shared, now: Millis) -> Millis {
        let standing = shared.trust.of(self.node, now);
        let ms =
            standing.bytes_per_ms.filter(|rate| *rate > 0.0).map_or(UNTRIED_STALL_MS, |rate| {
                4.0 * (standing.round_trip_ms.unwrap_or(0.0)
                    + (MAX_CHUNK_BYTES as u32 * sharers) as f32 / rate)
            });
        Millis(ms.clamp(STALL_MS[0], STALL_MS[1]) as u64)
    }
}

/// Reduces `nodes`, each with its worth, to as many as a plan has room for.
fn choose(nodes: &mut Vec<(NodeId, f32)>, shared: &Shared, tokens: &[TokenId]) {
    let chain = Chain::of(&shared.secret, shared.root, tokens);
    for (node, worth) in nodes.iter_mut() {
        let held = |link: &&Link| shared.catalog.seems_to_hold(*node, &link.key, Plane::Global);
        *worth *= (1 + chain.links().take_while(held).count()) as f32;
    }
    // Among equals each node picks different ones, or all nodes would ask the same few.
    let own = shared.config.node.0;
    let draw = |node: NodeId| (node.0 ^ own).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    nodes.sort_by(|a, b| b.1.total_cmp(&a.1).then(draw(a.0).cmp(&draw(b.0))));
    nodes.truncate(MAX_VIEW_SOURCES);
}

/// Whether a plane of the ending is not available anywhere.
pub(super) fn lost_hope(ending: &Ending, shared: &Shared) -> bool {
    let tokens = ending.link().tokens.len();
    Plane::ALL.into_iter().any(|plane| {
        let missing = matches!(ending.block.cells[plane as usize], Cell::Missing)
            && ending.block.holders[plane as usize] == 0;
        missing && shared.config.shape.plane_bytes(plane, tokens) > 0
    })
}

/// Size, in bytes, of the larger plane of a whole block.
fn largest_plane(shared: &Shared) -> usize {
    Plane::ALL
        .into_iter()
        .map(|plane| shared.config.shape.plane_bytes(plane, BLOCK_TOKENS))
        .fold(1, usize::max)
}

/// The highest rate of any source.
fn best(sources: &[Source]) -> Option<f32> {
    sources
        .iter()
        .filter_map(|source| source.bytes_per_ms)
        .filter(|rate| *rate > 0.0)
        .max_by(f32::total_cmp)
}

/// How many more planes may be requested from all sources together. The limit is twice the link's
/// known rate, so that a faster link is discovered. More would be wasted: planes still on their way
/// when computing arrives are useless.
fn room_in_all(sources: &[Source], link: Option<f32>, shared: &Shared) -> usize {
    let plane = largest_plane(shared);
    let in_flight: usize = sources.iter().map(|source| source.in_flight).sum();
    let Some(link) = link else { return usize::MAX };
    let trip = sources.iter().filter_map(|source| source.round_trip_ms).fold(0.0, f32::max);
    let budget = ((2.0 * link * (AHEAD_MS + trip)) as usize).max(LEAST_PLANES * plane);
    budget.saturating_sub(in_flight).div_ceil(plane)
}

/// This node's computing time per token, in milliseconds.
pub(super) fn ms_per_token(shared: &Shared) -> f32 {
    shared.trust.prefill_ms_per_token().unwrap_or(PRIOR_MS_PER_TOKEN)
}

/// The shortest computing time per token so far, never above the current estimate.
fn quickest_ms_per_token(shared: &Shared) -> f32 {
    shared.trust.quickest_ms_per_token().unwrap_or(PRIOR_MS_PER_TOKEN)
}
