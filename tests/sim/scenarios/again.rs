//! Prompts that another board has already answered, at the board's pace and on the published link:
//! how much sooner the last token comes.

use std::sync::Arc;

use potluck::kv::KvShape;
use potluck::node::{Figures, NodeConfig};
use potluck::pace::{Pace, PaceParts};

use crate::sim::engine::shape_270m;
use crate::sim::heap::MS;
use crate::sim::net::{Medium, SEGMENT_OVERHEAD};
use crate::sim::talk::{config, expected, prompt};
use crate::sim::world::Sim;

/// A slab for about 6,500 tokens of the 270M.
const ROOM: usize = 64 << 20;

/// TCP's payload of a full Ethernet frame.
const SEGMENT: usize = 1_448;
const FRAME: f64 = 1_514.0;

/// Tokens of an answer.
const ANSWER: usize = 64;

/// The board's costs, copied from `tools/eval/zero2w.toml`, because the pure core cannot
/// read that table.
pub fn zero2w() -> Pace {
    let parts = PaceParts {
        name: "zero2w".to_string(),
        estimate: true,
        start_ms: 11_000.0,
        token_us: vec![
            (1.0, 58_000.0),
            (2.0, 29_000.0),
            (3.0, 19_300.0),
            (4.0, 14_500.0),
            (5.0, 11_600.0),
            (6.0, 11_000.0),
            (64.0, 11_000.0),
        ],
        depth_us: vec![(0.0, 0.0), (512.0, 3_300.0), (2_048.0, 5_000.0)],
        logits_us: vec![
            (1.0, 137_000.0),
            (2.0, 68_500.0),
            (4.0, 34_250.0),
            (7.0, 19_600.0),
            (8.0, 18_000.0),
            (16.0, 18_000.0),
        ],
        job_us: 200.0,
    };
    Pace::new(parts).expect("good costs")
}

/// Bytes of TCP payload per millisecond.
pub fn payload(mbit_per_s: f64) -> f64 {
    mbit_per_s * 1e6 / 8e3 * SEGMENT as f64 / FRAME
}

/// Two boards on a link with a round trip of 6 ms, which have measured themselves and each other.
pub fn boards(name: &str, shape: &Arc<KvShape>, pace: &Pace, mbit_per_s: f64, drafts: bool) -> Sim {
    let carried = payload(mbit_per_s) * (SEGMENT + SEGMENT_OVERHEAD) as f64 / SEGMENT as f64;
    let mut sim = Sim::new(name, 1, Medium::Switched, carried.round() as u64);
    (sim.net.segment, sim.net.window, sim.net.weather.latency) = (SEGMENT, 128 << 10, 3 * MS);
    for number in 0..2 {
        let rate = Some(pace.prefill_tokens_per_s());
        sim.join(
            NodeConfig {
                prefill_tokens_per_s: rate,
                context: 4_096,
                drafts,
                ..config(number, shape, ROOM)
            },
            10,
        );
    }
    sim.stations[1].engine.pace = Some(pace.clone());
    sim.pass(2_000);
    for seed in 5..8 {
        let warm = prompt(seed, 300);
        sim.answer_now(0, &warm, 1);
        sim.answer_now(1, &warm, 1);
    }
    sim
}

/// The figures of the second of two boards for a prompt of `wanted` tokens, which the first has
/// answered before if `held`. The second drafts if `drafts`, and has answered something before
/// unless `fresh`.
fn answered(wanted: usize, held: bool, drafts: bool, fresh: bool) -> Figures {
    let (shape, pace, wanted) = (shape_270m(256, 512), zero2w(), prompt(1, wanted));
    let mut sim = boards("a repeated answer", &shape, &pace, 20.9, drafts);
    if !fresh {
        // Lets it measure its steps.
        sim.answer_now(1, &prompt(9, 40), 8);
    }
    if held {
        sim.answer_now(0, &wanted, ANSWER);
    }
    let right = expected(sim.stations[1].config.fingerprint, &wanted, ANSWER);
    let id = sim.ask(1, &wanted, ANSWER);
    let answer = sim.await_answer(1, id).answer.clone().expect("answered");
    assert_eq!(answer.tokens(), right);
    answer.figures().clone()
}

/// A tenth of the published system's miss: 23.74 s for 65 tokens and an answer of about as many.
#[test]
fn a_board_answers_in_a_fifth_of_the_time_what_another_has_answered() {
    for tokens in [65, 72, 80, 334, 405] {
        let miss = answered(tokens, false, true, true);
        for fresh in [true, false] {
            let hit = answered(tokens, true, true, fresh);
            let ratio = hit.ttlt_ms as f64 / miss.ttlt_ms as f64;
            eprintln!(
                "{tokens} tokens: TTFT {} ms, TTLT {} ms, a miss {} ms: {ratio:.4}",
                hit.ttft_ms, hit.ttlt_ms, miss.ttlt_ms
            );
            assert!(
                ratio <= 0.2,
                "{tokens} tokens: {} ms, a miss {} ms: {hit:?}",
                hit.ttlt_ms,
                miss.ttlt_ms
            );
            assert!(tokens > 80 || hit.ttlt_ms <= 2_374, "{} ms", hit.ttlt_ms);
        }
    }
}

/// Drafting must not delay the first token.
#[test]
fn the_first_token_comes_no_later_with_drafts_than_without() {
    for tokens in [65, 405] {
        let [with, without] =
            [true, false].map(|drafts| answered(tokens, true, drafts, true).ttft_ms);
        assert!(with <= without + 3, "{tokens} tokens: {with} ms, without drafts {without} ms");
    }
}
