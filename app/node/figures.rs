//! The figures of an answer, and what a node counts.

use core::fmt;

use serde::Serialize;

use crate::draft::Tally;
use crate::id::{Millis, NodeId};

/// Peers named in one answer's figures; what more of them gave is counted with the last.
const MAX_NAMED: usize = 8;

/// Why an answer ended; in JSON by the names that servers of models use, where they have one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model ended its turn.
    End,
    /// A text that ends answers came.
    #[serde(rename = "stop")]
    StopString,
    /// The asked-for number of tokens was reached.
    #[serde(rename = "length")]
    MaxTokens,
    /// The context is full.
    #[serde(rename = "context")]
    ContextFull,
    /// The slab had no room for another block.
    #[serde(rename = "slab")]
    SlabFull,
    /// Somebody said stop.
    Stopped,
}

/// The figures of one answer.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figures {
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: usize,
    /// Of those, how many came from this node's own slab.
    pub own: usize,
    /// Of those, how many each peer gave.
    pub peers: heapless::Vec<(NodeId, usize), MAX_NAMED>,
    /// Of those, how many were computed. The last token always is.
    pub computed: usize,
    /// Of those, how many from the head this node's slab or its peers seemed to hold when the prompt began, in whole blocks and what goes
    /// on from them: behind them begins what was never asked before.
    pub(crate) known: usize,
    /// Tokens of the answer.
    pub generated: usize,
    /// Time to the first token, from the prompt's arrival, waiting in the queue included.
    pub ttft_ms: u64,
    /// Time to the last token.
    pub ttlt_ms: u64,
    /// Of the time to the first token, how long the engine worked for this prompt, steps that were given up included.
    pub(crate) prefill_us: u64,
    /// Of the time after that, how long the engine worked.
    pub(crate) decode_us: u64,
    /// Of both, how long choosing tokens took.
    pub(crate) sampling_us: u64,
    /// Drafted tokens that were checked for the answer, by where they came from.
    pub drafts: Tally,
    /// When the last of the peers' state that the answer stands on was taken over, from the prompt's arrival; none where there is none.
    pub(crate) fetched_ms: Option<u64>,
    /// Why the answer ended.
    #[serde(rename = "finish")]
    pub stop: StopReason,
}

impl Figures {
    pub(super) fn new(prompt_tokens: usize) -> Figures {
        Figures {
            prompt_tokens,
            own: 0,
            peers: heapless::Vec::new(),
            computed: 0,
            known: 0,
            generated: 0,
            ttft_ms: 0,
            ttlt_ms: 0,
            prefill_us: 0,
            decode_us: 0,
            sampling_us: 0,
            drafts: Tally::default(),
            fetched_ms: None,
            stop: StopReason::Stopped,
        }
    }

    /// Of a prompt that was stopped before anything was done for it.
    pub(crate) fn never_begun() -> Figures {
        Figures::new(0)
    }

    pub(super) fn took(&mut self, from: Option<NodeId>, tokens: usize) {
        let Some(node) = from else {
            self.own += tokens;
            return;
        };
        if let Some((_, count)) = self.peers.iter_mut().find(|(peer, _)| *peer == node) {
            *count += tokens;
        } else if let Err((_, tokens)) = self.peers.push((node, tokens)) {
            self.peers[MAX_NAMED - 1].1 += tokens;
        }
    }

    /// The engine has worked for this answer.
    pub(super) fn worked(&mut self, micros: u64, sampling_micros: u64) {
        let spent = if self.generated == 0 { &mut self.prefill_us } else { &mut self.decode_us };
        *spent += micros;
        self.sampling_us += sampling_micros;
    }

    pub(super) fn since(asked: Millis, now: Millis) -> u64 {
        (now - asked).0
    }

    /// Tokens that peers gave.
    pub fn from_peers(&self) -> usize {
        self.peers.iter().map(|(_, tokens)| tokens).sum()
    }

    /// Tokens of the answer after the first, over the time they took; none for an answer of one token.
    pub(crate) fn tokens_per_s(&self) -> Option<f64> {
        let ms = self.ttlt_ms - self.ttft_ms;
        (self.generated > 1 && ms > 0).then(|| (self.generated - 1) as f64 * 1e3 / ms as f64)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} prompt tokens: {} own slab, {} peers", self.prompt_tokens, self.own, self.from_peers())?;
        if !self.peers.is_empty() {
            let names: Vec<String> = self.peers.iter().map(|(node, tokens)| format!("{node}: {tokens}")).collect();
            write!(f, " ({})", names.join(", "))?;
        }
        write!(f, ", {} computed; {} generated; ", self.computed, self.generated)?;
        write!(f, "TTFT {:.3} s, TTLT {:.3} s", self.ttft_ms as f64 / 1e3, self.ttlt_ms as f64 / 1e3)?;
        if let Some(rate) = self.tokens_per_s() {
            write!(f, ", {rate:.1} tokens/s")?;
        }
        let drafts = self.drafts.all();
        if drafts.drafted > 0 {
            write!(f, ", {} of {} drafted tokens right", drafts.accepted, drafts.drafted)?;
        }
        f.write_str(match self.stop {
            StopReason::End => "; the model ended it",
            StopReason::StopString => "; ended at a stop string",
            StopReason::MaxTokens => "; cut at the number of tokens asked for",
            StopReason::ContextFull => "; cut because the context is full",
            StopReason::SlabFull => "; cut because the slab is full",
            StopReason::Stopped => "; stopped",
        })
    }
}

/// Counters of the joints; the rooms keep their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct NodeStats {
    /// Prompts answered.
    pub(crate) answered: u64,
    /// Prompts refused, with a reason to the asker.
    pub(crate) refused: u64,
    /// Block planes that came from peers, checked.
    pub(crate) planes_fetched: u64,
    /// Bytes of those.
    pub(crate) bytes_fetched: u64,
    /// Block planes sent to peers.
    pub planes_served: u64,
    /// Times that a peer brought nothing for too long while something was wanted of it.
    pub peers_stalled: u64,
    /// Block planes that came from peers, checked, and were of no use: computing was there first.
    pub(crate) planes_unused: u64,
    /// Steps of computing given up because a fetch overtook them.
    pub(crate) steps_abandoned: u64,
    /// Block planes asked of peers.
    pub wants_sent: u64,
    /// Of the planes asked for: the peer did not have them (a false positive or an eviction).
    pub wants_absent: u64,
    /// Connections that ended with wants open.
    pub connections_lost: u64,
    /// Connections closed because the peer sent what it must not.
    pub peer_faults: u64,
    /// Prompts begun anew because the engine could do nothing with the state that was here.
    pub(crate) states_distrusted: u64,
    /// Blocks that peers made, computed again and found equal.
    pub blocks_audited: u64,
    /// Audits that found wrong bytes, and whose they are.
    pub audits_failed: u64,
    /// Blocks that were to be audited and were not: they were not here any more, or there was no room or time.
    pub audits_skipped: u64,
    /// Connections ended because their peers held on to room that an answer needed.
    pub(crate) serves_ended: u64,
    /// Connections refused because too many stood.
    pub(crate) connections_refused: u64,
    /// Connections closed at once because too many came from one address.
    pub(crate) connections_throttled: u64,
    /// Served connections that gave their place to another peer.
    pub(crate) connections_reclaimed: u64,
    /// Times that a peer had no place for this node.
    pub refused_by_peers: u64,
    /// Drafted tokens that were checked, by where they came from.
    pub drafts: Tally,
    /// Questions for drafts that were asked of peers.
    pub drafts_asked: u64,
    /// The same that peers asked of this node.
    pub(crate) drafts_served: u64,
}
