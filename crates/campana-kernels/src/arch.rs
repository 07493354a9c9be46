//! One thin file per instruction set.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2_int8;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512_int8;
#[cfg(target_arch = "aarch64")]
pub(crate) mod dotprod_int8;
#[cfg(target_arch = "aarch64")]
pub(crate) mod i8mm_int8;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon_dot;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon_int8;
#[cfg(target_feature = "relaxed-simd")]
pub(crate) mod relaxed_dot;
#[cfg(target_feature = "simd128")]
pub(crate) mod simd128;
#[cfg(all(target_feature = "simd128", not(target_feature = "relaxed-simd")))]
pub(crate) mod simd128_dot;
#[cfg(target_feature = "simd128")]
pub(crate) mod simd128_int8;
