//! Nobody can occupy a node: strangers that hold connections open do not keep honest peers from
//! being served, and a peer that was full a moment ago is asked again.

use super::{RADIO, ROOM, bound, computing, shape};
use crate::sim::Sim;
use crate::sim::cast::{Mischief, Raid};
use crate::sim::net::Medium;
use crate::sim::talk::{BOARD, config, prompt};

const TOKENS: u64 = 400;

/// The least bytes of a knock and the handshake message after it.
const HANDSHAKE_BYTES: usize = 80;

/// A holder that computes instantly, a board, and `others`.
fn holder_and_board(name: &str, others: u64) -> Sim {
    let mut sim = Sim::new(name, 1, Medium::Switched, RADIO);
    sim.join(config(0, &shape(), ROOM), 10);
    for number in 1..2 + others {
        sim.join(config(number, &shape(), ROOM), BOARD);
    }
    sim.pass(2_000);
    sim
}

fn occupied(raid: Raid, raiders: u64) {
    let mut sim = holder_and_board("occupied", raiders);
    let tokens = prompt(1, TOKENS as usize);
    sim.answer_now(0, &tokens, 1);
    for raider in 2..2 + raiders as usize {
        sim.raid(raider, 0, &raid, 40 / raiders as usize);
    }
    sim.pass(100);
    let ttft = sim.ttft_now(1, &tokens);
    let what = format!("{raid:?} by {raiders}: TTFT {ttft} ms, alone {} ms", computing(TOKENS));
    eprintln!("{what}");
    assert!(ttft * 2 <= computing(TOKENS), "{what}");
}

#[test]
fn a_peer_is_served_although_strangers_hold_every_place() {
    occupied(Raid::Mute, 1);
}

#[test]
fn a_peer_is_served_although_strangers_that_recorded_its_handshake_hold_every_place() {
    let mut sim = holder_and_board("a recording", 0);
    sim.taped = Some(Default::default());
    let tokens = prompt(2, TOKENS as usize);
    sim.answer_now(0, &tokens, 1);
    sim.answer_now(1, &tokens, 1);
    let recorded =
        sim.taped.take().and_then(|mut taped| taped.remove(&(1, 0))).expect("it fetched");
    occupied(Raid::Stranger(recorded[..HANDSHAKE_BYTES.min(recorded.len())].to_vec()), 1);
    occupied(Raid::Stranger(recorded), 1);
}

#[test]
fn a_peer_is_served_although_another_peer_holds_every_place() {
    occupied(Raid::Idle, 1);
}

#[test]
fn a_peer_is_served_although_idle_peers_hold_every_place() {
    occupied(Raid::Idle, 10);
}

#[test]
fn a_peer_that_was_full_is_not_taken_for_dead() {
    let mut sim = holder_and_board("full for a moment", 0);
    let prompts: Vec<_> = (1..3).map(|seed| prompt(seed, TOKENS as usize)).collect();
    for tokens in &prompts {
        sim.answer_now(0, tokens, 1);
    }
    sim.corrupt(0, Mischief::Full);
    let first = sim.ttft_now(1, &prompts[0]);
    sim.stations[0].mischief = None;
    sim.pass(2_000);
    let second = sim.ttft_now(1, &prompts[1]);
    let what = format!(
        "TTFT {first} ms while it is full, {second} ms afterwards, alone {} ms",
        computing(TOKENS)
    );
    eprintln!("{what}");
    assert!(first <= bound(TOKENS) && second * 2 <= computing(TOKENS), "{what}");
}

/// The retry happens as soon as its delay is over, not at the end of an engine step.
#[test]
fn a_peer_that_was_full_is_asked_again_as_soon_as_it_may_be() {
    let mut sim = holder_and_board("full for a quarter of a second", 0);
    let tokens = prompt(1, TOKENS as usize);
    sim.answer_now(0, &tokens, 1);
    sim.corrupt(0, Mischief::Full);
    let id = sim.ask(1, &tokens, 1);
    sim.pass_until(1, 1_000, |sim| sim.status(1).node_stats.refused_by_peers > 0).expect("it asks");
    sim.stations[0].mischief = None;
    let before = sim.net.traffic.connects;
    let again =
        sim.pass_until(1, 5_000, |sim| sim.net.traffic.connects > before).expect("it asks again");
    assert!(again <= 320, "asked again after {again} ms");
    sim.await_answer(1, id);
}
