//! A peer that is slower than measured: the bytes that arrive stay useful, and the answer is no
//! later than alone.

use super::{ROOM, bound, computing, fetch_bytes, shape, used_bytes};
use crate::sim::heap::MS;
use crate::sim::talk::prompt;
use crate::sim::world::Sim;

const TOKENS: u64 = 1_000;

fn slower(tenths: u64) {
    let name = format!("a peer {}.{} times slower than measured", tenths / 10, tenths % 10);
    // At the measured rate the fetch takes a quarter of the computing time.
    let rate = fetch_bytes(TOKENS) * 4 / computing(TOKENS);
    let mut sim = Sim::swarm(&name, 2, &shape(), ROOM, rate);
    let tokens = prompt(1, TOKENS as usize);
    sim.answer_now(0, &tokens, 1);
    for seed in 2..6 {
        sim.answer_now(0, &prompt(seed, 100), 1);
        sim.answer_now(1, &prompt(seed, 100), 1);
    }
    let measured = sim.status(1).peers[0].goodput_bytes_per_s;
    assert!(measured.is_some(), "{name}: the peer must be measured");
    sim.set_rate(0, rate * 10 / tenths);
    let id = sim.ask(1, &tokens, 1);
    let asked = sim.await_answer(1, id);
    let (ttft, used, received) = (asked.ttft() / MS, used_bytes(asked), asked.received);
    let figures = asked.answer.as_ref().map(|answer| answer.figures().to_string());
    let what = format!(
        "{name}: TTFT {ttft} ms, alone {} ms; {used} of {received} bytes used; {figures:?}; measured {measured:?} of {rate}",
        computing(TOKENS)
    );
    eprintln!("{what}");
    assert!(ttft <= bound(TOKENS), "{what}");
    assert!(used * 10 >= received * 6, "{what}");
}

#[test]
fn a_peer_one_and_a_half_times_slower_than_measured_costs_nothing() {
    slower(15);
}

#[test]
fn a_peer_two_times_slower_than_measured_costs_nothing() {
    slower(22);
}

#[test]
fn a_peer_five_times_slower_than_measured_costs_nothing() {
    slower(50);
}
