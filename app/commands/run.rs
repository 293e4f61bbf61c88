//! `potluck run`: a node of the swarm.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::error::ErrorKind;

use crate::config::{self, Origin};
use crate::console::Settings;
use crate::drive::NetSettings;
use crate::fronts::{self, Console, Prepared};
use crate::keyring::Keyring;
use crate::start::{
    Cores, Kept, NodeSettings, Options, RUN, SetupError, alone, answers, keyring, load, model, precision, within_memory,
};

use super::cli::Cli;
use super::fail::Fail;
use super::{settled, usage};

#[derive(Args)]
pub(super) struct RunArgs {
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

/// Runs a node until its console ends.
pub(super) fn run(args: RunArgs) -> Result<(), Fail> {
    let mut settled = settled(&args.options)?;
    if args.alone && settled.config.origin(config::key("network", "peers")) == Origin::Option {
        let reason = "--peer names whom to share with, and --alone shares nothing: leave one of them out";
        usage::refuse::<Cli>("run", ErrorKind::ArgumentConflict, reason);
    }
    settled.alone = args.alone;
    let config = settled.config.clone();
    let asking = Settings { raw: args.raw, ..answers(&config)? };
    let devices: Vec<PathBuf> = config.console.devices.iter().map(|device| device.path().to_path_buf()).collect();
    let console = match (args.json, args.no_console, devices.is_empty()) {
        (_, true, _) => Console::None,
        (json, _, false) => Console::Devices(devices, config.console.speed.bits_per_s(), json),
        (true, _, _) => Console::Json,
        _ => Console::Text,
    };
    let (net, model) = (NetSettings::of(&config.network), model(&settled));
    let is_on = settled.sharing().is_on();
    let key = settled.key.clone();
    let load = move || {
        let model = model?;
        let kept = Kept::at(config.node.state.as_deref());
        let mut loaded = load(&model, config.model.tokenizer.as_deref(), precision(&config), &kept)?;
        loaded.compute_on(&Cores::new(&config.model).map_err(SetupError::from)?)?;
        let state = config.node.state.as_deref();
        let keys = if is_on { keyring(key.as_ref(), config.swarm.old_keys.keys(), state)? } else { Keyring::open() };
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
        let config = loaded.node_config(&node)?;
        Ok(Prepared { loaded, node, config, notes, model: name_of(&model) })
    };
    Ok(fronts::run(settled, net, asking, console, args.alive, load)?)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
