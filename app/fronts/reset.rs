//! Output about a reset of the swarm, for people and programs.

use std::fmt;

use crate::id::{EpochState, NodeId};
use crate::node::ResetNews;

use super::event::Event;
use super::printer::Printer;

impl Printer {
    /// Reports the progress of a reset that this console ordered. `called` returns a node's
    /// display name.
    pub(super) fn reset(&mut self, news: &ResetNews, called: &dyn Fn(NodeId) -> String) {
        match news {
            ResetNews::Ordered { epochs, peers } => {
                let event = Event::Reset {
                    epoch: epochs.epoch,
                    store: epochs.epoch == epochs.store_epoch,
                    peers: Some(*peers),
                };
                self.say(&event, '·', &format!("{}; {peers} peers are told", Effect(*epochs)));
            }
            ResetNews::Failed { reason } => {
                let reason = format!(
                    "no reset: the epoch cannot be saved here ({reason}). Free the card or reset from another console; nobody was told"
                );
                self.error(&reason);
            }
            ResetNews::Acknowledged { node } => {
                self.say(
                    &Event::Acknowledged { node: *node },
                    '·',
                    &format!("node {} has acknowledged", called(*node)),
                );
            }
            ResetNews::Ended { acknowledged, missing } => {
                let known = acknowledged + missing.len();
                let text = match missing.as_slice() {
                    [] => format!(
                        "{acknowledged} of {known} peers known before the reset have acknowledged"
                    ),
                    _ => format!(
                        "{acknowledged} of {known} peers known before the reset have acknowledged; not {}: they follow when they hear \
                         this swarm again",
                        missing.iter().map(|node| called(*node)).collect::<Vec<_>>().join(", ")
                    ),
                };
                self.say(&Event::ResetEnded { acknowledged: *acknowledged, missing }, '·', &text);
            }
        }
    }
}

/// Describes a reset's effect.
pub(crate) struct Effect(pub EpochState);

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EpochState { epoch, store_epoch } = self.0;
        let blocks = if epoch == store_epoch { " and blocks" } else { "" };
        write!(f, "reset: peers{blocks} are forgotten, the swarm is at epoch {}", epoch.0)
    }
}

/// A list of nodes for a sentence.
pub(crate) fn listed(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
