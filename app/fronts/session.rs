//! One console: its lines are obeyed, what concerns it is said, and it has a conversation and settings of its own.

use std::rc::Rc;

use smol::channel::Receiver;
use smol::future::{self, FutureExt};

use crate::answers::Desk;
use crate::config::LogLevel;
use crate::config::{self, Origin};
use crate::console::{self, Begun, Block, BlockError, Command, Dropped, Level, Line, May, Settings, Typed};
use crate::id::NodeId;
use crate::lan::Interface;
use crate::node::{Reply, StopReason};
use crate::start::Sharing;

use super::backlog::Backlog;
use super::event::Event;
use super::fail::Fail;
use super::host::{Heard, Host, Running, Seat};
use super::lines::{self, BadLine};
use super::prompts::Asking;
use super::slip::slip;
use super::speaker::{Form, Speaker};
use super::tty::Tty;

/// What is said first where a person may read it.
pub(super) const GREETING: &str = concat!("potluck ", env!("CARGO_PKG_VERSION"), "; help lists the commands");

/// What `quit`, and the end of the input, do on a console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Quit {
    /// End the node: it was started here.
    EndsNode,
    /// Detach the console: it was attached to a node that runs.
    Detaches,
    /// Nothing: the terminal belongs to the node.
    Refused,
}

/// Where lines come from.
pub(super) enum Source {
    /// Standard input.
    Lines(Receiver<lines::Line>),
    /// A terminal that is edited on.
    Tty(Rc<Tty>),
}

/// A console.
pub(super) struct Session {
    pub(super) host: Rc<Host>,
    pub(super) seat: Seat,
    pub(super) speaker: Speaker,
    /// Whether programs talk here.
    pub(super) form: Form,
    /// What `quit` and the end of the input do.
    quit: Quit,
    pub(super) settings: Settings,
    /// Which lines of the log are told unasked.
    pub(super) level: Level,
    /// Its prompts and conversations.
    pub(super) desk: Desk<Asking>,
    /// What was read while that was full.
    backlog: Backlog,
    /// A prompt of several lines that has begun.
    block: Option<Block>,
    /// Whether what models are told was said for this run or on this console, not by a file for all.
    pub(super) is_told: bool,
    /// How what becomes of a reset is said.
    pub(super) reset_form: Form,
}

#[expect(clippy::large_enum_variant, reason = "an answer's figures stand in it; few wait at a time, and their number is bounded")]
enum Happening {
    Line(lines::Line),
    Dropped(Dropped, u64),
    Interrupt,
    Ended,
    Heard(Heard),
}

impl Session {
    pub(super) fn new(host: Rc<Host>, mut speaker: Speaker, quit: Quit) -> (Session, Receiver<Heard>) {
        let (seat, heard) = host.sit();
        let level = match host.settled.config.log.level {
            LogLevel::Error => Level::Error,
            LogLevel::Warn => Level::Warn,
            LogLevel::Info => Level::Info,
        };
        let (form, settings) = (speaker.form, host.settings.clone());
        speaker.place = host.settled.place();
        speaker.may(May { quit: quit != Quit::Refused, power: host.settled.config.console.power });
        let is_told = host.settled.config.origin(config::key("answers", "system")) == Origin::Option;
        let session = Session {
            host,
            seat,
            speaker,
            form,
            quit,
            settings,
            level,
            desk: Desk::default(),
            backlog: Backlog::default(),
            block: None,
            is_told,
            reset_form: form,
        };
        (session, heard)
    }

    /// Whether `quit` does anything here.
    pub(super) fn may_quit(&self) -> bool {
        self.quit != Quit::Refused
    }

    /// Which of the commands may be used here.
    pub(super) fn may(&self) -> May {
        May { quit: self.may_quit(), power: self.host.settled.config.console.power }
    }

    /// Says what went wrong before this console was there, and how far the node has come; first, where the node
    /// was not started, who is there and what is wrong with the settings.
    pub(super) fn greet(&mut self) {
        if self.quit != Quit::EndsNode {
            self.speaker.note('·', GREETING);
            let problems = self.host.settled.problems.clone();
            problems.iter().for_each(|problem| self.speaker.note('!', problem));
        }
        if let sharing @ Sharing::Shut(_) = self.host.settled.sharing() {
            sharing.warning().iter().for_each(|warning| self.speaker.note('!', warning));
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
        let chat = running.form.is_chat_model();
        let lan = running.driver.lan();
        let address = lan.interfaces.iter().find(|interface| interface.is_used()).and_then(Interface::address);
        let at = address.filter(|ip| !ip.is_loopback()).map_or(String::new(), |ip| format!("; its address is {ip}"));
        let pace = running.paced.as_ref().map(|paced| paced.pace().name());
        self.speaker.pace = pace.map(Rc::from);
        let event = Event::Ready { node: *node, model, chat, fingerprint: *fingerprint, tcp_port: *tcp_port, pace };
        let who = running.name.as_ref().map_or(format!("node {node}"), |name| format!("{name} (node {node})"));
        let kind = match (chat, self.settings.raw) {
            (true, false) => "a chat model: what you type is a conversation",
            (true, true) => "a chat model, told to complete what you type as it stands",
            (false, _) => "a base model: it completes what you type; chat TEXT talks with it",
        };
        self.speaker.say(&event, '·', &format!("{who} is ready with {model}, {kind}; help lists the commands{at}"));
        self.host.served().iter().for_each(|words| self.speaker.note('·', words));
    }

    /// Talks until the input ends or a person leaves; fails when the output cannot be written.
    pub(super) async fn serve(&mut self, source: Option<Source>, heard: Receiver<Heard>) -> Result<(), Fail> {
        let mut source = source;
        // At the end of the input, and of a program's or a pipe's by quit, the prompts that wait are answered. A person who quits leaves.
        let mut ending = false;
        while !(ending && self.desk.open() == 0 && self.backlog.is_empty()) {
            if source.is_some() && self.desk.open() == 0 {
                self.speaker.invite();
            }
            let waiting = if self.desk.is_full() { None } else { self.backlog.pop() };
            let happening = match waiting {
                Some(line) => Happening::Line(line),
                None => self.next(&source, &heard).await,
            };
            match happening {
                // An unplugged or detached terminal: whoever comes back has not asked.
                Happening::Ended if self.quit != Quit::EndsNode && matches!(source, Some(Source::Tty(_))) => return Ok(()),
                Happening::Ended => {
                    source = None;
                    ending = true;
                    if self.block.take().is_some() {
                        self.speaker.error(&BlockError::Open.to_string());
                    }
                }
                Happening::Interrupt => self.interrupt(),
                Happening::Dropped(what, count) => self.tell_dropped(&source, what, count),
                Happening::Line(line) => {
                    let line = self.unless_pasted(&source, line).await;
                    if self.take(line) {
                        if self.speaker.is_typed() {
                            self.stop();
                        }
                        self.backlog.clear();
                        source = None;
                        ending = true;
                    }
                }
                Happening::Heard(Heard::Ending) => {
                    self.stop();
                    ending |= self.may_quit();
                    source = source.filter(|_| !self.may_quit());
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
                // Piped in, lines wait in the pipe while many do, or nobody reads what is answered.
                Some(Source::Lines(_)) if self.backlog.is_full() => future::pending().await,
                Some(Source::Lines(lines)) => {
                    self.speaker.has_room().await;
                    lines.recv().await.map_or(Happening::Ended, Happening::Line)
                }
                Some(Source::Tty(tty)) => match tty.typed().await {
                    Ok(Typed::Line(line)) => Happening::Line(Ok(line)),
                    Ok(Typed::Dropped(what, count)) => Happening::Dropped(what, count),
                    Ok(Typed::TooLong) => Happening::Line(Err(BadLine::TooLong)),
                    Ok(Typed::NotUtf8) => Happening::Line(Err(BadLine::NotUtf8)),
                    Ok(Typed::Interrupt) => Happening::Interrupt,
                    Ok(Typed::End) if self.may_quit() => Happening::Ended,
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
            Heard::Note(..) | Heard::Ending => {}
            Heard::Reset(news) => {
                let before = std::mem::replace(&mut self.speaker.form, self.reset_form);
                let running = self.host.running().ok();
                let called = |node: NodeId| running.as_ref().map_or(node.to_string(), |running| running.driver.called(node));
                self.speaker.reset(&news, &called);
                self.speaker.form = before;
            }
            Heard::Ready | Heard::Broken => self.say_stage(),
            Heard::Reply(ask, reply) => {
                if let Some(answer) = self.speaker.reply(ask, &reply) {
                    let stop = if let Reply::Done(figures) = &reply { figures.stop } else { StopReason::Stopped };
                    self.answered(ask, answer, stop);
                }
            }
        }
    }

    /// The line, but for one that takes much away and did not come alone.
    async fn unless_pasted(&self, source: &Option<Source>, line: lines::Line) -> lines::Line {
        match (source, &line) {
            (Some(Source::Tty(tty)), Ok(text)) if self.block.is_none() && is_drastic(text) && !tty.is_alone().await => {
                Err(BadLine::Pasted)
            }
            _ => line,
        }
    }

    /// Deals with a line; true when it says to leave. While as many prompts are due as may be, those of a pipe wait, but for what need
    /// not.
    fn take(&mut self, line: lines::Line) -> bool {
        if self.desk.is_full() && !self.speaker.is_typed() {
            match self.urgent(&line) {
                None => {
                    self.backlog.push(line);
                    return false;
                }
                Some(Command::Stop) => return self.stop_all(),
                Some(_) => {}
            }
        }
        self.dealt_with(line)
    }

    fn dealt_with(&mut self, line: lines::Line) -> bool {
        self.speaker.entered();
        let result = match line {
            Err(bad) => match &mut self.block {
                Some(block) => {
                    block.spoil(bad.remedy());
                    Ok(false)
                }
                None => Err(bad.remedy()),
            },
            Ok(line) if self.form == Form::Json => Ok(self.request(&line)),
            Ok(line) => self.line(&line),
        };
        result.unwrap_or_else(|reason| {
            self.speaker.error(&reason);
            false
        })
    }

    /// The command of a line that need not wait its turn.
    fn urgent(&self, line: &lines::Line) -> Option<Command> {
        let line = line.as_ref().ok()?;
        let command = match self.form {
            Form::Json => Session::requested(line)?,
            // It may be a line of a prompt that has begun.
            Form::Text if self.block.is_some() || self.backlog.holds_block() => return None,
            Form::Text => line.clone(),
        };
        let Line { command, bare, .. } = console::parse(&command).ok()??;
        Some(command).filter(|command| !bare && command.is_urgent())
    }

    /// Ends all that was asked before, what waits to be read included; true when one of its lines says to leave.
    fn stop_all(&mut self) -> bool {
        self.stop();
        let mut leaves = false;
        while let Some(line) = self.backlog.pop().filter(|_| !leaves) {
            leaves = self.dealt_with(line);
            self.stop();
        }
        leaves
    }

    /// Something came over a cable that no person typed.
    fn tell_dropped(&self, source: &Option<Source>, what: Dropped, count: u64) {
        let Some(Source::Tty(tty)) = source else { return };
        let (path, lines) = (tty.path().display(), if count == 1 { "line" } else { "lines" });
        let text = match what {
            Dropped::Probe => format!(
                "console {path}: a program at the other end looks for a modem (ModemManager does, and minicom without -o): {count} \
                 {lines} ignored"
            ),
            Dropped::Noise => format!(
                "console {path}: {count} {lines} of bytes that are no text ignored: is the other end set to 115200 bits a second, or to \
                 speed under [console] in potluck.toml?"
            ),
            Dropped::Echo => format!(
                "console {path}: {count} {lines} of the board's own came back and were ignored: open it with a terminal program such as \
                 picocom or PuTTY, or turn echo off there (stty raw -echo)"
            ),
        };
        self.host.note(Level::Info, &text);
    }

    fn interrupt(&mut self) {
        if self.block.take().is_some() {
            self.speaker.continues(false);
            return self.speaker.note('·', "the prompt that was begun is dropped");
        }
        if self.desk.open() > 0 {
            return self.stop();
        }
        let leave = if self.may_quit() { "quit or Ctrl-D leaves" } else { "reboot and poweroff end it" };
        self.speaker.note('·', &format!("nothing is being answered; {leave}, help lists the commands"));
    }

    /// Obeys a typed line; true when it says to leave.
    fn line(&mut self, line: &str) -> Result<bool, String> {
        let (line, is_plain) = match self.begun(line) {
            None => return Ok(false),
            Some(Begin::Prompt(line)) => (line.map_err(|error| error.to_string())?, false),
            Some(Begin::Plain) => match console::parse(line).map_err(|error| error.to_string())? {
                None => return Ok(false),
                Some(line) => (line, true),
            },
        };
        if let Line { command: Command::Ask(text), bare: true, .. } = &line
            && is_plain
            && let Some(meant) = slip(text)
        {
            if meant == "quit" && !self.may_quit() {
                return self.obey(Command::Quit);
            }
            return Err(format!(
                "no command is called {text}: did you mean {meant}? To have the model answer it, type ask {text}"
            ));
        }
        let before = self.speaker.form;
        if line.json {
            self.speaker.form = Form::Json;
        }
        let result = match line.command {
            Command::Ask(text) if line.bare => self.said(text).map(|()| false),
            command => self.obey(command),
        };
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
}

/// What a line is.
enum Begin {
    /// A prompt of one or several lines, or the end of one.
    Prompt(Result<Line, BlockError>),
    /// A line like any other.
    Plain,
}

impl Session {
    /// What a line is; none where it belongs to a prompt that goes on.
    fn begun(&mut self, line: &str) -> Option<Begin> {
        let begun = match self.block.take() {
            Some(mut block) => block.push(line).map_or_else(|| Begun::Open(block), Begun::Whole),
            None => match Block::begin(line) {
                // Lines that were pasted together are a prompt, whatever they are each.
                None if line.contains('\n') => Begun::Whole(Ok(console::prompt(line.to_string()))),
                None => return Some(Begin::Plain),
                Some(begun) => begun,
            },
        };
        let begun = match begun {
            Begun::Whole(line) => Some(Begin::Prompt(line)),
            Begun::Open(block) => {
                self.block = Some(block);
                None
            }
        };
        self.speaker.continues(begun.is_none());
        begun
    }
}

/// Whether a line takes so much away that a person must have typed it alone. A program says `--json`, and may be fast.
fn is_drastic(line: &str) -> bool {
    console::parse(line).is_ok_and(|line| line.is_some_and(|line| line.command.is_drastic() && !line.json))
}

impl Drop for Session {
    fn drop(&mut self) {
        self.host.rise(self.seat);
    }
}
