//! `potluck reset`: orders a reset from a computer that is not a node, and reports which nodes have
//! acknowledged it.

use std::fmt;
use std::time::Duration;

use clap::Args;
use thiserror::Error;

use crate::catalog::{ResetClient, ResetClientConfig, ResetClientEvent};
use crate::drive::{NetSettings, ResetClientError, order};
use crate::fronts::{Effect, Event, listed, print_line};
use crate::id::{BootId, EpochState, NodeId};
use crate::start::{Options, RESET, Sharing, keyring, random};

use super::effective_settings;
use super::fail::Fail;
use super::usage::whole;

#[derive(Args)]
pub(super) struct ResetArgs {
    #[command(flatten)]
    options: Options<RESET>,
    /// Drop the blocks of every node too
    #[arg(long)]
    store: bool,
    /// Seconds to wait for nodes that do not answer
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = whole(3..=600_u32))]
    wait: u32,
    /// One JSON object a line instead of text
    #[arg(short, long)]
    pub json: bool,
}

/// Why a reset did not reach every node.
#[derive(Debug, Error)]
pub(super) enum ResetError {
    #[error(transparent)]
    ResetClient(#[from] ResetClientError),
    #[error("no node was reset: {0}. This may be the swarm's key: fix it first")]
    Shut(String),
    #[error(
        "no node was reset: only nodes of another swarm were heard. Give the key of yours with --swarm-key"
    )]
    OtherSwarm,
    #[error(
        "no node was reset: none was heard in {0} s. Give --interface this machine's address on their LAN, and their --group and --port"
    )]
    Nobody(u64),
    #[error(
        "{acknowledged} of {heard} nodes have acknowledged; missing: {missing}. These reset when they hear the others; if they do not, look at their consoles: a full card can prevent it"
    )]
    Missing { acknowledged: usize, heard: usize, missing: String },
}

/// Orders a reset and reports the acknowledgements. Fails unless at least one node was heard and
/// every node that was heard has acknowledged.
pub(super) fn run(args: ResetArgs) -> Result<(), Fail> {
    let effective = effective_settings(&args.options)?;
    let config = &effective.config;
    if let Sharing::Shut(reason) = effective.sharing() {
        return Err(ResetError::Shut(reason.to_string()).into());
    }
    let keys = keyring(
        effective.key.as_ref(),
        config.swarm.old_keys.keys(),
        config.node.state.as_deref(),
    )?;
    if args.store && keys.current().is_open() {
        let text = "this swarm has no key: its nodes keep their blocks, and drop them only at their own consoles";
        say(args.json, &Event::Note { text }, text);
    }
    let wait = Duration::from_secs(args.wait.into());
    let order_of = ResetClientConfig {
        node: NodeId(random()),
        boot: BootId(random()),
        keys,
        store: args.store,
    };
    let on_event = |event| match event {
        ResetClientEvent::Ordered(epochs) => {
            let EpochState { epoch, store_epoch } = epochs;
            say(
                args.json,
                &Event::Reset { epoch, store: epoch == store_epoch, peers: None },
                Effect(epochs),
            );
        }
        ResetClientEvent::Acknowledged(node) => {
            say(
                args.json,
                &Event::Acknowledged { node },
                format_args!("node {node} has acknowledged"),
            );
        }
    };
    let client = order(&NetSettings::of(&config.network), order_of, wait, on_event)
        .map_err(ResetError::from)?;
    Ok(outcome(&client, wait, args.json)?)
}

fn outcome(client: &ResetClient, wait: Duration, json: bool) -> Result<(), ResetError> {
    let heard = client.nodes().count();
    let missing: Vec<NodeId> =
        client.nodes().filter(|(_, obeyed)| !obeyed).map(|(node, _)| node).collect();
    if heard == 0 {
        let strangers = client.strangers() > 0;
        return Err(if strangers {
            ResetError::OtherSwarm
        } else {
            ResetError::Nobody(wait.as_secs())
        });
    }
    let acknowledged = heard - missing.len();
    if !missing.is_empty() {
        return Err(ResetError::Missing { acknowledged, heard, missing: listed(&missing) });
    }
    say(
        json,
        &Event::ResetEnded { acknowledged, missing: &[] },
        format_args!("{acknowledged} of {heard} nodes have acknowledged"),
    );
    Ok(())
}

/// Prints a line. A reset goes on even if the output is closed.
fn say(json: bool, event: &Event<'_>, line: impl fmt::Display) {
    let _ = if json { print_line(event.line()) } else { print_line(line) };
}
