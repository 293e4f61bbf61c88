//! The figures of an answer, and a node's counters.

use core::fmt;

use serde::Serialize;

use crate::draft::Tally;
use crate::id::{Millis, NodeId, NodeName};

/// Peers listed in one answer's figures. Contributions of further peers are added to
/// the last one's.
const MAX_NAMED: usize = 8;

/// Why an answer ended. In JSON it uses the names that model servers use, where they have one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model ended its turn.
    End,
    /// A stop string appeared.
    #[serde(rename = "stop")]
    StopString,
    /// The requested number of tokens was reached.
    #[serde(rename = "length")]
    MaxTokens,
    /// The context is full.
    #[serde(rename = "context")]
    ContextFull,
    /// The slab had no room for another block.
    #[serde(rename = "slab")]
    SlabFull,
    /// Somebody stopped it.
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
    /// What those peers are called, for people; JSON has their ids.
    #[serde(skip)]
    pub(crate) names: heapless::Vec<NodeName, MAX_NAMED>,
    /// Of those, how many were computed. The last token always is.
    pub computed: usize,
    /// How many tokens from the start of the prompt this node's slab or its peers seemed to hold
    /// when the prompt began, including a partial block at the end. The tokens after these had
    /// never been asked before.
    pub(crate) known: usize,
    /// Tokens of the answer.
    pub generated: usize,
    /// Time from the prompt's arrival to the first token, including the wait in the queue.
    pub ttft_ms: u64,
    /// Time to the last token.
    pub ttlt_ms: u64,
    /// Engine time spent on this prompt before the first token, including abandoned steps.
    pub(crate) prefill_us: u64,
    /// Engine time spent after the first token.
    pub(crate) decode_us: u64,
    /// How much of both went into choosing tokens.
    pub(crate) sampling_us: u64,
    /// Drafted tokens that were verified for the answer, by source.
    pub drafts: Tally,
    /// Time from the prompt's arrival until the last piece of peers' state that the answer uses was
    /// taken over; none if it uses none.
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
            names: heapless::Vec::new(),
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

    /// The figures of a prompt that was stopped before any work was done for it.
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

    /// Adds engine time spent on this answer.
    pub(super) fn worked(&mut self, micros: u64, sampling_micros: u64) {
        let spent = if self.generated == 0 { &mut self.prefill_us } else { &mut self.decode_us };
        *spent += micros;
        self.sampling_us += sampling_micros;
    }

    pub(super) fn since(asked: Millis, now: Millis) -> u64 {
        (now - asked).0
    }

    /// Number of tokens that peers supplied.
    pub fn from_peers(&self) -> usize {
        self.peers.iter().map(|(_, tokens)| tokens).sum()
    }

    /// Rate of the answer's tokens after the first; none for an answer of one token.
    pub(crate) fn tokens_per_s(&self) -> Option<f64> {
        let ms = self.ttlt_ms - self.ttft_ms;
        (self.generated > 1 && ms > 0).then(|| (self.generated - 1) as f64 * 1e3 / ms as f64)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} prompt tokens: {} own slab, {} peers",
            self.prompt_tokens,
            self.own,
            self.from_peers()
        )?;
        if !self.peers.is_empty() {
            let names = self.names.iter().copied().chain(core::iter::repeat(NodeName::default()));
            let names: Vec<String> = self
                .peers
                .iter()
                .zip(names)
                .map(|((node, tokens), name)| format!("{}: {tokens}", name.label(*node)))
                .collect();
            write!(f, " ({})", names.join(", "))?;
        }
        write!(f, ", {} computed; {} generated; ", self.computed, self.generated)?;
        write!(
            f,
            "TTFT {:.3} s, TTLT {:.3} s",
            self.ttft_ms as f64 / 1e3,
            self.ttlt_ms as f64 / 1e3
        )?;
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

/// Counters of the node's own logic; its modules keep counters of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct NodeStats {
    /// Prompts answered.
    pub(crate) answered: u64,
    /// Prompts refused, each with a reason for the asker.
    pub(crate) refused: u64,
    /// Block planes received from peers and checked.
    pub(crate) planes_fetched: u64,
    /// Bytes of those.
    pub(crate) bytes_fetched: u64,
    /// Block planes sent to peers.
    pub planes_served: u64,
    /// Times a peer delivered nothing for too long while wants were open.
    pub peers_stalled: u64,
    /// Block planes received from peers and checked, but unused: computing was faster.
    pub(crate) planes_unused: u64,
    /// Compute steps abandoned because a fetch overtook them.
    pub(crate) steps_abandoned: u64,
    /// Block planes requested from peers.
    pub wants_sent: u64,
    /// Requested planes that the peer did not have (a false positive or an eviction).
    pub wants_absent: u64,
    /// Connections that ended with wants open.
    pub connections_lost: u64,
    /// Connections closed because the peer broke the protocol.
    pub peer_faults: u64,
    /// Prompts restarted because the engine could not use the stored state.
    pub(crate) states_distrusted: u64,
    /// Peers' blocks that were recomputed and found equal.
    pub blocks_audited: u64,
    /// Audits that found wrong bytes and identified whose they are.
    pub audits_failed: u64,
    /// Blocks that were due for an audit but not audited: they were gone, or there was no
    /// room or time.
    pub audits_skipped: u64,
    /// Connections ended because their peers held slots that an answer needed.
    pub(crate) serves_ended: u64,
    /// Connections refused because too many were open.
    pub(crate) connections_refused: u64,
    /// Connections closed at once because too many came from one address.
    pub(crate) connections_throttled: u64,
    /// Served connections ended to make room for another peer.
    pub(crate) connections_reclaimed: u64,
    /// Times a peer had no room for this node's connection.
    pub refused_by_peers: u64,
    /// Drafted tokens that were verified, by source.
    pub drafts: Tally,
    /// Questions to peers about what once followed a text.
    pub drafts_asked: u64,
    /// Such questions from peers that this node looked up.
    pub(crate) drafts_served: u64,
    /// Questions to peers about their habits.
    pub habits_asked: u64,
    /// Such questions from peers that this node looked up.
    pub habits_served: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_have_their_names_in_text() {
        let mut figures = Figures { prompt_tokens: 20, computed: 1, ..Figures::new(20) };
        figures.took(Some(NodeId(0x5f48_72d9_cfb0_685b)), 16);
        figures.took(Some(NodeId(1)), 3);
        figures.names = [NodeName::of("kitchen"), NodeName::default()].into_iter().collect();
        let text = figures.to_string();
        let start = "20 prompt tokens: 0 own slab, 19 peers (kitchen (5f48): 16, 0000000000000001: 3), 1 computed;";
        assert!(text.starts_with(start), "{text}");
        figures.names.clear();
        assert!(figures.to_string().contains("(5f4872d9cfb0685b: 16, 0000000000000001: 3)"));
    }
}
