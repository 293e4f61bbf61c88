//! What the consoles of one node share: the node, once there is one, the log, and who waits for which answer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use smol::channel::{Receiver, Sender, bounded};

use crate::answers::{Form, StopWatch};
use crate::console::{Level, Log, Settings, Told};
use crate::drive::{Driver, Mailbox, Paced, Weight, Word};
use crate::http::Meters;
use crate::id::{Fingerprint, Millis, NodeId, TokenId};
use crate::node::{Ask, AskId, Input, Reply, ResetNews};
use crate::start::Settled;
use crate::tokenizer::Tokenizer;

use super::fail::Fail;
use super::power::Power;
use super::tty::Tty;

/// The node that answers.
pub(crate) struct Running {
    pub driver: Rc<Driver>,
    /// Lives until the process ends, as the model does.
    pub tokenizer: &'static Tokenizer,
    /// How the model is talked to.
    pub form: Form,
    /// What people call it.
    pub name: Option<String>,
    pub node: NodeId,
    pub model: String,
    pub fingerprint: Fingerprint,
    pub tcp_port: u16,
    /// Tokens of the longest prompt and answer.
    pub context: usize,
    /// Tokens that it could have at most, with this model.
    pub most_context: usize,
    /// Whose times its answers take, where not this machine's.
    pub paced: Option<Arc<Paced>>,
}

/// How far the node has come.
#[derive(Clone)]
enum Stage {
    /// The model is being loaded.
    Loading,
    /// There is no model, and why.
    Broken(String),
    Running(Rc<Running>),
}

/// What a console hears.
#[expect(clippy::large_enum_variant, reason = "an answer's figures stand in it; few wait at a time, and their number is bounded")]
#[derive(Clone)]
pub(super) enum Heard {
    Reply(AskId, Reply),
    Reset(ResetNews),
    /// A line of the log, and how many were left out before it.
    Note(Level, String, u64),
    /// The node has come up.
    Ready,
    /// It cannot.
    Broken,
    /// The program was told to end: answers end where they are.
    Ending,
}

/// Why the node ends.
pub(crate) enum Leave {
    /// A person said so, or the input has ended.
    Quit,
    /// The output cannot be written, or the engine has failed.
    Failed(Fail),
    /// The board is to be started anew or switched off.
    Power(Power),
}

/// A console's name.
pub(super) type Seat = u64;

/// See the file's head.
pub(crate) struct Host {
    start: Instant,
    stage: RefCell<Stage>,
    pub(super) log: RefCell<Log>,
    /// Where HTTP is served, for a person.
    served: RefCell<Option<String>>,
    /// What is measured of the answers, for `/metrics`.
    pub(super) meters: Meters,
    seats: RefCell<BTreeMap<Seat, Mailbox<Heard>>>,
    /// Which console waits for which prompt, and what it calls it.
    asks: RefCell<BTreeMap<u64, (Seat, AskId)>>,
    next: Cell<u64>,
    /// The console that asked for the latest reset.
    resetting: Cell<Option<Seat>>,
    pub(super) settled: Settled,
    /// How answers are made on a console that has set nothing.
    pub(super) settings: Settings,
    /// Terminals that have a console, by the numbers of their devices.
    terminals: RefCell<Vec<u64>>,
    leave: (Sender<Leave>, Receiver<Leave>),
}

impl Host {
    pub(crate) fn new(settled: Settled, settings: Settings) -> Host {
        Host {
            start: Instant::now(),
            stage: RefCell::new(Stage::Loading),
            log: RefCell::default(),
            served: RefCell::default(),
            meters: Meters::default(),
            seats: RefCell::default(),
            asks: RefCell::default(),
            next: Cell::new(1),
            resetting: Cell::new(None),
            settled,
            settings,
            terminals: RefCell::default(),
            leave: bounded(1),
        }
    }

    /// HTTP is served where these words say.
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
                Err(format!("the model is still being loaded, for {seconds} s now: a line here will say when it is ready"))
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

    /// The node has come up.
    pub(crate) fn ready(&self, running: Running) {
        *self.stage.borrow_mut() = Stage::Running(Rc::new(running));
        self.tell(|_| Some(Heard::Ready));
    }

    /// It cannot.
    pub(crate) fn broken(&self, reason: String) {
        let reason = self.settled.place().words(&reason).into_owned();
        let said = ["no model: ", "no model is named: "].iter().find_map(|words| reason.strip_prefix(words));
        let reason = said.map_or_else(|| reason.clone(), str::to_string);
        self.log.borrow_mut().push(Level::Error, &format!("no model: {reason}"), self.now());
        *self.stage.borrow_mut() = Stage::Broken(reason);
        self.tell(|_| Some(Heard::Broken));
    }

    /// Whether it takes prompts, in a word for scripts.
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

    /// A place for one more console.
    pub(super) fn sit(&self) -> (Seat, Receiver<Heard>) {
        let seat = self.next();
        let (mailbox, heard) = Mailbox::new();
        self.seats.borrow_mut().insert(seat, mailbox);
        (seat, heard)
    }

    /// A console is no more: nobody waits for its answers.
    pub(super) fn rise(&self, seat: Seat) {
        self.seats.borrow_mut().remove(&seat);
        self.stop(seat);
    }

    /// Opens a terminal that has no console yet: two on one would each get half of what is typed.
    pub(super) fn taking(&self, open: impl FnOnce(&[u64]) -> io::Result<Tty>) -> io::Result<Tty> {
        let tty = open(&self.terminals.borrow())?;
        self.terminals.borrow_mut().extend(tty.device());
        Ok(tty)
    }

    /// A terminal has lost its console.
    pub(super) fn free(&self, device: u64) {
        self.terminals.borrow_mut().retain(|other| *other != device);
    }

    /// Asks for a console, which calls the prompt `id`. Gives the microseconds until the node knew what to do, unless it has others to
    /// answer first.
    pub(super) fn ask(
        &self,
        running: &Running,
        seat: Seat,
        id: AskId,
        tokens: Vec<TokenId>,
        how: Settings,
        private: bool,
    ) -> Option<u64> {
        let (name, was_busy) = (self.next(), self.is_busy());
        self.asks.borrow_mut().insert(name, (seat, id));
        let Settings { max_tokens, sampling, stop, .. } = how;
        let watch = StopWatch::over(running.tokenizer, &stop);
        let start = Instant::now();
        running.driver.handle(Input::Ask(Ask { id: AskId(name), tokens, max_tokens, sampling, private, watch }));
        (!was_busy).then(|| start.elapsed().as_micros() as u64)
    }

    /// Ends all answers that a console waits for.
    pub(super) fn stop(&self, seat: Seat) {
        let Ok(running) = self.running() else { return };
        let mut own: Vec<u64> = self.asks.borrow().iter().filter(|(_, ask)| ask.0 == seat).map(|(name, _)| *name).collect();
        // Those that wait first, so that none of them begins.
        own.reverse();
        own.into_iter().for_each(|name| running.driver.handle(Input::Stop(AskId(name))));
    }

    /// Resets the swarm for a console.
    pub(super) fn reset(&self, running: &Running, seat: Seat, store: bool) {
        self.resetting.set(Some(seat));
        running.driver.handle(Input::Reset { store });
    }

    /// Ends the node.
    pub(super) fn leave(&self, why: Leave) {
        let _ = self.leave.0.try_send(why);
    }

    /// The program was told to end: every console ends its answers where they are, and says so to whoever waits for them.
    pub(crate) fn end(&self) {
        self.tell(|_| Some(Heard::Ending));
    }

    /// Whether an answer is under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.asks.borrow().is_empty()
    }

    /// Why it ends, when it does.
    pub(crate) async fn left(&self) -> Leave {
        self.leave.1.recv().await.unwrap_or(Leave::Quit)
    }

    /// A line for the log, told where the level says so.
    pub(crate) fn note(&self, level: Level, text: &str) {
        let text = &*self.settled.place().words(text);
        let told = self.log.borrow_mut().push(level, text, self.now());
        if let Told::Line { left_out } = told {
            self.tell(|_| Some(Heard::Note(level, text.to_string(), left_out)));
        }
    }

    /// Passes on what the node says, until it says nothing more.
    pub(crate) async fn listen(self: Rc<Self>, words: Receiver<Word>) {
        while let Ok(word) = words.recv().await {
            match word {
                Word::Note(level, text) => self.note(level, &text),
                Word::Reboot => self.leave(Leave::Power(Power::Reboot)),
                Word::EngineEnded => self.leave(Leave::Failed(Fail::Engine)),
                Word::ModelChanged => self.leave(Leave::Failed(Fail::ModelChanged)),
                Word::Reset(news) => {
                    let asker = self.resetting.get().filter(|seat| self.seats.borrow().contains_key(seat));
                    self.tell(|seat| (asker.is_none() || asker == Some(seat)).then(|| Heard::Reset(news.clone())));
                }
                Word::Reply(AskId(name), reply) => {
                    if let Reply::Done(figures) = &reply {
                        self.meters.observe(figures, self.now());
                    }
                    let ended = !matches!(reply, Reply::Token(_) | Reply::Progress(_));
                    let waits = if ended { self.asks.borrow_mut().remove(&name) } else { self.asks.borrow().get(&name).copied() };
                    let Some((seat, id)) = waits else { continue };
                    if let Some(mailbox) = self.seats.borrow().get(&seat) {
                        let weight = if matches!(reply, Reply::Progress(_)) { Weight::Note } else { Weight::Answer };
                        mailbox.send(Heard::Reply(id, reply), weight);
                    }
                }
            }
        }
    }

    fn tell(&self, what: impl Fn(Seat) -> Option<Heard>) {
        for (seat, mailbox) in &*self.seats.borrow() {
            match what(*seat) {
                None => {}
                Some(Heard::Note(level, text, left_out)) => {
                    mailbox.send(Heard::Note(level, text, left_out + mailbox.dropped()), Weight::Note);
                }
                Some(heard) => mailbox.send(heard, Weight::Answer),
            }
        }
    }

    fn next(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }
}
