//! The command line.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use thiserror::Error;

use crate::answers::FormError;
use crate::config::{self, Config, Origin};
use crate::console::Settings;
use crate::limits::MAX_CONTEXT_TOKENS;
use crate::model::Precision;
use crate::model::convert::ConvertType;
use crate::model::synth::Shape;
use crate::node::NodeError;
use crate::sampler::{Repeat, Sampling, SamplingError};
use crate::tokenizer::TokenizerError;

use super::bench::{self, BenchError, BenchSettings};
use super::console::{PowerError, Settled};
use super::cores::Cores;
use super::kept::Kept;
use super::net::{NetError, NetSettings};
use super::options::{BENCH, NoModel, Options, RESET, RUN, Unread, model};
use super::prompt::PromptError;
use super::reset::{ResetError, ResetSettings};
use super::run::{Console, Prepared};
use super::settings::{self, Settings as SettingsCommand, SettingsError};
use super::setup::{Loaded, NodeSettings, SetupError, load};
use super::swarm::{SwarmError, SwarmSettings};
use super::terminal::{OutputError, give, tell};
use super::tokenize::{TokenizeArgs, TokenizeError};
use super::tools::ToolError;
use super::usage::{self, whole};
use super::{ask, reset, run, swarm, template, tokenize, tools};

/// Boards on one LAN answer prompts with Gemma 3 and share the KV state of every prompt prefix.
#[derive(Parser)]
#[command(name = "potluck", version, about, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    /// Run a node of the swarm, with a console on standard input
    Run(RunArgs),
    /// Answer one prompt on this machine alone, and end
    Ask(ask::AskArgs),
    /// Measure how fast a model runs on this machine, and in what memory
    Bench(BenchArgs),
    /// Make a GGUF out of a Hugging Face directory (config.json, model.safetensors, tokenizer.json) or of another GGUF
    Convert(ConvertArgs),
    /// Write a model of random weights in an exact published shape, for benchmarks
    Synth(SynthArgs),
    /// Say what a GGUF holds, whether it is made for conversations, what memory it will take, and how fast it runs here
    Inspect(InspectArgs),
    /// Check this build's arithmetic and cache on a directory with config.json, model.safetensors and golden.safetensors
    Verify(VerifyArgs),
    /// Measure how well a model predicts a text, and what int8 arithmetic and int8 KV cost it
    Perplexity(PerplexityArgs),
    /// Show the tokens of a text as the model sees them, or with --decode the text of tokens
    Tokenize(TokenizeArgs),
    /// Make every node of the swarm forget what its peers hold, and with --store its own blocks
    Reset(ResetArgs),
    /// Run several nodes on this machine over real MMLU prompts, and check what they share
    Swarm(SwarmArgs),
    /// Print what can be typed on a node's console
    #[command(subcommand)]
    Console(Manual),
    /// Read a chat template on standard input: started by the commands that load a model
    #[command(name = template::COMMAND, hide = true)]
    ReadTemplate,
    /// Check a potluck.toml, or print what it may hold
    #[command(subcommand)]
    Config(SettingsCommand),
}

#[derive(Subcommand)]
enum Manual {
    /// Print docs/console.md
    Reference,
    /// Print a manual page: potluck console man | man -l -
    Man,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    options: Options<RUN>,
    /// Share nothing: compute everything here
    #[arg(long)]
    alone: bool,
    /// Compute every prompt from its first token, whatever is known already: what sharing is measured against
    #[arg(long, requires = "alone")]
    no_reuse: bool,
    /// Complete texts as they stand, even where the model has a chat template
    #[arg(long)]
    raw: bool,
    /// Take JSON requests and give JSON events, one a line
    #[arg(long)]
    json: bool,
    /// Read nothing from standard input: only serve peers
    #[arg(long, conflicts_with = "json")]
    no_console: bool,
    /// Count in FILE while alive, for whoever feeds a watchdog
    #[arg(long, value_name = "FILE")]
    alive: Option<PathBuf>,
}

#[derive(Args)]
struct BenchArgs {
    #[command(flatten)]
    options: Options<BENCH>,
    #[command(flatten)]
    what: BenchSettings,
}

#[derive(Args)]
struct ConvertArgs {
    /// The Hugging Face directory, or a GGUF (of one in parts, any part)
    from: PathBuf,
    /// The GGUF to write
    out: PathBuf,
    /// How matrices are stored. q8_0: 1.06 bytes a value, hardly told from the original. q4_0: 0.56 bytes, the embedding in q8_0.
    /// f16, f32: 2 and 4 bytes, for further conversion. What has the type already is copied; what was quantised to another loses a
    /// little more, so convert the original where you can have it
    #[arg(long = "type", value_name = "q8_0|q4_0|f16|f32", default_value_t = ConvertType::Q8_0)]
    kind: ConvertType,
}

#[derive(Args)]
struct SynthArgs {
    /// Which shape
    #[arg(long, value_name = "gemma3-270m|gemma3-1b|demo", default_value_t = Shape::Demo)]
    shape: Shape,
    /// The same seed gives the same file
    #[arg(long, default_value_t = 0, value_parser = whole(0..=u64::MAX))]
    seed: u64,
    /// How matrices are stored
    #[arg(long = "type", value_name = "q8_0|q4_0|f16|f32", default_value_t = ConvertType::Q8_0)]
    kind: ConvertType,
    /// The GGUF to write
    out: PathBuf,
}

#[derive(Args)]
struct InspectArgs {
    /// The GGUF (of one in parts, any part)
    file: PathBuf,
    /// Measure how fast it answers on this machine, with all its cores
    #[arg(long)]
    measure: bool,
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
struct PerplexityArgs {
    /// A Gemma 3 model, GGUF, with its vocabulary inside
    model: PathBuf,
    /// The text, UTF-8, which the model should not have learned from
    text: PathBuf,
    /// The same model in f32: what all else is compared with
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// Tokens after which the text goes on with an empty context
    #[arg(long, value_name = "TOKENS", default_value_t = 2_048, value_parser = whole(2..=u32::MAX))]
    context: u32,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ResetArgs {
    #[command(flatten)]
    options: Options<RESET>,
    /// Drop the blocks of every node too
    #[arg(long)]
    store: bool,
    /// Seconds to wait for nodes that do not answer
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = whole(3..=600_u32))]
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
    #[arg(long, default_value_t = 3, value_parser = whole(2..=8_u64))]
    nodes: u64,
    /// How many subjects, of the 57 that MMLU has
    #[arg(long, default_value_t = 4, value_parser = whole(1..=57_u64))]
    subjects: u64,
    /// Tokens of an answer, at most
    #[arg(long, default_value_t = 24, value_parser = whole(1..=MAX_CONTEXT_TOKENS as u64))]
    max_tokens: u64,
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
    NoModel(#[from] NoModel),
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Tokenize(#[from] TokenizeError),
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    #[error(transparent)]
    Reset(#[from] ResetError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Power(#[from] PowerError),
    #[error("the console or engine cannot be started: {0}")]
    Thread(#[from] io::Error),
    #[error("no answer: {0}")]
    NoAnswer(String),
    #[error("the model file is not what it was when its content was last hashed, and nothing more is shared: start again")]
    ModelChanged,
    #[error("the engine has failed and nothing more can be answered: start again, and report what was said before this line")]
    Engine,
}

impl Fail {
    /// Whether there is nothing to say: it has been said, or whoever listened has gone.
    fn is_silent(&self) -> bool {
        match self {
            Fail::Said => true,
            Fail::Output(error)
            | Fail::Bench(BenchError::Output(error))
            | Fail::Tool(ToolError::Output(error))
            | Fail::Tokenize(TokenizeError::Output(error))
            | Fail::Swarm(SwarmError::Output(error))
            | Fail::Settings(SettingsError::Output(error)) => error.is_unread(),
            _ => false,
        }
    }
}

/// What `potluck` does.
pub fn main() -> ExitCode {
    let Err(fail) = obey(usage::read::<Cli>(std::env::args_os()).command) else { return ExitCode::SUCCESS };
    if !fail.is_silent() {
        tell(format_args!("potluck: {fail}\n"));
    }
    ExitCode::FAILURE
}

fn obey(command: Sub) -> Result<(), Fail> {
    match command {
        Sub::Run(args) => run_node(args),
        Sub::Ask(args) => ask::ask(args),
        Sub::Bench(args) => bench(args),
        Sub::Convert(args) => Ok(tools::convert(&args.from, &args.out, args.kind)?),
        Sub::Synth(args) => Ok(tools::synth(args.shape, args.seed, args.kind, &args.out)?),
        Sub::Inspect(args) => {
            let cores = args.measure.then(|| Cores::new(&Config::default().model)).transpose().map_err(SetupError::from)?;
            Ok(tools::inspect(&args.file, cores.as_ref(), args.json)?)
        }
        Sub::Verify(args) => {
            if tools::verify(&args.dir, args.json)? {
                Ok(())
            } else {
                Err(Fail::Said)
            }
        }
        Sub::Perplexity(args) => {
            let (reference, context) = (args.reference.as_deref(), size(args.context.into()));
            Ok(tools::perplexity(&args.model, reference, &args.text, context, args.json)?)
        }
        Sub::Tokenize(args) => Ok(tokenize::run(args)?),
        Sub::Reset(args) => order_reset(args),
        Sub::ReadTemplate => Ok(template::serve()?),
        Sub::Console(Manual::Reference) => Ok(give(crate::console::reference())?),
        Sub::Console(Manual::Man) => Ok(give(crate::console::man_page())?),
        Sub::Config(what) => {
            if settings::obey(&what)? {
                Ok(())
            } else {
                Err(Fail::Said)
            }
        }
        Sub::Swarm(args) => {
            let settings = SwarmSettings {
                model: args.model,
                mmlu: args.mmlu,
                nodes: args.nodes as usize,
                subjects: size(args.subjects),
                max_tokens: size(args.max_tokens),
            };
            if swarm::run(&settings)? { Ok(()) } else { Err(Fail::Said) }
        }
    }
}

fn run_node(args: RunArgs) -> Result<(), Fail> {
    let settled = settled(&args.options)?;
    let config = settled.config.clone();
    let asking = Settings { raw: args.raw, ..answers(&config)? };
    let devices: Vec<PathBuf> = config.console.devices.iter().map(|device| device.path().to_path_buf()).collect();
    let console = match (args.json, args.no_console, devices.is_empty()) {
        (_, true, _) => Console::None,
        (json, _, false) => Console::Devices(devices, config.console.speed.bits_per_s(), json),
        (true, _, _) => Console::Json,
        _ => Console::Text,
    };
    let (net, model) = (net(&config), model(&settled));
    let load = move || {
        let model = model?;
        let kept = Kept::at(config.node.state.as_deref());
        let mut loaded = load(&model, config.model.tokenizer.as_deref(), precision(&config), &kept)?;
        loaded.compute_on(&Cores::new(&config.model).map_err(SetupError::from)?)?;
        let node = NodeSettings {
            name: config.node.name.as_ref().map(|name| name.as_str().to_string()),
            id: config.node.id.map(|id| id.0.0),
            swarm_key: swarm_key(&config),
            sharing: !args.alone,
            reuse: !args.no_reuse,
            state: config.node.state.clone(),
            ..alone(&config, &loaded)
        };
        let (node, notes) = within_memory(&loaded, node)?;
        let config = loaded.node_config(&node)?;
        Ok(Prepared { loaded, node, config, notes, model: name_of(&model) })
    };
    run::run(settled, net, asking, console, args.alive, load)
}

/// The settings of a command that only works where they can be read; what is wrong in them is told.
pub(super) fn settled<const COMMAND: u8>(options: &Options<COMMAND>) -> Result<Settled, Fail> {
    let settled = options.settle()?;
    settled.problems.iter().for_each(|line| tell(format_args!("{line}\n")));
    Ok(settled)
}

fn bench(args: BenchArgs) -> Result<(), Fail> {
    let settled = settled(&args.options)?;
    let (config, model) = (&settled.config, model(&settled)?);
    let cores = Cores::new(&config.model).map_err(SetupError::from)?;
    Ok(bench::run(&model, config.model.tokenizer.as_deref(), precision(config), &cores, &args.what)?)
}

/// The settings with a slab that fits this machine, and what is to be said of the memory that the node will hold.
pub(super) fn within_memory(loaded: &Loaded, node: NodeSettings) -> Result<(NodeSettings, Vec<String>), Fail> {
    let budget = loaded.budget(&node)?;
    let slab_bytes = size(budget.slab_bytes);
    let mut notes = Vec::new();
    if slab_bytes < node.slab_bytes {
        let (asked, given) = (node.slab_bytes / 1_000_000, slab_bytes / 1_000_000);
        notes.push(format!("the slab gets {given} MB instead of {asked}: there is no more memory"));
    }
    notes.push(budget.line());
    Ok((NodeSettings { slab_bytes, ..node }, notes))
}

fn order_reset(args: ResetArgs) -> Result<(), Fail> {
    let Settled { config, .. } = settled(&args.options)?;
    let (swarm_key, wait) = (swarm_key(&config), Duration::from_secs(args.wait.into()));
    reset::reset(&net(&config), &ResetSettings { swarm_key, store: args.store, wait })
}

fn swarm_key(config: &Config) -> Vec<u8> {
    config.swarm.key.as_ref().map_or(Vec::new(), |key| key.as_bytes().to_vec())
}

/// Where the swarm talks.
fn net(config: &Config) -> NetSettings {
    NetSettings {
        interface: config.network.interface,
        group: config.network.group.addr(),
        port: config.network.port.number(),
        tcp_port: config.network.tcp_port,
        peers: config.network.peers.iter().map(|peer| peer.addr().into()).collect(),
    }
}

/// A node that shares nothing.
pub(super) fn alone(config: &Config, loaded: &Loaded) -> NodeSettings {
    let (asked, most) = (config.memory.context.get(), loaded.most_context());
    // A person who types an option is told that it is too much; a board must come up with what its model takes.
    let context = if config.origin(config::key("memory", "context")) == Origin::Option { asked } else { asked.min(most) };
    NodeSettings {
        name: None,
        id: None,
        swarm_key: Vec::new(),
        slab_bytes: size(config.memory.slab.bytes()),
        lock: config.memory.lock == config::Lock::Weights,
        slab_may_shrink: config.origin(config::key("memory", "slab")) != Origin::Option,
        context,
        tcp_port: config.network.tcp_port,
        sharing: false,
        reuse: true,
        announce_interval_ms: config.network.announce.get() as u32 * 1_000,
        state: None,
    }
}

/// A count as this machine counts; what is larger than its memory is as good as endless.
fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// How answers are made where nobody says otherwise.
pub(super) fn answers(config: &Config) -> Result<Settings, SamplingError> {
    let answers = &config.answers;
    let sampling = Sampling::new(answers.temperature.get(), answers.top_k.get(), answers.top_p.get(), answers.seed)?;
    let sampling = Sampling { repeat: Repeat::new(answers.repeat_penalty.get(), answers.repeat_last_n.get())?, ..sampling };
    Ok(Settings {
        max_tokens: answers.max_tokens.get(),
        sampling,
        stop: answers.stop.texts().to_vec(),
        raw: false,
        system: answers.system.as_ref().map(|system| system.text().to_string()),
        drop_oldest: answers.drop_oldest,
    })
}

pub(super) fn precision(config: &Config) -> Precision {
    match config.model.precision {
        config::Precision::Int8 => Precision::INT8,
        config::Precision::Float => Precision::FLOAT,
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
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
