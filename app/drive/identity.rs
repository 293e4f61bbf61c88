//! Identifies this machine, to detect a card that was moved or copied to another board.
//!
//! The board's serial number takes precedence, because everything else is on the card. On a PC it
//! is the system's machine id. Only a hash under its own context is stored, so that the number can
//! be found only by trying all of them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Maximum bytes read from a file. A large PC's /proc/cpuinfo is longer, but has no serial number.
const MAX_BYTES: u64 = 64 << 10;

/// A machine's mark: 32 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MachineId(pub(super) String);

impl MachineId {
    /// The mark of the machine whose file system is at `root`: `/`, except in tests. None if
    /// nothing identifies the machine.
    pub(crate) fn of(root: &Path) -> Option<MachineId> {
        let serial = read(root, "proc/device-tree/serial-number").and_then(|text| clean(&text));
        let serial =
            serial.or_else(|| read(root, "proc/cpuinfo").and_then(|text| serial_in(&text)));
        let name = serial.or_else(|| read(root, "etc/machine-id").and_then(|text| clean(&text)))?;
        let hash = blake3::derive_key("potluck machine v1", name.as_bytes());
        Some(MachineId(hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}

fn read(root: &Path, path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(root.join(path)).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The number without surrounding whitespace and zero bytes; none if it is empty, all zeros, or
/// a filler.
fn clean(text: &str) -> Option<String> {
    let text = text.trim_matches(|character: char| character.is_whitespace() || character == '\0');
    let says_something =
        text.chars().any(|character| character.is_ascii_alphanumeric() && character != '0');
    (says_something && text != "uninitialized").then(|| text.to_string())
}

/// The line `Serial : 00000000deadbeef` of /proc/cpuinfo on ARM boards.
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
            MachineId::of(root.path())
        };
        assert_eq!(MachineId::of(root.path()), None);
        let id = put("etc/machine-id", "uninitialized\n");
        assert_eq!(id, None, "a system before its first start");
        let id = put("etc/machine-id", "0123456789abcdef0123456789abcdef\n").unwrap();
        assert_eq!(
            put("proc/cpuinfo", "processor\t: 0\nSerial\t\t: 0000000000000000\n").as_ref(),
            Some(&id),
            "a board without a serial number"
        );
        let board =
            put("proc/cpuinfo", "processor\t: 0\nSerial\t\t: 00000000deadbeef\nModel\t: Zero 2\n")
                .unwrap();
        assert_ne!(board, id);
        assert_eq!(
            put("proc/device-tree/serial-number", "00000000deadbeef\0").as_ref(),
            Some(&board),
            "the same number"
        );
        assert_ne!(
            put("proc/device-tree/serial-number", "00000000deadbeee\0").as_ref(),
            Some(&board)
        );
        assert!(board.0.len() == 32 && !board.0.contains("deadbeef"));
    }
}
