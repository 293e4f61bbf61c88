//! One prompt's life, from its arrival to its last token.
//!
//! A prompt starts computing at once, from its head, and asks peers for its tail. The planner
//! decides where the two meet as they progress, from the table of blocks (`blocks`). A prompt
//! handles its own events and borrows what the node's parts share.

mod blocks;
mod caching;
mod decode;
mod drafts;
mod fetch;
mod habits;
mod jobs;
mod map;
mod release;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::id::{Millis, TokenId};
use crate::kv::Sequence;
use crate::limits::{BLOCK_TOKENS, PREFILL_STEP_TOKENS};
use crate::planner;
use crate::sampler::Sampling;

use super::ask::{Ask, AskId, Refusal, Reply, Watch};
use super::conns::{ConnEvent, Conns};
use super::figures::{Figures, StopReason};
use super::io::Output;
use super::progress::{Progress, Reports};
use super::shared::Shared;

pub(crate) use map::PromptMap;

use blocks::Blocks;
use decode::is_checkable;
use drafts::Drafts;
use fetch::Peers;
use jobs::Running;

/// Whether a prompt continues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Going,
    Over,
}

/// Where the KV state of a prompt is.
#[expect(clippy::large_enum_variant, reason = "there is one")]
enum Memory {
    /// In slots of the slab, recorded in the table.
    Blocks(Blocks),
    /// In separate memory: a measurement that nothing else may see.
    Private(Arc<Sequence>),
}

/// What a prompt is doing.
enum Phase {
    /// Its tokens are being computed or fetched.
    Prefill(Peers),
    /// Its answer is being generated.
    Decode,
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
    /// Number of tokens whose state is in place.
    ready: usize,
    running: Option<Running>,
    /// The prompt was stopped: it ends when the engine releases its slots.
    stopping: bool,
    /// It was restarted without using any stored state.
    again: bool,
}

impl Prompt {
    /// Starts a prompt. A private prompt's time counts from here, since that is what is measured.
    pub(super) fn begin(
        ask: Ask,
        asked_at: Millis,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> (Prompt, Life) {
        let count = ask.tokens.len();
        let (memory, peers) = if ask.private {
            let room = count.saturating_add(ask.max_tokens).min(shared.config.context);
            (
                Memory::Private(Arc::new(Sequence::private(&shared.config.shape, room))),
                Peers::none(),
            )
        } else {
            let peers = Peers::of(shared, &ask.tokens, now);
            (Memory::Blocks(Blocks::new(shared, &ask.tokens, peers.nodes())), peers)
        };
        let known = if let Memory::Blocks(blocks) = &memory { blocks.known(shared) } else { 0 };
        let drafts = match &memory {
            Memory::Blocks(blocks) if shared.config.reuse && is_checkable(&ask.sampling) => {
                if shared.config.drafts {
                    Drafts::of(blocks, &ask.tokens, shared, now)
                } else {
                    Drafts::off()
                }
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

    /// The id of this prompt.
    pub(super) fn id(&self) -> AskId {
        self.id
    }

    /// Whether the engine is working on it.
    pub(super) fn computes(&self) -> bool {
        self.running.is_some()
    }

    /// When [`Prompt::on_time`] must be called at the latest.
    pub(super) fn deadline(&self) -> Option<Millis> {
        match &self.phase {
            Phase::Prefill(peers) => peers.deadline(),
            Phase::Decode => None,
        }
    }

    /// A deadline may have passed.
    pub(super) fn on_time(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        match (&mut self.phase, &self.memory) {
            (Phase::Prefill(peers), Memory::Blocks(blocks))
                if peers.deadline().is_some_and(|at| at <= now) =>
            {
                peers.notice_stalls(blocks, shared, now);
                self.advance(shared, conns, now)
            }
            _ => Life::Going,
        }
    }

    /// Peers have announced more blocks: more of the prompt may be available.
    pub(super) fn on_news(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        let (Memory::Blocks(blocks), Phase::Prefill(_)) = (&mut self.memory, &self.phase) else {
            return Life::Going;
        };
        if !shared.config.reuse || self.again {
            return Life::Going;
        }
        blocks.look_up(shared);
        blocks.look_further(shared, &self.tokens);
        self.advance(shared, conns, now)
    }

    /// Peers whose backoff has ended may be asked again.
    pub(super) fn on_freed(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        match (&self.memory, &self.phase) {
            (Memory::Blocks(_), Phase::Prefill(_)) => self.advance(shared, conns, now),
            _ => Life::Going,
        }
    }

    /// Handles events of the wants.
    pub(super) fn on_conns(
        &mut self,
        events: &[ConnEvent],
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> Life {
        let (Memory::Blocks(blocks), Phase::Prefill(peers)) = (&mut self.memory, &mut self.phase)
        else {
            return Life::Going;
        };
        let mut moved = false;
        for event in events {
            moved |= peers.handle(event, blocks, shared, now);
        }
        if blocks.ending.as_ref().is_some_and(|ending| fetch::lost_hope(ending, shared)) {
            let shorter = blocks.ending.as_ref().map_or(0, |ending| ending.link().tokens.len() - 1);
            blocks.drop_ending(shared, conns, now);
            blocks.find_ending(shared, &self.tokens, shorter);
        }
        if moved { self.advance(shared, conns, now) } else { Life::Going }
    }

    /// The swarm was reset: nothing more comes from peers. If blocks were dropped, this prompt does
    /// not store its state either.
    pub(super) fn on_reset(
        &mut self,
        dropped: bool,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> Life {
        let Memory::Blocks(blocks) = &mut self.memory else { return Life::Going };
        blocks.keeps &= !dropped;
        let Phase::Prefill(peers) = &mut self.phase else { return Life::Going };
        *peers = Peers::none();
        blocks.end_wants(shared, conns, now);
        blocks.sources.clear();
        self.advance(shared, conns, now)
    }

    /// Ends the answer: at once, or as soon as the engine releases it.
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

    /// Does everything that can be done now: resumes from what has arrived, requests more, and
    /// gives the engine its next step.
    fn advance(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        if self.stopping {
            return Life::Going;
        }
        match (&self.memory, &self.phase) {
            (_, Phase::Decode) => Life::Going,
            (Memory::Private(_), Phase::Prefill(_)) if self.running.is_some() => Life::Going,
            (Memory::Private(_), Phase::Prefill(_)) => {
                let end = self.ready + PREFILL_STEP_TOKENS;
                let end = if end >= self.tokens.len() {
                    self.tokens.len()
                } else {
                    end - end % BLOCK_TOKENS
                };
                self.run_to(end, shared, conns, now)
            }
            (Memory::Blocks(_), Phase::Prefill(_)) => {
                self.take_over(shared, conns, now);
                self.meet(shared, conns, now)
            }
        }
    }

    /// Moves `ready` forward as far as the state in memory reaches.
    fn take_over(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) {
        let (Memory::Blocks(blocks), Phase::Prefill(peers)) = (&mut self.memory, &self.phase)
        else {
            return;
        };
        loop {
            let reach = peers.view(
                blocks,
                (self.ready, self.tokens.len()),
                shared,
                conns,
                now,
                planner::reach,
            );
            match &self.running {
                _ if reach <= self.ready => return,
                // If the engine is overtaken, it releases its slots first.
                Some(running)
                    if running.is_overtaken(
                        self.ready,
                        reach,
                        fetch::ms_per_token(shared),
                        now,
                    ) =>
                {
                    return self.abandon(shared);
                }
                Some(_) => return,
                None => {}
            }
            if blocks.commit_up_to(shared, conns, self.ready, reach, now) {
                self.figures.fetched_ms = Some(Figures::since(self.asked_at, now));
                self.ready = reach;
                return;
            }
            // An earlier resume point depends on other sliding planes.
            blocks.pin_held(shared, self.tokens.len());
        }
    }

    /// Requests the planes that are to meet the computation, and computes towards them.
    fn meet(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        let (Memory::Blocks(blocks), Phase::Prefill(peers)) = (&mut self.memory, &mut self.phase)
        else {
            return Life::Going;
        };
        let step =
            peers.view(blocks, (self.ready, self.tokens.len()), shared, conns, now, planner::step);
        peers.ask(&step.wants, blocks, shared, conns, now);
        let probes = peers.probes(self.ready, blocks, shared, now);
        peers.ask(&probes, blocks, shared, conns, now);
        if self.running.is_some() || peers.holds(step.hold_ms, shared, now) {
            return Life::Going;
        }
        self.run_to(step.compute_to, shared, conns, now)
    }

    fn fail(
        &mut self,
        refusal: Refusal,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> Life {
        shared.refuse(self.id, refusal);
        self.let_go(shared, conns, now)
    }

    fn let_go(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        if let Memory::Blocks(blocks) = &mut self.memory {
            blocks.let_go(shared, conns, now);
        }
        Life::Over
    }

    /// Reports the prompt's progress, if a report is due.
    pub(super) fn report_progress(&mut self, shared: &mut Shared, now: Millis) {
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
        let progress =
            Progress { prompt_tokens, own, peers, computed: self.ready.saturating_sub(in_place) };
        if let Some(reply) = self.reports.next(progress, now) {
            shared.out.push_back(Output::Reply(self.id, Reply::Progress(reply)));
        }
    }
}
