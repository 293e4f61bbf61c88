//! The policies that ours is measured against.

use core::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::index::{Entry, Index};
use super::{Ask, BEGINNING, SECRET};
use crate::cache::Chain;
use crate::id::BlockKey;

/// Another policy.
#[derive(Clone)]
pub(in crate::cache) enum Baseline {
    /// Evicts the least recently used, whatever it is and whoever else has it.
    Lru,
    /// Evicts what is needed again last: Belady's rule, applied block by block, so that it is close
    /// to the best but no bound.
    Foresight {
        /// The prompts of the trace that use each block.
        uses: Arc<BTreeMap<BlockKey, Vec<usize>>>,
        /// The current prompt.
        now: usize,
    },
}

impl Baseline {
    /// A policy that knows the future.
    pub(super) fn foresight(trace: &[Ask]) -> Baseline {
        let mut uses: BTreeMap<BlockKey, Vec<usize>> = BTreeMap::new();
        for (number, ask) in trace.iter().enumerate() {
            let chain = Chain::of(&SECRET, *BEGINNING, &ask.prompt);
            chain.links().for_each(|link| uses.entry(link.key).or_default().push(number));
        }
        Baseline::Foresight { uses: Arc::new(uses), now: 0 }
    }

    /// The block to evict. `offered` returns when a candidate was last used, and `useless` whether
    /// nothing can resume with it.
    pub(in crate::cache) fn victim(
        &self,
        index: &Index,
        offered: impl Fn(&Entry) -> Option<u64>,
        useless: impl Fn(&Entry) -> bool,
    ) -> Option<BlockKey> {
        let may_go =
            index.iter().filter_map(|entry| offered(entry).map(|last_use| (entry, last_use)));
        let rank = |entry: &Entry, last_use| match self {
            Baseline::Foresight { .. } if useless(entry) => {
                (Reverse(usize::MAX), 0, Reverse(entry.depth), entry.link.key)
            }
            Baseline::Lru => (Reverse(0), last_use, Reverse(entry.depth), entry.link.key),
            Baseline::Foresight { uses, now } => {
                let uses = uses.get(&entry.link.key).map_or(&[][..], Vec::as_slice);
                let next = uses
                    .get(uses.partition_point(|number| number <= now))
                    .copied()
                    .unwrap_or(usize::MAX);
                (Reverse(next), last_use, Reverse(entry.depth), entry.link.key)
            }
        };
        may_go.map(|(entry, last_use)| rank(entry, last_use)).min().map(|rank| rank.3)
    }
}
