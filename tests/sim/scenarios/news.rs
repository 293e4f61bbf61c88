//! News in the middle of a prompt: peers turn out to hold what is being computed, at any stage of
//! the computation.

use super::{ROOM, bound, computing, shape};
use crate::sim::heap::MS;
use crate::sim::net::Medium;
use crate::sim::talk::{BOARD, config, prompt};
use crate::sim::world::Sim;

const TOKENS: usize = 405;

/// A board that cannot hear a holder, which has answered a prompt of [`TOKENS`]; the board itself
/// has answered its first `own` tokens.
fn unheard(own: usize) -> Sim {
    let mut sim = Sim::new("news", 1, Medium::Switched, 20_000);
    sim.join(config(0, &shape(), ROOM), 10);
    sim.join(config(1, &shape(), ROOM), BOARD);
    sim.pass(2_000);
    sim.cut(0, 1);
    sim.answer_now(0, &prompt(1, TOKENS), 1);
    if own > 0 {
        sim.answer_now(1, &prompt(1, TOKENS)[..own], 1);
    }
    sim.pass(5_000);
    sim
}

/// Asks the board for the whole prompt, and lets it hear the holder after `heard_ms`. Returns the
/// time to the first token, and how many tokens came from the peer and from its own slab.
fn heard_after(own: usize, heard_ms: u64) -> (u64, usize, usize) {
    let mut sim = unheard(own);
    let id = sim.ask(1, &prompt(1, TOKENS), 1);
    sim.pass(heard_ms);
    sim.net.cuts.clear();
    // A change of the holder's filter tells the board what it has missed.
    sim.answer_now(0, &prompt(2, 20), 1);
    let asked = sim.await_answer(1, id);
    let figures = asked.answer.as_ref().expect("answered").figures();
    (asked.ttft() / MS, figures.from_peers(), figures.own)
}

#[test]
fn what_peers_are_heard_to_hold_in_mid_prompt_is_fetched_to_its_ragged_end() {
    let never = heard_after(0, 60_000);
    assert_eq!(never, (computing(TOKENS as u64), 0, 0));
    for heard_ms in [10, 500, 3_000, 7_000] {
        let (ttft, from_peers, own) = heard_after(0, heard_ms);
        let what = format!(
            "heard after {heard_ms} ms: TTFT {ttft} ms, {from_peers} tokens from the peer, {own} from here"
        );
        eprintln!("{what}");
        // Until then the board computes, and a running step may finish.
        assert!(ttft <= heard_ms + 1_000 + computing(64), "{what}");
        let missing = TOKENS as u64 - 1 - (heard_ms + 1_000) * MS / BOARD;
        assert!(from_peers as u64 + 64 >= missing, "{what}");
    }
}

#[test]
fn a_prompt_that_goes_on_in_the_middle_of_a_block_is_met_by_the_fetch_behind_it() {
    for own in [5, 37, 100, 201] {
        // The board hears the holder before the prompt, in its first step, or later.
        for heard_ms in [0, 300, 2_000] {
            let (ttft, from_peers, here) = heard_after(own, heard_ms);
            let what = format!(
                "{own} here, heard after {heard_ms} ms: TTFT {ttft} ms, {from_peers} from the peer, {here} from here"
            );
            eprintln!("{what}");
            assert!(here + from_peers > own, "{what}");
            assert!(
                ttft <= bound((TOKENS - own) as u64).min(heard_ms + 1_000 + computing(64)),
                "{what}"
            );
        }
    }
}
