//! One console: its lines are obeyed, what concerns it is said, and it has a conversation and settings of its own.

use std::rc::Rc;

use serde::Deserialize;
use smol::channel::Receiver;
use smol::future::{self, FutureExt};

use crate::answers::Answer;
use crate::config::LogLevel;
use crate::console::{self, Command, Level, Line, LogRequest, Settings, Typed};
use crate::drive::{Fail, memory};
use crate::id::TokenId;
use crate::limits::{BENCH_DECODE_TOKENS, BENCH_PREFILL_TOKENS, MAX_QUEUED_PROMPTS};
use crate::node::{AskId, Reply, StopReason};
use crate::sampler::Sampling;

use super::chat::{Chat, slip};
use super::event::Event;
use super::host::{Heard, Host, Leave, Running, Seat};
use super::lines::{self, BadLine};
use super::power::{Power, PowerError};
use super::speaker::{Form, Speaker};
use super::tty::Tty;

/// What is said first where a person may read it.
pub(super) const GREETING: &str = concat!("potluck ", env!("CARGO_PKG_VERSION"), "; help lists the commands");

const VERSION: &str = concat!("potluck ", env!("CARGO_PKG_VERSION"));

/// Where lines come from.
pub(super) enum Source {
    /// Standard input.
    Lines(Receiver<lines::Line>),
    /// A terminal that is edited on.
    Tty(Rc<Tty>),
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

/// A console.
pub(super) struct Session {
    host: Rc<Host>,
    seat: Seat,
    speaker: Speaker,
    /// Whether programs talk here.
    form: Form,
    /// Whether `quit` and the end of the input end the node.
    may_quit: bool,
    settings: Settings,
    level: Level,
    /// Prompts not yet answered.
    open: usize,
    next: u64,
    chat: Chat,
    /// How what becomes of a reset is said.
    reset_form: Form,
}

enum Happening {
    Line(lines::Line),
    Interrupt,
    Ended,
    Heard(Heard),
}

impl Session {
    pub(super) fn new(host: Rc<Host>, speaker: Speaker, may_quit: bool) -> (Session, Receiver<Heard>) {
        let (seat, heard) = host.sit();
        let level = match host.settled.config.log.level {
            LogLevel::Error => Level::Error,
            LogLevel::Warn => Level::Warn,
            LogLevel::Info => Level::Info,
        };
        let (form, settings) = (speaker.form, host.settings.clone());
        let session = Session {
            host,
            seat,
            speaker,
            form,
            may_quit,
            settings,
            level,
            open: 0,
            next: 1,
            chat: Chat::default(),
            reset_form: form,
        };
        (session, heard)
    }

    /// Says what went wrong before this console was there, and how far the node has come; first, on a terminal of the board, who is
    /// there and what is wrong with the settings.
    pub(super) fn greet(&mut self) {
        if !self.may_quit {
            self.speaker.note('·', GREETING);
            let problems = self.host.settled.problems.clone();
            problems.iter().for_each(|problem| self.speaker.note('!', problem));
        }
        let host = self.host.clone();
        let warnings = host.log.borrow();
        warnings
            .last(usize::MAX)
            .filter(|entry| entry.level == Level::Warn)
            .for_each(|entry| self.speaker.note('!', &entry.text));
        self.say_stage();
    }

    /// Says that the node runs, or why it does not; nothing while that is not known.
    fn say_stage(&mut self) {
        if let Some(reason) = self.host.fault() {
            return self.speaker.error(&format!("no model: {reason}"));
        }
        let Ok(running) = self.host.running() else { return };
        let Running { node, model, fingerprint, tcp_port, .. } = &*running;
        let event = Event::Ready { node: *node, model, fingerprint: *fingerprint, tcp_port: *tcp_port };
        let who = running.name.as_ref().map_or(format!("node {node}"), |name| format!("{name} (node {node})"));
        self.speaker.say(&event, '·', &format!("{who} with {model} is ready; help lists the commands"));
    }

    /// Talks until the input ends or a person leaves; fails when the output cannot be written.
    pub(super) async fn serve(&mut self, source: Option<Source>, heard: Receiver<Heard>) -> Result<(), Fail> {
        let mut source = source;
        // At the end of the input the prompts that wait are answered; told to quit, they are not.
        let mut ending = false;
        while !(ending && self.open == 0) {
            if source.is_some() && self.open == 0 {
                self.speaker.invite();
            }
            match self.next(&source, &heard).await {
                // An unplugged terminal: whoever comes back has not asked.
                Happening::Ended if !self.may_quit => return Ok(()),
                Happening::Ended => {
                    source = None;
                    ending = true;
                }
                Happening::Interrupt => self.interrupt(),
                Happening::Line(line) => {
                    self.speaker.entered();
                    let result = match line {
                        Err(bad) => Err(bad.remedy()),
                        Ok(line) if self.form == Form::Json => self.request(&line),
                        Ok(line) => self.line(&line),
                    };
                    match result {
                        Ok(false) => {}
                        Ok(true) => {
                            source = None;
                            ending = true;
                            self.host.stop(self.seat);
                        }
                        Err(reason) => self.speaker.error(&reason),
                    }
                }
                Happening::Heard(heard) => self.hear(heard),
            }
            self.speaker.check()?;
        }
        self.speaker.drained().await;
        Ok(self.speaker.check()?)
    }

    async fn next(&self, source: &Option<Source>, heard: &Receiver<Heard>) -> Happening {
        let line = async {
            match source {
                None => future::pending().await,
                // Piped in, prompts wait in the pipe while the node has no room for more, or nobody reads what is answered.
                Some(Source::Lines(_)) if self.form == Form::Text && self.open > MAX_QUEUED_PROMPTS => future::pending().await,
                Some(Source::Lines(lines)) => {
                    self.speaker.has_room().await;
                    lines.recv().await.map_or(Happening::Ended, Happening::Line)
                }
                Some(Source::Tty(tty)) => match tty.typed().await {
                    Ok(Typed::Line(line)) => Happening::Line(Ok(line)),
                    Ok(Typed::TooLong) => Happening::Line(Err(BadLine::TooLong)),
                    Ok(Typed::NotUtf8) => Happening::Line(Err(BadLine::NotUtf8)),
                    Ok(Typed::Interrupt) => Happening::Interrupt,
                    Ok(Typed::End) if self.may_quit => Happening::Ended,
                    Ok(Typed::End) => Happening::Line(Ok(String::new())),
                    Err(_) => Happening::Ended,
                },
            }
        };
        let heard = async { heard.recv().await.map_or(Happening::Ended, Happening::Heard) };
        heard.or(line).await
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Note(level, text, left_out) if level <= self.level => {
                if left_out > 0 {
                    self.speaker.note('·', &format!("{left_out} lines were not told: log shows the last"));
                }
                self.speaker.note(if level == Level::Info { '·' } else { '!' }, &text);
            }
            Heard::Note(..) => {}
            Heard::Reset(news) => {
                let before = std::mem::replace(&mut self.speaker.form, self.reset_form);
                self.speaker.reset(&news);
                self.speaker.form = before;
            }
            Heard::Ready | Heard::Broken => self.say_stage(),
            Heard::Reply(ask, reply) => {
                if let Some(answer) = self.speaker.reply(ask, &reply) {
                    self.open -= 1;
                    let ended = matches!(&reply, Reply::Done(figures) if figures.stop != StopReason::Stopped);
                    self.chat.answered(ask, answer.filter(|_| ended));
                }
            }
        }
    }

    fn interrupt(&mut self) {
        if self.open > 0 {
            return self.host.stop(self.seat);
        }
        let leave = if self.may_quit { "quit or Ctrl-D leaves" } else { "reboot and poweroff end it" };
        self.speaker.note('·', &format!("nothing is being answered; {leave}, help lists the commands"));
    }

    /// Obeys a typed line; true when it says to leave.
    fn line(&mut self, line: &str) -> Result<bool, String> {
        let Some(line) = console::parse(line).map_err(|error| error.to_string())? else { return Ok(false) };
        if let Line { command: Command::Ask(text), bare: true, .. } = &line
            && let Some(meant) = slip(text)
        {
            return Err(format!(
                "no command is called {text}: did you mean {meant}? To have the model answer it, type ask {text}"
            ));
        }
        let before = self.speaker.form;
        if line.json {
            self.speaker.form = Form::Json;
        }
        let result = self.obey(line.command);
        // The error of a program's line is for the program.
        let result = match result {
            Err(reason) if line.json => {
                self.speaker.error(&reason);
                Ok(false)
            }
            other => other,
        };
        self.speaker.form = before;
        result
    }

    fn obey(&mut self, command: Command) -> Result<bool, String> {
        match command {
            Command::Ask(text) => {
                let running = self.host.running()?;
                let tokens = running.tokenizer.encode_prompt(&text).map_err(|error| error.to_string())?;
                let id = self.next_id();
                self.ask(&running, id, tokens, self.settings.clone());
            }
            Command::Chat(text) => {
                let running = self.host.running()?;
                let turns = self.chat.with(text)?;
                let tokens = running.tokenizer.encode_chat(&turns).map_err(|error| error.to_string())?;
                let id = self.next_id();
                self.chat.asked(id, turns);
                self.ask(&running, id, tokens, self.settings.clone());
            }
            Command::New => {
                self.chat = Chat::default();
                self.done("new", "a new conversation");
            }
            Command::Stop => {
                if self.open == 0 {
                    return Err("nothing is being answered: there is nothing to stop".to_string());
                }
                self.host.stop(self.seat);
                if self.speaker.form == Form::Json && self.form == Form::Text {
                    self.done("stop", "");
                }
            }
            Command::Set { name, value } => self.set(name, value)?,
            Command::Status | Command::Peers | Command::Catalog | Command::Slab | Command::Stats => self.show(&command)?,
            Command::Bench => self.bench()?,
            Command::Config => {
                let report = self.host.settled.report();
                self.speaker.give(&Event::Config { config: &report }, &report.table());
            }
            Command::ConfigCheck => self.config_check()?,
            Command::ConfigPath => {
                let report = self.host.settled.report();
                let text = report.path.clone().unwrap_or_else(|| "no file of settings is in use".to_string());
                self.speaker.give(&Event::Config { config: &report }, &text);
            }
            Command::Log(request) => self.log(request),
            Command::Reset { store } => {
                let running = self.host.running()?;
                self.reset_form = self.speaker.form;
                self.host.reset(&running, self.seat, store);
            }
            Command::Reboot => self.power(Power::Reboot)?,
            Command::Poweroff => self.power(Power::Off)?,
            Command::Help(None) => {
                let help = console::help();
                self.speaker.give(&Event::Help { help: &help }, &help);
            }
            Command::Help(Some(word)) => {
                let help = console::help_for(&word)
                    .ok_or_else(|| format!("no command is called {}: help lists them all", console::harmless(&word)))?;
                self.speaker.give(&Event::Help { help: &help }, &help);
            }
            Command::Version => self.speaker.give(&Event::Version { version: env!("CARGO_PKG_VERSION") }, VERSION),
            Command::Quit if self.may_quit => return Ok(true),
            Command::Quit => {
                return Err("this console belongs to the node and stays: reboot and poweroff end the node".to_string());
            }
        }
        Ok(false)
    }

    fn set(&mut self, name: Option<String>, value: Option<String>) -> Result<(), String> {
        if let (Some(name), Some(value)) = (&name, &value) {
            self.settings.set(name, value)?;
        }
        let text = match &name {
            Some(name) => format!("{name} {}", self.settings.get(name)?),
            None => self.settings.table(),
        };
        self.speaker.give(&Event::Settings { settings: &self.settings }, &text);
        Ok(())
    }

    fn show(&mut self, command: &Command) -> Result<(), String> {
        let running = self.host.running()?;
        let status = running.driver.status();
        let (peers, catalog, slab) = (status.peers.as_slice(), &status.catalog, &status.cache);
        let (event, text) = match command {
            Command::Peers => (Event::Peers { peers }, status.peer_table()),
            Command::Catalog => {
                (Event::Catalog { generation: status.generation, told: status.told, catalog, peers }, status.catalog_table())
            }
            Command::Slab => (Event::Slab { slab }, status.slab_table()),
            Command::Stats => (Event::Stats { node: &status.node_stats, slab, catalog }, status.counters()),
            _ => {
                let seconds = self.host.now().0 / 1_000;
                let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
                let name = running.name.as_deref().unwrap_or("not set");
                let text = format!(
                    "name     {name}\nfile     {}\nup       {hours}:{minutes:02}:{:02}\n{}{}",
                    running.model,
                    seconds % 60,
                    status.summary(),
                    memory::line()
                );
                (Event::Status { status: &status }, text)
            }
        };
        self.speaker.give(&event, &text);
        Ok(())
    }

    fn bench(&mut self) -> Result<(), String> {
        let running = self.host.running()?;
        let count = BENCH_PREFILL_TOKENS.min(running.context / 2).max(1);
        let vocabulary = running.tokenizer.vocab_size().max(1);
        // Any tokens will do; the same ones make runs comparable.
        let tokens = (1..=count).map(|at| TokenId((at * 7_919 % vocabulary) as u32)).collect();
        let max_tokens = BENCH_DECODE_TOKENS.min(running.context / 2).max(1);
        let how = Settings { max_tokens, sampling: Sampling::GREEDY, stop: Vec::new() };
        let id = self.next_id();
        self.open += 1;
        self.speaker.begin(id, None);
        self.host.ask(&running, self.seat, id, tokens, how, true);
        Ok(())
    }

    fn config_check(&mut self) -> Result<(), String> {
        let problems = self.host.settled.check().ok_or("no file of settings is in use: potluck run --config FILE names one")?;
        let mut report = self.host.settled.report();
        let path = report.path.clone().unwrap_or_default();
        let text = if problems.is_empty() {
            format!("{path}: good; what has changed counts from the next start on")
        } else {
            problems.join("\n")
        };
        report.problems = problems;
        self.speaker.give(&Event::Config { config: &report }, &text);
        Ok(())
    }

    fn log(&mut self, request: LogRequest) {
        match request {
            LogRequest::SetLevel(level) => {
                self.level = level;
                self.done("log", &format!("this console is told {} and what matters more", level.name()));
            }
            LogRequest::Level => {
                let text = format!("log level {}", self.level.name());
                self.done("log", &text);
            }
            LogRequest::Last(count) => {
                let host = self.host.clone();
                let log = host.log.borrow();
                let entries: Vec<_> = log.last(count).collect();
                let line = |entry: &&console::Entry| {
                    format!("{:>8}.{:03}  {:<5}  {}\n", entry.at.0 / 1_000, entry.at.0 % 1_000, entry.level.name(), entry.text)
                };
                let text: String = entries.iter().map(line).collect();
                let text = if text.is_empty() { "the log is empty".to_string() } else { text };
                self.speaker.give(&Event::Log { log: &entries }, &text);
            }
        }
    }

    fn power(&mut self, power: Power) -> Result<(), String> {
        if !self.host.settled.config.console.power {
            return Err(PowerError::Refused(power.name()).to_string());
        }
        power.command().map_err(|error| error.to_string())?;
        self.done(power.name(), "leaving the swarm");
        self.host.leave(Leave::Power(power));
        Ok(())
    }

    fn done(&mut self, command: &str, text: &str) {
        self.speaker.say(&Event::Ok { command }, '·', text);
    }

    /// Obeys a JSON request; true when it says to leave.
    fn request(&mut self, line: &str) -> Result<bool, String> {
        if line.trim().is_empty() {
            return Ok(false);
        }
        let request: Request = serde_json::from_str(line).map_err(|error| {
            format!("not understood: {error}; say {{\"ask\": \"text\", \"id\": 1}} or {{\"command\": \"status\"}}")
        })?;
        match (request.ask, request.command) {
            (Some(text), None) => {
                let id = AskId(request.id);
                match self.prompt(&text) {
                    Ok((running, tokens)) => {
                        let max_tokens = request.max_tokens.unwrap_or(self.settings.max_tokens);
                        self.ask(&running, id, tokens, Settings { max_tokens, ..self.settings.clone() });
                    }
                    Err(reason) => self.speaker.failed(id, &reason),
                }
                Ok(false)
            }
            (None, Some(command)) => {
                let command = if request.store && command.trim() == "reset" { "reset --store".to_string() } else { command };
                match console::parse(&command).map_err(|error| error.to_string())? {
                    Some(Line { command, bare: false, .. }) if !matches!(command, Command::Ask(_) | Command::Chat(_)) => {
                        self.obey(command)
                    }
                    _ => Err(format!("\"command\" is one of the console's: {}", console::words().collect::<Vec<_>>().join(", "))),
                }
            }
            _ => Err("a request has either \"ask\" or \"command\"".to_string()),
        }
    }

    fn prompt(&self, text: &str) -> Result<(Rc<Running>, Vec<TokenId>), String> {
        let running = self.host.running()?;
        if text.trim().is_empty() {
            return Err("the prompt is empty: give some text".to_string());
        }
        let tokens = running.tokenizer.encode_prompt(text).map_err(|error| error.to_string())?;
        Ok((running, tokens))
    }

    fn ask(&mut self, running: &Running, id: AskId, tokens: Vec<TokenId>, how: Settings) {
        self.open += 1;
        self.speaker.begin(id, Some(Answer::new(running.tokenizer).until(&how.stop)));
        self.host.ask(running, self.seat, id, tokens, how, false);
    }

    /// A name for a typed prompt.
    fn next_id(&mut self) -> AskId {
        self.next += 1;
        AskId(self.next)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.host.rise(self.seat);
    }
}
