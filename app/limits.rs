//! Every limit of the appliance, each with its reason. The asserts at the end check at compile time
//! that dependent limits agree. The limits of a swarm are in `swarm`.

mod swarm;

pub use swarm::*;

/// Tokens per KV block. Small enough that a shared few-shot part loses at most 15 tokens to
/// rounding, large enough that a block (157 kB for Gemma-3 270M) is worth a message.
pub const BLOCK_TOKENS: usize = 16;

/// Layers of the largest model that loads. Gemma-3 270M has 18, 1B has 26, 4B has 34.
pub(crate) const MAX_LAYERS: usize = 64;

/// Tokens of the longest sequence (prompt and answer) that a node accepts. The default
/// is far lower.
pub(crate) const MAX_CONTEXT_TOKENS: usize = 8_192;

/// Blocks that a node's index holds. At 157 kB per block this is 640 MB, more than the board has.
pub(crate) const MAX_BLOCKS: usize = 4_096;

/// Bytes of the largest plane of one block: 64 layers of 2 kB keys and values in f32 would be 8
/// MiB; models of the board's class stay below 1 MiB.
pub(crate) const MAX_PLANE_BYTES: usize = 4 << 20;

/// Bytes of a prompt's text as typed or sent. Longer than any prompt that fits the context.
pub const MAX_PROMPT_BYTES: usize = 128 << 10;

/// Bytes of the longest list of token ids that is decoded: as many ids as the longest prompt could
/// have, each with six digits and its separators.
pub(crate) const MAX_ID_LIST_BYTES: usize = 8 * MAX_PROMPT_BYTES;

/// Tokens of one prefill step. The engine checks for stops, commits and deadlines between steps, so
/// none of them waits longer than one step. A multiple of the block, so that every step but the
/// last ends on a block boundary.
pub const PREFILL_STEP_TOKENS: usize = 64;

/// Drafted tokens that one decode step verifies. With the step's own token they make two blocks, so
/// a step writes to at most three. On a PC a known answer of 64 tokens then takes four steps; slow
/// machines stay within a block (`SMOOTH_STEP_MS`).
pub(crate) const MAX_DRAFT_TOKENS: usize = 2 * BLOCK_TOKENS - 1;

/// A decode step of more than a block of tokens must be expected to take at most this long: a
/// reader sees its tokens all at once, and stops are honoured after it.
pub(crate) const SMOOTH_STEP_MS: u64 = 200;

/// Tokens of the longest path, and of a peer's answer to a draft request: two of the longest decode
/// steps, or four of a block each.
pub const MAX_PATH_TOKENS: usize = 64;

/// Entries of the habit table, 8 bytes each: 128 kB. A token of an answer makes three, so the table
/// covers about five thousand tokens, or a hundred typical answers.
pub(crate) const HABIT_ENTRIES: usize = 16_384;

/// Tokens of the longest run that the habit table has entries for; also the most that a question
/// about a peer's habits names.
pub(crate) const HABIT_RUN: usize = 6;

/// Prompts that wait behind the one being answered.
pub(crate) const MAX_QUEUED_PROMPTS: usize = 20;

/// Bytes of the largest file that is mapped as a model: twice a Gemma 3 4B in f32, far more than a
/// board holds. A longer file is a mistake, such as a disk image.
pub(crate) const MAX_MODEL_FILE_BYTES: u64 = 32 << 30;

/// Entries of a GGUF's metadata. Published Gemma 3 files have about 40.
pub(crate) const MAX_GGUF_ENTRIES: u64 = 4_096;

/// Tensors of a GGUF. A Gemma 3 has 13 per layer and 3 more; merged files add a vision tower
/// of about 500.
pub(crate) const MAX_GGUF_TENSORS: u64 = 4_096;

/// Bytes of a metadata key or a tensor's name. ggml itself allows 64 for tensors; the longest
/// published key has about 50.
pub(crate) const MAX_GGUF_NAME_BYTES: u64 = 256;

/// Bytes of one metadata string. Chat templates and licences take tens of kilobytes.
pub(crate) const MAX_GGUF_STRING_BYTES: u64 = 1 << 20;

/// Elements of one metadata array. Gemma's 514,906 merges are the longest published for this
/// family.
pub(crate) const MAX_GGUF_ARRAY: u64 = 4 << 20;

/// Values of the widest activation (hidden, feed-forward, all heads of one layer). Gemma 3 27B has
/// 21,504.
pub(crate) const MAX_WIDTH: usize = 1 << 16;

/// Bytes of a JSON file that `convert` reads whole: config.json takes a few kB, the shard
/// index 100 kB.
pub(crate) const MAX_JSON_FILE_BYTES: u64 = 8 << 20;

/// Files of one model: safetensors shards or GGUF parts. Gemma 3 27B is published in 12.
pub(crate) const MAX_SHARDS: usize = 128;

/// Tokens of the largest vocabulary that loads: twice Gemma 3's 262,144.
pub(crate) const MAX_VOCABULARY_TOKENS: usize = 1 << 19;

/// Bytes of the longest piece of a vocabulary. Gemma's longest (31 space markers) has 93. The cost
/// of finding every split of a piece grows with its length, and this limit bounds it.
pub(crate) const MAX_PIECE_BYTES: usize = 512;

/// Bytes of all pieces of a vocabulary as stored in a GGUF, and likewise of all its merges. Gemma 3
/// has 4 MB and 11 MB.
pub(crate) const MAX_VOCABULARY_BYTES: usize = 64 << 20;

/// Merges of the largest vocabulary. Gemma 3 has 514,906; four times that still fits the memory of
/// a PC that converts a model.
pub(crate) const MAX_MERGES: usize = 1 << 21;

/// Tokens that end an answer: `<eos>`, `<end_of_turn>`, and any others that a file names.
/// FunctionGemma has three.
pub(crate) const MAX_END_TOKENS: usize = 8;

/// Bytes of the note about a vocabulary whose file contradicts its tokens' names: one line for each
/// id that the file gives.
pub(crate) const MAX_VOCABULARY_NOTE_BYTES: usize = 4 << 10;

/// Bytes of the largest `tokenizer.json`. Gemma 3's has 33 MB.
pub(crate) const MAX_TOKENIZER_FILE_BYTES: usize = 64 << 20;

/// Compute threads of one node. The board has four cores; with more than a few dozen threads, a
/// pass of this size is mostly waiting.
pub(crate) const MAX_THREADS: usize = 64;

/// CPU numbers are below this: the size of Linux's CPU sets (CPU_SETSIZE).
pub(crate) const MAX_CPUS: usize = 1_024;

/// Rows of a pace's table. Measured tables have about six.
pub(crate) const MAX_PACE_ROWS: usize = 32;

/// Bytes of a pace's name, which appears in every figure.
pub(crate) const MAX_PACE_NAME_BYTES: usize = 32;

/// Microseconds of the highest cost in a pace: a minute, far above the cost of a token on any
/// usable machine.
pub(crate) const MAX_PACE_MICROS: f64 = 60e6;

/// Bytes of the largest `potluck.toml`. A file with every key and its comment takes 5 kB.
pub(crate) const MAX_CONFIG_FILE_BYTES: usize = 64 << 10;

/// Broken lines of one `potluck.toml` that are reported: more than there are keys. A file with more
/// is some other kind of file.
pub(crate) const MAX_CONFIG_PROBLEMS: usize = 64;

/// Terminals that one node's settings may name for consoles: the board has two UARTs and USB, and a
/// PC uses one window for each.
pub(crate) const MAX_CONSOLES: usize = 4;

/// Consoles attached through a node's socket at once: those of a household and some scripts.
pub(crate) const MAX_ATTACHED_CONSOLES: usize = 8;

/// Bytes of the largest group file that is read: the groups of thousands of users.
pub(crate) const MAX_GROUPS_FILE_BYTES: u64 = 1 << 20;

/// Terminals that a board always uses for consoles, whatever the settings: the kernel's own and
/// the USB port.
pub(crate) const MAX_BOARD_CONSOLES: usize = 2;

/// Bytes buffered for a slow terminal: six seconds at 115,200 bits a second. Further output is
/// dropped, with a notice.
pub const MAX_TERMINAL_OUTPUT_BYTES: usize = 64 << 10;

/// Bytes buffered for the reader of a node's standard output: twice the longest answer as JSON
/// events. Further output is dropped, with a notice.
pub(crate) const MAX_STREAM_OUTPUT_BYTES: usize = 2 << 20;

/// Messages queued between a node and its front end, and between the front end and each console.
/// Both run as often as the node does, and one turn of the node makes a few messages: four times
/// the prompts that can wait, and as many notes again. What does not fit is dropped, with a notice.
pub(crate) const MAX_MAILBOX_MESSAGES: usize = 256;

/// Notes that wait until an answer's line ends: as many as a person reads at once.
pub(crate) const MAX_WAITING_NOTES: usize = 16;

/// Columns of a terminal that does not report its width, as serial lines never do.
pub(crate) const TERMINAL_COLUMNS: usize = 80;

/// Lines of history that the up key recalls: an hour of typing.
pub(crate) const HISTORY_LINES: usize = 64;

/// Bytes of the longest line in the history. Longer ones are pasted, not typed, and can be
/// pasted again.
pub(crate) const HISTORY_LINE_BYTES: usize = 4 << 10;

/// Lines that the log keeps: a day of a quiet node, some 30 kB.
pub(crate) const LOG_LINES: usize = 256;

/// Bytes of one line of the log: the longest message has about 300.
pub(crate) const LOG_LINE_BYTES: usize = 512;

/// Log lines shown on consoles in one burst: a screenful.
pub(crate) const LOG_BURST: u64 = 20;

/// Milliseconds between two log lines after the burst: as fast as a person can read.
pub(crate) const LOG_GAP_MS: u64 = 1_000;

/// HTTP connections open at once: a few dozen clients use one each, and a page keeps two or three.
pub(crate) const MAX_HTTP_CONNECTIONS: usize = 128;

/// HTTP connections from one address: all the clients of one computer, with room left for others.
pub(crate) const MAX_HTTP_CONNECTIONS_PER_ADDRESS: usize = 64;

/// HTTP prompts at the node at once: one is answered, and the next starts without a pause. Consoles
/// have the other places.
pub(crate) const MAX_HTTP_AT_NODE: usize = 2;

/// HTTP prompts that wait for one of those places: one for each connection that may be open.
pub(crate) const MAX_HTTP_WAITING: usize = 128;

/// Bytes of a request's body: a context of 32,768 tokens is about 130 kB of text, and JSON may take
/// six bytes for each character.
pub(crate) const MAX_HTTP_BODY_BYTES: usize = 1 << 20;

/// Bytes of all bodies being read at once: a few of the longest, or dozens of common ones. Part of
/// the heap reserve.
pub(crate) const MAX_HTTP_BODIES_BYTES: usize = 4 << 20;

/// Bytes of a request's line and headers: the common limit of servers.
pub(crate) const MAX_HTTP_HEAD_BYTES: usize = 16 << 10;

/// Messages of a conversation that a client sends whole: more than a context holds at a few
/// tokens each.
pub(crate) const MAX_HTTP_MESSAGES: usize = 2_048;

/// Other origins whose pages may ask.
pub(crate) const MAX_HTTP_ORIGINS: usize = 16;

/// Bytes of an API key: those of common services have 30 to 200.
pub(crate) const MAX_API_KEY_BYTES: usize = 256;

/// Milliseconds allowed for a client to send a request's head, and again for its body.
pub(crate) const HTTP_READ_TIMEOUT_MS: u64 = 30_000;

/// Milliseconds that a client may leave sent bytes unread.
pub(crate) const HTTP_WRITE_TIMEOUT_MS: u64 = 30_000;

/// Milliseconds without output of an answer after which a keep-alive line is sent: proxies give up
/// after a minute.
pub(crate) const HTTP_KEEP_ALIVE_MS: u64 = 10_000;

/// Answers whose tokens are kept for conversations that clients send whole, and the tokens of all
/// of them together: 256 kB.
pub(crate) const MAX_RECALLED_ANSWERS: usize = 256;
/// See [`MAX_RECALLED_ANSWERS`].
pub(crate) const MAX_RECALLED_TOKENS: usize = 64 << 10;

/// Milliseconds before a prompt's progress is shown: anything faster is done before a
/// person wonders.
pub(crate) const PROGRESS_DELAY_MS: u64 = 1_000;

/// Milliseconds between two progress reports: slow enough for a serial line and a log, fast enough
/// to be seen moving.
pub(crate) const PROGRESS_GAP_MS: u64 = 1_000;

/// Tokens of the synthetic prompt that the console's bench computes: four prefill steps, seconds
/// on the board.
pub(crate) const BENCH_PREFILL_TOKENS: usize = 256;

/// Tokens that the bench decodes after its prompt, and `inspect --measure` after its prompt
/// of one step.
pub(crate) const BENCH_DECODE_TOKENS: usize = 32;

/// Bytes of a swarm key as people enter it: a long sentence, or 24 words of at most eight letters
/// with a space between.
pub(crate) const MAX_SWARM_KEY_BYTES: usize = 256;

/// Bytes of a derived swarm key: the key length of BLAKE3 and the ciphers.
pub(crate) const SWARM_KEY_BYTES: usize = 32;

/// Former keys of a swarm. A board that was off for more key changes than these must be given the
/// new key by hand.
pub(crate) const MAX_OLD_KEYS: usize = 4;

/// Bytes of a key file: the key and what `potluck key` writes beside it, including the QR code.
pub(crate) const MAX_KEY_FILE_BYTES: usize = 8 << 10;

/// Memory for stretching a passphrase, in KiB: 31.5 MB, before the model is loaded. An attacker
/// needs as much for each concurrent guess.
pub(crate) const STRETCH_MEMORY_KIB: u32 = 30 << 10;

/// Passes over that memory: one or two seconds on a Cortex-A53 at 1 GHz.
pub(crate) const STRETCH_PASSES: u32 = 4;

/// Bytes of the largest slab allowed: `MAX_BLOCKS` of the largest published shape that a PC would
/// share (Gemma 3 4B in f32, about 4 MB per block). More is a typing mistake.
pub(crate) const MAX_SLAB_BYTES: u64 = 16_000_000_000;

/// Bytes of the default slab: about 9,800 tokens of Gemma-3 270M. Beside the board's weights it
/// leaves room for everything else, see below.
pub(crate) const DEFAULT_SLAB_BYTES: u64 = 96_000_000;

/// Bytes that a Raspberry Pi Zero 2 W, of its 512 MB, leaves to programs under a 64-bit kernel.
pub(crate) const BOARD_MEMORY_BYTES: u64 = 416_000_000;

/// Bytes of the board's model file: Gemma-3 270M in Q4_0, its embedding in Q8_0.
pub(crate) const BOARD_WEIGHT_BYTES: u64 = 243_000_000;

/// Bytes of a packed vocabulary of Gemma's 262,144 tokens, all of it touched. (13 MB for a
/// synthetic one.)
pub(crate) const BOARD_TOKENIZER_BYTES: u64 = 14_000_000;

/// Bytes of one pass over `PREFILL_STEP_TOKENS` of Gemma-3 270M: activations, two rows of logits or
/// the bounds of a short draft's tokens, and attention's scores over the longest context on each of
/// the board's four cores.
pub(crate) const BOARD_WORKING_BYTES: u64 = 12_000_000;

/// Bytes of a node's tables: index and free lists of `MAX_BLOCKS`, filters of `LEAST_PEERS`,
/// buffers of the connections that are usually open. An estimate: three peers took less.
pub(crate) const NODE_TABLE_BYTES: u64 = 8_000_000;

/// Bytes of resident code and stacks (an estimate).
pub(crate) const PROGRAM_BYTES: u64 = 10_000_000;

/// Bytes that the allocator may hold beyond what is in use: fragments, and the arena of each
/// thread.
pub(crate) const HEAP_RESERVE_BYTES: u64 = 8_000_000;

/// Packed vocabularies, and content hashes, kept for models that a machine runs or has run.
pub(crate) const MAX_KEPT_FILES: usize = 4;

/// Split output rows kept for models that a machine runs or has run: 179 MB each for the board's
/// model. Two, because a person who compares two models switches back and forth.
pub(crate) const MAX_KEPT_HEADS: usize = 2;

/// If sampling looks at more likeliest tokens than this, all logits are computed. For Gemma 3
/// 270M's 64 likeliest, up to a tenth of all rows are candidates; with more, reading halves soon
/// saves nothing.
pub(crate) const MAX_LIKELIEST: usize = 256;

/// The highest temperature accepted: above it every token is about equally likely.
pub(crate) const MAX_TEMPERATURE: f32 = 100.0;

/// The highest repetition penalty: it turns a logit of 20, as sure as a model gets, into 2, which
/// is hardly ever drawn.
pub(crate) const MAX_REPEAT_PENALTY: f32 = 10.0;

/// Tokens before a position that the repetition penalty may look at: the whole longest sequence, as
/// in Hugging Face's implementation. Sorting them takes less than a millisecond on the board.
pub(crate) const MAX_REPEAT_TOKENS: usize = MAX_CONTEXT_TOKENS;

/// Stop texts of one answer: twice as many as other model servers allow.
pub(crate) const MAX_STOPS: usize = 8;

/// Bytes of one stop text: a sentence. This much of an answer is held back while it may be the
/// start of one.
pub(crate) const MAX_STOP_BYTES: usize = 256;

/// Bytes of a chat template. The longest published ones, which declare tools, have about 20 kB.
pub(crate) const MAX_TEMPLATE_BYTES: usize = 64 << 10;

/// Fuel for one run of a chat template: a step costs one, and so do 64 bytes. Gemma's takes about
/// 300 for a short conversation, templates with tools a few thousand.
pub(crate) const MAX_TEMPLATE_FUEL: u64 = 50_000;

/// Bytes of memory, and seconds of CPU time, that reading a chat template may take. At the fuel
/// limit it takes 3 MB, and a few tenths of a second on a board.
pub(crate) const MAX_TEMPLATE_MEMORY_BYTES: u64 = 32 << 20;
/// See [`MAX_TEMPLATE_MEMORY_BYTES`].
pub(crate) const MAX_TEMPLATE_SECONDS: u64 = 4;

/// Bytes of what is stored from a chat template, as JSON, in which a byte may take six. What a
/// template writes around three turns is no longer than the template.
pub const MAX_PATTERN_BYTES: usize = 8 * MAX_TEMPLATE_BYTES;

/// Outstanding prompts of one console: more than any script needs to keep a node busy. Further
/// piped input waits.
pub(crate) const MAX_OPEN_PROMPTS: usize = 64;

/// Bytes of requests read ahead while that many prompts are outstanding, so that a `stop` behind
/// them is seen: thousands of typical requests of a hundred bytes. Further input waits in the pipe.
pub(crate) const MAX_BACKLOG_BYTES: usize = 1 << 20;

/// Conversations of one console: a script may hold one for each person it serves at once.
pub(crate) const MAX_CONVERSATIONS: usize = 16;

/// Bytes of the system text before a conversation: a page.
pub(crate) const MAX_SYSTEM_BYTES: usize = 8 << 10;

/// Bytes of a conversation's name.
pub(crate) const MAX_CONVERSATION_NAME_BYTES: usize = 64;

/// Bytes of the largest file of MMLU questions. The largest published one has 2.2 MB.
pub(crate) const MAX_QUESTIONS_FILE_BYTES: usize = 4 << 20;

const _: () = assert!(
    MAX_CONSOLES + MAX_BOARD_CONSOLES + MAX_ATTACHED_CONSOLES + MAX_HTTP_AT_NODE
        < MAX_QUEUED_PROMPTS,
    "each console, and standard input, has one prompt at the node besides the HTTP prompts"
);
const _: () =
    assert!(MAX_PROMPT_BYTES < MAX_BACKLOG_BYTES, "a prompt line of any length fits the backlog");
const _: () = assert!(
    64 * MAX_TEMPLATE_FUEL < MAX_TEMPLATE_MEMORY_BYTES,
    "fuel must run out before memory does"
);
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
const _: () =
    assert!(DEFAULT_SLAB_BYTES <= MAX_SLAB_BYTES && DEFAULT_SLAB_BYTES.is_multiple_of(1_000_000));
const _: () = assert!(MAX_BLOCKS.is_power_of_two(), "heapless maps need a power of two");
const _: () =
    assert!(MAX_CONTEXT_TOKENS / BLOCK_TOKENS < MAX_BLOCKS, "one sequence must fit the index");
const _: () = assert!(
    2 * MAX_BLOCKS * FILTER_BITS_PER_ENTRY <= MAX_FILTER_SEGMENTS * FILTER_SEGMENT_BYTES * 8,
    "a full index, both planes of every block, must fit the largest filter"
);
const _: () = assert!(FILTER_PROBES <= MAX_FILTER_PROBES);
const _: () =
    assert!(MIN_INTERVAL_MS <= ANNOUNCE_INTERVAL_MS && ANNOUNCE_INTERVAL_MS <= MAX_INTERVAL_MS);
const _: () = assert!(
    FILTER_SEGMENT_BYTES + 256 <= MAX_DATAGRAM_BYTES,
    "a segment and its header fit one datagram"
);
const _: () = assert!(LEAST_PEERS <= MAX_PEERS);
const _: () = assert!(
    ANSWER_AGAIN_MS < GREETING_GAP_MS * 4 / 5,
    "every greeting of a newcomer gets an answer"
);
const _: () = assert!(
    (GREETINGS as u64 + 1) * GREETING_GAP_MS < NEWCOMER_MS,
    "a peer counts as new until its last greeting is answered"
);
const _: () = assert!(
    (SEGMENTS_A_PEER * FILTER_SEGMENT_BYTES) as u64 <= PEER_BYTES,
    "a peer's filter segments fit within PEER_BYTES"
);
const _: () = assert!(PREFILL_STEP_TOKENS.is_multiple_of(BLOCK_TOKENS));
const _: () = assert!(
    MAX_PATH_TOKENS * 5 + 64 <= MAX_FRAME_HEADER_BYTES,
    "a draft must fit a frame's header"
);
const _: () = assert!(MAX_DRAFT_TOKENS < MAX_PATH_TOKENS);
const _: () = assert!(MAX_PULLS < MAX_FETCH_CONNECTIONS, "repairs must not take all connections");
const _: () =
    assert!(MAX_CHUNK_BYTES <= u16::MAX as usize, "the payload length of a frame has 16 bits");
const _: () = assert!(
    MAX_FRAME_HEADER_BYTES <= u16::MAX as usize,
    "the header length of a frame has 16 bits"
);
const _: () =
    assert!(FILTER_SEGMENT_BYTES <= MAX_CHUNK_BYTES, "a filter segment travels as one payload");
const _: () = assert!(MAX_FILTER_SEGMENTS <= 64, "the wanted segments are a bit set in a u64");
const _: () =
    assert!(MAX_PLANE_BYTES <= u32::MAX as usize, "a plane's length has 32 bits on the wire");
