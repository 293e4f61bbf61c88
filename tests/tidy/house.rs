//! The house rules as data: dependencies between rooms, unwanted words and file sizes.
//! ARCHITECTURE.md gives the reasons.

/// A room, and the other rooms that it may name. The list of `node` shows how far the pure
/// core reaches.
pub const ROOMS: &[(&str, &[&str])] = &[
    ("id", &["limits"]),
    ("limits", &[]),
    ("splitmix", &[]),
    ("lan", &["id", "limits"]),
    ("machine", &[]),
    ("keyring", &["id", "limits"]),
    ("pace", &["limits"]),
    ("config", &["lan", "pace", "id", "limits"]),
    ("kv", &["id", "limits"]),
    ("kernels", &["limits"]),
    ("cache", &["kv", "splitmix", "id", "limits"]),
    ("catalog", &["keyring", "kv", "splitmix", "id", "limits"]),
    ("transfer", &["keyring", "kv", "id", "limits"]),
    ("planner", &["kv", "id", "limits"]),
    ("sampler", &["id", "limits"]),
    ("draft", &["id", "limits"]),
    ("console", &["node", "transfer", "sampler", "lan", "id", "limits"]),
    ("mmlu", &["limits"]),
    ("tokenizer", &["id", "limits"]),
    ("model", &["kernels", "tokenizer", "kv", "id", "limits"]),
    (
        "node",
        &[
            "cache", "catalog", "transfer", "planner", "sampler", "draft", "keyring", "kv",
            "splitmix", "id", "limits",
        ],
    ),
    ("answers", &["tokenizer", "sampler", "node", "id", "limits"]),
    ("http", &["node", "id", "limits"]),
    (
        "start",
        &[
            "answers",
            "node",
            "machine",
            "model",
            "tokenizer",
            "config",
            "console",
            "sampler",
            "kernels",
            "keyring",
            "kv",
            "id",
            "limits",
        ],
    ),
    (
        "drive",
        &[
            "start", "node", "model", "pace", "config", "console", "sampler", "catalog", "lan",
            "kv", "id", "limits",
        ],
    ),
    (
        "fronts",
        &[
            "drive",
            "start",
            "answers",
            "http",
            "node",
            "machine",
            "tokenizer",
            "pace",
            "config",
            "console",
            "sampler",
            "catalog",
            "cache",
            "lan",
            "id",
            "limits",
        ],
    ),
    ("commands", EVERY),
    ("main", &["commands"]),
];

const EVERY: &[&str] = &[
    "fronts",
    "drive",
    "start",
    "answers",
    "http",
    "node",
    "machine",
    "model",
    "tokenizer",
    "mmlu",
    "pace",
    "config",
    "console",
    "sampler",
    "draft",
    "planner",
    "transfer",
    "catalog",
    "cache",
    "kernels",
    "keyring",
    "kv",
    "lan",
    "splitmix",
    "id",
    "limits",
];

/// The rooms around the node, which own threads and clocks.
const AROUND: &[&str] = &["start", "drive", "fronts", "commands"];

/// An external path, and the rooms that may name it.
pub const DOORS: &[(&str, &[&str])] = &[
    ("burn", &["model"]),
    ("burn_ndarray", &["model"]),
    ("ndarray", &["model"]),
    ("memmap2", &["model"]),
    ("safetensors", &["model"]),
    ("tokenizers", &["tokenizer"]),
    ("minijinja", &["answers"]),
    ("minijinja_contrib", &["answers"]),
    ("serde_json", &["model", "tokenizer", "http", "start", "fronts", "commands"]),
    ("prometheus_client", &["http"]),
    ("hyper", &["fronts"]),
    ("http_body_util", &["fronts"]),
    ("smol_hyper", &["fronts"]),
    ("smol", &["drive", "fronts"]),
    ("async_net", &["drive", "fronts"]),
    ("async_io", &["drive"]),
    ("async_signal", &["drive"]),
    ("socket2", &["drive", "fronts"]),
    ("if_addrs", &["drive"]),
    ("snow", &["transfer"]),
    ("x25519_dalek", &["transfer"]),
    ("blake2", &["transfer"]),
    ("chacha20poly1305", &["catalog", "transfer"]),
    ("rustix", &["machine", "start", "fronts", "commands"]),
    ("unicode_segmentation", &["console"]),
    ("unicode_width", &["console"]),
    ("toml", &["config"]),
    ("bip39", &["config"]),
    ("pbkdf2", &["config"]),
    ("sha1", &["config"]),
    ("argon2", &["start"]),
    ("qrcode", &["commands"]),
    ("getrandom", &["start"]),
    ("clap", &["start", "commands"]),
    ("clap_complete", &["commands"]),
    ("clap_mangen", &["commands"]),
    ("strsim", &["config"]),
    ("std::net", &["drive"]),
    ("std::os::unix::net", &["drive", "fronts"]),
    ("std::thread", AROUND),
    ("std::time::Instant", AROUND),
    ("std::time::SystemTime", AROUND),
    ("std::time::*", AROUND),
    ("std::process::Command", AROUND),
    ("std::process::exit", &["commands"]),
    ("std::env", &["start", "fronts", "commands"]),
    ("std::fs", &["machine", "model", "tokenizer", "mmlu", "start", "drive", "fronts", "commands"]),
];

/// Files and folders that may hold the word `unsafe`: the kernels, the one place that maps files
/// into memory, and a counting allocator.
pub const UNSAFE: &[&str] = &["app/kernels/", "app/model/map.rs", "tests/allocations.rs"];

/// Phrases that mark unfinished work, in code and in comments. Split, so that this file contains
/// none of them.
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

/// Names given by others to finished things: a Linux driver and its device.
pub const OTHERS_NAMES: &[&str] = &[concat!("dum", "my_hcd"), concat!("dum", "my_udc")];

/// Above `LONG` lines a file gets a note that it may really be two; above `TOO_LONG` it fails.
pub const LONG: usize = 400;
pub const TOO_LONG: usize = 500;

/// The dependencies of the pure core: the only ones that are not optional.
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
    // The terms of the model that `make model` downloads.
    "ai.google.dev",
    "arxiv.org",
    "crates.io",
    "docs.rs",
    // A reserved name, in texts for the tokenizer.
    "example.org",
    "github.com",
    "huggingface.co",
    "keepachangelog.com",
    "postcard.jamesmunns.com",
    "semver.org",
    "www.apache.org",
    "www.rfc-editor.org",
    "www.rust-lang.org",
    // The SVG namespace, which is never fetched.
    "www.w3.org",
    "127.0.0.1",
    "localhost",
];

/// Paths that exist on one person's machine only. Split, as above.
pub const PRIVATE_PATHS: &[&str] =
    &[concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
