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
struct Ban {
    /// Its start at that time.
    boot: BootId,
    since: Millis,
    /// How many times it was caught.
    times: u32,
    /// Whether it has accused another peer since.
    names_another: bool,
    /// Whether it is excluded at present.
    is_active: bool,
}

/// All banned peers. Bounded: a full table drops the one that was caught first.
#[derive(Default)]
pub(in super::super) struct BannedPeers(BTreeMap<NodeId, Ban>);

impl BannedPeers {
    /// Whether this peer is excluded.
    pub(in super::super) fn contains(&self, node: NodeId) -> bool {
        self.0.get(&node).is_some_and(|ban| ban.is_active)
    }

    /// Records that `node`, in its start `boot`, was caught.
    pub(super) fn ban(&mut self, node: NodeId, boot: BootId, now: Millis) {
        let times = self.0.get(&node).map_or(0, |ban| ban.times) + 1;
        if self.0.len() >= MAX_PEERS && !self.0.contains_key(&node) {
            let first = self.0.iter().min_by_key(|(node, ban)| (ban.is_active, ban.since, **node));
            if let Some(first) = first.map(|(node, _)| *node) {
                self.0.remove(&first);
            }
        }
        self.0.insert(node, Ban { boot, since: now, times, names_another: false, is_active: true });
    }

    /// Records that `node` has accused another peer.
    pub(super) fn names_another(&mut self, node: NodeId) {
        if let Some(ban) = self.0.get_mut(&node) {
            ban.names_another = true;
        }
    }

    /// Readmits the peers whose time has come. `boot` returns the current start of a known peer.
    pub(in super::super) fn readmit(
        &mut self,
        boot: impl Fn(NodeId) -> Option<BootId>,
        now: Millis,
    ) {
        for (node, ban) in self
            .0
            .iter_mut()
            .filter(|(_, ban)| ban.is_active && now - ban.since >= Millis(DISTRUST_MS))
        {
            let anew = boot(*node).is_some_and(|boot| boot != ban.boot);
            ban.is_active = !(anew || ban.names_another && ban.times == 1);
        }
    }

    /// Forgets all bans: a person here has reset the swarm.
    pub(in super::super) fn clear(&mut self) {
        self.0.clear();
    }
}
