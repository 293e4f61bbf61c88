//! The table of all keys. The parser, the options, the default file and the reference are generated
//! from it.

mod entry;

use super::value::Setting;

pub(crate) use entry::Key;

use entry::{kind_of, needs_of, needs_one_of, row};

const SECRET: bool = true;

/// The key of that name.
///
/// # Panics
/// If the table has no such key: callers pass only names from the source code.
pub(crate) fn key(section: &str, name: &str) -> &'static Key {
    let found = TABLE.iter().find(|key| key.section == section && key.key == name);
    found.unwrap_or_else(|| unreachable!("no key {section}.{name}"))
}

/// The number of keys.
pub(super) const KEYS: usize = 47;

/// Every key, section by section, in the order of the file.
pub static TABLE: [Key; KEYS] = [
    row!(
        node.name,
        None,
        "NAME",
        "\"kitchen\"",
        "The board's name, on its console and on the network",
        "a board without a name goes by its id"
    ),
    row!(
        node.id,
        Some("id"),
        "HEX",
        "\"c0ffee\"",
        "This node's id in hexadecimal; no two nodes may have the same",
        "drawn at random, and kept where state says"
    ),
    row!(
        node.state,
        Some("state"),
        "DIR",
        "\"/data\"",
        "The directory for what must survive a restart, such as the swarm's epoch",
        "nothing is kept, as suits a PC"
    ),
    row!(
        swarm.key,
        Some("swarm-key"),
        "KEY",
        "\"correct horse battery staple\"",
        "The swarm's key: nodes share only with nodes that have the same one. A passphrase, or what `potluck key` prints",
        "all nodes without a key share with one another, and with everyone on their network",
        SECRET
    ),
    row!(
        swarm.key_file,
        Some("key-file"),
        "FILE",
        "\"swarm.key\"",
        "A file that holds the key on a line of its own; use it instead of key",
        "the key is in this file, or in POTLUCK_SWARM_KEY"
    ),
    row!(
        swarm.old_keys,
        None,
        "KEYS",
        "[\"the passphrase until May\"]",
        "Former keys of the swarm, the latest first, for the time in which its boards get the new one",
        "a swarm begins with one key",
        SECRET
    ),
    row!(
        swarm.audit,
        Some("audit"),
        "PERCENT",
        "0.5",
        "Share of the blocks from peers that an idle node computes again to check the peer, in per cent; 0 checks none",
        "finds a peer whose blocks are all wrong within a few prompts, and costs a hundredth of the computing that sharing saves"
    ),
    row!(
        wifi.ssid,
        None,
        "NAME",
        "\"My network\"",
        "The name of the Wi-Fi network",
        "the radio stays off"
    ),
    row!(
        wifi.password,
        None,
        "TEXT",
        "\"the network's password\"",
        "Its password",
        "an open network has none",
        SECRET
    ),
    row!(
        wifi.country,
        None,
        "CC",
        "\"DE\"",
        "The country whose radio rules apply, as two letters of ISO 3166",
        "the radio uses only what every country allows"
    ),
    row!(
        network.interface,
        Some("interface"),
        "ADDR|NAME",
        "\"wlan0\"",
        "Where to share: an address of this machine, or an interface's name",
        "every interface with a LAN behind it, also those that appear later"
    ),
    row!(
        network.group,
        Some("group"),
        "ADDR",
        "\"239.255.80.77\"",
        "Multicast group of the catalog, the same on every node; with IPv6 ff12::504c and its four bytes: ff12::504c:efff:504c",
        "administratively scoped (RFC 2365): no router passes it on"
    ),
    row!(
        network.port,
        Some("port"),
        "PORT",
        "7655",
        "UDP port of the catalog, the same on every node",
        "any port that is free on every node works"
    ),
    row!(
        network.tcp_port,
        Some("tcp-port"),
        "PORT",
        "7654",
        "TCP port that blocks are served on; 0 takes any free one",
        "announced to the peers, so it need not be known"
    ),
    row!(
        network.peers,
        Some("peer"),
        "ADDR:PORT",
        "[\"192.168.1.21:7654\", \"192.168.1.22:7654\"]",
        "Addresses of peers that multicast does not reach; it is enough if one of two peers names the other",
        "multicast finds the peers of one LAN"
    ),
    row!(
        network.announce,
        Some("announce"),
        "S",
        "30",
        "Seconds between announcements when nothing changes",
        "idle nodes stay far below 1 kB/s, and a lost delta is noticed soon (guess)"
    ),
    row!(
        network.radio_reboot,
        None,
        "true|false",
        "true",
        "Whether a board may reboot when its radio no longer receives anything and nothing else has helped",
        "on a PC its owner decides; the board's own settings say true"
    ),
    row!(
        model.file,
        Some("model"),
        "FILE",
        "\"gemma-3-270m-it.gguf\"",
        "A Gemma 3 model, GGUF",
        "the one .gguf file beside potluck.toml"
    ),
    row!(
        model.tokenizer,
        Some("tokenizer"),
        "FILE",
        "\"tokenizer.json\"",
        "A tokenizer.json to use instead of the vocabulary inside the model file",
        "the model file's own vocabulary"
    ),
    row!(
        model.precision,
        Some("precision"),
        "int8|float",
        "\"float\"",
        "The arithmetic: int8 activations and KV, or f32 ones (the exact reference: slower, four times the KV)",
        "what the board is fast at"
    ),
    row!(
        model.threads,
        Some("threads"),
        "COUNT",
        "2",
        "Number of cores that compute an answer; 0 means all cores of this machine",
        "a board has nothing else to do"
    ),
    row!(
        model.cpus,
        Some("cpus"),
        "CPUS",
        "\"0-2\"",
        "Numbers of the CPUs to compute on, one thread on each; with threads = 0 there are as many threads as CPUs",
        "the system schedules the threads"
    ),
    row!(
        model.isa,
        Some("isa"),
        "best|portable|neon|avx2|avx512",
        "\"portable\"",
        "Instruction set of the arithmetic; all give the same answers",
        "the fastest that the CPU has"
    ),
    row!(
        model.halves,
        Some("halves"),
        "auto|on|off",
        "\"off\"",
        "Read half of the output rows' bytes for a greedy or top-k token; the same tokens. The halves are kept beside the packed vocabulary: \
         179 MB for Gemma-3 270M, written once. auto uses them where the disk has room, unless whole rows were measured to be as fast",
        "made at a model's first start, and measured where memory holds the rows and their halves; a board's does not, and uses them unmeasured"
    ),
    row!(
        model.drafts,
        Some("drafts"),
        "true|false",
        "false",
        "Check several tokens of an answer at once where they can be guessed: because the same was answered before, here or by a peer, or \
         because the text repeats itself. The same tokens, sooner",
        "a guess that does not pay is not made, and a wrong one costs next to nothing"
    ),
    row!(
        memory.slab,
        Some("slab"),
        "MB",
        "\"64 MB\"",
        "Memory for KV blocks, in MB (10^6 bytes)",
        "beside 243 MB of weights it leaves a board of 512 MB some room; about 9,800 tokens of Gemma-3 270M"
    ),
    row!(
        memory.context,
        Some("context"),
        "TOKENS",
        "1024",
        "Longest prompt and answer together, in tokens; not more than the model takes",
        "five examples and a question of MMLU take up to 1,500"
    ),
    row!(
        memory.lock,
        Some("lock"),
        "nothing|weights",
        "\"weights\"",
        "What stays in memory: with weights the model file is read at once and locked, if the process may lock that much (on the board it \
         may)",
        "a PC has memory to spare, and its users often may not lock it"
    ),
    row!(
        answers.max_tokens,
        Some("max-tokens"),
        "N",
        "256",
        "The most tokens of an answer",
        "a paragraph, some ten seconds on the board (guess)"
    ),
    row!(
        answers.temperature,
        Some("temperature"),
        "T",
        "0.7",
        "0 always takes the likeliest token; a higher temperature gives more varied answers",
        "the same prompt gives the same answer"
    ),
    row!(
        answers.top_k,
        Some("top-k"),
        "K",
        "40",
        "Choose among the K likeliest tokens; 0 means all",
        "as published with Gemma 3"
    ),
    row!(
        answers.top_p,
        Some("top-p"),
        "P",
        "0.9",
        "Choose among the likeliest tokens that together have this probability",
        "as published with Gemma 3"
    ),
    row!(
        answers.seed,
        Some("seed"),
        "N",
        "1",
        "The same seed gives the same answer",
        "any number works"
    ),
    row!(
        answers.repeat_penalty,
        Some("repeat-penalty"),
        "P",
        "1.1",
        "Makes tokens that have just been used less likely: their logits are divided by P where positive, else multiplied; 1 is off",
        "answers are what the model says"
    ),
    row!(
        answers.repeat_last_n,
        Some("repeat-last-n"),
        "N",
        "256",
        "How many of the latest tokens, the prompt's too, the repetition penalty looks at; 0 is off",
        "as in llama.cpp"
    ),
    row!(
        answers.stop,
        Some("stop"),
        "TEXT",
        "[\"\\n\\n\", \"User:\"]",
        "Ends an answer before this text, which is not shown",
        "the model ends its answers"
    ),
    row!(
        answers.system,
        Some("system"),
        "TEXT",
        "\"Answer in one sentence.\"",
        "The system text before a conversation, if the model's chat template has a place for it",
        "chat models work without one"
    ),
    row!(
        answers.drop_oldest,
        Some("drop-oldest"),
        "true|false",
        "true",
        "Whether a conversation that fills the context drops its oldest turns; otherwise it ends with a message",
        "a model that forgets without being asked surprises people"
    ),
    row!(
        console.devices,
        Some("console"),
        "DEVICE",
        "[\"/dev/ttyUSB0\"]",
        "Terminals to talk on, such as serial adapters, each with a console of its own; potluck waits for one that is missing or unplugged. \
         A board's serial line and USB port always have a console",
        "the console is standard input, or the board's own terminals"
    ),
    row!(
        console.speed,
        Some("speed"),
        "BITS",
        "57600",
        "Bits a second of those devices that are serial lines; a board's own line keeps the kernel's speed",
        "the usual speed of boards' serial consoles"
    ),
    row!(
        console.socket,
        Some("console-socket"),
        "PATH",
        "\"/run/potluck/console\"",
        "A Unix socket that `potluck console` attaches terminals to, several at once",
        "nobody can attach"
    ),
    row!(
        console.socket_group,
        None,
        "GROUP",
        "\"potluck\"",
        "The group whose members may attach to that socket too, by its name or number",
        "only the user that the node runs as may attach, and root"
    ),
    row!(
        console.power,
        None,
        "true|false",
        "true",
        "Whether the commands reboot and poweroff are obeyed",
        "on a PC its owner decides; the board's own settings say true"
    ),
    row!(
        http.listen,
        Some("http"),
        "ADDR:PORT",
        "\"0.0.0.0:8080\"",
        "Serves the HTTP API and a page to chat on, at this address and port",
        "off until you choose an address"
    ),
    row!(
        http.api_key,
        None,
        "KEY",
        "\"sk-kitchen\"",
        "The API key that clients must send",
        "everyone who reaches the port gets answers",
        SECRET
    ),
    row!(
        http.origins,
        None,
        "ORIGINS",
        "[\"https://example.org\"]",
        "Origins of other web pages that may use the API from a browser; \"*\" allows all",
        "the node's own page is always allowed"
    ),
    row!(
        log.level,
        Some("log"),
        "error|warn|info",
        "\"warn\"",
        "The log level that consoles print as it happens: this level and more severe ones; the command log shows every line",
        "a healthy node logs little"
    ),
];
