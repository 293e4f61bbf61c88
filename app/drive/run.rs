//! `potluck run`: a node of the swarm with a console. And `potluck ask`: one prompt, on this machine alone.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;
use std::thread;
use std::time::Instant;

use async_signal::{Signal, Signals};
use serde::Deserialize;
use smol::channel::{Receiver, bounded};
use smol::future::{self, FutureExt};
use smol::stream::StreamExt;

use crate::console::{self, Command};
use crate::id::TokenId;
use crate::limits::MAX_PROMPT_BYTES;
use crate::node::{Ask, AskId, Input, Node, Reply, StopReason};
use crate::sampler::Sampling;
use crate::tokenizer::{Role, Tokenizer, Turn};

use super::answer::{Form, Speaker};
use super::engine::Engine;
use super::memory;
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
    let config = loaded.node_config(node)?;
    let lock = node.lock;
    let Loaded { model, tokenizer, file, .. } = loaded;
    let start = Instant::now();
    let node = Node::new(config)?;
    let (driver, words) = Driver::new(node, start, Engine::start(model)?, None);
    let driver = Rc::new(driver);
    driver.read_model(lock.then_some(file), None)?;
    let mut speaker = Speaker::new(&tokenizer, Form::Text);
    let ask = Ask { id: AskId(0), tokens, max_tokens: asking.max_tokens, sampling: asking.sampling };
    driver.handle(Input::Ask(ask));
    driver.run(None, async {
        while let Ok(word) = words.recv().await {
            match word {
                Word::Note(line) => speaker.note(&line),
                Word::Reset(_) => {}
                Word::Reply(_, Reply::Failed(reason)) => return Err(Fail::NoAnswer(reason)),
                Word::Reply(ask, reply) => {
                    let answered = speaker.reply(ask, &reply).is_some();
                    speaker.check()?;
                    if answered {
                        return Ok(());
                    }
                }
                Word::EngineEnded => break,
                Word::ModelChanged => return Err(Fail::ModelChanged),
            }
        }
        Err(Fail::Engine)
    })
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
    let mut config = loaded.node_config(node)?;
    let Loaded { model, tokenizer, fingerprint, unread, file, .. } = loaded;
    let (socket, listener) = if node.sharing {
        let (listener, tcp_port) = future::block_on(block_listener(net))?;
        config.tcp_port = tcp_port;
        (Some(CatalogSocket::open(net)?), Some(listener))
    } else {
        (None, None)
    };
    let mut speaker = Speaker::new(&tokenizer, form);
    let state = node.state.as_deref().map(StateDir::at);
    if let Some(state) = &state {
        let (epochs, complaint) = state.load();
        config.epochs = epochs;
        complaint.iter().for_each(|complaint| speaker.note(complaint));
    }
    let (id, tcp_port) = (config.node, config.tcp_port);
    let driver = Driver::new(Node::new(config)?, Instant::now(), Engine::start(model)?, socket);
    let (driver, words) = (Rc::new(driver.0.with_state(state).with_alive(node.alive.clone())), driver.1);
    driver.read_model(node.lock.then_some(file), unread)?;
    let mut signals = Signals::new([Signal::Int, Signal::Term])?;
    speaker.ready(node.name.as_deref(), id, name, fingerprint, tcp_port);
    let lines = if console == Console::None { None } else { Some(read_lines()?) };
    let session = Session { driver: driver.clone(), tokenizer: &tokenizer, asking, open: Cell::new(0), next: Cell::new(1) };
    // Ended by a signal, too, the node says farewell to its peers.
    let told_to_end = async {
        signals.next().await;
        Ok(())
    };
    driver.run(listener, told_to_end.or(session.serve(speaker, lines, words, form)))
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
    async fn serve(
        &self,
        mut speaker: Speaker<'_>,
        lines: Option<Receiver<Line>>,
        words: Receiver<Word>,
        form: Form,
    ) -> Result<(), Fail> {
        let mut chat = Chat::default();
        let mut lines = lines;
        // At the end of the input the prompts that wait are answered; told to quit, they are not.
        let (mut ending, mut quitting) = (false, false);
        while !(ending && self.open.get() == 0) {
            if lines.is_some() && self.open.get() == 0 {
                speaker.invite();
            }
            match next(&lines, &words).await {
                Happening::Ended => {
                    lines = None;
                    ending = true;
                }
                Happening::Line(line) => {
                    speaker.entered();
                    let result = match (line, form) {
                        (Err(BadLine::TooLong), _) => Err(format!("a line may have {MAX_PROMPT_BYTES} bytes: shorten it")),
                        (Err(BadLine::NotUtf8), _) => {
                            Err("that was not UTF-8: set the terminal to UTF-8 and type it again".to_string())
                        }
                        (Ok(line), Form::Text) => self.command(&line, &mut chat, &mut speaker),
                        (Ok(line), Form::Json) => self.request(&line, &mut speaker),
                    };
                    match result {
                        Ok(leave) => quitting = leave,
                        Err(reason) => speaker.error(&reason),
                    }
                    if quitting {
                        lines = None;
                        ending = true;
                    }
                }
                Happening::Word(Word::Note(line)) => speaker.note(&line),
                Happening::Word(Word::Reset(news)) => speaker.reset(&news),
                Happening::Word(Word::EngineEnded) => return Err(Fail::Engine),
                Happening::Word(Word::ModelChanged) => return Err(Fail::ModelChanged),
                Happening::Word(Word::Reply(ask, reply)) => {
                    if let Some(answer) = speaker.reply(ask, &reply) {
                        self.open.set(self.open.get() - 1);
                        let ended = matches!(&reply, Reply::Done(figures) if figures.stop != StopReason::Stopped);
                        chat.answered(ask, answer.filter(|_| ended));
                    }
                }
            }
            if quitting && self.open.get() > 0 {
                self.driver.handle(Input::Stop);
            }
            speaker.check()?;
        }
        Ok(())
    }

    /// Obeys a typed line; true when it says to leave.
    fn command(&self, line: &str, chat: &mut Chat, speaker: &mut Speaker<'_>) -> Result<bool, String> {
        let Some(command) = console::parse(line).map_err(|error| error.to_string())? else { return Ok(false) };
        match command {
            Command::Ask(text) => {
                let tokens = self.tokenizer.encode_prompt(&text).map_err(|error| error.to_string())?;
                self.ask(self.next_id(), tokens, None);
            }
            Command::Chat(text) => {
                let turns = chat.with(text)?;
                let tokens = self.tokenizer.encode_chat(&turns).map_err(|error| error.to_string())?;
                let id = self.next_id();
                chat.asked(id, turns);
                self.ask(id, tokens, None);
            }
            Command::New => *chat = Chat::default(),
            Command::Stop => self.stop()?,
            Command::Reset { store } => self.driver.handle(Input::Reset { store }),
            Command::Help => speaker.text(&console::help()),
            Command::Version => speaker.text(concat!("potluck ", env!("CARGO_PKG_VERSION"))),
            Command::Quit => return Ok(true),
            Command::Status | Command::Peers | Command::Stats => {
                let status = self.driver.status();
                let text = match command {
                    Command::Status => status.summary() + &memory::line(),
                    Command::Peers => status.peer_table(),
                    _ => status.counters(),
                };
                speaker.text(&text);
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
        match (request.ask, request.command.as_deref()) {
            (Some(text), None) => {
                let id = AskId(request.id);
                let tokens = if text.trim().is_empty() {
                    Err("the prompt is empty: give some text".to_string())
                } else {
                    self.tokenizer.encode_prompt(&text).map_err(|error| error.to_string())
                };
                match tokens {
                    Ok(tokens) => self.ask(id, tokens, request.max_tokens),
                    Err(reason) => speaker.failed(id, &reason),
                }
            }
            (None, Some("status")) => speaker.status(&self.driver.status()),
            (None, Some("stop")) => self.stop()?,
            (None, Some("reset")) => self.driver.handle(Input::Reset { store: request.store }),
            (None, Some("quit")) => return Ok(true),
            _ => return Err("a request has \"ask\", or \"command\" with status, stop, reset or quit".to_string()),
        }
        Ok(false)
    }

    fn stop(&self) -> Result<(), String> {
        if self.open.get() == 0 {
            return Err("nothing is being answered: there is nothing to stop".to_string());
        }
        self.driver.handle(Input::Stop);
        Ok(())
    }

    fn ask(&self, id: AskId, tokens: Vec<TokenId>, max_tokens: Option<usize>) {
        self.open.set(self.open.get() + 1);
        let max_tokens = max_tokens.unwrap_or(self.asking.max_tokens);
        self.driver.handle(Input::Ask(Ask { id, tokens, max_tokens, sampling: self.asking.sampling }));
    }

    /// A name for a typed prompt.
    fn next_id(&self) -> AskId {
        self.next.set(self.next.get() + 1);
        AskId(self.next.get())
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
