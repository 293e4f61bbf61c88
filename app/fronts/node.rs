//! Runs a node of the swarm with its consoles, from start to end.
//!
//! A node with consoles on the board's terminals comes up despite any fault: the consoles start at
//! once while the model loads, and if there is no model they say so and what to do. On standard
//! input a person or a script is told why the node cannot run, and the program exits.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::future::{self, FutureExt};
use smol::{LocalExecutor, Timer};

use crate::console::{Level, Settings};
use crate::drive::{
    Driver, Engine, MachineId, NetError, NetSettings, Paced, Signals, Sockets, StateDir, heartbeat,
};
use crate::node::{Node, NodeConfig};
use crate::pace::Pace;
use crate::start::{EffectiveSettings, Loaded, NodeSettings, Sharing};
use crate::tokenizer::Tokenizer;

use super::LAST_WORDS;
use super::fail::Fail;
use super::host::{ExitReason, Host, Running};
use super::http::Server;
use super::notify::Manager;
use super::output_queue::eprint_briefly;
use super::printer::Form;
use super::socket::Socket;

/// How often to check whether answers are still pending at the end.
const BREATH: Duration = Duration::from_millis(50);
/// Time allowed for init to end this process once the board goes down.
const INIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Where prompts come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Console {
    /// Standard input, lines typed by a person or piped in.
    Text,
    /// Standard input, one JSON request a line.
    Json,
    /// None: the node only serves its peers until it is told to end.
    None,
    /// Terminals of this machine; the flag adds JSON on standard input.
    Terminals(Vec<Terminal>, bool),
}

/// A terminal of this machine that has a console.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Terminal {
    pub path: PathBuf,
    /// Bits a second of a serial line; none keeps the system's setting.
    pub speed: Option<u32>,
}

/// A loaded model with the configuration of its node.
pub(crate) struct Prepared {
    pub loaded: Loaded,
    pub node: NodeSettings,
    pub config: NodeConfig,
    /// Notes to log about it.
    pub notes: Vec<String>,
    /// The model file's name.
    pub model: String,
    /// Another machine's pace to simulate, for measurements.
    pub pace: Option<Pace>,
}

/// Runs a node until its console ends.
pub(crate) fn run(
    effective: EffectiveSettings,
    net: NetSettings,
    asking: Settings,
    console: Console,
    alive: Option<PathBuf>,
    load: impl FnOnce() -> Result<Prepared, Fail> + Send + 'static,
) -> Result<(), Fail> {
    let mut signals = Signals::new()?;
    let host = Rc::new(Host::new(effective, asking));
    let executor = Rc::new(LocalExecutor::new());
    // Runs without a model too: a watchdog must not reboot a board that is reporting a fault.
    if let Some(alive) = alive {
        let host = host.clone();
        executor.spawn(heartbeat::write(alive, heartbeat::INTERVAL, move || host.state())).detach();
    }
    let manager = Manager::of_environment().map(Rc::new);
    if let Some(manager) = &manager {
        executor.spawn(manager.clone().follow(host.clone())).detach();
    }
    let settings = &host.effective.config;
    let name = settings.node.name.as_ref().map(|name| name.as_str().to_string());
    let opened =
        future::block_on(Server::open(&settings.http, name.as_deref(), host.clone(), &executor));
    // A board logs the fault and continues; on a PC the program fails, because the person or script
    // asked for this.
    let server = match (opened, &console) {
        (Err(error), Console::Terminals(..)) => {
            host.note(Level::Warn, &error.to_string());
            None
        }
        (opened, _) => opened?,
    };
    if let Some(server) = server {
        host.serves(server.words());
        executor.spawn(server.serve()).detach();
    }
    let socket = match (Socket::open(&settings.console), &console) {
        (Err(error), Console::Terminals(..)) => {
            host.note(Level::Warn, &error.to_string());
            None
        }
        (opened, _) => opened?,
    };
    let _bound = socket.map(|(socket, bound)| {
        host.log.borrow_mut().push(
            Level::Info,
            &format!("consoles attach to {}", socket.path().display()),
            host.now(),
        );
        executor.spawn(socket.serve(host.clone(), executor.clone())).detach();
        bound
    });
    let mut swarm = Swarm { host: host.clone(), executor: executor.clone(), net };
    let driver = match console {
        Console::Terminals(terminals, json) => {
            for terminal in terminals {
                executor.spawn(super::on_terminal(host.clone(), terminal)).detach();
            }
            if json {
                executor.spawn(super::on_stdin(host.clone(), Form::Json)).detach();
            }
            let loading = executor
                .spawn(async move { swarm.bring_up_anyhow(smol::unblock(load).await).await });
            return future::block_on(executor.run(async {
                let leave = host.left().or(termination_requested(&host, &mut signals)).await;
                // Does not wait for a model that is still loading.
                let driver = if loading.is_finished() { loading.await } else { None };
                end(&host, driver, leave, &mut signals, manager).await
            }));
        }
        on_streams => {
            let prepared = load()?;
            if on_streams != Console::Json {
                eprint_briefly(
                    prepared.notes.iter().map(|line| format!("· {line}\n")).collect::<String>(),
                );
            }
            let sockets = future::block_on(swarm.sockets(&prepared))?;
            let driver = swarm.bring_up(prepared, sockets)?;
            match on_streams {
                Console::Json => executor.spawn(super::on_stdin(host.clone(), Form::Json)).detach(),
                Console::Text => executor.spawn(super::on_stdin(host.clone(), Form::Text)).detach(),
                _ => executor.spawn(super::on_nothing(host.clone())).detach(),
            }
            driver
        }
    };
    future::block_on(executor.run(async {
        let leave = host.left().or(termination_requested(&host, &mut signals)).await;
        end(&host, Some(driver), leave, &mut signals, manager).await
    }))
}

/// Waits for a signal, then gives the consoles up to [`LAST_WORDS`], or until the next signal, to
/// end their answers.
async fn termination_requested(host: &Host, signals: &mut Signals) -> ExitReason {
    signals.next().await;
    host.end();
    let again = async {
        signals.next().await;
        ExitReason::Quit
    };
    let said = async {
        let start = Instant::now();
        loop {
            let was_busy = host.is_busy();
            Timer::after(BREATH).await;
            if !(was_busy || host.is_busy()) || start.elapsed() > LAST_WORDS {
                return ExitReason::Quit;
            }
        }
    };
    host.left().or(again).or(said).await
}

/// Leaves the swarm, however the node ends, then reboots or switches off the board if asked to.
async fn end(
    host: &Host,
    driver: Option<Rc<Driver>>,
    leave: ExitReason,
    signals: &mut Signals,
    manager: Option<Rc<Manager>>,
) -> Result<(), Fail> {
    manager.iter().for_each(|manager| manager.stops());
    if let Some(driver) = driver {
        driver.farewell().await;
    }
    match leave {
        ExitReason::Quit => Ok(()),
        ExitReason::Failed(fail) => Err(fail),
        ExitReason::Power(power) => {
            Timer::after(LAST_WORDS).await;
            if let Err(error) = smol::unblock(move || power.execute()).await {
                host.note(Level::Error, &error.to_string());
                Timer::after(LAST_WORDS).await;
                return Err(error.into());
            }
            let ended = async {
                signals.next().await;
            };
            let late = async {
                Timer::after(INIT_TIMEOUT).await;
            };
            ended.or(late).await;
            Ok(())
        }
    }
}

/// Brings a node up.
struct Swarm {
    host: Rc<Host>,
    executor: Rc<LocalExecutor<'static>>,
    net: NetSettings,
}

impl Swarm {
    /// Brings a node up, or tells the consoles why it cannot.
    async fn bring_up_anyhow(&mut self, prepared: Result<Prepared, Fail>) -> Option<Rc<Driver>> {
        let brought = match prepared {
            Ok(prepared) => {
                let sockets = self.sockets_anyhow(&prepared).await;
                self.bring_up(prepared, sockets)
            }
            Err(fail) => Err(fail),
        };
        brought.map_err(|fail| self.host.broken(fail.to_string())).ok()
    }

    /// Opens the sockets, if the node shares. If the configured ones fail, lets the system choose;
    /// if that fails too, the node works alone.
    async fn sockets_anyhow(&mut self, prepared: &Prepared) -> Option<Sockets> {
        for _ in 0..2 {
            match self.sockets(prepared).await {
                Ok(sockets) => return sockets,
                Err(error) => {
                    self.host.note(Level::Warn, &format!("{error}. The system chooses instead"))
                }
            }
            self.net.leave_to_the_system();
        }
        self.host.note(
            Level::Warn,
            "nothing is shared with other nodes until the network settings are fixed",
        );
        None
    }

    async fn sockets(&self, prepared: &Prepared) -> Result<Option<Sockets>, NetError> {
        if !prepared.node.sharing {
            return Ok(None);
        }
        Sockets::open(&self.net).await.map(Some)
    }

    /// Brings a node up.
    fn bring_up(&self, prepared: Prepared, sockets: Option<Sockets>) -> Result<Rc<Driver>, Fail> {
        let Prepared { loaded, node, mut config, notes, model: name, pace } = prepared;
        let most_context = loaded.most_context();
        let Loaded {
            model, tokenizer, form, notes: doubts, fingerprint, unread, files, cpu, ..
        } = loaded;
        notes.iter().for_each(|line| self.host.note(Level::Info, line));
        doubts.iter().for_each(|line| self.host.note(Level::Warn, line));
        if let Some(pace) = &pace {
            self.host.note(Level::Warn, &paced_warning(pace));
        }
        let sharing = self.host.effective.sharing();
        if let (Sharing::Open, Some(warning)) = (sharing, sharing.warning()) {
            self.host.note(Level::Warn, &warning);
        }
        match &sockets {
            Some(sockets) => config.tcp_port = sockets.tcp_port,
            None => config.sharing = false,
        }
        let state = node.state.as_deref().map(StateDir::at);
        let machine = MachineId::of(Path::new("/"));
        if let Some(state) = &state {
            let (epochs, complaint) = state.load();
            config.epochs = epochs;
            complaint.iter().for_each(|complaint| self.host.note(Level::Warn, complaint));
            if node.id.is_none() {
                let (id, complaint) = state.node(config.node, machine.as_ref());
                config.node = id;
                complaint.iter().for_each(|complaint| self.host.note(Level::Warn, complaint));
            }
        }
        let (id, tcp_port, context) = (config.node, config.tcp_port, config.context);
        let paced = pace.map(|pace| Arc::new(Paced::new(pace)));
        let engine = Engine::start(model, cpu, paced.clone())?;
        let (driver, words) = Driver::new(Node::new(config)?, Instant::now(), engine, sockets);
        let driver = Rc::new(driver.with_state(state, machine));
        driver.read_model(node.lock.then_some(files), unread)?;
        driver.start(&self.executor);
        self.executor.spawn(self.host.clone().listen(words)).detach();
        self.host.ready(Running {
            driver: driver.clone(),
            tokenizer: for_good(tokenizer),
            form,
            name: node.name,
            node: id,
            model: name,
            fingerprint,
            tcp_port,
            context,
            most_context,
            paced,
        });
        Ok(driver)
    }
}

fn paced_warning(pace: &Pace) -> String {
    let kind = if pace.is_estimate() { "an estimate" } else { "measured" };
    format!(
        "PACED AS {} ({kind}): every job is made to take that machine's time. This is a measurement; leave --pace out to run at full speed",
        pace.name()
    )
}

/// A tokenizer for streaming answers. A process has one, which lives until the process ends.
pub(crate) fn for_good(tokenizer: Tokenizer) -> &'static Tokenizer {
    Box::leak(Box::new(tokenizer))
}
