//! Catalogs against each other. Each of these tests guards that a user's prompt finds the blocks
//! that peers have.

mod keys;
pub(super) mod net;
mod order;
mod replay;

use proptest::prelude::*;

use self::net::{CALM, Net, Weather, config, key, resets, udp};
use super::*;
use crate::limits::{
    ANNOUNCE_INTERVAL_MS, LEAST_PEERS, MAX_FILTER_SEGMENTS, MAX_PEERS, SEGMENTS_A_PEER,
};

const INTERVAL: u64 = ANNOUNCE_INTERVAL_MS as u64;

fn holders(catalog: &Catalog, number: u64, plane: Plane) -> Vec<NodeId> {
    catalog.holders(&key(number), plane).collect()
}

/// A prompt repeated on another board right after the first must find its blocks.
#[test]
fn a_new_block_is_known_to_all_within_a_quarter_of_a_second() {
    let mut net = Net::of(3, CALM, 1);
    net.run(2_000);
    net.insert(0, 5, Plane::Global);
    net.run(250);
    for index in [1, 2] {
        assert_eq!(holders(net.node(index), 5, Plane::Global), [NodeId(1_000)]);
        assert_eq!(holders(net.node(index), 5, Plane::Sliding), []);
    }
    assert_eq!(holders(net.node(0), 5, Plane::Global), [], "a node is not its own peer");
    net.remove(0, 5, Plane::Global);
    net.run(250);
    assert_eq!(holders(net.node(1), 5, Plane::Global), []);
}

#[test]
fn blocks_made_together_travel_together() {
    let mut net = Net::of(2, CALM, 1);
    net.run(2_000);
    for number in 0..30 {
        Plane::ALL.into_iter().for_each(|plane| net.insert(0, number, plane));
        net.run(5);
    }
    net.run(1_000);
    assert_eq!(net.disagreement(), None);
    assert_eq!((net.node(0).stats().deltas_sent, net.node(0).stats().segments_sent), (1, 0));
}

/// A node that starts with a card full of blocks announces them in segments, which are then smaller
/// than deltas.
#[test]
fn many_changes_travel_as_segments() {
    let mut net = Net::of(2, CALM, 1);
    (0..1_000).for_each(|number| net.insert(0, number, Plane::Global));
    net.run(2_000);
    assert_eq!(net.disagreement(), None);
    let stats = net.node(0).stats();
    assert!(
        stats.segments_sent as usize == net.node(0).own.filter.geometry().segments(),
        "{stats:?}"
    );
    assert!(stats.bytes_sent < 5_000, "{stats:?}");
}

#[test]
fn three_idle_nodes_stay_far_below_a_kilobyte_a_second() {
    let mut net =
        Net::new((0..3).map(|number| CatalogConfig { capacity: 8_192, ..config(number) }), CALM, 1);
    (0..900).for_each(|number| net.insert((number % 3) as usize, number, Plane::Global));
    net.run(60_000);
    let before = net.bytes_sent;
    net.run(600_000);
    let per_second = (net.bytes_sent - before) / 600;
    assert!((30..=100).contains(&per_second), "{per_second} bytes a second");
    assert_eq!(net.disagreement(), None);
}

/// A newcomer must not wait one interval for each of its peers.
#[test]
fn a_newcomer_knows_everybody_and_is_known_within_a_second() {
    let mut net = Net::of(5, CALM, 1);
    net.nodes[4] = None;
    (0..4).for_each(|index| net.insert(index, 100 + index as u64, Plane::Global));
    net.run(65_000);
    // Nobody sends twice within a second, so the newcomer joins when nobody has just sent.
    let said =
        |net: &Net| (0..4).map(|index| net.node(index).stats().announcements_sent).sum::<u64>();
    let mut quiet_ms = 0;
    while quiet_ms < 1_100 {
        let before = said(&net);
        net.run(100);
        quiet_ms = if said(&net) == before { quiet_ms + 100 } else { 0 };
    }
    net.nodes[4] = Some(Catalog::new(config(4)));
    net.run(1_000);
    assert_eq!(net.disagreement(), None);
}

#[test]
fn whole_swarms_starting_at_once_do_not_shout() {
    let mut net = Net::of(20, CALM, 1);
    net.run(5_000);
    assert_eq!(net.disagreement(), None);
    let most = net.nodes.iter().flatten().map(|node| node.stats().announcements_sent).max();
    assert!(most <= Some(4), "{most:?}");
}

/// Blocks that a peer had before its restart are gone.
#[test]
fn a_restart_replaces_what_was_known() {
    let mut net = Net::of(3, CALM, 1);
    net.insert(0, 5, Plane::Global);
    net.run(2_000);
    let at = net.now;
    net.node_mut(0).set_epochs(resets(1), at);
    let mut late = net.node_mut(0).poll_datagram(at).expect("an announcement of the earlier start");
    net.nodes[0] = Some(Catalog::new(CatalogConfig { boot: BootId(9), ..config(0) }));
    net.held[0].clear();
    net.insert(0, 6, Plane::Global);
    net.run(1_500);
    assert_eq!(net.disagreement(), None);
    assert_eq!(holders(net.node(1), 5, Plane::Global), []);
    assert!(net.events.contains(&(1, Event::Restarted(NodeId(1_000)))));

    let now = net.now;
    assert_eq!(net.node_mut(1).handle(udp(0), &late, now), Ok(None));
    late[4] = 1;
    let told = Event::OtherVersion { ip: udp(0).ip(), older: true };
    assert_eq!(net.node_mut(1).handle(udp(0), &late, now), Ok(Some(told)));
    assert_eq!(
        net.node_mut(1).handle(udp(0), &late, now),
        Err(CatalogFault::Version(1)),
        "told once"
    );
    assert_eq!(net.disagreement(), None);
}

#[test]
fn a_goodbye_is_believed_at_once_and_silence_after_three_intervals() {
    let mut net = Net::of(3, CALM, 1);
    net.run(2_000);
    let goodbye = net.node_mut(2).goodbye();
    net.multicast(2, &goodbye);
    net.nodes[2] = None;
    net.run(100);
    assert!(net.node(0).peer(NodeId(1_002)).is_none());
    assert!(net.events.contains(&(0, Event::Left(NodeId(1_002)))));

    net.nodes[1] = None;
    net.run(2 * INTERVAL);
    assert!(net.node(0).peer(NodeId(1_001)).is_some());
    net.run(INTERVAL + 1);
    assert!(net.node(0).peer(NodeId(1_001)).is_none());
    assert_eq!(net.node(0).stats().forgotten, 1);
}

#[test]
fn a_partition_heals() {
    let mut net = Net::of(4, CALM, 1);
    net.run(2_000);
    net.side = vec![0, 0, 1, 1];
    net.run(4 * INTERVAL);
    assert!(net.node(0).peer(NodeId(1_002)).is_none());
    (0..4).for_each(|index| net.insert(index, index as u64, Plane::Sliding));
    net.run(1_000);
    net.side = vec![0; 4];
    net.run(INTERVAL + 1_000);
    assert_eq!(net.disagreement(), None);
}

/// A reset reaches nodes that were off when it happened, and nothing from before it is believed.
#[test]
fn a_newer_epoch_reaches_everybody_even_those_who_were_off() {
    let mut net = Net::of(4, CALM, 1);
    net.nodes[3] = None;
    net.insert(0, 5, Plane::Global);
    net.run(2_000);
    let now = net.now;
    net.node_mut(1).set_epochs(resets(2), now);
    assert_eq!(holders(net.node(1), 5, Plane::Global), [], "announced in the older epoch");
    net.run(2_000);
    assert!((0..3).all(|index| net.node(index).epochs() == resets(2)));
    assert!(net.events.contains(&(0, Event::ResetSeen(resets(2)))));
    net.nodes[3] = Some(Catalog::new(config(3)));
    net.run(3_000);
    assert_eq!(net.node(3).epochs(), resets(2));
    assert_eq!(net.disagreement(), None);
}

#[test]
fn an_older_epoch_is_not_believed() {
    let mut net = Net::of(2, CALM, 1);
    let mut newer = Catalog::new(CatalogConfig { epochs: resets(2), ..config(2) });
    net.insert(0, 5, Plane::Global);
    let first = net.node_mut(0).poll_datagram(Millis(0)).unwrap();
    assert_eq!(newer.handle(udp(0), &first, Millis(0)), Ok(None));
    let delta = net.node_mut(0).poll_datagram(Millis(300)).unwrap();
    newer.handle(udp(0), &delta, Millis(300)).unwrap();
    assert_eq!(holders(&newer, 5, Plane::Global), []);
    assert_eq!((newer.peers().count(), newer.stats().older_epoch), (0, 2));
    let mut older = Catalog::new(config(1));
    let announcement = newer.poll_datagram(Millis(300)).unwrap();
    older.proved(NodeId(1_002), BootId(2_002), udp(2).ip(), Millis(300));
    assert_eq!(
        older.handle(udp(2), &announcement, Millis(301)),
        Ok(Some(Event::ResetSeen(resets(2))))
    );
    assert_eq!(
        older.standing(older.peer(NodeId(1_002)).unwrap()),
        Standing::OtherEpoch,
        "until it has obeyed"
    );

    let again = net.node_mut(0).goodbye();
    newer.handle(udp(0), &again, Millis(1_400)).unwrap();
    assert!(newer.deadline() > Some(Millis(8_000)));
    net.node_mut(0).insert(&key(6), Plane::Global, Millis(1_500));
    let delta = net.node_mut(0).poll_datagram(Millis(1_800)).unwrap();
    newer.handle(udp(0), &delta, Millis(1_800)).unwrap();
    assert!(newer.poll_datagram(Millis(2_500)).is_some(), "for nodes still at the older epoch");
}

/// A peer with another model is listed, so that the user sees why it never helps, but it is
/// never asked.
#[test]
fn a_peer_with_another_model_is_listed_and_never_asked() {
    let mut net = Net::of(3, Weather { loss: 40, ..CALM }, 1);
    net.nodes[2] =
        Some(Catalog::new(CatalogConfig { fingerprint: Fingerprint([8; 16]), ..config(2) }));
    (0..200).for_each(|number| net.insert(2, number, Plane::Global));
    net.run(2 * INTERVAL);
    let node = net.node(0);
    assert_eq!(node.standing(node.peer(NodeId(1_002)).unwrap()), Standing::OtherModel);
    assert_eq!(holders(node, 5, Plane::Global), []);
    assert_eq!(net.node(2).stats().pulls, 0);
}

#[test]
fn another_swarm_on_the_same_port_is_not_heard() {
    let mut net = Net::of(2, CALM, 1);
    net.nodes[1] =
        Some(Catalog::new(CatalogConfig { keys: Keyring::new(b"another key", []), ..config(1) }));
    net.run(INTERVAL);
    assert_eq!(net.node(0).peers().count(), 0);
    assert!(net.node(0).stats().other_swarm > 0);
}

/// Every datagram carries all digests, so a loss is noticed with the next datagram, not with the
/// next announcement.
#[test]
fn a_lost_delta_is_noticed_with_the_next_and_repaired_within_a_second() {
    let mut net = Net::of(3, CALM, 1);
    net.run(2_000);
    net.weather.loss = 100;
    (0..20).for_each(|number| net.insert(0, number, Plane::Global));
    net.run(500);
    net.weather.loss = 0;
    assert_eq!(holders(net.node(1), 5, Plane::Global), []);
    net.insert(0, 1_000, Plane::Global);
    net.run(1_000);
    assert_eq!(net.disagreement(), None);
    assert_eq!(net.node(1).stats().pulls, 1);
    assert_eq!(net.node(1).peer(NodeId(1_000)).unwrap().lost, 1);
}

/// When all 64 nodes of a swarm missed something, they must not all ask for it at once: their peer
/// has 32 places, and its air time is shared by all.
#[test]
fn a_delta_lost_by_a_large_swarm_is_not_repaired_in_one_storm() {
    let mut net = Net::of(64, CALM, 1);
    net.run(60_000);
    assert_eq!(net.disagreement(), None);
    let pulls = |net: &Net| -> u64 { (1..64).map(|index| net.node(index).stats().pulls).sum() };
    net.side = (0..64).map(|index| u8::from(index > 0)).collect();
    net.insert(0, 1, Plane::Global);
    net.run(500);
    net.side = vec![0; 64];
    net.insert(0, 2, Plane::Global);
    let (before, mut most, mut at) = (pulls(&net), 0, Vec::new());
    for _ in 0..250 {
        let earlier = pulls(&net);
        net.run(100);
        most = most.max(pulls(&net) - earlier);
        at.push(pulls(&net) - before);
    }
    assert_eq!((net.disagreement(), pulls(&net) - before), (None, 63), "{at:?}");
    assert!(most <= 8, "{most} in a tenth of a second");
}

/// A peer that answers no pull must not be asked in a loop, but is asked again later in case it has
/// come back.
#[test]
fn pulls_that_fail_come_less_and_less_often_but_go_on() {
    let mut net = Net::of(2, CALM, 1);
    net.run(2_000);
    net.weather.pull_failure = 100;
    net.side = vec![0, 1];
    net.insert(0, 5, Plane::Global);
    net.run(1_000);
    net.side = vec![0, 0];
    net.run(180_000);
    let pulls = net.node(1).stats().pulls;
    assert!((6..=9).contains(&pulls), "{pulls} pulls in three minutes");
    assert_eq!(net.node(1).peer(NodeId(1_000)).unwrap().stale_segments(), 1);
    net.weather = CALM;
    net.run(90_000);
    assert_eq!(net.disagreement(), None);
}

/// A flood of nodes costs no memory, and live peers stay known.
#[test]
fn a_full_table_keeps_the_living_and_replaces_the_silent() {
    let mut catalog = Catalog::new(config(0));
    let announce = |number: u64| {
        let boot = BootId(number);
        Catalog::new(CatalogConfig { node: NodeId(number), boot, ..config(1) })
            .poll_datagram(Millis(0))
            .unwrap()
    };
    for number in 1..=LEAST_PEERS as u64 {
        let at = Millis(number);
        catalog.proved(NodeId(number), BootId(number), udp(1).ip(), at);
        assert_eq!(
            catalog.handle(udp(1), &announce(number), at),
            Ok(Some(Event::Joined(NodeId(number))))
        );
    }
    catalog.proved(NodeId(500), BootId(500), udp(1).ip(), Millis(100));
    assert_eq!(catalog.handle(udp(1), &announce(500), Millis(100)), Ok(None));
    assert_eq!(catalog.stats().table_full, 1);
    let later = Millis(2 * INTERVAL);
    catalog.proved(NodeId(500), BootId(500), udp(1).ip(), later);
    assert_eq!(catalog.handle(udp(1), &announce(500), later), Ok(Some(Event::Joined(NodeId(500)))));
    assert!(catalog.peer(NodeId(1)).is_none(), "the one that was silent longest");
    assert_eq!((catalog.peers().count(), catalog.stats().evicted), (LEAST_PEERS, 1));
}

/// A directory has the size that it was made for, in peers and in filter memory.
#[test]
fn a_directory_holds_as_many_peers_and_filters_as_it_was_made_for() {
    let fill = |peers: usize, capacity: usize| {
        let mut catalog = Catalog::new(CatalogConfig { peers, ..config(0) });
        for number in 1..=2_000 {
            let other =
                CatalogConfig { node: NodeId(number), boot: BootId(number), capacity, ..config(1) };
            let announce = Catalog::new(other).poll_datagram(Millis(0)).unwrap();
            catalog.proved(NodeId(number), BootId(number), udp(1).ip(), Millis(number));
            catalog.handle(udp(1), &announce, Millis(number)).unwrap();
        }
        catalog.peers().count()
    };
    assert_eq!([0, 200, 5_000].map(|peers| fill(peers, 400)), [LEAST_PEERS, 200, MAX_PEERS]);
    assert_eq!(fill(LEAST_PEERS, 20_000), LEAST_PEERS);
    assert_eq!(fill(MAX_PEERS, 20_000), MAX_PEERS * SEGMENTS_A_PEER / MAX_FILTER_SEGMENTS);
}

/// The more nodes, the less often each announces; together they take at most 1/200 of the air time.
#[test]
fn a_large_swarm_announces_less_often() {
    let mut net = Net::of(60, CALM, 1);
    net.run(60_000);
    let announced = |net: &Net| {
        net.nodes.iter().flatten().map(|node| node.stats().announcements_sent).sum::<u64>()
    };
    let before = (announced(&net), net.bytes_sent);
    net.run(600_000);
    let (count, bytes) = (announced(&net) - before.0, net.bytes_sent - before.1);
    let air_us = 8 * (bytes + count * (64 - net::UDP_IP_BYTES)) + 1_000 * count;
    assert!(air_us < 600 * 1_000_000 / 170, "{air_us} microseconds of air in ten minutes");
    assert!(net.node(0).peers().all(|peer| peer.interval_ms > 20_000));
}

/// A board that computes for hours does not fill the air with deltas.
#[test]
fn long_work_is_told_in_fewer_deltas() {
    let mut net = Net::of(3, CALM, 1);
    for number in 0..4_000 {
        net.insert((number % 3) as usize, number, Plane::Global);
        net.run(150);
        if number >= 600 {
            net.remove((number % 3) as usize, number - 600, Plane::Global);
        }
    }
    let sent = net.node(0).stats().deltas_sent;
    assert!((600..=900).contains(&sent), "{sent} deltas in 600 seconds");
    net.run(2_000);
    assert_eq!(net.disagreement(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However bad the network was, once it is quiet every directory equals the filters that
    /// it describes.
    #[test]
    fn quiet_directories_equal_the_filters_they_describe(
        seed in any::<u64>(),
        (loss, doubled, pull_failure, delay) in (0u64..50, 0u64..30, 0u64..50, 1u64..400),
        work in proptest::collection::vec((0usize..5, 0u64..120, 0u8..12, 0u64..600), 50..250),
    ) {
        let weather = Weather { loss, doubled, pull_failure, delay };
        let mut net = Net::of(5, weather, seed);
        let mut boots = 100;
        for (node, number, what, pause) in work {
            let plane = Plane::ALL[(number % 2) as usize];
            match what {
                0..=6 => (0..8).for_each(|more| net.insert(node, number + more, plane)),
                7..=9 => (0..8).for_each(|more| net.remove(node, number + more, plane)),
                10 => net.side[node] ^= 1,
                _ => {
                    boots += 1;
                    let epochs = net.node(node).epochs();
                    let again = CatalogConfig { boot: BootId(boots), epochs, ..config(node as u8) };
                    net.nodes[node] = Some(Catalog::new(again));
                    net.held[node].clear();
                    if boots % 3 == 0 {
                        let now = net.now;
                        net.node_mut(node).set_epochs(resets(boots), now);
                    }
                }
            }
            net.run(pause);
        }
        net.side = vec![0; 5];
        net.weather = CALM;
        net.run(130_000);
        prop_assert_eq!(net.disagreement(), None);
    }
}
