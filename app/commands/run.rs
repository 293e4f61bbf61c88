//! `potluck run`: a node of the swarm.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use clap::error::ErrorKind;

use crate::config::{self, Origin};
use crate::console::Settings;
use crate::drive::NetSettings;
use crate::fronts::{self, Console, Prepared, Terminal, eprint};
use crate::keyring::Keyring;
use crate::start::{
    Cores, EffectiveSettings, Kept, NodeSettings, Options, RUN, SetupError, alone, answers,
    keyring, load, model, precision, within_memory,
};

use super::cli::Cli;
use super::fail::Fail;
use super::{effective_settings, pace, usage};

#[derive(Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    options: Options<RUN>,
    /// Share nothing: compute every answer on this machine
    #[arg(long)]
    alone: bool,
    /// Compute every prompt from its first token and reuse nothing: the baseline against which
    /// sharing is measured
    #[arg(long, requires = "alone")]
    no_reuse: bool,
    /// Complete texts as they are, even if the model has a chat template
    #[arg(long)]
    raw: bool,
    /// Read JSON requests and print JSON events, one per line
    #[arg(short, long)]
    pub json: bool,
    /// Read nothing from standard input: only serve peers
    #[arg(long, conflicts_with = "json")]
    no_console: bool,
    /// Take as long for everything as the machine whose costs are in FILE: for measurements of
    /// other machines
    #[arg(long, value_name = "FILE")]
    pace: Option<PathBuf>,
    /// Write a heartbeat counter to FILE, for the process that feeds a watchdog
    #[arg(long, value_name = "FILE")]
    alive: Option<PathBuf>,
}

/// Runs a node until its console ends.
pub(super) fn run(args: RunArgs) -> Result<(), Fail> {
    let mut effective = effective_settings(&args.options)?;
    if args.alone && effective.config.origin(config::key("network", "peers")) == Origin::Option {
        let reason =
            "--peer names nodes to share with, and --alone shares nothing: leave one of them out";
        usage::refuse::<Cli>("run", ErrorKind::ArgumentConflict, reason);
    }
    effective.alone = args.alone;
    let config = effective.config.clone();
    let asking = Settings { raw: args.raw, ..answers(&config)? };
    let terminals = terminals(&effective);
    let console = match (args.json, args.no_console, terminals.is_empty()) {
        (_, true, _) => Console::None,
        (json, _, false) => Console::Terminals(terminals, json),
        (true, _, _) => Console::Json,
        _ => Console::Text,
    };
    let (net, model) = (NetSettings::of(&config.network), model(&effective));
    let is_on = effective.sharing().is_on();
    let key = effective.key.clone();
    let pace = args.pace.as_deref().map(pace::read).transpose()?;
    let load = move || {
        let start = Instant::now();
        let model = model?;
        let kept = Kept::at(config.node.state.as_deref());
        let mut loaded =
            load(&model, config.model.tokenizer.as_deref(), precision(&config), &kept)?;
        loaded.compute_on(&Cores::new(&config.model).map_err(SetupError::from)?)?;
        loaded.halve(config.model.halves, &kept, &mut |line| eprint(format_args!("· {line}\n")));
        let state = config.node.state.as_deref();
        let keys = if is_on {
            keyring(key.as_ref(), config.swarm.old_keys.keys(), state)?
        } else {
            Keyring::open()
        };
        let node = NodeSettings {
            name: config.node.name.as_ref().map(|name| name.as_str().to_string()),
            id: config.node.id.map(|id| id.0.0),
            keys,
            sharing: is_on,
            reuse: !args.no_reuse,
            state: config.node.state.clone(),
            ..alone(&config, &loaded)
        };
        let (node, notes) = within_memory(&loaded, node)?;
        let mut config = loaded.node_config(&node)?;
        if let Some(pace) = &pace {
            config.prefill_tokens_per_s =
                config.prefill_tokens_per_s.map(|_| pace.prefill_tokens_per_s());
            #[expect(
                clippy::disallowed_methods,
                reason = "a pace makes the start as slow as another machine's"
            )]
            thread::sleep(Duration::from_millis(pace.start_ms()).saturating_sub(start.elapsed()));
        }
        Ok(Prepared { loaded, node, config, notes, model: name_of(&model), pace })
    };
    Ok(fronts::run(effective, net, asking, console, args.alive, load)?)
}

/// The terminals that get consoles: those of the board, which settings cannot remove, then those of
/// the settings.
fn terminals(effective: &EffectiveSettings) -> Vec<Terminal> {
    let board =
        effective.board_consoles.iter().map(|path| Terminal { path: path.clone(), speed: None });
    let console = &effective.config.console;
    let devices = console.devices.iter().map(|device| device.path().to_path_buf());
    let more = devices.filter(|path| !effective.board_consoles.contains(path));
    board
        .chain(more.map(|path| Terminal { path, speed: Some(console.speed.bits_per_s()) }))
        .collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
