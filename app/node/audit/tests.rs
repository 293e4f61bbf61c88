//! Which blocks are drawn, which warnings are heeded, and which peers are readmitted.

use std::sync::Arc;

use super::super::config::NodeConfig;
use super::requests::{Reason, Request, Requests};
use super::*;
use crate::cache::{self, ChainSecret, Link, Slot};
use crate::id::{BlockKey, EpochState, Fingerprint, TokenId};
use crate::keyring::{Entropy, Keyring};
use crate::kv::{KvFormat, KvShape, Plane};
use crate::limits::{
    DISTRUST_MS, MAX_AUDIT_ROUNDS, MAX_AUDITS, MAX_PEERS, MAX_WARNINGS_A_PEER, MAX_WARNINGS_HEEDED,
    WARNING_WINDOW_MS,
};

const FINGERPRINT: Fingerprint = Fingerprint([7; 16]);

fn key(number: u64) -> BlockKey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_le_bytes());
    BlockKey(key)
}

fn waiting(requests: &mut Requests) -> Vec<Request> {
    std::iter::from_fn(|| requests.next()).collect()
}

#[test]
fn as_large_a_share_is_drawn_as_is_asked_for_and_the_same_seed_draws_the_same() {
    for (per_10k, least, most) in
        [(0, 0, 0), (100, 70, 130), (5_000, 4_800, 5_200), (10_000, 10_000, 10_000)]
    {
        let drawn = || {
            let mut requests = Requests::new(per_10k, 7);
            let mut drawn = Vec::new();
            for number in 0..10_000 {
                requests.draw(key(number));
                drawn.extend(waiting(&mut requests).into_iter().map(|request| request.key));
            }
            drawn
        };
        assert!(
            (least..=most).contains(&drawn().len()),
            "{} of 10,000 at {per_10k}",
            drawn().len()
        );
        assert_eq!(drawn(), drawn());
    }
}

#[test]
fn what_waits_has_a_bound_and_what_is_urgent_comes_first() {
    let mut requests = Requests::new(10_000, 7);
    (0..1_000).for_each(|number| requests.draw(key(number)));
    requests.draw(key(0));
    let urgent = Request { key: key(5_000), why: Reason::Doubted, tries: 0 };
    requests.push_front(urgent);
    requests.push_front(urgent);
    let waiting = waiting(&mut requests);
    assert_eq!(waiting.len(), MAX_AUDITS);
    assert_eq!(waiting[0].key, key(5_000), "before all others");
    assert_eq!(waiting.iter().filter(|request| request.key == key(5_000)).count(), 1, "and once");
}

#[test]
fn whoever_warns_again_and_again_is_not_heeded_but_the_next_hour_is_another() {
    let mut requests = Requests::new(10_000, 7);
    let heeded = |requests: &mut Requests, by: u64, now: u64| {
        let heeds =
            |number: &u64| requests.heeds(NodeId(by), NodeId(99), key(*number), Millis(now));
        (0..100).filter(heeds).count()
    };
    assert_eq!(heeded(&mut requests, 1, 0), MAX_WARNINGS_A_PEER);
    assert_eq!(heeded(&mut requests, 1, 1), 0);
    let full = (MAX_WARNINGS_HEEDED / MAX_WARNINGS_A_PEER) as u64;
    assert!((2..=full).all(|by| heeded(&mut requests, by, 2) == MAX_WARNINGS_A_PEER));
    assert_eq!(heeded(&mut requests, 1, 3), 0, "all places are occupied");
    assert_eq!(heeded(&mut requests, 1, WARNING_WINDOW_MS + 2), MAX_WARNINGS_A_PEER);
    assert!(
        !requests.heeds(NodeId(1), NodeId(99), key(0), Millis(WARNING_WINDOW_MS + 3)),
        "a repeat is not new"
    );
}

/// A node with the key can speak in the name of all others. Nodes that it does not impersonate must
/// still be heard, and its cost must be bounded.
#[test]
fn whoever_forges_the_names_of_others_shuts_nobody_out_and_costs_a_bounded_number_of_audits() {
    let mut requests = Requests::new(10_000, 7);
    let mut warn =
        |by: u64, number: u64| requests.heeds(NodeId(by), NodeId(99), key(number), Millis(0));
    let forged = MAX_WARNINGS_HEEDED as u64 - 1;
    let all = |warn: &mut dyn FnMut(u64, u64) -> bool, numbers: std::ops::Range<u64>| {
        (0..forged)
            .map(|by| numbers.clone().filter(|number| warn(by, *number)).count())
            .sum::<usize>()
    };
    let heeded = all(&mut warn, 0..50);
    assert!((MAX_WARNINGS_HEEDED..=3 * MAX_WARNINGS_HEEDED).contains(&heeded), "{heeded}");
    while all(&mut warn, 50..60) > 0 {}
    assert!(warn(1_000, 0), "the genuine one");
    assert_eq!(all(&mut warn, 60..100), 0, "no two push each other out in turns");
    assert!(!warn(1_000, 0), "it still counts");
}

/// A node with one block that a peer made, and all other slots in use.
fn full_node(link: &Link) -> (Shared, Vec<Slot>) {
    let layers = [Plane::Sliding, Plane::Global];
    let config = NodeConfig {
        node: NodeId(1),
        boot: BootId(1),
        seed: 1,
        name: Default::default(),
        keys: Keyring::open(),
        entropy: Entropy([1; 32]),
        fingerprint: FINGERPRINT,
        epochs: EpochState::default(),
        shape: Arc::new(KvShape::new(&layers, 1, 512, 64, KvFormat::F32).expect("a shape")),
        slab_bytes: 1 << 20,
        context: 2_048,
        tcp_port: 7_000,
        sharing: true,
        reuse: true,
        drafts: true,
        announce_interval_ms: 300_000,
        peers: 8,
        prefill_tokens_per_s: None,
        audit_per_10k: 100,
        end_tokens: Vec::new(),
    };
    let mut shared = Shared::new(config).expect("room for a block");
    for plane in Plane::ALL {
        let slot = shared.reserve(plane).expect("an empty slab");
        assert!(shared.cache.commit(link, slot, Maker::Peer(NodeId(2))).into_slot().is_none());
    }
    assert!(
        Plane::ALL.iter().all(|plane| shared.cache.pin(link, *plane).is_some()),
        "in use, so that it is not evicted"
    );
    let taken = Plane::ALL
        .into_iter()
        .flat_map(|plane| std::iter::from_fn(|| shared.reserve(plane)).collect::<Vec<_>>())
        .collect();
    (shared, taken)
}

#[test]
fn an_audit_that_is_put_off_is_not_begun_again_before_it_is_due() {
    let secret = ChainSecret::derive(&[]);
    let link = cache::link(&secret, cache::root(&secret, FINGERPRINT), &[TokenId(7); 16]);
    let (mut shared, taken) = full_node(&link);
    shared.audits.push_front(Request { key: link.key, why: Reason::Doubted, tries: 0 });
    let mut auditor = Auditor::default();
    for tries in 1..MAX_AUDIT_TRIES {
        let due = auditor.deadline(&shared).expect("it waits");
        auditor.advance(&mut shared, due);
        auditor.advance(&mut shared, due);
        assert_eq!(auditor.deadline(&shared), Some(due + Millis(AUDIT_IDLE_MS)), "try {tries}");
    }
    assert!(shared.cache.holds(&link, Plane::Global), "it is not discarded unexamined");
    taken.into_iter().for_each(|slot| shared.cache.release(slot));
    let due = auditor.deadline(&shared).expect("it waits");
    auditor.advance(&mut shared, due);
    assert!(auditor.is_walking(), "now there is room");
}

/// The retries of half a minute are not the end: when there is room again, the audit must still
/// find the peer that made the block wrong. But it does not retry for ever.
#[test]
fn a_doubted_block_for_whose_audit_there_is_no_room_waits_for_room_and_is_forgotten_in_the_end() {
    let secret = ChainSecret::derive(&[]);
    let link = cache::link(&secret, cache::root(&secret, FINGERPRINT), &[TokenId(7); 16]);
    let try_in_vain = |shared: &mut Shared, auditor: &mut Auditor, rounds: u32| {
        for _ in 0..rounds * u32::from(MAX_AUDIT_TRIES) {
            let due = auditor.deadline(shared).expect("it waits");
            auditor.advance(shared, due);
        }
    };
    let (mut shared, taken) = full_node(&link);
    let mut auditor = Auditor::default();
    shared.audits.push_front(Request { key: link.key, why: Reason::Doubted, tries: 0 });
    try_in_vain(&mut shared, &mut auditor, 3);
    assert!(shared.cache.holds(&link, Plane::Global), "it is not discarded unexamined");
    taken.into_iter().for_each(|slot| shared.cache.release(slot));
    let due = auditor.deadline(&shared).expect("it waits");
    auditor.advance(&mut shared, due);
    assert!(auditor.is_walking(), "now there is room");

    let (mut shared, _taken) = full_node(&link);
    let mut auditor = Auditor::default();
    shared.audits.push_front(Request { key: link.key, why: Reason::Doubted, tries: 0 });
    try_in_vain(&mut shared, &mut auditor, 1 + u32::from(MAX_AUDIT_ROUNDS));
    assert!(
        !shared.cache.holds(&link, Plane::Global) && auditor.deadline(&shared).is_none(),
        "it was doubted for too long"
    );
}

#[test]
fn a_banned_peer_comes_back_after_a_while_and_a_new_start_or_once_it_has_named_another() {
    let caught = |times: u32, names: bool| {
        let mut banned = BannedPeers::default();
        (0..times).for_each(|_| banned.ban(NodeId(1), BootId(5), Millis(0)));
        if names {
            banned.names_another(NodeId(1));
        }
        banned
    };
    let is_out = |mut banned: BannedPeers, boot: Option<u64>, now: u64| {
        banned.readmit(|_| boot.map(BootId), Millis(now));
        banned.contains(NodeId(1))
    };
    assert!(is_out(caught(1, false), Some(6), DISTRUST_MS - 1), "too soon");
    assert!(is_out(caught(1, false), Some(5), 100 * DISTRUST_MS), "the same start");
    assert!(is_out(caught(1, false), None, DISTRUST_MS), "not here");
    assert!(!is_out(caught(1, false), Some(6), DISTRUST_MS));
    assert!(!is_out(caught(1, true), Some(5), DISTRUST_MS));
    assert!(is_out(caught(2, true), Some(5), DISTRUST_MS), "that excuse counts once");
    assert!(!is_out(caught(2, true), Some(6), DISTRUST_MS));
    let mut banned = caught(1, false);
    banned.clear();
    assert!(!banned.contains(NodeId(1)), "a person has reset the swarm");
}

#[test]
fn the_table_of_banned_peers_has_a_bound_and_keeps_the_latest() {
    let mut banned = BannedPeers::default();
    let nodes = 3 * MAX_PEERS as u64;
    (0..nodes).for_each(|node| banned.ban(NodeId(node), BootId(1), Millis(node)));
    assert_eq!((0..nodes).filter(|node| banned.contains(NodeId(*node))).count(), MAX_PEERS);
    assert!(banned.contains(NodeId(nodes - 1)));
}
