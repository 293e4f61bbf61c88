//! Log messages for a node's events.

use super::Level;
use crate::id::{Epoch, NodeId};
use crate::node::Event;

/// An event's log line and its level. `called` returns a node's display name.
pub fn word(event: &Event, called: &dyn Fn(NodeId) -> String) -> (Level, String) {
    match event {
        Event::PeerJoined { node, other_model: false } => (Level::Info, format!("peer {} is here", called(*node))),
        Event::PeerJoined { node, other_model: true } => (
            Level::Warn,
            format!(
                "peer {} runs another model, precision or build: nothing is shared with it until all run the same",
                called(*node)
            ),
        ),
        Event::PeerRestarted(node) => (Level::Info, format!("peer {} has restarted", called(*node))),
        Event::PeerLeft(node) => (Level::Info, format!("peer {} has left", called(*node))),
        Event::Twin { ip, renamed: Some(node) } => (
            Level::Warn,
            format!(
                "another machine, at {ip}, has this node's id (a copied card?): it came first, so this node is {node} from now on"
            ),
        ),
        Event::Twin { ip, renamed: None } => (
            Level::Warn,
            format!("another machine, at {ip}, has this node's id (a copied card?): this node keeps its id"),
        ),
        Event::OtherVersion { ip, older } => {
            let (age, remedy) = match older {
                Some(true) => ("an older", "update it"),
                Some(false) => ("a newer", "update this one"),
                None => ("another", "put the same release on both"),
            };
            (Level::Warn, format!("the node at {ip} runs {age} version of potluck, and nothing is shared with it: {remedy}"))
        }
        Event::GroupSilent { peers } => (
            Level::Warn,
            format!(
                "{} by address, but multicast does not come through: nodes that nobody names are not found. Switch off client \
                 isolation (guest network, AP isolation) or multicast filtering on the access point or switch, or name the others in peers \
                 in [network]",
                if *peers == 1 { "1 peer answers".to_string() } else { format!("{peers} peers answer") }
            ),
        ),
        Event::GroupWorks => (Level::Info, "multicast comes through again: peers are found by themselves".to_string()),
        Event::ConnectionLost { peer } => {
            let line = format!("peer {} was lost during a transfer: the missing blocks are fetched elsewhere or computed", called(*peer));
            (Level::Warn, line)
        }
        Event::PeerFault { peer: Some(peer), fault } => {
            (Level::Warn, format!("peer {}: {fault}; connection closed", called(*peer)))
        }
        Event::PeerFault { peer: None, fault } => (Level::Warn, format!("a caller: {fault}; connection closed")),
        Event::PeerDistrusted { node, forgotten } => (
            Level::Error,
            format!(
                "peer {node} sent bytes that this node does not compute: no longer asked, {forgotten} blocks forgotten; check \
                 that board's build, power supply and memory, or ask its owner, then start it again or reset the swarm"
            ),
        ),
        Event::ComputesTwoWays => (
            Level::Error,
            "this node computed a block twice and got different bytes: it no longer checks peers; check its power supply, cooling and memory".to_string(),
        ),
        Event::OwnBlockWrong => (
            Level::Warn,
            "a block of this node's own is not what it computes now: forgotten; if that comes again and no peer is named, check its \
             memory and power supply"
                .to_string(),
        ),
        Event::StateDistrusted { reason, makers } => {
            let from = match makers.as_slice() {
                [] => String::new(),
                makers => {
                    let names: Vec<String> = makers.iter().map(|node| called(*node)).collect();
                    format!(", some of it from {}", names.join(", "))
                }
            };
            let line =
                format!("the state that the prompt began with{from} cannot be used ({reason}): forgotten, and computed again");
            (Level::Warn, line)
        }
        Event::SwarmReset { epoch, store } => (Level::Info, format!("the swarm was reset: {}", effect(*epoch, *store))),
        Event::BlocksKept { by_peers: true } => (
            Level::Warn,
            "the other nodes keep their blocks: in a swarm without a key each drops them at its own console only".to_string(),
        ),
        Event::BlocksKept { by_peers: false } => (
            Level::Warn,
            "an order to drop all blocks came over the network; this swarm has no key, so they are kept: reset --store drops them"
                .to_string(),
        ),
        Event::ResetUnsaved { epoch, store, reason } => (
            Level::Warn,
            format!(
                "the swarm was reset: {}; but that cannot be saved ({reason}): this node shares nothing until it can, free the card or replace it",
                effect(*epoch, *store)
            ),
        ),
    }
}

/// Describes a reset's effect.
fn effect(epoch: Epoch, store: bool) -> String {
    let forgotten = if store { "peers and blocks are forgotten" } else { "peers are forgotten" };
    format!("{forgotten}, epoch {}", epoch.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeName;
    use crate::transfer::Fault;

    fn said(event: &Event) -> (Level, String) {
        word(event, &|node| node.to_string())
    }

    #[test]
    fn a_node_goes_by_its_name_and_two_of_one_name_are_told_apart() {
        let called = |node: NodeId| NodeName::of("shelf").label(node);
        let [one, other] =
            [0x1234, 0x5678].map(|id| word(&Event::PeerLeft(NodeId(id << 48)), &called).1);
        assert_eq!(
            (one.as_str(), other.as_str()),
            ("peer shelf (1234) has left", "peer shelf (5678) has left")
        );
        assert_eq!(NodeName::default().label(NodeId(7)), "0000000000000007");
    }

    #[test]
    fn a_fault_names_the_peer_and_the_rule_and_a_loss_says_what_happens_now() {
        let fault = Event::PeerFault { peer: Some(NodeId(7)), fault: Fault::Stalled };
        let line =
            "peer 0000000000000007: stopped reading or answering; connection closed".to_string();
        assert_eq!(said(&fault), (Level::Warn, line));
        let (level, line) = said(&Event::ConnectionLost { peer: NodeId(7) });
        assert!(
            level == Level::Warn && line.contains("0000000000000007") && line.contains("computed"),
            "{line}"
        );
    }

    #[test]
    fn a_node_of_another_version_is_named_by_its_address() {
        let ip = [10, 0, 0, 7].into();
        let said = |older| said(&Event::OtherVersion { ip, older }).1;
        let old = "the node at 10.0.0.7 runs an older version of potluck, and nothing is shared with it: update it";
        assert_eq!(said(Some(true)), old);
        assert!(
            said(Some(false)).ends_with("update this one")
                && said(None).ends_with("put the same release on both")
        );
    }

    #[test]
    fn whoever_is_distrusted_is_named_with_what_to_do() {
        let (level, line) = said(&Event::PeerDistrusted { node: NodeId(7), forgotten: 12 });
        assert!(
            level == Level::Error
                && line.contains("0000000000000007")
                && line.contains("12 blocks forgotten"),
            "{line}"
        );
        assert!(
            ["build", "power supply", "memory", "owner", "reset"]
                .iter()
                .all(|what| line.contains(what)),
            "{line}"
        );
        assert!(said(&Event::ComputesTwoWays).1.contains("this node"));
        assert!(line.len() < crate::limits::LOG_LINE_BYTES);
    }

    #[test]
    fn a_network_without_multicast_is_named_with_what_helps() {
        let (level, line) = said(&Event::GroupSilent { peers: 1 });
        assert!(level == Level::Warn && line.starts_with("1 peer answers by address"), "{line}");
        assert!(line.contains("client isolation") && line.contains("peers in [network]"), "{line}");
        assert!(line.len() < crate::limits::LOG_LINE_BYTES);
    }

    #[test]
    fn a_reset_says_whether_blocks_went_too() {
        let (_, peers) = said(&Event::SwarmReset { epoch: Epoch(5), store: false });
        assert_eq!(peers, "the swarm was reset: peers are forgotten, epoch 5");
        let unsaved =
            Event::ResetUnsaved { epoch: Epoch(6), store: true, reason: "no space".to_string() };
        let (level, both) = said(&unsaved);
        assert!(
            level == Level::Warn
                && both.contains("peers and blocks are forgotten, epoch 6")
                && both.contains("(no space)")
        );
    }
}
