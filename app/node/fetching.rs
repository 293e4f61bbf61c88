//! The fetching part of a prompt's life: wants under way, what has arrived, and the deadline after which computing goes ahead
//! with what is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::cache::{Link, Slot};
use crate::id::{Millis, NodeId};
use crate::kv::Plane;
use crate::planner::{Fetch, Plan};
use crate::transfer::Expected;

use super::figures::StopReason;
use super::links::ConnId;
use super::prompt::Active;
use super::supply::Supply;
use super::{Node, Output};

/// One plane of one block on its way.
struct Want {
    fetch: Fetch,
    slot: Slot,
    conn: ConnId,
}

/// The state of a prompt that waits for peers.
pub(super) struct Fetching {
    began: Millis,
    pub deadline: Millis,
    links: Vec<Link>,
    pending: VecDeque<Fetch>,
    open: BTreeMap<u32, Want>,
    arrived: Vec<(Fetch, Slot)>,
    cut_short: bool,
}

impl Fetching {
    /// How many blocks have come so far, in part or whole.
    pub(super) fn blocks(&self) -> usize {
        let blocks: BTreeSet<usize> = self.arrived.iter().map(|(fetch, _)| fetch.block).collect();
        blocks.len()
    }
}

impl Node {
    pub(super) fn start_fetch(&mut self, active: &mut Active, supply: &Supply, plan: &Plan, now: Millis) {
        active.fetching = Some(Fetching {
            began: now,
            deadline: now + Millis(plan.deadline_ms),
            links: supply.links.clone(),
            pending: plan.fetch.iter().cloned().collect(),
            open: BTreeMap::new(),
            arrived: Vec::new(),
            cut_short: false,
        });
    }

    /// Hands as many wants as they take to the connections; computes when nothing is left to wait for.
    pub(super) fn issue_wants(&mut self, now: Millis) {
        let Some(mut active) = self.active.take() else { return };
        let Some(mut fetching) = active.fetching.take() else {
            self.active = Some(active);
            return;
        };
        let mut later = VecDeque::new();
        while let Some(fetch) = fetching.pending.pop_front() {
            match self.issue(&mut fetching, &fetch, now) {
                Issued::Open => {}
                Issued::Later => later.push_back(fetch),
                Issued::Impossible => fetching.cut_short = true,
            }
        }
        fetching.pending = later;
        let over = fetching.open.is_empty() && fetching.pending.is_empty();
        active.fetching = Some(fetching);
        self.active = Some(active);
        if over {
            self.end_fetch(now);
        }
    }

    fn issue(&mut self, fetching: &mut Fetching, fetch: &Fetch, now: Millis) -> Issued {
        let Some(conn) = self.link_to(fetch.node, now) else { return Issued::Impossible };
        if self.links.outgoing(conn).is_none_or(|outgoing| outgoing.fetcher.room() == 0) {
            return Issued::Later;
        }
        let link = &fetching.links[fetch.block];
        let bytes = self.config.shape.plane_bytes(fetch.plane, link.tokens.len());
        let Some(slot) = self.reserve(fetch.plane) else { return Issued::Impossible };
        let expected = Expected { key: link.key, parent: link.parent, tokens: link.tokens.clone(), plane: fetch.plane, bytes };
        let outgoing = self.links.outgoing(conn).expect("just linked");
        outgoing.used_at = now;
        let id = self.stats.wants_sent as u32;
        if outgoing.fetcher.want(id, expected, slot.page().clone(), fetching.deadline).is_err() {
            self.cache.release(slot);
            return Issued::Later;
        }
        self.stats.wants_sent += 1;
        fetching.open.insert(id, Want { fetch: *fetch, slot, conn });
        self.outputs.push_back(Output::Wake(conn));
        Issued::Open
    }

    /// A plane is here, checked.
    pub(super) fn on_plane(&mut self, id: u32, now: Millis) {
        let Some(fetching) = self.fetching() else { return };
        let Some(want) = fetching.open.remove(&id) else { return };
        let link = &fetching.links[want.fetch.block];
        let tokens = link.tokens.len();
        let plane = want.fetch.plane;
        fetching.arrived.push((want.fetch, want.slot));
        self.stats.planes_fetched += 1;
        self.stats.bytes_fetched += self.config.shape.plane_bytes(plane, tokens) as u64;
        self.issue_wants(now);
    }

    /// The peer does not have it, or is too busy: what depends on it need not come either.
    pub(super) fn on_refused(&mut self, id: u32, now: Millis) {
        self.stats.wants_absent += 1;
        let Some(fetching) = self.fetching() else { return };
        let Some(want) = fetching.open.remove(&id) else { return };
        fetching.cut_short = true;
        self.cache.release(want.slot);
        if want.fetch.plane == Plane::Global {
            self.forgo(|fetch| fetch.block >= want.fetch.block, now);
        }
        self.issue_wants(now);
    }

    /// Forgets the wants that were open on a connection that is no more; says whether there were any.
    pub(super) fn abandon_conn(&mut self, conn: ConnId, now: Millis) -> bool {
        let Some(fetching) = self.fetching() else { return false };
        let lost: Vec<u32> = fetching.open.iter().filter(|(_, want)| want.conn == conn).map(|(id, _)| *id).collect();
        let peers: Vec<NodeId> = lost.iter().map(|id| fetching.open[id].fetch.node).collect();
        for id in &lost {
            self.drop_want(*id, now);
        }
        self.forgo(|fetch| peers.contains(&fetch.node), now);
        self.issue_wants(now);
        !lost.is_empty()
    }

    pub(super) fn expire_fetch(&mut self, now: Millis) {
        let Some(fetching) = self.fetching() else { return };
        if now < fetching.deadline {
            return;
        }
        let waited = now - fetching.began;
        let late: BTreeSet<(ConnId, NodeId)> = fetching.open.values().map(|want| (want.conn, want.fetch.node)).collect();
        self.stats.wants_late += fetching.open.len() as u64;
        for (conn, node) in late {
            // What has come counts. Where the connection has measured nothing, not even a want has gone out.
            if !self.take_samples(conn, now) {
                self.rates.late(node, waited, now);
            }
        }
        self.end_fetch(now);
    }

    fn fetching(&mut self) -> Option<&mut Fetching> {
        self.active.as_mut().and_then(|active| active.fetching.as_mut())
    }

    /// Cancels what is open and drops what is pending, where `which` says so.
    fn forgo(&mut self, which: impl Fn(&Fetch) -> bool, now: Millis) {
        let Some(fetching) = self.fetching() else { return };
        let before = fetching.pending.len();
        fetching.pending.retain(|fetch| !which(fetch));
        fetching.cut_short |= fetching.pending.len() < before;
        let open: Vec<u32> = fetching.open.iter().filter(|(_, want)| which(&want.fetch)).map(|(id, _)| *id).collect();
        for id in open {
            self.drop_want(id, now);
        }
    }

    fn drop_want(&mut self, id: u32, now: Millis) {
        let Some(fetching) = self.fetching() else { return };
        let Some(want) = fetching.open.remove(&id) else { return };
        fetching.cut_short = true;
        self.cache.release(want.slot);
        if let Some(link) = self.links.outgoing(want.conn) {
            link.fetcher.cancel(id, now);
            self.outputs.push_back(Output::Wake(want.conn));
        }
    }

    /// No more is waited for: keeps what has arrived, in order, and computes the rest.
    pub(super) fn end_fetch(&mut self, now: Millis) {
        self.forgo(|_| true, now);
        let Some(mut active) = self.active.take() else { return };
        let Some(mut fetching) = active.fetching.take() else {
            self.active = Some(active);
            return;
        };
        self.stats.fetches_cut_short += u64::from(fetching.cut_short);
        fetching.arrived.sort_by_key(|(fetch, _)| (fetch.block, fetch.plane));
        for (fetch, slot) in fetching.arrived {
            let link = &fetching.links[fetch.block];
            let kept = self.keep_fetched(&mut active, fetch.block, link, slot);
            if kept && !active.given_by.iter().any(|(block, _)| *block == fetch.block) {
                active.given_by.push((fetch.block, fetch.node));
            }
        }
        if active.stopping {
            return self.finish(active, StopReason::Stopped, now);
        }
        self.active = Some(active);
        self.compute(now);
    }
}

enum Issued {
    Open,
    Later,
    Impossible,
}
