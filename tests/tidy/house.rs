//! The house as data: who may know whom, and which words and sizes are not wanted. ARCHITECTURE.md gives the reasons.

/// A room, and the rooms that it may name besides itself. The list of `node` says how far the pure core reaches.
pub const ROOMS: &[(&str, &[&str])] = &[
    ("id", &["limits"]),
    ("limits", &[]),
    ("keyring", &["id", "limits"]),
    ("config", &["id", "limits"]),
    ("kv", &["id", "limits"]),
    ("kernels", &["limits"]),
    ("cache", &["kv", "id", "limits"]),
    ("catalog", &["keyring", "kv", "id", "limits"]),
    ("transfer", &["keyring", "kv", "id", "limits"]),
    ("planner", &["kv", "id", "limits"]),
    ("sampler", &["id", "limits"]),
    ("console", &["node", "transfer", "sampler", "id", "limits"]),
    ("mmlu", &["limits"]),
    ("tokenizer", &["id", "limits"]),
    ("model", &["kernels", "tokenizer", "kv", "id", "limits"]),
    ("node", &["cache", "catalog", "transfer", "planner", "sampler", "keyring", "kv", "id", "limits"]),
    ("answers", &["tokenizer", "sampler", "node", "id", "limits"]),
    (
        "start",
        &["answers", "node", "model", "tokenizer", "config", "console", "sampler", "kernels", "keyring", "kv", "id", "limits"],
    ),
    ("drive", &["start", "node", "model", "config", "console", "sampler", "catalog", "kv", "id", "limits"]),
    (
        "fronts",
        &["drive", "start", "answers", "node", "tokenizer", "config", "console", "sampler", "catalog", "cache", "id", "limits"],
    ),
    ("commands", EVERY),
    ("main", &["commands"]),
];

const EVERY: &[&str] = &[
    "fronts",
    "drive",
    "start",
    "answers",
    "node",
    "model",
    "tokenizer",
    "mmlu",
    "config",
    "console",
    "sampler",
    "planner",
    "transfer",
    "catalog",
    "cache",
    "kernels",
    "keyring",
    "kv",
    "id",
    "limits",
];

/// The rooms around the node, which threads and clocks belong to.
const AROUND: &[&str] = &["start", "drive", "fronts", "commands"];

/// A path from outside the house, and the rooms that may name it.
pub const DOORS: &[(&str, &[&str])] = &[
    ("burn", &["model"]),
    ("burn_ndarray", &["model"]),
    ("ndarray", &["model"]),
    ("memmap2", &["model"]),
    ("safetensors", &["model"]),
    ("tokenizers", &["tokenizer"]),
    ("minijinja", &["answers"]),
    ("minijinja_contrib", &["answers"]),
    ("serde_json", &["model", "tokenizer", "start", "fronts", "commands"]),
    ("smol", &["drive", "fronts"]),
    ("async_net", &["drive"]),
    ("async_io", &["drive"]),
    ("async_signal", &["drive"]),
    ("socket2", &["drive"]),
    ("snow", &["transfer"]),
    ("x25519_dalek", &["transfer"]),
    ("blake2", &["transfer"]),
    ("chacha20poly1305", &["catalog", "transfer"]),
    ("rustix", &["start", "fronts", "commands"]),
    ("unicode_segmentation", &["console"]),
    ("unicode_width", &["console"]),
    ("toml", &["config"]),
    ("bip39", &["config"]),
    ("argon2", &["start"]),
    ("qrcode", &["commands"]),
    ("getrandom", &["start"]),
    ("clap", &["start", "commands"]),
    ("std::net", &["drive"]),
    ("std::thread", AROUND),
    ("std::time::Instant", AROUND),
    ("std::time::SystemTime", AROUND),
    ("std::time::*", AROUND),
    ("std::process::Command", &["start", "fronts", "commands"]),
    ("std::process::exit", &["commands"]),
    ("std::env", &["start", "fronts", "commands"]),
    ("std::fs", &["model", "tokenizer", "mmlu", "start", "drive", "fronts", "commands"]),
];

/// Files and folders that may hold the word `unsafe`: arithmetic, the one place where a file becomes memory, and an allocator that
/// counts.
pub const UNSAFE: &[&str] = &["app/kernels/", "app/model/map.rs", "tests/allocations.rs"];

/// Files whose duty to somebody else's trait names a barred word: `tokenizers::Model` gives its vocabulary as a map.
pub const BARRED_BUT_IN: &[&str] = &["app/tokenizer/packed/model.rs"];

/// Words that no source of the house holds, and what to write instead.
pub const BARRED: &[(&str, &str)] = &[
    ("HashMap", "its order differs from run to run; take BTreeMap, a heapless map or a Vec"),
    ("HashSet", "its order differs from run to run; take BTreeSet or a Vec"),
];

/// Macros that mark what is not finished.
pub const BARRED_MACROS: &[&str] = &["todo", "unimplemented", "dbg"];

/// Phrases that mark what is not finished, in code and comments alike. Split, so that this file holds none of them.
pub const UNFINISHED: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("TO", "DO"),
    concat!("place", "holder"),
    concat!("dum", "my"),
    concat!("for", " now"),
    concat!("not yet ", "implemented"),
    concat!("not ", "implemented"),
];

/// Methods that the platform's libm answers: another board, another last bit. Norms, softmax and RoPE have one definition of
/// ours, in `kernels`. (Square root and fused multiply-add are exact everywhere.)
pub const PLATFORM_MATHS: &[&str] = &[
    "exp", "exp2", "exp_m1", "ln", "ln_1p", "log", "log2", "log10", "sin", "cos", "sin_cos", "tan", "tanh", "sinh", "cosh",
    "atan2", "powf", "powi", "cbrt", "hypot",
];

/// Rooms whose results must be the same bits on every board.
pub const SAME_BITS: &[&str] = &["kernels", "sampler"];

/// Lines past which a file is asked what it is really two of, and lines past which it does not pass.
pub const LONG: usize = 400;
pub const TOO_LONG: usize = 500;

/// What the pure core is built from: the only dependencies that are not optional.
pub const PURE_DEPENDENCIES: &[&str] = &[
    "blake2",
    "blake3",
    "chacha20poly1305",
    "half",
    "heapless",
    "libm",
    "postcard",
    "serde",
    "snow",
    "thiserror",
    "unicode-segmentation",
    "unicode-width",
    "x25519-dalek",
    "xxhash-rust",
];

/// Hosts that a document or manifest may point to.
pub const HOSTS: &[&str] = &[
    // The terms of the model that `make model` brings.
    "ai.google.dev",
    "arxiv.org",
    "crates.io",
    "docs.rs",
    // A name that nobody has: texts for the tokenizer.
    "example.org",
    "github.com",
    "huggingface.co",
    "keepachangelog.com",
    "postcard.jamesmunns.com",
    "semver.org",
    "www.apache.org",
    "www.rfc-editor.org",
    "www.rust-lang.org",
    // The name of the SVG format, which nobody fetches.
    "www.w3.org",
    "127.0.0.1",
    "localhost",
];

/// Paths that exist on somebody's machine only. Split, as above.
pub const PRIVATE_PATHS: &[&str] = &[concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
