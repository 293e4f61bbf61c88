//! Selects the build of a loop. Loops in plain Rust are compiled once for the target's baseline and
//! once for each instruction set listed here. The bodies are the same, so the bits are the same.
//! Products of int8 have separate loops for each (`int8`).

/// An instruction set that this CPU has: only this file can make a value, after asking the CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Isa(Kind);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Portable,
    /// ARMv8.0-A: in every aarch64.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// With F16C and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// F, BW, VL and VNNI, and everything that AVX2 stands for.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The target's baseline: the oracle. On x86-64 a fused multiply-add is then a slow library
    /// call, but still exact.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    /// All instruction sets that this CPU has, the fastest last.
    #[cfg(target_arch = "x86_64")]
    pub fn all() -> impl Iterator<Item = Isa> {
        let avx2 = std::is_x86_feature_detected!("avx2")
            && std::is_x86_feature_detected!("fma")
            && std::is_x86_feature_detected!("f16c");
        let avx512 = avx2
            && std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512vl")
            && std::is_x86_feature_detected!("avx512vnni");
        let found = [(Kind::Portable, true), (Kind::Avx2, avx2), (Kind::Avx512, avx512)];
        found.into_iter().filter(|(_, is_there)| *is_there).map(|(kind, _)| Isa(kind))
    }

    /// All instruction sets that this CPU has, the fastest last.
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn all() -> impl Iterator<Item = Isa> {
        #[cfg(target_arch = "aarch64")]
        let kinds = [Kind::Portable, Kind::Neon];
        #[cfg(not(target_arch = "aarch64"))]
        let kinds = [Kind::Portable];
        kinds.into_iter().map(Isa)
    }

    /// The fastest instruction set of this CPU.
    pub fn best() -> Isa {
        Isa::all().last().unwrap_or(Isa::PORTABLE)
    }

    /// The instruction set, for code to match on.
    pub(super) fn kind(self) -> Kind {
        self.0
    }

    /// Its name: `portable`, `neon`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }
}

/// Defines a function that takes an [`Isa`] first and runs `$body`, compiled for that instruction
/// set. `$body` and everything it calls in its loops must be `#[inline(always)]`. An `unsafe fn`
/// has an unsafe body, whose conditions the caller must meet.
macro_rules! per_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:path;) => {
        $crate::kernels::isa::per_isa! { @ [] $(#[$meta])* ($vis) $name($($arg: $ty),*) $body }
    };
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:path;) => {
        $crate::kernels::isa::per_isa! { @ [unsafe] $(#[$meta])* ($vis) $name($($arg: $ty),*) $body }
    };
    (@ [$($unsafe:tt)?] $(#[$meta:meta])* ($vis:vis) $name:ident($($arg:ident: $ty:ty),*) $body:path) => {
        $(#[$meta])*
        $vis $($unsafe)? fn $name(isa: $crate::kernels::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            $($unsafe)? fn avx2($($arg: $ty),*) {
                $($unsafe)? { $body($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vl")]
            $($unsafe)? fn avx512($($arg: $ty),*) {
                $($unsafe)? { $body($($arg),*) }
            }
            match isa.kind() {
                $crate::kernels::isa::Kind::Portable => $($unsafe)? { $body($($arg),*) },
                // NEON is the baseline of aarch64.
                #[cfg(target_arch = "aarch64")]
                $crate::kernels::isa::Kind::Neon => $($unsafe)? { $body($($arg),*) },
                // SAFETY: an `Isa` of this kind exists only if the CPU has reported these features.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Kind::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Kind::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}

pub(super) use per_isa;
