//! Which machine this is: a mark that tells a card in another board from the same card in its own.
//!
//! The board's serial number counts where there is one, for the card holds everything else; on a PC the system's machine id. What is
//! kept is a hash of it under a context of its own, from which nobody learns the number without trying all of them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes that are read of a file: /proc/cpuinfo of a large PC has more, but names no serial number.
const MAX_BYTES: u64 = 64 << 10;

/// A machine's mark, 32 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Machine(pub(super) String);

impl Machine {
    /// The mark of the machine whose file system begins at `root`: `/`, but for tests. None where nothing names the machine.
    pub(crate) fn of(root: &Path) -> Option<Machine> {
        let serial = read(root, "proc/device-tree/serial-number").and_then(|text| clean(&text));
        let serial = serial.or_else(|| read(root, "proc/cpuinfo").and_then(|text| serial_in(&text)));
        let name = serial.or_else(|| read(root, "etc/machine-id").and_then(|text| clean(&text)))?;
        let hash = blake3::derive_key("potluck machine v1", name.as_bytes());
        Some(Machine(hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}

fn read(root: &Path, path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(root.join(path)).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The number without what stands around it; none where it is empty, all zeros, or says that it is not set.
fn clean(text: &str) -> Option<String> {
    let text = text.trim_matches(|character: char| character.is_whitespace() || character == '\0');
    let says_something = text.chars().any(|character| character.is_ascii_alphanumeric() && character != '0');
    (says_something && text != "uninitialized").then(|| text.to_string())
}

/// The line `Serial : 00000000deadbeef` of /proc/cpuinfo, as ARM boards have it.
fn serial_in(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("Serial"))?;
    clean(line.split_once(':')?.1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_board_counts_before_the_card_and_nothing_of_its_number_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            Machine::of(root.path())
        };
        assert_eq!(Machine::of(root.path()), None);
        let id = put("etc/machine-id", "uninitialized\n");
        assert_eq!(id, None, "a system before its first start");
        let id = put("etc/machine-id", "0123456789abcdef0123456789abcdef\n").unwrap();
        assert_eq!(put("proc/cpuinfo", "processor\t: 0\nSerial\t\t: 0000000000000000\n").as_ref(), Some(&id), "a board without");
        let board = put("proc/cpuinfo", "processor\t: 0\nSerial\t\t: 00000000deadbeef\nModel\t: Zero 2\n").unwrap();
        assert_ne!(board, id);
        assert_eq!(put("proc/device-tree/serial-number", "00000000deadbeef\0").as_ref(), Some(&board), "the same number");
        assert_ne!(put("proc/device-tree/serial-number", "00000000deadbeee\0").as_ref(), Some(&board));
        assert!(board.0.len() == 32 && !board.0.contains("deadbeef"));
    }
}
