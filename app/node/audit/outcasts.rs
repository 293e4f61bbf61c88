//! The peers whose bytes were found wrong. This node asks them for nothing, and ignores what they
//! announce to hold. It still hears, lists and serves them.
//!
//! A peer is readmitted after some time if it has restarted, which means that a person has attended
//! to it. It is also readmitted, once, if it has since named another peer: it passed on in good
//! faith what that peer made. A reset typed at this node readmits all.

use std::collections::BTreeMap;

use crate::id::{BootId, Millis, NodeId};
use crate::limits::{DISTRUST_MS, MAX_PEERS};

/// A peer that was caught.
struct Outcast {
    /// Its start at that time.
    boot: BootId,
    since: Millis,
    /// How many times it was caught.
    times: u32,
    /// Whether it has accused another peer since.
    names_another: bool,
    /// Whether it is excluded at present.
    is_out: bool,
}

/// All outcasts. Bounded: a full table drops the one that was caught first.
#[derive(Default)]
pub(in super::super) struct Outcasts(BTreeMap<NodeId, Outcast>);

impl Outcasts {
    /// Whether this peer is excluded.
    pub(in super::super) fn holds(&self, node: NodeId) -> bool {
        self.0.get(&node).is_some_and(|outcast| outcast.is_out)
    }

    /// Records that `node`, in its start `boot`, was caught.
    pub(super) fn cast_out(&mut self, node: NodeId, boot: BootId, now: Millis) {
        let times = self.0.get(&node).map_or(0, |outcast| outcast.times) + 1;
        if self.0.len() >= MAX_PEERS && !self.0.contains_key(&node) {
            let first =
                self.0.iter().min_by_key(|(node, outcast)| (outcast.is_out, outcast.since, **node));
            if let Some(first) = first.map(|(node, _)| *node) {
                self.0.remove(&first);
            }
        }
        self.0
            .insert(node, Outcast { boot, since: now, times, names_another: false, is_out: true });
    }

    /// Records that `node` has accused another peer.
    pub(super) fn names_another(&mut self, node: NodeId) {
        if let Some(outcast) = self.0.get_mut(&node) {
            outcast.names_another = true;
        }
    }

    /// Readmits the peers whose time has come. `boot` returns the current start of a known peer.
    pub(in super::super) fn pardon(
        &mut self,
        boot: impl Fn(NodeId) -> Option<BootId>,
        now: Millis,
    ) {
        for (node, outcast) in self
            .0
            .iter_mut()
            .filter(|(_, outcast)| outcast.is_out && now - outcast.since >= Millis(DISTRUST_MS))
        {
            let anew = boot(*node).is_some_and(|boot| boot != outcast.boot);
            outcast.is_out = !(anew || outcast.names_another && outcast.times == 1);
        }
    }

    /// Forgets all outcasts: a person here has reset the swarm.
    pub(in super::super) fn clear(&mut self) {
        self.0.clear();
    }
}
