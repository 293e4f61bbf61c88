//! Audits: now and then this node recomputes a block that a peer made and compares the bytes. Every
//! node of one build computes the same bits, whatever the batch size, so a single differing byte
//! proves that something is wrong: another CPU or build, broken memory, or a lie.
//!
//! Audits run when the node is idle. A prompt that arrives goes first: the audit's job is
//! abandoned between two layers, everything it held is released, and it starts again later.
//! `walk` computes and compares, `requests` queues the blocks to audit, `banned` lists the
//! peers that were caught.
//!
//! A difference need not be the maker's fault: a block computed on wrong state is wrong too. So
//! nobody is accused over a block that was recomputed on state from elsewhere. Instead the walk
//! starts again at the first token, where it depends on nothing, and each block found equal extends
//! it. The first block that differs, twice, has a guilty maker. This node does not ask that peer
//! for a good while, discards its blocks and all blocks that depend on them, and warns the swarm.
//!
//! A node that computes one block in two ways is itself broken: it reports this, and audits nothing
//! until it restarts.
//!
//! A warning proves nothing. It only makes other nodes audit what they hold from the accused peer,
//! a bounded number of times. The accused node checks the block as well: if it passed on in good
//! faith what another peer made, it finds and names that peer.

mod banned;
mod requests;
#[cfg(test)]
mod tests;
mod walk;

use crate::cache::Maker;
use crate::catalog::Warning;
use crate::id::{BootId, Millis, NodeId};
use crate::kv::Plane;
use crate::limits::{AUDIT_IDLE_MS, MAX_AUDIT_TRIES, WARNED_AUDITS};

use super::ask::{JobDone, JobFault};
use super::conns::Conns;
use super::event::Event;
use super::io::Output;
use super::shared::Shared;

pub(super) use banned::BannedPeers;
pub(super) use requests::Requests;

use requests::{Reason, Request};
use walk::{Difference, Verdict, Walk};

/// The current audit, and when the next one may begin.
#[derive(Default)]
pub(super) struct Auditor {
    walk: Option<Walk>,
    /// This node computed one block in two ways, so its verdicts are worthless.
    is_broken: bool,
    /// When the node last did other work.
    busy_at: Millis,
}

/// What a postponed audit is short of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shortage {
    /// Another task needs the engine.
    Time,
    /// Slots to compute into.
    Room,
}

impl Auditor {
    /// Whether the engine is working on an audit.
    pub(super) fn is_walking(&self) -> bool {
        self.walk.is_some()
    }

    /// The node is doing other work.
    pub(super) fn busy(&mut self, now: Millis) {
        self.busy_at = now;
    }

    /// When [`Auditor::advance`] must be called at the latest, on an idle node.
    pub(super) fn deadline(&self, shared: &Shared) -> Option<Millis> {
        let idle_at = self.busy_at + Millis(AUDIT_IDLE_MS);
        let next = if shared.audits.is_empty() {
            shared.audits.parked_until()?.max(idle_at)
        } else {
            idle_at
        };
        (self.walk.is_none() && !self.is_broken).then_some(next)
    }

    /// On an idle node, starts the next audit if it is due. A postponed audit makes the others wait
    /// too: if there is no room for it there is none for them.
    pub(super) fn advance(&mut self, shared: &mut Shared, now: Millis) {
        if self.deadline(shared).is_some_and(|at| at <= now) {
            shared.audits.unpark(now);
        }
        while self.deadline(shared).is_some_and(|at| at <= now)
            && let Some(request) = shared.audits.next()
        {
            match Walk::plan(request, shared) {
                Some(walk) => self.step(walk, shared, now),
                None => shared.stats.audits_skipped += 1,
            }
        }
    }

    /// A prompt has arrived: abandons the engine's job. [`Auditor::on_engine`] does the rest.
    pub(super) fn interrupt(&mut self, shared: &mut Shared) {
        if let Some(walk) = self.walk.as_mut().filter(|walk| !walk.abandoned) {
            walk.abandoned = true;
            shared.out.push_back(Output::Abandon(walk.job));
        }
    }

    /// The engine has finished or abandoned a job; returns whether it was an audit's.
    pub(super) fn on_engine(
        &mut self,
        done: &JobDone,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> bool {
        let Some(mut walk) = self.walk.take_if(|walk| walk.job == done.id) else { return false };
        match &done.result {
            _ if walk.abandoned => self.put_off(walk, Shortage::Time, shared, now),
            Err(JobFault::Abandoned) => self.put_off(walk, Shortage::Time, shared, now),
            Err(JobFault::Failed(_)) => doubt(walk, shared),
            Ok(_) => match walk.compare(shared) {
                Verdict::Same | Verdict::Unsure => self.step(walk, shared, now),
                Verdict::Done => walk.let_go(shared),
                Verdict::OnUnverifiedState => doubt(walk, shared),
                Verdict::Irreproducible => {
                    walk.let_go(shared);
                    self.is_broken = true;
                    shared.stats.audits_failed += 1;
                    shared.report(Event::ComputesTwoWays);
                }
                Verdict::Differs(differences) => {
                    walk.let_go(shared);
                    shared.stats.audits_failed += 1;
                    differences
                        .into_iter()
                        .for_each(|difference| convict(difference, shared, conns, now));
                }
            },
        }
        true
    }

    fn step(&mut self, mut walk: Walk, shared: &mut Shared, now: Millis) {
        if walk.step(shared) {
            self.walk = Some(walk);
        } else {
            self.put_off(walk, Shortage::Room, shared, now);
        }
    }

    /// Releases everything. The audit starts again later, a bounded number of times. If a doubted
    /// block then still has no room, it waits longer, because only its audit can find out who
    /// made it wrong.
    fn put_off(&mut self, walk: Walk, lacks: Shortage, shared: &mut Shared, now: Millis) {
        self.busy_at = now;
        let request = Request { tries: walk.request.tries + 1, ..walk.request };
        walk.let_go(shared);
        if request.tries < MAX_AUDIT_TRIES {
            return if request.why == Reason::Drawn {
                shared.audits.wait(request)
            } else {
                shared.audits.push_front(request)
            };
        }
        let is_here = shared.cache.entry(&request.key, Plane::Global).is_some();
        if request.why == Reason::Doubted
            && lacks == Shortage::Room
            && is_here
            && shared.audits.park(request.key, now)
        {
            return;
        }
        shared.stats.audits_skipped += 1;
        // One of the blocks up to this one is wrong, and there was never the room or the time to
        // find out which.
        if request.why == Reason::Doubted {
            shared.cache.forget(&request.key);
        }
    }
}

/// The bytes differ, or the engine could not use the state, but the walk depended on state
/// from elsewhere.
fn doubt(walk: Walk, shared: &mut Shared) {
    let (request, on_own_ground) = (walk.request, walk.from == 0);
    walk.let_go(shared);
    if on_own_ground {
        shared.stats.audits_skipped += 1;
    } else {
        shared.audits.push_front(Request { why: Reason::Doubted, tries: 0, ..request });
    }
}

/// These bytes are wrong, and only their maker can be to blame.
fn convict(difference: Difference, shared: &mut Shared, conns: &mut Conns, now: Millis) {
    let Difference { key, plane, maker, served, computed } = difference;
    let Maker::Peer(accused) = maker else {
        shared.cache.forget(&key);
        return shared.report(Event::OwnBlockWrong);
    };
    if shared.banned.contains(accused) {
        return;
    }
    let boot = shared.catalog.peer(accused).map_or(BootId(0), |peer| peer.boot);
    shared.banned.ban(accused, boot, now);
    conns.end_with(accused, shared, now);
    let forgotten = shared.cache.forget_made_by(accused);
    shared.report(Event::PeerDistrusted { node: accused, forgotten });
    shared.catalog.warn(Warning { accused, boot, key, plane, served, computed }, now);
}

/// A peer reports that another peer's bytes are wrong.
pub(super) fn on_warning(by: NodeId, warning: Warning, shared: &mut Shared, now: Millis) {
    let Warning { accused, key, plane, .. } = warning;
    if by != accused {
        shared.banned.names_another(by);
    }
    if !shared.audits.heeds(by, accused, key, now)
        || shared.config.audit_per_10k == 0
        || shared.banned.contains(accused)
    {
        return;
    }
    if accused == shared.config.node {
        if shared.cache.entry(&key, plane).is_some() {
            shared.audits.push_front(Request { key, why: Reason::Accused, tries: 0 });
        }
        return;
    }
    let mut keys: Vec<_> = shared.cache.made_by(accused).collect();
    let very = keys.iter().position(|made| *made == key).map(|at| keys.swap_remove(at));
    let room = WARNED_AUDITS - usize::from(very.is_some());
    for _ in 0..room.min(keys.len()) {
        let at = shared.audits.below(keys.len() as u64) as usize;
        shared.audits.push_front(Request {
            key: keys.swap_remove(at),
            why: Reason::Warned(accused),
            tries: 0,
        });
    }
    if let Some(key) = very {
        shared.audits.push_front(Request { key, why: Reason::Warned(accused), tries: 0 });
    }
}
