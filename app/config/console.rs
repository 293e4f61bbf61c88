//! `[console]` and `[log]`: terminals that a node opens, and the log lines that it prints on them.

use std::path::{Path, PathBuf};

use crate::limits::MAX_CONSOLES;

use super::value::{Kind, Setting, single};

/// A terminal of this machine, such as a serial line: an absolute path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Device(PathBuf);

impl Device {
    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn parse(text: &str) -> Option<Device> {
        let plain = text.starts_with('/') && !text.contains(char::is_control);
        plain.then(|| Device(PathBuf::from(text)))
    }
}

impl Setting for Vec<Device> {
    const KIND: Kind = Kind::List;
    fn read(given: &[&str]) -> Result<Vec<Device>, usize> {
        if given.len() > MAX_CONSOLES {
            return Err(MAX_CONSOLES);
        }
        let twice = |at: usize| given[..at].contains(&given[at]);
        given
            .iter()
            .enumerate()
            .map(|(at, text)| Device::parse(text).filter(|_| !twice(at)).ok_or(at))
            .collect()
    }
    fn show(&self) -> Vec<String> {
        self.iter().map(|device| device.0.display().to_string()).collect()
    }
    fn needs() -> String {
        format!("a list of at most {MAX_CONSOLES} different paths such as [\"/dev/ttyUSB0\"]")
    }
    fn needs_one() -> String {
        format!("a path such as /dev/ttyUSB0, at most {MAX_CONSOLES} different ones,")
    }
}

/// Bits per second on a serial line, one of the rates that every UART supports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Speed(u32);

impl Speed {
    /// The usual speed of boards' serial consoles.
    pub(crate) const DEFAULT: Speed = Speed(115_200);

    const KNOWN: [u32; 10] =
        [9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600, 1_000_000, 1_500_000];

    /// The number.
    pub(crate) fn bits_per_s(self) -> u32 {
        self.0
    }
}

single!(
    Speed,
    Kind::Number,
    |text| text.parse().ok().filter(|speed| Speed::KNOWN.contains(speed)).map(Speed),
    |speed| speed.0.to_string(),
    "9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1000000 or 1500000"
);

single!(bool, Kind::Switch, |text| text.parse().ok(), bool::to_string, "true or false");

/// A group of users, by its name or its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SocketGroup(String);

impl SocketGroup {
    /// As written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

single!(
    SocketGroup,
    Kind::Text,
    |text| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let taken =
            (1..=32).contains(&text.len()) && text.chars().all(plain) && !text.starts_with('-');
        taken.then(|| SocketGroup(text.to_string()))
    },
    |group| group.0.clone(),
    "a group's name or number"
);

/// Which log lines consoles print as they happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum LogLevel {
    /// What does not work at all.
    Error,
    /// Also what works worse than it should.
    Warn,
    /// Also what a person may like to know.
    #[default]
    Info,
}

single!(
    LogLevel,
    Kind::Text,
    |text| match text {
        "error" => Some(LogLevel::Error),
        "warn" => Some(LogLevel::Warn),
        "info" => Some(LogLevel::Info),
        _ => None,
    },
    |level| match level {
        LogLevel::Error => "error".to_string(),
        LogLevel::Warn => "warn".to_string(),
        LogLevel::Info => "info".to_string(),
    },
    "\"error\", \"warn\" or \"info\""
);
