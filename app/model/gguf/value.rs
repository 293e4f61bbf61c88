//! The value types of GGUF metadata.

use core::ops::Range;

/// A value's type, as GGUF numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
    /// One byte.
    U8 = 0,
    /// One signed byte.
    I8 = 1,
    /// Two bytes.
    U16 = 2,
    /// Two bytes, signed.
    I16 = 3,
    /// Four bytes.
    U32 = 4,
    /// Four bytes, signed.
    I32 = 5,
    /// An IEEE single.
    F32 = 6,
    /// One byte, 0 or 1.
    Bool = 7,
    /// A u64 length, then UTF-8.
    String = 8,
    /// An element type, a u64 count, then the elements.
    Array = 9,
    /// Eight bytes.
    U64 = 10,
    /// Eight bytes, signed.
    I64 = 11,
    /// An IEEE double.
    F64 = 12,
}

impl Kind {
    /// The type with number `number`.
    pub(crate) fn from_number(number: u32) -> Option<Kind> {
        use Kind::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64]
            .into_iter()
            .find(|&kind| kind as u32 == number)
    }

    /// Bytes of one value; `None` for strings and arrays, which store their own length.
    pub(crate) fn fixed_bytes(self) -> Option<usize> {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => Some(1),
            Kind::U16 | Kind::I16 => Some(2),
            Kind::U32 | Kind::I32 | Kind::F32 => Some(4),
            Kind::U64 | Kind::I64 | Kind::F64 => Some(8),
            Kind::String | Kind::Array => None,
        }
    }
}

/// The place of a checked value in the file. Nothing is copied until it is requested.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A number or boolean.
    Scalar {
        /// Its type.
        kind: Kind,
        /// Its bytes.
        at: Range<usize>,
    },
    /// The bytes of a string, checked to be UTF-8.
    Text(Range<usize>),
    /// Elements of one type, each checked to lie within the file.
    Array {
        /// Their type; never an array.
        kind: Kind,
        /// The number of elements.
        count: usize,
        /// All their bytes, including the lengths of strings.
        at: Range<usize>,
    },
}

impl Value {
    /// Start of the value in the file, after its type and length. Entries are stored in this order.
    pub(super) fn start(&self) -> usize {
        self.place().start
    }

    /// Whether the value equals `other`, including its type; each is read from its own head.
    /// Nothing is copied, because a value may be as large as its file.
    pub(super) fn equals(&self, head: &[u8], other: &Value, other_head: &[u8]) -> bool {
        let same_type = match (self, other) {
            (Value::Scalar { kind, .. }, Value::Scalar { kind: other, .. }) => kind == other,
            (Value::Text(_), Value::Text(_)) => true,
            (Value::Array { kind, count, .. }, Value::Array { kind: other, count: others, .. }) => {
                kind == other && count == others
            }
            _ => false,
        };
        same_type && head[self.place()] == other_head[other.place()]
    }

    fn place(&self) -> Range<usize> {
        match self {
            Value::Scalar { at, .. } | Value::Text(at) | Value::Array { at, .. } => at.clone(),
        }
    }

    /// Appends the value in its file encoding, type first, copied from the `head` that it was read
    /// from.
    pub(in crate::model) fn put(&self, head: &[u8], out: &mut Vec<u8>) {
        match self {
            Value::Scalar { kind, at } => {
                out.extend_from_slice(&(*kind as u32).to_le_bytes());
                out.extend_from_slice(&head[at.clone()]);
            }
            Value::Text(at) => {
                out.extend_from_slice(&(Kind::String as u32).to_le_bytes());
                out.extend_from_slice(&(at.len() as u64).to_le_bytes());
                out.extend_from_slice(&head[at.clone()]);
            }
            Value::Array { kind, count, at } => {
                out.extend_from_slice(&(Kind::Array as u32).to_le_bytes());
                out.extend_from_slice(&(*kind as u32).to_le_bytes());
                out.extend_from_slice(&(*count as u64).to_le_bytes());
                out.extend_from_slice(&head[at.clone()]);
            }
        }
    }
}

/// The elements of an array, in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Elements<'a> {
    /// Their type; never an array.
    pub kind: Kind,
    /// The number of elements.
    pub count: usize,
    /// All their bytes, including the lengths of strings.
    pub bytes: &'a [u8],
}

/// Reads the number `bytes` of type `kind` as an integer; `None` if it is not an integer or does
/// not fit an `i128`.
pub(super) fn integer(kind: Kind, bytes: &[u8]) -> Option<i128> {
    Some(match kind {
        Kind::U8 => u8::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::I8 => i8::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::U16 => u16::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::I16 => i16::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::U32 => u32::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::I32 => i32::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::U64 => u64::from_le_bytes(bytes.try_into().ok()?).into(),
        Kind::I64 => i64::from_le_bytes(bytes.try_into().ok()?).into(),
        _ => return None,
    })
}

/// Reads the number `bytes` of type `kind` as a float; `None` if it is neither a float nor an
/// integer.
pub(super) fn float(kind: Kind, bytes: &[u8]) -> Option<f64> {
    match kind {
        Kind::F32 => Some(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        Kind::F64 => Some(f64::from_le_bytes(bytes.try_into().ok()?)),
        _ => integer(kind, bytes).map(|number| number as f64),
    }
}
