//! The names of present and former peers.

use super::Catalog;
use crate::id::{NodeId, NodeName};

impl Catalog {
    /// The name of a present or former peer; empty if unknown.
    pub(crate) fn name(&self, node: NodeId) -> NodeName {
        self.names.iter().find(|(of, _)| *of == node).map_or(NodeName::default(), |(_, name)| *name)
    }

    pub(super) fn remember_name(&mut self, node: NodeId) {
        let Some(name) = self.directory.get(node).map(|peer| peer.name) else { return };
        self.names.retain(|(of, _)| *of != node);
        if self.names.is_full() {
            self.names.pop_front();
        }
        let _ = self.names.push_back((node, name));
    }
}
