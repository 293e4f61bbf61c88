//! An answer's drafts: how it is expected to continue, which peers to ask, and how the drafts fare.
//!
//! The first choice is what once followed according to this node's own slab. Next comes a peer that
//! seems to have answered the same prompt, then an echo of the text so far, or a habit of this
//! node, and last a peer's habit (`habits`). Every token of the answer is compared with the
//! expected one, whether it was drafted or not. A path is dropped at its first wrong token, and its
//! source's record remembers it.

use core::array;

use heapless::Vec as Bounded;

use super::blocks::Blocks;
use super::habits::Habits;
use crate::cache::{self, Link};
use crate::catalog::Standing;
use crate::draft::{self, Account, Outlook, Path, Record, Source, Tally};
use crate::id::{BlockKey, Millis, NodeId, TokenId};
use crate::kv::Plane;
use crate::limits::{
    BLOCK_TOKENS, DRAFT_TIMEOUT_MS, MAX_DRAFT_ASKS, MAX_DRAFT_TOKENS, MAX_PATH_TOKENS,
};
use crate::transfer::{Question, Tokens};

use super::super::conns::{Conns, Hint};
use super::super::shared::Shared;

/// Tokens for one step to verify.
pub(super) type Draft = Bounded<TokenId, MAX_DRAFT_TOKENS>;

/// An open request to a peer.
struct Asked {
    node: NodeId,
    id: u32,
    /// Number of tokens before the first requested one.
    from: usize,
    at: Millis,
    /// Whether it is about the peer's habits.
    is_habit: bool,
}

/// The outcome of one step's draft.
pub(super) struct Checked {
    /// How many tokens the answer has gained.
    pub gained: usize,
    /// How many tokens were drafted, their source, and how many were right.
    pub drafted: usize,
    pub source: Option<Source>,
    pub right: usize,
    /// The step's duration.
    pub micros: u64,
}

/// See the module's header.
pub(super) struct Drafts {
    /// Whether this answer uses drafts.
    on: bool,
    /// Whether this node's habits learn from it.
    learns: bool,
    path: Option<Path>,
    account: Account,
    asked: Option<Asked>,
    /// Peers that may know what follows, best first.
    peers: Bounded<NodeId, MAX_DRAFT_ASKS>,
    asks: usize,
    /// The peer that supplied the path knows no more of it.
    is_dry: bool,
    /// What peers are asked about their habits.
    habits: Habits,
}

impl Drafts {
    /// No drafts.
    pub(super) fn none() -> Drafts {
        Drafts {
            on: false,
            learns: false,
            path: None,
            account: Account::default(),
            asked: None,
            peers: Bounded::new(),
            asks: 0,
            is_dry: false,
            habits: Habits::default(),
        }
    }

    /// No drafts, but habits: what this node answers may help its peers.
    pub(super) fn off() -> Drafts {
        Drafts { learns: true, ..Drafts::none() }
    }

    /// Looks for what once followed the prompt: here, or otherwise at the peers that seem to hold
    /// the prompt to its very end.
    pub(super) fn of(blocks: &Blocks, tokens: &[TokenId], shared: &Shared, now: Millis) -> Drafts {
        let mut drafts = Drafts { on: true, ..Drafts::off() };
        drafts.path = drafts.slab_path(blocks, tokens, shared);
        if drafts.path.is_none() {
            drafts.peers = knowing(blocks, tokens, shared, now);
        }
        drafts
    }

    fn slab_path(&self, blocks: &Blocks, tokens: &[TokenId], shared: &Shared) -> Option<Path> {
        let (parent, begun) = place(blocks, tokens, &[], shared);
        Path::new(shared.cache.following(&parent, &begun), Source::Slab, None)
    }

    /// Asks a peer for more, if that is useful. The answer may have `left` more tokens.
    pub(super) fn ask(
        &mut self,
        blocks: &Blocks,
        tokens: &[TokenId],
        left: usize,
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) {
        if !self.on {
            return;
        }
        if let Some(asked) = self.asked.take_if(|asked| now >= asked.at + Millis(DRAFT_TIMEOUT_MS))
        {
            match asked.is_habit {
                true => self.habits.in_vain((asked.node, false), tokens.len(), shared, now),
                false => self.leave(asked.node),
            }
        }
        let (known, teller) = match &self.path {
            Some(Path { source: Source::Slab, .. }) => return,
            Some(Path { source: Source::Peer, .. }) if self.is_dry => return,
            Some(path) if path.source == Source::Peer => (path.tokens(), path.peer),
            _ => (&[][..], None),
        };
        // The last token of an answer is never drafted: it would gain nothing.
        if self.asked.is_some() || known.len() >= MAX_PATH_TOKENS / 2 || known.len() + 1 >= left {
            return;
        }
        let Some(node) = teller.or(self.peers.first().copied()) else {
            return self.ask_for_habits(blocks, tokens, shared, conns, now);
        };
        if self.asks >= MAX_DRAFT_ASKS + tokens.len() / BLOCK_TOKENS {
            return;
        }
        let Some(addr) = shared.catalog.peer(node).map(|known| known.addr) else {
            return self.leave(node);
        };
        let from = tokens.len() + known.len();
        let (parent, begun) = place(blocks, tokens, known, shared);
        let question = Question::Followed { parent, begun };
        match conns.want_draft((node, addr), question, shared, now) {
            Some(id) => {
                shared.stats.drafts_asked += 1;
                self.asks += 1;
                self.asked = Some(Asked { node, id, from, at: now, is_habit: false });
            }
            None => self.leave(node),
        }
    }

    /// Asks a peer about its habits, if nothing else says what comes next.
    fn ask_for_habits(
        &mut self,
        blocks: &Blocks,
        tokens: &[TokenId],
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) {
        if self.path.is_some() || !self.habits.may_ask(tokens.len()) {
            return;
        }
        let Some(node) = self.habits.best(blocks, shared, conns, now) else { return };
        if self.slab_path(blocks, tokens, shared).or_else(|| guess(tokens, shared)).is_some() {
            return;
        }
        if let Some(id) = self.habits.ask(node, tokens, shared, conns, now) {
            self.asked = Some(Asked { node, id, from: tokens.len(), at: now, is_habit: true });
        }
    }

    /// Stops asking this peer.
    fn leave(&mut self, node: NodeId) {
        self.peers.retain(|peer| *peer != node);
    }

    /// A peer has answered. Compares the part of its answer that is known by now.
    pub(super) fn hear(
        &mut self,
        hint: &Hint,
        tokens: &[TokenId],
        shared: &mut Shared,
        now: Millis,
    ) {
        let Some(asked) =
            self.asked.take_if(|asked| (asked.node, asked.id) == (hint.node, hint.id))
        else {
            return;
        };
        if asked.is_habit {
            return self.hear_habit(hint, asked.from, tokens, shared, now);
        }
        let known = match &mut self.path {
            Some(path) if path.source == Source::Slab => return,
            Some(path) if path.source == Source::Peer => {
                if path.peer == Some(hint.node)
                    && asked.from == tokens.len() + path.tokens().len()
                    && !hint.tokens.is_empty()
                {
                    path.extend(&hint.tokens);
                } else {
                    self.is_dry = true;
                }
                return;
            }
            _ => tokens.get(asked.from..),
        };
        let Some(mut path) = Path::new(hint.tokens.clone(), Source::Peer, Some(hint.node)) else {
            return self.leave(hint.node);
        };
        // Meanwhile another path, which this one would have continued, was dropped.
        let Some(known) = known else { return };
        let right = known.iter().take_while(|token| path.follow(**token)).count();
        let wrong = right < known.len() && !path.tokens().is_empty();
        shared.trust.drafted(hint.node, right, wrong, now);
        if right < known.len() {
            self.leave(hint.node);
        } else if !path.tokens().is_empty() {
            (self.path, self.is_dry) = (Some(path), false);
        }
    }

    /// A peer has said what is likely to follow the first `from` tokens.
    fn hear_habit(
        &mut self,
        hint: &Hint,
        from: usize,
        tokens: &[TokenId],
        shared: &mut Shared,
        now: Millis,
    ) {
        let known = tokens.get(from..).unwrap_or_default();
        let Some(mut path) = Path::new(hint.tokens.clone(), Source::PeerHabit, Some(hint.node))
        else {
            return self.habits.in_vain((hint.node, false), tokens.len(), shared, now);
        };
        let right = known.iter().take_while(|token| path.follow(**token)).count();
        let wrong = right < known.len() && !path.tokens().is_empty();
        self.habits.judge(&path, right, wrong, tokens.len(), shared, now);
        if self.path.is_none() && right == known.len() && !path.tokens().is_empty() {
            self.path = Some(path);
        }
    }

    /// The tokens to verify in the next step of an answer that may have `left` more tokens, and
    /// their source.
    pub(super) fn next(
        &mut self,
        blocks: &Blocks,
        tokens: &[TokenId],
        left: usize,
        shared: &Shared,
        now: Millis,
    ) -> (Draft, Option<Source>) {
        let nothing = (Draft::new(), None);
        if !self.on {
            return nothing;
        }
        if self.path.is_none() {
            self.path = self.slab_path(blocks, tokens, shared).or_else(|| guess(tokens, shared));
        }
        let Some(path) = &self.path else { return nothing };
        let record = match (path.source, path.peer) {
            (Source::Slab, _) => shared.slab_drafts,
            (Source::Peer, Some(node)) => shared.trust.drafts(node, now),
            (Source::PeerHabit, Some(node)) => shared.trust.habits(node, now),
            (Source::Habit, _) => shared.habit_drafts,
            (Source::Peer | Source::PeerHabit, None) | (Source::Echo, _) => shared.echoes,
        };
        let outlook = Outlook {
            chance: path.chance(&record),
            ahead: left.min(path.tokens().len() + 1),
            most: left.saturating_sub(1).min(path.tokens().len()).min(MAX_DRAFT_TOKENS),
            allowance_us: self.account.allowance_us(&shared.costs, path.source),
        };
        let count = draft::length(&shared.costs, &outlook);
        let draft: Draft = path.tokens()[..count].iter().copied().collect();
        (draft, (count > 0).then_some(path.source))
    }

    /// A step is done: updates the costs, the records and the answer's tally.
    pub(super) fn learn(&mut self, checked: &Checked, tally: &mut Tally, shared: &mut Shared) {
        shared.costs.note(1 + checked.drafted, checked.micros);
        self.account.note(&shared.costs, 1 + checked.drafted, checked.gained, checked.micros);
        if let Some(source) = checked.source {
            tally.note(source, checked.drafted, checked.right);
            shared.stats.drafts.note(source, checked.drafted, checked.right);
        }
    }

    /// `text` has gained the tokens from `before` on: compares them with the expected ones.
    pub(super) fn compare(
        &mut self,
        text: &[TokenId],
        before: usize,
        shared: &mut Shared,
        now: Millis,
    ) {
        if self.learns {
            (before..text.len()).for_each(|at| shared.habits.learn(&text[..at], text[at]));
        }
        let gained = &text[before..];
        let Some(path) = &mut self.path else { return };
        let right = gained.iter().take_while(|token| path.follow(**token)).count();
        let wrong = right < gained.len() && !path.tokens().is_empty();
        match (path.source, path.peer) {
            (Source::Slab, _) => shared.slab_drafts.note(right, wrong),
            (Source::Peer, Some(node)) => shared.trust.drafted(node, right, wrong, now),
            (Source::PeerHabit, Some(_)) => {
                self.habits.judge(path, right, wrong, text.len(), shared, now)
            }
            (Source::Habit, _) => shared.habit_drafts.note(right, wrong),
            (Source::Peer | Source::PeerHabit, None) | (Source::Echo, _) => {
                shared.echoes.note(right, wrong)
            }
        }
        let teller = path.peer.filter(|_| path.source == Source::Peer);
        if wrong || path.tokens().is_empty() {
            self.path = None;
        }
        if let Some(node) = teller.filter(|_| wrong) {
            self.leave(node);
        }
        self.peers.retain(|node| shared.trust.is_asked_for_drafts(*node, now));
    }

    /// The engine could not run a draft. Stops drafting for this answer, and lowers the record of
    /// the peer that supplied it.
    pub(super) fn give_up(&mut self, shared: &mut Shared, now: Millis) {
        match &self.path {
            Some(Path { source: Source::PeerHabit, peer: Some(node), .. }) => {
                (0..MAX_DRAFT_ASKS).for_each(|_| {
                    shared.trust.guessed(*node, 0, true, now);
                    shared.trust.asked_in_vain(*node, true, now);
                });
            }
            Some(Path { peer: Some(node), .. }) => {
                (0..MAX_DRAFT_ASKS).for_each(|_| shared.trust.drafted(*node, 0, true, now));
            }
            _ => {}
        }
        *self = Drafts { learns: self.learns, ..Drafts::none() };
    }
}

/// A guess from similar text: an echo or a habit, whichever kind was right more often.
fn guess(tokens: &[TokenId], shared: &Shared) -> Option<Path> {
    let echo = || Path::new(draft::echo(tokens), Source::Echo, None);
    let habit = || Path::new(shared.habits.guess(tokens), Source::Habit, None);
    if shared.habit_drafts.chance() > shared.echoes.chance() {
        habit().or_else(echo)
    } else {
        echo().or_else(habit)
    }
}

/// The position where the text `tokens` followed by `path` continues: its last whole block, and the
/// tokens after that.
fn place(
    blocks: &Blocks,
    tokens: &[TokenId],
    path: &[TokenId],
    shared: &Shared,
) -> (BlockKey, Tokens) {
    let total = tokens.len() + path.len();
    let whole = total / BLOCK_TOKENS;
    let links = blocks.rows.iter().take(whole).map_while(|row| row.link.as_ref());
    let (named, parent) =
        links.fold((0, shared.root), |(named, _), link: &Link| (named + 1, link.key));
    let at = |at: usize| tokens.get(at).copied().unwrap_or_else(|| path[at - tokens.len()]);
    let parent = (named..whole).fold(parent, |parent, block| {
        let ids: [TokenId; BLOCK_TOKENS] = array::from_fn(|token| at(block * BLOCK_TOKENS + token));
        cache::link(&shared.secret, parent, &ids).key
    });
    (parent, (whole * BLOCK_TOKENS..total).map(at).collect())
}

/// The peers that seem to hold the prompt to its very end and are worth asking: those whose drafts
/// were right most often first, then the nearest.
fn knowing(
    blocks: &Blocks,
    tokens: &[TokenId],
    shared: &Shared,
    now: Millis,
) -> Bounded<NodeId, MAX_DRAFT_ASKS> {
    if !shared.config.sharing {
        return Bounded::new();
    }
    let (parent, begun) = place(blocks, tokens, &[], shared);
    let end =
        if begun.is_empty() { parent } else { cache::link(&shared.secret, parent, &begun).key };
    let shares = |node: &NodeId| {
        let known = shared.catalog.peer(*node);
        known.is_some_and(|peer| shared.catalog.standing(peer) == Standing::Shares)
            && !shared.banned.contains(*node)
    };
    let asked = shared.catalog.holders(&end, Plane::Global).filter(shares);
    let mut asked: Vec<(f32, f32, NodeId)> = asked
        .filter(|node| shared.trust.is_asked_for_drafts(*node, now))
        .map(|node| {
            let round_trip_ms = shared.trust.of(node, now).round_trip_ms.unwrap_or(f32::MAX);
            (-Record::chance(&shared.trust.drafts(node, now)), round_trip_ms, node)
        })
        .collect();
    asked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    asked.into_iter().map(|(.., node)| node).take(MAX_DRAFT_ASKS).collect()
}
