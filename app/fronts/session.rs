//! One console: its lines are obeyed, what concerns it is said, and it has a conversation and settings of its own.

use std::rc::Rc;

use smol::channel::Receiver;
use smol::future::{self, FutureExt};

use crate::answers::Desk;
use crate::config::LogLevel;
use crate::console::{self, Command, Level, Line, Settings, Typed};
use crate::id::NodeId;
use crate::node::{Reply, StopReason};
use crate::start::Sharing;

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
    /// Whether `quit` and the end of the input end the node.
    pub(super) may_quit: bool,
    pub(super) settings: Settings,
    /// Which lines of the log are told unasked.
    pub(super) level: Level,
    /// Its prompts and conversations.
    pub(super) desk: Desk<Asking>,
    /// How what becomes of a reset is said.
    pub(super) reset_form: Form,
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
        let session = Session { host, seat, speaker, form, may_quit, settings, level, desk: Desk::default(), reset_form: form };
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
        let event = Event::Ready { node: *node, model, chat, fingerprint: *fingerprint, tcp_port: *tcp_port };
        let who = running.name.as_ref().map_or(format!("node {node}"), |name| format!("{name} (node {node})"));
        let kind = match (chat, self.settings.raw) {
            (true, false) => "a chat model: what you type is a conversation",
            (true, true) => "a chat model, told to complete what you type as it stands",
            (false, _) => "a base model: it completes what you type; chat TEXT talks with it",
        };
        self.speaker.say(&event, '·', &format!("{who} is ready with {model}, {kind}; help lists the commands"));
    }

    /// Talks until the input ends or a person leaves; fails when the output cannot be written.
    pub(super) async fn serve(&mut self, source: Option<Source>, heard: Receiver<Heard>) -> Result<(), Fail> {
        let mut source = source;
        // At the end of the input, and of a program's or a pipe's by quit, the prompts that wait are answered. A person who quits leaves.
        let mut ending = false;
        while !(ending && self.desk.open() == 0) {
            if source.is_some() && self.desk.open() == 0 {
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
                        Ok(line) if self.form == Form::Json => Ok(self.request(&line)),
                        Ok(line) => self.line(&line),
                    };
                    match result {
                        Ok(false) => {}
                        Ok(true) => {
                            if self.speaker.is_typed() {
                                self.stop();
                            }
                            source = None;
                            ending = true;
                        }
                        Err(reason) => self.speaker.error(&reason),
                    }
                }
                Happening::Heard(Heard::Ending) => {
                    self.stop();
                    ending |= self.may_quit;
                    source = source.filter(|_| !self.may_quit);
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
                // Piped in, prompts wait in the pipe while many are due, or nobody reads what is answered.
                Some(Source::Lines(_)) if self.desk.is_full() => future::pending().await,
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

    fn interrupt(&mut self) {
        if self.desk.open() > 0 {
            return self.stop();
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

impl Drop for Session {
    fn drop(&mut self) {
        self.host.rise(self.seat);
    }
}
