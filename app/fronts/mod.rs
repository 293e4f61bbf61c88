//! The user-facing side of a node: its consoles, on standard input or on configured terminals, each
//! with its own session; and the node's life with them, from start to end.
//!
//! A node may also have a Unix socket, through which `potluck console` attaches a terminal or
//! a pipe.
//!
//! Promises: no terminal can keep the node waiting. A missing, unplugged or slow terminal affects
//! only its own session, and is reopened when it is back.

mod attach;
mod backlog;
mod doctor;
mod event;
mod execute;
mod fail;
mod host;
mod http;
mod lines;
mod net;
mod node;
mod notify;
mod output_queue;
mod power;
mod printer;
mod prompts;
mod report;
mod request;
mod reset;
mod session;
mod socket;
mod suggest;
mod terminal;
mod tty;

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::FutureExt;

use crate::console::Level;

pub(crate) use attach::{AttachError, attach};
pub(crate) use doctor::{http_check, settings_checks, state_check, swarm_check};
pub(crate) use event::{ConfigReport, Event, FiguresReport, print_event};
pub(crate) use fail::Fail;
pub(crate) use net::without_node;
pub(crate) use node::{Console, Prepared, Terminal, for_good, run};
pub(crate) use output_queue::eprint_briefly;
pub(crate) use printer::{Form, Printer};
pub(crate) use reset::{Effect, listed};
pub(crate) use socket::USUAL as USUAL_SOCKET;
pub(crate) use terminal::{OutputError, eprint, print, print_line};

use host::{ExitReason, Host};
use lines::read_lines;
use output_queue::OutputQueue;
use session::{Quit, Session, Source};
use tty::Tty;

/// The wait before a terminal is opened again, at first and at most: short enough that a person who
/// plugs in a cable sees it work.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Time for the last output to reach its terminal or pipe before that closes, the process ends or
/// the board goes down.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs the console on standard input until the input ends or a person quits.
async fn on_stdin(host: Rc<Host>, form: Form) {
    let result = match Some(form)
        .filter(|form| *form == Form::Text && tty::is_usable())
        .map(|_| Tty::of_stdin())
    {
        Some(Ok(tty)) => on_tty(&host, Rc::new(tty), Quit::EndsNode).await,
        _ => on_streams(&host, form).await,
    };
    host.leave(result.map_or_else(ExitReason::Failed, |()| ExitReason::Quit));
}

async fn on_streams(host: &Rc<Host>, form: Form) -> Result<(), Fail> {
    let (mut session, heard) =
        Session::new(host.clone(), Printer::through(OutputQueue::start()?, form), Quit::EndsNode);
    session.greet();
    session.serve(Some(Source::Lines(read_lines()?)), heard).await
}

/// Runs no console, and only prints the node's messages to standard error.
async fn on_nothing(host: Rc<Host>) {
    let serve = async {
        let (mut session, heard) = Session::new(
            host.clone(),
            Printer::through(OutputQueue::start()?, Form::Text),
            Quit::EndsNode,
        );
        session.greet();
        session.serve(None, heard).await
    };
    if let Err(fail) = serve.await {
        host.leave(ExitReason::Failed(fail));
    }
}

async fn on_tty(host: &Rc<Host>, tty: Rc<Tty>, quit: Quit) -> Result<(), Fail> {
    let (mut session, heard) = Session::new(host.clone(), Printer::to_tty(tty.clone()), quit);
    session.greet();
    let gone = async {
        tty.show().await;
        Ok(())
    };
    let result = session.serve(Some(Source::Tty(tty.clone())), heard).or(gone).await;
    tty.show_last().await;
    result
}

/// Runs a console on a terminal of this machine, and reopens it whenever it comes back.
async fn on_terminal(host: Rc<Host>, Terminal { path, speed }: Terminal) {
    let (mut pause, mut said) = (FIRST_PAUSE, String::new());
    loop {
        match host.taking(|taken| Tty::cable(&path, speed, taken)) {
            Ok(tty) => {
                let start = Instant::now();
                said.clear();
                let device = tty.device();
                let result = on_tty(&host, Rc::new(tty), Quit::Refused).await;
                device.into_iter().for_each(|device| host.free(device));
                if let Err(fail) = result {
                    return host.leave(ExitReason::Failed(fail));
                }
                if start.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
                host.note(
                    Level::Info,
                    &format!(
                        "console {} is gone: it is opened again when it is back",
                        path.display()
                    ),
                );
            }
            Err(error) => {
                let line = if error.kind() == io::ErrorKind::NotFound {
                    format!(
                        "console {} is not there: it is opened as soon as it is",
                        path.display()
                    )
                } else {
                    format!("console {}: {error}; retrying", path.display())
                };
                if line != said {
                    host.note(Level::Warn, &line);
                    said = line;
                }
            }
        }
        Timer::after(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}
