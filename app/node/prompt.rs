//! One prompt's life, from its arrival to its last token.

use core::fmt;
use std::sync::Arc;

use crate::cache::{Chain, Link};
use crate::id::{Millis, NodeId, TokenId};
use crate::kv::{Plane, Sequence};
use crate::limits::{BLOCK_TOKENS, MAX_QUEUED_PROMPTS, PREFILL_STEP_TOKENS};
use crate::sampler::Sampling;

use super::fetching::Fetching;
use super::figures::{Figures, StopReason};
use super::pages::Place;
use super::progress::{Progress, Reports};
use super::{Node, Output};

/// Names one prompt for whoever asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AskId(pub u64);

/// Reads an answer along and says where it ends. What it says depends on nothing but the tokens that it has been shown.
pub trait Watch: fmt::Debug {
    /// Whether the answer is over with this token, which is part of it.
    fn ends_with(&mut self, token: TokenId) -> bool;
}

/// A prompt to be answered.
#[derive(Debug)]
pub struct Ask {
    /// Named by the asker.
    pub id: AskId,
    /// The prompt, beginning-of-sequence token included.
    pub tokens: Vec<TokenId>,
    /// Tokens of the answer, at most.
    pub max_tokens: usize,
    /// How the answer's tokens are chosen.
    pub sampling: Sampling,
    /// Computed in memory of its own: nothing that is known is used, nothing is kept or told. For measuring; its answer does not end
    /// before `max_tokens`.
    pub private: bool,
    /// Ends the answer before that, where there is one.
    pub watch: Option<Box<dyn Watch>>,
}

/// Work for the engine: run `tokens` at positions from `first` on, on the pages of `sequence`.
#[derive(Clone, Debug)]
pub struct Job {
    /// Named by the node.
    pub id: u64,
    /// At least one.
    pub tokens: Vec<TokenId>,
    /// Position of the first of them.
    pub first: usize,
    /// Where their KV goes, and where the KV of all before them is.
    pub sequence: Arc<Sequence>,
    /// When given, the token after the last is to be chosen.
    pub sampling: Option<Sampling>,
    /// The latest tokens up to the last of these, as far back as the sampling looks.
    pub recent: Vec<TokenId>,
}

/// A finished job.
#[derive(Clone, Debug)]
pub struct JobDone {
    /// The job's name.
    pub id: u64,
    /// The chosen token, if one was asked for; else why the job failed.
    pub result: Result<Option<TokenId>, String>,
    /// How long it took.
    pub micros: u64,
}

/// What comes back to whoever asked.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// The first token is not here, but so much is.
    Progress(Progress),
    /// The next token of the answer.
    Token(TokenId),
    /// The answer is complete.
    Done(Figures),
    /// There is no answer, and why.
    Failed(String),
}

/// The prompt being answered.
pub(super) struct Active {
    pub ask: AskId,
    pub chain: Chain,
    /// The prompt, then the answer.
    pub tokens: Vec<TokenId>,
    pub figures: Figures,
    /// The peer that gave each block, where one did.
    pub given_by: Vec<(usize, NodeId)>,
    pub fetching: Option<Fetching>,
    pub links: Vec<Link>,
    pub places: Vec<[Place; 2]>,
    max_tokens: usize,
    watch: Option<Box<dyn Watch>>,
    sampling: Sampling,
    asked_at: Millis,
    pub reports: Reports,
    /// Tokens whose KV is in place.
    pub ready: usize,
    /// End of the job under way.
    target: usize,
    job: Option<u64>,
    pub stopping: bool,
    /// It was begun anew, without the state that was here.
    again: bool,
    /// A reset of the blocks came meanwhile: the answer ends as it began, and leaves nothing in the cache.
    pub outdated: bool,
    /// The memory of a prompt that leaves the slab alone.
    private: Option<Arc<Sequence>>,
}

impl Active {
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.fetching.as_ref().map(|fetching| fetching.deadline)
    }
}

impl Node {
    pub(super) fn on_ask(&mut self, ask: Ask, now: Millis) {
        if self.active.is_none() {
            self.begin(ask, now, now);
        } else if self.queue.len() < MAX_QUEUED_PROMPTS {
            self.queue.push_back((ask, now));
        } else {
            self.refuse(ask.id, format!("{MAX_QUEUED_PROMPTS} prompts wait already: ask again when one is answered"));
        }
    }

    /// Ends an answer: at once when it waits for peers or for its turn, else when the engine has done its step.
    pub(super) fn on_stop(&mut self, ask: AskId, now: Millis) {
        if let Some(at) = self.queue.iter().position(|(waiting, _)| waiting.id == ask) {
            let stopped = self.queue.remove(at).map_or(0, |(ask, _)| ask.tokens.len());
            self.outputs.push_back(Output::Reply(ask, Reply::Done(Figures::new(stopped))));
            return;
        }
        let Some(mut active) = self.active.take_if(|active| active.ask == ask) else { return };
        active.stopping = true;
        let fetches = active.fetching.is_some();
        self.active = Some(active);
        if fetches {
            self.end_fetch(now);
        }
    }

    fn refuse(&mut self, ask: AskId, reason: String) {
        self.stats.refused += 1;
        self.outputs.push_back(Output::Reply(ask, Reply::Failed(reason)));
    }

    /// Why this prompt cannot be answered on this node, if so.
    fn objection(&self, ask: &Ask) -> Option<String> {
        let count = ask.tokens.len();
        if count == 0 {
            return Some("the prompt is empty: type some text".to_string());
        }
        if count >= self.config.context {
            let room = self.config.context.saturating_sub(1);
            return Some(format!("the prompt has {count} tokens, the context takes {room}: shorten it or raise --context"));
        }
        let blocks = count.saturating_add(ask.max_tokens.max(1)).min(self.config.context).div_ceil(BLOCK_TOKENS);
        let near = (self.config.shape.window() + PREFILL_STEP_TOKENS).div_ceil(BLOCK_TOKENS) + 2;
        for (plane, needed) in [(Plane::Global, blocks + 1), (Plane::Sliding, blocks.min(near) + 1)] {
            let slots = self.cache.stats().planes[plane as usize].slots;
            if needed > slots && self.config.shape.plane_bytes(plane, 1) > 0 {
                return Some(format!("the prompt needs {needed} blocks, the slab has {slots}: shorten it or raise --slab"));
            }
        }
        None
    }

    fn begin(&mut self, ask: Ask, asked_at: Millis, now: Millis) {
        if let Some(reason) = self.objection(&ask) {
            self.refuse(ask.id, reason);
            return self.begin_next(now);
        }
        if ask.private {
            return self.begin_private(ask, now);
        }
        let chain = Chain::of(&self.secret, self.root, &ask.tokens);
        let supply = self.supply(&chain, &ask.tokens, self.config.sharing);
        let plan = self.plan(&supply, ask.tokens.len(), self.config.sharing, now);
        let mut active = Active {
            ask: ask.id,
            figures: Figures::new(ask.tokens.len()),
            links: chain.blocks.clone(),
            chain,
            tokens: ask.tokens,
            given_by: Vec::new(),
            fetching: None,
            places: Vec::new(),
            max_tokens: ask.max_tokens.max(1),
            watch: ask.watch,
            sampling: ask.sampling,
            asked_at,
            reports: Reports::new(now),
            ready: 0,
            target: 0,
            job: None,
            stopping: false,
            again: false,
            outdated: false,
            private: None,
        };
        if !plan.fetch.is_empty() {
            self.hold_own(&mut active, &supply, plan.resume);
            self.start_fetch(&mut active, &supply, &plan, now);
        }
        let fetching = active.fetching.is_some();
        self.active = Some(active);
        if fetching { self.issue_wants(now) } else { self.compute(now) }
    }

    /// Computes a prompt whose state nobody else is to see. Its time counts from here: it is what is measured.
    fn begin_private(&mut self, ask: Ask, now: Millis) {
        let (count, room) = (ask.tokens.len(), ask.tokens.len().saturating_add(ask.max_tokens).min(self.config.context));
        let mut figures = Figures::new(count);
        figures.computed = count;
        self.active = Some(Active {
            ask: ask.id,
            chain: Chain::of(&self.secret, self.root, &[]),
            tokens: ask.tokens,
            figures,
            given_by: Vec::new(),
            fetching: None,
            links: Vec::new(),
            places: Vec::new(),
            max_tokens: ask.max_tokens.max(1),
            watch: ask.watch,
            sampling: ask.sampling,
            asked_at: now,
            reports: Reports::new(now),
            ready: 0,
            target: 0,
            job: None,
            stopping: false,
            again: true,
            outdated: true,
            private: Some(Arc::new(Sequence::private(&self.config.shape, room))),
        });
        self.next_prefill(now);
    }

    fn begin_next(&mut self, now: Millis) {
        if let Some((ask, asked_at)) = self.queue.pop_front() {
            self.begin(ask, asked_at, now);
        }
    }

    /// Everything that will be fetched is here: settles where to resume, and starts the engine.
    pub(super) fn compute(&mut self, now: Millis) {
        let Some(mut active) = self.active.take() else { return };
        let mut supply = self.supply(&active.chain, &active.tokens, false);
        let resume = loop {
            let resume = self.plan(&supply, active.tokens.len(), false, now).resume;
            self.release_beyond(&mut active, resume);
            self.hold_own(&mut active, &supply, resume);
            if self.resume_within(&mut active, &supply, resume) {
                break resume;
            }
            // An earlier place may need sliding planes that this one did not: it is planned, not assumed.
            supply.truncate(resume / BLOCK_TOKENS);
        };
        self.account(&mut active, resume);
        active.ready = resume;
        self.active = Some(active);
        self.next_prefill(now);
    }

    fn account(&mut self, active: &mut Active, resume: usize) {
        for start in (0..resume).step_by(BLOCK_TOKENS) {
            let block = start / BLOCK_TOKENS;
            let giver = active.given_by.iter().find(|(given, _)| *given == block).map(|(_, node)| *node);
            active.figures.took(giver, (resume - start).min(BLOCK_TOKENS));
        }
        active.figures.computed = active.figures.prompt_tokens - resume;
    }

    /// Sends the engine the next piece of the prompt, ending on a block boundary or at the prompt's end.
    fn next_prefill(&mut self, now: Millis) {
        let Some(active) = &self.active else { return };
        let total = active.tokens.len();
        let end = active.ready + PREFILL_STEP_TOKENS;
        let end = if end >= total { total } else { end - end % BLOCK_TOKENS };
        self.run_to(end, now);
    }

    /// Makes room for the tokens up to `end` and gives them to the engine.
    fn run_to(&mut self, end: usize, now: Millis) {
        let Some(mut active) = self.active.take() else { return };
        let blocks = if active.private.is_some() { 0..0 } else { active.ready / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS) };
        for block in blocks {
            for plane in Plane::ALL {
                if matches!(active.place(block, plane), Place::None) {
                    let Some(slot) = self.reserve_before_peers(plane, now) else {
                        return self.out_of_slots(active, now);
                    };
                    *active.place(block, plane) = Place::Private(slot);
                }
            }
        }
        let sampling = (end == active.tokens.len()).then_some(active.sampling);
        self.jobs += 1;
        active.target = end;
        active.job = Some(self.jobs);
        let job = Job {
            id: self.jobs,
            tokens: active.tokens[active.ready..end].to_vec(),
            first: active.ready,
            sequence: active.private.clone().unwrap_or_else(|| Arc::new(active.sequence(&self.config.shape))),
            sampling,
            recent: sampling.map_or(Vec::new(), |sampling| sampling.repeat.recent(&active.tokens).to_vec()),
        };
        self.outputs.push_back(Output::Engine(job));
        self.active = Some(active);
    }

    fn out_of_slots(&mut self, active: Active, now: Millis) {
        if active.figures.generated > 0 {
            return self.finish(active, StopReason::SlabFull, now);
        }
        let reason = "the slab is full of blocks in use: ask again in a moment, or raise --slab".to_string();
        self.fail(active, reason, now);
    }

    pub(super) fn on_engine(&mut self, done: JobDone, now: Millis) {
        let Some(mut active) = self.active.take() else { return };
        if active.job != Some(done.id) {
            self.active = Some(active);
            return;
        }
        active.job = None;
        let next = match done.result {
            Ok(next) => next,
            Err(reason) if active.figures.generated == 0 && !active.again && !active.stopping => {
                return self.compute_again(active, reason, now);
            }
            Err(reason) => return self.fail(active, reason, now),
        };
        let prompt_end = active.figures.prompt_tokens;
        if active.ready < prompt_end {
            self.rates.prefilled(active.target - active.ready, done.micros, now);
        }
        active.ready = active.target;
        self.share_finished(&mut active);
        if active.ready == prompt_end {
            self.share_ragged(&mut active);
        }
        match next {
            _ if active.stopping => self.finish(active, StopReason::Stopped, now),
            None => {
                self.active = Some(active);
                self.next_prefill(now);
            }
            Some(token) => self.on_token(active, token, now),
        }
    }

    /// The engine failed before its first token. When it stood on state that was here already, that state may be what is wrong, on
    /// this node or on the peer that gave it: it is forgotten, the peer is left alone for a while, and everything is computed, once.
    fn compute_again(&mut self, mut active: Active, reason: String, now: Millis) {
        let supply = self.supply(&active.chain, &active.tokens, false);
        let Some(first) = supply.links.first().filter(|_| active.figures.computed < active.figures.prompt_tokens) else {
            return self.fail(active, reason, now);
        };
        self.stats.states_distrusted += 1;
        self.warn(format!("the state that the prompt began with is of no use ({reason}): forgotten, and computed again"));
        self.release_beyond(&mut active, 0);
        self.cache.forget(&first.key);
        for (_, node) in active.given_by.drain(..) {
            self.rates.unusable(node, now);
        }
        active.figures = Figures::new(active.tokens.len());
        active.again = true;
        self.active = Some(active);
        self.compute(now);
    }

    fn on_token(&mut self, mut active: Active, token: TokenId, now: Millis) {
        let elapsed = Figures::since(active.asked_at, now);
        if active.figures.generated == 0 {
            active.figures.ttft_ms = elapsed;
        }
        active.figures.ttlt_ms = elapsed;
        if active.private.is_none() && self.config.end_tokens.contains(&token) {
            return self.finish(active, StopReason::End, now);
        }
        active.figures.generated += 1;
        active.tokens.push(token);
        self.outputs.push_back(Output::Reply(active.ask, Reply::Token(token)));
        if active.watch.as_mut().is_some_and(|watch| watch.ends_with(token)) {
            return self.finish(active, StopReason::StopString, now);
        }
        if active.figures.generated >= active.max_tokens {
            return self.finish(active, StopReason::MaxTokens, now);
        }
        if active.tokens.len() >= self.config.context {
            return self.finish(active, StopReason::ContextFull, now);
        }
        let end = active.tokens.len();
        self.active = Some(active);
        self.run_to(end, now);
    }

    pub(super) fn finish(&mut self, mut active: Active, stop: StopReason, now: Millis) {
        if active.ready > active.figures.prompt_tokens {
            self.share_ragged(&mut active);
        }
        active.figures.stop = stop;
        if active.figures.generated == 0 {
            active.figures.ttlt_ms = Figures::since(active.asked_at, now);
            active.figures.ttft_ms = active.figures.ttlt_ms;
        }
        self.stats.answered += 1;
        self.outputs.push_back(Output::Reply(active.ask, Reply::Done(active.figures.clone())));
        self.let_go(active);
        self.begin_next(now);
    }

    fn fail(&mut self, active: Active, reason: String, now: Millis) {
        self.refuse(active.ask, reason);
        self.let_go(active);
        self.begin_next(now);
    }

    /// How busy this node is, in percent of the prompts that it takes at once: the one being answered and those that wait.
    pub(super) fn load_percent(&self) -> u8 {
        let prompts = self.queue.len() + usize::from(self.active.is_some());
        (100 * prompts / (MAX_QUEUED_PROMPTS + 1)) as u8
    }
}
