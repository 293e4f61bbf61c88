//! What has changed in the cache since the last poll. Only net changes are kept, so the list stays
//! bounded however long nobody polls. Replayed in the order given, they bring the reader's view up
//! to date.
//!
//! Removals are returned before additions, so the reader never believes in more than was here at
//! one moment. Both lists are bounded by the number of planes that the index can hold; they are
//! allocated at start and never grow.

use crate::id::BlockKey;
use crate::kv::Plane;

/// One plane of one block that was added or removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    /// The block.
    pub key: BlockKey,
    /// Which of its planes.
    pub plane: Plane,
    /// Whether it was added; otherwise it was removed.
    pub added: bool,
}

/// The changes not yet polled, each list in key order.
pub(super) struct Changes {
    added: Vec<(BlockKey, Plane)>,
    removed: Vec<(BlockKey, Plane)>,
}

impl Changes {
    /// An empty list with room for `planes` additions and as many removals.
    pub(super) fn new(planes: usize) -> Changes {
        Changes { added: Vec::with_capacity(planes), removed: Vec::with_capacity(planes) }
    }

    /// Notes that a plane was added.
    pub(super) fn add(&mut self, key: BlockKey, plane: Plane) {
        note((key, plane), &mut self.added, &mut self.removed);
    }

    /// Notes that a plane was removed.
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

    /// Changes not yet polled.
    pub(super) fn len(&self) -> usize {
        self.added.len() + self.removed.len()
    }
}

/// Cancels `what` against `opposite`, or else adds it to `list`.
fn note(
    what: (BlockKey, Plane),
    list: &mut Vec<(BlockKey, Plane)>,
    opposite: &mut Vec<(BlockKey, Plane)>,
) {
    if let Ok(at) = opposite.binary_search(&what) {
        opposite.remove(at);
    } else if let Err(at) = list.binary_search(&what) {
        list.insert(at, what);
    }
}
