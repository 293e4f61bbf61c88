//! From a model file and a few settings to a node that can run.

use std::path::{Path, PathBuf};
use std::time::Instant;

use thiserror::Error;

use crate::id::{BootId, EpochState, Fingerprint, NodeId};
use crate::model::{self, Model, Opened, Precision};
use crate::node::{NodeConfig, swarm_tag};
use crate::tokenizer::{Tokenizer, TokenizerError};

use super::engine::measure_prefill;

/// Why nothing can run: each says what to do.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The model file.
    #[error(transparent)]
    Model(#[from] model::FileError),
    /// The model's tensors.
    #[error(transparent)]
    Engine(#[from] model::ModelError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// No vocabulary anywhere.
    #[error(
        "{0}: the file holds no vocabulary: give --tokenizer tokenizer.json, or convert again with tokenizer.json in the directory"
    )]
    NoVocabulary(PathBuf),
}

/// A model that can answer.
pub(super) struct Loaded {
    pub model: Model,
    pub tokenizer: Tokenizer,
    pub fingerprint: Fingerprint,
}

/// Maps and checks `path`, and makes its tokenizer: from `tokenizer` where given, else from the vocabulary inside.
pub(super) fn load(path: &Path, tokenizer: Option<&Path>, precision: Precision) -> Result<Loaded, SetupError> {
    let opened = model::open(path)?;
    let tokenizer = match tokenizer {
        Some(json) => Tokenizer::from_json_file(json)?,
        None => vocabulary_inside(&opened, path)?,
    };
    tokenizer.check_vocabulary(opened.config.vocab)?;
    let fingerprint = model::fingerprint(&opened, precision);
    let model = Model::new(opened.config, opened.weights, precision)?;
    Ok(Loaded { model, tokenizer, fingerprint })
}

/// The tokenizer that the model file carries.
pub(super) fn vocabulary_inside(opened: &Opened, path: &Path) -> Result<Tokenizer, SetupError> {
    match opened.gguf.vocabulary()? {
        Some(vocabulary) => Ok(Tokenizer::from_vocabulary(&vocabulary)?),
        None => Err(SetupError::NoVocabulary(path.to_path_buf())),
    }
}

/// What a person may set about a node, beside the model.
#[derive(Clone, Debug)]
pub(super) struct NodeSettings {
    /// The node's id; none draws one.
    pub id: Option<u64>,
    pub swarm_key: String,
    pub slab_bytes: usize,
    pub context: usize,
    pub tcp_port: u16,
    pub sharing: bool,
    pub reuse: bool,
    pub announce_interval_ms: u32,
    /// Where it keeps what survives a restart; none keeps nothing.
    pub state: Option<PathBuf>,
}

impl Loaded {
    pub(super) fn node_config(&self, settings: &NodeSettings) -> NodeConfig {
        let key = settings.swarm_key.as_bytes();
        NodeConfig {
            node: NodeId(settings.id.unwrap_or_else(random)),
            boot: BootId(random()),
            swarm_key: key.to_vec(),
            swarm: swarm_tag(key),
            fingerprint: self.fingerprint,
            epochs: EpochState::default(),
            shape: self.model.kv_shape().clone(),
            slab_bytes: settings.slab_bytes,
            context: settings.context.min(self.model.context()),
            tcp_port: settings.tcp_port,
            sharing: settings.sharing,
            reuse: settings.reuse,
            announce_interval_ms: settings.announce_interval_ms,
            prefill_tokens_per_s: if settings.sharing { measure_prefill(&self.model) } else { None },
            end_tokens: self.tokenizer.end_tokens().to_vec(),
        }
    }
}

/// A number that no other node draws. The one door through which randomness comes in.
pub(super) fn random() -> u64 {
    // Without a source of randomness the time since boot still tells two starts of one board apart.
    getrandom::u64().unwrap_or_else(|_| Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()))
}
