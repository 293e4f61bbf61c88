//! Datagrams of a peer that has the swarm's key (the one that everybody has, where none is set) and says anything with it: the
//! trailer is put behind the bytes that the fuzzer makes. A node and a computer that orders a reset hear them.

#![no_main]

use libfuzzer_sys::fuzz_target;

use potluck::catalog::wire::{self, Header, Message};
use potluck::catalog::{Catalog, CatalogConfig, DatagramKey};
use potluck::id::{BlockKey, BootId, EpochState, Fingerprint, Millis, NodeId, SwarmTag};
use potluck::kv::Plane;
use potluck::limits::{FILTER_SEGMENT_BYTES, MAX_DATAGRAM_BYTES};

const SWARM: SwarmTag = SwarmTag(7);
/// Bytes of an envelope with nothing in it, which are put before what the fuzzer makes.
const LONGEST: usize = 1_200;

fn sealed(body: &[u8], key: &DatagramKey, peer: u8, counter: u64) -> Vec<u8> {
    let (node, boot) = (NodeId(u64::from(peer) + 2), BootId(1));
    let header = Header { swarm: SWARM, node, boot, counter, epochs: EpochState::default() };
    // The message of a reset is one byte: what stands before it is the envelope.
    let whole = wire::seal(&header, &Message::Reset, key);
    let envelope = whole.len() - 1 - 16;
    let mut bytes = whole[..envelope].to_vec();
    bytes.extend_from_slice(&body[..body.len().min(LONGEST)]);
    let known = blake3::derive_key("potluck datagrams v2", b"");
    let trailer = blake3::keyed_hash(&known, &bytes);
    bytes.extend_from_slice(&trailer.as_bytes()[..16]);
    assert!(bytes.len() <= MAX_DATAGRAM_BYTES);
    bytes
}

fuzz_target!(|data: &[u8]| {
    let key = DatagramKey::derive(b"");
    let mut catalog = Catalog::new(CatalogConfig {
        node: NodeId(1),
        boot: BootId(1),
        swarm: SWARM,
        key: key.clone(),
        fingerprint: Fingerprint([7; 16]),
        epochs: EpochState::default(),
        tcp_port: 7,
        capacity: 1_000,
        interval_ms: 1_000,
        seed: 1,
    });
    let mut now = Millis(0);
    let mut rest = data;
    let mut counter = 0;
    while let [peer, length, after @ ..] = rest {
        let (body, after) = after.split_at(after.len().min(usize::from(*length) * 5));
        rest = after;
        counter += 1;
        let from = ([127, 0, 0, *peer], 7).into();
        let used = catalog.handle(from, &sealed(body, &key, *peer % 4, counter), now);
        // The same again is a replay, and is never used.
        if used.is_ok() {
            let again = catalog.handle(from, &sealed(body, &key, *peer % 4, counter), now);
            assert!(!matches!(again, Ok(Some(_))), "a replay was news");
        }
        let _ = catalog.handle(from, body, now);
        now = now + Millis(u64::from(*length) * 10);
        if let Some(pull) = catalog.poll_pull(now) {
            let segment = [*length; FILTER_SEGMENT_BYTES];
            for index in pull.segments {
                let _ = catalog.apply_segment(pull.node, pull.boot, u64::from(*peer), index.into(), &segment, now);
            }
        }
        let _ = catalog.holders(&BlockKey([*peer; 16]), Plane::Global).count();
        let _ = catalog.deadline();
    }
    assert!(catalog.peers().count() <= potluck::limits::MAX_PEERS);
});
