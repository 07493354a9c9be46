//! What the processor can do.

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;
use std::sync::OnceLock;

pub(crate) use crate::int8::vector::Int8Kernel;
pub(crate) use crate::vector::Kernel;

/// An instruction set that this machine was found to have.
///
/// Only detection constructs one, so holding it proves that kernels of that
/// ISA may run. The environment variable `CAMPANA_CPU` (`portable`; `avx2`
/// or `avx512`; `neon`, `dotprod` or `i8mm`; `simd128` or `relaxed-simd`) lowers what [`detect`](Self::detect) gives; an ISA that
/// the machine lacks is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Not in modules of WebAssembly with vectors, which have no second level.
    #[cfg(not(target_feature = "simd128"))]
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2Fma,
    /// AVX-512 with byte, VNNI and VBMI instructions: Ice Lake, Zen 4 and later.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// What every AArch64 processor has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// With dot products: Cortex-A55 and A75, Neoverse N1, Apple A13 and later.
    #[cfg(target_arch = "aarch64")]
    DotProd,
    /// With products of 8-bit matrices: Cortex-A510 and A710, Neoverse V1, Apple M2 and later.
    #[cfg(target_arch = "aarch64")]
    I8mm,
    /// Of WebAssembly, whose features are a module's.
    #[cfg(all(target_feature = "simd128", not(target_feature = "relaxed-simd")))]
    Simd128,
    /// With dot products of bytes.
    #[cfg(target_feature = "relaxed-simd")]
    RelaxedSimd,
}

impl Isa {
    /// Plain Rust, on every machine; not in WebAssembly's modules with vectors.
    #[cfg(not(target_feature = "simd128"))]
    pub const PORTABLE: Self = Self(Kind::Portable);

    /// The best ISA of this machine, or the one that `CAMPANA_CPU` names.
    pub fn detect() -> Self {
        static DETECTED: OnceLock<Isa> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            let available = Self::available();
            let wanted = std::env::var("CAMPANA_CPU").ok();
            *available
                .iter()
                .find(|isa| wanted.as_deref() == Some(isa.name()))
                .unwrap_or(&available[available.len() - 1])
        })
    }

    /// Every ISA of this machine, the plainest first.
    #[cfg(not(target_feature = "simd128"))]
    pub fn available() -> Vec<Self> {
        #[cfg_attr(
            not(any(target_arch = "x86_64", target_arch = "aarch64")),
            expect(unused_mut)
        )]
        let mut levels = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            levels.push(Self(Kind::Avx2Fma));
            if has_avx512() {
                levels.push(Self(Kind::Avx512));
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            levels.push(Self(Kind::Neon));
            if is_aarch64_feature_detected!("dotprod") {
                levels.push(Self(Kind::DotProd));
                if is_aarch64_feature_detected!("i8mm") {
                    levels.push(Self(Kind::I8mm));
                }
            }
        }
        levels
    }

    /// The one that the module was compiled for.
    #[cfg(all(target_feature = "simd128", not(target_feature = "relaxed-simd")))]
    pub fn available() -> Vec<Self> {
        vec![Self(Kind::Simd128)]
    }

    /// The one that the module was compiled for.
    ///
    /// # Panics
    ///
    /// Where the engine's choices are not those that integer results need; who
    /// loads the module asks before.
    #[cfg(target_feature = "relaxed-simd")]
    pub fn available() -> Vec<Self> {
        assert!(
            crate::arch::simd128::is_fused() && crate::arch::relaxed_dot::is_unsigned(),
            "relaxed instructions as on x86"
        );
        vec![Self(Kind::RelaxedSimd)]
    }

    /// The ISA's name, as `CAMPANA_CPU` takes it.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(not(target_feature = "simd128"))]
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2Fma => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Kind::DotProd => "dotprod",
            #[cfg(target_arch = "aarch64")]
            Kind::I8mm => "i8mm",
            #[cfg(all(target_feature = "simd128", not(target_feature = "relaxed-simd")))]
            Kind::Simd128 => "simd128",
            #[cfg(target_feature = "relaxed-simd")]
            Kind::RelaxedSimd => "relaxed-simd",
        }
    }

    /// Runs a kernel with this ISA's instructions.
    ///
    /// # Safety
    ///
    /// What the kernel requires of its fields holds.
    #[inline]
    pub(crate) unsafe fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            #[cfg(not(target_feature = "simd128"))]
            // SAFETY: the portable vector needs no special instruction; the rest is the caller's.
            Kind::Portable => unsafe { kernel.run::<crate::vector::Portable>() },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves that the instructions exist; the rest is the caller's.
            Kind::Avx2Fma => unsafe { crate::arch::avx2::run(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kind::Avx512 => unsafe { crate::arch::avx512::run(kernel) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: every processor that Rust is compiled for has NEON; the rest is the caller's.
            Kind::Neon | Kind::DotProd | Kind::I8mm => unsafe { crate::arch::neon::run(kernel) },
            #[cfg(all(target_feature = "simd128", not(target_feature = "relaxed-simd")))]
            // SAFETY: the module has the instructions; the rest is the caller's.
            Kind::Simd128 => unsafe { crate::arch::simd128::run(kernel) },
            #[cfg(target_feature = "relaxed-simd")]
            // SAFETY: as above.
            Kind::RelaxedSimd => unsafe { crate::arch::simd128::run(kernel) },
        }
    }

    /// Runs an integer kernel with this ISA's instructions.
    ///
    /// # Safety
    ///
    /// What the kernel requires of its fields holds.
    #[inline]
    pub(crate) unsafe fn run_int8<K: Int8Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            #[cfg(not(target_feature = "simd128"))]
            // SAFETY: plain Rust needs no special instruction; the rest is the caller's.
            Kind::Portable => unsafe { kernel.run::<crate::int8::portable::PortableInt8>() },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the token proves that the instructions exist; the rest is the caller's.
            Kind::Avx2Fma => unsafe { crate::arch::avx2_int8::run(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kind::Avx512 => unsafe { crate::arch::avx512_int8::run(kernel) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: every processor that Rust is compiled for has NEON; the rest is the caller's.
            Kind::Neon => unsafe { crate::arch::neon_dot::run(kernel) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: the token proves that the instructions exist; the rest is the caller's.
            Kind::DotProd => unsafe { crate::arch::dotprod_int8::run(kernel) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Kind::I8mm => unsafe { crate::arch::i8mm_int8::run(kernel) },
            #[cfg(all(target_feature = "simd128", not(target_feature = "relaxed-simd")))]
            // SAFETY: the module has the instructions; the rest is the caller's.
            Kind::Simd128 => unsafe { crate::arch::simd128_dot::run(kernel) },
            #[cfg(target_feature = "relaxed-simd")]
            // SAFETY: as above.
            Kind::RelaxedSimd => unsafe { crate::arch::relaxed_dot::run(kernel) },
        }
    }
}

/// Whether the processor has all of AVX-512 that kernels use.
#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vnni")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detected_level_is_available() {
        assert!(Isa::available().contains(&Isa::detect()));
        #[cfg(not(target_feature = "simd128"))]
        assert_eq!(Isa::available()[0], Isa::PORTABLE);
    }
}
