//! Computing from the head while fetching from the tail, compared with the optimum of two ends.

use super::{GLOBAL, ROOM, SLIDING, WINDOW, computing, fetch_bytes, shape};
use crate::sim::heap::MS;
use crate::sim::talk::{BOARD, config, prompt};
use crate::sim::world::Sim;

/// The minimum over m of the longer of computing the first m tokens and fetching what the rest
/// needs, plus the last token.
fn optimum(tokens: u64, bytes_per_ms: f64) -> f64 {
    let last = tokens - 1;
    let window = (last + 1).saturating_sub(WINDOW);
    let ends = |m: u64| {
        let fetched = (last - m) * GLOBAL + (last - m.max(window).min(last)) * SLIDING;
        (computing(m) as f64).max(fetched as f64 / bytes_per_ms)
    };
    (0..=last).map(ends).fold(f64::MAX, f64::min) + computing(1) as f64
}

/// Checks TTFTs when fetching everything takes `compute / fetch` times as long as computing it.
fn meets(compute: u64, fetch: u64) {
    let mut all = Vec::new();
    for tokens in [65, 405, 1_500] {
        let rate = (fetch_bytes(tokens - 1) * fetch) as f64 / (computing(tokens) * compute) as f64;
        let mut sim = Sim::new(
            "meeting in the middle",
            1,
            crate::sim::net::Medium::Switched,
            rate.round() as u64,
        );
        let rate = rate.round() * sim.net.segment as f64
            / (sim.net.segment + crate::sim::net::SEGMENT_OVERHEAD) as f64;
        sim.join(config(0, &shape(), ROOM), 10);
        sim.join(config(1, &shape(), ROOM), BOARD);
        sim.pass(2_000);
        for seed in 5..8 {
            let warm = prompt(seed, 120);
            sim.answer_now(0, &warm, 1);
            sim.answer_now(1, &warm, 1);
        }
        let prompt = prompt(1, tokens as usize);
        sim.answer_now(0, &prompt, 1);
        let id = sim.ask(1, &prompt, 1);
        let asked = sim.await_answer(1, id);
        let (ttft, best) = (asked.ttft() / MS, optimum(tokens, rate));
        let figures = asked.answer.as_ref().map(|answer| answer.figures().to_string());
        let of_bar = ttft as f64 / (1.1 * best + computing(16) as f64);
        eprintln!(
            "compute {compute} to fetch {fetch}, {tokens} tokens: TTFT {ttft} ms, optimum {best:.0} ms, alone {} ms: {of_bar:.2} of \
             the bar; {figures:?}",
            computing(tokens)
        );
        all.push(of_bar);
    }
    assert!(
        all.iter().all(|of_bar| *of_bar <= 1.0),
        "of the bar, for 65, 405 and 1,500 tokens: {all:.2?}"
    );
}

#[test]
fn computing_and_fetching_meet_where_they_are_equally_fast() {
    meets(1, 1);
}

#[test]
fn computing_and_fetching_meet_where_computing_is_three_times_as_fast() {
    meets(3, 1);
}

#[test]
fn computing_and_fetching_meet_where_fetching_is_three_times_as_fast() {
    meets(1, 3);
}

/// Two holders on their own slow lines: the meeting point follows from their combined rate.
#[test]
fn two_holders_on_lines_of_their_own_bring_twice_as_much() {
    let tokens = 405;
    let rate = fetch_bytes(tokens - 1) / computing(tokens);
    let mut sim = Sim::new("two slow holders", 1, crate::sim::net::Medium::Switched, 4 * rate);
    for holder in 0..2 {
        sim.join(config(holder, &shape(), ROOM), 10);
    }
    sim.join(config(2, &shape(), ROOM), BOARD);
    sim.pass(2_000);
    (0..2).for_each(|holder| sim.set_rate(holder, rate));
    for seed in 5..9 {
        let warm = prompt(seed, 120);
        sim.answer_now(seed as usize % 2, &warm, 1);
        sim.answer_now(2, &warm, 1);
    }
    let prompt = prompt(1, tokens as usize);
    for holder in 0..2 {
        sim.answer_now(holder, &prompt, 1);
    }
    let ttft = sim.ttft_now(2, &prompt);
    let best = optimum(tokens, 2.0 * rate as f64);
    eprintln!(
        "two slow holders: TTFT {ttft} ms, optimum {best:.0} ms, alone {} ms",
        computing(tokens)
    );
    assert!(
        ttft as f64 <= 1.1 * best + computing(16) as f64,
        "TTFT {ttft} ms, optimum {best:.0} ms"
    );
}
