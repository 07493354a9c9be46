//! One thin file per instruction set.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
