//! AVX-512.

use core::arch::x86_64::{
    __m512, __m512i, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm_set_epi64x,
    _mm512_add_epi32, _mm512_add_ps, _mm512_castsi512_ps, _mm512_cmpeq_epi32_mask,
    _mm512_cvtepu8_epi32, _mm512_cvtps_epi32, _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_mask_mov_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_min_ps,
    _mm512_mul_ps, _mm512_permutex2var_ps, _mm512_permutexvar_ps, _mm512_roundscale_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_srli_epi32,
    _mm512_storeu_ps, _mm512_sub_ps,
};

use crate::arch::avx2::F32x8;
use crate::vector::{Kernel, Vector};

/// Compiles a kernel with AVX-512, and runs it.
///
/// # Safety
///
/// The processor has what is enabled here, and what the kernel requires of its
/// fields holds.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
pub(crate) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<F32x16>() }
}

/// Sixteen floats in a 512-bit register.
#[derive(Clone, Copy)]
pub(crate) struct F32x16(pub(crate) __m512);

/// Calls an intrinsic that needs nothing but its instruction.
macro_rules! instruction {
    ($($call:tt)*) => {
        // SAFETY: an `F32x16` exists only below `run`, whose caller promised AVX-512.
        unsafe { $($call)* }
    };
}

/// The mask of the first `len` lanes.
#[inline(always)]
fn first(len: usize) -> u16 {
    ((1u32 << len) - 1) as u16
}

/// Sixteen bytes, one a lane.
#[inline(always)]
fn lanes([low, high]: [u64; 2]) -> __m512i {
    let bytes = instruction!(_mm_set_epi64x(high.cast_signed(), low.cast_signed()));
    instruction!(_mm512_cvtepu8_epi32(bytes))
}

impl Vector for F32x16 {
    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    type Narrow = F32x8;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn look_up(table: *const f32, positions: [u64; 2], _first_lane: usize) -> Self {
        // SAFETY: the caller's promise; the instructions are there.
        unsafe {
            Self(_mm512_permutexvar_ps(
                lanes(positions),
                _mm512_loadu_ps(table),
            ))
        }
    }

    #[inline(always)]
    unsafe fn look_up_long<const BITS: usize>(
        table: *const f32,
        positions: [u64; 2],
        _first_lane: usize,
    ) -> Self {
        // SAFETY: the caller's promise; the instructions are there.
        unsafe {
            let positions = lanes(positions);
            let part_of = _mm512_srli_epi32::<5>(positions);
            let mut found = _mm512_setzero_ps();
            // The permutation reads the low five bits. Not a gather: that is many
            // times slower on processors that must keep it from leaking data.
            for part in 0..1 << (BITS - 5) {
                let from = table.add(32 * part);
                let (low, high) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)));
                let values = _mm512_permutex2var_ps(low, positions, high);
                let is_here = _mm512_cmpeq_epi32_mask(part_of, _mm512_set1_epi32(part as i32));
                found = _mm512_mask_mov_ps(found, is_here, values);
            }
            Self(found)
        }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, len: usize) -> Self {
        // SAFETY: the caller's promise; lanes beyond the mask are not read.
        unsafe {
            if len == Self::LANES {
                return Self::load(from);
            }
            Self(_mm512_maskz_loadu_ps(first(len), from))
        }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, len: usize) {
        // SAFETY: the caller's promise; lanes beyond the mask are not written.
        unsafe {
            if len == Self::LANES {
                return self.store(to);
            }
            _mm512_mask_storeu_ps(to, first(len), self.0);
        }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(instruction!(_mm512_set1_ps(value)))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(instruction!(_mm512_add_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(instruction!(_mm512_sub_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(instruction!(_mm512_mul_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(instruction!(_mm512_div_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(instruction!(_mm512_fmadd_ps(self.0, factor.0, addend.0)))
    }

    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        // The instruction gives its second operand where either is NaN.
        Self(instruction!(_mm512_max_ps(bound.0, self.0)))
    }

    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        Self(instruction!(_mm512_min_ps(bound.0, self.0)))
    }

    #[inline(always)]
    fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        Self(instruction!(_mm512_roundscale_ps::<NEAREST>(self.0)))
    }

    #[inline(always)]
    fn exp2_whole(self) -> Self {
        Self(instruction!({
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }))
    }
}
