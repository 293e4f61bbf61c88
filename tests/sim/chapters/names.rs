//! A node's name: announced by the node, shown by the others, and only a label.

use potluck::id::{NodeId, NodeName};
use potluck::node::NodeConfig;

use crate::sim::engine::shape_small;
use crate::sim::{Sim, config};

fn named(names: &[&str]) -> Sim {
    let shape = shape_small(64);
    let mut world = Sim::calm();
    for (number, name) in (0..).zip(names) {
        let node = NodeId((number + 1) << 48);
        world.join(
            NodeConfig { node, name: NodeName::of(name), ..config(number, &shape, 4 << 20) },
            1_000,
        );
    }
    world.pass(3_000);
    world
}

fn shown(world: &Sim, who: usize, of: usize) -> String {
    let node = world.stations[of].config.node;
    let peers = world.status(who).peers;
    peers
        .iter()
        .find(|peer| peer.node == node)
        .map_or("nobody".to_string(), |peer| peer.name.as_str().to_string())
}

fn last_note(world: &Sim, who: usize, about: &str) -> String {
    world.notes(who).iter().rev().find(|note| note.contains(about)).cloned().unwrap_or_default()
}

#[test]
fn a_node_that_is_renamed_between_two_starts_goes_by_its_new_name_everywhere() {
    let mut world = named(&["kitchen", "hall", ""]);
    assert_eq!(
        (shown(&world, 0, 1), shown(&world, 2, 1), shown(&world, 0, 2)),
        ("hall".into(), "hall".into(), "".into())
    );
    assert!(last_note(&world, 0, "hall").contains("hall (0002) is here"), "{:?}", world.notes(0));
    world.kill(1);
    world.pass(1_000);
    world.stations[1].config.name = NodeName::of("attic");
    world.restart(1);
    world.pass(3_000);
    for who in [0, 2] {
        assert_eq!(shown(&world, who, 1), "attic");
        let note = last_note(&world, who, "has restarted");
        assert!(note.contains("attic") && !note.contains("hall"), "{note:?}");
    }
    world.leave(1);
    world.pass(1_000);
    assert!(last_note(&world, 0, "has left").contains("attic"), "{:?}", world.notes(0));
    world.assert_quiet();
}

#[test]
fn two_nodes_of_one_name_are_told_apart_and_share_as_others_do() {
    let mut world = named(&["board", "board", "board"]);
    let notes: Vec<&String> =
        world.notes(0).iter().filter(|note| note.contains("is here")).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    for of in [1, 2] {
        assert_eq!(shown(&world, 0, of), "board");
        let short = world.stations[of].config.node.short();
        assert!(
            notes.iter().any(|note| note.contains("board") && note.contains(&short)),
            "{notes:?}"
        );
    }
    let tokens = crate::sim::talk::prompt(1, 200);
    world.answer_now(1, &tokens, 1);
    assert_eq!(world.answer_now(0, &tokens, 1).figures().computed, 1);
}
