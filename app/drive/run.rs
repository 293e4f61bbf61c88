//! `potluck run`: a node of the swarm with a console. And `potluck ask`: one prompt, on this machine alone.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;
use std::thread;
use std::time::Instant;

use serde::Deserialize;
use smol::channel::{Receiver, bounded};
use smol::future::{self, FutureExt};

use crate::console::{self, Command};
use crate::limits::MAX_PROMPT_BYTES;
use crate::node::{Ask, AskId, Input, Node, Reply, StopReason};
use crate::sampler::Sampling;
use crate::tokenizer::{Role, Tokenizer, Turn};

use super::answer::{Event, Form, Speaker};
use super::engine::Engine;
use super::net::{CatalogSocket, NetSettings, block_listener};
use super::setup::{Loaded, NodeSettings};
use super::state::StateDir;
use super::{Driver, Fail, Word};

/// How answers are made unless a request says otherwise.
#[derive(Clone, Debug)]
pub(super) struct AskSettings {
    pub max_tokens: usize,
    pub sampling: Sampling,
}

/// Where prompts come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Console {
    /// Standard input, lines typed by a person or piped in.
    Text,
    /// Standard input, one JSON request a line.
    Json,
    /// Nowhere: the node serves its peers until it is ended.
    None,
}

/// One request of the JSON form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(default)]
    id: u64,
    ask: Option<String>,
    command: Option<String>,
    max_tokens: Option<usize>,
    /// Of a reset: the blocks too.
    #[serde(default)]
    store: bool,
}

/// Answers one prompt and ends. `chat` wraps it in the model's chat template.
pub(super) fn ask(loaded: Loaded, node: &NodeSettings, asking: &AskSettings, text: &str, chat: bool) -> Result<(), Fail> {
    let Loaded { tokenizer, .. } = &loaded;
    let tokens = if chat {
        tokenizer.encode_chat(&[Turn { role: Role::User, text: text.to_string() }])?
    } else {
        tokenizer.encode_prompt(text)?
    };
    let config = loaded.node_config(node);
    let Loaded { model, tokenizer, .. } = loaded;
    let start = Instant::now();
    let node = Node::new(config)?;
    let (driver, words) = Driver::new(node, start, Engine::start(model)?, None);
    let driver = Rc::new(driver);
    let mut speaker = Speaker::new(&tokenizer, Form::Text);
    let ask = Ask { id: AskId(0), tokens, max_tokens: asking.max_tokens, sampling: asking.sampling };
    driver.handle(Input::Ask(ask));
    let answered = driver.run(None, async {
        while let Ok(word) = words.recv().await {
            match word {
                Word::Note(line) => speaker.note(&line),
                Word::Reset(_) => {}
                Word::Reply(ask, reply) => {
                    if let Some(text) = speaker.reply(ask, &reply) {
                        return text.is_some();
                    }
                }
            }
        }
        false
    });
    if answered { Ok(()) } else { Err(Fail::Said) }
}

/// Runs a node until its console ends.
pub(super) fn run(
    loaded: Loaded,
    name: &str,
    node: &NodeSettings,
    net: &NetSettings,
    asking: &AskSettings,
    console: Console,
) -> Result<(), Fail> {
    let form = if console == Console::Json { Form::Json } else { Form::Text };
    let mut config = loaded.node_config(node);
    let Loaded { model, tokenizer, fingerprint } = loaded;
    let (socket, listener) = if node.sharing {
        let (listener, tcp_port) = future::block_on(block_listener(net)).map_err(|error| Fail::TcpPort(net.tcp_port, error))?;
        config.tcp_port = tcp_port;
        (Some(CatalogSocket::open(net).map_err(|error| Fail::UdpPort(net.port, error))?), Some(listener))
    } else {
        (None, None)
    };
    let speaker = Speaker::new(&tokenizer, form);
    if let Some(error) = socket.as_ref().and_then(|socket| socket.no_multicast.as_ref()) {
        let remedy = if net.peers.is_empty() {
            "name peers with --peer, or another --interface"
        } else {
            "only the named peers are asked"
        };
        speaker.note(&format!("no multicast on {} ({error}): {remedy}", net.interface));
    }
    let state = node.state.as_deref().map(StateDir::at);
    if let Some(state) = &state {
        let (epochs, complaint) = state.load();
        config.epochs = epochs;
        complaint.iter().for_each(|complaint| speaker.note(complaint));
    }
    let (id, tcp_port) = (config.node, config.tcp_port);
    let driver = Driver::new(Node::new(config)?, Instant::now(), Engine::start(model)?, socket);
    let (driver, words) = (Rc::new(driver.0.with_state(state)), driver.1);
    let ready = Event::Ready { node: id.to_string(), model: name, fingerprint: fingerprint.to_string(), tcp_port };
    speaker.say(&ready, &format!("node {id} with {name} is ready; help lists the commands"));
    let lines = if console == Console::None { None } else { Some(read_lines()?) };
    let session = Session { driver: driver.clone(), tokenizer: &tokenizer, asking, open: Cell::new(0), next: Cell::new(1) };
    driver.run(listener, session.serve(speaker, lines, words, form));
    Ok(())
}

/// A console and the answers that it waits for.
struct Session<'t> {
    driver: Rc<Driver>,
    tokenizer: &'t Tokenizer,
    asking: &'t AskSettings,
    /// Prompts not yet answered.
    open: Cell<usize>,
    next: Cell<u64>,
}

enum Happening {
    Line(Line),
    Ended,
    Word(Word),
}

impl Session<'_> {
    async fn serve(&self, mut speaker: Speaker<'_>, lines: Option<Receiver<Line>>, words: Receiver<Word>, form: Form) {
        let mut chat = Chat::default();
        let mut lines = lines;
        let mut ending = false;
        while !(ending && self.open.get() == 0) {
            match next(&lines, &words).await {
                Happening::Ended => {
                    lines = None;
                    ending = true;
                }
                Happening::Line(line) => {
                    let result = match (line, form) {
                        (Err(BadLine::TooLong), _) => Err(format!("a line may have {MAX_PROMPT_BYTES} bytes: shorten it")),
                        (Err(BadLine::NotUtf8), _) => {
                            Err("that was not UTF-8: set the terminal to UTF-8 and type it again".to_string())
                        }
                        (Ok(line), Form::Text) => self.command(&line, &mut chat, &mut speaker),
                        (Ok(line), Form::Json) => self.request(&line, &mut speaker),
                    };
                    match result {
                        Ok(leave) => ending |= leave,
                        Err(reason) => speaker.say(&Event::Error { reason: &reason }, &reason),
                    }
                    if ending {
                        lines = None;
                    }
                }
                Happening::Word(Word::Note(line)) => speaker.note(&line),
                Happening::Word(Word::Reset(news)) => speaker.reset(&news),
                Happening::Word(Word::Reply(ask, reply)) => {
                    if let Some(answer) = speaker.reply(ask, &reply) {
                        self.open.set(self.open.get() - 1);
                        let ended = matches!(&reply, Reply::Done(figures) if figures.stop != StopReason::Stopped);
                        chat.answered(ask, answer.filter(|_| ended));
                    }
                }
            }
        }
    }

    /// Obeys a typed line; true when it says to leave.
    fn command(&self, line: &str, chat: &mut Chat, speaker: &mut Speaker<'_>) -> Result<bool, String> {
        let Some(command) = console::parse(line).map_err(|error| error.to_string())? else { return Ok(false) };
        match command {
            Command::Ask(text) => self.ask(None, self.tokenizer.encode_prompt(&text), None).map(drop)?,
            Command::Chat(text) => {
                let turns = chat.with(text)?;
                let id = self.ask(None, self.tokenizer.encode_chat(&turns), None)?;
                chat.asked(id, turns);
            }
            Command::New => *chat = Chat::default(),
            Command::Stop => self.driver.handle(Input::Stop),
            Command::Reset { store } => self.driver.handle(Input::Reset { store }),
            Command::Help => print!("{}", console::help()),
            Command::Version => println!("potluck {}", env!("CARGO_PKG_VERSION")),
            Command::Quit => {
                self.driver.handle(Input::Stop);
                return Ok(true);
            }
            Command::Status | Command::Peers | Command::Stats => {
                let status = self.driver.status();
                let text = match command {
                    Command::Status => status.summary(),
                    Command::Peers => status.peer_table(),
                    _ => status.counters(),
                };
                speaker.say(&Event::Status { status: &status }, text.trim_end());
            }
        }
        Ok(false)
    }

    /// Obeys a JSON request; true when it says to leave.
    fn request(&self, line: &str, speaker: &mut Speaker<'_>) -> Result<bool, String> {
        if line.trim().is_empty() {
            return Ok(false);
        }
        let request: Request = serde_json::from_str(line).map_err(|error| {
            format!("not understood: {error}; say {{\"ask\": \"text\", \"id\": 1}} or {{\"command\": \"status\"}}")
        })?;
        if let Some(text) = request.ask {
            if text.is_empty() {
                return Err("the prompt is empty: give some text".to_string());
            }
            let id = AskId(request.id);
            self.ask(Some(id), self.tokenizer.encode_prompt(&text), request.max_tokens)?;
            return Ok(false);
        }
        match request.command.as_deref() {
            Some("status") => {
                let status = self.driver.status();
                speaker.say(&Event::Status { status: &status }, "");
                Ok(false)
            }
            Some("stop") => {
                self.driver.handle(Input::Stop);
                Ok(false)
            }
            Some("reset") => {
                self.driver.handle(Input::Reset { store: request.store });
                Ok(false)
            }
            Some("quit") => {
                self.driver.handle(Input::Stop);
                Ok(true)
            }
            _ => Err("a request has \"ask\", or \"command\" with status, stop, reset or quit".to_string()),
        }
    }

    fn ask<E: std::fmt::Display>(
        &self,
        id: Option<AskId>,
        tokens: Result<Vec<crate::id::TokenId>, E>,
        max_tokens: Option<usize>,
    ) -> Result<AskId, String> {
        let tokens = tokens.map_err(|error| error.to_string())?;
        let id = id.unwrap_or_else(|| {
            self.next.set(self.next.get() + 1);
            AskId(self.next.get())
        });
        self.open.set(self.open.get() + 1);
        let max_tokens = max_tokens.unwrap_or(self.asking.max_tokens);
        self.driver.handle(Input::Ask(Ask { id, tokens, max_tokens, sampling: self.asking.sampling }));
        Ok(id)
    }
}

/// A conversation: the turns so far, and the one that waits for its answer.
#[derive(Default)]
struct Chat {
    turns: Vec<Turn>,
    waiting: Option<(AskId, Vec<Turn>)>,
}

impl Chat {
    fn with(&self, text: String) -> Result<Vec<Turn>, String> {
        if self.waiting.is_some() {
            return Err("the last turn is still being answered: wait, or type stop".to_string());
        }
        let mut turns = self.turns.clone();
        turns.push(Turn { role: Role::User, text });
        Ok(turns)
    }

    fn asked(&mut self, id: AskId, turns: Vec<Turn>) {
        self.waiting = Some((id, turns));
    }

    /// An answer that was stopped or failed leaves the conversation as it was before the turn.
    fn answered(&mut self, id: AskId, text: Option<String>) {
        if let Some((_, mut turns)) = self.waiting.take_if(|(waiting, _)| *waiting == id)
            && let Some(text) = text
        {
            turns.push(Turn { role: Role::Model, text });
            self.turns = turns;
        }
    }
}

type Line = Result<String, BadLine>;

/// Why a line from the console is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum BadLine {
    TooLong,
    NotUtf8,
}

async fn next(lines: &Option<Receiver<Line>>, words: &Receiver<Word>) -> Happening {
    let line = async {
        match lines {
            None => future::pending().await,
            Some(lines) => match lines.recv().await {
                Ok(line) => Happening::Line(line),
                Err(_) => Happening::Ended,
            },
        }
    };
    let word = async {
        match words.recv().await {
            Ok(word) => Happening::Word(word),
            Err(_) => Happening::Ended,
        }
    };
    word.or(line).await
}

/// Standard input, line by line, on a thread of its own: a terminal can only be read by waiting.
fn read_lines() -> io::Result<Receiver<Line>> {
    let (sender, receiver) = bounded(1);
    thread::Builder::new().name("console".to_string()).spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = read_line(&mut input) {
            if sender.send_blocking(line).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// One line of at most `MAX_PROMPT_BYTES`; a longer one is read to its end and dropped. None at the end of the input.
fn read_line(input: &mut impl BufRead) -> Option<Line> {
    let mut bytes = Vec::new();
    let limit = MAX_PROMPT_BYTES as u64 + 1;
    match input.by_ref().take(limit).read_until(b'\n', &mut bytes) {
        Ok(0) | Err(_) => return None,
        Ok(_) => {}
    }
    if bytes.last() != Some(&b'\n') && bytes.len() as u64 == limit {
        while !matches!(bytes.last(), Some(b'\n')) {
            bytes.clear();
            match input.by_ref().take(limit).read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        return Some(Err(BadLine::TooLong));
    }
    let line = str::from_utf8(&bytes).map_err(|_| BadLine::NotUtf8);
    Some(line.map(|line| line.trim_end_matches(['\r', '\n']).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_is_refused_whole_and_the_next_is_read() {
        let mut text = vec![b'x'; 3 * MAX_PROMPT_BYTES];
        text.extend_from_slice(b"\nhello\r\n\xffz");
        let mut input = io::BufReader::new(&text[..]);
        assert_eq!(read_line(&mut input), Some(Err(BadLine::TooLong)));
        assert_eq!(read_line(&mut input), Some(Ok("hello".to_string())));
        assert_eq!(read_line(&mut input), Some(Err(BadLine::NotUtf8)));
        assert_eq!(read_line(&mut input), None);
    }
}
