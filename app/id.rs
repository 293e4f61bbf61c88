//! Identifiers: each kind of number that names something has its own type, so that one cannot be
//! mistaken for another.

use core::fmt;
use core::ops::{Add, Sub};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::MAX_NODE_NAME_BYTES;

/// A node of the swarm. Drawn at random when the node first starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u64);

/// The name that people give a node: at most `MAX_NODE_NAME_BYTES` bytes, without control
/// characters; empty if the node has no name. Names need not be unique.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeName {
    bytes: [u8; MAX_NODE_NAME_BYTES],
    len: usize,
}

impl NodeName {
    /// Truncates `text` to fit and removes characters that would garble a terminal.
    pub fn of(text: &str) -> NodeName {
        let mut name = NodeName::default();
        for character in text.chars().filter(|&character| !garbles(character)) {
            let end = name.len + character.len_utf8();
            let Some(room) = name.bytes.get_mut(name.len..end) else { break };
            character.encode_utf8(room);
            name.len = end;
        }
        name
    }

    /// How the node is shown to people: its name with a short form of its id, which tells nodes of
    /// the same name apart. Only the id if it has no name.
    pub(crate) fn label(&self, node: NodeId) -> String {
        if self.len == 0 {
            node.to_string()
        } else {
            format!("{} ({})", self.as_str(), node.short())
        }
    }

    /// The name; empty if there is none.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl Serialize for NodeName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for NodeName {
    /// Rejects anything that [`NodeName::of`] would not produce.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<NodeName, D::Error> {
        let text = <&str>::deserialize(from)?;
        let name = NodeName::of(text);
        if name.as_str() == text {
            Ok(name)
        } else {
            Err(D::Error::custom("a name that is too long or garbles a terminal"))
        }
    }
}

/// Whether a character moves a terminal's cursor, or reverses or hides the text around it.
fn garbles(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// One start of a node. Drawn at random at every start, so that peers can tell a restart
/// from a replay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct BootId(pub u64);

/// The swarm's epoch. A reset raises it by one. Nodes neither serve nor believe anything from
/// an older epoch.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

/// How far a swarm's resets have come. When two consoles reset at once, the two states are joined
/// by taking the larger of each number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EpochState {
    /// The epoch.
    pub epoch: Epoch,
    /// The latest epoch whose reset also dropped the blocks; never above `epoch`.
    pub store_epoch: Epoch,
}

impl EpochState {
    /// Whether this state includes every reset that `other` includes.
    pub(crate) fn covers(self, other: EpochState) -> bool {
        self.epoch >= other.epoch && self.store_epoch >= other.store_epoch
    }

    /// The union of what two states know.
    pub(crate) fn join(self, other: EpochState) -> EpochState {
        EpochState {
            epoch: self.epoch.max(other.epoch),
            store_epoch: self.store_epoch.max(other.store_epoch),
        }
    }

    /// The state after one more reset, which also drops the blocks if `store` is set.
    pub(crate) fn next(self, store: bool) -> EpochState {
        let epoch = Epoch(self.epoch.0.saturating_add(1));
        EpochState { epoch, store_epoch: if store { epoch } else { self.store_epoch } }
    }
}

/// Identifies the swarm that a message belongs to without revealing the swarm's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SwarmTag(pub u64);

/// Must be equal for two nodes' KV bytes to be interchangeable. Covers the model's content,
/// the weight and KV formats, the RoPE setup and the numerics version. It is the root of
/// every key chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fingerprint(pub [u8; 16]);

/// Names one block of KV state: a hash over the block's tokens and, through its parent, over all
/// tokens before them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct BlockKey(pub [u8; 16]);

/// A token of the model's vocabulary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(transparent)]
pub struct TokenId(pub u32);

/// The index of a slot within its pool in the slab.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct SlotIndex(pub u32);

/// A moment on the node's own monotonic clock, or a duration, in milliseconds.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Millis(pub u64);

impl Add for Millis {
    type Output = Millis;
    fn add(self, other: Millis) -> Millis {
        Millis(self.0.saturating_add(other.0))
    }
}

impl Sub for Millis {
    type Output = Millis;
    /// The time from `other` to `self`; zero if `other` is later.
    fn sub(self, other: Millis) -> Millis {
        Millis(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// In human-readable formats (JSON) ids are hexadecimal digits, as on the console: many JSON
/// readers round 64-bit numbers. Binary formats carry the number itself.
macro_rules! hexadecimal_in_text {
    ($name:ident, $inner:ty, $parse:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() { to.collect_str(self) } else { self.0.serialize(to) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                if !from.is_human_readable() {
                    return <$inner>::deserialize(from).map($name);
                }
                let digits = String::deserialize(from)?;
                let count = 2 * size_of::<$inner>();
                let is_id =
                    digits.len() == count && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                let parsed = $parse(&digits, 16).ok().filter(|_| is_id);
                parsed.map($name).ok_or_else(|| {
                    D::Error::custom(format_args!("{digits:?} is not {count} hexadecimal digits"))
                })
            }
        }
    };
}

impl NodeId {
    /// Enough digits to tell a few nodes apart.
    pub fn short(self) -> String {
        format!("{:04x}", self.0 >> 48)
    }
}

hexadecimal_in_text!(NodeId, u64, u64::from_str_radix);
hexadecimal_in_text!(Fingerprint, [u8; 16], |digits: &str, radix| u128::from_str_radix(
    digits, radix
)
.map(u128::to_be_bytes));

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for BlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_harms_no_terminal() {
        assert_eq!(NodeName::of("kitchen").as_str(), "kitchen");
        assert_eq!(NodeName::of("a\u{1b}[2J\u{202e}b\n").as_str(), "a[2Jb");
        assert_eq!(
            NodeName::of(&"ö".repeat(20)).as_str(),
            "ö".repeat(12),
            "cut between characters"
        );
        let read = |text: &str| {
            postcard::from_bytes::<NodeName>(&postcard::to_allocvec(text).unwrap()).ok()
        };
        assert_eq!(read("kitchen"), Some(NodeName::of("kitchen")));
        assert_eq!((read("a\u{7}"), read(&"a".repeat(25))), (None, None));
    }

    #[test]
    fn binary_forms_carry_the_number_itself() {
        let bytes = postcard::to_allocvec(&(NodeId(1 << 40), Fingerprint([7; 16]))).unwrap();
        assert_eq!(bytes, postcard::to_allocvec(&(1_u64 << 40, [7_u8; 16])).unwrap());
        assert_eq!(postcard::from_bytes(&bytes), Ok((NodeId(1 << 40), Fingerprint([7; 16]))));
    }
}
