//! NEON, the vectors that every AArch64 processor has.

use core::arch::aarch64::{
    float32x4_t, uint8x16x4_t, vaddq_f32, vaddq_s32, vaddq_u8, vbslq_f32, vcgtq_f32, vcltq_f32,
    vcombine_u8, vcreate_u8, vcvtnq_s32_f32, vdivq_f32, vdupq_n_f32, vdupq_n_s32, vfmaq_f32,
    vld1q_f32, vld1q_lane_f32, vld1q_u8, vld1q_u8_x4, vmulq_f32, vqtbl1q_u8, vqtbl4q_u8,
    vreinterpretq_f32_s32, vreinterpretq_f32_u8, vrndnq_f32, vshlq_n_s32, vshlq_n_u8, vst1q_f32,
    vst1q_lane_f32, vsubq_f32,
};

use crate::vector::{Kernel, Vector};

/// Runs a kernel with NEON.
///
/// # Safety
///
/// What the kernel requires of its fields holds.
#[target_feature(enable = "neon")]
pub(crate) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<F32x4>() }
}

/// Four floats in a 128-bit register.
#[derive(Clone, Copy)]
pub(crate) struct F32x4(pub(super) float32x4_t);

/// Calls an intrinsic that needs nothing but its instruction.
macro_rules! instruction {
    ($($call:tt)*) => {
        // SAFETY: every AArch64 processor that Rust is compiled for has NEON.
        unsafe { $($call)* }
    };
}

impl Vector for F32x4 {
    const LANES: usize = 4;
    const REGISTERS: usize = 32;
    type Narrow = Self;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { vld1q_f32(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_f32(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, len: usize) -> Self {
        // SAFETY: the caller's promise; no more than `len` lanes are read.
        unsafe {
            if len == Self::LANES {
                return Self::load(from);
            }
            let mut lanes = vdupq_n_f32(0.0);
            if len > 0 {
                lanes = vld1q_lane_f32::<0>(from, lanes);
            }
            if len > 1 {
                lanes = vld1q_lane_f32::<1>(from.add(1), lanes);
            }
            if len > 2 {
                lanes = vld1q_lane_f32::<2>(from.add(2), lanes);
            }
            Self(lanes)
        }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, len: usize) {
        // SAFETY: the caller's promise; no more than `len` lanes are written.
        unsafe {
            if len == Self::LANES {
                return self.store(to);
            }
            if len > 0 {
                vst1q_lane_f32::<0>(to, self.0);
            }
            if len > 1 {
                vst1q_lane_f32::<1>(to.add(1), self.0);
            }
            if len > 2 {
                vst1q_lane_f32::<2>(to.add(2), self.0);
            }
        }
    }

    #[inline(always)]
    unsafe fn look_up(table: *const f32, positions: [u64; 2], first_lane: usize) -> Self {
        // The four bytes of each float are next to each other in a table of 64 bytes.
        const BYTES: [u8; 16] = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3];
        const LANES: [[u8; 16]; 4] = {
            let mut lanes = [[0; 16]; 4];
            let mut i = 0;
            while i < 64 {
                lanes[i / 16][i % 16] = (i / 4) as u8;
                i += 1;
            }
            lanes
        };
        // SAFETY: the caller's promise; the instructions are there.
        unsafe {
            let table: uint8x16x4_t = vld1q_u8_x4(table.cast());
            let positions = vcombine_u8(vcreate_u8(positions[0]), vcreate_u8(positions[1]));
            let lanes = vld1q_u8(LANES[first_lane / 4].as_ptr());
            let first = vqtbl1q_u8(vshlq_n_u8::<2>(positions), lanes);
            let bytes = vqtbl4q_u8(table, vaddq_u8(first, vld1q_u8(BYTES.as_ptr())));
            Self(vreinterpretq_f32_u8(bytes))
        }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(instruction!(vdupq_n_f32(value)))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(instruction!(vaddq_f32(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(instruction!(vsubq_f32(self.0, other.0)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(instruction!(vmulq_f32(self.0, other.0)))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(instruction!(vdivq_f32(self.0, other.0)))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(instruction!(vfmaq_f32(addend.0, self.0, factor.0)))
    }

    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        // Not the maximum: that is NaN where the bound is.
        let is_less = instruction!(vcltq_f32(self.0, bound.0));
        Self(instruction!(vbslq_f32(is_less, bound.0, self.0)))
    }

    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        let is_greater = instruction!(vcgtq_f32(self.0, bound.0));
        Self(instruction!(vbslq_f32(is_greater, bound.0, self.0)))
    }

    #[inline(always)]
    fn round(self) -> Self {
        Self(instruction!(vrndnq_f32(self.0)))
    }

    #[inline(always)]
    fn exp2_whole(self) -> Self {
        Self(instruction!({
            let exponent = vaddq_s32(vcvtnq_s32_f32(self.0), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        }))
    }
}
