//! What can be wrong with a vocabulary, a `tokenizer.json` or a text, as one line for the person at the console.

/// Why a tokenizer could not be made, or a text not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file cannot be opened or read.
    #[error("cannot be read: {0}; check its name and who may read it")]
    Read(#[source] std::io::Error),
    /// A directory, device, socket or pipe.
    #[error("is no regular file; name a tokenizer.json")]
    NotAFile,
    /// Something is larger than its limit in [`crate::limits`].
    #[error("the {what} is too large: {found} {unit}, at most {limit} are supported")]
    TooLarge {
        /// The thing.
        what: &'static str,
        /// What is counted.
        unit: &'static str,
        /// Its size.
        found: usize,
        /// The largest size that is taken.
        limit: usize,
    },
    /// The file is no `tokenizer.json`.
    #[error("not a tokenizer.json: {0}; take the one that came with the model")]
    Json(String),
    /// The file describes a tokenizer of another kind.
    #[error("this tokenizer.json is not of Gemma's kind: its {part} is {found}, needed is {needed}; take the model's own")]
    Unsupported {
        /// Which part of the file.
        part: &'static str,
        /// What the file has there.
        found: String,
        /// What a Gemma tokenizer has there.
        needed: &'static str,
    },
    /// The vocabulary contradicts itself.
    #[error("the vocabulary is damaged: {0}; get the file again")]
    Damaged(String),
    /// A token type that GGUF does not define.
    #[error("{0} is no token type (1 to 6 are)")]
    Kind(i32),
    /// The vocabulary and the model's embedding are of different models.
    #[error(
        "the tokenizer does not belong to this model: token {id} ({text:?}) is beyond the embedding's {rows} rows; \
         take the tokenizer.json that came with the model"
    )]
    BeyondEmbedding {
        /// The last token that needs a row.
        id: usize,
        /// Its text.
        text: String,
        /// Rows of the embedding.
        rows: usize,
    },
    /// The crate `tokenizers` refused something that the checks above let through.
    #[error("the tokenizer cannot be built: {0}")]
    Library(String),
}

impl From<serde_json::Error> for TokenizerError {
    fn from(error: serde_json::Error) -> TokenizerError {
        TokenizerError::Json(clipped(&error.to_string()))
    }
}

/// The beginning of what a file says, for a file may say a lot and a console line is short.
pub(super) fn clipped(text: &str) -> String {
    match text.char_indices().nth(160) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
