//! Power loss at every step of a save. A node that came back with an epoch it had already left
//! would believe what a reset discarded.

use std::collections::BTreeMap;

use super::*;

fn board(number: u8) -> MachineId {
    MachineId(format!("{number:032x}"))
}

fn state(epoch: u64, store_epoch: u64) -> EpochState {
    EpochState { epoch: Epoch(epoch), store_epoch: Epoch(store_epoch) }
}

/// A file: its content, and how much of it would survive a power loss.
#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: bool,
}

/// A disk that loses power after a number of steps. Names that were not synced may be lost, later
/// ones first. Bytes that were not synced may survive up to any point.
#[derive(Clone, Default)]
struct Disk {
    /// Files by number, and the current names.
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    /// The names after each step since the last sync, oldest first.
    possible: Vec<BTreeMap<String, usize>>,
    steps_left: usize,
}

impl Disk {
    fn new() -> Disk {
        Disk { possible: vec![BTreeMap::new()], steps_left: usize::MAX, ..Disk::default() }
    }

    fn step(&mut self) -> io::Result<()> {
        self.steps_left =
            self.steps_left.checked_sub(1).ok_or_else(|| io::Error::other("the power is gone"))?;
        Ok(())
    }

    /// Every disk that may be found when the power is back.
    fn after_a_loss_of_power(&self) -> Vec<Disk> {
        let mut found = Vec::new();
        for names in &self.possible {
            let longest =
                names.values().map(|&file| self.files[file].bytes.len()).max().unwrap_or(0);
            for kept in 0..=longest {
                let mut disk =
                    Disk { names: names.clone(), possible: vec![names.clone()], ..self.clone() };
                for file in disk.files.iter_mut().filter(|file| !file.synced) {
                    file.bytes.truncate(kept);
                    file.synced = true;
                }
                disk.steps_left = usize::MAX;
                found.push(disk);
            }
        }
        found
    }
}

impl Storage for Disk {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.files[*file].bytes.clone())
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        self.names.insert(name.to_string(), self.files.len());
        self.files.push(Content { bytes: bytes.to_vec(), synced: false });
        self.possible.push(self.names.clone());
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.step()?;
        self.files[self.names[name]].synced = true;
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        let file = self.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.names.insert(to.to_string(), file);
        self.possible.push(self.names.clone());
        Ok(())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.step()?;
        self.possible = vec![self.names.clone()];
        Ok(())
    }
}

#[test]
fn whenever_the_power_goes_the_state_is_the_old_one_or_the_new_one() {
    let (old, new) = (state(6, 2), state(7, 7));
    let mut outcomes = 0;
    for steps in 0..=4 {
        let mut disk = Disk::new();
        save(&mut disk, old).unwrap();
        disk.steps_left = steps;
        let saved = save(&mut disk, new).is_ok();
        assert_eq!(saved, steps == 4, "a save has four steps");
        for after in disk.after_a_loss_of_power() {
            let (found, complaint) = load(&after);
            assert_eq!(complaint, None, "after {steps} steps");
            assert!(found == new || !saved && found == old, "after {steps} steps: {found:?}");
            outcomes += 1;
            let mut again = after;
            save(&mut again, state(8, 7)).unwrap();
            assert_eq!(load(&again).0, state(8, 7), "files left over by a power loss do no harm");
        }
    }
    assert!(outcomes > 100);
}

#[test]
fn the_file_has_this_text() {
    let written = text(state(7, 5));
    assert_eq!(written, "potluck epoch 1\nepoch 7\nstore 5\ncheck 97e35cc56a081d78\n");
    assert_eq!(parse(written.as_bytes()), Some(state(7, 5)));
    let longest = text(state(u64::MAX, u64::MAX));
    assert!(longest.len() as u64 <= MAX_BYTES);
    assert_eq!(parse(longest.as_bytes()), Some(state(u64::MAX, u64::MAX)));
}

/// A worn-out card flips bits silently.
#[test]
fn a_damaged_file_is_reported_and_counts_as_epoch_0() {
    let whole = text(state(7, 5)).into_bytes();
    let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|end| whole[..end].to_vec()).collect();
    for bit in 0..8 * whole.len() {
        let mut altered = whole.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        damaged.push(altered);
    }
    damaged.push([&whole[..], b"\n"].concat());
    damaged.push(vec![0; 4096]);
    damaged.push(text(state(5, 7)).into_bytes());
    for bytes in damaged {
        let mut disk = Disk::new();
        disk.write(NAME, &bytes).unwrap();
        let (epochs, complaint) = load(&disk);
        assert_eq!(epochs, EpochState::default());
        assert!(complaint.is_some_and(|complaint| complaint.starts_with("damaged")), "{bytes:?}");
    }
}

#[test]
fn a_real_directory_keeps_the_state_and_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/potluck");
    let own = StateDir::at(&path);
    assert_eq!(own.load(), (EpochState::default(), None));
    for epochs in [state(1, 0), state(2, 2)] {
        own.save(epochs).unwrap();
        assert_eq!(StateDir::at(&path).load(), (epochs, None));
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "nothing else is left over");
    fs::write(path.join(NAME), "garbage").unwrap();
    let (epochs, complaint) = own.load();
    assert_eq!(epochs, EpochState::default());
    assert!(complaint.unwrap().contains("data/potluck/epoch: damaged"));
    fs::write(dir.path().join("file"), "").unwrap();
    let no_dir = StateDir::at(&dir.path().join("file"));
    assert!(no_dir.save(state(1, 0)).is_err());
}

/// Peers recognise a board by its id. An id drawn anew after every power loss would fill
/// their tables.
#[test]
fn a_node_is_who_it_was_after_a_loss_of_power_at_any_step() {
    for steps in 0..8 {
        let mut disk = Disk { steps_left: steps, ..Disk::new() };
        let (first, complaint) = node(&mut disk, NodeId(7), Some(&board(1)));
        assert_eq!(first, NodeId(7));
        for mut disk in disk.after_a_loss_of_power() {
            let (second, _) = node(&mut disk, NodeId(8), Some(&board(1)));
            assert!(
                second == NodeId(7) || (second == NodeId(8) && complaint.is_some()),
                "{steps} steps, {complaint:?}"
            );
            assert_eq!(
                node(&mut disk, NodeId(9), Some(&board(1))).0,
                second,
                "from then on it stays"
            );
        }
    }
}

#[test]
fn a_damaged_id_is_told_and_drawn_anew() {
    let mut disk = Disk::new();
    assert_eq!(node(&mut disk, NodeId(7), Some(&board(1))), (NodeId(7), None));
    let whole = disk.read(NODE_NAME).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let mut disk = Disk::new();
        disk.write(NODE_NAME, &bytes).unwrap();
        let (found, complaint) = node(&mut disk, NodeId(8), Some(&board(1)));
        assert!(
            found == NodeId(8)
                && complaint.is_some_and(|complaint| complaint.starts_with("damaged")),
            "byte {at}"
        );
    }
}

/// Two boards with copies of one card must not be one node.
#[test]
fn a_card_in_another_board_draws_an_id_of_its_own_and_says_so() {
    let mut disk = Disk::new();
    assert_eq!(node(&mut disk, NodeId(7), Some(&board(1))), (NodeId(7), None));
    assert_eq!(node(&mut disk, NodeId(8), Some(&board(1))), (NodeId(7), None));
    assert_eq!(
        node(&mut disk, NodeId(8), None),
        (NodeId(7), None),
        "a system that hides its number counts as the same"
    );
    let (copy, complaint) = node(&mut disk, NodeId(9), Some(&board(2)));
    assert!(copy == NodeId(9) && complaint.is_some_and(|complaint| complaint.contains("copied")));
    assert_eq!(
        node(&mut disk, NodeId(10), Some(&board(2))),
        (NodeId(9), None),
        "from then on it stays"
    );
}

#[test]
fn the_file_of_an_id_has_this_text_and_an_older_one_keeps_its_id() {
    let written = node_text(NodeId(0xa7), Some(&board(3)));
    assert!(written.starts_with(
        "potluck node 2\nid 00000000000000a7\nmachine 00000000000000000000000000000003\ncheck "
    ));
    assert!(written.len() as u64 <= MAX_BYTES);
    assert_eq!(parse_node(written.as_bytes()), Some((NodeId(0xa7), Some(board(3)))));
    for older in [old_node_text(NodeId(0xa7)), node_text(NodeId(0xa7), None)] {
        let mut disk = Disk::new();
        disk.write(NODE_NAME, older.as_bytes()).unwrap();
        assert_eq!(node(&mut disk, NodeId(8), None), (NodeId(0xa7), None));
        assert_eq!(node(&mut disk, NodeId(8), Some(&board(3))), (NodeId(0xa7), None));
        assert!(
            node(&mut disk, NodeId(8), Some(&board(4))).1.is_some(),
            "bound to the machine by now"
        );
    }
}
