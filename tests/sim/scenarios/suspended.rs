//! A node that was suspended in the middle of a step: that step seemed expensive, but the next ones
//! cost as little as before.

use super::{ROOM, bound, shape};
use crate::sim::heap::MS;
use crate::sim::net::Medium;
use crate::sim::talk::{config, prompt};
use crate::sim::world::Sim;

/// A fast node: a token per millisecond.
const QUICK: u64 = MS;

/// The time to the first token of a prompt of `tokens` tokens that a peer holds behind a line of
/// `bytes_per_ms`, after the node was suspended for `slept_ms` within a step.
fn after_a_sleep(slept_ms: u64, tokens: usize, bytes_per_ms: u64) -> u64 {
    let mut sim = Sim::new("suspended", 1, Medium::Switched, 20_000);
    for number in 0..2 {
        sim.join(config(number, &shape(), ROOM), QUICK);
    }
    sim.pass(2_000);
    sim.answer_now(0, &prompt(1, tokens), 1);
    sim.answer_now(1, &prompt(2, 200), 1);
    let asked = sim.ask(1, &prompt(3, 32), 1);
    sim.pass(10);
    sim.pause(1, slept_ms);
    sim.await_answer(1, asked);
    sim.set_rate(0, bytes_per_ms);
    sim.ttft_now(1, &prompt(1, tokens))
}

#[test]
fn a_node_that_slept_within_a_step_is_no_later_than_alone() {
    for slept_ms in [200, 2_000, 20_000] {
        for tokens in [51, 200, 400] {
            for rate in [3, 50, 1_000] {
                let ttft = after_a_sleep(slept_ms, tokens, rate);
                let bound = bound(tokens as u64) * QUICK / crate::sim::talk::BOARD + 1;
                let what = format!(
                    "slept {slept_ms} ms, {tokens} tokens at {rate} bytes a millisecond: TTFT {ttft} ms"
                );
                assert!(ttft <= bound, "{what}, bound {bound} ms");
            }
        }
    }
}
