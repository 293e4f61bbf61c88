//! State shared by the consoles of one node: the node, once it runs, the log, and which console
//! waits for which answer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use smol::channel::{Receiver, Sender, bounded};

use crate::answers::{Form, StopWatch};
use crate::console::{Level, Log, LogOutcome, Settings};
use crate::drive::{Driver, DriverEvent, Mailbox, Paced, Priority};
use crate::http::Meters;
use crate::id::{Fingerprint, Millis, NodeId, TokenId};
use crate::node::{Ask, AskId, Input, Reply, ResetNews};
use crate::start::EffectiveSettings;
use crate::tokenizer::Tokenizer;

use super::fail::Fail;
use super::power::Power;
use super::tty::Tty;

/// A running node.
pub(crate) struct Running {
    pub driver: Rc<Driver>,
    /// Lives until the process ends, like the model.
    pub tokenizer: &'static Tokenizer,
    /// How prompts are put to the model.
    pub form: Form,
    /// The node's name.
    pub name: Option<String>,
    pub node: NodeId,
    pub model: String,
    pub fingerprint: Fingerprint,
    pub tcp_port: u16,
    /// Most tokens of a prompt and its answer together.
    pub context: usize,
    /// The longest context that this model allows, in tokens.
    pub most_context: usize,
    /// The machine whose pace is simulated, if any.
    pub paced: Option<Arc<Paced>>,
}

/// The node's start-up stage.
#[derive(Clone)]
enum Stage {
    /// The model is being loaded.
    Loading,
    /// There is no model, and why.
    Broken(String),
    Running(Rc<Running>),
}

/// A message to a console.
#[expect(
    clippy::large_enum_variant,
    reason = "it holds an answer's figures; few wait at a time, and their number is bounded"
)]
#[derive(Clone)]
pub(super) enum ConsoleEvent {
    Reply(AskId, Reply),
    Reset(ResetNews),
    /// A line of the log, and how many were left out before it.
    Note(Level, String, u64),
    /// The node has come up.
    Ready,
    /// The node cannot come up.
    Broken,
    /// The program was told to end: running answers are cut short.
    Ending,
}

/// Why the node ends.
pub(crate) enum ExitReason {
    /// A person quit, or the input has ended.
    Quit,
    /// The output cannot be written, or the engine has failed.
    Failed(Fail),
    /// The board is to be rebooted or switched off.
    Power(Power),
}

/// Identifies a console.
pub(super) type ConsoleId = u64;

/// The shared state; see the module header.
pub(crate) struct Host {
    start: Instant,
    stage: RefCell<Stage>,
    pub(super) log: RefCell<Log>,
    /// Where HTTP is served, as text for a person.
    served: RefCell<Option<String>>,
    /// Measurements of answers, for `/metrics`.
    pub(super) meters: Meters,
    consoles: RefCell<BTreeMap<ConsoleId, Mailbox<ConsoleEvent>>>,
    /// The console that waits for each prompt, and its own id for it.
    asks: RefCell<BTreeMap<u64, (ConsoleId, AskId)>>,
    next: Cell<u64>,
    /// The console that asked for the latest reset.
    resetting: Cell<Option<ConsoleId>>,
    pub(super) effective: EffectiveSettings,
    /// The settings for answers of a console that has set nothing.
    pub(super) settings: Settings,
    /// Device numbers of the terminals that have a console.
    terminals: RefCell<Vec<u64>>,
    leave: (Sender<ExitReason>, Receiver<ExitReason>),
}

impl Host {
    pub(crate) fn new(effective: EffectiveSettings, settings: Settings) -> Host {
        Host {
            start: Instant::now(),
            stage: RefCell::new(Stage::Loading),
            log: RefCell::default(),
            served: RefCell::default(),
            meters: Meters::default(),
            consoles: RefCell::default(),
            asks: RefCell::default(),
            next: Cell::new(1),
            resetting: Cell::new(None),
            effective,
            settings,
            terminals: RefCell::default(),
            leave: bounded(1),
        }
    }

    /// Records where HTTP is served.
    pub(crate) fn serves(&self, words: String) {
        self.log.borrow_mut().push(Level::Info, &words, self.now());
        *self.served.borrow_mut() = Some(words);
    }

    /// Where HTTP is served.
    pub(super) fn served(&self) -> Option<String> {
        self.served.borrow().clone()
    }

    /// The node, or why there is none.
    pub(super) fn running(&self) -> Result<Rc<Running>, String> {
        match &*self.stage.borrow() {
            Stage::Running(running) => Ok(running.clone()),
            Stage::Loading => {
                let seconds = self.start.elapsed().as_secs();
                Err(format!(
                    "the model is still being loaded, for {seconds} s now: a line here will say when it is ready"
                ))
            }
            Stage::Broken(reason) => Err(format!("no model: {reason}")),
        }
    }

    /// Why there is no node and will be none.
    pub(super) fn fault(&self) -> Option<String> {
        match &*self.stage.borrow() {
            Stage::Broken(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    /// Sets the node, which has come up.
    pub(crate) fn ready(&self, running: Running) {
        *self.stage.borrow_mut() = Stage::Running(Rc::new(running));
        self.broadcast(|_| Some(ConsoleEvent::Ready));
    }

    /// Records why the node cannot come up.
    pub(crate) fn broken(&self, reason: String) {
        let reason = self.effective.place().words(&reason).into_owned();
        let said = ["no model: ", "no model is named: "]
            .iter()
            .find_map(|words| reason.strip_prefix(words));
        let reason = said.map_or_else(|| reason.clone(), str::to_string);
        self.log.borrow_mut().push(Level::Error, &format!("no model: {reason}"), self.now());
        *self.stage.borrow_mut() = Stage::Broken(reason);
        self.broadcast(|_| Some(ConsoleEvent::Broken));
    }

    /// The node's state, in one word for scripts.
    pub(crate) fn state(&self) -> &'static str {
        match &*self.stage.borrow() {
            Stage::Loading => "starting",
            Stage::Running(_) => "ready",
            Stage::Broken(_) => "broken",
        }
    }

    /// Time since the start.
    pub(super) fn now(&self) -> Millis {
        Millis(self.start.elapsed().as_millis() as u64)
    }

    /// Attaches a console.
    pub(super) fn attach(&self) -> (ConsoleId, Receiver<ConsoleEvent>) {
        let console = self.next();
        let (mailbox, events) = Mailbox::new();
        self.consoles.borrow_mut().insert(console, mailbox);
        (console, events)
    }

    /// Detaches a console and stops its answers.
    pub(super) fn detach(&self, console: ConsoleId) {
        self.consoles.borrow_mut().remove(&console);
        self.stop(console);
    }

    /// Opens a terminal that has no console yet: two consoles on one terminal would each get half
    /// of the input.
    pub(super) fn taking(&self, open: impl FnOnce(&[u64]) -> io::Result<Tty>) -> io::Result<Tty> {
        let tty = open(&self.terminals.borrow())?;
        self.terminals.borrow_mut().extend(tty.device());
        Ok(tty)
    }

    /// Marks a terminal as having no console.
    pub(super) fn free(&self, device: u64) {
        self.terminals.borrow_mut().retain(|other| *other != device);
    }

    /// Submits a console's prompt, which the console calls `id`. Returns the microseconds until the
    /// node had its plan, or none if other prompts come first.
    pub(super) fn ask(
        &self,
        running: &Running,
        console: ConsoleId,
        id: AskId,
        tokens: Vec<TokenId>,
        how: Settings,
        private: bool,
    ) -> Option<u64> {
        let (name, was_busy) = (self.next(), self.is_busy());
        self.asks.borrow_mut().insert(name, (console, id));
        let Settings { max_tokens, sampling, stop, .. } = how;
        let watch = StopWatch::over(running.tokenizer, &stop);
        let start = Instant::now();
        running.driver.handle(Input::Ask(Ask {
            id: AskId(name),
            tokens,
            max_tokens,
            sampling,
            private,
            watch,
        }));
        (!was_busy).then(|| start.elapsed().as_micros() as u64)
    }

    /// Stops all answers that a console waits for.
    pub(super) fn stop(&self, console: ConsoleId) {
        let Ok(running) = self.running() else { return };
        let mut own: Vec<u64> = self
            .asks
            .borrow()
            .iter()
            .filter(|(_, ask)| ask.0 == console)
            .map(|(name, _)| *name)
            .collect();
        // Waiting prompts first, so that none of them begins.
        own.reverse();
        own.into_iter().for_each(|name| running.driver.handle(Input::Stop(AskId(name))));
    }

    /// Resets the swarm for a console.
    pub(super) fn reset(&self, running: &Running, console: ConsoleId, store: bool) {
        self.resetting.set(Some(console));
        running.driver.handle(Input::Reset { store });
    }

    /// Ends the node.
    pub(super) fn leave(&self, why: ExitReason) {
        let _ = self.leave.0.try_send(why);
    }

    /// Tells every console that the program ends: each cuts its answers short and tells
    /// their clients.
    pub(crate) fn end(&self) {
        self.broadcast(|_| Some(ConsoleEvent::Ending));
    }

    /// Whether a prompt is pending.
    pub(crate) fn is_busy(&self) -> bool {
        !self.asks.borrow().is_empty()
    }

    /// Waits for the node's end, and returns why.
    pub(crate) async fn left(&self) -> ExitReason {
        self.leave.1.recv().await.unwrap_or(ExitReason::Quit)
    }

    /// Logs a line, and sends it to the consoles unless too many came at once.
    pub(crate) fn note(&self, level: Level, text: &str) {
        let text = &*self.effective.place().words(text);
        let told = self.log.borrow_mut().push(level, text, self.now());
        if let LogOutcome::Line { left_out } = told {
            self.broadcast(|_| Some(ConsoleEvent::Note(level, text.to_string(), left_out)));
        }
    }

    /// Passes on the node's messages until its channel closes.
    pub(crate) async fn listen(self: Rc<Self>, events: Receiver<DriverEvent>) {
        while let Ok(event) = events.recv().await {
            match event {
                DriverEvent::Note(level, text) => self.note(level, &text),
                DriverEvent::Reboot => self.leave(ExitReason::Power(Power::Reboot)),
                DriverEvent::EngineEnded => self.leave(ExitReason::Failed(Fail::Engine)),
                DriverEvent::Changed(changed) => self.leave(ExitReason::Failed(changed.into())),
                DriverEvent::Reset(news) => {
                    let asker = self
                        .resetting
                        .get()
                        .filter(|console| self.consoles.borrow().contains_key(console));
                    self.broadcast(|console| {
                        (asker.is_none() || asker == Some(console))
                            .then(|| ConsoleEvent::Reset(news.clone()))
                    });
                }
                DriverEvent::Reply(AskId(name), reply) => {
                    if let Reply::Done(figures) = &reply {
                        self.meters.observe(figures, self.now());
                    }
                    let ended = !matches!(reply, Reply::Token(_) | Reply::Progress(_));
                    let waits = if ended {
                        self.asks.borrow_mut().remove(&name)
                    } else {
                        self.asks.borrow().get(&name).copied()
                    };
                    let Some((console, id)) = waits else { continue };
                    if let Some(mailbox) = self.consoles.borrow().get(&console) {
                        let priority = if matches!(reply, Reply::Progress(_)) {
                            Priority::Note
                        } else {
                            Priority::Answer
                        };
                        mailbox.send(ConsoleEvent::Reply(id, reply), priority);
                    }
                }
            }
        }
    }

    fn broadcast(&self, what: impl Fn(ConsoleId) -> Option<ConsoleEvent>) {
        for (console, mailbox) in &*self.consoles.borrow() {
            match what(*console) {
                None => {}
                Some(ConsoleEvent::Note(level, text, left_out)) => {
                    mailbox.send(
                        ConsoleEvent::Note(level, text, left_out + mailbox.dropped()),
                        Priority::Note,
                    );
                }
                Some(event) => mailbox.send(event, Priority::Answer),
            }
        }
    }

    fn next(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }
}
