//! Reset over the air, as people and programs see it: what a node's console says of it, how its epoch comes to the card, and
//! `potluck reset`, which orders one from a computer that is no node.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smol::Timer;
use smol::future::{self, FutureExt};
use thiserror::Error;

use crate::catalog::{DatagramKey, Herald, HeraldConfig, HeraldNews};
use crate::console::Level;
use crate::id::{BootId, EpochState, Millis, NodeId};
use crate::limits::MAX_DATAGRAM_BYTES;
use crate::node::{Input, ResetNews, swarm_tag};

use super::console::{Event, Speaker};
use super::net::{CatalogSocket, NetSettings};
use super::setup::random;
use super::terminal::give_line;
use super::{Driver, Fail, Word, wake};

impl Driver {
    /// Saves what the node wants saved, away from the other tasks: a card may take a second.
    pub(super) async fn save_epochs(self: Rc<Self>) {
        let mut said = false;
        while let Ok(epochs) = self.epochs.1.recv().await {
            let result = match self.state.clone() {
                Some(state) => smol::unblock(move || state.save(epochs)).await.map_err(|error| error.to_string()),
                None => {
                    if !said {
                        said = true;
                        let line = "no --state directory: after a restart this node learns the swarm's epoch from its peers";
                        wake(&self.words, Word::Note(Level::Info, line.to_string()));
                    }
                    Ok(())
                }
            };
            self.handle(Input::Persisted { epochs, result });
        }
    }
}

impl Speaker {
    /// Says what becomes of a reset that this console asked for.
    pub(super) fn reset(&mut self, news: &ResetNews) {
        match news {
            ResetNews::Ordered { epochs, peers } => {
                let event = Event::Reset { epoch: epochs.epoch, store: epochs.epoch == epochs.store_epoch, peers: *peers };
                self.say(&event, '·', &format!("{}; {peers} peers are told", Effect(*epochs)));
            }
            ResetNews::Failed { reason } => {
                let reason = format!(
                    "no reset: the epoch cannot be saved here ({reason}). Free the card or reset from another console; nobody was told"
                );
                self.error(&reason);
            }
            ResetNews::Acknowledged { node } => {
                self.say(&Event::Acknowledged { node: *node }, '·', &format!("node {node} has acknowledged"));
            }
            ResetNews::Ended { acknowledged, missing } => {
                let known = acknowledged + missing.len();
                let text = match missing.as_slice() {
                    [] => format!("{acknowledged} of {known} peers known before the reset have acknowledged"),
                    _ => format!(
                        "{acknowledged} of {known} peers known before the reset have acknowledged; not {}: they follow when they hear \
                         this swarm again",
                        listed(missing)
                    ),
                };
                self.say(&Event::ResetEnded { acknowledged: *acknowledged, missing }, '·', &text);
            }
        }
    }
}

/// A reset in words.
struct Effect(EpochState);

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EpochState { epoch, store_epoch } = self.0;
        let blocks = if epoch == store_epoch { " and blocks" } else { "" };
        write!(f, "reset: peers{blocks} are forgotten, the swarm is at epoch {}", epoch.0)
    }
}

fn listed(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What `potluck reset` is told.
#[derive(Clone, Debug)]
pub(super) struct ResetSettings {
    pub swarm_key: Vec<u8>,
    pub store: bool,
    /// How long nodes are waited for.
    pub wait: Duration,
}

/// Why a reset did not reach everybody.
#[derive(Debug, Error)]
pub(super) enum ResetError {
    #[error("no multicast on {0} ({1}): give --interface this machine's address on the LAN of the nodes")]
    NoMulticast(std::net::Ipv4Addr, io::Error),
    #[error("nobody was reset: only nodes of another swarm were heard. Give the key that yours have with --swarm-key")]
    OtherSwarm,
    #[error(
        "nobody was reset: no node was heard in {0} s. Give --interface this machine's address on their LAN, and the --group and --port that they have"
    )]
    Nobody(u64),
    #[error(
        "{acknowledged} of {heard} nodes have acknowledged; not {missing}. They follow when they hear the others; if they do not, look at their consoles: a full card keeps a node from it"
    )]
    Missing { acknowledged: usize, heard: usize, missing: String },
}

/// Orders a reset, and says who has obeyed. Fails unless some node was heard, and every one that was has obeyed.
pub(super) fn reset(net: &NetSettings, settings: &ResetSettings) -> Result<(), Fail> {
    let socket = CatalogSocket::open(net)?;
    if let Err(error) = socket.join() {
        return Err(ResetError::NoMulticast(net.interface, error).into());
    }
    let key = settings.swarm_key.as_slice();
    let config = HeraldConfig {
        node: NodeId(random()),
        boot: BootId(random()),
        swarm: swarm_tag(key),
        key: DatagramKey::derive(key),
        store: settings.store,
    };
    let mut herald = Herald::new(config, Millis(0));
    future::block_on(talk(&mut herald, &socket, settings.wait));
    Ok(outcome(&herald, settings.wait)?)
}

async fn talk(herald: &mut Herald, socket: &CatalogSocket, wait: Duration) {
    let start = Instant::now();
    let mut buffer = [0; MAX_DATAGRAM_BYTES + 1];
    loop {
        let now = start.elapsed();
        while let Some(datagram) = herald.poll_datagram(Millis(now.as_millis() as u64)) {
            socket.send(&datagram).await;
        }
        while let Some(news) = herald.poll_news() {
            say(match news {
                HeraldNews::Ordered(epochs) => Effect(epochs).to_string(),
                HeraldNews::Acknowledged(node) => format!("node {node} has acknowledged"),
            });
        }
        if herald.is_done() || now >= wait {
            return;
        }
        // The clock's fraction of a millisecond is lost on the herald: a moment later it is due.
        let due = Duration::from_millis(herald.deadline().0 + 1).min(wait);
        let heard = async { socket.receive(&mut buffer).await.ok().map(|(len, _)| len) };
        let timer = async {
            Timer::at(start + due).await;
            None
        };
        if let Some(len) = heard.or(timer).await {
            // What is of no use is counted by the herald.
            let _ = herald.handle(&buffer[..len]);
        }
    }
}

fn outcome(herald: &Herald, wait: Duration) -> Result<(), ResetError> {
    let heard = herald.nodes().count();
    let missing: Vec<NodeId> = herald.nodes().filter(|(_, obeyed)| !obeyed).map(|(node, _)| node).collect();
    if heard == 0 {
        let strangers = herald.strangers() > 0;
        return Err(if strangers { ResetError::OtherSwarm } else { ResetError::Nobody(wait.as_secs()) });
    }
    let acknowledged = heard - missing.len();
    if !missing.is_empty() {
        return Err(ResetError::Missing { acknowledged, heard, missing: listed(&missing) });
    }
    say(format!("{acknowledged} of {heard} nodes have acknowledged"));
    Ok(())
}

/// A line for whoever runs the command. That nobody reads it does not stop a reset.
fn say(line: impl fmt::Display) {
    let _ = give_line(line);
}
