//! The tensor types that ggml knows, with names and sizes. A tensor of a type that no kernel here
//! reads can thus still be measured, and its type named.

use core::fmt;

use crate::kernels::Format;

/// A ggml tensor type: its number in files, its name, and the values and bytes per unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GgmlType {
    /// As stored in files.
    pub(crate) number: u32,
    /// Its ggml name.
    pub(crate) name: &'static str,
    /// Values per unit.
    pub(crate) unit: usize,
    /// Bytes per unit.
    pub(crate) unit_bytes: usize,
}

const fn ty(number: u32, name: &'static str, unit: usize, unit_bytes: usize) -> GgmlType {
    GgmlType { number, name, unit, unit_bytes }
}

/// From ggml.h, ggml.c's `type_traits` and ggml-common.h, as of `GGML_TYPE_COUNT` 43. The missing
/// numbers were retired before Gemma 3 was published.
const TYPES: [GgmlType; 35] = [
    ty(0, "F32", 1, 4),
    ty(1, "F16", 1, 2),
    ty(2, "Q4_0", 32, 18),
    ty(3, "Q4_1", 32, 20),
    ty(6, "Q5_0", 32, 22),
    ty(7, "Q5_1", 32, 24),
    ty(8, "Q8_0", 32, 34),
    ty(9, "Q8_1", 32, 36),
    ty(10, "Q2_K", 256, 84),
    ty(11, "Q3_K", 256, 110),
    ty(12, "Q4_K", 256, 144),
    ty(13, "Q5_K", 256, 176),
    ty(14, "Q6_K", 256, 210),
    ty(15, "Q8_K", 256, 292),
    ty(16, "IQ2_XXS", 256, 66),
    ty(17, "IQ2_XS", 256, 74),
    ty(18, "IQ3_XXS", 256, 98),
    ty(19, "IQ1_S", 256, 50),
    ty(20, "IQ4_NL", 32, 18),
    ty(21, "IQ3_S", 256, 110),
    ty(22, "IQ2_S", 256, 82),
    ty(23, "IQ4_XS", 256, 136),
    ty(24, "I8", 1, 1),
    ty(25, "I16", 1, 2),
    ty(26, "I32", 1, 4),
    ty(27, "I64", 1, 8),
    ty(28, "F64", 1, 8),
    ty(29, "IQ1_M", 256, 56),
    ty(30, "BF16", 1, 2),
    ty(34, "TQ1_0", 256, 54),
    ty(35, "TQ2_0", 256, 66),
    ty(39, "MXFP4", 32, 17),
    ty(40, "NVFP4", 64, 36),
    ty(41, "Q1_0", 128, 18),
    ty(42, "Q2_0", 64, 18),
];

impl GgmlType {
    /// The type with number `number`.
    pub(crate) fn from_number(number: u32) -> Option<GgmlType> {
        TYPES.into_iter().find(|ty| ty.number == number)
    }

    /// The corresponding kernel format; `None` if no kernel reads the type.
    pub(crate) fn format(self) -> Option<Format> {
        Format::ALL.into_iter().find(|&format| format as u32 == self.number)
    }
}

/// A tensor's type, identified by its number in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TensorType {
    /// One of ggml's.
    Known(GgmlType),
    /// A number that this build does not know, such as a newer type's.
    Unknown(u32),
}

impl TensorType {
    /// The type with number `number`.
    pub(crate) fn from_number(number: u32) -> TensorType {
        GgmlType::from_number(number).map_or(TensorType::Unknown(number), TensorType::Known)
    }

    /// The corresponding kernel format; `None` if no kernel reads the type.
    pub fn format(self) -> Option<Format> {
        match self {
            TensorType::Known(ty) => ty.format(),
            TensorType::Unknown(_) => None,
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TensorType::Known(ty) => f.write_str(ty.name),
            TensorType::Unknown(number) => write!(f, "{number} (unknown to this build)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_we_compute_with_have_ggmls_sizes() {
        for format in Format::ALL {
            let ty = GgmlType::from_number(format as u32).unwrap();
            assert_eq!(
                (ty.unit, ty.unit_bytes),
                format.unit(),
                "a wrong size reads every later row from the wrong place"
            );
            assert_eq!((ty.name, ty.format()), (format.name(), Some(format)));
        }
        assert_eq!(TYPES.into_iter().filter_map(GgmlType::format).count(), Format::ALL.len());
    }
}
