//! What became of the cache's contents since somebody last asked: net changes only, so that the list stays bounded however
//! long nobody asks. Replayed in the order given, they turn what the reader believed into what is here.
//!
//! Removals are given out before additions. So the reader never believes more than was here at one moment, and both lists
//! are bounded by the number of planes that the index can hold: they are set aside at start and never grow.

use crate::id::BlockKey;
use crate::kv::Plane;

/// One plane of one block that came or went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    /// The block.
    pub key: BlockKey,
    /// The plane of it.
    pub plane: Plane,
    /// Whether it is here now; else it went.
    pub added: bool,
}

/// The changes that nobody has asked for yet, each list in the order of keys.
pub(super) struct Changes {
    added: Vec<(BlockKey, Plane)>,
    removed: Vec<(BlockKey, Plane)>,
}

impl Changes {
    /// An empty list with room for `planes` additions and as many removals.
    pub(super) fn new(planes: usize) -> Changes {
        Changes { added: Vec::with_capacity(planes), removed: Vec::with_capacity(planes) }
    }

    /// Notes that a plane is here now.
    pub(super) fn add(&mut self, key: BlockKey, plane: Plane) {
        note((key, plane), &mut self.added, &mut self.removed);
    }

    /// Notes that a plane is here no longer.
    pub(super) fn remove(&mut self, key: BlockKey, plane: Plane) {
        note((key, plane), &mut self.removed, &mut self.added);
    }

    /// The next change.
    pub(super) fn poll(&mut self) -> Option<Change> {
        if let Some((key, plane)) = self.removed.pop() {
            return Some(Change { key, plane, added: false });
        }
        self.added.pop().map(|(key, plane)| Change { key, plane, added: true })
    }

    /// Changes that wait.
    pub(super) fn len(&self) -> usize {
        self.added.len() + self.removed.len()
    }
}

/// Takes `what` back out of `opposite`, or else puts it into `list`.
fn note(what: (BlockKey, Plane), list: &mut Vec<(BlockKey, Plane)>, opposite: &mut Vec<(BlockKey, Plane)>) {
    if let Ok(at) = opposite.binary_search(&what) {
        opposite.remove(at);
    } else if let Err(at) = list.binary_search(&what) {
        list.insert(at, what);
    }
}
