//! An attacker replays recorded datagrams of a swarm. That must cost the swarm no more than a
//! counter and a few connections.

use core::net::SocketAddr;

use super::net::{CALM, Net, config, udp};
use crate::catalog::*;
use crate::limits::{
    ANNOUNCE_INTERVAL_MS, CLAIM_LIFETIME_MS, CLAIM_PROBES, MAX_CLAIMS, MAX_CLAIMS_PER_NODE,
};

const INTERVAL: u64 = ANNOUNCE_INTERVAL_MS as u64;

/// An address without a node.
fn bogus(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 9, number], 7_654))
}

/// The first announcement of `boot` of a node.
fn announcement(number: u8, boot: u64) -> Datagram {
    Catalog::new(CatalogConfig { boot: BootId(boot), ..config(number) })
        .poll_datagram(Millis(0))
        .unwrap()
}

/// What a catalog knows of its peers.
fn peers(catalog: &Catalog) -> Vec<(NodeId, BootId, SocketAddr, usize)> {
    catalog.peers().map(|peer| (peer.node, peer.boot, peer.addr, peer.stale_segments())).collect()
}

#[test]
fn a_boot_is_believed_only_when_it_has_answered_and_then_at_once() {
    let mut catalog = Catalog::new(config(1));
    let told = announcement(0, 5);
    assert_eq!(catalog.handle(udp(0), &told, Millis(0)), Ok(None));
    assert_eq!((catalog.peers().count(), catalog.stats().claims), (0, 1));
    let probe = catalog.poll_probe(Millis(300)).expect("a newcomer is probed within 300 ms");
    assert_eq!((probe.node, probe.addr), (NodeId(1_000), SocketAddr::new(udp(0).ip(), 7_000)));
    // A hello of another boot, or from elsewhere, proves nothing about this one.
    catalog.proved(NodeId(1_000), BootId(6), udp(0).ip(), Millis(301));
    catalog.proved(NodeId(1_000), BootId(5), bogus(1).ip(), Millis(301));
    assert_eq!(catalog.peers().count(), 0);
    catalog.proved(NodeId(1_000), BootId(5), udp(0).ip(), Millis(301));
    assert_eq!(catalog.poll_event(), Some(Event::Joined(NodeId(1_000))));
    assert_eq!(catalog.peer(NodeId(1_000)).unwrap().boot, BootId(5));
}

/// A node that connected before its announcement was heard need not be probed.
#[test]
fn a_proof_that_comes_first_waits_for_the_announcement() {
    let mut catalog = Catalog::new(config(1));
    catalog.proved(NodeId(1_000), BootId(5), udp(0).ip(), Millis(0));
    assert_eq!(
        catalog.handle(udp(0), &announcement(0, 5), Millis(900)),
        Ok(Some(Event::Joined(NodeId(1_000))))
    );
    let mut late = Catalog::new(config(1));
    late.proved(NodeId(1_000), BootId(5), udp(0).ip(), Millis(0));
    assert_eq!(
        late.handle(udp(0), &announcement(0, 5), Millis(60_001)),
        Ok(None),
        "an old proof has expired"
    );
}

#[test]
fn an_announcement_replayed_after_its_node_was_off_brings_nothing_back() {
    let mut net = Net::of(3, CALM, 1);
    let recorded = announcement(2, 2_002);
    net.run(2_000);
    net.nodes[2] = None;
    net.run(60_000);
    let before = peers(net.node(0));
    assert_eq!(before.len(), 1);
    for from in [udp(2), bogus(1)] {
        let now = net.now;
        assert_eq!(net.node_mut(0).handle(from, &recorded, now), Ok(None));
        net.run(20_000);
        assert_eq!(peers(net.node(0)), before);
    }
    assert_eq!(
        net.probes.iter().filter(|(who, _)| *who == 0).count() as u32,
        1 + 2 * CLAIM_PROBES,
        "node 1 at the start"
    );
}

/// The real boot of a node must not be ignored, nor lose its address, because old boots were
/// replayed, however many.
#[test]
fn a_flood_of_old_boots_neither_harms_the_present_one_nor_keeps_the_next_one_out() {
    let mut net = Net::of(3, CALM, 1);
    net.run(2_000);
    let before = peers(net.node(0));
    let flood = |net: &mut Net, ms: u64| {
        for step in 0..ms / 100 {
            for boot in 0..40 {
                let old = announcement(2, 100 + boot);
                let from = if boot % 2 == 0 { udp(2) } else { bogus(boot as u8) };
                let now = net.now;
                assert_eq!(net.node_mut(0).handle(from, &old, now), Ok(None), "step {step}");
            }
            net.run(100);
        }
    };
    flood(&mut net, 5_000);
    assert_eq!(peers(net.node(0)), before);
    let claims = net.node(0).stats().claims;
    assert!(claims <= 6 * MAX_CLAIMS_PER_NODE as u64 + 2, "{claims} claims were accepted");

    net.nodes[2] = Some(Catalog::new(CatalogConfig { boot: BootId(9_999), ..config(2) }));
    flood(&mut net, INTERVAL);
    assert_eq!(net.node(0).peer(NodeId(1_002)).unwrap().boot, BootId(9_999));
    assert!(net.events.contains(&(0, Event::Restarted(NodeId(1_002)))));
    assert_eq!(net.disagreement(), None);
}

#[test]
fn a_freshly_started_receiver_believes_no_replay_either() {
    let mut net = Net::of(2, CALM, 1);
    net.run(2_000);
    net.nodes[0] = Some(Catalog::new(CatalogConfig { boot: BootId(77), ..config(0) }));
    let (old, now) = (announcement(1, 1_999), net.now);
    for from in [udp(1), bogus(1)] {
        assert_eq!(net.node_mut(0).handle(from, &old, now), Ok(None));
    }
    net.run(2_000);
    assert_eq!(net.node(0).peer(NodeId(1_001)).unwrap().boot, BootId(2_001));
    assert_eq!(net.disagreement(), None);
}

/// A peer's address changes (a board moves to another network), but only to one where the
/// node answers.
#[test]
fn a_peer_moves_to_an_address_that_it_has_answered_from_and_to_no_other() {
    let mut sender = Catalog::new(config(0));
    let mut receiver = Catalog::new(config(1));
    receiver.proved(NodeId(1_000), BootId(2_000), udp(0).ip(), Millis(0));
    let mut announce = |at: u64| {
        sender.set_epochs(super::net::resets(1), Millis(at));
        sender.poll_datagram(Millis(at)).unwrap()
    };
    receiver.handle(udp(0), &announce(0), Millis(0)).unwrap();
    let addr = |receiver: &Catalog| receiver.peer(NodeId(1_000)).unwrap().addr.ip();
    receiver.handle(bogus(1), &announce(1_000), Millis(1_000)).unwrap();
    assert_eq!(addr(&receiver), udp(0).ip());
    assert_eq!(
        receiver.peer(NodeId(1_000)).unwrap().datagrams,
        2,
        "its content counts, wherever it comes from"
    );
    let probe = receiver.poll_probe(Millis(1_400)).unwrap();
    assert_eq!(probe.addr.ip(), bogus(1).ip());
    receiver.proved(NodeId(1_000), BootId(2_000), bogus(1).ip(), Millis(1_401));
    assert_eq!((addr(&receiver), receiver.stats().moved), (bogus(1).ip(), 1));
}

/// A relay: it repeats a node's datagrams from its own address and forwards the connections to it.
/// It is no more than a short wire.
#[test]
fn whoever_passes_a_node_on_stands_in_for_it_until_its_next_announcement_at_most() {
    let (node, boot) = (NodeId(1_000), BootId(2_000));
    let mut sender = Catalog::new(config(0));
    let mut receiver = Catalog::new(config(1));
    receiver.proved(node, boot, udp(0).ip(), Millis(0));
    let mut announce = |at: u64| {
        sender.schedule.announce_now(Millis(at));
        sender.poll_datagram(Millis(at)).unwrap()
    };
    receiver.handle(udp(0), &announce(0), Millis(0)).unwrap();
    let addr = |receiver: &Catalog| receiver.peer(node).unwrap().addr.ip();
    let probed = |receiver: &mut Catalog, at: u64| {
        receiver.poll_probe(Millis(at)).map(|probe| probe.addr.ip())
    };

    // If the node itself is heard first, the copy does nothing.
    let told = announce(10_000);
    receiver.handle(udp(0), &told, Millis(10_000)).unwrap();
    receiver.handle(bogus(1), &told, Millis(10_001)).unwrap();
    assert_eq!((probed(&mut receiver, 11_000), addr(&receiver)), (None, udp(0).ip()));

    // Otherwise the node answers at the relay's address.
    receiver.handle(bogus(1), &announce(20_000), Millis(20_000)).unwrap();
    assert_eq!(probed(&mut receiver, 20_400), Some(bogus(1).ip()));
    receiver.proved(node, boot, bogus(1).ip(), Millis(20_401));
    assert_eq!(addr(&receiver), bogus(1).ip());

    // Its next announcement leads back to it, whatever the relay repeats.
    let told = announce(30_000);
    receiver.handle(udp(0), &told, Millis(30_000)).unwrap();
    receiver.handle(bogus(1), &told, Millis(30_001)).unwrap();
    assert_eq!(probed(&mut receiver, 30_400), Some(udp(0).ip()));
    receiver.proved(node, boot, udp(0).ip(), Millis(30_401));
    assert_eq!((addr(&receiver), receiver.stats().moved), (udp(0).ip(), 2));
}

/// No table grows with what a stranger sends, and the stranger makes this node connect at most a
/// few times a second.
#[test]
fn a_flood_of_recorded_announcements_costs_little() {
    let mut catalog = Catalog::new(config(0));
    let mut probes = 0;
    for step in 0..CLAIM_LIFETIME_MS / 50 {
        let now = Millis(step * 50);
        for number in 0..60u64 {
            let old = announcement((1 + number % 200) as u8, 10_000 + step * 60 + number);
            let _ = catalog.handle(bogus(number as u8), &old, now);
        }
        probes += core::iter::from_fn(|| catalog.poll_probe(now)).count();
        while catalog.poll_datagram(now).is_some() {}
    }
    assert_eq!(catalog.peers().count(), 0);
    assert!(
        probes <= 4 * MAX_CLAIMS * CLAIM_PROBES as usize,
        "{probes} connections in half a minute"
    );
    let stats = catalog.stats();
    assert!(stats.announcements_sent <= CLAIM_LIFETIME_MS / 1_000 + 1, "{stats:?}");
    assert!(stats.claims <= 4 * MAX_CLAIMS as u64 && stats.claims_dropped > 30_000, "{stats:?}");
}

/// Cloning a card clones the node's id. A replay of an earlier boot looks the same and must make
/// nobody step aside.
#[test]
fn the_newer_of_two_machines_with_one_id_steps_aside_when_they_have_met() {
    let mut catalog = Catalog::new(config(0));
    catalog.poll_datagram(Millis(0)).unwrap();
    assert_eq!(catalog.handle(udp(4), &announcement(0, 99), Millis(60_000)), Ok(None));
    let probe = catalog.poll_probe(Millis(60_000)).expect("the twin is probed");
    assert_eq!((probe.node, probe.addr), (NodeId(1_000), SocketAddr::new(udp(4).ip(), 7_000)));
    assert_eq!(catalog.poll_event(), None, "a datagram alone proves nothing");
    catalog.handle(udp(5), &announcement(0, 98), Millis(60_001)).unwrap();
    assert_eq!(catalog.poll_probe(Millis(60_002)), None, "not at every replay");
    let meets = |boot: u64, uptime_s: u32| {
        let mut catalog = Catalog::new(config(0));
        catalog.poll_probe(Millis(0));
        catalog.twin(BootId(boot), uptime_s, udp(4).ip(), true, Millis(60_000));
        catalog.poll_event()
    };
    let twin = |steps_aside| Some(Event::Twin { ip: udp(4).ip(), steps_aside });
    assert_eq!(meets(99, 10), twin(false));
    assert_eq!(meets(99, 600), twin(true));
    assert_eq!(
        (meets(99, 60), meets(9_000, 61)),
        (twin(true), twin(false)),
        "at the same time: the higher boot"
    );
    assert_eq!(meets(2_000, 600), None, "this very start");
    // The one that steps aside uses its new id at once.
    catalog.rename(NodeId(5), Millis(61_000));
    let said = catalog.poll_datagram(Millis(61_000)).expect("an announcement");
    let mut text = Datagram::new();
    let (header, _) = wire::open(&said, &config(0).keys, &mut text).unwrap();
    assert_eq!((header.node, header.boot), (NodeId(5), BootId(2_000)));
}

/// Anyone with the key can connect under this node's id as often as they like.
#[test]
fn a_caller_renames_nobody_and_a_node_steps_aside_twice_at_most() {
    let mut catalog = Catalog::new(config(0));
    catalog.poll_probe(Millis(0));
    let mut meets = |uptime_s: u32, called: bool, at: u64| {
        catalog.twin(BootId(99), uptime_s, udp(4).ip(), called, Millis(at));
        catalog.poll_event()
    };
    let twin = |steps_aside| Some(Event::Twin { ip: udp(4).ip(), steps_aside });
    assert_eq!(meets(600, false, 60_000), None);
    assert_eq!(
        (meets(1, false, 60_000), meets(1, false, 64_999), meets(1, false, 65_000)),
        (twin(false), None, twin(false))
    );
    assert_eq!((meets(600, true, 70_000), meets(600, true, 75_000)), (twin(true), twin(true)));
    assert_eq!(meets(600, true, 80_000), twin(false), "it stays, and says so");
}

/// A probe for which there was no room is made later, and no other.
#[test]
fn a_probe_that_is_put_off_is_offered_again() {
    let mut catalog = Catalog::new(config(0));
    catalog.handle(udp(4), &announcement(0, 99), Millis(0)).unwrap();
    let twin = catalog.poll_probe(Millis(0)).expect("a twin is probed");
    catalog.put_off(&twin, Millis(0));
    assert_eq!(
        (catalog.poll_probe(Millis(299)), catalog.poll_probe(Millis(300))),
        (None, Some(twin))
    );
}

/// Two replayed boots block a node's claims no longer than their probes take, and a newcomer that
/// finds no place is answered.
#[test]
fn a_claim_that_has_not_answered_gives_way() {
    let mut catalog = Catalog::new(config(0));
    for boot in [5, 6] {
        catalog.handle(bogus(boot as u8), &announcement(1, boot), Millis(0)).unwrap();
    }
    catalog.handle(udp(1), &announcement(1, 7), Millis(100)).unwrap();
    assert_eq!((catalog.stats().claims, catalog.stats().claims_dropped), (2, 1));
    for at in 0..40 {
        while catalog.poll_probe(Millis(at * 100)).is_some() {}
    }
    catalog.handle(udp(1), &announcement(1, 7), Millis(8_000)).unwrap();
    let probes: Vec<_> = core::iter::from_fn(|| catalog.poll_probe(Millis(8_300))).collect();
    assert_eq!((catalog.stats().claims, probes.len(), probes[0].boot), (3, 1, Some(BootId(7))));
}

#[test]
fn versions_are_told_once_an_address_and_not_without_end() {
    let mut catalog = Catalog::new(config(0));
    let mut datagram = announcement(1, 1);
    datagram[4] = wire::VERSION + 1;
    let told = (0..100)
        .filter(|number| {
            matches!(catalog.handle(bogus(number % 50), &datagram, Millis(0)), Ok(Some(_)))
        })
        .count();
    assert_eq!((told, catalog.stats().other_version), (crate::limits::MAX_VERSIONS_REPORTED, 100));
}
