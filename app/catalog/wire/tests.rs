//! The datagrams' bytes, drawn one by one, and what other bytes are taken for.

use proptest::prelude::*;

use super::*;

const HEADER: Header = Header {
    swarm: SwarmTag(0x1111_1111_1111_1101),
    node: NodeId(0x2222_2222_2222_2202),
    boot: BootId(0x3333_3333_3333_3303),
    counter: 7,
    epochs: EpochState { epoch: Epoch(2), store_epoch: Epoch(1) },
};

const ENVELOPE: &str =
    "50544c4b 02 0111111111111111 0222222222222222 0333333333333333 0700000000000000 0200000000000000 0100000000000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn two_digests() -> Vec<u8> {
    [0x0807_0605_0403_0201u64, 0x1817_1615_1413_1211].map(u64::to_le_bytes).concat()
}

fn golden(message: &Message<'_>, body: &str, trailer: &str) {
    let datagram = seal(&HEADER, message, &key());
    let end = datagram.len() - TRAILER_BYTES;
    assert_eq!(datagram[..ENVELOPE_BYTES], bytes(ENVELOPE));
    assert_eq!(datagram[ENVELOPE_BYTES..end], bytes(body));
    assert_eq!(datagram[end..], bytes(trailer));
    assert_eq!(open(&datagram, HEADER.swarm, &key()), Ok((HEADER, *message)));
}

fn key() -> DatagramKey {
    DatagramKey::derive(b"a swarm key")
}

/// Any bytes, closed by someone who has the key.
fn closed(bytes: &[u8]) -> Vec<u8> {
    [bytes, &key().trailer(bytes)].concat()
}

/// Boards of one swarm may run builds of different days: the bytes must not change without a new version.
#[test]
fn an_announcement_has_these_bytes() {
    let digests = two_digests();
    let announce = Announce {
        fingerprint: Fingerprint([0xf0; 16]),
        tcp_port: 7_654,
        load: 25,
        interval_ms: 10_000,
        probes: 8,
        generation: 300,
        digests: Digests(&digests),
    };
    let body = "00 f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0 e63b 19 904e 08 ac02 10 0102030405060708 1112131415161718";
    golden(&Message::Announce(announce), body, "ca831fb794555483eca5fca995bd14f6");
    assert!(seal(&HEADER, &Message::Announce(announce), &key()).len() <= longest_announcement(2));
}

#[test]
fn a_delta_has_these_bytes() {
    let digests = two_digests();
    let mut list = ChangeList::default();
    for (place, value) in [(3, true), (4, false), (200, true), (16_383, true)] {
        assert!(list.push(place, value));
    }
    let delta = Delta { generation: 301, digests: Digests(&digests), changes: list.changes() };
    golden(
        &Message::Delta(delta),
        "01 ad02 10 0102030405060708 1112131415161718 07 07 00 8703 edfc01",
        "94990900e2e2a7f597246c7defe1d91b",
    );
    let places: Vec<_> = delta.changes.iter().collect();
    assert_eq!(places, [(3, true), (4, false), (200, true), (16_383, true)]);
}

#[test]
fn a_segment_has_these_bytes() {
    let digests = two_digests();
    let segment = [0xa5; FILTER_SEGMENT_BYTES];
    let message = Message::Segment(Segment { generation: 302, digests: Digests(&digests), index: 1, bytes: &segment });
    let body = format!("02 ae02 10 0102030405060708 1112131415161718 01 8008 {}", "a5".repeat(FILTER_SEGMENT_BYTES));
    golden(&message, &body, "d00f1cf844ce64e84d2b93ff8f4ef21e");
}

#[test]
fn a_reset_has_these_bytes() {
    golden(&Message::Reset, "03", "bae74d3d75139ecfe02d6202be270de8");
}

/// Whoever meets another program, version or swarm on the group's port is told which of them it is.
#[test]
fn what_is_not_ours_is_told_apart() {
    let digests = two_digests();
    let changes = Changes(&[7]);
    let whole = seal(&HEADER, &Message::Delta(Delta { generation: 1, digests: Digests(&digests), changes }), &key());
    let altered = |at: usize, value: u8| {
        let mut datagram = whole.clone();
        datagram[at] = value;
        open(&datagram, HEADER.swarm, &key()).map(|_| ()).unwrap_err()
    };
    assert_eq!(altered(0, b'Q'), CatalogFault::Foreign);
    assert_eq!(altered(4, 9), CatalogFault::Version(9));
    assert_eq!(altered(5, 0xff), CatalogFault::OtherSwarm);
    assert_eq!(altered(ENVELOPE_BYTES, 3), CatalogFault::Forged);
    assert_eq!(open(&[], HEADER.swarm, &key()), Err(CatalogFault::Foreign));
    let long = [0; MAX_DATAGRAM_BYTES + 1];
    assert_eq!(open(&long, HEADER.swarm, &key()), Err(CatalogFault::TooLong(MAX_DATAGRAM_BYTES + 1)));
    for cut in 4..whole.len() {
        assert!(open(&whole[..cut], HEADER.swarm, &key()).is_err(), "cut to {cut} bytes");
    }
    let longer: Vec<u8> = whole.iter().copied().chain([0]).collect();
    assert_eq!(open(&longer, HEADER.swarm, &key()), Err(CatalogFault::Forged));
    let body = &whole[..whole.len() - TRAILER_BYTES];
    assert_eq!(open(&closed(&[body, &[0]].concat()), HEADER.swarm, &key()), Err(CatalogFault::Malformed));
    assert_eq!(open(&closed(&body[..ENVELOPE_BYTES]), HEADER.swarm, &key()), Err(CatalogFault::Malformed));
    let epochs = EpochState { epoch: Epoch(1), store_epoch: Epoch(2) };
    let impossible = seal(&Header { epochs, ..HEADER }, &Message::Reset, &key());
    assert_eq!(open(&impossible, HEADER.swarm, &key()), Err(CatalogFault::Malformed));
}

/// Without the key nobody can speak in a swarm, nor change a bit of what is said.
#[test]
fn what_another_key_closed_and_what_was_altered_is_forged() {
    for other in [b"".as_slice(), b"a swarm key.", b"A swarm key"] {
        let forged = seal(&HEADER, &Message::Reset, &DatagramKey::derive(other));
        assert_eq!(open(&forged, HEADER.swarm, &key()), Err(CatalogFault::Forged));
    }
    let whole = seal(&HEADER, &Message::Reset, &key());
    for bit in 8 * 13..8 * whole.len() {
        let mut altered = whole.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&altered, HEADER.swarm, &key()), Err(CatalogFault::Forged), "bit {bit}");
    }
    assert!(!format!("{:?}", key()).contains(char::is_numeric), "no log shows a key");
}

/// A peer must not be able to make another reach outside its filter.
#[test]
fn what_exceeds_the_limits_is_refused() {
    let open_it = |message: Message<'_>| open(&seal(&HEADER, &message, &key()), HEADER.swarm, &key()).map(|_| ()).unwrap_err();
    let one = [0; 8];
    let delta = |digests, changes| Message::Delta(Delta { generation: 1, digests: Digests(digests), changes: Changes(changes) });
    assert_eq!(open_it(delta(&[], &[])), CatalogFault::Geometry);
    assert_eq!(open_it(delta(&[0; 7], &[])), CatalogFault::Geometry);
    assert_eq!(open_it(delta(&[0; 8 * 17], &[])), CatalogFault::Geometry);
    let behind_the_end = postcard::to_allocvec(&(2 * SEGMENT_BITS as u32)).unwrap();
    assert_eq!(open_it(delta(&one, &behind_the_end)), CatalogFault::Malformed);
    assert_eq!(open_it(delta(&one, &[0x80])), CatalogFault::Malformed);
    assert_eq!(open_it(delta(&one, &[0; MAX_CHANGE_BYTES + 1])), CatalogFault::Malformed);
    let segment = |index, bytes| Message::Segment(Segment { generation: 1, digests: Digests(&one), index, bytes });
    assert_eq!(open_it(segment(1, &[0; FILTER_SEGMENT_BYTES])), CatalogFault::Geometry);
    assert_eq!(open_it(segment(0, &[0; FILTER_SEGMENT_BYTES - 1])), CatalogFault::Malformed);
    let announce = |tcp_port, probes| {
        let fingerprint = Fingerprint([0; 16]);
        let digests = Digests(&one);
        Message::Announce(Announce { fingerprint, tcp_port, load: 0, interval_ms: 1, probes, generation: 0, digests })
    };
    assert_eq!(open_it(announce(0, 8)), CatalogFault::Port);
    assert_eq!(open_it(announce(1, 0)), CatalogFault::Geometry);
    assert_eq!(open_it(announce(1, 17)), CatalogFault::Geometry);
}

#[test]
fn a_full_list_takes_no_more_and_stays_whole() {
    let mut list = ChangeList::default();
    assert!((0..MAX_CHANGE_BYTES).all(|place| list.push(place, place % 3 == 0)));
    assert!(!list.push(MAX_CHANGE_BYTES, true));
    let changes: Vec<_> = list.changes().iter().collect();
    assert_eq!(changes.len(), MAX_CHANGE_BYTES);
    assert!(changes.iter().enumerate().all(|(at, &(place, value))| place == at && value == (at % 3 == 0)));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1_500)) {
        let _ = open(&bytes, HEADER.swarm, &key());
        let _ = open(&closed(&bytes), HEADER.swarm, &key());
    }

    /// Random bytes behind a good envelope reach the message's parser.
    #[test]
    fn random_messages_never_panic(kind in 0u8..5, body in proptest::collection::vec(any::<u8>(), 0..1_330)) {
        let datagram = closed(&[&bytes(ENVELOPE)[..], &[kind], &body[..]].concat());
        let opened = open(&datagram, HEADER.swarm, &key());
        if let Ok((_, Message::Delta(delta))) = opened {
            let bits = delta.digests.segments() * SEGMENT_BITS;
            prop_assert!(delta.changes.iter().all(|(place, _)| place < bits));
        }
    }

    #[test]
    fn every_message_comes_back_as_it_was(
        (swarm, node, boot, counter, epoch, store) in any::<(u64, u64, u64, u64, u64, u64)>(),
        (fingerprint, tcp_port, load, interval_ms) in (any::<[u8; 16]>(), 1u16.., any::<u8>(), any::<u32>()),
        (probes, generation, digests) in (1u8..=16, any::<u64>(), proptest::collection::vec(any::<u64>(), 1..=16)),
        places in proptest::collection::btree_map(0usize..SEGMENT_BITS, any::<bool>(), 0..400),
        segment in proptest::collection::vec(any::<u8>(), FILTER_SEGMENT_BYTES),
    ) {
        let epochs = EpochState { epoch: Epoch(epoch), store_epoch: Epoch(store.min(epoch)) };
        let header = Header { swarm: SwarmTag(swarm), node: NodeId(node), boot: BootId(boot), counter, epochs };
        let digest_bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.to_le_bytes()).collect();
        let digests_packed = Digests(&digest_bytes);
        prop_assert!(digests_packed.iter().eq(digests.iter().copied()));
        let mut list = ChangeList::default();
        prop_assert!(places.iter().all(|(&place, &value)| list.push(place, value)));
        prop_assert!(list.changes().iter().eq(places.iter().map(|(&place, &value)| (place, value))));
        let fingerprint = Fingerprint(fingerprint);
        let index = digests.len() as u8 - 1;
        let digests = digests_packed;
        let announce = Announce { fingerprint, tcp_port, load, interval_ms, probes, generation, digests };
        for message in [
            Message::Announce(announce),
            Message::Delta(Delta { generation, digests, changes: list.changes() }),
            Message::Segment(Segment { generation, digests, index, bytes: &segment }),
            Message::Reset,
        ] {
            let datagram = seal(&header, &message, &key());
            prop_assert_eq!(open(&datagram, header.swarm, &key()), Ok((header, message)));
        }
    }
}
