//! What a node says, for a person or for a program: text streamed to a terminal, or one JSON object a line.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

use serde::Serialize;

use crate::id::{Epoch, Fingerprint, NodeId, TokenId};
use crate::node::{AskId, Figures, Reply, Status};
use crate::tokenizer::{TextStream, Tokenizer};

use super::terminal::{OutputError, give, give_line, tell};

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
    Ready { node: NodeId, model: &'a str, fingerprint: Fingerprint, tcp_port: u16 },
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

/// What stands on a terminal's last line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Empty,
    /// An answer that is still being streamed.
    Answer,
    /// The sign that a prompt may be typed.
    Sign,
}

/// Turns the node's words into output.
///
/// What was asked for, answers before all, goes to standard output. In text form everything else goes to standard error, so that
/// a pipe gets the answers alone, and is marked: `·` a note, `!` what went wrong, `[...]` an answer's figures.
pub(super) struct Speaker<'t> {
    tokenizer: &'t Tokenizer,
    form: Form,
    answers: BTreeMap<u64, Answer<'t>>,
    line: Line,
    /// Whether a person sees the answers come.
    watched: bool,
    /// Whether a person types the prompts.
    typed: bool,
    broken: Option<OutputError>,
}

impl<'t> Speaker<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, form: Form) -> Speaker<'t> {
        let watched = form == Form::Text && io::stdout().is_terminal();
        let typed = form == Form::Text && io::stdin().is_terminal() && io::stderr().is_terminal();
        Speaker { tokenizer, form, answers: BTreeMap::new(), line: Line::Empty, watched, typed, broken: None }
    }

    /// Fails when something could not be written since it was last asked.
    pub(super) fn check(&mut self) -> Result<(), OutputError> {
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Says that the node waits for a line, where one is typed.
    pub(super) fn invite(&mut self) {
        if self.typed && self.line == Line::Empty {
            tell("> ");
            self.line = Line::Sign;
        }
    }

    /// A line was entered: whoever typed it ended the line.
    pub(super) fn entered(&mut self) {
        if self.typed && self.line == Line::Sign {
            self.line = Line::Empty;
        }
    }

    /// Gives a program what it asked to know of the node.
    pub(super) fn status(&mut self, status: &Status) {
        self.json(&Event::Status { status });
    }

    /// Gives a person what a command asked for.
    pub(super) fn text(&mut self, text: &str) {
        self.begin_line();
        let given = give_line(text.trim_end());
        self.keep(given);
    }

    /// Says that the node runs, to people by the name that they gave it.
    pub(super) fn ready(&mut self, name: Option<&str>, node: NodeId, model: &str, fingerprint: Fingerprint, tcp_port: u16) {
        let event = Event::Ready { node, model, fingerprint, tcp_port };
        let who = name.map_or(format!("node {node}"), |name| format!("{name} (node {node})"));
        self.say(&event, '·', &format!("{who} with {model} is ready; help lists the commands"));
    }

    /// A line for the log.
    pub(super) fn note(&mut self, line: &str) {
        self.say(&Event::Note { text: line }, '·', line);
    }

    /// What was typed or requested is of no use.
    pub(super) fn error(&mut self, reason: &str) {
        self.say(&Event::Error { reason }, '!', reason);
    }

    /// A prompt gets no answer.
    pub(super) fn failed(&mut self, ask: AskId, reason: &str) {
        self.answers.remove(&ask.0);
        self.say(&Event::Failed { id: ask.0, reason }, '!', &format!("no answer: {reason}"));
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
                    Form::Json => self.json(&Event::Done { id: ask.0, text: &text, tokens: &tokens, figures }),
                    Form::Text => {
                        let ended = give_line("");
                        self.keep(ended);
                        self.line = Line::Empty;
                        tell(format_args!("[{figures}]\n"));
                    }
                }
                Some(Some(text))
            }
            Reply::Failed(reason) => {
                self.failed(ask, reason);
                Some(None)
            }
        }
    }

    fn stream(&mut self, ask: AskId, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.form {
            Form::Json => self.json(&Event::Text { id: ask.0, text }),
            Form::Text => {
                if self.line == Line::Sign {
                    self.begin_line();
                }
                let given = if self.watched { give(harmless(text)) } else { give(text) };
                self.keep(given);
                self.line = Line::Answer;
            }
        }
    }

    pub(super) fn say(&mut self, event: &Event<'_>, mark: char, text: &str) {
        match self.form {
            Form::Json => self.json(event),
            Form::Text => {
                self.begin_line();
                tell(format_args!("{mark} {text}\n"));
            }
        }
    }

    fn json(&mut self, event: &Event<'_>) {
        if let Ok(line) = serde_json::to_string(event) {
            let given = give_line(line);
            self.keep(given);
        }
    }

    /// Leaves a line that something else stands on.
    fn begin_line(&mut self) {
        match self.line {
            Line::Empty => {}
            Line::Answer if self.watched => tell("\n"),
            Line::Answer => {}
            Line::Sign => tell("\r\x1b[K"),
        }
        self.line = Line::Empty;
    }

    fn keep(&mut self, given: Result<(), OutputError>) {
        if let Err(error) = given {
            self.broken.get_or_insert(error);
        }
    }
}

impl Drop for Speaker<'_> {
    /// Leaves the shell a line of its own.
    fn drop(&mut self) {
        if self.typed && self.line != Line::Empty {
            tell("\n");
        }
    }
}

/// Text that moves no cursor, changes no colour and sets no title: a model may say any byte.
fn harmless(text: &str) -> String {
    let is_safe = |character: char| !character.is_control() || matches!(character, '\n' | '\t');
    text.chars().map(|character| if is_safe(character) { character } else { char::REPLACEMENT_CHARACTER }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_says_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\tb\n\x1b[2J\rü\u{9b}1m"), "a\tb\n\u{fffd}[2J\u{fffd}ü\u{fffd}1m");
    }

    #[test]
    fn ids_read_the_same_in_json_as_on_the_console_and_lose_no_bit() {
        let node = NodeId(0xfedc_ba98_7654_3211);
        let json = serde_json::to_string(&node).unwrap();
        assert_eq!(json, "\"fedcba9876543211\"");
        assert_eq!(serde_json::from_str::<NodeId>(&json).unwrap(), node);
        let fingerprint = Fingerprint(std::array::from_fn(|at| at as u8));
        let json = serde_json::to_string(&fingerprint).unwrap();
        assert_eq!(json, format!("\"{fingerprint}\""));
        assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), fingerprint);
        for wrong in ["12", "\"12\"", "\"+fedcba987654321\"", "\"fedcba9876543210f\"", "\"node\""] {
            assert!(serde_json::from_str::<NodeId>(wrong).is_err(), "{wrong}");
        }
    }
}
