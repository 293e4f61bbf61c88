//! Which peers are asked about their habits, and when.
//!
//! A peer whose answers are in the same manner may know what follows a few words, even if it has
//! never seen the prompt. Such a guess is worth less than any other and costs a question, so one is
//! asked only when nothing else says what comes next, at the prompt's end and wherever a path has
//! ended. After each question in vain an answer waits longer before the next one, and a peer that
//! is asked in vain several times in a row is left alone for a while.

use heapless::Vec as Bounded;

use super::blocks::Blocks;
use crate::catalog::Standing;
use crate::draft::Path;
use crate::id::{Millis, NodeId, TokenId};
use crate::kv::Plane;
use crate::limits::{HABIT_RUN, MAX_DRAFT_ASKS, MAX_HABIT_WAIT, TOKENS_PER_HABIT_ASK};
use crate::transfer::Question;

use super::super::conns::Conns;
use super::super::shared::Shared;

/// The questions of one answer.
#[derive(Default)]
pub(super) struct Habits {
    /// The peers that may know, best first; looked up for the first question.
    peers: Option<Bounded<NodeId, MAX_DRAFT_ASKS>>,
    /// Number of tokens before the first question, and from which the next one may be asked.
    began_at: Option<usize>,
    again_at: usize,
    asks: usize,
    /// Questions in vain since the last useful one.
    vain: u32,
}

impl Habits {
    /// Whether a text of `len` tokens may ask one more question.
    pub(super) fn may_ask(&mut self, len: usize) -> bool {
        let began_at = *self.began_at.get_or_insert(len);
        len >= self.again_at && self.asks < MAX_DRAFT_ASKS + (len - began_at) / TOKENS_PER_HABIT_ASK
    }

    /// The peer to ask next, if any.
    pub(super) fn best(
        &mut self,
        blocks: &Blocks,
        shared: &Shared,
        conns: &Conns,
        now: Millis,
    ) -> Option<NodeId> {
        let peers = self.peers.get_or_insert_with(|| near(blocks, shared, conns, now));
        let mut best = None;
        for node in peers.iter() {
            let promise = shared.trust.promise(*node, now);
            if let Some(promise) = promise
                && best.is_none_or(|(most, _)| promise > most)
            {
                best = Some((promise, *node));
            }
        }
        best.map(|(_, node)| node)
    }

    /// Asks a peer what is likely to follow `tokens`. Returns the request's id; none if it cannot
    /// be sent: then this answer does not ask that peer again.
    pub(super) fn ask(
        &mut self,
        node: NodeId,
        tokens: &[TokenId],
        shared: &mut Shared,
        conns: &mut Conns,
        now: Millis,
    ) -> Option<u32> {
        let addr = shared.catalog.peer(node).map(|known| known.addr);
        let recent = tokens.iter().skip(tokens.len().saturating_sub(HABIT_RUN)).copied().collect();
        let question = Question::Habit { recent };
        let id = addr.and_then(|addr| conns.want_draft((node, addr), question, shared, now));
        if id.is_some() {
            shared.stats.habits_asked += 1;
            self.asks += 1;
        } else if let Some(peers) = &mut self.peers {
            peers.retain(|peer| *peer != node);
        }
        id
    }

    /// A question was in vain, because of a wrong guess (`guessed`) or none; the text has `len`
    /// tokens by now.
    pub(super) fn in_vain(
        &mut self,
        (node, guessed): (NodeId, bool),
        len: usize,
        shared: &mut Shared,
        now: Millis,
    ) {
        shared.trust.asked_in_vain(node, guessed, now);
        self.again_at = len + (1 << self.vain.min(MAX_HABIT_WAIT.ilog2()));
        self.vain += 1;
    }

    /// `right` tokens of a peer's path were right, and the next one was `wrong` or is unknown. The
    /// text has `len` tokens by now.
    pub(super) fn judge(
        &mut self,
        path: &Path,
        right: usize,
        wrong: bool,
        len: usize,
        shared: &mut Shared,
        now: Millis,
    ) {
        let Some(node) = path.peer else { return };
        shared.trust.guessed(node, right, wrong, now);
        if path.matched > 0 {
            self.vain = 0;
        } else if wrong {
            self.in_vain((node, true), len, shared, now);
        }
    }
}

/// The peers that may know the manner of a prompt: those that seem to hold its beginning, the
/// longest one first, then those that this node is connected to.
fn near(
    blocks: &Blocks,
    shared: &Shared,
    conns: &Conns,
    now: Millis,
) -> Bounded<NodeId, MAX_DRAFT_ASKS> {
    if !shared.config.sharing {
        return Bounded::new();
    }
    let links: Vec<_> = blocks.rows.iter().map_while(|row| row.link.as_ref()).collect();
    let mut peers: Vec<_> = shared
        .catalog
        .peers()
        .filter(|peer| shared.catalog.standing(peer) == Standing::Shares)
        .filter(|peer| !shared.banned.contains(peer.node))
        .filter_map(|peer| {
            // A node holds no block without those before it.
            let held = links.partition_point(|link| {
                shared.catalog.seems_to_hold(peer.node, &link.key, Plane::Global)
            });
            let promise = shared.trust.promise(peer.node, now)?;
            (held > 0 || conns.reaches(peer.node)).then_some((held, promise, peer.node))
        })
        .collect();
    peers.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
    peers.into_iter().map(|(.., node)| node).take(MAX_DRAFT_ASKS).collect()
}
