//! The command line.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use thiserror::Error;

use crate::model::Precision;
use crate::model::convert::ConvertType;
use crate::model::synth::Shape;
use crate::node::NodeError;
use crate::sampler::{Sampling, SamplingError};
use crate::tokenizer::TokenizerError;

use super::net::NetSettings;
use super::reset::{ResetError, ResetSettings};
use super::run::{AskSettings, Console};
use super::setup::{NodeSettings, SetupError, load};
use super::swarm::{SwarmError, SwarmSettings};
use super::{reset, run, swarm, tools};

/// Boards on one LAN answer prompts with Gemma 3 and share the KV state of every prompt prefix.
#[derive(Parser)]
#[command(name = "potluck", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    /// Run a node of the swarm, with a console on standard input
    Run(RunArgs),
    /// Answer one prompt on this machine alone, and end
    Ask(AskArgs),
    /// Make a GGUF out of a Hugging Face directory (config.json, model.safetensors, tokenizer.json)
    Convert(ConvertArgs),
    /// Write a model of random weights in an exact published shape, for benchmarks
    Synth(SynthArgs),
    /// Say what a GGUF holds, which fingerprint it has and what memory it will take
    Inspect(InspectArgs),
    /// Check this build's arithmetic and cache on a directory with config.json, model.safetensors and golden.safetensors
    Verify(VerifyArgs),
    /// Make every node on the LAN forget what its peers hold, and with --store its own blocks
    Reset(ResetArgs),
    /// Run several nodes on this machine over real MMLU prompts, and check what they share
    Swarm(SwarmArgs),
}

#[derive(Args)]
struct ModelArgs {
    /// A Gemma 3 model, GGUF
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// A tokenizer.json to use instead of the vocabulary inside the model file
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// The arithmetic: int8 activations and KV, or f32 ones (the exact reference: slower, four times the KV)
    #[arg(long, value_enum, default_value_t = PrecisionArg::Int8)]
    precision: PrecisionArg,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionArg {
    Int8,
    Float,
}

#[derive(Args)]
struct AnswerArgs {
    /// Tokens of an answer, at most
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_tokens: usize,
    /// 0 always takes the likeliest token; higher is more varied
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// Choose among the K likeliest tokens; 0 means all
    #[arg(long, value_name = "K", default_value_t = 64)]
    top_k: usize,
    /// Choose among the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,
    /// The same seed gives the same answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

#[derive(Args)]
struct MemoryArgs {
    /// Memory for KV blocks, in MB (10^6 bytes)
    #[arg(long, value_name = "MB", default_value_t = 96)]
    slab: usize,
    /// Longest prompt and answer, in tokens
    #[arg(long, value_name = "TOKENS", default_value_t = 2048)]
    context: usize,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    answers: AnswerArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    /// This node's id, in hexadecimal; drawn at random when not given
    #[arg(long, value_name = "HEX", value_parser = hex)]
    id: Option<u64>,
    /// Nodes share only with nodes that have the same key
    #[arg(long, value_name = "KEY", default_value = "")]
    swarm_key: String,
    /// This machine's address on the LAN to share on; by default the system chooses
    #[arg(long, value_name = "ADDR", default_value_t = Ipv4Addr::UNSPECIFIED)]
    interface: Ipv4Addr,
    /// Multicast group of the catalog
    #[arg(long, value_name = "ADDR", default_value_t = Ipv4Addr::new(239, 255, 80, 76), value_parser = multicast)]
    group: Ipv4Addr,
    /// UDP port of the catalog
    #[arg(long, value_name = "PORT", default_value_t = 7654)]
    port: u16,
    /// TCP port that blocks are served on; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    tcp_port: u16,
    /// The catalog of a peer that multicast does not reach; may be given several times
    #[arg(long = "peer", value_name = "ADDR:PORT")]
    peers: Vec<SocketAddr>,
    /// Seconds between announcements when nothing changes
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=300))]
    announce: u32,
    /// Directory for what survives a restart: the swarm's epoch. Each node needs its own
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Share nothing: compute everything here
    #[arg(long)]
    alone: bool,
    /// Compute every prompt from its first token, whatever is known already: what sharing is measured against
    #[arg(long, requires = "alone")]
    no_reuse: bool,
    /// Take JSON requests and give JSON events, one a line
    #[arg(long)]
    json: bool,
    /// Read nothing from standard input: only serve peers
    #[arg(long, conflicts_with = "json")]
    no_console: bool,
}

#[derive(Args)]
struct AskArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    answers: AnswerArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Wrap the text in Gemma's chat template
    #[arg(long)]
    chat: bool,
    /// The prompt
    text: String,
}

#[derive(Args)]
struct ConvertArgs {
    /// The Hugging Face directory
    dir: PathBuf,
    /// The GGUF to write
    out: PathBuf,
    /// How matrices are stored
    #[arg(long = "type", value_name = "q8_0|q4_0|f16|f32", default_value_t = ConvertType::Q8_0)]
    kind: ConvertType,
}

#[derive(Args)]
struct SynthArgs {
    /// Which shape
    #[arg(long, value_name = "gemma3-270m|gemma3-1b|demo", default_value_t = Shape::Demo)]
    shape: Shape,
    /// The same seed gives the same file
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How matrices are stored
    #[arg(long = "type", value_name = "q8_0|q4_0|f16|f32", default_value_t = ConvertType::Q8_0)]
    kind: ConvertType,
    /// The GGUF to write
    out: PathBuf,
}

#[derive(Args)]
struct InspectArgs {
    /// The GGUF
    file: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct VerifyArgs {
    /// The directory
    dir: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ResetArgs {
    /// Drop the blocks of every node too
    #[arg(long)]
    store: bool,
    /// The key of the swarm that is to be reset
    #[arg(long, value_name = "KEY", default_value = "")]
    swarm_key: String,
    /// This machine's address on the nodes' LAN; by default the system chooses
    #[arg(long, value_name = "ADDR", default_value_t = Ipv4Addr::UNSPECIFIED)]
    interface: Ipv4Addr,
    /// Multicast group of the catalog
    #[arg(long, value_name = "ADDR", default_value_t = Ipv4Addr::new(239, 255, 80, 76), value_parser = multicast)]
    group: Ipv4Addr,
    /// UDP port of the catalog
    #[arg(long, value_name = "PORT", default_value_t = 7654)]
    port: u16,
    /// Seconds to wait for nodes that do not answer
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = clap::value_parser!(u32).range(3..=600))]
    wait: u32,
}

#[derive(Args)]
struct SwarmArgs {
    /// A Gemma 3 model, GGUF, with its vocabulary inside
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// MMLU questions: a directory with dev/ and test/
    #[arg(long, value_name = "DIR")]
    mmlu: PathBuf,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..=8))]
    nodes: u64,
    /// How many subjects
    #[arg(long, default_value_t = 4)]
    subjects: usize,
    /// Tokens of an answer
    #[arg(long, default_value_t = 8)]
    max_tokens: usize,
}

fn hex(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| "an id is up to 16 hexadecimal digits".to_string())
}

fn multicast(text: &str) -> Result<Ipv4Addr, String> {
    let addr: Ipv4Addr = text.parse().map_err(|_| "not an IPv4 address".to_string())?;
    if addr.is_multicast() { Ok(addr) } else { Err("not a multicast address: take one from 239.0.0.0/8".to_string()) }
}

/// Why a command ended without doing what was asked.
#[derive(Debug, Error)]
pub(super) enum Fail {
    /// It has been said already.
    #[error("")]
    Said,
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    #[error(transparent)]
    Tool(#[from] tools::ToolError),
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    #[error(transparent)]
    Reset(#[from] ResetError),
    #[error(
        "TCP port {0} cannot be served on ({1}): give another --tcp-port, or 0 for any free one; --interface must be an address of this machine"
    )]
    TcpPort(u16, io::Error),
    #[error("UDP port {0} cannot be used ({1}): give another --port, the same to every node")]
    UdpPort(u16, io::Error),
    #[error("the console or engine cannot be started: {0}")]
    Thread(#[from] io::Error),
    #[error("the prompt is empty: give some text")]
    EmptyPrompt,
}

/// What `potluck` does.
pub fn main() -> ExitCode {
    match obey(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fail::Said) => ExitCode::FAILURE,
        Err(fail) => {
            eprintln!("potluck: {fail}");
            ExitCode::FAILURE
        }
    }
}

fn obey(command: Sub) -> Result<(), Fail> {
    match command {
        Sub::Run(args) => run_node(args),
        Sub::Ask(args) => ask(args),
        Sub::Convert(args) => Ok(tools::convert(&args.dir, &args.out, args.kind)?),
        Sub::Synth(args) => Ok(tools::synth(args.shape, args.seed, args.kind, &args.out)?),
        Sub::Inspect(args) => Ok(tools::inspect(&args.file, args.json)?),
        Sub::Verify(args) => {
            if tools::verify(&args.dir, args.json)? {
                Ok(())
            } else {
                Err(Fail::Said)
            }
        }
        Sub::Reset(args) => {
            let (interface, group, port) = (args.interface, args.group, args.port);
            let net = NetSettings { interface, group, port, tcp_port: 0, peers: Vec::new() };
            let wait = Duration::from_secs(args.wait.into());
            reset::reset(&net, &ResetSettings { swarm_key: args.swarm_key, store: args.store, wait })
        }
        Sub::Swarm(args) => {
            let settings = SwarmSettings {
                model: args.model,
                mmlu: args.mmlu,
                nodes: args.nodes as usize,
                subjects: args.subjects,
                max_tokens: args.max_tokens,
            };
            if swarm::run(&settings)? { Ok(()) } else { Err(Fail::Said) }
        }
    }
}

fn run_node(args: RunArgs) -> Result<(), Fail> {
    let asking = args.answers.settings()?;
    let loaded = load(&args.model.model, args.model.tokenizer.as_deref(), args.model.precision.into())?;
    let node = NodeSettings {
        id: args.id,
        swarm_key: args.swarm_key,
        slab_bytes: args.memory.slab * 1_000_000,
        context: args.memory.context,
        tcp_port: args.tcp_port,
        sharing: !args.alone,
        reuse: !args.no_reuse,
        announce_interval_ms: args.announce * 1_000,
        state: args.state,
    };
    let net =
        NetSettings { interface: args.interface, group: args.group, port: args.port, tcp_port: args.tcp_port, peers: args.peers };
    let console = match (args.json, args.no_console) {
        (true, _) => Console::Json,
        (_, true) => Console::None,
        _ => Console::Text,
    };
    run::run(loaded, &name_of(&args.model.model), &node, &net, &asking, console)
}

fn ask(args: AskArgs) -> Result<(), Fail> {
    if args.text.trim().is_empty() {
        return Err(Fail::EmptyPrompt);
    }
    let asking = args.answers.settings()?;
    let loaded = load(&args.model.model, args.model.tokenizer.as_deref(), args.model.precision.into())?;
    let node = NodeSettings {
        id: None,
        swarm_key: String::new(),
        slab_bytes: args.memory.slab * 1_000_000,
        context: args.memory.context,
        tcp_port: 0,
        sharing: false,
        reuse: true,
        announce_interval_ms: 10_000,
        state: None,
    };
    run::ask(loaded, &node, &asking, &args.text, args.chat)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

impl AnswerArgs {
    fn settings(&self) -> Result<AskSettings, SamplingError> {
        let sampling = Sampling::new(self.temperature, self.top_k, self.top_p, self.seed)?;
        Ok(AskSettings { max_tokens: self.max_tokens, sampling })
    }
}

impl From<PrecisionArg> for Precision {
    fn from(arg: PrecisionArg) -> Precision {
        match arg {
            PrecisionArg::Int8 => Precision::INT8,
            PrecisionArg::Float => Precision::FLOAT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
