//! The peers whose bytes were found wrong. They are not asked for anything, and do not count as holders of what they announce. They
//! are still heard, listed and served.
//!
//! One comes back when some time has passed and it has started anew: a person has been there. It also comes back, once, when it
//! has named another since: it passed on in good faith what that one made. A reset that is typed at this node lets all come back.

use std::collections::BTreeMap;

use crate::id::{BootId, Millis, NodeId};
use crate::limits::{DISTRUST_MS, MAX_PEERS};

/// One peer that was caught.
struct Outcast {
    /// Its start at that time.
    boot: BootId,
    since: Millis,
    /// How often it was caught.
    times: u32,
    /// It has accused another since.
    names_another: bool,
    /// It is not asked at present.
    is_out: bool,
}

/// All of them. Bounded: a full table forgets the one that was caught first.
#[derive(Default)]
pub(in super::super) struct Outcasts(BTreeMap<NodeId, Outcast>);

impl Outcasts {
    /// Whether nothing is to be had of this peer.
    pub(in super::super) fn holds(&self, node: NodeId) -> bool {
        self.0.get(&node).is_some_and(|outcast| outcast.is_out)
    }

    /// Notes that `node`, in its start `boot`, was caught.
    pub(super) fn cast_out(&mut self, node: NodeId, boot: BootId, now: Millis) {
        let times = self.0.get(&node).map_or(0, |outcast| outcast.times) + 1;
        if self.0.len() >= MAX_PEERS && !self.0.contains_key(&node) {
            let first = self.0.iter().min_by_key(|(node, outcast)| (outcast.is_out, outcast.since, **node));
            if let Some(first) = first.map(|(node, _)| *node) {
                self.0.remove(&first);
            }
        }
        self.0.insert(node, Outcast { boot, since: now, times, names_another: false, is_out: true });
    }

    /// Notes that `node` has accused another.
    pub(super) fn names_another(&mut self, node: NodeId) {
        if let Some(outcast) = self.0.get_mut(&node) {
            outcast.names_another = true;
        }
    }

    /// Lets those come back for whom it is time. `boot` gives the present start of a peer that is known.
    pub(in super::super) fn pardon(&mut self, boot: impl Fn(NodeId) -> Option<BootId>, now: Millis) {
        for (node, outcast) in
            self.0.iter_mut().filter(|(_, outcast)| outcast.is_out && now - outcast.since >= Millis(DISTRUST_MS))
        {
            let anew = boot(*node).is_some_and(|boot| boot != outcast.boot);
            outcast.is_out = !(anew || outcast.names_another && outcast.times == 1);
        }
    }

    /// Forgets all of it: a person here has reset the swarm.
    pub(in super::super) fn clear(&mut self) {
        self.0.clear();
    }
}
