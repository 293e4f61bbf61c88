//! `potluck console`: attaches this terminal to a running node, or prints the console reference.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::console;
use crate::fronts::{Form, USUAL_SOCKET, attach, print};
use crate::start::{CONSOLE, Options};

use super::effective_settings;
use super::fail::Fail;

/// Arguments of `potluck console`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ConsoleArgs {
    #[command(flatten)]
    options: Options<CONSOLE>,
    /// Send JSON requests from standard input and print the events, one a line
    #[arg(short, long)]
    pub json: bool,
    /// The node's socket, as its --console-socket names it [default: the one in the settings, else
    /// /run/potluck/console]
    path: Option<PathBuf>,
    #[command(subcommand)]
    document: Option<Document>,
}

/// A document about everything that can be typed on a console.
#[derive(Subcommand)]
enum Document {
    /// Print docs/use/console.md
    Reference,
    /// Print the manual page potluck-console(7): potluck console man | man -l -
    Man,
}

/// Attaches until either end disconnects, or prints a document.
pub(super) fn run(args: ConsoleArgs) -> Result<(), Fail> {
    match args.document {
        Some(Document::Reference) => return Ok(print(console::reference())?),
        Some(Document::Man) => return Ok(print(console::man_page())?),
        None => {}
    }
    let path = match args.path {
        Some(path) => path,
        None => effective_settings(&args.options)?
            .config
            .console
            .socket
            .unwrap_or_else(|| PathBuf::from(USUAL_SOCKET)),
    };
    Ok(attach(&path, if args.json { Form::Json } else { Form::Text })?)
}
