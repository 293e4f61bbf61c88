//! Faults of a vocabulary, a `tokenizer.json` or a text, each one line for the person at the
//! console.

/// Why a tokenizer could not be made, or a text could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file cannot be opened or read.
    #[error("cannot be read: {0}; check its name and permissions")]
    Read(#[source] std::io::Error),
    /// A directory, device, socket or pipe.
    #[error("is not a regular file; name a tokenizer.json")]
    NotAFile,
    /// Something is larger than its limit in [`crate::limits`].
    #[error("the {what} is too large: {found} {unit}, at most {limit} are supported")]
    TooLarge {
        /// The item.
        what: &'static str,
        /// The unit of its size.
        unit: &'static str,
        /// Its size.
        found: usize,
        /// The largest supported size.
        limit: usize,
    },
    /// The file is not a `tokenizer.json`.
    #[error("not a tokenizer.json: {0}; use the one that came with the model")]
    Json(String),
    /// The file describes a tokenizer of an unsupported kind.
    #[error(
        "this tokenizer.json is not a Gemma tokenizer: its {part} is {found}, but must be {needed}; use the model's own"
    )]
    Unsupported {
        /// The part of the file.
        part: &'static str,
        /// Its value in the file.
        found: String,
        /// Its value in a Gemma tokenizer.
        needed: &'static str,
    },
    /// The vocabulary contradicts itself.
    #[error("the vocabulary is damaged: {0}; get the file again")]
    Damaged(String),
    /// A token type that GGUF does not define.
    #[error("{0} is not a token type; types are 1 to 6")]
    Kind(i32),
    /// The vocabulary and the model's embedding belong to different models.
    #[error(
        "the tokenizer does not belong to this model: token {id} ({text:?}) is beyond the embedding's {rows} rows; \
         use the tokenizer.json that came with the model"
    )]
    BeyondEmbedding {
        /// The last token that needs a row.
        id: usize,
        /// Its text.
        text: String,
        /// Rows of the embedding.
        rows: usize,
    },
    /// The crate `tokenizers` refused something that passed the checks above.
    #[error("the tokenizer cannot be built: {0}")]
    Library(String),
}

impl From<serde_json::Error> for TokenizerError {
    fn from(error: serde_json::Error) -> TokenizerError {
        TokenizerError::Json(clipped(&error.to_string()))
    }
}

/// The beginning of a text from a file: it may be long, and a console line is short.
pub(super) fn clipped(text: &str) -> String {
    match text.char_indices().nth(160) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
