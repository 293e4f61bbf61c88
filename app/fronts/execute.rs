//! Executes the commands of a console.

use crate::answers::Wanted;
use crate::console::{self, Command, LogRequest, Settings};
use crate::drive::{PaceStats, Paced};
use crate::id::TokenId;
use crate::limits::{BENCH_DECODE_TOKENS, BENCH_PREFILL_TOKENS};
use crate::machine::memory;
use crate::sampler::Sampling;
use crate::start::Sharing;

use super::doctor;
use super::event::{Event, PaceReport, SwarmReport};
use super::host::ExitReason;
use super::net;
use super::power::{Power, PowerError};
use super::printer::Form;
use super::session::Session;

const VERSION: &str = concat!("potluck ", env!("CARGO_PKG_VERSION"));

impl Session {
    /// Executes a command; true if it quits.
    pub(super) fn execute(&mut self, command: Command) -> Result<bool, String> {
        match command {
            Command::Ask(text) => {
                let wanted = self.single(text, None)?;
                self.want(None, wanted, self.settings.clone())?;
            }
            Command::Raw(text) => {
                self.want(None, Wanted::Completion(text), self.settings.clone())?
            }
            Command::Chat(text) => {
                let wanted = Wanted::Turn { name: String::new(), text };
                self.want(None, wanted, self.settings.clone())?;
            }
            Command::System(text) => self.system(text)?,
            Command::New => {
                self.queue.forget("");
                self.done("new", "a new conversation");
            }
            Command::Stop => {
                if self.queue.open() == 0 {
                    return Err("nothing is being answered: there is nothing to stop".to_string());
                }
                self.stop();
                if self.printer.form == Form::Json && self.form == Form::Text {
                    self.done("stop", "");
                }
            }
            Command::Set { name, value } => self.set(name, value)?,
            Command::Status
            | Command::Peers
            | Command::Catalog
            | Command::Slab
            | Command::Stats => self.show(&command)?,
            Command::Net => self.net()?,
            Command::Doctor => {
                let report = doctor::report(&self.host);
                self.printer.print(&Event::Doctor { doctor: &report }, &report.text());
            }
            Command::Bench => self.bench()?,
            Command::Config => {
                let report = self.host.effective.report();
                self.printer.print(&Event::Config { config: &report }, &report.table());
            }
            Command::ConfigCheck => self.config_check()?,
            Command::ConfigPath => {
                let report = self.host.effective.report();
                let text =
                    report.path.clone().unwrap_or_else(|| "no settings file is in use".to_string());
                self.printer.print(&Event::Config { config: &report }, &text);
            }
            Command::Log(request) => self.log(request),
            Command::Reset { store } => {
                let running = self.host.running()?;
                self.reset_form = self.printer.form;
                self.host.reset(&running, self.console, store);
            }
            Command::Reboot => self.power(Power::Reboot)?,
            Command::Poweroff => self.power(Power::Off)?,
            Command::Help(None) => {
                let help = console::help(self.permissions());
                self.printer.print(&Event::Help { help: &help }, &help);
            }
            Command::Help(Some(word)) if word == "quit" && !self.may_quit() => {
                return self.execute(Command::Quit);
            }
            Command::Help(Some(word)) => {
                let help = console::help_for(&word).ok_or_else(|| {
                    format!("there is no command {}: help lists them all", console::harmless(&word))
                })?;
                self.printer.print(&Event::Help { help: &help }, &help);
            }
            Command::Version => {
                self.printer.print(&Event::Version { version: env!("CARGO_PKG_VERSION") }, VERSION)
            }
            Command::Quit if self.may_quit() => return Ok(true),
            Command::Quit => {
                return Err(
                    "this console belongs to the node and stays: reboot and poweroff end the node"
                        .to_string(),
                );
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
        self.printer.print(&Event::Settings { settings: &self.settings }, &text);
        Ok(())
    }

    /// Shows or changes the system text.
    fn system(&mut self, text: Option<String>) -> Result<(), String> {
        let Some(text) = text else {
            let text =
                self.settings.system.clone().unwrap_or_else(|| "no system text is set".to_string());
            self.printer.print(&Event::Settings { settings: &self.settings }, &text);
            return Ok(());
        };
        let text = Some(text).filter(|text| text != "off");
        if text.is_some() {
            self.host.running()?.form.takes_system().map_err(|error| error.to_string())?;
        }
        self.settings.system = console::system(text)?;
        self.queue.forget("");
        self.has_system_text = self.settings.system.is_some();
        let completes = self.settings.raw
            || self.host.running().is_ok_and(|running| !running.form.is_chat_model());
        let told = match (self.has_system_text, completes) {
            (true, true) => {
                "the system text is set, for chat TEXT: other lines are completed as they stand"
            }
            (true, false) => "the system text is set",
            (false, _) => "there is no system text now",
        };
        self.done("system", &format!("{told}; a new conversation begins"));
        Ok(())
    }

    fn show(&mut self, command: &Command) -> Result<(), String> {
        let running = self.host.running()?;
        let status = running.driver.status();
        let interfaces = running.driver.lan().interfaces;
        let (peers, catalog, slab) = (status.peers.as_slice(), &status.catalog, &status.cache);
        let (event, text) = match command {
            Command::Peers => (Event::Peers { peers }, status.peer_table()),
            Command::Catalog => (
                Event::Catalog { generation: status.generation, told: status.told, catalog, peers },
                status.catalog_table(),
            ),
            Command::Slab => (Event::Slab { slab }, status.slab_table()),
            Command::Stats => {
                (Event::Stats { node: &status.node_stats, slab, catalog }, status.counters())
            }
            _ => {
                let seconds = self.host.now().0 / 1_000;
                let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
                let sharing = self.host.effective.sharing();
                let name = running.name.as_deref().unwrap_or("not set");
                let pace = running.paced.as_deref().map(pace_report);
                let shout = pace.as_ref().map_or(String::new(), pace_line);
                let address = net::address(&interfaces);
                let text = format!(
                    "{shout}name     {name}\naddress  {address}\nfile     {}\nup       {hours}:{minutes:02}:{:02}\nswarm    {}: {sharing}\n{}{}",
                    running.model,
                    seconds % 60,
                    sharing.name(),
                    status.summary(),
                    memory::line()
                );
                (
                    Event::Status {
                        status: &status,
                        swarm: swarm_report(sharing),
                        interfaces: &interfaces,
                        pace,
                    },
                    text,
                )
            }
        };
        self.printer.print(&event, &text);
        Ok(())
    }

    fn net(&mut self) -> Result<(), String> {
        let running = self.host.running()?;
        let facts = net::facts(Some(&running), &self.host.effective);
        self.printer.print(&Event::Net { net: &facts, faults: &facts.faults() }, &facts.table());
        Ok(())
    }

    fn bench(&mut self) -> Result<(), String> {
        let running = self.host.running()?;
        let count = BENCH_PREFILL_TOKENS.min(running.context / 2).max(1);
        let vocabulary = running.tokenizer.vocab_size().max(1);
        // Any tokens will do; using the same ones makes runs comparable.
        let tokens = (1..=count).map(|at| TokenId((at * 7_919 % vocabulary) as u32)).collect();
        let max_tokens = BENCH_DECODE_TOKENS.min(running.context / 2).max(1);
        let settings = Settings {
            max_tokens,
            sampling: Sampling::GREEDY,
            stop: Vec::new(),
            ..self.settings.clone()
        };
        self.want(None, Wanted::Measurement(tokens), settings)
    }

    fn config_check(&mut self) -> Result<(), String> {
        let problems = self
            .host
            .effective
            .check()
            .ok_or("no settings file is in use: potluck run --config FILE names one")?;
        let mut report = self.host.effective.report();
        let path = report.path.clone().unwrap_or_default();
        let text = if problems.is_empty() {
            format!("{path}: good; changes take effect at the next start")
        } else {
            problems.join("\n")
        };
        report.problems = problems;
        self.printer.print(&Event::Config { config: &report }, &text);
        Ok(())
    }

    fn log(&mut self, request: LogRequest) {
        match request {
            LogRequest::SetLevel(level) => {
                self.level = level;
                self.done("log", &format!("this console prints {} and above", level.name()));
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
                    format!(
                        "{:>8}.{:03}  {:<5}  {}\n",
                        entry.at.0 / 1_000,
                        entry.at.0 % 1_000,
                        entry.level.name(),
                        entry.text
                    )
                };
                let text: String = entries.iter().map(line).collect();
                let text = if text.is_empty() { "the log is empty".to_string() } else { text };
                self.printer.print(&Event::Log { log: &entries }, &text);
            }
        }
    }

    fn power(&mut self, power: Power) -> Result<(), String> {
        if !self.host.effective.config.console.power {
            return Err(PowerError::Refused(power.name()).to_string());
        }
        power.command().map_err(|error| error.to_string())?;
        self.done(power.name(), "leaving the swarm");
        self.host.leave(ExitReason::Power(power));
        Ok(())
    }

    pub(super) fn done(&mut self, command: &str, text: &str) {
        self.printer.say(&Event::Ok { command }, '·', text);
    }
}

fn pace_report(paced: &Paced) -> PaceReport<'_> {
    let PaceStats { jobs, late, latest_us } = paced.stats();
    PaceReport {
        name: paced.pace().name(),
        estimate: paced.pace().is_estimate(),
        jobs,
        late,
        latest_us,
    }
}

fn pace_line(pace: &PaceReport<'_>) -> String {
    let PaceReport { name, jobs, late, .. } = pace;
    let kind = if pace.estimate { "an estimate" } else { "measured" };
    let most = pace.latest_us as f64 / 1e3;
    format!(
        "PACED    as {name}, {kind}: no time here is this machine's; {late} of {jobs} jobs took longer, by {most:.1} ms at most\n"
    )
}

fn swarm_report(sharing: Sharing<'_>) -> SwarmReport<'_> {
    let (old_keys, reason) = match sharing {
        Sharing::Locked { old_keys } => (old_keys, None),
        Sharing::Shut(reason) => (0, Some(reason)),
        Sharing::Alone | Sharing::Open => (0, None),
    };
    SwarmReport { sharing: sharing.name(), old_keys, reason }
}
