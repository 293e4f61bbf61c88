//! The settings by section, with their defaults. The names are those of the file:
//! `config.memory.slab` is `slab` in `[memory]`.

use std::path::PathBuf;

use crate::limits::{
    ANNOUNCE_INTERVAL_MS, DEFAULT_SLAB_BYTES, MAX_CONTEXT_TOKENS, MAX_INTERVAL_MS,
    MAX_REPEAT_TOKENS, MAX_THREADS, MAX_VOCABULARY_TOKENS,
};

use super::answers::{Penalty, Stops, System, Temperature, TopP};
use super::console::{Device, LogLevel, SocketGroup, Speed};
use super::cores::{Cpus, Instructions};
use super::http::{ApiKey, Listen, Origins};
use super::network::{Interface, Peer};
use super::swarm::{OldKeys, Share, SwarmKey};
use super::value::{Count, Group, Halves, HostName, Id, Lock, Port, Precision, Size};
use super::wifi::{Country, Passphrase, Ssid};

/// `[node]`: this board.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Node {
    /// Its name, for people.
    pub name: Option<HostName>,
    /// Its id; `None` draws one at every start.
    pub id: Option<Id>,
    /// The directory for what must survive a restart; `None` keeps nothing.
    pub state: Option<PathBuf>,
}

/// `[swarm]`: which nodes share with each other.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Swarm {
    /// Nodes share only with nodes that have the same key.
    pub key: Option<SwarmKey>,
    /// A file that holds the key instead.
    pub key_file: Option<PathBuf>,
    /// The keys that the swarm had before.
    pub old_keys: OldKeys,
    /// The share of peers' blocks that are computed again to check them.
    pub audit: Share,
}

/// `[wifi]`: for the scripts that bring up the board's radio.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Wifi {
    /// The network's name.
    pub ssid: Option<Ssid>,
    /// Its password; `None` for an open network.
    pub password: Option<Passphrase>,
    /// The country whose radio rules apply.
    pub country: Option<Country>,
}

/// `[network]`: how nodes find and reach each other.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Network {
    /// Where to share: on every suitable interface, or on one of this machine's.
    pub interface: Interface,
    /// Multicast group of the catalog.
    pub group: Group,
    /// UDP port of the catalog.
    pub port: Port,
    /// TCP port that blocks are served on; 0 takes any free port.
    pub tcp_port: u16,
    /// Catalog addresses of peers that multicast does not reach.
    pub peers: Vec<Peer>,
    /// Seconds between announcements when nothing changes.
    pub announce: Count<1, { MAX_INTERVAL_MS as usize / 1_000 }>,
    /// Whether a board may reboot if its radio stays deaf.
    pub radio_reboot: bool,
}

/// `[model]`: the model that answers, and how it computes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Model {
    /// A Gemma 3 model, GGUF.
    pub file: Option<PathBuf>,
    /// A tokenizer.json to use instead of the vocabulary inside the model file.
    pub tokenizer: Option<PathBuf>,
    /// The arithmetic.
    pub precision: Precision,
    /// Number of cores that compute; 0 means all cores of this machine.
    pub threads: Count<0, MAX_THREADS>,
    /// The CPUs that the threads are pinned to; `None` leaves that to the system.
    pub cpus: Option<Cpus>,
    /// The instruction set of the arithmetic.
    pub isa: Instructions,
    /// Whether output rows are read in halves.
    pub halves: Halves,
    /// Whether an answer's next tokens are drafted and checked together.
    pub drafts: bool,
}

/// `[memory]`: the memory that is reserved at start.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Memory {
    /// Memory for KV blocks.
    pub slab: Size,
    /// Longest prompt and answer together, in tokens.
    pub context: Count<2, MAX_CONTEXT_TOKENS>,
    /// What is locked in memory.
    pub lock: Lock,
}

/// `[answers]`: how answers are generated unless a request says otherwise.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Answers {
    /// The most tokens of an answer.
    pub max_tokens: Count<1, MAX_CONTEXT_TOKENS>,
    /// 0 always takes the likeliest token.
    pub temperature: Temperature,
    /// Draws from this many of the likeliest tokens; 0 means all.
    pub top_k: Count<0, MAX_VOCABULARY_TOKENS>,
    /// Draws from the likeliest tokens that together have this probability.
    pub top_p: TopP,
    /// The same seed gives the same answer.
    pub seed: u64,
    /// Makes recent tokens less likely; 1 is off.
    pub repeat_penalty: Penalty,
    /// How many tokens count as recent.
    pub repeat_last_n: Count<0, MAX_REPEAT_TOKENS>,
    /// Texts that end an answer.
    pub stop: Stops,
    /// The system text before a conversation.
    pub system: Option<System>,
    /// Whether a conversation that fills the context drops its oldest turns.
    pub drop_oldest: bool,
}

/// `[console]`: where people talk to the node.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Console {
    /// Terminals that the node opens; if there are none, the console is standard input.
    pub devices: Vec<Device>,
    /// The speed of those that are serial lines.
    pub speed: Speed,
    /// A Unix socket that terminals can be attached to.
    pub socket: Option<PathBuf>,
    /// The group whose members may attach; `None` allows only the owner.
    pub socket_group: Option<SocketGroup>,
    /// Whether the commands reboot and poweroff are obeyed.
    pub power: bool,
}

/// `[http]`: the API for programs, and the page for browsers.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Http {
    /// The address that it is served on; `None` leaves it off.
    pub listen: Option<Listen>,
    /// The API key that clients must send; `None` answers everybody who reaches the port.
    pub api_key: Option<ApiKey>,
    /// Origins of other web pages that may use the API.
    pub origins: Origins,
}

/// `[log]`: the log lines that consoles print as they happen.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Log {
    /// The least severe level that is printed.
    pub level: LogLevel,
}

impl Default for Swarm {
    fn default() -> Swarm {
        Swarm { key: None, key_file: None, old_keys: OldKeys::default(), audit: Share::ONE_PERCENT }
    }
}

impl Default for Console {
    fn default() -> Console {
        Console {
            devices: Vec::new(),
            speed: Speed::DEFAULT,
            socket: None,
            socket_group: None,
            power: false,
        }
    }
}

impl Default for Network {
    fn default() -> Network {
        Network {
            interface: Interface::default(),
            group: Group::DEFAULT,
            port: Port::CATALOG,
            tcp_port: 0,
            peers: Vec::new(),
            announce: const { Count::new(ANNOUNCE_INTERVAL_MS as usize / 1_000) },
            radio_reboot: false,
        }
    }
}

impl Default for Model {
    fn default() -> Model {
        Model {
            file: None,
            tokenizer: None,
            precision: Precision::default(),
            threads: const { Count::new(0) },
            cpus: None,
            isa: Instructions::Best,
            halves: Halves::Auto,
            drafts: true,
        }
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            slab: const { Size::from_mb(DEFAULT_SLAB_BYTES / 1_000_000) },
            context: const { Count::new(2_048) },
            lock: Lock::Nothing,
        }
    }
}

impl Default for Answers {
    fn default() -> Answers {
        Answers {
            max_tokens: const { Count::new(128) },
            temperature: Temperature::GREEDY,
            top_k: const { Count::new(64) },
            top_p: TopP::DEFAULT,
            seed: 0,
            repeat_penalty: Penalty::OFF,
            repeat_last_n: const { Count::new(64) },
            stop: Stops::default(),
            system: None,
            drop_oldest: false,
        }
    }
}
