//! AVX2 with fused multiply-add.

use core::arch::x86_64::{
    __m256, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm_cvtsi64_si128, _mm256_add_epi32,
    _mm256_add_ps, _mm256_blendv_ps, _mm256_castsi256_ps, _mm256_cvtepu8_epi32, _mm256_cvtps_epi32,
    _mm256_div_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps,
    _mm256_permutevar8x32_ps, _mm256_round_ps, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_ps,
};

use crate::vector::{Kernel, Vector};

/// Compiles a kernel with AVX2 and FMA, and runs it.
///
/// # Safety
///
/// The processor has both, and what the kernel requires of its fields holds.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<F32x8>() }
}

/// Eight floats in a 256-bit register.
#[derive(Clone, Copy)]
pub(crate) struct F32x8(pub(super) __m256);

/// Calls an intrinsic that needs nothing but its instruction.
macro_rules! instruction {
    ($($call:tt)*) => {
        // SAFETY: an `F32x8` exists only below `run`, whose caller promised AVX2 and FMA.
        unsafe { $($call)* }
    };
}

impl Vector for F32x8 {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    type Narrow = Self;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn look_up(table: *const f32, positions: [u64; 2], first_lane: usize) -> Self {
        // SAFETY: the caller's promise; the instructions are there.
        unsafe {
            let positions = _mm_cvtsi64_si128(positions[first_lane / 8].cast_signed());
            let positions = _mm256_cvtepu8_epi32(positions);
            // The permutation reads the low three bits, the blend the sign,
            // where bit 3 is moved.
            let low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), positions);
            let high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.add(8)), positions);
            let is_high = _mm256_castsi256_ps(_mm256_slli_epi32(positions, 28));
            Self(_mm256_blendv_ps(low, high, is_high))
        }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(instruction!(_mm256_set1_ps(value)))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(instruction!(_mm256_add_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(instruction!(_mm256_sub_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(instruction!(_mm256_mul_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(instruction!(_mm256_div_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(instruction!(_mm256_fmadd_ps(self.0, factor.0, addend.0)))
    }

    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        // The instruction gives its second operand where either is NaN.
        Self(instruction!(_mm256_max_ps(bound.0, self.0)))
    }

    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        Self(instruction!(_mm256_min_ps(bound.0, self.0)))
    }

    #[inline(always)]
    fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        Self(instruction!(_mm256_round_ps::<NEAREST>(self.0)))
    }

    #[inline(always)]
    fn exp2_whole(self) -> Self {
        Self(instruction!({
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }))
    }
}
