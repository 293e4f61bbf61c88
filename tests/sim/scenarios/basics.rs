//! The simulator checked against known results: honest nodes on a good network.

use crate::sim::engine::shape_small;
use crate::sim::heap::MS;
use crate::sim::talk::{BOARD, SLAB, prompt};
use crate::sim::world::Sim;

#[test]
fn a_repeated_prompt_comes_from_the_peer_but_for_its_last_token() {
    let shape = shape_small(64);
    for len in [1, 16, 17, 63, 64, 65, 161, 300] {
        let mut sim = Sim::swarm("repeated prompt", 3, &shape, SLAB, 100_000);
        let tokens = prompt(len as u32, len);
        sim.answer_now(0, &tokens, 20);
        let second = sim.answer_now(1, &tokens, 20);
        assert_eq!(
            second.figures().from_peers(),
            len - 1,
            "{len} tokens: {:?} {:?}",
            second.figures(),
            sim.notes(1)
        );
        let third = sim.answer_now(1, &tokens, 20);
        assert_eq!(third.figures().own, len - 1, "{len} tokens, from the own slab");
        sim.assert_quiet();
    }
}

#[test]
fn an_engine_takes_as_long_as_its_rate_says() {
    let mut sim = Sim::swarm("engine", 1, &shape_small(64), SLAB, 1_000);
    assert_eq!(sim.ttft_now(0, &prompt(1, 100)), 100 * BOARD / MS);
}

#[test]
fn a_line_carries_as_much_as_its_rate_says_and_streams_share_it() {
    let shape = shape_small(64);
    let tokens = prompt(1, 65);
    let fetched_by = |nodes: &[usize]| {
        let mut sim = Sim::swarm("line", 3, &shape, SLAB, 60);
        sim.answer_now(0, &tokens, 1);
        let asked: Vec<_> = nodes.iter().map(|who| (*who, sim.ask(*who, &tokens, 1))).collect();
        let times = asked.iter().map(|(who, id)| {
            let asked = sim.await_answer(*who, *id);
            assert!(
                asked.foreign.len() >= 64,
                "node {who} read {} foreign rows",
                asked.foreign.len()
            );
            asked.ttft() / MS
        });
        times.max().unwrap_or(0)
    };
    // 64 tokens of 204 bytes take 218 ms of this line.
    let (one, two) = (fetched_by(&[1]), fetched_by(&[1, 2]));
    assert!((250..330).contains(&one), "{one} ms");
    assert!((465..560).contains(&two), "{two} ms");
}
