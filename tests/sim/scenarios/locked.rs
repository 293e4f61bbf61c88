//! What the swarm's key keeps out of connections between nodes: strangers, replays of recorded
//! traffic, and attackers between two nodes.

use super::{RADIO, ROOM, computing, shape};
use crate::sim::Sim;
use crate::sim::cast::Raid;
use crate::sim::net::Medium;
use crate::sim::talk::{BOARD, config, prompt};

const TOKENS: u64 = 400;

/// A holder that computes instantly and has answered one prompt, a board, and a third machine
/// without the key.
fn swarm(name: &str) -> Sim {
    let mut sim = Sim::new(name, 1, Medium::Switched, RADIO);
    sim.join(config(0, &shape(), ROOM), 10);
    sim.join(config(1, &shape(), ROOM), BOARD);
    sim.join(config(2, &shape(), ROOM), BOARD);
    sim.pass(2_000);
    sim.answer_now(0, &prompt(1, TOKENS as usize), 1);
    sim
}

/// Everything that the board and the holder sent each other for one prompt.
fn recorded(sim: &mut Sim) -> [Vec<u8>; 2] {
    sim.taped = Some(Default::default());
    let ttft = sim.ttft_now(1, &prompt(1, TOKENS as usize));
    assert!(ttft * 2 <= computing(TOKENS), "it was fetched, in {ttft} ms");
    let taped = sim.taped.take().expect("just given");
    [(1, 0), (0, 1)].map(|way| taped.get(&way).cloned().expect("they talked"))
}

#[test]
fn a_stranger_without_the_key_is_told_one_word_and_fills_no_log() {
    let mut sim = swarm("strangers");
    let served = sim.status(0).node_stats.planes_served;
    let knock = |key: &[u8]| {
        let keyring = potluck::keyring::Keyring::new(key, []);
        let mut channel = potluck::transfer::Channel::initiator(keyring.current(), [7; 32]);
        channel.writable();
        channel.send(|_| false).expect("a caller must send its knock")
    };
    let mut stolen = knock(b"test");
    let len = stolen.len();
    stolen[len - 20] ^= 1;
    for first in [knock(b"other"), knock(b""), stolen] {
        sim.overheard.clear();
        sim.raid(2, 0, &Raid::Stranger(first), 1);
        sim.pass(2_000);
        assert_eq!(sim.overheard, [2, 0, 12, 4]);
    }
    for _ in 0..50 {
        sim.raid(2, 0, &Raid::Stranger(knock(b"other")), 4);
        sim.pass(100);
    }
    assert_eq!(
        (
            sim.notes(0).iter().filter(|note| note.contains("caller")).count(),
            sim.status(0).node_stats.planes_served
        ),
        (0, served)
    );
    assert!(sim.status(0).node_stats.peer_faults >= 100);
    sim.assert_quiet();
}

#[test]
fn what_was_recorded_gets_no_block_when_it_is_played_again() {
    let mut sim = swarm("a recording");
    let [up, down] = recorded(&mut sim);
    let served = sim.status(0).node_stats.planes_served;
    sim.overheard.clear();
    sim.raid(2, 0, &Raid::Stranger(up), 1);
    sim.pass(10_000);
    assert_eq!(sim.status(0).node_stats.planes_served, served);
    // The handshake answer, and a last message that only the board could read.
    assert_eq!(sim.overheard.len(), 50 + 22, "{:?}", sim.overheard);
    assert!(
        !down.windows(8).any(|bytes| sim.overheard.windows(8).any(|heard| heard == bytes)),
        "nothing may be sent twice"
    );
}

#[test]
fn whoever_stands_between_two_nodes_can_cut_them_off_and_nothing_else() {
    let tokens = prompt(1, TOKENS as usize);
    let [up, down] = recorded(&mut swarm("between"));
    let whole = (up.len() + down.len()) as u64;
    for part in 0..24 {
        let mut sim = swarm("between");
        // Covers the handshake, the hellos, and then the whole transfer.
        sim.damage_byte = Some(
            sim.net.traffic.stream_bytes
                + if part < 12 { 17 * part } else { whole / 13 * (part - 12) },
        );
        let answer = sim.answer_now(1, &tokens, 1);
        assert_eq!(
            answer.tokens(),
            crate::sim::talk::expected(sim.stations[1].config.fingerprint, &tokens, 1),
            "part {part}"
        );
        assert!(
            sim.status(1).node_stats.peer_faults + sim.status(0).node_stats.peer_faults > 0,
            "damage to part {part} was not detected"
        );
        sim.pass(20_000);
        let other = prompt(2, TOKENS as usize);
        sim.answer_now(0, &other, 1);
        let ttft = sim.ttft_now(1, &other);
        assert!(
            ttft * 2 <= computing(TOKENS),
            "part {part}: the peer must not be blamed: TTFT {ttft} ms, alone {}",
            computing(TOKENS)
        );
        sim.assert_quiet();
    }
}
