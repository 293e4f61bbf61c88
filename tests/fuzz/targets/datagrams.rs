//! Datagrams with any content from a peer that has the swarm's key (the public one where no key is
//! set): the target seals the fuzzer's bytes. A node receives them; some of the boots have answered
//! it and others have not.

#![no_main]

use libfuzzer_sys::fuzz_target;

use potluck::catalog::wire::{self, Header};
use potluck::catalog::{Catalog, CatalogConfig, Datagram, Prefilter};
use potluck::id::{BlockKey, BootId, EpochState, Fingerprint, Millis, NodeId, NodeName};
use potluck::keyring::Keyring;
use potluck::kv::Plane;
use potluck::limits::FILTER_SEGMENT_BYTES;

/// Sixteen bytes of epochs precede the fuzzer's bytes.
fn sealed(body: &[u8], keys: &Keyring, peer: u8, counter: u64) -> Datagram {
    let (node, boot) = (NodeId(u64::from(peer) + 2), BootId(1));
    let header = Header { swarm: keys.current().tag(), node, boot, counter, epochs: EpochState::default() };
    let text = [&[0; 16], &body[..body.len().min(wire::MAX_TEXT_BYTES - 16)]].concat();
    wire::seal_text(&header, &text, keys.current())
}

fuzz_target!(|data: &[u8]| {
    let keys = Keyring::open();
    let mut prefilter = Prefilter::new(keys.clone());
    let mut catalog = Catalog::new(CatalogConfig {
        node: NodeId(1),
        boot: BootId(1),
        name: NodeName::default(),
        keys: keys.clone(),
        fingerprint: Fingerprint([7; 16]),
        epochs: EpochState::default(),
        tcp_port: 7,
        capacity: 1_000,
        interval_ms: 1_000,
        peers: 64,
        seed: 1,
    });
    let mut now = Millis(0);
    let mut rest = data;
    let mut counter = 0;
    while let [peer, length, after @ ..] = rest {
        let (body, after) = after.split_at(after.len().min(usize::from(*length) * 5));
        rest = after;
        counter += 1;
        let from = core::net::SocketAddr::from(([127, 0, 0, *peer], 7));
        if peer % 8 < 4 {
            catalog.proved(NodeId(u64::from(*peer % 4) + 2), BootId(1), from.ip(), now);
        }
        let datagram = sealed(body, &keys, *peer % 4, counter);
        let used = catalog.handle(from, &datagram, now);
        assert!(used.is_err() || prefilter.passes(from, &datagram, now), "the prefilter must pass what the node uses");
        // The same datagram again is a replay, and is never used.
        if used.is_ok() {
            let again = catalog.handle(from, &datagram, now);
            assert!(!matches!(again, Ok(Some(_))), "a replay was accepted");
        }
        let _ = catalog.handle(from, body, now);
        now = now + Millis(u64::from(*length) * 10);
        let _ = (catalog.poll_probe(now), catalog.poll_event(), prefilter.passes(from, body, now));
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
