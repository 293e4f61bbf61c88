//! Every bound of the appliance, each with its reason. What must fit together is asserted below, at compile time.

/// Tokens of one KV block. Small enough that a shared few-shot part loses at most 15 tokens to rounding, large enough
/// that a block (157 kB for Gemma-3 270M) is worth a message.
pub const BLOCK_TOKENS: usize = 16;

/// Layers of the largest model that loads. Gemma-3 270M has 18, 1B has 26, 4B has 34.
pub const MAX_LAYERS: usize = 64;

/// Tokens of the longest sequence (prompt and answer) that a node works on; the default is far below.
pub const MAX_CONTEXT_TOKENS: usize = 8_192;

/// Blocks of the longest sequence.
pub const MAX_CONTEXT_BLOCKS: usize = MAX_CONTEXT_TOKENS / BLOCK_TOKENS;

/// Blocks that a node's index knows at once. At 157 kB a block that is 640 MB: more than the board has.
pub const MAX_BLOCKS: usize = 4_096;

/// Bytes of the largest plane of one block: 64 layers of 2 kB keys and values in f32 would be 8 MiB; models of the
/// board's class stay below 1 MiB.
pub const MAX_PLANE_BYTES: usize = 4 << 20;

/// Bytes of a prompt's text as typed or sent. Longer than any prompt that fits the context.
pub const MAX_PROMPT_BYTES: usize = 128 << 10;

/// Prompts that wait behind the one being answered.
pub const MAX_QUEUED_PROMPTS: usize = 8;

/// Peers in the directory. A home or a class room; hundreds are simulated with a larger table.
pub const MAX_PEERS: usize = 64;

/// Peers configured by address, for networks without multicast.
pub const MAX_STATIC_PEERS: usize = 16;

/// Bits of the Bloom filter spent on each block plane that a node may hold. 12 bits and 8 probes give 0.3 % false
/// positives at full load (Summary Cache uses 8 to 16).
pub const FILTER_BITS_PER_ENTRY: usize = 12;

/// Hash probes an entry in the Bloom filter: ln 2 × 12 bits, rounded down to a power of two.
pub const FILTER_PROBES: usize = 8;

/// Bytes of one filter segment: with its header it fits one Ethernet frame, so no datagram is ever fragmented.
pub const FILTER_SEGMENT_BYTES: usize = 1_024;

/// Segments of the largest filter.
pub const MAX_FILTER_SEGMENTS: usize = 16;

/// Bytes of the largest datagram: below the 1,500 of Ethernet less IPv6 and UDP headers, and VPN overhead.
pub const MAX_DATAGRAM_BYTES: usize = 1_400;

/// Bytes of one payload chunk: 6 ms of a 21 Mbit/s link, so that a cancelled transfer stops soon.
pub const MAX_CHUNK_BYTES: usize = 16 << 10;

/// Bytes of a frame's postcard header (the payload of at most `MAX_CHUNK_BYTES` follows it raw).
pub const MAX_FRAME_HEADER_BYTES: usize = 512;

/// Wants under way on one connection. At 21 Mbit/s and 150 kB a block, two already fill the pipe.
pub const MAX_WANTS_IN_FLIGHT: usize = 16;

/// Connections that a node serves at once; one more is refused, and that peer asks another or computes.
pub const MAX_SERVED_CONNECTIONS: usize = 32;

/// Tokens of the largest vocabulary that loads: twice Gemma 3's 262,144.
pub const MAX_VOCABULARY_TOKENS: usize = 1 << 19;

/// Bytes of the longest piece of a vocabulary. Gemma's longest (a run of 31 marks for a space) has 93; finding every
/// split of a piece costs its length, so that a file cannot ask for more.
pub const MAX_PIECE_BYTES: usize = 512;

/// Merges of the largest vocabulary. Gemma 3 has 514,906; four times that still fits a PC that converts.
pub const MAX_MERGES: usize = 1 << 21;

/// Bytes of the largest `tokenizer.json`. Gemma 3's has 33 MB.
pub const MAX_TOKENIZER_FILE_BYTES: usize = 64 << 20;

/// Bytes of the largest file of MMLU questions. The largest published one has 2.2 MB.
pub const MAX_QUESTIONS_FILE_BYTES: usize = 4 << 20;

const _: () = assert!(MAX_CONTEXT_TOKENS % BLOCK_TOKENS == 0);
const _: () = assert!(MAX_BLOCKS.is_power_of_two(), "heapless maps want a power of two");
const _: () = assert!(MAX_CONTEXT_BLOCKS < MAX_BLOCKS, "one sequence must fit the index");
const _: () = assert!(
    2 * MAX_BLOCKS * FILTER_BITS_PER_ENTRY <= MAX_FILTER_SEGMENTS * FILTER_SEGMENT_BYTES * 8,
    "a full index, both planes of every block, must fit the largest filter"
);
const _: () = assert!(FILTER_SEGMENT_BYTES + 256 <= MAX_DATAGRAM_BYTES, "a segment and its header share a datagram");
const _: () = assert!(MAX_PEERS.is_power_of_two());
