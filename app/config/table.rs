//! The one table of keys. Parser, options, default file and reference are made from it.

use toml_writer::{ToTomlValue, TomlStringBuilder};

use super::Config;
use super::value::{Kind, Setting};

/// One key of the file.
pub struct Key {
    /// Its section.
    pub section: &'static str,
    /// Its name.
    pub key: &'static str,
    /// The option that overrides it, without the two hyphens.
    pub option: Option<&'static str>,
    /// What stands for its value in the help.
    pub value: &'static str,
    /// How its value is written.
    pub kind: Kind,
    /// Whether no message may show it.
    pub secret: bool,
    /// A value other than the default, in TOML.
    pub example: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Why the default is what it is.
    pub why: &'static str,
    /// What is taken, for a message.
    pub needs: fn() -> String,
    /// Sets it from the elements of a list, else from one text; or says which element cannot be meant.
    pub set: fn(&mut Config, &[&str]) -> Result<(), usize>,
    /// What it is set to; nothing where there is none. Secrets stay hidden.
    pub show: fn(&Config) -> Vec<String>,
}

impl Key {
    /// `memory.slab`
    pub fn name(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    pub(super) fn same(&self, other: &Key) -> bool {
        self.section == other.section && self.key == other.key
    }

    /// The value in TOML, none where there is none.
    pub fn toml(&self, config: &Config) -> Option<String> {
        let texts = (self.show)(config);
        let quoted = |text: &String| TomlStringBuilder::new(text).as_basic().to_toml_value();
        match (self.kind, texts.first()) {
            (Kind::List, Some(_)) => Some(format!("[{}]", texts.iter().map(quoted).collect::<Vec<_>>().join(", "))),
            (Kind::Number, Some(text)) if text.parse::<f64>().is_ok() => Some(text.clone()),
            (Kind::Switch, text) => text.cloned(),
            (_, text) => text.map(quoted),
        }
    }
}

/// A row: the place of the value in [`Config`], its option and what stands for its value, an example, what it is and why.
macro_rules! row {
    ($section:ident . $key:ident, $option:expr, $value:expr, $example:expr, $about:expr, $why:expr) => {
        row!($section.$key, $option, $value, $example, $about, $why, false)
    };
    ($section:ident . $key:ident, $option:expr, $value:expr, $example:expr, $about:expr, $why:expr, $secret:expr) => {
        Key {
            section: stringify!($section),
            key: stringify!($key),
            option: $option,
            value: $value,
            kind: kind_of(|config| &config.$section.$key),
            secret: $secret,
            example: $example,
            about: $about,
            why: $why,
            needs: || needs_of(|config| &config.$section.$key),
            set: |config, given| {
                config.$section.$key = Setting::read(given)?;
                Ok(())
            },
            show: |config| config.$section.$key.show(),
        }
    };
}

/// The kind of the field that the function leads to.
const fn kind_of<T: Setting>(_: fn(&Config) -> &T) -> Kind {
    T::KIND
}

fn needs_of<T: Setting>(_: fn(&Config) -> &T) -> String {
    T::needs()
}

const SECRET: bool = true;

/// The key of that name.
///
/// # Panics
/// Where the table has none: only names that stand in the source are asked for.
pub fn key(section: &str, name: &str) -> &'static Key {
    let found = TABLE.iter().find(|key| key.section == section && key.key == name);
    found.unwrap_or_else(|| unreachable!("no key {section}.{name}"))
}

/// How many keys there are.
pub(super) const KEYS: usize = 39;

/// Every key, section by section, in the order of the file.
pub static TABLE: [Key; KEYS] = [
    row!(
        node.name,
        None,
        "NAME",
        "\"kitchen\"",
        "What this board is called, on its console and on the network",
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
        "Nodes share only with nodes that have the same key: a passphrase, or what `potluck key` prints",
        "all nodes without a key share with one another, and with whoever is on their network",
        SECRET
    ),
    row!(
        swarm.key_file,
        Some("key-file"),
        "FILE",
        "\"swarm.key\"",
        "A file with the key on a line of its own, instead of key",
        "the key stands here, or in POTLUCK_SWARM_KEY"
    ),
    row!(
        swarm.old_keys,
        None,
        "KEYS",
        "[\"the passphrase until May\"]",
        "Keys that the swarm had before, the latest first, while its boards are given the new one",
        "a swarm begins with one key",
        SECRET
    ),
    row!(
        swarm.audit,
        Some("audit"),
        "PERCENT",
        "0.5",
        "Of the blocks that peers made, how many an idle node computes again to check that peer, in per cent; 0 checks none",
        "a peer whose every block is wrong is found within some prompts, for a hundredth of the computing that sharing saves"
    ),
    row!(wifi.ssid, None, "NAME", "\"My network\"", "The name of the Wi-Fi network", "the radio stays off"),
    row!(wifi.password, None, "TEXT", "\"the network's password\"", "Its password", "an open network has none", SECRET),
    row!(
        wifi.country,
        None,
        "CC",
        "\"DE\"",
        "The country whose rules for radios hold, in two letters of ISO 3166",
        "the radio keeps to what is allowed everywhere"
    ),
    row!(
        network.interface,
        Some("interface"),
        "ADDR",
        "\"192.168.1.20\"",
        "This machine's address on the LAN to share on",
        "the system chooses"
    ),
    row!(
        network.group,
        Some("group"),
        "ADDR",
        "\"239.255.80.77\"",
        "Multicast group of the catalog, the same on every node",
        "administratively scoped (RFC 2365): no router passes it on"
    ),
    row!(
        network.port,
        Some("port"),
        "PORT",
        "7655",
        "UDP port of the catalog, the same on every node",
        "any that is free on every node will do"
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
        "Catalogs of peers that multicast does not reach",
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
        "Cores that compute an answer; 0 means all that this machine has",
        "a board has nothing else to do"
    ),
    row!(
        model.cpus,
        Some("cpus"),
        "CPUS",
        "\"0-2\"",
        "The CPUs, by number, that those cores are: one thread stays on each; with threads = 0 there are as many threads",
        "the system moves threads to where there is room"
    ),
    row!(
        model.isa,
        Some("isa"),
        "NAME",
        "\"portable\"",
        "Instructions that the arithmetic takes: best, portable, neon, avx2 or avx512; all give the same answers",
        "the fastest that the CPU has"
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
        "What the system may not take out of memory: with weights the model file is read at once and stays, where the process may lock \
         as much (on the board it may)",
        "a PC has memory to spare, and its users often may not lock it"
    ),
    row!(
        answers.max_tokens,
        Some("max-tokens"),
        "N",
        "256",
        "Tokens of an answer, at most",
        "a paragraph, some ten seconds on the board (guess)"
    ),
    row!(
        answers.temperature,
        Some("temperature"),
        "T",
        "0.7",
        "0 always takes the likeliest token; higher is more varied",
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
    row!(answers.seed, Some("seed"), "N", "1", "The same seed gives the same answer", "any will do"),
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
        "What the model is told before a conversation, where its chat template has a place for it",
        "models are made to chat without"
    ),
    row!(
        answers.drop_oldest,
        Some("drop-oldest"),
        "true|false",
        "true",
        "Whether a conversation that fills the context goes on without its oldest turns; else it says that it is full",
        "what a model forgets unasked surprises"
    ),
    row!(
        console.devices,
        Some("console"),
        "DEVICE",
        "[\"/dev/ttyS0\", \"/dev/ttyGS0\"]",
        "Terminals to talk on, such as serial lines, each with a console of its own; one that is missing or unplugged is waited for",
        "standard input is the console"
    ),
    row!(
        console.speed,
        Some("speed"),
        "BITS",
        "57600",
        "Bits a second on those that are serial lines",
        "what serial consoles of boards are set to"
    ),
    row!(
        console.power,
        None,
        "true|false",
        "true",
        "Whether the commands reboot and poweroff are obeyed",
        "a PC is its owner's; the board's own settings say true"
    ),
    row!(
        log.level,
        Some("log"),
        "error|warn|info",
        "\"warn\"",
        "Which lines of the log are told on consoles unasked: these and what matters more; the command log shows all",
        "a quiet node says little"
    ),
];
