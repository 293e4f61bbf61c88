//! The datagrams' bytes, drawn one by one, and how other bytes are judged.

use proptest::prelude::*;

use super::*;

const HEADER: Header = Header {
    swarm: SwarmTag(0x73d8_0f44_e54a_7f29),
    node: NodeId(0x2222_2222_2222_2202),
    boot: BootId(0x3333_3333_3333_3303),
    counter: 7,
    epochs: EpochState { epoch: Epoch(2), store_epoch: Epoch(1) },
};

const HEAD: &str =
    "50544c4b 03 297f4ae5440fd873 0222222222222222 0333333333333333 0700000000000000";
const EPOCHS: &str = "0200000000000000 0100000000000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn two_digests() -> Vec<u8> {
    [0x0807_0605_0403_0201u64, 0x1817_1615_1413_1211].map(u64::to_le_bytes).concat()
}

fn secret() -> SwarmSecret {
    SwarmSecret::derive(b"a swarm key")
}

fn opened<'t>(
    datagram: &[u8],
    text: &'t mut Datagram,
) -> Result<(Header, Message<'t>), CatalogFault> {
    open(datagram, &Keyring::new(b"a swarm key", []), text)
}

fn fault(datagram: &[u8]) -> Option<CatalogFault> {
    opened(datagram, &mut Datagram::new()).err()
}

/// `body` after the epochs is what is encrypted; the output begins with `sealed` and ends
/// with `tag`.
fn golden(message: &Message<'_>, body: &str, sealed: &str, tag: &str) {
    let datagram = seal(&HEADER, message, &secret());
    let end = datagram.len() - TAG_BYTES;
    assert_eq!(hex(&datagram[..HEAD_BYTES]), hex(&bytes(HEAD)));
    assert_eq!(closed(&bytes(&format!("{EPOCHS} {body}"))), datagram[..], "what is encrypted");
    assert_eq!(hex(&datagram[HEAD_BYTES..end][..bytes(sealed).len()]), hex(&bytes(sealed)));
    assert_eq!(hex(&datagram[end..]), tag);
    let mut text = Datagram::new();
    assert_eq!(opened(&datagram, &mut text), Ok((HEADER, *message)));
}

/// Any text after the head, sealed by someone who has the key.
fn closed(text: &[u8]) -> Vec<u8> {
    seal_text(&HEADER, &text[..text.len().min(MAX_TEXT_BYTES)], &secret()).to_vec()
}

/// Boards of one swarm may run builds of different dates: the bytes must not change without a
/// new version.
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
        name: NodeName::of("shelf"),
    };
    let body = "00 f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0 e63b 19 904e 08 ac02 10 0102030405060708 1112131415161718 05 7368656c66";
    let sealed = "23b90b6dbc2e2c96e180ff6e35174046 e203aca1081241a2c4e6c7e0fe4c6b13 44e440411122dc8cb65f874f9d8b7785
        bc556809343a72f3cabbd50127a04e29";
    golden(&Message::Announce(announce), body, sealed, "d1de864465e646e842fb3f4aefcd1bf6");
    assert!(
        seal(&HEADER, &Message::Announce(announce), &secret()).len() <= longest_announcement(2, 5)
    );
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
        "23b90b6dbc2e2c96e180ff6e35174046 e35e5e41f9e0b256311030181fae88f7 a1146c40866bd4a7b7a27a4c",
        "5a61e310d144197b707b956e47b7b78e",
    );
    let places: Vec<_> = delta.changes.iter().collect();
    assert_eq!(places, [(3, true), (4, false), (200, true), (16_383, true)]);
}

#[test]
fn a_segment_has_these_bytes() {
    let digests = two_digests();
    let segment = [0xa5; FILTER_SEGMENT_BYTES];
    let message = Message::Segment(Segment {
        generation: 302,
        digests: Digests(&digests),
        index: 1,
        bytes: &segment,
    });
    let body = format!(
        "02 ae02 10 0102030405060708 1112131415161718 01 8008 {}",
        "a5".repeat(FILTER_SEGMENT_BYTES)
    );
    let sealed = "23b90b6dbc2e2c96e180ff6e35174046 e05d5e41f9e0b256311030181fae88f7 a1146c4080ecdc8511ea23e83b2ad726";
    golden(&message, &body, sealed, "db442a8ba7d5823a4c10922febeaa822");
}

#[test]
fn a_reset_has_these_bytes() {
    assert_eq!(HEADER.swarm, secret().tag(), "of the key of these examples");
    golden(
        &Message::Reset,
        "03",
        "23b90b6dbc2e2c96e180ff6e35174046e1",
        "8f01c2526a70a17a04a5ac5ba3c9f84a",
    );
}

#[test]
fn a_warning_has_these_bytes() {
    let (accused, boot, key) = (NodeId(300), BootId(1), BlockKey([0x0a; 16]));
    let warning = Message::Warning(Warning {
        accused,
        boot,
        key,
        plane: Plane::Sliding,
        served: 1,
        computed: 128,
    });
    let body = format!("04 ac02 01 {} 01 01 8001", "0a".repeat(16));
    assert_eq!(postcard::to_allocvec(&warning).unwrap(), bytes(&body));
}

/// A user whose group and port are shared with another program, version or swarm is told which
/// it is.
#[test]
fn what_is_not_ours_is_told_apart() {
    let digests = two_digests();
    let changes = Changes(&[7]);
    let whole = seal(
        &HEADER,
        &Message::Delta(Delta { generation: 1, digests: Digests(&digests), changes }),
        &secret(),
    );
    let altered = |at: usize, value: u8| {
        let mut datagram = whole.clone();
        datagram[at] = value;
        fault(&datagram)
    };
    assert_eq!(altered(0, b'Q'), Some(CatalogFault::Foreign));
    assert_eq!(altered(4, 9), Some(CatalogFault::Version(9)));
    assert_eq!(altered(5, 0xff), Some(CatalogFault::OtherSwarm));
    assert_eq!(altered(HEAD_BYTES, 3), Some(CatalogFault::Forged));
    assert_eq!(fault(&[]), Some(CatalogFault::Foreign));
    assert_eq!(
        fault(&[0; MAX_DATAGRAM_BYTES + 1]),
        Some(CatalogFault::TooLong(MAX_DATAGRAM_BYTES + 1))
    );
    for cut in 4..whole.len() {
        assert!(fault(&whole[..cut]).is_some(), "cut to {cut} bytes");
    }
    let longer: Vec<u8> = whole.iter().copied().chain([0]).collect();
    assert_eq!(fault(&longer), Some(CatalogFault::Forged));
    let epochs = bytes(EPOCHS);
    assert_eq!(fault(&closed(&epochs)), Some(CatalogFault::Malformed));
    assert_eq!(fault(&closed(&[&epochs[..], &[3, 0]].concat())), Some(CatalogFault::Malformed));
    let epochs = EpochState { epoch: Epoch(1), store_epoch: Epoch(2) };
    let impossible = seal(&Header { epochs, ..HEADER }, &Message::Reset, &secret());
    assert_eq!(fault(&impossible), Some(CatalogFault::Malformed));
}

/// Without the key nobody can send in a swarm, change a bit of a datagram, or read it.
#[test]
fn what_another_key_sealed_and_what_was_altered_is_forged_and_nothing_can_be_read() {
    for other in [b"".as_slice(), b"a swarm key.", b"A swarm key"] {
        let forged = seal(&HEADER, &Message::Reset, &SwarmSecret::derive(other));
        assert_eq!(fault(&forged), Some(CatalogFault::Forged));
    }
    let whole = seal(&HEADER, &Message::Reset, &secret());
    for bit in 8 * 13..8 * whole.len() {
        let mut altered = whole.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(fault(&altered), Some(CatalogFault::Forged), "bit {bit}");
    }
    let segment = [0xa5; FILTER_SEGMENT_BYTES];
    let digests = two_digests();
    let message = Message::Segment(Segment {
        generation: 302,
        digests: Digests(&digests),
        index: 1,
        bytes: &segment,
    });
    let sealed = seal(&HEADER, &message, &secret());
    assert!(
        !sealed
            .windows(4)
            .any(|bytes| bytes == [0xa5; 4] || digests.windows(4).any(|digest| digest == bytes))
    );
    let next = seal(&Header { counter: 8, ..HEADER }, &message, &secret());
    let same = sealed[HEAD_BYTES..]
        .iter()
        .zip(&next[HEAD_BYTES..])
        .filter(|(one, other)| one == other)
        .count();
    assert!(same < 30, "{same} bytes of two datagrams that say the same are equal");
}

/// A board that has the new key understands boards that do not have it yet.
#[test]
fn a_datagram_is_opened_with_the_key_that_its_tag_names() {
    let (old, new) = (SwarmSecret::derive(b"old"), SwarmSecret::derive(b"new"));
    let keys = Keyring::new(b"new", [b"old".as_slice()]);
    for secret in [&old, &new] {
        let header = Header { swarm: secret.tag(), ..HEADER };
        let datagram = seal(&header, &Message::Reset, secret);
        assert_eq!(open(&datagram, &keys, &mut Datagram::new()), Ok((header, Message::Reset)));
        let mut text = Datagram::new();
        assert_eq!(open(&datagram, &Keyring::new(b"old", []), &mut text).is_ok(), secret == &old);
    }
    let confused = seal(&Header { swarm: old.tag(), ..HEADER }, &Message::Reset, &new);
    assert_eq!(open(&confused, &keys, &mut Datagram::new()), Err(CatalogFault::Forged));
}

/// A peer must not be able to make another reach outside its filter.
#[test]
fn what_exceeds_the_limits_is_refused() {
    let open_it = |message: Message<'_>| fault(&seal(&HEADER, &message, &secret())).unwrap();
    let one = [0; 8];
    let delta = |digests, changes| {
        Message::Delta(Delta {
            generation: 1,
            digests: Digests(digests),
            changes: Changes(changes),
        })
    };
    assert_eq!(open_it(delta(&[], &[])), CatalogFault::Geometry);
    assert_eq!(open_it(delta(&[0; 7], &[])), CatalogFault::Geometry);
    assert_eq!(open_it(delta(&[0; 8 * 17], &[])), CatalogFault::Geometry);
    let behind_the_end = postcard::to_allocvec(&(2 * SEGMENT_BITS as u32)).unwrap();
    assert_eq!(open_it(delta(&one, &behind_the_end)), CatalogFault::Malformed);
    assert_eq!(open_it(delta(&one, &[0x80])), CatalogFault::Malformed);
    assert_eq!(open_it(delta(&one, &[0; MAX_CHANGE_BYTES + 1])), CatalogFault::Malformed);
    let segment = |index, bytes| {
        Message::Segment(Segment { generation: 1, digests: Digests(&one), index, bytes })
    };
    assert_eq!(open_it(segment(1, &[0; FILTER_SEGMENT_BYTES])), CatalogFault::Geometry);
    assert_eq!(open_it(segment(0, &[0; FILTER_SEGMENT_BYTES - 1])), CatalogFault::Malformed);
    let announce = |tcp_port, probes| {
        let fingerprint = Fingerprint([0; 16]);
        let digests = Digests(&one);
        let name = NodeName::default();
        Message::Announce(Announce {
            fingerprint,
            tcp_port,
            load: 0,
            interval_ms: 1,
            probes,
            generation: 0,
            digests,
            name,
        })
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
    assert!(
        changes
            .iter()
            .enumerate()
            .all(|(at, &(place, value))| place == at && value == (at % 3 == 0))
    );
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1_500)) {
        let _ = fault(&bytes);
        let _ = fault(&closed(&bytes));
    }

    /// Random bytes after a valid head and epochs reach the message's parser.
    #[test]
    fn random_messages_never_panic(kind in 0u8..5, body in proptest::collection::vec(any::<u8>(), 0..1_330)) {
        let datagram = closed(&[&bytes(EPOCHS)[..], &[kind], &body[..]].concat());
        let mut text = Datagram::new();
        let opened = opened(&datagram, &mut text);
        if let Ok((_, Message::Delta(delta))) = opened {
            let bits = delta.digests.segments() * SEGMENT_BITS;
            prop_assert!(delta.changes.iter().all(|(place, _)| place < bits));
        }
    }

    #[test]
    fn every_message_comes_back_as_it_was(
        (node, boot, counter, epoch, store) in any::<(u64, u64, u64, u64, u64)>(),
        (fingerprint, tcp_port, load, interval_ms) in (any::<[u8; 16]>(), 1u16.., any::<u8>(), any::<u32>()),
        (probes, generation, digests) in (1u8..=16, any::<u64>(), proptest::collection::vec(any::<u64>(), 1..=16)),
        places in proptest::collection::btree_map(0usize..SEGMENT_BITS, any::<bool>(), 0..400),
        (name, segment) in (any::<String>(), proptest::collection::vec(any::<u8>(), FILTER_SEGMENT_BYTES)),
    ) {
        let epochs = EpochState { epoch: Epoch(epoch), store_epoch: Epoch(store.min(epoch)) };
        let header = Header { swarm: HEADER.swarm, node: NodeId(node), boot: BootId(boot), counter, epochs };
        let digest_bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.to_le_bytes()).collect();
        let digests_packed = Digests(&digest_bytes);
        prop_assert!(digests_packed.iter().eq(digests.iter().copied()));
        let mut list = ChangeList::default();
        prop_assert!(places.iter().all(|(&place, &value)| list.push(place, value)));
        prop_assert!(list.changes().iter().eq(places.iter().map(|(&place, &value)| (place, value))));
        let fingerprint = Fingerprint(fingerprint);
        let index = digests.len() as u8 - 1;
        let digests = digests_packed;
        let name = NodeName::of(&name);
        let announce = Announce { fingerprint, tcp_port, load, interval_ms, probes, generation, digests, name };
        for message in [
            Message::Announce(announce),
            Message::Delta(Delta { generation, digests, changes: list.changes() }),
            Message::Segment(Segment { generation, digests, index, bytes: &segment }),
            Message::Reset,
            Message::Warning(Warning {
                accused: NodeId(node),
                boot: BootId(boot),
                key: BlockKey(fingerprint.0),
                plane: Plane::Sliding,
                served: counter,
                computed: generation,
            }),
        ] {
            let datagram = seal(&header, &message, &secret());
            let mut text = Datagram::new();
            prop_assert_eq!(opened(&datagram, &mut text), Ok((header, message)));
        }
    }
}
