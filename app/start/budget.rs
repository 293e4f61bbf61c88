//! The memory that a node will hold, added up before anything is allocated, and compared with what
//! is available.
//!
//! Mapped files count in full: weights that do not stay in memory are read again from the card for
//! every token. The system's file cache counts as free, because it is released on demand.

use core::fmt;

use serde::Serialize;
use thiserror::Error;

use crate::limits::{
    HEAP_RESERVE_BYTES, LEAST_PEERS, MAX_PEERS, NODE_TABLE_BYTES, PEER_BYTES, PROGRAM_BYTES,
};
use crate::machine::memory::Available;

/// Bytes by purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Budget {
    /// The model file, mapped.
    pub weights_bytes: u64,
    /// The packed vocabulary, mapped.
    pub tokenizer_bytes: u64,
    /// KV blocks.
    pub slab_bytes: u64,
    /// Activations, logits and attention's scores of one pass.
    pub working_bytes: u64,
    /// Index, catalog, connections, queues.
    pub tables_bytes: u64,
    /// Code and stacks.
    pub program_bytes: u64,
    /// What the allocator holds beyond what is in use.
    pub reserve_bytes: u64,
    /// Peers that the tables have room for.
    pub peers: usize,
    /// The available memory; none if the machine does not report it.
    #[serde(skip)]
    pub available: Option<Available>,
}

/// The properties of a model that determine its node's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Needs {
    pub weights_bytes: u64,
    pub tokenizer_bytes: u64,
    pub working_bytes: u64,
    /// The slab for the longest sequence that the node accepts.
    pub sequence_bytes: u64,
}

/// The node needs more memory than is available.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{remedy}: {} MB are needed ({budget}), {}", megabytes(budget.total()), budget.there_is())]
pub(crate) struct TooLittle {
    budget: Budget,
    remedy: String,
}

impl Budget {
    /// The budget of a node with a slab of `slab_bytes`. If that is too much and `may_shrink`, the
    /// largest slab that fits, as long as it holds the node's longest sequence. Any memory left
    /// over makes room for more peers than the minimum.
    ///
    /// # Errors
    /// [`TooLittle`], which says what to lower.
    pub(crate) fn plan(
        needs: Needs,
        slab_bytes: u64,
        may_shrink: bool,
        available: Option<Available>,
    ) -> Result<Budget, TooLittle> {
        let with = |slab_bytes| Budget {
            weights_bytes: needs.weights_bytes,
            tokenizer_bytes: needs.tokenizer_bytes,
            slab_bytes,
            working_bytes: needs.working_bytes,
            tables_bytes: NODE_TABLE_BYTES,
            program_bytes: PROGRAM_BYTES,
            reserve_bytes: HEAP_RESERVE_BYTES,
            peers: LEAST_PEERS,
            available,
        };
        let budget = with(slab_bytes);
        let Some(available) = available.filter(|available| budget.total() > available.bytes) else {
            return Ok(budget.with_more_peers());
        };
        // Whole megabytes, as --slab takes them.
        let room = available.bytes.saturating_sub(with(0).total()) / 1_000_000 * 1_000_000;
        let least = needs.sequence_bytes;
        if room >= least && may_shrink {
            return Ok(with(room));
        }
        let remedy = if room >= least {
            format!("the slab does not fit: lower --slab to {} or less", room / 1_000_000)
        } else if room > 0 {
            let slab = room / 1_000_000;
            format!(
                "the context does not fit: lower --context, and --slab to {slab}, or use a smaller model"
            )
        } else {
            "the model does not fit: use a smaller file, such as Q4_0 of the 270M".to_string()
        };
        Err(TooLittle { budget, remedy })
    }

    /// The same with room for as many peers as the remaining memory holds.
    fn with_more_peers(self) -> Budget {
        let left =
            self.available.map_or(0, |available| available.bytes.saturating_sub(self.total()));
        let more = (left / PEER_BYTES).min((MAX_PEERS - LEAST_PEERS) as u64);
        Budget {
            peers: LEAST_PEERS + more as usize,
            tables_bytes: self.tables_bytes + more * PEER_BYTES,
            ..self
        }
    }

    /// Bytes in all.
    pub(crate) fn total(&self) -> u64 {
        let Budget {
            weights_bytes,
            tokenizer_bytes,
            slab_bytes,
            working_bytes,
            tables_bytes,
            program_bytes,
            reserve_bytes,
            ..
        } = *self;
        let parts = [
            weights_bytes,
            tokenizer_bytes,
            slab_bytes,
            working_bytes,
            tables_bytes,
            program_bytes,
            reserve_bytes,
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// The whole, for a log.
    pub(crate) fn line(&self) -> String {
        format!("memory: {} MB ({self}), {}", megabytes(self.total()), self.there_is())
    }

    fn there_is(&self) -> String {
        match self.available {
            None => "and this machine does not report its memory".to_string(),
            Some(Available { bytes, limited: false }) => {
                format!("and {} MB are available", megabytes(bytes))
            }
            Some(Available { bytes, limited: true }) => {
                format!("and its control group leaves {} MB", megabytes(bytes))
            }
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("weights", self.weights_bytes),
            ("tokenizer", self.tokenizer_bytes),
            ("slab", self.slab_bytes),
            ("working", self.working_bytes),
            ("tables", self.tables_bytes),
            ("program", self.program_bytes),
            ("reserve", self.reserve_bytes),
        ];
        let parts: Vec<String> =
            parts.iter().map(|(name, bytes)| format!("{name} {}", megabytes(*bytes))).collect();
        f.write_str(&parts.join(", "))
    }
}

/// Whole megabytes, rounded up so that small values show.
fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BOARD_MEMORY_BYTES;

    const NEEDS: Needs = Needs {
        weights_bytes: 243_000_000,
        tokenizer_bytes: 11_000_000,
        working_bytes: 6_000_000,
        sequence_bytes: 7_500_000,
    };

    fn has(megabytes: u64) -> Option<Available> {
        Some(Available { bytes: megabytes * 1_000_000, limited: false })
    }

    #[test]
    fn the_boards_defaults_fit_the_board() {
        let board = Available { bytes: BOARD_MEMORY_BYTES, limited: true };
        let budget = Budget::plan(NEEDS, 96_000_000, false, Some(board)).unwrap();
        assert_eq!(budget.slab_bytes, 96_000_000);
        assert_eq!(budget.peers, MAX_PEERS);
        let tables = NODE_TABLE_BYTES + (MAX_PEERS - LEAST_PEERS) as u64 * PEER_BYTES;
        let total =
            243 + 11 + 96 + 6 + (tables + PROGRAM_BYTES + HEAP_RESERVE_BYTES).div_ceil(1_000_000);
        assert!(
            budget
                .line()
                .starts_with(&format!("memory: {total} MB (weights 243, tokenizer 11, slab 96, ")),
            "{}",
            budget.line()
        );
        assert!(budget.line().ends_with("its control group leaves 416 MB"), "{}", budget.line());
    }

    #[test]
    fn a_slab_that_nobody_asked_for_shrinks_to_what_there_is() {
        let budget = Budget::plan(NEEDS, 96_000_000, true, has(340)).unwrap();
        assert!(budget.total() <= 340_000_000 && budget.total() > 338_000_000, "{budget}");
        assert_eq!(budget.peers, LEAST_PEERS);
        let refused = Budget::plan(NEEDS, 96_000_000, false, has(340)).unwrap_err().to_string();
        let fits = budget.slab_bytes / 1_000_000;
        assert!(
            refused
                .starts_with(&format!("the slab does not fit: lower --slab to {fits} or less: ")),
            "{refused}"
        );
        assert!(
            refused.contains("slab 96") && refused.ends_with("340 MB are available"),
            "{refused}"
        );
        Budget::plan(NEEDS, fits * 1_000_000, false, has(340)).unwrap();
        Budget::plan(NEEDS, (fits + 1) * 1_000_000, false, has(340)).unwrap_err();
    }

    #[test]
    fn what_cannot_be_helped_by_a_smaller_slab_is_said() {
        let said = |available| {
            Budget::plan(NEEDS, 96_000_000, true, has(available)).unwrap_err().to_string()
        };
        let fixed = Budget::plan(NEEDS, 0, false, None).unwrap().total() / 1_000_000;
        assert!(
            said(fixed + 3).starts_with("the context does not fit: lower --context"),
            "{}",
            said(fixed + 3)
        );
        assert!(
            said(200).starts_with("the model does not fit: use a smaller file"),
            "{}",
            said(200)
        );
        assert!(!said(200).contains('\n'));
    }

    #[test]
    fn a_machine_that_tells_nothing_is_believed_to_have_enough() {
        let budget = Budget::plan(NEEDS, u64::MAX, true, None).unwrap();
        assert_eq!((budget.total(), budget.peers), (u64::MAX, LEAST_PEERS));
    }
}
