//! The loops of the AVX2 products. Each macro is a piece of assembly, and `blocks` joins pieces to
//! a loop over the blocks of a tile. They read panels and tiles as the parent's `Line` describes
//! them.
//!
//! They are assembly, because compilers hoist loads out of them until the sums no longer fit the
//! registers: ymm0–ymm7 sums of four tokens and two halves of the panel, ymm8–ymm9 weights, ymm10
//! columns of a token, ymm11–ymm12 products, ymm13 ones. Results stay in memory, which a block
//! touches once.

/// Two columns of four tokens by 16 rows (words), or four columns (nibbles): the next 64 bytes of
/// the panel, the next 16 of the tile. `$token` multiplies and adds.
macro_rules! columns {
    ($token:ident) => {
        concat!(
            "vmovdqa ymm8, [{w}]\n",
            "vmovdqa ymm9, [{w} + 32]\n",
            $token!("0", "0", "1"),
            $token!("4", "2", "3"),
            "add {w}, 64\n",
            $token!("8", "4", "5"),
            $token!("12", "6", "7"),
            "add {x}, 16\n",
        )
    };
}

/// The first products of a block.
macro_rules! first_words {
    ($at:literal, $low:literal, $high:literal) => {
        concat!(
            "vpbroadcastd ymm10, [{x} + ",
            $at,
            "]\n",
            "vpmaddwd ymm",
            $low,
            ", ymm10, ymm8\n",
            "vpmaddwd ymm",
            $high,
            ", ymm10, ymm9\n",
        )
    };
}

/// The products after them.
macro_rules! words {
    ($at:literal, $low:literal, $high:literal) => {
        concat!(
            "vpbroadcastd ymm10, [{x} + ",
            $at,
            "]\n",
            "vpmaddwd ymm11, ymm10, ymm8\n",
            "vpmaddwd ymm12, ymm10, ymm9\n",
            "vpaddd ymm",
            $low,
            ", ymm",
            $low,
            ", ymm11\n",
            "vpaddd ymm",
            $high,
            ", ymm",
            $high,
            ", ymm12\n",
        )
    };
}

/// The same with nibbles, in 16 bits.
macro_rules! bytes {
    ($at:literal, $low:literal, $high:literal) => {
        concat!(
            "vpbroadcastd ymm10, [{x} + ",
            $at,
            "]\n",
            "vpmaddubsw ymm11, ymm8, ymm10\n",
            "vpmaddubsw ymm12, ymm9, ymm10\n",
            "vpaddw ymm",
            $low,
            ", ymm",
            $low,
            ", ymm11\n",
            "vpaddw ymm",
            $high,
            ", ymm",
            $high,
            ", ymm12\n",
        )
    };
}

/// Adds a token's sums to its results. `$scale` is the offset of its scale in the tile, `$result`
/// that of its results.
macro_rules! join {
    ($scale:literal, $low:literal, $high:literal, $result:literal, $result_high:literal) => {
        concat!(
            "vbroadcastss ymm10, [{x} + ",
            $scale,
            "]\n",
            "vcvtdq2ps ymm",
            $low,
            ", ymm",
            $low,
            "\n",
            "vcvtdq2ps ymm",
            $high,
            ", ymm",
            $high,
            "\n",
            "vmulps ymm11, ymm8, ymm10\n",
            "vmulps ymm12, ymm9, ymm10\n",
            "vfmadd213ps ymm",
            $low,
            ", ymm11, [{y} + ",
            $result,
            "]\n",
            "vfmadd213ps ymm",
            $high,
            ", ymm12, [{y} + ",
            $result_high,
            "]\n",
            "vmovaps [{y} + ",
            $result,
            "], ymm",
            $low,
            "\n",
            "vmovaps [{y} + ",
            $result_high,
            "], ymm",
            $high,
            "\n",
        )
    };
}

/// Applies the panel's scales to every token's sums.
macro_rules! join_all {
    () => {
        concat!(
            "vmovaps ymm8, [{w}]\n",
            "vmovaps ymm9, [{w} + 32]\n",
            join!("0", "0", "1", "0", "32"),
            join!("4", "2", "3", "64", "96"),
            join!("8", "4", "5", "128", "160"),
            join!("12", "6", "7", "192", "224"),
        )
    };
}

/// Adds a token's offsets to its results: the sum of its codes times the panel's offsets. `$scale`
/// and `$sum` are their offsets in the tile.
macro_rules! join_offset {
    ($scale:literal, $sum:literal, $result:literal, $result_high:literal) => {
        concat!(
            "vbroadcastss ymm10, [{x} + ",
            $scale,
            "]\n",
            "vbroadcastss ymm0, [{x} + ",
            $sum,
            "]\n",
            "vmulps ymm11, ymm8, ymm10\n",
            "vmulps ymm12, ymm9, ymm10\n",
            "vfmadd213ps ymm11, ymm0, [{y} + ",
            $result,
            "]\n",
            "vfmadd213ps ymm12, ymm0, [{y} + ",
            $result_high,
            "]\n",
            "vmovaps [{y} + ",
            $result,
            "], ymm11\n",
            "vmovaps [{y} + ",
            $result_high,
            "], ymm12\n",
        )
    };
}

/// Applies the panel's offsets to every token's results.
macro_rules! join_offsets {
    () => {
        concat!(
            "add {w}, 64\n",
            "vmovaps ymm8, [{w}]\n",
            "vmovaps ymm9, [{w} + 32]\n",
            join_offset!("0", "32", "0", "32"),
            join_offset!("4", "36", "64", "96"),
            join_offset!("8", "40", "128", "160"),
            join_offset!("12", "44", "192", "224"),
        )
    };
}

/// The next block.
macro_rules! next {
    () => {
        concat!("add {w}, 64\n", "add {x}, 64\n", "dec {n}\n", "jnz 2b\n")
    };
}

/// Ones in 16 bits.
macro_rules! ones {
    () => {
        concat!("vpcmpeqw ymm13, ymm13, ymm13\n", "vpabsw ymm13, ymm13\n")
    };
}

/// Sums of a block of words.
macro_rules! sum_words {
    () => {
        concat!("2:\n", columns!(first_words), ".rept 15\n", columns!(words), ".endr\n")
    };
}

/// Sums of a block of nibbles.
macro_rules! sum_nibbles {
    () => {
        concat!(
            "2:\n",
            "vpbroadcastd ymm0, [{x} + 144]\n",
            "vmovdqa ymm1, ymm0\n",
            "vpbroadcastd ymm2, [{x} + 148]\n",
            "vmovdqa ymm3, ymm2\n",
            "vpbroadcastd ymm4, [{x} + 152]\n",
            "vmovdqa ymm5, ymm4\n",
            "vpbroadcastd ymm6, [{x} + 156]\n",
            "vmovdqa ymm7, ymm6\n",
            ".rept 8\n",
            columns!(bytes),
            ".endr\n",
            "vpmaddwd ymm0, ymm0, ymm13\n",
            "vpmaddwd ymm1, ymm1, ymm13\n",
            "vpmaddwd ymm2, ymm2, ymm13\n",
            "vpmaddwd ymm3, ymm3, ymm13\n",
            "vpmaddwd ymm4, ymm4, ymm13\n",
            "vpmaddwd ymm5, ymm5, ymm13\n",
            "vpmaddwd ymm6, ymm6, ymm13\n",
            "vpmaddwd ymm7, ymm7, ymm13\n",
        )
    };
}

/// All blocks of a tile.
macro_rules! blocks {
    ($n:ident, $panel:ident, $tile:ident, $y:ident, [$($text:expr),* $(,)?]) => {
        core::arch::asm!(
            $($text,)*
            w = inout(reg) $panel.as_ptr() => _,
            x = inout(reg) $tile.as_ptr() => _,
            y = in(reg) $y.as_mut_ptr(),
            n = inout(reg) $n => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _,
            out("ymm5") _, out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _,
            out("ymm10") _, out("ymm11") _, out("ymm12") _, out("ymm13") _,
            options(nostack),
        )
    };
}
