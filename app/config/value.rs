//! The types of values. Each can be made only from text, so having one proves that it was checked.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU16;
use std::path::PathBuf;

use crate::id::NodeId;
use crate::limits::MAX_SLAB_BYTES;

/// How a file may write a value. Quoted text is accepted for all kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Text in quotation marks.
    Text,
    /// A number, or text if it has a unit.
    Number,
    /// A list of texts.
    List,
    /// true or false.
    Switch,
}

/// A type of value.
pub(crate) trait Setting: Sized {
    /// How it is written.
    const KIND: Kind;

    /// Parses the elements of a list, or one text.
    ///
    /// # Errors
    /// The index of the invalid element.
    fn read(given: &[&str]) -> Result<Self, usize>;

    /// The value as a user would write it; empty if there is none. Secrets show only that they are
    /// set.
    fn show(&self) -> Vec<String>;

    /// The valid values, for a message: "a number from 1 to 3".
    fn needs() -> String;

    /// The valid values of one option, which may be repeated for the elements of a list.
    fn needs_one() -> String {
        Self::needs()
    }
}

/// Implements [`Setting`] for a type that is parsed from one text, as nearly all are.
macro_rules! single {
    ($type:ty, $kind:expr, $parse:expr, $show:expr, $needs:expr) => {
        impl Setting for $type {
            const KIND: Kind = $kind;
            fn read(given: &[&str]) -> Result<Self, usize> {
                let [text] = given else { return Err(0) };
                let parse: fn(&str) -> Option<Self> = $parse;
                parse(text).ok_or(0)
            }
            fn show(&self) -> Vec<String> {
                let show: fn(&Self) -> String = $show;
                vec![show(self)]
            }
            fn needs() -> String {
                $needs.to_string()
            }
        }
    };
}

pub(super) use single;

/// `None` or a value; an empty text is `None`.
impl<T: Setting> Setting for Option<T> {
    const KIND: Kind = T::KIND;
    fn read(given: &[&str]) -> Result<Option<T>, usize> {
        if given == [""] { Ok(None) } else { T::read(given).map(Some) }
    }
    fn show(&self) -> Vec<String> {
        self.as_ref().map_or(Vec::new(), T::show)
    }
    fn needs() -> String {
        T::needs()
    }
    fn needs_one() -> String {
        T::needs_one()
    }
}

/// A host name of one label (RFC 1123): letters, digits and hyphens between them, at most 63.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HostName(String);

impl HostName {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Option<HostName> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_label = plain
            && (1..=63).contains(&text.len())
            && !text.starts_with('-')
            && !text.ends_with('-');
        is_label.then(|| HostName(text.to_string()))
    }
}

single!(
    HostName,
    Kind::Text,
    HostName::parse,
    |name| name.0.clone(),
    "a name of at most 63 letters, digits and hyphens, such as \"kitchen\""
);

/// A node's id, written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Id(pub NodeId);

single!(
    Id,
    Kind::Text,
    |text| {
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| digits).map(|id| Id(NodeId(id)))
    },
    |id| format!("{:x}", id.0.0),
    "up to 16 hexadecimal digits such as \"c0ffee\""
);

single!(
    PathBuf,
    Kind::Text,
    |text| (!text.is_empty() && !text.contains(char::is_control)).then(|| PathBuf::from(text)),
    |path| path.display().to_string(),
    "a path such as \"gemma.gguf\""
);

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Shown instead of a secret wherever settings are shown.
    pub(crate) const HIDDEN: &'static str = "(hidden)";

    pub(super) fn new(text: &str) -> Secret {
        Secret(text.to_string())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The text itself: to derive keys from, never for a message.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Secret::HIDDEN)
    }
}

/// A multicast group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Group(Ipv4Addr);

impl Group {
    /// Administratively scoped (RFC 2365), then "PL".
    pub(crate) const DEFAULT: Group = Group(Ipv4Addr::new(239, 255, 80, 76));

    /// The address.
    pub(crate) fn addr(self) -> Ipv4Addr {
        self.0
    }

    /// The group on LANs without IPv4: transient and link-local (RFC 4291), then "PL" and the
    /// group's four bytes, so that one setting keeps two swarms apart on both.
    pub(crate) fn v6(self) -> Ipv6Addr {
        let [a, b, c, d] = self.0.octets();
        Ipv6Addr::new(
            0xff12,
            0,
            0,
            0,
            0,
            0x504c,
            u16::from_be_bytes([a, b]),
            u16::from_be_bytes([c, d]),
        )
    }
}

single!(
    Group,
    Kind::Text,
    |text| text.parse().ok().filter(Ipv4Addr::is_multicast).map(Group),
    |group| group.0.to_string(),
    "a multicast address such as \"239.255.80.76\""
);

/// A port that is not 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Port(NonZeroU16);

impl Port {
    /// The catalog's port.
    pub(crate) const CATALOG: Port = Port(NonZeroU16::new(7_654).unwrap());

    /// The number.
    pub(crate) fn number(self) -> u16 {
        self.0.get()
    }
}

single!(
    Port,
    Kind::Number,
    |text| text.parse().ok().map(Port),
    |port| port.0.to_string(),
    "a port from 1 to 65535"
);
single!(
    u16,
    Kind::Number,
    |text| text.parse().ok(),
    u16::to_string,
    "a port from 1 to 65535, or 0 for any free one"
);

/// An amount of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size(u64);

impl Size {
    const MB: u64 = 1_000_000;

    /// This many MB (10^6 bytes), at least one and within the limits.
    pub(crate) const fn from_mb(mb: u64) -> Size {
        assert!(0 < mb && mb <= MAX_SLAB_BYTES / Size::MB);
        Size(mb * Size::MB)
    }

    /// In bytes.
    pub(crate) fn bytes(self) -> u64 {
        self.0
    }

    fn parse(text: &str) -> Option<Size> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "" | "MB" => Size::MB,
            "GB" => 1_000 * Size::MB,
            _ => return None,
        };
        let bytes = digits.trim().parse::<u64>().ok()?.checked_mul(unit)?;
        (1..=MAX_SLAB_BYTES).contains(&bytes).then_some(Size(bytes))
    }
}

single!(
    Size,
    Kind::Number,
    Size::parse,
    |size| format!("{} MB", size.0 / Size::MB),
    format!("a size such as \"96 MB\", at most \"{} GB\"", MAX_SLAB_BYTES / 1_000 / Size::MB)
);

/// A whole number within bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Count<const MIN: usize, const MAX: usize>(usize);

impl<const MIN: usize, const MAX: usize> Count<MIN, MAX> {
    /// A number that the caller knows to be within the bounds.
    pub(super) const fn new(number: usize) -> Self {
        assert!(MIN <= number && number <= MAX);
        Count(number)
    }

    /// The number.
    pub(crate) fn get(self) -> usize {
        self.0
    }
}

impl<const MIN: usize, const MAX: usize> Setting for Count<MIN, MAX> {
    const KIND: Kind = Kind::Number;
    fn read(given: &[&str]) -> Result<Self, usize> {
        let [text] = given else { return Err(0) };
        text.parse().ok().filter(|number| (MIN..=MAX).contains(number)).map(Count).ok_or(0)
    }
    fn show(&self) -> Vec<String> {
        vec![self.0.to_string()]
    }
    fn needs() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }
}

single!(u64, Kind::Number, |text| text.parse().ok(), u64::to_string, "a whole number");

/// The arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Precision {
    /// int8 activations and KV.
    #[default]
    Int8,
    /// f32 activations and KV: the exact reference.
    Float,
}

single!(
    Precision,
    Kind::Text,
    |text| match text {
        "int8" => Some(Precision::Int8),
        "float" => Some(Precision::Float),
        _ => None,
    },
    |precision| match precision {
        Precision::Int8 => "int8".to_string(),
        Precision::Float => "float".to_string(),
    },
    "\"int8\" or \"float\""
);

/// Whether output rows are read in halves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Halves {
    /// If that was measured to be faster.
    Auto,
    /// Wherever possible.
    On,
    /// Never.
    #[default]
    Off,
}

single!(
    Halves,
    Kind::Text,
    |text| match text {
        "auto" => Some(Halves::Auto),
        "on" => Some(Halves::On),
        "off" => Some(Halves::Off),
        _ => None,
    },
    |halves| match halves {
        Halves::Auto => "auto".to_string(),
        Halves::On => "on".to_string(),
        Halves::Off => "off".to_string(),
    },
    "\"auto\", \"on\" or \"off\""
);

/// What is locked in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Lock {
    /// Nothing: the system evicts the least recently used pages.
    #[default]
    Nothing,
    /// The model file.
    Weights,
}

single!(
    Lock,
    Kind::Text,
    |text| match text {
        "nothing" => Some(Lock::Nothing),
        "weights" => Some(Lock::Weights),
        _ => None,
    },
    |lock| match lock {
        Lock::Nothing => "nothing".to_string(),
        Lock::Weights => "weights".to_string(),
    },
    "\"nothing\" or \"weights\""
);
