//! Turns the settings into the configuration of each part of the program.

use crate::config::{self, Config, Origin};
use crate::console::Settings;
use crate::keyring::Keyring;
use crate::limits::LEAST_PEERS;
use crate::model::Precision;
use crate::sampler::{Repeat, Sampling, SamplingError};

use super::setup::{Loaded, NodeSettings, SetupError};

/// The settings with a slab and a directory that fit this machine, and the notes about the memory
/// that the node will hold.
pub(crate) fn within_memory(
    loaded: &Loaded,
    node: NodeSettings,
) -> Result<(NodeSettings, Vec<String>), SetupError> {
    let budget = loaded.budget(&node)?;
    let slab_bytes = size(budget.slab_bytes);
    let mut notes = Vec::new();
    if slab_bytes < node.slab_bytes {
        let (asked, given) = (node.slab_bytes / 1_000_000, slab_bytes / 1_000_000);
        notes.push(format!(
            "the slab gets {given} MB instead of {asked}: no more memory is available"
        ));
    }
    notes.push(budget.line());
    Ok((NodeSettings { slab_bytes, peers: budget.peers, ..node }, notes))
}

/// A node that shares nothing.
pub(crate) fn alone(config: &Config, loaded: &Loaded) -> NodeSettings {
    let (asked, most) = (config.memory.context.get(), loaded.most_context());
    // A person who types an option is told that it is too much, but a board must start with the
    // most that its model takes.
    let context = if config.origin(config::key("memory", "context")) == Origin::Option {
        asked
    } else {
        asked.min(most)
    };
    NodeSettings {
        name: None,
        id: None,
        keys: Keyring::open(),
        slab_bytes: size(config.memory.slab.bytes()),
        lock: config.memory.lock == config::Lock::Weights,
        slab_may_shrink: config.origin(config::key("memory", "slab")) != Origin::Option,
        context,
        tcp_port: config.network.tcp_port,
        sharing: false,
        reuse: true,
        drafts: config.model.drafts,
        announce_interval_ms: config.network.announce.get() as u32 * 1_000,
        audit_per_10k: config.swarm.audit.per_10k(),
        peers: LEAST_PEERS,
        state: None,
    }
}

/// How answers are made by default.
pub(crate) fn answers(config: &Config) -> Result<Settings, SamplingError> {
    let answers = &config.answers;
    let sampling = Sampling::new(
        answers.temperature.get(),
        answers.top_k.get(),
        answers.top_p.get(),
        answers.seed,
    )?;
    let sampling = Sampling {
        repeat: Repeat::new(answers.repeat_penalty.get(), answers.repeat_last_n.get())?,
        ..sampling
    };
    Ok(Settings {
        max_tokens: answers.max_tokens.get(),
        sampling,
        stop: answers.stop.texts().to_vec(),
        raw: false,
        system: answers.system.as_ref().map(|system| system.text().to_string()),
        drop_oldest: answers.drop_oldest,
    })
}

/// The precision of the arithmetic.
pub(crate) fn precision(config: &Config) -> Precision {
    match config.model.precision {
        config::Precision::Int8 => Precision::INT8,
        config::Precision::Float => Precision::FLOAT,
    }
}

/// A count as `usize`. What exceeds this machine's memory is as good as unlimited.
pub(crate) fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
