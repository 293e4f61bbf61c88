//! Builds a runnable node from a model file and a few settings.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use thiserror::Error;
use xxhash_rust::xxh3::Xxh3Default;

use crate::answers::Form;
use crate::config::Halves;
use crate::id::{BootId, EpochState, Fingerprint, NodeId, NodeName};
use crate::keyring::Keyring;
use crate::limits::{MAX_CONTEXT_TOKENS, MAX_TOKENIZER_FILE_BYTES};
use crate::machine::memory;
use crate::model::inspect::{scratch_bytes, sequence_bytes};
use crate::model::{self, Bytes, Content, Head, Model, Opened, Precision};
use crate::node::NodeConfig;
use crate::tokenizer::{Packed, TokenKind, Tokenizer, TokenizerError, Vocabulary};

use super::budget::{Budget, Needs, TooLittle};
use super::cores::{Cores, CoresError};
use super::halves::OutputRows;
use super::kept::Kept;
use super::random::{entropy, random};
use super::speed::measure_prefill;
use super::template;

/// Why the node cannot run: each error says what to do.
#[derive(Debug, Error)]
pub(crate) enum SetupError {
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
    /// A tokenizer.json that makes other tokens from a text than the model knows: answers would
    /// be nonsense.
    #[error(
        "{path}: the tokenizer does not belong to this model: {difference}; use the tokenizer.json that came with the model"
    )]
    OtherTokenizer {
        /// The tokenizer.json.
        path: PathBuf,
        /// The first difference.
        difference: String,
    },
    /// A context longer than the model allows.
    #[error(
        "the context cannot have {asked} tokens: with this model --context takes at most {most}"
    )]
    Context {
        /// Tokens asked for.
        asked: usize,
        /// Tokens that the model was made for.
        most: usize,
    },
    /// Less memory than the node needs.
    #[error(transparent)]
    Memory(#[from] TooLittle),
    /// The cores that were asked for.
    #[error(transparent)]
    Cores(#[from] CoresError),
    /// No vocabulary anywhere.
    #[error(
        "{0}: the file holds no vocabulary: give --tokenizer tokenizer.json, or convert again with tokenizer.json in the directory"
    )]
    NoVocabulary(PathBuf),
}

/// A model that can answer.
pub(crate) struct Loaded {
    pub model: Model,
    pub tokenizer: Tokenizer,
    /// Its chat format.
    pub form: Form,
    /// Notes about its vocabulary and its chat template.
    pub notes: Vec<String>,
    pub fingerprint: Fingerprint,
    /// Set while saved results of a former start are in use that are not verified yet.
    pub unread: Option<UnreadModel>,
    /// The mapped parts of the model that should stay in memory: its files, or what replaces a
    /// part of them.
    pub files: Vec<Bytes>,
    /// What computes its logits.
    pub output: OutputRows,
    /// The CPU for the thread that calls the model, if one was named.
    pub cpu: Option<usize>,
}

/// A model whose content hash or split output rows were taken from a former start without
/// verification.
pub(crate) struct UnreadModel {
    model: Option<Opened>,
    head: Option<Head>,
    content: Content,
    kept: Kept,
}

impl UnreadModel {
    /// Reads all of it to verify it, which also brings it into memory, the last used part last.
    ///
    /// # Errors
    /// [`Changed`]: what no longer has the content that was recorded. The record is deleted, so the
    /// next start makes it again.
    pub(crate) fn read(&self) -> Result<(), Changed> {
        if let Some(opened) = self.model.as_ref().filter(|opened| opened.content() != self.content)
        {
            self.kept.forget_content(opened);
            return Err(Changed::Model);
        }
        if !self.head.as_ref().is_none_or(Head::is_sound) {
            self.kept.forget_head(self.content);
            return Err(Changed::OutputRows);
        }
        Ok(())
    }
}

/// Something that a former start saved and that has changed since.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Changed {
    /// The model file no longer has the content that it was hashed with.
    Model,
    /// The saved halves of the output rows are damaged.
    OutputRows,
}

/// Maps and checks `path`, and makes its tokenizer: from `tokenizer` if given, else from the
/// vocabulary inside. Saved results are taken from `kept`.
pub(crate) fn load(
    path: &Path,
    tokenizer: Option<&Path>,
    precision: Precision,
    kept: &Kept,
) -> Result<Loaded, SetupError> {
    let opened = model::open(path)?;
    let tokenizer = tokenizer_of(&opened, path, tokenizer, kept)?;
    let (form, note) = template::form(&opened);
    let notes = tokenizer.notes().map(str::to_string).chain(note).collect();
    let known = kept.content(&opened);
    let content = known.unwrap_or_else(|| {
        let content = opened.content();
        kept.keep_content(&opened, content);
        content
    });
    let fingerprint = model::fingerprint(content, precision);
    let model = Model::new(opened.config.clone(), opened.weights.clone(), precision)?;
    let files = opened.gguf.files().iter().map(|file| file.bytes.clone()).collect();
    let output = OutputRows::of(&opened, content);
    let unread = known.map(|content| UnreadModel {
        model: Some(opened),
        head: None,
        content,
        kept: kept.clone(),
    });
    Ok(Loaded { model, tokenizer, form, notes, fingerprint, unread, files, output, cpu: None })
}

/// The tokenizer of a model: from the tokenizer.json `json` if given, else from the vocabulary in
/// the file at `path`.
pub(crate) fn tokenizer_of(
    opened: &Opened,
    path: &Path,
    json: Option<&Path>,
    kept: &Kept,
) -> Result<Tokenizer, SetupError> {
    let source = json.unwrap_or(path);
    let mut hash = Xxh3Default::new();
    hash.update(&opened.vocabulary_source());
    if let Some(json) = json {
        hash_file(json, &mut hash).map_err(refuse(json))?;
    }
    let made_from = hash.digest128().to_le_bytes();
    let packed = match kept.tokens(made_from) {
        Some(packed) => packed,
        None => pack(opened, path, json, made_from, kept)?,
    };
    let tokenizer = Tokenizer::from_packed(packed).map_err(refuse(source))?;
    tokenizer.check_vocabulary(opened.config.vocab).map_err(refuse(source))?;
    Ok(tokenizer)
}

/// Packs the vocabulary, and saves it for the next start.
fn pack(
    opened: &Opened,
    path: &Path,
    json: Option<&Path>,
    made_from: [u8; 16],
    kept: &Kept,
) -> Result<Packed, SetupError> {
    let (vocabulary, source) = match json {
        None => (
            opened
                .gguf
                .vocabulary()?
                .ok_or_else(|| SetupError::NoVocabulary(path.to_path_buf()))?,
            path,
        ),
        Some(json) => {
            let given = Vocabulary::from_tokenizer_json_file(json).map_err(refuse(json))?;
            if let Some(difference) =
                difference(&given, opened.gguf.vocabulary()?.as_ref(), opened.config.vocab)
            {
                return Err(SetupError::OtherTokenizer { path: json.to_path_buf(), difference });
            }
            (given, json)
        }
    };
    let bytes = vocabulary.pack(made_from).map_err(refuse(source))?;
    Ok(kept.keep_tokens(made_from, bytes))
}

/// Hashes a file in small parts, unless it is too large.
fn hash_file(path: &Path, hash: &mut Xxh3Default) -> Result<(), TokenizerError> {
    // Checked first: opening a pipe blocks until a writer opens it.
    if !std::fs::metadata(path).map_err(TokenizerError::Read)?.is_file() {
        return Err(TokenizerError::NotAFile);
    }
    hash.update(b"tokenizer.json");
    let mut file =
        File::open(path).map_err(TokenizerError::Read)?.take(MAX_TOKENIZER_FILE_BYTES as u64 + 1);
    let mut part = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut part).map_err(TokenizerError::Read)?;
        if length == 0 {
            return Ok(());
        }
        hash.update(&part[..length]);
    }
}

/// Why the `given` vocabulary cannot be the model's: one of its tokens differs from the vocabulary
/// in the model file, or it covers less than half of the embedding's `rows` (embeddings are padded,
/// but never that much).
fn difference(given: &Vocabulary, inside: Option<&Vocabulary>, rows: usize) -> Option<String> {
    let count = given.tokens.len();
    if count < rows / 2 {
        return Some(format!("it has {count} tokens, the model {rows}"));
    }
    let inside = inside?;
    let is_text =
        |vocabulary: &Vocabulary, id: usize| vocabulary.kinds.get(id) == Some(&TokenKind::Normal);
    let id = (0..count.min(inside.tokens.len())).find(|&id| {
        is_text(given, id) && is_text(inside, id) && given.tokens[id] != inside.tokens[id]
    })?;
    Some(format!(
        "token {id} is {:?}, but {:?} in the model file",
        given.tokens[id], inside.tokens[id]
    ))
}

fn refuse(path: &Path) -> impl FnOnce(TokenizerError) -> SetupError {
    let path = path.to_path_buf();
    |source| SetupError::Tokenizer { path, source }
}

/// What a person can configure about a node, besides the model.
#[derive(Clone, Debug)]
pub(crate) struct NodeSettings {
    /// Its name for people.
    pub name: Option<String>,
    /// The node's id; if none, one is drawn.
    pub id: Option<u64>,
    pub keys: Keyring,
    pub slab_bytes: usize,
    /// Whether the slab size is a default, which may be lowered to what fits, rather than a
    /// person's choice.
    pub slab_may_shrink: bool,
    /// Whether the model file must stay in memory.
    pub lock: bool,
    /// Tokens. More than the model takes is refused.
    pub context: usize,
    pub tcp_port: u16,
    pub sharing: bool,
    pub reuse: bool,
    /// Whether an answer's next tokens are drafted and verified together.
    pub drafts: bool,
    pub announce_interval_ms: u32,
    /// How many of ten thousand blocks from peers are audited.
    pub audit_per_10k: u16,
    /// The most peers that it knows.
    pub peers: usize,
    /// Where it saves its persistent state; if none, nothing is saved.
    pub state: Option<PathBuf>,
}

impl Loaded {
    /// Computes on these cores.
    pub(crate) fn compute_on(&mut self, cores: &Cores) -> Result<(), SetupError> {
        self.model.set_team(cores.team()?);
        self.cpu = cores.callers_cpu();
        Ok(())
    }

    /// Sets up reading the output rows in halves, according to the setting. Call it once the cores
    /// are known. Reports through `say` what takes long, and why rows stay whole if they do.
    pub(crate) fn halve(&mut self, setting: Halves, kept: &Kept, say: &mut dyn FnMut(String)) {
        let Some((head, is_unread)) = self.output.halve(&mut self.model, setting, kept, say) else {
            return;
        };
        match self.output.held(&self.files, &head) {
            Ok(files) => self.files = files,
            Err(error) => {
                say(format!("the output rows stay whole: {error}"));
                self.model.set_head(None, false);
                return;
            }
        }
        if is_unread {
            let content = self.output.content();
            let unread = self.unread.take().unwrap_or_else(|| UnreadModel {
                model: None,
                head: None,
                content,
                kept: kept.clone(),
            });
            self.unread = Some(UnreadModel { head: Some(head), ..unread });
        }
    }

    /// Tokens of the longest context that this model takes.
    pub(crate) fn most_context(&self) -> usize {
        self.model.config().context.min(MAX_CONTEXT_TOKENS)
    }

    /// The memory budget of a node with these settings. Its slab may be smaller than they say, and
    /// its directory larger.
    pub(crate) fn budget(&self, settings: &NodeSettings) -> Result<Budget, SetupError> {
        let (config, shape) = (self.model.config(), self.model.kv_shape());
        let context = settings.context.min(self.most_context());
        let needs = Needs {
            weights_bytes: self.files.iter().map(|file| file.as_slice().len() as u64).sum(),
            tokenizer_bytes: self.tokenizer.table_bytes() as u64,
            working_bytes: scratch_bytes(config, context, self.model.cores()),
            sequence_bytes: sequence_bytes(shape, context),
        };
        Ok(Budget::plan(
            needs,
            settings.slab_bytes as u64,
            settings.slab_may_shrink,
            memory::available(),
        )?)
    }

    pub(crate) fn node_config(&self, settings: &NodeSettings) -> Result<NodeConfig, SetupError> {
        let (asked, most) = (settings.context, self.most_context());
        if asked > most {
            return Err(SetupError::Context { asked, most });
        }
        Ok(NodeConfig {
            node: NodeId(settings.id.unwrap_or_else(random)),
            name: NodeName::of(settings.name.as_deref().unwrap_or_default()),
            boot: BootId(random()),
            seed: random(),
            keys: settings.keys.clone(),
            entropy: entropy(),
            fingerprint: self.fingerprint,
            epochs: EpochState::default(),
            shape: self.model.kv_shape().clone(),
            slab_bytes: settings.slab_bytes,
            context: asked,
            tcp_port: settings.tcp_port,
            sharing: settings.sharing,
            reuse: settings.reuse,
            drafts: settings.drafts,
            announce_interval_ms: settings.announce_interval_ms,
            peers: settings.peers,
            prefill_tokens_per_s: if settings.sharing {
                measure_prefill(&self.model)
            } else {
                None
            },
            audit_per_10k: settings.audit_per_10k,
            end_tokens: self.tokenizer.end_tokens().to_vec(),
        })
    }
}
