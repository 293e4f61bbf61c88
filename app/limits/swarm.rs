//! The bounds of a swarm: peers, datagrams, resets, audits, connections and what travels on them.

/// Peers in the largest directory: a radio that carries the announcements of so many has half a hundredth of its air left for what
/// they have to tell (docs/inside/scale.md).
pub const MAX_PEERS: usize = 1_024;

/// Peers in the smallest: a home or a class room. Where there is memory, the directory is larger.
pub const LEAST_PEERS: usize = 64;

/// Filter segments that a directory has room for, for each of its peers: the filter of a board with its default slab has two.
pub(crate) const SEGMENTS_A_PEER: usize = 2;

/// Bytes of a peer in the directory: its filter, what was promised of it, and its records here.
pub(crate) const PEER_BYTES: u64 = 3_000;

/// Peers configured by address, for networks without multicast.
pub(crate) const MAX_STATIC_PEERS: usize = 16;

/// Bits of the Bloom filter spent on each block plane that a node may hold. 12 bits and 8 probes give 0.3 % false
/// positives at full load (Summary Cache uses 8 to 16).
pub(crate) const FILTER_BITS_PER_ENTRY: usize = 12;

/// Hash probes an entry in the Bloom filter: ln 2 × 12 bits, rounded down to a power of two.
pub(crate) const FILTER_PROBES: usize = 8;

/// Bytes of one filter segment: with its header it fits one Ethernet frame, so no datagram is ever fragmented.
pub const FILTER_SEGMENT_BYTES: usize = 1_024;

/// Segments of the largest filter.
pub(crate) const MAX_FILTER_SEGMENTS: usize = 16;

/// Hash probes of the largest filter geometry that is believed of a peer: a build with more bits an entry would use them.
pub(crate) const MAX_FILTER_PROBES: usize = 16;

/// Bytes of the largest datagram: below the 1,500 of Ethernet less IPv6 and UDP headers, and VPN overhead.
pub(crate) const MAX_DATAGRAM_BYTES: usize = 1_400;

/// Bytes of a node's name as it is announced: longer than people call a board, and a fifth of an announcement.
pub(crate) const MAX_NODE_NAME_BYTES: usize = 24;

/// Milliseconds between two announcements of one node, while the swarm is small. Long enough that three idle nodes stay
/// far below 1 kB/s, short enough that a lost delta is noticed while the prompt that follows may still use it (guess).
pub(crate) const ANNOUNCE_INTERVAL_MS: u32 = 10_000;

/// The shortest interval that is believed of a peer, so that one lost datagram does not make it forgotten.
pub(crate) const MIN_INTERVAL_MS: u32 = 100;

/// The longest interval, announced or believed: the fair one of 1,000 nodes. There a peer that left without a goodbye is forgotten
/// within half an hour.
pub(crate) const MAX_INTERVAL_MS: u32 = 600_000;

/// Silent intervals after which a node is forgotten (Syncthing's discovery uses the same). Announcements come 0.8 to 1.0
/// intervals apart, so a node is lost only after three datagrams in a row are: 0.01 % at 5 % loss, 6 % at 40 %.
pub(crate) const LIFETIME_INTERVALS: u64 = 3;

/// Announcements of all nodes together take at most one 200th of the air, and deltas as much again: 1 % in all.
pub(crate) const AIR_SHARE: u64 = 200;

/// Milliseconds that changes are gathered before a delta carries them, in a small swarm: a quarter of a second less what the driver
/// and the radio take.
pub(crate) const DELTA_DELAY_MS: u64 = 200;

/// Milliseconds of it for each node of a larger swarm: what a thousand nodes may say all together, a prompt's steps in one delta.
pub(crate) const DELTA_DELAY_PER_NODE_MS: u64 = 5;

/// Milliseconds of its share of the air that a node may use ahead of time for deltas, so that a burst of work is known at once.
pub(crate) const DELTA_BURST_MS: u64 = 120_000;

/// Bytes of deltas that a node may use so in a swarm where that time does not suffice for them: those of a few prompts.
pub(crate) const DELTA_BURST_BYTES: usize = 1_800;

/// Milliseconds between deltas, for each node of the swarm (but see the next), once the burst is used up.
pub(crate) const DELTA_SPACING_PER_NODE_MS: u64 = 250;

/// Milliseconds between deltas in a small swarm, once the burst is used up.
pub(crate) const DELTA_SPACING_MS: u64 = 1_000;

/// Milliseconds after the last of some deltas, and half as many more at random, until an announcement says once more how the filter is
/// now, and again until the next: whoever has lost the delta learns that it has.
pub(crate) const ECHO_MS: u64 = 700;

/// How often it is said: at 30 % loss one node in 37 loses the delta and both, and waits for the next regular announcement.
pub(crate) const ECHOES: u32 = 2;

/// Milliseconds until that, and half as many more at random, where a node has used up its air: the changes of a row of prompts share one.
pub(crate) const LATE_ECHO_MS: u64 = 2_000;

/// Milliseconds of it for each node of a larger swarm.
pub(crate) const LATE_ECHO_PER_NODE_MS: u64 = 10;

/// Announcements that a new start adds to its first one, where the next regular one is far: at 2 % loss one node in 400,000 stays
/// unheard all four times, at 10 % one in 800.
pub(crate) const GREETINGS: u32 = 3;

/// Milliseconds between them, less up to a fifth at random: longer than a thousand nodes spread their answers to one.
pub(crate) const GREETING_GAP_MS: u64 = 15_000;

/// Milliseconds between two further answers to newcomers: nodes that start together share one, and yet each greeting of a newcomer
/// gets its own.
pub(crate) const ANSWER_AGAIN_MS: u64 = 10_000;

/// Milliseconds for which a peer counts as new: all its greetings and the answers to them.
pub(crate) const NEWCOMER_MS: u64 = 90_000;

/// Peers that ask for the same filter segment within `DEMAND_MS` before it is multicast instead: its air is that of some eight requests.
pub(crate) const DEMAND: usize = 8;

/// The same in a larger swarm, as one in so many of its nodes: so many lose a delta and its echo at 25 % loss.
pub(crate) const DEMAND_SHARE: usize = 16;

/// Milliseconds in which they ask.
pub(crate) const DEMAND_MS: u64 = 10_000;

/// The largest random delay of an announcement that answers a newcomer, so that the swarm does not answer in one voice.
pub(crate) const ANSWER_DELAY_MS: u64 = 200;

/// Milliseconds of that delay for each node of a larger swarm: their answers together take a quarter of the air.
pub(crate) const ANSWER_DELAY_PER_NODE_MS: u64 = 10;

/// Milliseconds between two announcements at the least, however many newcomers are heard.
pub(crate) const ANNOUNCE_GAP_MS: u64 = 1_000;

/// Times that a reset is multicast by the node that was told of it: at 30 % loss a peer misses all of them once in 400 times,
/// and then hears the next announcement.
pub(crate) const RESET_REPEATS: u32 = 5;

/// Milliseconds between two of them, and half as many more at random: five take some two seconds, longer than any pause that a
/// radio makes for a scan.
pub(crate) const RESET_GAP_MS: u64 = 350;

/// Warnings of a node that are being sent: each names a peer that its audit has caught, and a swarm with more of them at once has
/// another trouble. A further one replaces the oldest.
pub(crate) const MAX_WARNINGS: usize = 4;

/// Warnings that are heeded within `WARNING_WINDOW_MS`, of one peer: as many as it may send at once. Each costs the audit of
/// `WARNED_AUDITS` blocks at most, so that a liar cannot keep a swarm computing.
pub const MAX_WARNINGS_A_PEER: usize = 4;

/// The same of all peers together: one for each in a swarm of the smallest kind, for ids can be forged by whoever has the key, and
/// a true warning must find a place all the same. They stand for 256 blocks, of which `MAX_AUDITS` wait at a time.
pub(crate) const MAX_WARNINGS_HEEDED: usize = LEAST_PEERS;

/// Milliseconds for which a warning that was heeded counts: some minutes of idle time, in which a board audits what is behind it.
pub(crate) const WARNING_WINDOW_MS: u64 = 600_000;

/// Blocks that are audited for one warning: the one that it names and some more that the accused has made.
pub const WARNED_AUDITS: usize = 4;

/// Blocks that wait for their audit. With one block in a hundred drawn, that is what 6,400 blocks leave behind: more than a slab holds.
pub(crate) const MAX_AUDITS: usize = 64;

/// Milliseconds that a node has been idle before it audits: consoles and scripts that ask again at once do so sooner (guess).
pub(crate) const AUDIT_IDLE_MS: u64 = 500;

/// Times that an audit is begun, where prompts keep interrupting it or there is no room.
pub(crate) const MAX_AUDIT_TRIES: u8 = 8;

/// Milliseconds until the audit of a doubted block is begun again for which there was no room: connections that pin a slab end sooner.
pub(crate) const AUDIT_ROOM_MS: u64 = 60_000;

/// How often that is done. Then the block is forgotten: it, or one before it, is wrong.
pub(crate) const MAX_AUDIT_ROUNDS: u8 = 8;

/// Doubted blocks that wait so: one of each prompt that an idle board was asked in an hour.
pub(crate) const MAX_PARKED_AUDITS: usize = 16;

/// Milliseconds for which a peer whose bytes were wrong is not asked in any case: as long as half a lie is remembered.
pub const DISTRUST_MS: u64 = 600_000;

/// How far one step takes a node's epoch at most: more than anyone resets while a board is off. A forged datagram of a swarm
/// without key can thus not use the numbers up: that takes 2^48 steps, and steps have a pace.
pub(crate) const MAX_EPOCH_STEP: u64 = 1 << 16;

/// How far the first step takes a node that has never obeyed a reset: to any epoch that a swarm can have come to honestly (a reset a second
/// for nine million years), and not to the last one.
pub(crate) const MAX_JOIN_EPOCH: u64 = 1 << 48;

/// Milliseconds between two changes of a node's epoch: resets are typed by people, and each costs a write to the card and the
/// whole directory.
pub(crate) const EPOCH_GAP_MS: u64 = 1_000;

/// Milliseconds until an epoch that could not be saved is tried again: a full card is not emptied sooner.
pub(crate) const SAVE_RETRY_MS: u64 = 30_000;

/// Milliseconds beyond an announcement interval that the console waits for acknowledgements: a slow card takes a second to save.
pub(crate) const RESET_GRACE_MS: u64 = 2_000;

/// Nodes whose acknowledgement `potluck reset` waits for: far above any swarm that one LAN carries.
pub(crate) const MAX_RESET_NODES: usize = 1_024;

/// Boots and addresses that were announced and have not answered yet: those of a whole swarm that starts at once. Some 300 bytes each.
pub(crate) const MAX_CLAIMS: usize = 64;

/// Of those, of one node: its true one, and one that somebody has recorded.
pub(crate) const MAX_CLAIMS_PER_NODE: usize = 2;

/// Milliseconds that such a claim is remembered. While one is, the same announcement from the same address costs nothing more.
pub(crate) const CLAIM_LIFETIME_MS: u64 = 30_000;

/// Times that the node connects to look into one, within some four seconds; then it gives way to another claim of its node. Recorded
/// announcements make it connect as often as `MAX_PULLS` connections at a time allow.
pub(crate) const CLAIM_PROBES: u32 = 3;

/// Milliseconds for which a hello is remembered whose boot has not announced itself here: it does so within a second of hearing this
/// node, but for losses, and in a full table every half minute.
pub(crate) const PROOF_LIFETIME_MS: u64 = 60_000;

/// Milliseconds between two looks at whoever announces this node's own id, and between two lines about him.
pub(crate) const TWIN_GAP_MS: u64 = 5_000;

/// Times that one start takes another id: a drawn id meets no other, so a second twin is chance and a third somebody's intent.
pub(crate) const MAX_RENAMES: u8 = 2;

/// Seconds by which two starts must differ for one to be the newer: the ways of the two hellos, rounded.
pub(crate) const TWIN_TIE_S: u32 = 2;

/// Milliseconds between two lines of the log about datagrams that are not the swarm's.
pub(crate) const FLOOD_WORD_MS: u64 = 60_000;

/// Such datagrams in that time that are worth a line: a hundred a second, more than another swarm on the port sends.
pub(crate) const FLOOD_DATAGRAMS: u64 = 6_000;

/// Addresses whose share of a node's work is counted: a home or a class room.
pub(crate) const TOLL_ADDRESSES: usize = 64;

/// Seconds of its share that an address may use at once.
pub(crate) const TOLL_BURST_S: u64 = 2;

/// All further addresses together have so many shares.
pub(crate) const TOLL_OTHERS: u64 = 8;

/// Datagrams of the swarm a second that the node is woken for, from one address: 64 nodes of one machine that start together stay below,
/// and whoever plays recordings costs a board a hundredth of one core.
pub(crate) const DATAGRAMS_PER_S: u64 = 500;

/// Connections a second that one address may make, for each peer that announced itself from it: each may cost two multiplications on the
/// curve, and 50 of them a board some 3 % of one core (estimated).
pub(crate) const HANDSHAKES_PER_S: u64 = 50;

/// Addresses of nodes of other versions that are told of, each once: whoever updates a larger swarm knows.
pub(crate) const MAX_VERSIONS_TOLD: usize = 8;

/// The largest random delay of a filter repair, in a small swarm: a delta lost in the air is often lost by many, who must not all
/// ask at once.
pub(crate) const PULL_DELAY_MS: u64 = 300;

/// Milliseconds of that delay for each node of a larger swarm. Where all 64 nodes of one miss a delta, its teller is asked 20 times
/// a second, and a repair takes it some tens of milliseconds: a place or two of those that it has.
pub(crate) const PULL_DELAY_PER_NODE_MS: u64 = 50;

/// Milliseconds between two filter repairs from one peer, and the first wait for an answer; doubled with each that fails.
pub(crate) const PULL_GAP_MS: u64 = 1_000;

/// The longest wait between two tries to repair a filter.
pub(crate) const MAX_PULL_GAP_MS: u64 = 64_000;

/// Bytes of one payload chunk: 6 ms of a 21 Mbit/s link, so that a cancelled transfer stops soon.
pub const MAX_CHUNK_BYTES: usize = 16 << 10;

/// Bytes of a frame's postcard header (the payload of at most `MAX_CHUNK_BYTES` follows it raw).
pub(crate) const MAX_FRAME_HEADER_BYTES: usize = 512;

/// Bytes of the first word on a connection, without its length: a hello of version 1 has at most 64.
pub(crate) const MAX_KNOCK_BYTES: usize = 64;

/// Bytes of the first sealed message each way, before it is sealed: a hello, which has at most 54, or a last word. Whoever has not shown
/// that it has the swarm's key gets no larger buffer.
pub(crate) const MAX_GREETING_BYTES: usize = 64;

/// Sealed bytes after which each direction of a connection changes its key: a hundred blocks, so that a key that leaks out of a node's
/// memory opens no more than that of what was sent before. ChaCha20-Poly1305 itself would carry far more.
pub(crate) const REKEY_BYTES: usize = 16 << 20;

/// Wants under way on one connection. At 21 Mbit/s and 150 kB a block, two already fill the pipe.
pub const MAX_WANTS_IN_FLIGHT: usize = 16;

/// Questions for drafts that a peer is asked during one prompt, beside one for each block that its drafts have filled: the peers that
/// most likely know, and no more.
pub(crate) const MAX_DRAFT_ASKS: usize = 4;

/// Milliseconds after which a question for a draft counts as unanswered, so that another may be asked: far more than a round trip, and a
/// few decoded tokens on the board.
pub(crate) const DRAFT_PATIENCE_MS: u64 = 1_000;

/// Filter segments asked for on one connection and not yet answered. Four of 1 kB hide the round trip; the serving side
/// keeps a copy of each until it is sent.
pub(crate) const MAX_FILTER_WANTS_IN_FLIGHT: usize = 4;

/// How long a connection may take to say hello, in milliseconds: forty of the worst idle round trips seen on the
/// board's Wi-Fi (127 ms), so only a stranger or a dead peer is that slow.
pub(crate) const HELLO_TIMEOUT_MS: u64 = 5_000;

/// How long the peer may leave ready bytes unread, or a cancelled want unanswered, in milliseconds. Such a peer holds pins
/// that others need; TCP on a bad link recovers well within this.
pub(crate) const STALL_TIMEOUT_MS: u64 = 10_000;

/// How long a served connection may lie idle before its place goes to another peer, in milliseconds: longer than the pause
/// between two prompts of one person.
pub(crate) const IDLE_TIMEOUT_MS: u64 = 120_000;

/// Connections that a node serves at once. For one more, the one that has been idle longest ends; where none is idle, the peer
/// is told that there is no place, and asks another or computes.
pub const MAX_SERVED_CONNECTIONS: usize = 32;

/// Of those, how many callers may hold that have not said hello and whose address no announcement told: a hello takes one round
/// trip, so that eight are more than ever come at once by chance.
pub(crate) const MAX_STRANGERS: usize = 8;

/// Connections that one address may have here, for each peer that announced itself from it (at least one): a peer needs one, and
/// another one while the first is being given up.
pub(crate) const MAX_CONNECTIONS_PER_ADDRESS: usize = 4;

/// Served connections of one node, by its hello: one, and another one while the first is being given up.
pub(crate) const MAX_CONNECTIONS_PER_NODE: usize = 2;

/// Connections on which a node fetches at once: four times the sources of one plan, for blocks and repairs of filters. For one more,
/// the one that has been idle longest ends.
pub(crate) const MAX_FETCH_CONNECTIONS: usize = 32;

/// Filter repairs under way at once. Each takes a round trip or two; more would only crowd the air.
pub(crate) const MAX_PULLS: usize = 4;

/// Connections that wait for their last word to go out: as many as a small swarm has nodes, which may all be refused at once. They hold no
/// place any more, but some 8 kB of memory each.
pub const MAX_PARTING_CONNECTIONS: usize = 64;

/// Milliseconds that a last word may take to go out: a few retransmissions on a bad link.
pub(crate) const PARTING_MS: u64 = 1_000;

/// Milliseconds for which a peer is left alone that had no place, or could not be reached; doubled each time in a row. Places come
/// free within a prompt's time.
pub(crate) const REFUSED_MS: u64 = 250;

/// The longest of these waits.
pub(crate) const MAX_REFUSED_MS: u64 = 8_000;

/// Bytes a second that all served connections together send at most while this node computes an answer. Reading, hashing and
/// sending a byte takes the board some 8 ns, and sealing it some 12 instructions more: at a radio's 2.5 MB/s five per cent of one of
/// its four cores, at this rate, which no radio carries, a third of one.
pub(crate) const PACED_BYTES_PER_S: u64 = 16_000_000;

/// Interfaces that a node shares on: a board has two or three, and each takes two sockets and a copy of what is said.
pub(crate) const MAX_INTERFACES: usize = 8;

/// The longest wait, in milliseconds, until the membership of a silent group is renewed again: two small frames a minute.
pub(crate) const MAX_RENEWAL_GAP_MS: u64 = 60_000;

/// Peers that are answered at their addresses because they were heard that way: two for each that a node can name, for others may name it.
pub(crate) const MAX_UNICAST_PEERS: usize = 2 * MAX_STATIC_PEERS;

/// Milliseconds of silence after which a radio that had peers counts as deaf: longer than any that announce every ten seconds lose.
pub(crate) const RADIO_DEAF_MS: u64 = 180_000;

/// Milliseconds that a step against deafness is given: a radio takes some ten seconds to find its network, a DHCP server as long.
pub(crate) const RADIO_STEP_MS: u64 = 120_000;

/// The longest wait between two such steps, in milliseconds: an access point that is off for a day is met again within the hour.
pub(crate) const RADIO_MOST_GAP_MS: u64 = 3_600_000;
