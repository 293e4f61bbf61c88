//! What a node keeps across restarts. How far the swarm's resets have come is in the file `epoch`
//! of its state directory.
//!
//! ```text
//! potluck epoch 1           the format's version
//! epoch 7                   the epoch
//! store 5                   the latest epoch whose reset also dropped the blocks
//! check 97e35cc56a081d78    XXH3-64 of the three lines before, including line ends
//! ```
//!
//! The file `node` holds the node's id, drawn once, so that peers recognise a board after a
//! restart. It also names the machine, so that a copied card does not make two boards one node:
//!
//! ```text
//! potluck node 2
//! id 00000000000000a7
//! machine 9f86d081884c7d659a2feaa0c55ad015    see `machine`; "unknown" if nothing identifies it
//! check ...
//! ```
//!
//! A file of version 1 has no machine; it belongs to the machine that reads it.
//!
//! Promise: after a power loss at any moment the file holds either the state before or the state
//! after; once [`save`] has returned, the state after. So the text is written under another
//! name, synced and renamed, and then the directory is synced. If a file is damaged all the
//! same, that is reported and it counts as epoch 0: the node then learns the epoch from the
//! first peer that it hears.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::id::{Epoch, EpochState, NodeId};

use super::identity::MachineId;

const NAME: &str = "epoch";
const NEW_NAME: &str = "epoch.new";
const NODE_NAME: &str = "node";
const NEW_NODE_NAME: &str = "node.new";

/// Stands for a machine's mark if nothing identifies the machine.
const UNKNOWN: &str = "unknown";

/// Maximum size of a file, in bytes: a mark of 32 digits, two numbers of 16, and the words.
const MAX_BYTES: u64 = 128;

/// The steps of a save, so that a test can cut the power after each.
trait Storage {
    /// Reads at most `MAX_BYTES` + 1 bytes of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Creates a file with these bytes, or replaces it.
    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's bytes survive a power loss.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Renames a file, replacing any file of the new name.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Makes the names survive a power loss.
    fn sync_names(&mut self) -> io::Result<()>;
}

/// The state directory of a node.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    /// The directory at `path`, created if there is none. If it cannot be created, later operations
    /// in it report that.
    pub(crate) fn at(path: &Path) -> StateDir {
        let dir = StateDir(path.to_path_buf());
        if fs::create_dir_all(path).is_ok()
            && let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty())
        {
            let _ = File::open(parent).and_then(|parent| parent.sync_all());
        }
        dir
    }

    /// The saved state, and what is wrong with it, if anything.
    pub(crate) fn load(&self) -> (EpochState, Option<String>) {
        let (epochs, complaint) = load(self);
        (epochs, complaint.map(|complaint| format!("{}: {complaint}", self.0.join(NAME).display())))
    }

    /// The node's id as saved on this `machine`. The first time, if the file is damaged, or on
    /// another machine, it is `drawn`, which is then saved. Also returns what to report about it.
    pub(crate) fn node(
        &self,
        drawn: NodeId,
        machine: Option<&MachineId>,
    ) -> (NodeId, Option<String>) {
        let (node, complaint) = node(&mut self.clone(), drawn, machine);
        (
            node,
            complaint.map(|complaint| format!("{}: {complaint}", self.0.join(NODE_NAME).display())),
        )
    }

    /// Saves a changed id of the node.
    pub(crate) fn save_node(&self, node: NodeId, machine: Option<&MachineId>) -> io::Result<()> {
        replace(&mut self.clone(), NEW_NODE_NAME, NODE_NAME, &node_text(node, machine))
    }

    /// Saves the state. Takes as long as the card takes.
    pub(crate) fn save(&self, epochs: EpochState) -> io::Result<()> {
        save(&mut self.clone(), epochs)
    }
}

impl Storage for StateDir {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.0.join(name))?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        File::create(self.0.join(name))?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        File::options().write(true).open(self.0.join(name))?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn sync_names(&mut self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

fn save(storage: &mut impl Storage, epochs: EpochState) -> io::Result<()> {
    replace(storage, NEW_NAME, NAME, &text(epochs))
}

/// Replaces the content of the file `name` with `text`, through a temporary name.
fn replace(storage: &mut impl Storage, new_name: &str, name: &str, text: &str) -> io::Result<()> {
    storage.write(new_name, text.as_bytes())?;
    storage.sync(new_name)?;
    storage.rename(new_name, name)?;
    storage.sync_names()
}

fn node(
    storage: &mut impl Storage,
    drawn: NodeId,
    machine: Option<&MachineId>,
) -> (NodeId, Option<String>) {
    let (node, complaint) = match storage.read(NODE_NAME) {
        Ok(bytes) => match parse_node(&bytes) {
            Some((node, Some(on))) if machine.is_none_or(|machine| *machine == on) => {
                return (node, None);
            }
            Some((node, None)) if machine.is_none() => return (node, None),
            // From a build or a system that did not know its machine.
            Some((node, None)) => (node, None),
            Some((_, Some(_))) => (
                drawn,
                Some("from another machine (a copied card?): this node has a new id".to_string()),
            ),
            None => (drawn, Some("damaged: the node has a new id".to_string())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => (drawn, None),
        Err(error) => {
            return (drawn, Some(format!("cannot be read ({error}): the node has a new id")));
        }
    };
    match replace(storage, NEW_NODE_NAME, NODE_NAME, &node_text(node, machine)) {
        Ok(()) => (node, complaint),
        // The id is the old one. Failing to bind it to the machine does no harm as long as
        // the card stays.
        Err(_) if node != drawn => (node, complaint),
        Err(error) => {
            (node, Some(format!("cannot be saved ({error}): the node has a new id at every start")))
        }
    }
}

fn node_text(node: NodeId, machine: Option<&MachineId>) -> String {
    let machine = machine.map_or(UNKNOWN, |machine| &machine.0);
    checked(&format!("potluck node 2\nid {node}\nmachine {machine}\n"))
}

fn old_node_text(node: NodeId) -> String {
    checked(&format!("potluck node 1\nid {node}\n"))
}

/// The id in a file, and the machine that it was drawn on, if known.
fn parse_node(bytes: &[u8]) -> Option<(NodeId, Option<MachineId>)> {
    let mut lines = str::from_utf8(bytes).ok()?.lines().skip(1);
    let node = u64::from_str_radix(lines.next()?.strip_prefix("id ")?, 16).ok().map(NodeId)?;
    if old_node_text(node).as_bytes() == bytes {
        return Some((node, None));
    }
    let machine = lines.next()?.strip_prefix("machine ")?;
    let machine = Some(MachineId(machine.to_string())).filter(|machine| machine.0 != UNKNOWN);
    (node_text(node, machine.as_ref()).as_bytes() == bytes).then_some((node, machine))
}

fn load(storage: &impl Storage) -> (EpochState, Option<String>) {
    let complaint = match storage.read(NAME) {
        Ok(bytes) => match parse(&bytes) {
            Some(epochs) => return (epochs, None),
            None => "damaged".to_string(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return (EpochState::default(), None);
        }
        Err(error) => format!("cannot be read ({error})"),
    };
    (
        EpochState::default(),
        Some(format!(
            "{complaint}: the node begins at epoch 0 and takes the swarm's from the first peer"
        )),
    )
}

fn text(epochs: EpochState) -> String {
    checked(&format!("potluck epoch 1\nepoch {}\nstore {}\n", epochs.epoch.0, epochs.store_epoch.0))
}

/// The lines followed by a checksum line that reveals damage.
fn checked(lines: &str) -> String {
    format!("{lines}check {:016x}\n", xxh3_64(lines.as_bytes()))
}

/// The state in a file, if the file is exactly what [`text`] makes of it.
fn parse(bytes: &[u8]) -> Option<EpochState> {
    let mut lines = str::from_utf8(bytes).ok()?.lines().skip(1);
    let mut number = |word: &str| lines.next()?.strip_prefix(word)?.parse().ok().map(Epoch);
    let epochs = EpochState { epoch: number("epoch ")?, store_epoch: number("store ")? };
    (text(epochs).as_bytes() == bytes && epochs.store_epoch <= epochs.epoch).then_some(epochs)
}

#[cfg(test)]
mod tests;
