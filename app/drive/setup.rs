//! From a model file and a few settings to a node that can run.

use std::path::{Path, PathBuf};
use std::time::Instant;

use thiserror::Error;

use crate::id::{BootId, EpochState, Fingerprint, NodeId};
use crate::limits::MAX_CONTEXT_TOKENS;
use crate::model::{self, Model, Opened, Precision};
use crate::node::{NodeConfig, swarm_tag};
use crate::tokenizer::{TokenKind, Tokenizer, TokenizerError, Vocabulary};

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
    /// The tokenizer, and the file that it comes from.
    #[error("{path}: {source}")]
    Tokenizer {
        /// A tokenizer.json, or the model file with a vocabulary inside.
        path: PathBuf,
        /// What is wrong with it.
        source: TokenizerError,
    },
    /// A tokenizer.json that would make other tokens of a text than the model knows: its answers would be nonsense.
    #[error(
        "{path}: the tokenizer does not belong to this model: {difference}; take the tokenizer.json that came with the model"
    )]
    OtherTokenizer {
        /// The tokenizer.json.
        path: PathBuf,
        /// The first that differs.
        difference: String,
    },
    /// A longer context than there can be.
    #[error("the context cannot have {asked} tokens: with this model --context takes at most {most}")]
    Context {
        /// Tokens asked for.
        asked: usize,
        /// Tokens that the model was made for.
        most: usize,
    },
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
    let tokenizer = self::tokenizer(&opened, path, tokenizer)?;
    let fingerprint = model::fingerprint(&opened, precision);
    let model = Model::new(opened.config, opened.weights, precision)?;
    Ok(Loaded { model, tokenizer, fingerprint })
}

/// The tokenizer of the model `opened` at `path`: from `json` where given, else from the vocabulary inside.
pub(super) fn tokenizer(opened: &Opened, path: &Path, json: Option<&Path>) -> Result<Tokenizer, SetupError> {
    let (tokenizer, source) = match json {
        Some(json) => {
            let given = Vocabulary::from_tokenizer_json_file(json).map_err(refuse(json))?;
            if let Some(difference) = difference(&given, opened.gguf.vocabulary()?.as_ref(), opened.config.vocab) {
                return Err(SetupError::OtherTokenizer { path: json.to_path_buf(), difference });
            }
            (Tokenizer::from_vocabulary(&given).map_err(refuse(json))?, json)
        }
        None => (vocabulary_inside(opened, path)?, path),
    };
    tokenizer.check_vocabulary(opened.config.vocab).map_err(refuse(source))?;
    Ok(tokenizer)
}

/// The tokenizer that the model file carries.
pub(super) fn vocabulary_inside(opened: &Opened, path: &Path) -> Result<Tokenizer, SetupError> {
    match opened.gguf.vocabulary()? {
        Some(vocabulary) => Tokenizer::from_vocabulary(&vocabulary).map_err(refuse(path)),
        None => Err(SetupError::NoVocabulary(path.to_path_buf())),
    }
}

/// Where the `given` vocabulary cannot be the model's: it says another text than the one inside the model file, or has not even
/// half of the embedding's `rows` (embeddings are padded, but never that much).
fn difference(given: &Vocabulary, inside: Option<&Vocabulary>, rows: usize) -> Option<String> {
    let count = given.tokens.len();
    if count < rows / 2 {
        return Some(format!("it has {count} tokens, the model {rows}"));
    }
    let inside = inside?;
    let is_text = |vocabulary: &Vocabulary, id: usize| vocabulary.kinds.get(id) == Some(&TokenKind::Normal);
    let id = (0..count.min(inside.tokens.len()))
        .find(|&id| is_text(given, id) && is_text(inside, id) && given.tokens[id] != inside.tokens[id])?;
    Some(format!("token {id} is {:?}, but {:?} in the model file", given.tokens[id], inside.tokens[id]))
}

fn refuse(path: &Path) -> impl FnOnce(TokenizerError) -> SetupError {
    let path = path.to_path_buf();
    |source| SetupError::Tokenizer { path, source }
}

/// What a person may set about a node, beside the model.
#[derive(Clone, Debug)]
pub(super) struct NodeSettings {
    /// What people call it.
    pub name: Option<String>,
    /// The node's id; none draws one.
    pub id: Option<u64>,
    pub swarm_key: Vec<u8>,
    pub slab_bytes: usize,
    /// Tokens; more than the model takes is refused.
    pub context: usize,
    pub tcp_port: u16,
    pub sharing: bool,
    pub reuse: bool,
    pub announce_interval_ms: u32,
    /// Where it keeps what survives a restart; none keeps nothing.
    pub state: Option<PathBuf>,
}

impl Loaded {
    /// Tokens of the longest context that this model takes.
    pub(super) fn most_context(&self) -> usize {
        self.model.config().context.min(MAX_CONTEXT_TOKENS)
    }

    pub(super) fn node_config(&self, settings: &NodeSettings) -> Result<NodeConfig, SetupError> {
        let key = settings.swarm_key.as_slice();
        let (asked, most) = (settings.context, self.most_context());
        if asked > most {
            return Err(SetupError::Context { asked, most });
        }
        Ok(NodeConfig {
            node: NodeId(settings.id.unwrap_or_else(random)),
            boot: BootId(random()),
            swarm_key: key.to_vec(),
            swarm: swarm_tag(key),
            fingerprint: self.fingerprint,
            epochs: EpochState::default(),
            shape: self.model.kv_shape().clone(),
            slab_bytes: settings.slab_bytes,
            context: asked,
            tcp_port: settings.tcp_port,
            sharing: settings.sharing,
            reuse: settings.reuse,
            announce_interval_ms: settings.announce_interval_ms,
            prefill_tokens_per_s: if settings.sharing { measure_prefill(&self.model) } else { None },
            end_tokens: self.tokenizer.end_tokens().to_vec(),
        })
    }
}

/// A number that no other node draws. The one door through which randomness comes in.
pub(super) fn random() -> u64 {
    // Without a source of randomness the time since boot still tells two starts of one board apart.
    getrandom::u64().unwrap_or_else(|_| Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()))
}
