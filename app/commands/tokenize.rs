//! `potluck tokenize`: the tokens of a text as the model sees them, and the text of tokens.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use clap::error::ErrorKind;
use serde::Serialize;
use thiserror::Error;

use crate::answers;
use crate::fronts::{OutputError, eprint, print_event, print_line};
use crate::id::TokenId;
use crate::limits::{MAX_ID_LIST_BYTES, MAX_PROMPT_BYTES};
use crate::model;
use crate::start::{
    Kept, NoModel, Options, SetupError, TOKENIZE, Unread, form, model as named, tokenizer_of,
};
use crate::tokenizer::{TokenKind, Tokenizer, TokenizerError};

use super::cli::Cli;
use super::prompt::{PromptError, Source};
use super::{effective_settings, usage};

/// Arguments of `potluck tokenize`.
#[derive(Args)]
pub(super) struct TokenizeArgs {
    #[command(flatten)]
    options: Options<TOKENIZE>,
    /// Read the text, or the ids, from FILE, where - is standard input; every byte counts, even the
    /// last line end
    #[arg(short, long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Put the text into the model's chat template, or Gemma's if its file has none
    #[arg(long, conflicts_with_all = ["no_bos", "decode"])]
    chat: bool,
    /// Leave out the bos token that every prompt begins with
    #[arg(long, conflicts_with = "decode")]
    no_bos: bool,
    /// Read ids and print their text
    #[arg(long)]
    decode: bool,
    /// Print only the ids, on one line, as --decode reads them
    #[arg(long, conflicts_with_all = ["decode", "json"])]
    ids: bool,
    /// One JSON object instead of text
    #[arg(short, long)]
    pub json: bool,
    /// The text, or the ids; read from standard input if it is -, or if it is missing and input is
    /// piped in
    text: Vec<String>,
}

/// Why there are no tokens to show.
#[derive(Debug, Error)]
pub(super) enum TokenizeError {
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error(transparent)]
    NoModel(#[from] NoModel),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Form(#[from] answers::FormError),
    #[error(transparent)]
    Source(#[from] PromptError),
    #[error("{0:?} is not a token id: give numbers separated by blanks or commas")]
    NotAnId(String),
    #[error("token {0} is beyond the vocabulary's {1}: give ids of this model")]
    Beyond(u32, usize),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// How a text is encoded.
enum Form {
    /// A prompt: `<bos>`, then the text.
    Prompt,
    /// The text alone.
    Bare,
    /// The person's turn of a chat, ready for the answer.
    Chat(answers::Form),
}

/// What is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    /// A line for each token.
    Table,
    /// The ids, on one line.
    Ids,
    /// One JSON object.
    Json,
}

/// A token as it is shown.
#[derive(Serialize)]
struct Shown {
    id: u32,
    /// Its text; for a byte or a control token, its name.
    piece: String,
    /// "text", "byte" or "control".
    kind: &'static str,
}

/// The JSON object of a text.
#[derive(Serialize)]
struct Encoded {
    /// Bytes of the text.
    bytes: usize,
    /// Whether the first token is `<bos>`.
    bos: bool,
    chat: bool,
    tokens: Vec<Shown>,
    notes: Vec<String>,
}

/// The JSON object of ids.
#[derive(Serialize)]
struct Decoded {
    text: String,
    tokens: Vec<Shown>,
    notes: Vec<String>,
}

/// Runs the command. Reads only the head of the model.
pub(super) fn run(args: TokenizeArgs) -> Result<(), TokenizeError> {
    let Some(source) = Source::of(&args.text, args.file) else {
        let reason = "no text: give one, or a file with --file FILE, or pipe one in";
        usage::refuse::<Cli>("tokenize", ErrorKind::MissingRequiredArgument, reason);
    };
    let effective = effective_settings(&args.options)?;
    let (config, path) = (&effective.config, named(&effective)?);
    let opened = model::open(&path).map_err(SetupError::from)?;
    let kept = Kept::at(config.node.state.as_deref());
    let tokenizer = tokenizer_of(&opened, &path, config.model.tokenizer.as_deref(), &kept)?;
    let show = match (args.json, args.ids) {
        (true, _) => Show::Json,
        (_, true) => Show::Ids,
        _ => Show::Table,
    };
    let form = match (args.chat, args.no_bos) {
        (true, _) => {
            let (form, note) = form(&opened);
            note.iter().for_each(|note| eprint(format_args!("· {note}\n")));
            Form::Chat(form)
        }
        (_, true) => Form::Bare,
        _ => Form::Prompt,
    };
    if args.decode {
        decode(&tokenizer, source, show)
    } else {
        encode(&tokenizer, source, form, show)
    }
}

/// Prints the tokens of a text.
fn encode(
    tokenizer: &Tokenizer,
    source: Source,
    form: Form,
    show: Show,
) -> Result<(), TokenizeError> {
    let text = source.whole(MAX_PROMPT_BYTES)?;
    let bytes = text.len();
    let mut notes: Vec<String> = tokenizer.notes().map(str::to_owned).collect();
    notes.extend(tokenizer.marker_note(&text));
    let ids = match &form {
        Form::Prompt => tokenizer.encode_prompt(&text)?,
        Form::Bare => tokenizer.encode(&text)?,
        Form::Chat(form) => form.first(tokenizer, None, &text)?,
    };
    let is_chat = matches!(form, Form::Chat(_));
    let bos = ids.first().is_some_and(|first| tokenizer.bos() == Some(*first));
    if show == Show::Json {
        let (chat, tokens) = (is_chat, ids.iter().map(|id| shown(tokenizer, *id)).collect());
        return Ok(print_event("tokenize", &Encoded { bytes, bos, chat, tokens, notes })?);
    }
    notes.iter().for_each(|note| eprint(format_args!("· {note}\n")));
    if show == Show::Ids {
        let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
        return Ok(print_line(ids.join(" "))?);
    }
    let lines: Vec<String> = ids.iter().map(|id| line(&shown(tokenizer, *id))).collect();
    if !lines.is_empty() {
        print_line(lines.join("\n"))?;
    }
    let with = if bos { "with <bos>" } else { "without <bos>" };
    let of = if is_chat { " as a chat" } else { "" };
    eprint(format_args!("[{} tokens, {with}; {bytes} bytes of text{of}]\n", ids.len()));
    Ok(())
}

/// Prints the text of ids as it was before encoding, without a leading `<bos>`.
fn decode(tokenizer: &Tokenizer, source: Source, show: Show) -> Result<(), TokenizeError> {
    let ids = parse_ids(&source.whole(MAX_ID_LIST_BYTES)?, tokenizer.vocab_size())?;
    let begins = ids.first().is_some_and(|first| tokenizer.bos() == Some(*first));
    let text = tokenizer.spell(&ids[usize::from(begins)..]);
    let notes: Vec<String> = tokenizer.notes().map(str::to_owned).collect();
    if show == Show::Json {
        let tokens = ids.iter().map(|id| shown(tokenizer, *id)).collect();
        let text = String::from_utf8_lossy(&text).into_owned();
        return Ok(print_event("tokenize", &Decoded { text, tokens, notes })?);
    }
    notes.iter().for_each(|note| eprint(format_args!("· {note}\n")));
    let mut out = io::stdout().lock();
    // A file or pipe gets the text and nothing else. On a terminal, the shell's next prompt must
    // start on a new line.
    let end: &[u8] = if out.is_terminal() && !text.ends_with(b"\n") { b"\n" } else { b"" };
    out.write_all(&text)
        .and_then(|()| out.write_all(end))
        .and_then(|()| out.flush())
        .map_err(OutputError::from)?;
    Ok(())
}

/// Parses numbers separated by blanks, commas or brackets, as `--ids` and JSON write them.
fn parse_ids(text: &str, tokens: usize) -> Result<Vec<TokenId>, TokenizeError> {
    let words = text
        .split(|c: char| c.is_whitespace() || [',', '[', ']'].contains(&c))
        .filter(|word| !word.is_empty());
    words
        .map(|word| {
            let id = word
                .parse::<u32>()
                .map_err(|_| TokenizeError::NotAnId(word.chars().take(40).collect()))?;
            if (id as usize) < tokens {
                Ok(TokenId(id))
            } else {
                Err(TokenizeError::Beyond(id, tokens))
            }
        })
        .collect()
}

fn shown(tokenizer: &Tokenizer, id: TokenId) -> Shown {
    let (piece, kind) = match tokenizer.kind(id) {
        Some(TokenKind::Normal | TokenKind::UserDefined) => {
            (tokenizer.piece(id).replace('▁', " "), "text")
        }
        Some(TokenKind::Byte) => (tokenizer.piece(id).to_owned(), "byte"),
        _ => (tokenizer.piece(id).to_owned(), "control"),
    };
    Shown { id: id.0, piece, kind }
}

/// A line of the table: text is quoted, the names of bytes and control tokens are not.
fn line(shown: &Shown) -> String {
    let Shown { id, piece, kind } = shown;
    if *kind == "text" { format!("{id:>7}  {piece:?}") } else { format!("{id:>7}  {piece}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let ids = |text: &str| {
            parse_ids(text, 100).map(|ids| ids.iter().map(|id| id.0).collect::<Vec<_>>())
        };
        assert_eq!(ids("2 7\n99").unwrap(), [2, 7, 99]);
        assert_eq!(ids("[2, 7,99]\n").unwrap(), [2, 7, 99]);
        assert!(ids(" \n").unwrap().is_empty());
        assert_eq!(
            ids("100").unwrap_err().to_string(),
            "token 100 is beyond the vocabulary's 100: give ids of this model"
        );
        for wrong in ["-1", "2 x", "1.5", "99999999999", "+3x"] {
            assert!(ids(wrong).unwrap_err().to_string().contains("is not a token id"), "{wrong}");
        }
    }
}
