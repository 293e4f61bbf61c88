//! One console: executes its lines, outputs what concerns it, and has its own conversation
//! and settings.

mod line;

use std::rc::Rc;

use smol::channel::Receiver;
use smol::future::{self, FutureExt};

use crate::answers::PromptQueue;
use crate::config::LogLevel;
use crate::config::{self, Origin};
use crate::console::{Block, BlockError, Dropped, Level, Permissions, Settings, Typed};
use crate::id::NodeId;
use crate::lan::Interface;
use crate::node::{Reply, StopReason};
use crate::start::Sharing;

use super::backlog::Backlog;
use super::event::Event;
use super::fail::Fail;
use super::host::{ConsoleEvent, ConsoleId, Host, Running};
use super::lines::{self, BadLine};
use super::printer::{Form, Printer};
use super::prompts::Asking;
use super::tty::Tty;

/// The greeting where a person may read it.
pub(super) const GREETING: &str =
    concat!("potluck ", env!("CARGO_PKG_VERSION"), "; help lists the commands");

/// What `quit` and the end of the input do on a console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Quit {
    /// End the node, which was started here.
    EndsNode,
    /// Detach the console, which was attached to a running node.
    Detaches,
    /// Nothing, because the terminal belongs to the node.
    Refused,
}

/// Where lines come from.
pub(super) enum Source {
    /// Plain lines: standard input, or a client of the console socket.
    Lines(Receiver<lines::Line>),
    /// A terminal with line editing.
    Tty(Rc<Tty>),
}

/// A console.
pub(super) struct Session {
    pub(super) host: Rc<Host>,
    pub(super) console: ConsoleId,
    pub(super) printer: Printer,
    /// Whether the input is for people or programs.
    pub(super) form: Form,
    /// What `quit` and the end of the input do.
    quit: Quit,
    pub(super) settings: Settings,
    /// Which log lines are printed unasked.
    pub(super) level: Level,
    /// Its prompts and conversations.
    pub(super) queue: PromptQueue<Asking>,
    /// Lines read while the queue was full.
    backlog: Backlog,
    /// An unfinished prompt of several lines.
    block: Option<Block>,
    /// Whether the system text was set for this run or on this console, rather than by a file.
    pub(super) has_system_text: bool,
    /// The form in which a reset's progress is reported.
    pub(super) reset_form: Form,
}

#[expect(
    clippy::large_enum_variant,
    reason = "it holds an answer's figures; few wait at a time, and their number is bounded"
)]
enum SessionEvent {
    Line(lines::Line),
    Dropped(Dropped, u64),
    Interrupt,
    Ended,
    Console(ConsoleEvent),
}

impl Session {
    pub(super) fn new(
        host: Rc<Host>,
        mut printer: Printer,
        quit: Quit,
    ) -> (Session, Receiver<ConsoleEvent>) {
        let (console, events) = host.attach();
        let level = match host.effective.config.log.level {
            LogLevel::Error => Level::Error,
            LogLevel::Warn => Level::Warn,
            LogLevel::Info => Level::Info,
        };
        let (form, settings) = (printer.form, host.settings.clone());
        printer.place = host.effective.place();
        printer.permissions(Permissions {
            quit: quit != Quit::Refused,
            power: host.effective.config.console.power,
        });
        let has_system_text =
            host.effective.config.origin(config::key("answers", "system")) == Origin::Option;
        let session = Session {
            host,
            console,
            printer,
            form,
            quit,
            settings,
            level,
            queue: PromptQueue::default(),
            backlog: Backlog::default(),
            block: None,
            has_system_text,
            reset_form: form,
        };
        (session, events)
    }

    /// Whether `quit` is allowed here.
    pub(super) fn may_quit(&self) -> bool {
        self.quit != Quit::Refused
    }

    /// Which commands are allowed here.
    pub(super) fn permissions(&self) -> Permissions {
        Permissions { quit: self.may_quit(), power: self.host.effective.config.console.power }
    }

    /// Reports earlier warnings and the node's stage. On a console that did not start the node,
    /// first greets and reports problems with the settings.
    pub(super) fn greet(&mut self) {
        if self.quit != Quit::EndsNode {
            self.printer.note('·', GREETING);
            let problems = self.host.effective.problems.clone();
            problems.iter().for_each(|problem| self.printer.note('!', problem));
        }
        if let sharing @ Sharing::Shut(_) = self.host.effective.sharing() {
            sharing.warning().iter().for_each(|warning| self.printer.note('!', warning));
        }
        let host = self.host.clone();
        let warnings = host.log.borrow();
        warnings
            .last(usize::MAX)
            .filter(|entry| entry.level == Level::Warn)
            .for_each(|entry| self.printer.note('!', &entry.text));
        self.say_stage();
    }

    /// Reports that the node runs, or why it does not. Says nothing while it is starting.
    fn say_stage(&mut self) {
        if let Some(reason) = self.host.fault() {
            return self.printer.error(&format!("no model: {reason}"));
        }
        let Ok(running) = self.host.running() else { return };
        let Running { node, model, fingerprint, tcp_port, .. } = &*running;
        let chat = running.form.is_chat_model();
        let lan = running.driver.lan();
        let address = lan
            .interfaces
            .iter()
            .find(|interface| interface.is_used())
            .and_then(Interface::address);
        let at = address
            .filter(|ip| !ip.is_loopback())
            .map_or(String::new(), |ip| format!("; its address is {ip}"));
        let pace = running.paced.as_ref().map(|paced| paced.pace().name());
        self.printer.pace = pace.map(Rc::from);
        let event = Event::Ready {
            node: *node,
            model,
            chat,
            fingerprint: *fingerprint,
            tcp_port: *tcp_port,
            pace,
        };
        let who = running
            .name
            .as_ref()
            .map_or(format!("node {node}"), |name| format!("{name} (node {node})"));
        let kind = match (chat, self.settings.raw) {
            (true, false) => "a chat model: what you type is a conversation",
            (true, true) => "a chat model, told to complete what you type as it stands",
            (false, _) => "a base model: it completes what you type; chat TEXT talks with it",
        };
        self.printer.say(
            &event,
            '·',
            &format!("{who} is ready with {model}, {kind}; help lists the commands{at}"),
        );
        self.host.served().iter().for_each(|words| self.printer.note('·', words));
    }

    /// Serves the console until the input ends or a person quits. Fails if the output cannot
    /// be written.
    pub(super) async fn serve(
        &mut self,
        source: Option<Source>,
        events: Receiver<ConsoleEvent>,
    ) -> Result<(), Fail> {
        let mut source = source;
        // At the end of the input, or when a program or pipe quits, pending prompts are still
        // answered. A person who quits stops them.
        let mut ending = false;
        while !(ending && self.queue.open() == 0 && self.backlog.is_empty()) {
            if source.is_some() && self.queue.open() == 0 {
                self.printer.invite();
            }
            let waiting = if self.queue.is_full() { None } else { self.backlog.pop() };
            let happening = match waiting {
                Some(line) => SessionEvent::Line(line),
                None => self.next(&source, &events).await,
            };
            match happening {
                // An unplugged or detached terminal: the next person to attach did not ask
                // these prompts.
                SessionEvent::Ended
                    if self.quit != Quit::EndsNode && matches!(source, Some(Source::Tty(_))) =>
                {
                    return Ok(());
                }
                SessionEvent::Ended => {
                    source = None;
                    ending = true;
                    if self.block.take().is_some() {
                        self.printer.error(&BlockError::Open.to_string());
                    }
                }
                SessionEvent::Interrupt => self.interrupt(),
                SessionEvent::Dropped(what, count) => self.tell_dropped(&source, what, count),
                SessionEvent::Line(line) => {
                    let line = self.unless_pasted(&source, line).await;
                    if self.take(line) {
                        if self.printer.is_typed() {
                            self.stop();
                        }
                        self.backlog.clear();
                        source = None;
                        ending = true;
                    }
                }
                SessionEvent::Console(ConsoleEvent::Ending) => {
                    self.stop();
                    ending |= self.may_quit();
                    source = source.filter(|_| !self.may_quit());
                }
                SessionEvent::Console(event) => self.handle(event),
            }
            self.printer.check()?;
        }
        self.printer.drained().await;
        Ok(self.printer.check()?)
    }

    async fn next(&self, source: &Option<Source>, events: &Receiver<ConsoleEvent>) -> SessionEvent {
        let line = async {
            match source {
                None => future::pending().await,
                // Lines wait in the pipe while the backlog is full or nobody reads the output.
                Some(Source::Lines(_)) if self.backlog.is_full() => future::pending().await,
                Some(Source::Lines(lines)) => {
                    self.printer.has_room().await;
                    lines.recv().await.map_or(SessionEvent::Ended, SessionEvent::Line)
                }
                Some(Source::Tty(tty)) => match tty.typed().await {
                    Ok(Typed::Line(line)) => SessionEvent::Line(Ok(line)),
                    Ok(Typed::Dropped(what, count)) => SessionEvent::Dropped(what, count),
                    Ok(Typed::TooLong) => SessionEvent::Line(Err(BadLine::TooLong)),
                    Ok(Typed::NotUtf8) => SessionEvent::Line(Err(BadLine::NotUtf8)),
                    Ok(Typed::Interrupt) => SessionEvent::Interrupt,
                    Ok(Typed::End) if self.may_quit() => SessionEvent::Ended,
                    Ok(Typed::End) => SessionEvent::Line(Ok(String::new())),
                    Err(_) => SessionEvent::Ended,
                },
            }
        };
        let events =
            async { events.recv().await.map_or(SessionEvent::Ended, SessionEvent::Console) };
        events.or(line).await
    }

    fn handle(&mut self, event: ConsoleEvent) {
        match event {
            ConsoleEvent::Note(level, text, left_out) if level <= self.level => {
                if left_out > 0 {
                    self.printer
                        .note('·', &format!("{left_out} lines were left out: log shows the last"));
                }
                self.printer.note(if level == Level::Info { '·' } else { '!' }, &text);
            }
            ConsoleEvent::Note(..) | ConsoleEvent::Ending => {}
            ConsoleEvent::Reset(news) => {
                let before = std::mem::replace(&mut self.printer.form, self.reset_form);
                let running = self.host.running().ok();
                let called = |node: NodeId| {
                    running.as_ref().map_or(node.to_string(), |running| running.driver.called(node))
                };
                self.printer.reset(&news, &called);
                self.printer.form = before;
            }
            ConsoleEvent::Ready | ConsoleEvent::Broken => self.say_stage(),
            ConsoleEvent::Reply(ask, reply) => {
                if let Some(answer) = self.printer.reply(ask, &reply) {
                    let stop = if let Reply::Done(figures) = &reply {
                        figures.stop
                    } else {
                        StopReason::Stopped
                    };
                    self.answered(ask, answer, stop);
                }
            }
        }
    }

    /// Logs that a cable carried input that no person typed.
    fn tell_dropped(&self, source: &Option<Source>, what: Dropped, count: u64) {
        let Some(Source::Tty(tty)) = source else { return };
        let (path, lines) = (tty.path().display(), if count == 1 { "line" } else { "lines" });
        let text = match what {
            Dropped::Probe => format!(
                "console {path}: a program at the other end looks for a modem (ModemManager does, and minicom without -o): {count} \
                 {lines} ignored"
            ),
            Dropped::Noise => format!(
                "console {path}: {count} {lines} of bytes that are not text ignored: is the other end set to 115200 bits a second, or to \
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
            self.printer.continues(false);
            return self.printer.note('·', "the unfinished prompt was dropped");
        }
        if self.queue.open() > 0 {
            return self.stop();
        }
        let leave =
            if self.may_quit() { "quit or Ctrl-D leaves" } else { "reboot and poweroff end it" };
        self.printer
            .note('·', &format!("nothing is being answered; {leave}, help lists the commands"));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.host.detach(self.console);
    }
}
