//! A peer whose bytes are wrong but pass every check: locally computed bytes win over those
//! from the peer.

use super::{ROOM, computing, fetch_bytes, shape};
use crate::sim::cast::Mischief;
use crate::sim::talk::{BOARD, SLAB, config, prompt};
use crate::sim::world::Sim;

fn ill(mischief: Mischief) {
    for percent in [30, 60, 100, 150, 300] {
        let name = format!("{mischief:?}, fetching takes {percent} % of computing");
        let rate = (fetch_bytes(400) * 100 / (computing(400) * percent)).max(1);
        let mut sim = Sim::new(&name, 1, crate::sim::net::Medium::Switched, 20_000);
        sim.join(config(0, &shape(), ROOM), 10);
        sim.join(config(1, &shape(), SLAB), BOARD);
        sim.pass(2_000);
        let warm = prompt(9, 100);
        sim.answer_now(0, &warm, 1);
        sim.answer_now(1, &warm, 1);
        let tokens = prompt(1, 400);
        sim.answer_now(0, &tokens, 1);
        sim.corrupt(0, mischief);
        sim.set_rate(0, rate);
        // The bytes computed on and the figures are checked as they happen: the node's own bytes
        // win, and no prompt fails.
        for max_tokens in [3, 3, 20] {
            sim.answer_now(1, &tokens, max_tokens);
        }
        let mut longer = tokens.clone();
        longer.extend(prompt(5, 50));
        sim.answer_now(1, &longer, 3);
        sim.pass(20_000);
        sim.assert_quiet();
    }
}

#[test]
fn no_foreign_byte_is_read_where_own_ones_were_computed() {
    ill(Mischief::WrongBytes);
}

#[test]
fn no_byte_of_another_block_is_read_where_own_ones_were_computed() {
    ill(Mischief::WrongBlock);
}

#[test]
fn no_prompt_fails_for_a_peers_nans() {
    ill(Mischief::Poison);
}
