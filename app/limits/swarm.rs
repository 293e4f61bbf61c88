//! The limits of a swarm: peers, datagrams, resets, audits, connections and what they carry.

/// Peers in the largest directory: announcements of this many leave half a hundredth of a radio's
/// air for their changes (docs/inside/scale.md).
pub const MAX_PEERS: usize = 1_024;

/// Peers in the smallest directory: a home or a class room. With more memory the
/// directory is larger.
pub const LEAST_PEERS: usize = 64;

/// Filter segments per peer that a directory has room for: the filter of a board with its default
/// slab has two.
pub(crate) const SEGMENTS_A_PEER: usize = 2;

/// Bytes of a peer in the directory: its filter, the digests promised for it, and the
/// records about it.
pub(crate) const PEER_BYTES: u64 = 3_000;

/// Peers configured by address, for networks without multicast.
pub(crate) const MAX_STATIC_PEERS: usize = 16;

/// Bits of the Bloom filter spent on each block plane that a node may hold. 12 bits and 8 probes
/// give 0.3 % false positives at full load (Summary Cache uses 8 to 16).
pub(crate) const FILTER_BITS_PER_ENTRY: usize = 12;

/// Hash probes per entry in the Bloom filter: ln 2 × 12 bits, rounded down to a power of two.
pub(crate) const FILTER_PROBES: usize = 8;

/// Bytes of one filter segment. With its header it fits one Ethernet frame, so no datagram is
/// ever fragmented.
pub const FILTER_SEGMENT_BYTES: usize = 1_024;

/// Segments of the largest filter.
pub(crate) const MAX_FILTER_SEGMENTS: usize = 16;

/// Hash probes of the largest filter geometry accepted from a peer: a build with more bits per
/// entry would use them.
pub(crate) const MAX_FILTER_PROBES: usize = 16;

/// Bytes of the largest datagram: Ethernet's 1,500 less IPv6 and UDP headers and VPN overhead.
pub(crate) const MAX_DATAGRAM_BYTES: usize = 1_400;

/// Bytes of a node's name in an announcement: longer than people name a board, and a fifth of an
/// announcement.
pub(crate) const MAX_NODE_NAME_BYTES: usize = 24;

/// Milliseconds between two announcements of one node in a small swarm. Long enough that three idle
/// nodes stay far below 1 kB/s, short enough that a lost delta is noticed while the next prompt can
/// still use it (guess).
pub(crate) const ANNOUNCE_INTERVAL_MS: u32 = 10_000;

/// The shortest interval accepted from a peer, so that one lost datagram does not expire it.
pub(crate) const MIN_INTERVAL_MS: u32 = 100;

/// The longest interval, announced or accepted: the fair interval of 1,000 nodes. In such a swarm,
/// a peer that left without a goodbye expires within half an hour.
pub(crate) const MAX_INTERVAL_MS: u32 = 600_000;

/// Silent intervals after which a node expires (the same as in Syncthing's discovery).
/// Announcements come 0.8 to 1.0 intervals apart, so a node expires wrongly only after three lost
/// datagrams in a row: 0.01 % at 5 % loss, 6 % at 40 %.
pub(crate) const LIFETIME_INTERVALS: u64 = 3;

/// All announcements together take at most 1/200 of the air, and deltas as much again: 1 % in all.
pub(crate) const AIR_SHARE: u64 = 200;

/// Milliseconds that a small swarm batches changes before a delta carries them: a quarter of a
/// second, less the delay of the driver and the radio.
pub(crate) const DELTA_DELAY_MS: u64 = 200;

/// Milliseconds of that delay for each node of a larger swarm, to stay within what a thousand nodes
/// may send together: all steps of a prompt share one delta.
pub(crate) const DELTA_DELAY_PER_NODE_MS: u64 = 5;

/// Milliseconds of its share of the air that a node may spend ahead on deltas, so that a burst of
/// work is known at once.
pub(crate) const DELTA_BURST_MS: u64 = 120_000;

/// Bytes of deltas that a node may always spend ahead, in a swarm where `DELTA_BURST_MS` does not
/// cover them: the deltas of a few prompts.
pub(crate) const DELTA_BURST_BYTES: usize = 1_800;

/// Milliseconds between deltas, for each node of the swarm, once the burst is spent.
/// `DELTA_SPACING_MS` is the minimum.
pub(crate) const DELTA_SPACING_PER_NODE_MS: u64 = 250;

/// Milliseconds between deltas in a small swarm, once the burst is spent.
pub(crate) const DELTA_SPACING_MS: u64 = 1_000;

/// Milliseconds, and up to half as many more at random, from the last delta to an announcement that
/// repeats the filter's state, and from that to the next: a peer that lost the delta learns so.
pub(crate) const ECHO_MS: u64 = 700;

/// How many such announcements follow: at 30 % loss one node in 37 loses the delta and both, and
/// waits for the next regular announcement.
pub(crate) const ECHOES: u32 = 2;

/// The same delay, also up to half as long again at random, once a node has spent its air: the
/// changes of several prompts in a row share one announcement.
pub(crate) const LATE_ECHO_MS: u64 = 2_000;

/// Milliseconds of that delay for each node of a larger swarm.
pub(crate) const LATE_ECHO_PER_NODE_MS: u64 = 10;

/// Extra announcements after the first one of a new start, where the next regular one is far off:
/// at 2 % loss one node in 400,000 loses all four, at 10 % one in 800.
pub(crate) const GREETINGS: u32 = 3;

/// Milliseconds between these greetings, less up to a fifth at random: longer than a thousand nodes
/// spread their answers to one.
pub(crate) const GREETING_GAP_MS: u64 = 15_000;

/// Milliseconds between two further answers to newcomers: nodes that start together share one, yet
/// each greeting of a newcomer gets its own.
pub(crate) const ANSWER_AGAIN_MS: u64 = 10_000;

/// Milliseconds for which a peer counts as new: the time of all its greetings and their answers.
pub(crate) const NEWCOMER_MS: u64 = 90_000;

/// Peers that must ask for the same filter segment within `DEMAND_MS` before it is multicast
/// instead: a multicast takes the air of about eight requests.
pub(crate) const DEMAND: usize = 8;

/// The same threshold in a larger swarm, as one in this many of its nodes: that share loses a delta
/// and its echo at 25 % loss.
pub(crate) const DEMAND_SHARE: usize = 16;

/// The time window for that demand, in milliseconds.
pub(crate) const DEMAND_MS: u64 = 10_000;

/// The largest random delay of an announcement that answers a newcomer, so that the nodes do not
/// all answer at once.
pub(crate) const ANSWER_DELAY_MS: u64 = 200;

/// Milliseconds of that delay for each node of a larger swarm: their answers together take a
/// quarter of the air.
pub(crate) const ANSWER_DELAY_PER_NODE_MS: u64 = 10;

/// The shortest gap between two announcements, in milliseconds, however many newcomers are heard.
pub(crate) const ANNOUNCE_GAP_MS: u64 = 1_000;

/// Times that a node which received a reset command multicasts it: at 30 % loss one peer in 400
/// misses all of them, and gets it from the next announcement.
pub(crate) const RESET_REPEATS: u32 = 5;

/// Milliseconds between two of these, and up to half as many more at random: five take about two
/// seconds, longer than any pause that a radio makes for a scan.
pub(crate) const RESET_GAP_MS: u64 = 350;

/// Warnings that a node sends at the same time, each about a peer that its audit has caught. A
/// swarm with more of them has a different problem. A further one replaces the oldest.
pub(crate) const MAX_WARNINGS: usize = 4;

/// Warnings accepted from one peer within `WARNING_WINDOW_MS`: as many as it may send at once. Each
/// costs an audit of at most `WARNED_AUDITS` blocks, so a liar cannot keep a swarm computing.
pub const MAX_WARNINGS_A_PEER: usize = 4;

/// The same for all peers together: one for each peer of the smallest directory, because anyone
/// with the key can forge ids, and a true warning must still find a place. They stand for 256
/// blocks, of which `MAX_AUDITS` wait at a time.
pub(crate) const MAX_WARNINGS_HEEDED: usize = LEAST_PEERS;

/// Milliseconds for which an accepted warning counts: several minutes of idle time, enough for a
/// board to audit the blocks in question.
pub(crate) const WARNING_WINDOW_MS: u64 = 600_000;

/// Blocks that are audited for one warning: the one it names and some others from the accused.
pub const WARNED_AUDITS: usize = 4;

/// Blocks that wait for their audit. With one block in a hundred drawn, 6,400 blocks leave this
/// many: more than a slab holds.
pub(crate) const MAX_AUDITS: usize = 64;

/// Milliseconds that a node must be idle before it audits: consoles and scripts that ask again at
/// once do so sooner (guess).
pub(crate) const AUDIT_IDLE_MS: u64 = 500;

/// Times that an audit is started, when prompts keep interrupting it or there is no room.
pub(crate) const MAX_AUDIT_TRIES: u8 = 8;

/// Milliseconds until the audit of a doubted block is retried for lack of room: connections that
/// pin a slab end sooner.
pub(crate) const AUDIT_ROOM_MS: u64 = 60_000;

/// Retries of such an audit. Then the block is forgotten: it, or one before it, is wrong.
pub(crate) const MAX_AUDIT_ROUNDS: u8 = 8;

/// Doubted blocks that wait for such a retry: one from each prompt that an idle board
/// answered in an hour.
pub(crate) const MAX_PARKED_AUDITS: usize = 16;

/// Milliseconds for which a peer that sent wrong bytes is never asked: the half-life of a lie
/// in its record.
pub const DISTRUST_MS: u64 = 600_000;

/// The most by which one step raises a node's epoch: more resets than anyone makes while a board is
/// off. So a forged datagram in a swarm without a key cannot exhaust the numbers: that takes 2^48
/// steps, and steps are rate-limited.
pub(crate) const MAX_EPOCH_STEP: u64 = 1 << 16;

/// The most by which the first step raises the epoch of a node that has never obeyed a reset:
/// enough for any epoch that a swarm can honestly have reached (a reset a second for nine million
/// years), but not for the last one.
pub(crate) const MAX_JOIN_EPOCH: u64 = 1 << 48;

/// Milliseconds between two changes of a node's epoch: people type resets, and each costs a write
/// to the card and the whole directory.
pub(crate) const EPOCH_GAP_MS: u64 = 1_000;

/// Milliseconds until an epoch that could not be saved is saved again: nobody empties a full
/// card sooner.
pub(crate) const SAVE_RETRY_MS: u64 = 30_000;

/// Milliseconds beyond an announcement interval that the console waits for acknowledgements: a slow
/// card takes a second to save.
pub(crate) const RESET_GRACE_MS: u64 = 2_000;

/// Nodes whose acknowledgement `potluck reset` waits for: far more than any swarm on one LAN.
pub(crate) const MAX_RESET_NODES: usize = 1_024;

/// Announced boots and addresses that are not proven yet: those of a whole swarm that starts at
/// once. About 300 bytes each.
pub(crate) const MAX_CLAIMS: usize = 64;

/// Of those, how many may name one node: the true one, and one that somebody recorded.
pub(crate) const MAX_CLAIMS_PER_NODE: usize = 2;

/// Milliseconds that such a claim is kept. Meanwhile, the same announcement from the same address
/// costs nothing more.
pub(crate) const CLAIM_LIFETIME_MS: u64 = 30_000;

/// Times that the node connects to verify a claim, within about four seconds; then another claim
/// for the same node may replace it. Recorded announcements make it connect as often as `MAX_PULLS`
/// concurrent connections allow.
pub(crate) const CLAIM_PROBES: u32 = 3;

/// Milliseconds for which a hello is kept whose boot has not announced itself here. Without losses
/// it announces itself within a second of hearing this node, and in a full table every half minute.
pub(crate) const PROOF_LIFETIME_MS: u64 = 60_000;

/// Milliseconds between two checks of an address that announces this node's own id, and between two
/// log lines about it.
pub(crate) const TWIN_GAP_MS: u64 = 5_000;

/// Times that one start draws a new id. Drawn ids do not collide, so a second twin is chance and a
/// third is intent.
pub(crate) const MAX_RENAMES: u8 = 2;

/// Seconds by which two starts must differ for one to count as newer: the travel time of the two
/// hellos, rounded.
pub(crate) const TWIN_TIE_S: u32 = 2;

/// Milliseconds between two log lines about datagrams that are not the swarm's.
pub(crate) const FLOOD_LOG_MS: u64 = 60_000;

/// Foreign datagrams within `FLOOD_LOG_MS` that are worth a line: a hundred a second, more than
/// another swarm on the port sends.
pub(crate) const FLOOD_DATAGRAMS: u64 = 6_000;

/// Addresses with a rate limit of their own: a home or a class room.
pub(crate) const RATE_LIMIT_ADDRESSES: usize = 64;

/// Seconds of its share that an address may use in one burst.
pub(crate) const RATE_LIMIT_BURST_S: u64 = 2;

/// Shares that all further addresses have together.
pub(crate) const RATE_LIMIT_OTHERS: u64 = 8;

/// Datagrams of the swarm per second from one address that wake the node. 64 nodes that
/// start together on one machine stay below, and replayed recordings cost a board a
/// hundredth of one core.
pub(crate) const DATAGRAMS_PER_S: u64 = 500;

/// Connections per second that one address may make, for each peer announced from it. Each may cost
/// two multiplications on the curve; 50 of them take about 3 % of one board core (estimated).
pub(crate) const HANDSHAKES_PER_S: u64 = 50;

/// Addresses of nodes with other versions that are reported, each once: the operator of a larger
/// swarm knows about an update.
pub(crate) const MAX_VERSIONS_REPORTED: usize = 8;

/// The largest random delay of a filter repair in a small swarm: a delta lost in the air is often
/// lost by many, who must not all ask at once.
pub(crate) const PULL_DELAY_MS: u64 = 300;

/// Milliseconds of that delay for each node of a larger swarm. If all 64 nodes of a swarm miss a
/// delta, its sender is asked 20 times a second. A repair takes a few tens of milliseconds, so it
/// occupies one or two of the sender's places.
pub(crate) const PULL_DELAY_PER_NODE_MS: u64 = 50;

/// Milliseconds between two filter repairs from one peer, and the first wait for an answer, doubled
/// with each failure.
pub(crate) const PULL_GAP_MS: u64 = 1_000;

/// The longest wait between two attempts to repair a filter.
pub(crate) const MAX_PULL_GAP_MS: u64 = 64_000;

/// Bytes of one payload chunk: 6 ms of a 21 Mbit/s link, so that a cancelled transfer stops soon.
pub const MAX_CHUNK_BYTES: usize = 16 << 10;

/// Bytes of a frame's postcard header. The raw payload of at most `MAX_CHUNK_BYTES` follows it.
pub(crate) const MAX_FRAME_HEADER_BYTES: usize = 512;

/// Bytes of the first message on a connection, without its length: a hello of version 1
/// has at most 64.
pub(crate) const MAX_KNOCK_BYTES: usize = 64;

/// Bytes of the first sealed message each way, before sealing: a hello, which has at most 54, or a
/// last message. A peer that has not proved that it has the swarm's key gets no larger buffer.
pub(crate) const MAX_GREETING_BYTES: usize = 64;

/// Sealed bytes after which each direction of a connection changes its key: a hundred blocks. A key
/// that leaks from a node's memory opens nothing that was sent before the last change.
/// ChaCha20-Poly1305 itself would allow far more.
pub(crate) const REKEY_BYTES: usize = 16 << 20;

/// Wants in flight on one connection. At 21 Mbit/s and 150 kB per block, two already fill the pipe.
pub const MAX_WANTS_IN_FLIGHT: usize = 16;

/// Draft requests of one prompt, in addition to one for each full block of its tokens; also the
/// most peers that it asks: those most likely to know.
pub(crate) const MAX_DRAFT_ASKS: usize = 4;

/// Tokens of an answer for each question about a peer's habits, beyond the first `MAX_DRAFT_ASKS`.
/// An answer of 200 tokens a second stays below what a peer looks up on one connection.
pub(crate) const TOKENS_PER_HABIT_ASK: usize = 4;

/// The most tokens that an answer waits after a question about habits that was in vain: one at
/// first, doubled with each such question in a row.
pub(crate) const MAX_HABIT_WAIT: u32 = 16;

/// Milliseconds after which a draft request counts as unanswered, so that another may be sent: far
/// more than a round trip, and a few decoded tokens on the board.
pub(crate) const DRAFT_TIMEOUT_MS: u64 = 1_000;

/// Filter segments in flight on one connection. Four of 1 kB hide the round trip; the serving side
/// keeps a copy of each until it is sent.
pub(crate) const MAX_FILTER_WANTS_IN_FLIGHT: usize = 4;

/// Time allowed for a connection to be established, in milliseconds, and again for the hellos on an
/// outgoing one, or for its answer to a filter repair. A LAN needs no more.
pub const CONNECT_TIMEOUT_MS: u64 = 3_000;

/// How long a connection may take to say hello, in milliseconds: forty of the worst idle round
/// trips seen on the board's Wi-Fi (127 ms). Only a stranger or a dead peer is that slow.
pub(crate) const HELLO_TIMEOUT_MS: u64 = 5_000;

/// How long the peer may leave ready bytes unread, or a cancelled want unanswered, in milliseconds.
/// Such a peer holds pins that others need; TCP on a bad link recovers well within this.
pub(crate) const STALL_TIMEOUT_MS: u64 = 10_000;

/// How long a served connection may be idle before it loses its place, in milliseconds: longer than
/// one person's pause between two prompts.
pub(crate) const IDLE_TIMEOUT_MS: u64 = 120_000;

/// Connections that a node serves at once. A further one replaces the connection that has been idle
/// longest. If none is idle, the new peer is refused, and asks another peer or computes.
pub const MAX_SERVED_CONNECTIONS: usize = 32;

/// How many of those may be held by callers that have not said hello and whose address was never
/// announced. A hello takes one round trip, so chance never brings more than eight at once.
pub(crate) const MAX_STRANGERS: usize = 8;

/// Connections that one address may have here, for each peer announced from it (at least one): a
/// peer needs one, and a second while the first is being given up.
pub(crate) const MAX_CONNECTIONS_PER_ADDRESS: usize = 4;

/// Served connections of one node, by its hello: one, and a second while the first is
/// being given up.
pub(crate) const MAX_CONNECTIONS_PER_NODE: usize = 2;

/// Connections on which a node fetches at once: four times the sources of one plan, for blocks and
/// filter repairs. A further one replaces the connection that has been idle longest.
pub(crate) const MAX_FETCH_CONNECTIONS: usize = 32;

/// Filter repairs in flight. Each takes a round trip or two; more would only crowd the air.
pub(crate) const MAX_PULLS: usize = 4;

/// Connections that wait to send their last message: as many as a small swarm has nodes, all of
/// which may be refused at once. They hold no place any more, but about 8 kB of memory each.
pub const MAX_CLOSING_CONNECTIONS: usize = 64;

/// Milliseconds that a last message may take to go out: a few retransmissions on a bad link.
pub(crate) const CLOSING_MS: u64 = 1_000;

/// Back-off, in milliseconds, for a peer that had no place or was unreachable, doubled with each
/// failure in a row. Places become free within a prompt's time.
pub(crate) const REFUSED_MS: u64 = 250;

/// The longest such back-off.
pub(crate) const MAX_REFUSED_MS: u64 = 8_000;

/// The most bytes per second that all served connections together send while this node computes an
/// answer. Reading, hashing and sending a byte takes the board about 8 ns, and sealing it about 12
/// instructions more: at a radio's 2.5 MB/s five per cent of one of its four cores, at this rate,
/// which no radio carries, a third of one.
pub(crate) const PACED_BYTES_PER_S: u64 = 16_000_000;

/// Interfaces that a node shares on: a board has two or three, and each takes two sockets and a
/// copy of every datagram.
pub(crate) const MAX_INTERFACES: usize = 8;

/// The longest wait, in milliseconds, between two renewals of a silent group's membership: two
/// small frames a minute.
pub(crate) const MAX_RENEWAL_GAP_MS: u64 = 60_000;

/// Peers that are answered by unicast because they were heard by unicast: two for each that a node
/// can name, because others may name it.
pub(crate) const MAX_UNICAST_PEERS: usize = 2 * MAX_STATIC_PEERS;

/// Milliseconds of silence after which a radio that had peers counts as deaf: longer than any loss
/// of announcements that come every ten seconds.
pub(crate) const RADIO_DEAF_MS: u64 = 180_000;

/// Milliseconds that a recovery step gets: a radio takes about ten seconds to find its network, and
/// a DHCP server as long.
pub(crate) const RADIO_STEP_MS: u64 = 120_000;

/// The longest wait between two recovery steps, in milliseconds: an access point that was off for a
/// day is found again within the hour.
pub(crate) const RADIO_MOST_GAP_MS: u64 = 3_600_000;
