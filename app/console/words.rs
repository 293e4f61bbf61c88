//! A node's events in words, for the log and whoever reads it.

use super::Level;
use crate::id::Epoch;
use crate::node::Event;

/// One line, and how much it matters.
pub fn word(event: &Event) -> (Level, String) {
    match event {
        Event::PeerJoined { node, other_model: false } => (Level::Info, format!("peer {node} is here")),
        Event::PeerJoined { node, other_model: true } => (
            Level::Warn,
            format!("peer {node} runs another model, precision or build: nothing is shared with it until all run the same"),
        ),
        Event::PeerRestarted(node) => (Level::Info, format!("peer {node} has started anew")),
        Event::PeerLeft(node) => (Level::Info, format!("peer {node} has left")),
        Event::DuplicateIdentity(addr) => {
            (Level::Warn, format!("the node at {addr} uses this node's id: start one of them with another --id"))
        }
        Event::ConnectionLost { peer } => {
            (Level::Warn, format!("peer {peer} was lost in mid transfer: what it owed is fetched elsewhere or computed"))
        }
        Event::PeerFault { peer: Some(peer), fault } => (Level::Warn, format!("peer {peer}: {fault}; connection closed")),
        Event::PeerFault { peer: None, fault } => (Level::Warn, format!("a caller: {fault}; connection closed")),
        Event::StateDistrusted { reason, makers } => {
            let from = match makers.as_slice() {
                [] => String::new(),
                makers => {
                    let names: Vec<String> = makers.iter().map(ToString::to_string).collect();
                    format!(", some of it from {}", names.join(", "))
                }
            };
            let line =
                format!("the state that the prompt began with{from} is of no use ({reason}): forgotten, and computed again");
            (Level::Warn, line)
        }
        Event::SwarmReset { epoch, store } => (Level::Info, format!("the swarm was reset: {}", effect(*epoch, *store))),
        Event::ResetUnsaved { epoch, store, reason } => (
            Level::Warn,
            format!(
                "the swarm was reset: {}; but that cannot be saved ({reason}): this node shares nothing until it can, free the card or replace it",
                effect(*epoch, *store)
            ),
        ),
    }
}

/// A reset in words.
fn effect(epoch: Epoch, store: bool) -> String {
    let forgotten = if store { "peers and blocks are forgotten" } else { "peers are forgotten" };
    format!("{forgotten}, epoch {}", epoch.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::node::Fault;

    #[test]
    fn a_fault_names_the_peer_and_the_rule_and_a_loss_says_what_happens_now() {
        let fault = Event::PeerFault { peer: Some(NodeId(7)), fault: Fault::Stalled };
        let line = "peer 0000000000000007: stopped reading or answering; connection closed".to_string();
        assert_eq!(word(&fault), (Level::Warn, line));
        let (level, line) = word(&Event::ConnectionLost { peer: NodeId(7) });
        assert!(level == Level::Warn && line.contains("0000000000000007") && line.contains("computed"), "{line}");
    }

    #[test]
    fn a_reset_says_whether_blocks_went_too() {
        let (_, peers) = word(&Event::SwarmReset { epoch: Epoch(5), store: false });
        assert_eq!(peers, "the swarm was reset: peers are forgotten, epoch 5");
        let unsaved = Event::ResetUnsaved { epoch: Epoch(6), store: true, reason: "no space".to_string() };
        let (level, both) = word(&unsaved);
        assert!(level == Level::Warn && both.contains("peers and blocks are forgotten, epoch 6") && both.contains("(no space)"));
    }
}
