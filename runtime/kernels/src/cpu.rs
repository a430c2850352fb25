//! Which instruction set the kernels use: found once at run time, or forced by `SSVM_CPU=portable|avx2|avx512|icelake`.
//!
//! A kernel is ordinary safe code, compiled once for each instruction set by `multiversion!`, which lets the compiler
//! use the wider registers. A forced set that the CPU lacks is ignored, with a fall back to the best one below it. The
//! block cipher is not covered: the `aes` crate looks for the CPU's instructions by itself.

use std::sync::OnceLock;

/// An instruction set that this CPU has.
///
/// The field is private to this module, whose constructors check the CPU: holding a `Cpu` proves that its instructions
/// may run, and the `unsafe` call in `multiversion!` rests on that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cpu(Level);

/// Ordered: each has the instructions of those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// What every CPU of the target architecture has.
    Portable,
    /// AVX2 and POPCNT.
    Avx2,
    /// AVX-512 F, DQ, BW and VL.
    Avx512,
    /// AVX-512 with IFMA, VBMI and VNNI, as in Ice Lake, Zen 4 and later ones.
    Icelake,
}

impl Cpu {
    /// No more than the target architecture guarantees.
    pub const PORTABLE: Cpu = Cpu(Level::Portable);

    /// Every instruction set that can be used here, the least first.
    pub fn available() -> Vec<Cpu> {
        #[allow(unused_mut)]
        let mut all = vec![Cpu::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
            all.push(Cpu(Level::Avx2));
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl");
            if avx512 {
                all.push(Cpu(Level::Avx512));
                let icelake = is_x86_feature_detected!("avx512ifma")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vnni");
                if icelake {
                    all.push(Cpu(Level::Icelake));
                }
            }
        }
        all
    }

    /// The one to use: the best, unless the environment asks for less. Reads the environment at the first call only.
    pub fn get() -> Cpu {
        static CPU: OnceLock<Cpu> = OnceLock::new();
        *CPU.get_or_init(|| {
            let limit = match std::env::var("SSVM_CPU").as_deref() {
                Ok("portable") => Level::Portable,
                Ok("avx2") => Level::Avx2,
                Ok("avx512") => Level::Avx512,
                _ => Level::Icelake,
            };
            let best = Cpu::available().into_iter().rfind(|cpu| cpu.0 <= limit);
            best.expect("the portable set is always available")
        })
    }

    /// Its name, as in `SSVM_CPU`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Icelake => "icelake",
        }
    }

    /// Its level, for `multiversion!`.
    pub fn level(self) -> Level {
        self.0
    }
}

/// Defines `fn name(cpu: Cpu, ..)` whose body is compiled for each instruction set and runs on `cpu`'s. Only what is
/// inlined into the body gains from it. Generic parameters have exactly one bound.
#[macro_export]
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($g:ident: $bound:path),+>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name $(<$($g: $bound),+>)? (cpu: $crate::cpu::Cpu, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn portable $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,popcnt")]
            fn avx2 $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? { portable $(::<$($g),+>)? ($($arg),*) }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,popcnt")]
            fn avx512 $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? { portable $(::<$($g),+>)? ($($arg),*) }

            match cpu.level() {
                // SAFETY: a `Cpu` of this level exists only if `Cpu::available` detected the features.
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code)]
                $crate::cpu::Level::Avx512 | $crate::cpu::Level::Icelake => unsafe { avx512 $(::<$($g),+>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code)]
                $crate::cpu::Level::Avx2 => unsafe { avx2 $(::<$($g),+>)? ($($arg),*) },
                _ => portable $(::<$($g),+>)? ($($arg),*),
            }
        }
    };
}
pub use multiversion;
