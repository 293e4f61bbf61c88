//! What a node says, for a person or for a program: text streamed to a terminal, or one JSON object a line.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use crate::id::{Epoch, NodeId, TokenId};
use crate::node::{AskId, Figures, Reply, Status};
use crate::tokenizer::{TextStream, Tokenizer};

/// How to speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// To a person.
    Text,
    /// To a program.
    Json,
}

/// One line of the JSON form.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    /// The node runs and takes prompts.
    Ready { node: String, model: &'a str, fingerprint: String, tcp_port: u16 },
    /// More of an answer's text.
    Text { id: u64, text: &'a str },
    /// A whole answer.
    Done { id: u64, text: &'a str, tokens: &'a [TokenId], figures: &'a Figures },
    /// No answer, and why.
    Failed { id: u64, reason: &'a str },
    /// This node.
    Status { status: &'a Status },
    /// A line for the log.
    Note { text: &'a str },
    /// The swarm was reset from here.
    Reset { epoch: Epoch, store: bool, peers: usize },
    /// A peer has obeyed the reset.
    Acknowledged { node: NodeId },
    /// Everybody has, or the time for it is over.
    ResetEnded { acknowledged: usize, missing: &'a [NodeId] },
    /// A request was not understood, or cannot be obeyed.
    Error { reason: &'a str },
}

struct Answer<'t> {
    stream: TextStream<'t>,
    text: String,
    tokens: Vec<TokenId>,
}

/// Turns the node's words into output. Answers go to standard output; in text form, notes and figures go to standard error, so
/// that a pipe gets the answer alone.
pub(super) struct Speaker<'t> {
    tokenizer: &'t Tokenizer,
    form: Form,
    answers: BTreeMap<u64, Answer<'t>>,
}

impl<'t> Speaker<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, form: Form) -> Speaker<'t> {
        Speaker { tokenizer, form, answers: BTreeMap::new() }
    }

    /// Says one line: an event to a program, `text` to a person.
    pub(super) fn say(&self, event: &Event<'_>, text: &str) {
        match self.form {
            Form::Json => print_json(event),
            Form::Text => eprintln!("{text}"),
        }
    }

    /// A line for the log.
    pub(super) fn note(&self, line: &str) {
        self.say(&Event::Note { text: line }, &format!("· {line}"));
    }

    /// Passes a reply on. When it ends an answer, gives the answer's text (none when it failed).
    pub(super) fn reply(&mut self, ask: AskId, reply: &Reply) -> Option<Option<String>> {
        match reply {
            Reply::Token(token) => {
                let tokenizer = self.tokenizer;
                let new = || Answer { stream: tokenizer.stream(), text: String::new(), tokens: Vec::new() };
                let answer = self.answers.entry(ask.0).or_insert_with(new);
                answer.tokens.push(*token);
                let text = answer.stream.push(*token);
                answer.text += &text;
                self.stream(ask, &text);
                None
            }
            Reply::Done(figures) => {
                let (mut text, mut tokens) = (String::new(), Vec::new());
                if let Some(answer) = self.answers.remove(&ask.0) {
                    let rest = answer.stream.finish();
                    self.stream(ask, &rest);
                    text = answer.text + &rest;
                    tokens = answer.tokens;
                }
                match self.form {
                    Form::Json => print_json(&Event::Done { id: ask.0, text: &text, tokens: &tokens, figures }),
                    Form::Text => {
                        println!();
                        eprintln!("[{figures}]");
                    }
                }
                Some(Some(text))
            }
            Reply::Failed(reason) => {
                self.answers.remove(&ask.0);
                self.say(&Event::Failed { id: ask.0, reason }, &format!("no answer: {reason}"));
                Some(None)
            }
        }
    }

    fn stream(&self, ask: AskId, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.form {
            Form::Json => print_json(&Event::Text { id: ask.0, text }),
            Form::Text => {
                print!("{text}");
                let _ = io::stdout().flush();
            }
        }
    }
}

fn print_json(event: &Event<'_>) {
    // A closed pipe ends the program soon enough: standard input closes with it.
    if let Ok(line) = serde_json::to_string(event) {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
    }
}
