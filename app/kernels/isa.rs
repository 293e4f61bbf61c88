//! Which build of a loop runs. Every hot loop is compiled once for the target's baseline and once for each instruction set
//! listed here; the bodies are the same Rust, so the bits are the same.

/// An instruction set that this CPU was seen to have: only this file can make one, after asking the CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Isa(pub(super) Kind);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Isa {
    /// What the target's baseline has: the oracle. On aarch64 that is NEON; on x86-64 a fused multiply-add is then a slow
    /// library call, exact all the same.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    /// The fastest that this CPU has.
    pub fn best() -> Isa {
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            return Isa(Kind::Avx2);
        }
        Isa::PORTABLE
    }
}

/// Defines a function that takes an [`Isa`] first and runs `$body`, compiled for that instruction set. `$body` and all that it
/// calls in its loops must be `#[inline(always)]`.
macro_rules! per_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:path;) => {
        $(#[$meta])*
        $vis fn $name(isa: $crate::kernels::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) {
                $body($($arg),*)
            }
            match isa.0 {
                $crate::kernels::isa::Kind::Portable => $body($($arg),*),
                // SAFETY: an `Isa` of this kind exists only where the CPU said that it has avx2 and fma.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::isa::Kind::Avx2 => unsafe { avx2($($arg),*) },
            }
        }
    };
}

pub(super) use per_isa;
