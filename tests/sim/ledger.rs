//! A record of a node's prompts, kept apart from the node: every prompt's tokens, when they came,
//! which rows its answer used, and which of them were computed for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use potluck::id::TokenId;

use super::engine::{Cell, Seen, drawn, extend, luck};
use super::heap::Micros;
use super::host::{Figures, Progress, Prompt, Task};

/// An answer as it arrived.
#[expect(
    clippy::large_enum_variant,
    reason = "most answers are done, and a test keeps some hundreds"
)]
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    Done { tokens: Vec<TokenId>, figures: Figures },
    Failed(String),
}

impl Answer {
    pub fn tokens(&self) -> &[TokenId] {
        match self {
            Answer::Done { tokens, .. } => tokens,
            Answer::Failed(reason) => panic!("no answer: {reason}"),
        }
    }

    pub fn figures(&self) -> &Figures {
        match self {
            Answer::Done { figures, .. } => figures,
            Answer::Failed(reason) => panic!("no answer: {reason}"),
        }
    }
}

/// One prompt.
#[derive(Debug)]
pub struct Asked {
    pub id: u64,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// The prompt, then the answer.
    pub tokens: Vec<TokenId>,
    /// The prefix up to each of `tokens`.
    pub prefixes: Vec<u64>,
    pub private: bool,
    /// The seed of its draws.
    pub luck: Option<u64>,
    pub asked_at: Micros,
    /// When all earlier prompts were done.
    pub turn_at: Micros,
    pub first_token_at: Option<Micros>,
    pub done_at: Micros,
    /// Whether the node was stopped, paused or slowed meanwhile, which makes its times meaningless.
    pub disturbed: bool,
    /// It was asked to stop.
    pub stopped: bool,
    /// Positions that were computed for this prompt.
    pub computed: BTreeSet<usize>,
    /// Rows read that this node never computed.
    pub foreign: BTreeSet<Cell>,
    /// Rows read that held wrong bytes.
    pub bad: BTreeSet<Cell>,
    pub progress: Vec<(Micros, Progress)>,
    /// Tokens that differ from those that the prefix gives.
    pub wrong_tokens: usize,
    /// Bytes that the node had received over connections when the prompt's turn came.
    pub received_before: u64,
    pub received: u64,
    pub answer: Option<Answer>,
}

impl Asked {
    /// From the question to the first token.
    pub fn ttft(&self) -> Micros {
        self.first_token_at.expect("the prompt was answered") - self.asked_at
    }

    /// The deeds, and whether each happened while it was answered; `None` if it was not answered.
    pub fn deeds(&self) -> Option<[(&'static str, bool); 12]> {
        let Some(Answer::Done { figures, .. }) = &self.answer else { return None };
        let drafts = &figures.drafts;
        Some([
            ("prompt answered", self.first_token_at.is_some()),
            ("prompt stopped", self.stopped),
            ("peers' state used", figures.from_peers() > 0),
            ("own state used", figures.own > 0),
            (
                "peers' state used and more computed",
                figures.from_peers() > 0 && figures.computed > 1,
            ),
            ("wrong bytes owned up to", !self.bad.is_empty()),
            ("drafts from peers right", drafts.peers.accepted > 0),
            ("drafts from peers wrong", drafts.peers.wrong > 0),
            ("drafts from peers' habits right", drafts.peer_habit.accepted > 0),
            ("drafts from peers' habits wrong", drafts.peer_habit.wrong > 0),
            ("drafts from the own slab right", drafts.slab.accepted > 0),
            ("drafts from the own slab wrong", drafts.slab.wrong > 0),
        ])
    }

    /// The same, excluding the time spent on other prompts.
    pub fn ttft_in_turn(&self) -> Micros {
        self.first_token_at.expect("the prompt was answered") - self.turn_at
    }
}

/// The prompts of one node.
#[derive(Default)]
pub struct Ledger {
    pub open: VecDeque<Asked>,
    pub closed: BTreeMap<u64, Asked>,
    pub last_done_at: Micros,
}

impl Ledger {
    pub fn ask(&mut self, prompt: &Prompt, root: u64, now: Micros, received: u64) {
        let Prompt { id, tokens, private, .. } = prompt;
        let mut prefix = root;
        let prefixes = tokens.iter().map(|token| {
            prefix = extend(prefix, *token);
            prefix
        });
        self.open.push_back(Asked {
            id: *id,
            prompt: tokens.len(),
            prefixes: prefixes.collect(),
            tokens: tokens.to_vec(),
            private: *private,
            luck: luck(&prompt.sampling),
            asked_at: now,
            turn_at: now,
            first_token_at: None,
            done_at: 0,
            disturbed: false,
            stopped: false,
            computed: BTreeSet::new(),
            foreign: BTreeSet::new(),
            bad: BTreeSet::new(),
            progress: Vec::new(),
            wrong_tokens: 0,
            received_before: received,
            received: 0,
            answer: None,
        });
    }

    pub fn find(&mut self, id: u64) -> Option<&mut Asked> {
        self.open.iter_mut().find(|asked| asked.id == id)
    }

    /// Prefixes of the sequence that a job works on, from the prompt whose turn it is. `None` if
    /// the job fits no such prompt.
    pub fn prefixes(&self, task: &Task) -> Option<Vec<u64>> {
        let asked = self.open.front()?;
        let end = task.first + task.tokens.len();
        let known = asked.tokens.len().min(end);
        let fits = task.first <= asked.tokens.len()
            && asked.tokens[task.first..known] == task.tokens[..known - task.first];
        let mut prefixes = asked.prefixes[..known].to_vec();
        for token in &task.tokens[known - task.first..] {
            let last = *prefixes.last()?;
            prefixes.push(extend(last, *token));
        }
        fits.then_some(prefixes)
    }

    /// A job of the current prompt ended; an abandoned one gave no KV.
    pub fn worked(&mut self, task: &Task, abandoned: bool, seen: &Seen) {
        let Some(asked) = self.open.front_mut() else { return };
        asked.foreign.extend(&seen.foreign);
        asked.bad.extend(&seen.bad);
        if !abandoned {
            asked.computed.extend(task.first..task.first + task.tokens.len());
        }
    }

    /// A token came. False when its prompt is not open.
    pub fn token(&mut self, id: u64, token: TokenId, now: Micros) -> bool {
        let Some(asked) = self.find(id) else { return false };
        let last = asked.prefixes.last().copied().unwrap_or(0);
        let word = asked.tokens.last().copied().unwrap_or(TokenId(0));
        asked.wrong_tokens += usize::from(token != drawn(last, word, asked.luck));
        asked.first_token_at.get_or_insert(now);
        asked.tokens.push(token);
        asked.prefixes.push(extend(last, token));
        true
    }

    /// A prompt has its outcome: moves it to the closed ones. `None` if it is not open.
    pub fn close(
        &mut self,
        id: u64,
        answer: Result<Figures, String>,
        now: Micros,
        received: u64,
    ) -> Option<&Asked> {
        let at = self.open.iter().position(|asked| asked.id == id)?;
        let mut asked = self.open.remove(at)?;
        let tokens = asked.tokens[asked.prompt..].to_vec();
        asked.answer = Some(match answer {
            Ok(figures) => Answer::Done { tokens, figures },
            Err(reason) => Answer::Failed(reason),
        });
        asked.done_at = now;
        asked.received = received - asked.received_before;
        self.last_done_at = now;
        if at == 0
            && let Some(next) = self.open.front_mut()
        {
            next.turn_at = now;
            next.received_before = received;
        }
        self.closed.insert(id, asked);
        self.closed.get(&id)
    }

    /// The node lost its power: its open prompts will not be answered. Returns their number.
    pub fn lose_all(&mut self) -> usize {
        let lost = self.open.len();
        self.open.clear();
        lost
    }

    pub fn disturb(&mut self) {
        self.open.iter_mut().for_each(|asked| asked.disturbed = true);
    }
}
