//! The jobs that the engine does for a prompt, one at a time.
//!
//! A job computes the tokens after those in place, into slots that are reserved for it. When it is
//! done, its results become part of the table of blocks; if it was abandoned or has failed, its
//! slots are returned. A prompt whose engine failed on state that was not computed here begins
//! again without that state, once.

use std::sync::Arc;

use super::super::ask::{Job, JobDone, JobFault, Judge, Refusal};
use super::super::conns::Conns;
use super::super::event::Event;
use super::super::figures::StopReason;
use super::super::io::Output;
use super::super::shared::Shared;
use super::blocks::Blocks;
use super::caching::{self, JobSlots};
use super::decode::Step;
use super::drafts::Draft;
use super::fetch::Peers;
use super::{Life, Memory, Phase, Prompt};
use crate::draft::Source;
use crate::id::Millis;
use crate::limits::BLOCK_TOKENS;

/// Time, in milliseconds, for the engine to abandon a job and start another: one layer's time on a
/// fast machine.
const ABANDON_MS: f32 = 1.0;

/// The engine's current job for this prompt.
pub(super) struct Running {
    id: u64,
    began: Millis,
    /// The end of the known tokens that it computes.
    pub(super) end: usize,
    slots: JobSlots,
    /// Tokens after `end` that the same pass verifies, and their source.
    draft: Draft,
    source: Option<Source>,
    abandoned: bool,
}

impl Running {
    /// Whether resuming at `reach` is quicker than waiting for the job, which started at
    /// token `first`.
    pub(super) fn is_overtaken(
        &self,
        first: usize,
        reach: usize,
        ms_per_token: f32,
        now: Millis,
    ) -> bool {
        let left = (self.end - first) as f32 * ms_per_token - (now - self.began).0 as f32;
        let again = self.end.saturating_sub(reach) as f32 * ms_per_token;
        again + ABANDON_MS < left
    }
}

impl Prompt {
    /// Reserves slots for the tokens up to `end` and gives those tokens to the engine, followed by
    /// drafted ones.
    pub(super) fn run_to(
        &mut self,
        end: usize,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> Life {
        let (mut draft, mut source) = self.draft(end, shared, now);
        let (sequence, slots) = match &mut self.memory {
            Memory::Private(sequence) => (sequence.clone(), JobSlots::new()),
            Memory::Blocks(blocks) => {
                let Some(mut slots) = blocks.job_slots(shared, conns, (self.ready, end), now)
                else {
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
        self.running =
            Some(Running { id, began: now, end, slots, draft, source, abandoned: false });
        shared.out.push_back(Output::Engine(Job {
            id,
            tokens,
            first: self.ready,
            sequence,
            judge,
            audits: None,
        }));
        Life::Going
    }

    fn out_of_slots(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) -> Life {
        if self.figures.generated > 0 {
            return self.finish(StopReason::SlabFull, shared, conns, now);
        }
        self.fail(Refusal::SlabBusy, shared, conns, now)
    }

    /// The engine has finished or abandoned a job.
    pub(in crate::node) fn on_engine(
        &mut self,
        done: JobDone,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> Life {
        let Some(running) = self.running.take_if(|running| running.id == done.id) else {
            return Life::Going;
        };
        let Running { end, mut slots, draft, source, .. } = running;
        self.figures.worked(done.micros, done.sampling_micros);
        match done.result {
            Ok(chosen) => {
                let right = draft
                    .iter()
                    .zip(&chosen)
                    .take_while(|(drafted, chosen)| drafted == chosen)
                    .count();
                if let Memory::Blocks(blocks) = &mut self.memory {
                    // Blocks without a right drafted token are not kept.
                    let kept = (end + right).div_ceil(BLOCK_TOKENS) - self.ready / BLOCK_TOKENS;
                    caching::give_back(shared, slots.drain(kept..).collect());
                    blocks.computed(shared, conns, (self.ready, end), slots, now);
                }
                let step = Step { end, draft, source, right, micros: done.micros };
                self.go_on(&step, &chosen, shared, conns, now)
            }
            Err(fault) => {
                caching::give_back(shared, slots);
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

    /// The engine failed. If it depended on state that it had not computed, that state may be
    /// wrong, on this node or from the peer that sent it. The state is discarded, the peers that
    /// made it are distrusted for a while, and everything is computed, once.
    fn begin_again(
        &mut self,
        reason: String,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> Life {
        let Memory::Blocks(blocks) = &mut self.memory else {
            return self.fail(Refusal::Engine(reason), shared, conns, now);
        };
        let taken = blocks.rows.iter().any(|row| row.taken.tokens > 0);
        if self.again || !taken || self.figures.generated > 0 {
            return self.fail(Refusal::Engine(reason), shared, conns, now);
        }
        shared.stats.states_distrusted += 1;
        let makers = blocks.foreign_makers();
        shared.report(Event::StateDistrusted { reason, makers: makers.clone() });
        // If several peers supplied it, all but one may be honest.
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

    /// Asks the engine to abandon its job, once.
    pub(super) fn abandon(&mut self, shared: &mut Shared) {
        if let Some(running) = self.running.as_mut().filter(|running| !running.abandoned) {
            running.abandoned = true;
            shared.stats.steps_abandoned += 1;
            shared.out.push_back(Output::Abandon(running.id));
        }
    }
}
