//! A prompt's answer: each step yields one token, plus the drafted tokens after it that
//! turn out right.
//!
//! Promise: the answer is the same as when decoding token by token. A drafted token counts only if
//! the engine, which sees all tokens before it, has chosen the same one. The first token that
//! differs is replaced by the engine's choice. State computed after it is never read again: the
//! next step overwrites it. A condition that ends an answer ends it at the same token.

use super::super::ask::Reply;
use super::super::conns::{Conns, Hint};
use super::super::figures::{Figures, StopReason};
use super::super::io::Output;
use super::super::shared::Shared;
use super::drafts::{Checked, Draft};
use super::{Life, Memory, Phase, Prompt};
use crate::draft::Source;
use crate::id::{Millis, NodeId, TokenId};
use crate::limits::MAX_LIKELIEST;
use crate::sampler::Sampling;

/// The outcome of a job.
pub(super) struct Step {
    /// Number of tokens whose state the job has put in place.
    pub end: usize,
    /// The drafted tokens that it verified after them, and their source.
    pub draft: Draft,
    pub source: Option<Source>,
    /// How many of those are right.
    pub right: usize,
    pub micros: u64,
}

/// Whether several tokens sampled this way can be verified at once in bounded memory. If the whole
/// vocabulary may be drawn from, choosing one token takes all of its logits.
pub(super) fn is_checkable(sampling: &Sampling) -> bool {
    sampling.looks_at(usize::MAX).is_some_and(|count| count <= MAX_LIKELIEST)
}

impl Prompt {
    /// The draft that a step whose known tokens end at `end` may verify. Only steps of the answer
    /// draft: the first token should come as soon as possible.
    pub(super) fn draft(
        &mut self,
        end: usize,
        shared: &Shared,
        now: Millis,
    ) -> (Draft, Option<Source>) {
        let (Memory::Blocks(blocks), Phase::Decode) = (&self.memory, &self.phase) else {
            return (Draft::new(), None);
        };
        let left = self.left().min(shared.config.context.saturating_sub(self.tokens.len()));
        debug_assert_eq!(end, self.ready + 1, "a step of the answer has one known token");
        self.drafts.next(blocks, &self.tokens, left, shared, now)
    }

    /// Number of tokens that the answer may still have.
    fn left(&self) -> usize {
        self.max_tokens.saturating_sub(self.figures.generated)
    }

    /// Asks peers what may come next, if that is useful.
    pub(super) fn ask_for_drafts(&mut self, shared: &mut Shared, conns: &mut Conns, now: Millis) {
        let left = self.left();
        if let Memory::Blocks(blocks) = &self.memory {
            self.drafts.ask(blocks, &self.tokens, left, shared, conns, now);
        }
    }

    /// A peer suggests what may come next.
    pub(in crate::node) fn on_hint(
        &mut self,
        hint: &Hint,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) {
        self.drafts.hear(hint, &self.tokens, shared, now);
        self.ask_for_drafts(shared, conns, now);
    }

    /// A job has succeeded: its tokens are in place, and the engine has chosen the tokens that
    /// follow its last ones.
    pub(super) fn go_on(
        &mut self,
        step: &Step,
        chosen: &[TokenId],
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> Life {
        let (end, prompt_end) = (step.end, self.figures.prompt_tokens);
        if self.ready < prompt_end {
            shared.trust.prefilled(end - self.ready, step.micros);
        }
        if end == prompt_end && self.ready + 1 == end {
            shared.costs.note_first(step.micros);
        }
        self.ready = end;
        if let Memory::Blocks(blocks) = &mut self.memory {
            blocks.share_whole(shared, conns, &self.tokens, end, now);
            if end == prompt_end {
                blocks.share_ragged(shared, &self.tokens, end);
            }
        }
        match chosen {
            _ if self.stopping => self.finish(StopReason::Stopped, shared, conns, now),
            [] => self.advance(shared, conns, now),
            chosen => self.take(step, chosen, shared, conns, now),
        }
    }

    /// Takes the engine's choices: the token after the known ones, and those after drafted tokens,
    /// as long as these are right.
    fn take(
        &mut self,
        step: &Step,
        chosen: &[TokenId],
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> Life {
        let right = step.right;
        let decoded = self.figures.generated > 0;
        let before = self.tokens.len();
        let ended = chosen
            .iter()
            .take(right + 1)
            .find_map(|token| self.on_token(*token, shared, conns, now));
        // The drafted tokens in the answer have been computed like all tokens before them.
        let drafted = right.min(self.tokens.len() - before);
        if drafted > 0 {
            self.ready = before + drafted;
            if let Memory::Blocks(blocks) = &mut self.memory {
                blocks.share_whole(shared, conns, &self.tokens, self.ready, now);
            }
        }
        if decoded {
            let Step { draft, source, micros, .. } = step;
            let gained = self.tokens.len() - before;
            let checked = Checked {
                gained,
                drafted: draft.len(),
                source: *source,
                right: drafted,
                micros: *micros,
            };
            self.drafts.learn(&checked, &mut self.figures.drafts, shared);
        }
        self.drafts.compare(&self.tokens, before, shared, now);
        if let Some(stop) = ended {
            return self.finish(stop, shared, conns, now);
        }
        self.ask_for_drafts(shared, conns, now);
        self.run_to(self.tokens.len(), shared, conns, now)
    }

    /// Adds the answer's next token. Returns why the answer ends with it, if it does.
    fn on_token(
        &mut self,
        token: TokenId,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> Option<StopReason> {
        if let (Memory::Blocks(blocks), Phase::Prefill(_)) = (&mut self.memory, &self.phase) {
            blocks.end_fetch(shared, conns, now);
        }
        self.phase = Phase::Decode;
        let elapsed = Figures::since(self.asked_at, now);
        if self.figures.generated == 0 {
            self.count_prompt();
            self.figures.ttft_ms = elapsed;
        }
        self.figures.ttlt_ms = elapsed;
        let private = matches!(self.memory, Memory::Private(_));
        if !private && shared.config.end_tokens.contains(&token) {
            return Some(StopReason::End);
        }
        self.figures.generated += 1;
        self.tokens.push(token);
        shared.out.push_back(Output::Reply(self.id, Reply::Token(token)));
        if self.watch.as_mut().is_some_and(|watch| watch.ends_with(token)) {
            return Some(StopReason::StopString);
        }
        if self.figures.generated >= self.max_tokens {
            return Some(StopReason::MaxTokens);
        }
        (self.tokens.len() >= shared.config.context).then_some(StopReason::ContextFull)
    }

    /// Counts where the prompt's tokens came from.
    fn count_prompt(&mut self) {
        let total = self.figures.prompt_tokens;
        self.figures.own = 0;
        self.figures.peers.clear();
        let Memory::Blocks(blocks) = &self.memory else {
            self.figures.computed = self.ready.min(total);
            return;
        };
        let taken: Vec<_> =
            blocks.rows.iter().map(|row| row.taken).filter(|taken| taken.tokens > 0).collect();
        for taken in &taken {
            self.figures.took(taken.from, taken.tokens);
        }
        self.figures.computed =
            self.ready.min(total).saturating_sub(taken.iter().map(|taken| taken.tokens).sum());
        self.figures.fetched_ms = self.figures.fetched_ms.filter(|_| self.figures.from_peers() > 0);
    }

    pub(super) fn finish(
        &mut self,
        stop: StopReason,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> Life {
        if let Memory::Blocks(blocks) = &mut self.memory
            && self.ready > self.figures.prompt_tokens
        {
            blocks.share_ragged(shared, &self.tokens, self.ready);
        }
        self.figures.stop = stop;
        if self.figures.generated == 0 {
            self.count_prompt();
            self.figures.ttlt_ms = Figures::since(self.asked_at, now);
            self.figures.ttft_ms = self.figures.ttlt_ms;
        }
        shared.stats.answered += 1;
        let name = |(node, _): &(NodeId, usize)| shared.catalog.name(*node);
        self.figures.names = self.figures.peers.iter().map(name).collect();
        shared.out.push_back(Output::Reply(self.id, Reply::Done(self.figures.clone())));
        self.let_go(shared, conns, now)
    }
}
