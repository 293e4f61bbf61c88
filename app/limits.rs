//! Every bound of the appliance, each with its reason. What must fit together is asserted below, at compile time.
//! Those of a swarm lie in `swarm`.

mod swarm;

pub use swarm::*;

/// Tokens of one KV block. Small enough that a shared few-shot part loses at most 15 tokens to rounding, large enough
/// that a block (157 kB for Gemma-3 270M) is worth a message.
pub const BLOCK_TOKENS: usize = 16;

/// Layers of the largest model that loads. Gemma-3 270M has 18, 1B has 26, 4B has 34.
pub(crate) const MAX_LAYERS: usize = 64;

/// Tokens of the longest sequence (prompt and answer) that a node works on; the default is far below.
pub(crate) const MAX_CONTEXT_TOKENS: usize = 8_192;

/// Blocks that a node's index knows at once. At 157 kB a block that is 640 MB: more than the board has.
pub(crate) const MAX_BLOCKS: usize = 4_096;

/// Bytes of the largest plane of one block: 64 layers of 2 kB keys and values in f32 would be 8 MiB; models of the
/// board's class stay below 1 MiB.
pub(crate) const MAX_PLANE_BYTES: usize = 4 << 20;

/// Bytes of a prompt's text as typed or sent. Longer than any prompt that fits the context.
pub const MAX_PROMPT_BYTES: usize = 128 << 10;

/// Bytes of the longest list of token ids that is decoded: as many ids as the longest prompt could have, each of six digits and what
/// stands between.
pub(crate) const MAX_ID_LIST_BYTES: usize = 8 * MAX_PROMPT_BYTES;

/// Tokens of one prefill step: the engine looks up between steps, so stop, commit and deadlines are never further away. A
/// multiple of the block, so that every step but the last ends on a block boundary.
pub const PREFILL_STEP_TOKENS: usize = 64;

/// Drafted tokens that one decode step checks: with the step's own token they are as many as a block has, so that a step writes to two
/// blocks at most. On the board longer steps gain nothing: from some eight rows on it computes as long as it reads.
pub(crate) const MAX_DRAFT_TOKENS: usize = BLOCK_TOKENS - 1;

/// Tokens that an answer is expected to go on with, as far as is looked ahead: four full steps.
pub const MAX_PATH_TOKENS: usize = 64;

/// Entries of the table of habits, 8 bytes each: 128 kB. A token of an answer makes three, so they tell of some five thousand tokens, a
/// hundred answers of the usual kind.
pub(crate) const HABIT_ENTRIES: usize = 16_384;

/// Prompts that wait behind the one being answered.
pub(crate) const MAX_QUEUED_PROMPTS: usize = 20;

/// Bytes of the largest file that is mapped as a model: twice a Gemma 3 of 4B in f32, far above what a board holds. What is
/// longer is a mistake, such as a disk image.
pub(crate) const MAX_MODEL_FILE_BYTES: u64 = 32 << 30;

/// Entries of a GGUF's metadata. Published Gemma 3 files have about 40.
pub(crate) const MAX_GGUF_ENTRIES: u64 = 4_096;

/// Tensors of a GGUF. A Gemma 3 has 13 a layer and 3 more; merged files carry a vision tower of some 500 beside them.
pub(crate) const MAX_GGUF_TENSORS: u64 = 4_096;

/// Bytes of a metadata key or a tensor's name. ggml itself stops at 64 for tensors; the longest published key has about 50.
pub(crate) const MAX_GGUF_NAME_BYTES: u64 = 256;

/// Bytes of one metadata string. Chat templates and licences take tens of kilobytes.
pub(crate) const MAX_GGUF_STRING_BYTES: u64 = 1 << 20;

/// Elements of one metadata array. Gemma's 514,906 merges are the longest published for this family.
pub(crate) const MAX_GGUF_ARRAY: u64 = 4 << 20;

/// Values of the widest activation (hidden, feed-forward, all heads of one layer). Gemma 3 27B has 21,504.
pub(crate) const MAX_WIDTH: usize = 1 << 16;

/// Bytes of a JSON file that convert reads whole: config.json takes a few kB, the index of shards 100 kB.
pub(crate) const MAX_JSON_FILE_BYTES: u64 = 8 << 20;

/// Files that one model lies in: shards of safetensors, parts of a GGUF. Gemma 3 27B is published in 12.
pub(crate) const MAX_SHARDS: usize = 128;

/// Tokens of the largest vocabulary that loads: twice Gemma 3's 262,144.
pub(crate) const MAX_VOCABULARY_TOKENS: usize = 1 << 19;

/// Bytes of the longest piece of a vocabulary. Gemma's longest (a run of 31 marks for a space) has 93; finding every
/// split of a piece costs its length, so that a file cannot ask for more.
pub(crate) const MAX_PIECE_BYTES: usize = 512;

/// Bytes of all pieces of a vocabulary as a GGUF has them, and of all its merges. Gemma 3 has 4 MB and 11 MB.
pub(crate) const MAX_VOCABULARY_BYTES: usize = 64 << 20;

/// Merges of the largest vocabulary. Gemma 3 has 514,906; four times that still fits a PC that converts.
pub(crate) const MAX_MERGES: usize = 1 << 21;

/// Tokens that end an answer: `<eos>`, `<end_of_turn>`, and what a file names beside them. FunctionGemma has three.
pub(crate) const MAX_END_TOKENS: usize = 8;

/// Bytes of what there is to say about a vocabulary whose file contradicts its tokens' names: a line for each id that it gives.
pub(crate) const MAX_VOCABULARY_NOTE_BYTES: usize = 4 << 10;

/// Bytes of the largest `tokenizer.json`. Gemma 3's has 33 MB.
pub(crate) const MAX_TOKENIZER_FILE_BYTES: usize = 64 << 20;

/// Threads that compute for one node, at most. The board has four cores; beyond some dozens a pass of this size is all waiting.
pub(crate) const MAX_THREADS: usize = 64;

/// Numbers of CPUs are below this: Linux's sets of CPUs hold as many (CPU_SETSIZE).
pub(crate) const MAX_CPUS: usize = 1_024;

/// Rows of a pace's table. Measured ones have half a dozen.
pub(crate) const MAX_PACE_ROWS: usize = 32;

/// Bytes of a pace's name, which stands in every figure.
pub(crate) const MAX_PACE_NAME_BYTES: usize = 32;

/// Microseconds of the dearest cost in a pace: a minute, far above a token's on any machine that answers.
pub(crate) const MAX_PACE_MICROS: f64 = 60e6;

/// Bytes of the largest `potluck.toml`. With every key and its comment it takes 5 kB.
pub(crate) const MAX_CONFIG_FILE_BYTES: usize = 64 << 10;

/// Broken lines of one `potluck.toml` that are told: more than it has keys. A file with more is another kind of file.
pub(crate) const MAX_CONFIG_PROBLEMS: usize = 64;

/// Terminals that the settings give one node for consoles: the board has two UARTs and USB, and a PC one window each.
pub(crate) const MAX_CONSOLES: usize = 4;

/// Consoles that may be attached by a node's socket at once: a household's, and some scripts'.
pub(crate) const MAX_ATTACHED_CONSOLES: usize = 8;

/// Bytes of the largest file of groups that is looked into: thousands of users' groups.
pub(crate) const MAX_GROUPS_FILE_BYTES: u64 = 1 << 20;

/// Terminals that a board has for consoles whatever the settings say: the kernel's own, and the USB port.
pub(crate) const MAX_BOARD_CONSOLES: usize = 2;

/// Bytes that wait for a slow terminal: six seconds at 115,200 bits a second. Beyond them output is left out, and that is said.
pub const MAX_TERMINAL_OUTPUT_BYTES: usize = 64 << 10;

/// Bytes that wait for whoever reads a node's standard output: the longest answer twice over, as events of JSON. Beyond them output is
/// left out, and that is said.
pub(crate) const MAX_STREAM_OUTPUT_BYTES: usize = 2 << 20;

/// Words that wait between a node and whoever tells them, and between that and each console. Both take their turns as often as the node
/// does, and one turn makes a node say a few: four times the prompts that can wait, and as many notes again. What does not fit is
/// dropped, and that is said.
pub(crate) const MAX_WAITING_WORDS: usize = 256;

/// Notes that wait for an answer's line to end: as many as a person reads at once.
pub(crate) const MAX_WAITING_NOTES: usize = 16;

/// Columns of a terminal that does not say how many it has, as no serial line does.
pub(crate) const TERMINAL_COLUMNS: usize = 80;

/// Lines that the up key brings back: an hour of typing.
pub(crate) const HISTORY_LINES: usize = 64;

/// Bytes of the longest of them: longer ones are pasted, not typed, and may be pasted again.
pub(crate) const HISTORY_LINE_BYTES: usize = 4 << 10;

/// Lines that the log keeps: a day of a quiet node, some 30 kB.
pub(crate) const LOG_LINES: usize = 256;

/// Bytes of one of them: the longest message has some 300.
pub(crate) const LOG_LINE_BYTES: usize = 512;

/// Lines that consoles are told at once, unasked: a screenful.
pub(crate) const LOG_BURST: u64 = 20;

/// Milliseconds between two more: what a person can read.
pub(crate) const LOG_GAP_MS: u64 = 1_000;

/// Connections of HTTP that stand at once: some dozens of clients ask with one each, and a page keeps two or three.
pub(crate) const MAX_HTTP_CONNECTIONS: usize = 128;

/// Those of one address: as many clients as one computer runs, and still room for others.
pub(crate) const MAX_HTTP_CONNECTIONS_PER_ADDRESS: usize = 64;

/// Prompts of HTTP that are at the node at once: one is answered, the next begins without a pause, and consoles have the other places.
pub(crate) const MAX_HTTP_AT_NODE: usize = 2;

/// Prompts of HTTP that wait for one of those places: a client each of all the connections that may stand.
pub(crate) const MAX_HTTP_WAITING: usize = 128;

/// Bytes of a request's body: a context of 32,768 tokens has some 130 kB of text, and JSON may write each of its characters in six.
pub(crate) const MAX_HTTP_BODY_BYTES: usize = 1 << 20;

/// Bytes of all bodies that are being read: a few of the longest, and dozens of common ones. Part of what the heap has in reserve.
pub(crate) const MAX_HTTP_BODIES_BYTES: usize = 4 << 20;

/// Bytes of a request's line and headers: what servers commonly take.
pub(crate) const MAX_HTTP_HEAD_BYTES: usize = 16 << 10;

/// Messages of a conversation that is sent whole: more than a context of a few tokens each holds.
pub(crate) const MAX_HTTP_MESSAGES: usize = 2_048;

/// Origins of pages elsewhere that may ask.
pub(crate) const MAX_HTTP_ORIGINS: usize = 16;

/// Bytes of an API key: those that services give have 30 to 200.
pub(crate) const MAX_API_KEY_BYTES: usize = 256;

/// Milliseconds that a client has for a request's head, and for its body.
pub(crate) const HTTP_READ_TIMEOUT_MS: u64 = 30_000;

/// Milliseconds that a client may leave what it was sent unread.
pub(crate) const HTTP_WRITE_TIMEOUT_MS: u64 = 30_000;

/// Milliseconds without news of an answer after which a line says that the connection stands: proxies give up after a minute.
pub(crate) const HTTP_KEEP_ALIVE_MS: u64 = 10_000;

/// Answers whose tokens are remembered for conversations that are sent whole, and tokens of all of them: 256 kB.
pub(crate) const MAX_RECALLED_ANSWERS: usize = 256;
/// See [`MAX_RECALLED_ANSWERS`].
pub(crate) const MAX_RECALLED_TOKENS: usize = 64 << 10;

/// Milliseconds of a prompt before its progress is told: what takes less is here before a person wonders.
pub(crate) const PROGRESS_DELAY_MS: u64 = 1_000;

/// Milliseconds between two reports of it: slow enough for a serial line and a log, fast enough to be seen moving.
pub(crate) const PROGRESS_GAP_MS: u64 = 1_000;

/// Tokens of the made-up prompt that the console's bench computes: four steps of prefill, seconds on the board.
pub(crate) const BENCH_PREFILL_TOKENS: usize = 256;

/// Tokens that it decodes after them, and `inspect --measure` after its prompt of one step.
pub(crate) const BENCH_DECODE_TOKENS: usize = 32;

/// Bytes of a swarm key as it is given: a long sentence, or 24 words of at most eight letters with a blank between.
pub(crate) const MAX_SWARM_KEY_BYTES: usize = 256;

/// Bytes of a swarm key as it is used: as many as BLAKE3 and the ciphers take for a key.
pub(crate) const SWARM_KEY_BYTES: usize = 32;

/// Former keys of a swarm: a board that slept through more changes than these is given the new key by hand.
pub(crate) const MAX_OLD_KEYS: usize = 4;

/// Bytes of a file with a key: the key, and what `potluck key` writes beside it, its QR code too.
pub(crate) const MAX_KEY_FILE_BYTES: usize = 8 << 10;

/// Memory that stretching a passphrase takes, in KiB: 31.5 MB, before the model is loaded. An attacker needs as much for each guess that he
/// makes at a time.
pub(crate) const STRETCH_MEMORY_KIB: u32 = 30 << 10;

/// Passes over that memory: what a Cortex-A53 at 1 GHz does in a second, or two at the most.
pub(crate) const STRETCH_PASSES: u32 = 4;

/// Bytes of the largest slab that may be asked for: `MAX_BLOCKS` of the largest published shape that a PC would share (Gemma 3 4B
/// in f32, some 4 MB a block). More is a slip of the finger.
pub(crate) const MAX_SLAB_BYTES: u64 = 16_000_000_000;

/// Bytes of the default slab: beside the board's weights it leaves room for all else, see below; some 9,800 tokens of Gemma-3 270M.
pub(crate) const DEFAULT_SLAB_BYTES: u64 = 96_000_000;

/// Bytes that the Raspberry Pi Zero 2 W leaves programs under a 64-bit kernel, of its 512 MB.
pub(crate) const BOARD_MEMORY_BYTES: u64 = 416_000_000;

/// Bytes of the file that the board runs: Gemma-3 270M in Q4_0, its embedding in Q8_0.
pub(crate) const BOARD_WEIGHT_BYTES: u64 = 243_000_000;

/// Bytes of a packed vocabulary of Gemma's 262,144 tokens, all of it touched. (13 MB for a synthetic one.)
pub(crate) const BOARD_TOKENIZER_BYTES: u64 = 14_000_000;

/// Bytes of one pass over `PREFILL_STEP_TOKENS` of Gemma-3 270M: activations, two rows of logits, and attention's scores over the
/// longest context on each of the board's four cores.
pub(crate) const BOARD_WORKING_BYTES: u64 = 9_000_000;

/// Bytes of a node's tables: index and free lists of `MAX_BLOCKS`, filters of `LEAST_PEERS`, buffers of the connections that
/// commonly stand. An estimate: three peers were seen to take less.
pub(crate) const NODE_TABLE_BYTES: u64 = 8_000_000;

/// Bytes of code and stacks that stay in memory (an estimate).
pub(crate) const PROGRAM_BYTES: u64 = 10_000_000;

/// Bytes that the allocator may hold beyond what is in use: fragments, and the arena of each thread.
pub(crate) const HEAP_RESERVE_BYTES: u64 = 8_000_000;

/// Packed vocabularies, and content hashes, that are kept of the models that a machine runs or has run.
pub(crate) const MAX_KEPT_FILES: usize = 4;

/// Output rows in halves that are kept of the models that a machine runs or has run: 179 MB each of the board's model, and a person who
/// compares two models goes back and forth.
pub(crate) const MAX_KEPT_HEADS: usize = 2;

/// Of more likeliest tokens than this, all logits are computed: among Gemma 3 270M's 64 likeliest, a tenth of all rows can be, and
/// among more soon so many that reading halves saves nothing.
pub(crate) const MAX_LIKELIEST: usize = 256;

/// The highest temperature that is taken: beyond it every token is about as likely as any other.
pub(crate) const MAX_TEMPERATURE: f32 = 100.0;

/// The highest repetition penalty: it turns a logit of 20, as sure as a model gets, into 2, which hardly any draw takes.
pub(crate) const MAX_REPEAT_PENALTY: f32 = 10.0;

/// Tokens before a position that the repetition penalty may look at: all of the longest sequence, as Hugging Face's does. Sorting so
/// many takes less than a millisecond on the board.
pub(crate) const MAX_REPEAT_TOKENS: usize = MAX_CONTEXT_TOKENS;

/// Texts that end one answer: twice as many as other servers of models take.
pub(crate) const MAX_STOPS: usize = 8;

/// Bytes of one of them: a sentence. As much of an answer is held back while it may be the beginning of one.
pub(crate) const MAX_STOP_BYTES: usize = 256;

/// Bytes of a chat template. The longest published ones, which declare tools, have some 20 kB.
pub(crate) const MAX_TEMPLATE_BYTES: usize = 64 << 10;

/// Fuel of one run of a chat template: a step costs one, and so do 64 bytes. Gemma's takes some 300 for a short conversation, those
/// with tools a few thousand.
pub(crate) const MAX_TEMPLATE_FUEL: u64 = 50_000;

/// Bytes of memory, and seconds of computing time, that reading a chat template may take. With its fuel it takes 3 MB, and a board some
/// tenths of a second.
pub(crate) const MAX_TEMPLATE_MEMORY_BYTES: u64 = 32 << 20;
/// See [`MAX_TEMPLATE_MEMORY_BYTES`].
pub(crate) const MAX_TEMPLATE_SECONDS: u64 = 4;

/// Bytes of what is kept of a chat template, as JSON, in which a byte may take six. What a template says around three turns is no longer
/// than a template.
pub const MAX_PATTERN_BYTES: usize = 8 * MAX_TEMPLATE_BYTES;

/// Prompts of one console that are due at once: more than any script needs to keep a node busy. What is piped in beyond them waits.
pub(crate) const MAX_OPEN_PROMPTS: usize = 64;

/// Bytes of requests that are read and wait while so many prompts are due, so that a `stop` behind them is heard: thousands of the usual
/// hundred bytes. What comes beyond them waits in the pipe.
pub(crate) const MAX_BACKLOG_BYTES: usize = 1 << 20;

/// Conversations of one console: a script may hold one for each of the people that it serves at once.
pub(crate) const MAX_CONVERSATIONS: usize = 16;

/// Bytes of what a model is told before a conversation: a page.
pub(crate) const MAX_SYSTEM_BYTES: usize = 8 << 10;

/// Bytes of a conversation's name.
pub(crate) const MAX_CONVERSATION_NAME_BYTES: usize = 64;

/// Bytes of the largest file of MMLU questions. The largest published one has 2.2 MB.
pub(crate) const MAX_QUESTIONS_FILE_BYTES: usize = 4 << 20;

const _: () = assert!(
    MAX_CONSOLES + MAX_BOARD_CONSOLES + MAX_ATTACHED_CONSOLES + MAX_HTTP_AT_NODE < MAX_QUEUED_PROMPTS,
    "each console, and standard input, has one prompt at the node beside those of HTTP"
);
const _: () = assert!(MAX_PROMPT_BYTES < MAX_BACKLOG_BYTES, "one line of any length may wait");
const _: () = assert!(64 * MAX_TEMPLATE_FUEL < MAX_TEMPLATE_MEMORY_BYTES, "fuel must end before memory does");
const _: () = assert!(MAX_CONTEXT_TOKENS.is_multiple_of(BLOCK_TOKENS));
const _: () = assert!(
    BOARD_WEIGHT_BYTES
        + BOARD_TOKENIZER_BYTES
        + DEFAULT_SLAB_BYTES
        + BOARD_WORKING_BYTES
        + NODE_TABLE_BYTES
        + PROGRAM_BYTES
        + HEAP_RESERVE_BYTES
        <= BOARD_MEMORY_BYTES,
    "the board's model and the default slab must fit the board"
);
const _: () = assert!(DEFAULT_SLAB_BYTES <= MAX_SLAB_BYTES && DEFAULT_SLAB_BYTES.is_multiple_of(1_000_000));
const _: () = assert!(MAX_BLOCKS.is_power_of_two(), "heapless maps want a power of two");
const _: () = assert!(MAX_CONTEXT_TOKENS / BLOCK_TOKENS < MAX_BLOCKS, "one sequence must fit the index");
const _: () = assert!(
    2 * MAX_BLOCKS * FILTER_BITS_PER_ENTRY <= MAX_FILTER_SEGMENTS * FILTER_SEGMENT_BYTES * 8,
    "a full index, both planes of every block, must fit the largest filter"
);
const _: () = assert!(FILTER_PROBES <= MAX_FILTER_PROBES);
const _: () = assert!(MIN_INTERVAL_MS <= ANNOUNCE_INTERVAL_MS && ANNOUNCE_INTERVAL_MS <= MAX_INTERVAL_MS);
const _: () = assert!(FILTER_SEGMENT_BYTES + 256 <= MAX_DATAGRAM_BYTES, "a segment and its header share a datagram");
const _: () = assert!(LEAST_PEERS <= MAX_PEERS);
const _: () = assert!(ANSWER_AGAIN_MS < GREETING_GAP_MS * 4 / 5, "each greeting of a newcomer is answered");
const _: () =
    assert!((GREETINGS as u64 + 1) * GREETING_GAP_MS < NEWCOMER_MS, "a peer is new until its last greeting is answered");
const _: () = assert!(
    (SEGMENTS_A_PEER * FILTER_SEGMENT_BYTES) as u64 <= PEER_BYTES,
    "a peer's share of filters is within what it is said to take"
);
const _: () = assert!(PREFILL_STEP_TOKENS.is_multiple_of(BLOCK_TOKENS));
const _: () = assert!(MAX_PATH_TOKENS * 5 + 64 <= MAX_FRAME_HEADER_BYTES, "a draft travels in a frame's header");
const _: () = assert!(MAX_DRAFT_TOKENS < MAX_PATH_TOKENS);
const _: () = assert!(MAX_PULLS < MAX_FETCH_CONNECTIONS, "repairs must not take all connections");
const _: () = assert!(MAX_CHUNK_BYTES <= u16::MAX as usize, "a frame says its payload's length in 16 bits");
const _: () = assert!(MAX_FRAME_HEADER_BYTES <= u16::MAX as usize, "a frame says its header's length in 16 bits");
const _: () = assert!(FILTER_SEGMENT_BYTES <= MAX_CHUNK_BYTES, "a filter segment travels as one payload");
const _: () = assert!(MAX_FILTER_SEGMENTS <= 64, "the segments asked for are the bits of a u64");
const _: () = assert!(MAX_PLANE_BYTES <= u32::MAX as usize, "a plane's length travels in 32 bits");
