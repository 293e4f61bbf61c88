//! A checker that cannot fail checks nothing: each is shown a case that it must find.

use crate::sim::Sim;
use crate::sim::cast::Mischief;
use crate::sim::checks::{Law2, all_answered, all_quiet, stale_pairs};
use crate::sim::engine::shape_small;
use crate::sim::talk::{BOARD, SLAB, prompt};

#[test]
#[should_panic(expected = "computes on wrong bytes")]
fn a_single_wrong_byte_is_seen_where_it_is_used() {
    let mut sim = Sim::swarm("wrong bytes", 2, &shape_small(64), SLAB, 100_000);
    let tokens = prompt(1, 100);
    sim.answer_now(0, &tokens, 1);
    sim.corrupt(0, Mischief::WrongBytes);
    sim.rules.lies = false;
    sim.answer_now(1, &tokens, 1);
}

#[test]
#[should_panic(expected = "law 2")]
fn an_answer_that_is_late_is_seen() {
    let mut sim = Sim::swarm("late", 1, &shape_small(64), SLAB, 100_000);
    // Nothing can be computed in zero time.
    sim.rules.law2 = Some(Law2 { percent: 0, tokens: 0, slack: 0 });
    sim.stations[0].engine.micros_per_job = BOARD;
    sim.stations[0].engine.micros_per_token = BOARD;
    let asked = sim.ask(0, &prompt(1, 100), 1);
    sim.pass(1_000);
    sim.stations[0].engine.micros_per_token = BOARD / 2;
    sim.await_answer(0, asked);
}

#[test]
#[should_panic(expected = "was written to while it was being computed")]
fn a_page_that_changes_under_computation_is_seen() {
    let mut sim = Sim::swarm("a page changes", 1, &shape_small(64), SLAB, 100_000);
    let asked = sim.ask(0, &prompt(1, 100), 1);
    sim.pass(1_000);
    sim.stations[0].engine.spoil_job();
    sim.await_answer(0, asked);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let (counts, events, now) = crate::seeds::run(seed);
        (format!("{counts:?}"), events, now)
    };
    for seed in [3, 7, 11] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(3), run(7));
}

#[test]
fn a_node_that_hears_nothing_is_seen_to_be_stale() {
    let mut sim = Sim::swarm("a deaf node", 3, &shape_small(64), SLAB, 100_000);
    sim.pass(12_000);
    assert_eq!(stale_pairs(&sim), []);
    sim.deafen(2, true);
    sim.answer_now(0, &prompt(1, 100), 1);
    assert_eq!(stale_pairs(&sim), [(2, 0)]);
    sim.pass(60_000);
    assert_eq!(
        stale_pairs(&sim),
        [(0, 2), (1, 2), (2, 0), (2, 1)],
        "the others must have forgotten it, and it the others"
    );
}

#[test]
fn pages_that_are_held_are_seen() {
    let mut sim = Sim::swarm("held pages", 1, &shape_small(64), SLAB, 100_000);
    sim.ask(0, &prompt(1, 100), 1);
    assert!(all_quiet(&sim).is_err() && all_answered(&sim).is_err());
    sim.pass(60_000);
    assert!(all_quiet(&sim).is_ok() && all_answered(&sim).is_ok());
}
