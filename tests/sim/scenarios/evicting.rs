//! Which node evicts what: a swarm never computes more than a lone node would, and less if the hot
//! set fits its memory.

use super::shape;
use crate::sim::heap::Dice;
use crate::sim::talk::{BOARD, config, prompt};
use crate::sim::world::Sim;

const PROMPTS: usize = 40;
const HOT: u32 = 4;
const PREFIX: usize = 160;
const OWN: usize = 32;
/// Bytes per token.
const TOKEN: usize = 1_224;

/// Tokens computed per prompt by `nodes` nodes with room for `room` tokens each, each of which gets
/// its prompts one after another.
fn computed(nodes: u64, room: usize) -> usize {
    let mut sim = Sim::new("hot prefixes", 1, crate::sim::net::Medium::Switched, 2_000);
    for number in 0..nodes {
        sim.join(config(number, &shape(), room * TOKEN), BOARD / 10);
    }
    sim.pass(2_000);
    let mut dice = Dice::new(12);
    let mut total = 0;
    for round in 0..PROMPTS {
        let mut asked = Vec::new();
        for who in 0..nodes as usize {
            let mut tokens = prompt(dice.below(u64::from(HOT)) as u32, PREFIX);
            tokens.extend(prompt((1_000 + round * 100 + who) as u32, OWN));
            asked.push((who, sim.ask(who, &tokens, 1)));
            sim.pass(dice.between(0, 300));
        }
        for (who, id) in asked {
            let answer =
                sim.await_answer(who, id).answer.clone().expect("closed prompts have answers");
            // The first prompts of a swarm are computed by the first node that gets them.
            total += if round >= PROMPTS / 4 { answer.figures().computed } else { 0 };
        }
        sim.pass(600);
    }
    total / ((PROMPTS - PROMPTS / 4) * nodes as usize)
}

#[test]
fn twelve_nodes_compute_no_more_than_a_node_alone() {
    for room in [300, 450, 600, 800, 1_100] {
        let (alone, swarm) = (computed(1, room), computed(12, room));
        let what = format!(
            "of 192 tokens a prompt, with room for {room}, a node alone computes {alone}, each of twelve {swarm}"
        );
        eprintln!("{what}");
        assert!(swarm * 50 <= alone * 51, "{what}");
    }
}

#[test]
fn twelve_nodes_compute_a_third_less_where_the_hot_set_fits_all_of_them_and_not_one() {
    for room in [300, 450, 600] {
        let (alone, swarm) = (computed(1, room), computed(12, room));
        let what = format!(
            "of 192 tokens a prompt, with room for {room}, a node alone computes {alone}, each of twelve {swarm}"
        );
        eprintln!("{what}");
        assert!(swarm * 10 <= alone * 7, "{what}");
    }
}

/// A lone node with room for `room` tokens.
fn lone(room: usize) -> Sim {
    let mut sim = Sim::new("a node alone", 1, crate::sim::net::Medium::Switched, 2_000);
    sim.join(config(0, &shape(), room * TOKEN), BOARD / 10);
    sim
}

#[test]
fn what_is_used_often_outlives_prompts_that_come_once() {
    let mut sim = lone(500);
    let hot = prompt(1, PREFIX);
    for _ in 0..20 {
        sim.answer_now(0, &hot, 1);
    }
    for seed in 2..5 {
        sim.answer_now(0, &prompt(seed, 192), 1);
    }
    let own = sim.answer_now(0, &hot, 1).figures().own;
    assert!(own >= PREFIX / 2, "{own} of {PREFIX} tokens are left");
}

#[test]
fn a_cycle_of_prompts_that_does_not_quite_fit_still_hits() {
    let mut sim = lone(4 * 192);
    let mut own = 0;
    for round in 0..12 {
        for seed in 0..5 {
            let answer = sim.answer_now(0, &prompt(seed, 160), 1);
            own += if round >= 6 { answer.figures().own } else { 0 };
        }
    }
    let share = own as f64 / (6 * 5 * 160) as f64;
    eprintln!("a cycle of five where four fit: {share:.2} of all tokens hit");
    assert!(share >= 0.3, "{share:.2} of all tokens hit");
}
