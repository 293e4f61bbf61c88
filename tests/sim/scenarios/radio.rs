//! A radio is shared: more holders do not bring more bytes per second.

use super::{RADIO, ROOM, shape};
use crate::sim::net::Medium;
use crate::sim::talk::{BOARD, config, prompt};
use crate::sim::world::Sim;

/// TTFT of a prompt that `holders` nodes on one radio hold.
fn ttft(holders: usize) -> u64 {
    let mut sim = Sim::new("one radio", 1, Medium::Air, 2 * RADIO);
    for number in 0..holders as u64 {
        sim.join(config(number, &shape(), ROOM), 10);
    }
    sim.join(config(holders as u64, &shape(), ROOM), BOARD);
    sim.pass(3_000);
    for holder in 0..holders {
        for seed in 0..2 {
            let warm = prompt((100 + 10 * holder + seed) as u32, 200);
            sim.answer_now(holder, &warm, 1);
            sim.answer_now(holders, &warm, 1);
        }
    }
    let tokens = prompt(1, 405);
    for holder in 0..holders {
        sim.answer_now(holder, &tokens, 1);
    }
    sim.pass(3_000);
    sim.ttft_now(holders, &tokens)
}

#[test]
fn eight_holders_on_one_radio_are_as_fast_as_one() {
    let (one, eight) = (ttft(1), ttft(8));
    let what = format!("one holder {one} ms, eight {eight} ms");
    eprintln!("{what}");
    assert!(eight * 10 <= one * 11, "{what}");
}
