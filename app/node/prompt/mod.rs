//! One prompt's life, from its arrival to its last token.
//!
//! A prompt begins to compute at once, from its head, and asks peers for its tail; where the two meet is decided as they go, by the
//! planner over the table of blocks (`blocks`). It handles its own events, with what the node's parts share lent to it.

mod blocks;
mod decode;
mod drafts;
mod fetch;
mod keep;
mod map;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::draft::Source;
use crate::id::{Millis, TokenId};
use crate::kv::Sequence;
use crate::limits::{BLOCK_TOKENS, PREFILL_STEP_TOKENS};
use crate::planner;
use crate::sampler::Sampling;

use super::ask::{Ask, AskId, Job, JobDone, JobFault, Judge, Refusal, Reply, Watch};
use super::conns::{ConnEvent, Conns};
use super::event::Event;
use super::figures::{Figures, StopReason};
use super::io::Output;
use super::progress::{Progress, Reports};
use super::shared::Shared;

pub(crate) use map::PromptMap;

use blocks::Blocks;
use decode::{Step, is_checkable};
use drafts::{Draft, Drafts};
use fetch::Peers;
use keep::JobSlots;

/// What it takes, in milliseconds, until the engine has given a job up and begun another: a layer's time on a quick machine.
const ABANDON_MS: f32 = 1.0;

/// Whether a prompt goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Going,
    Over,
}

/// Where the KV state of a prompt is.
#[expect(clippy::large_enum_variant, reason = "there is one")]
enum Memory {
    /// In slots of the slab, accounted for in the table.
    Blocks(Blocks),
    /// In memory of its own: a measurement, of which nobody is to see anything.
    Private(Arc<Sequence>),
}

/// What a prompt is doing.
enum Phase {
    /// Its tokens are worked through, or fetched.
    Prefill(Peers),
    /// Its answer is generated.
    Decode,
}

/// What the engine is doing for it.
struct Running {
    id: u64,
    began: Millis,
    end: usize,
    slots: JobSlots,
    /// Tokens behind `end` that are checked in the same pass, and where they come from.
    draft: Draft,
    source: Option<Source>,
    abandoned: bool,
}

impl Running {
    /// Whether going on from `reach` is quicker than waiting for the job, which began at token `first`.
    fn is_overtaken(&self, first: usize, reach: usize, ms_per_token: f32, now: Millis) -> bool {
        let left = (self.end - first) as f32 * ms_per_token - (now - self.began).0 as f32;
        let again = self.end.saturating_sub(reach) as f32 * ms_per_token;
        again + ABANDON_MS < left
    }
}

/// A prompt being answered.
pub(super) struct Prompt {
    id: AskId,
    /// The prompt, then the answer.
    tokens: Vec<TokenId>,
    figures: Figures,
    max_tokens: usize,
    watch: Option<Box<dyn Watch>>,
    sampling: Sampling,
    asked_at: Millis,
    reports: Reports,
    memory: Memory,
    phase: Phase,
    drafts: Drafts,
    /// Tokens whose state is in place.
    ready: usize,
    running: Option<Running>,
    /// Somebody said stop: it ends when the engine lets go of its slots.
    stopping: bool,
    /// It was begun anew, without the state that was here.
    again: bool,
}

impl Prompt {
    /// Begins. A private prompt's time counts from here: it is what is measured.
    pub(super) fn begin(ask: Ask, asked_at: Millis, shared: &mut Shared, conns: &mut Conns, now: Millis) -> (Prompt, Life) {
        let count = ask.tokens.len();
        let (memory, peers) = if ask.private {
            let room = count.saturating_add(ask.max_tokens).min(shared.config.context);
            (Memory::Private(Arc::new(Sequence::private(&shared.config.shape, room))), Peers::none())
        } else {
            let peers = Peers::of(shared, &ask.tokens, now);
            (Memory::Blocks(Blocks::new(shared, &ask.tokens, peers.nodes())), peers)
        };
        let known = if let Memory::Blocks(blocks) = &memory { blocks.known(shared) } else { 0 };
        let drafts = match &memory {
            Memory::Blocks(blocks) if shared.config.drafts && shared.config.reuse && is_checkable(&ask.sampling) => {
                Drafts::of(blocks, &ask.tokens, shared, now)
            }
            _ => Drafts::none(),
        };
        let mut prompt = Prompt {
            id: ask.id,
            tokens: ask.tokens,
            figures: Figures { known, ..Figures::new(count) },
            max_tokens: ask.max_tokens.max(1),
            watch: ask.watch,
            sampling: ask.sampling,
            asked_at: if ask.private { now } else { asked_at },
            reports: Reports::new(now),
            memory,
            phase: Phase::Prefill(peers),
            drafts,
            ready: 0,
            running: None,
            stopping: false,
            again: false,
        };
        prompt.ask_for_drafts(shared, conns, now);
        let life = prompt.advance(shared, conns, now);
        (prompt, life)
    }

    /// Whose prompt it is.
    pub(super) fn id(&self) -> AskId {
        self.id
    }

    /// Whether the engine works for it.
    pub(super) fn computes(&self) -> bool {
        self.running.is_some()
    }

    /// When [`Prompt::on_time`] is to be called at the latest.
    pub(super) fn deadline(&self) -> Option<Millis> {
        match &self.phase {
            Phase::Prefill(peers) => peers.deadline(),
            Phase::Decode => None,
        }
    }

    /// A moment that it waited for may have come.
    pub(super) fn on_time(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        match (&mut self.phase, &self.memory) {
            (Phase::Prefill(peers), Memory::Blocks(blocks)) if peers.deadline().is_some_and(|at| at <= now) => {
                peers.notice_stalls(blocks, shared, now);
                self.advance(shared, conns, now)
            }
            _ => Life::Going,
        }
    }

    /// Peers have said more of what they hold: more of the prompt may be held somewhere.
    pub(super) fn on_news(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        let (Memory::Blocks(blocks), Phase::Prefill(_)) = (&mut self.memory, &self.phase) else { return Life::Going };
        if !shared.config.reuse || self.again {
            return Life::Going;
        }
        blocks.look_up(shared);
        blocks.look_further(shared, &self.tokens);
        self.advance(shared, conns, now)
    }

    /// Peers that had no place may be asked again.
    pub(super) fn on_freed(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        match (&self.memory, &self.phase) {
            (Memory::Blocks(_), Phase::Prefill(_)) => self.advance(shared, conns, now),
            _ => Life::Going,
        }
    }

    /// Something became of what was asked of peers.
    pub(super) fn on_conns(&mut self, events: &[ConnEvent], shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        let (Memory::Blocks(blocks), Phase::Prefill(peers)) = (&mut self.memory, &mut self.phase) else { return Life::Going };
        let mut moved = false;
        for event in events {
            moved |= peers.hear(event, blocks, shared, now);
        }
        if blocks.ending.as_ref().is_some_and(|ending| fetch::lost_hope(ending, shared)) {
            let shorter = blocks.ending.as_ref().map_or(0, |ending| ending.link().tokens.len() - 1);
            blocks.drop_ending(shared, conns, now);
            blocks.find_ending(shared, &self.tokens, shorter);
        }
        if moved { self.advance(shared, conns, now) } else { Life::Going }
    }

    /// The swarm was reset: nothing more comes from peers, and where blocks were dropped, nothing of this is kept either.
    pub(super) fn on_reset(&mut self, dropped: bool, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        let Memory::Blocks(blocks) = &mut self.memory else { return Life::Going };
        blocks.keeps &= !dropped;
        let Phase::Prefill(peers) = &mut self.phase else { return Life::Going };
        *peers = Peers::none();
        blocks.end_wants(shared, conns, now);
        blocks.sources.clear();
        self.advance(shared, conns, now)
    }

    /// Ends the answer: at once, or as soon as the engine lets go.
    pub(super) fn stop(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        self.stopping = true;
        match &self.running {
            Some(_) => {
                self.abandon(shared);
                Life::Going
            }
            None => self.finish(StopReason::Stopped, shared, conns, now),
        }
    }

    fn abandon(&mut self, shared: &mut Shared) {
        if let Some(running) = self.running.as_mut().filter(|running| !running.abandoned) {
            running.abandoned = true;
            shared.stats.steps_abandoned += 1;
            shared.out.push_back(Output::Abandon(running.id));
        }
    }

    /// Does what can be done now: goes on from what has come, asks for more, and gives the engine its next step.
    fn advance(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        if self.stopping {
            return Life::Going;
        }
        match (&self.memory, &self.phase) {
            (_, Phase::Decode) => Life::Going,
            (Memory::Private(_), Phase::Prefill(_)) if self.running.is_some() => Life::Going,
            (Memory::Private(_), Phase::Prefill(_)) => {
                let end = self.ready + PREFILL_STEP_TOKENS;
                let end = if end >= self.tokens.len() { self.tokens.len() } else { end - end % BLOCK_TOKENS };
                self.run_to(end, shared, conns, now)
            }
            (Memory::Blocks(_), Phase::Prefill(_)) => {
                self.take_over(shared, conns, now);
                self.meet(shared, conns, now)
            }
        }
    }

    /// Goes on from as far as what is here reaches.
    fn take_over(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) {
        let (Memory::Blocks(blocks), Phase::Prefill(peers)) = (&mut self.memory, &self.phase) else { return };
        loop {
            let reach = peers.view(blocks, (self.ready, self.tokens.len()), shared, conns, now, planner::reach);
            match &self.running {
                _ if reach <= self.ready => return,
                // Where the engine is overtaken, it gives its slots back first.
                Some(running) if running.is_overtaken(self.ready, reach, fetch::ms_per_token(shared), now) => {
                    return self.abandon(shared);
                }
                Some(_) => return,
                None => {}
            }
            if blocks.settle(shared, conns, self.ready, reach, now) {
                self.figures.fetched_ms = Some(Figures::since(self.asked_at, now));
                self.ready = reach;
                return;
            }
            // A place to resume further back stands on other sliding planes.
            blocks.pin_held(shared, self.tokens.len());
        }
    }

    /// Asks peers for what is to meet the computing, and computes towards it.
    fn meet(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        let (Memory::Blocks(blocks), Phase::Prefill(peers)) = (&mut self.memory, &mut self.phase) else { return Life::Going };
        let step = peers.view(blocks, (self.ready, self.tokens.len()), shared, conns, now, planner::step);
        peers.ask(&step.wants, blocks, shared, conns, now);
        let probes = peers.probes(self.ready, blocks, shared, now);
        peers.ask(&probes, blocks, shared, conns, now);
        if self.running.is_some() || peers.holds(step.hold_ms, shared, now) {
            return Life::Going;
        }
        self.run_to(step.compute_to, shared, conns, now)
    }

    /// Makes room for the tokens up to `end` and gives them to the engine, with those that are drafted behind them.
    fn run_to(&mut self, end: usize, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        let (mut draft, mut source) = self.draft(end, shared, now);
        let (sequence, slots) = match &mut self.memory {
            Memory::Private(sequence) => (sequence.clone(), JobSlots::new()),
            Memory::Blocks(blocks) => {
                let Some(mut slots) = blocks.job_slots(shared, conns, (self.ready, end), now) else {
                    return self.out_of_slots(shared, conns, now);
                };
                draft.truncate(blocks.draft_slots(shared, (end, draft.len()), &mut slots));
                source = source.filter(|_| !draft.is_empty());
                (Arc::new(blocks.sequence(&shared.config.shape, self.ready, &slots)), slots)
            }
        };
        let judge = (end == self.tokens.len()).then(|| Judge {
            sampling: self.sampling,
            rows: 1 + draft.len(),
            recent: self.sampling.repeat.recent(&self.tokens).to_vec(),
        });
        shared.jobs += 1;
        let id = shared.jobs;
        let tokens = self.tokens[self.ready..end].iter().chain(&draft).copied().collect();
        self.running = Some(Running { id, began: now, end, slots, draft, source, abandoned: false });
        shared.out.push_back(Output::Engine(Job { id, tokens, first: self.ready, sequence, judge, audits: None }));
        Life::Going
    }

    fn out_of_slots(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        if self.figures.generated > 0 {
            return self.finish(StopReason::SlabFull, shared, conns, now);
        }
        self.fail(Refusal::SlabBusy, shared, conns, now)
    }

    /// The engine has done a job, or given it up.
    pub(super) fn on_engine(&mut self, done: JobDone, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        let Some(running) = self.running.take_if(|running| running.id == done.id) else { return Life::Going };
        let Running { end, mut slots, draft, source, .. } = running;
        self.figures.worked(done.micros, done.sampling_micros);
        match done.result {
            Ok(chosen) => {
                let right = draft.iter().zip(&chosen).take_while(|(drafted, chosen)| drafted == chosen).count();
                if let Memory::Blocks(blocks) = &mut self.memory {
                    // Blocks in which no drafted token is right are not kept.
                    let kept = (end + right).div_ceil(BLOCK_TOKENS) - self.ready / BLOCK_TOKENS;
                    keep::give_back(shared, slots.drain(kept..).collect());
                    blocks.computed(shared, conns, (self.ready, end), slots, now);
                }
                let step = Step { end, draft, source, right, micros: done.micros };
                self.go_on(&step, &chosen, shared, conns, now)
            }
            Err(fault) => {
                keep::give_back(shared, slots);
                match fault {
                    _ if self.stopping => self.finish(StopReason::Stopped, shared, conns, now),
                    JobFault::Abandoned => self.advance(shared, conns, now),
                    // The drafted tokens may be what it could not run.
                    JobFault::Failed(_) if !draft.is_empty() => {
                        self.drafts.give_up(shared, now);
                        self.run_to(end, shared, conns, now)
                    }
                    JobFault::Failed(reason) => self.begin_again(reason, shared, conns, now),
                }
            }
        }
    }

    /// The engine failed. Where it stood on state that it had not computed, that may be what is wrong, on this node or on the peer
    /// that gave it: it is forgotten, the peers that made it are not trusted for a while, and everything is computed, once.
    fn begin_again(&mut self, reason: String, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        let Memory::Blocks(blocks) = &mut self.memory else {
            return self.fail(Refusal::Engine(reason), shared, conns, now);
        };
        let taken = blocks.rows.iter().any(|row| row.taken.tokens > 0);
        if self.again || !taken || self.figures.generated > 0 {
            return self.fail(Refusal::Engine(reason), shared, conns, now);
        }
        shared.stats.states_distrusted += 1;
        let makers = blocks.foreign_makers();
        shared.tell(Event::StateDistrusted { reason, makers: makers.clone() });
        // Where several gave some of it, all but one may be honest.
        let guilty = makers.len() == 1;
        for node in makers {
            if guilty { shared.trust.lied(node, now) } else { shared.trust.stalled(node, now) }
        }
        let first = blocks.rows.first().and_then(|row| row.link.clone());
        blocks.let_go(shared, conns, now);
        if let Some(link) = first {
            shared.cache.forget(&link.key);
        }
        self.again = true;
        self.ready = 0;
        self.phase = Phase::Prefill(Peers::none());
        self.memory = Memory::Blocks(Blocks::bare(shared, &self.tokens));
        self.advance(shared, conns, now)
    }

    fn fail(&mut self, refusal: Refusal, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        shared.refuse(self.id, refusal);
        self.let_go(shared, conns, now)
    }

    fn let_go(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        if let Memory::Blocks(blocks) = &mut self.memory {
            blocks.let_go(shared, conns, now);
        }
        Life::Over
    }

    /// Tells how far the prompt has come, where that is due.
    pub(super) fn tell_progress(&mut self, shared: &mut Shared, now: Millis) {
        if self.figures.generated > 0 || self.stopping || !self.reports.due(now) {
            return;
        }
        let prompt_tokens = self.figures.prompt_tokens;
        let (own, peers) = match &self.memory {
            Memory::Blocks(blocks) => blocks.gathered(self.ready),
            Memory::Private(_) => (0, 0),
        };
        let in_place = match &self.memory {
            Memory::Blocks(blocks) => blocks.rows.iter().map(|row| row.taken.tokens).sum(),
            Memory::Private(_) => 0,
        };
        let progress = Progress { prompt_tokens, own, peers, computed: self.ready.saturating_sub(in_place) };
        if let Some(reply) = self.reports.next(progress, now) {
            shared.out.push_back(Output::Reply(self.id, Reply::Progress(reply)));
        }
    }
}
