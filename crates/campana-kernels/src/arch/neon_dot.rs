//! Dot products of ARMv8.0, which has no instruction for them.
//!
//! `smull` and `smlal` sum two products of signed bytes in 16 bits, which
//! cannot overflow: codes less 128 times weights of -127 to 127 are at most 16256.
//! `sadalp` adds pairs of these sums to those in 32 bits. For all pairs to be
//! added to the sums of four columns, the weights of a tile lie two by two: first
//! the first two of each column's group, then the last two.

use core::arch::aarch64::{
    int32x4_t, uint8x16_t, vget_low_s8, vld1q_u8, vmlal_high_s8, vmlal_s8, vmull_high_s8, vmull_s8,
    vpadalq_s16, vpaddq_s16, vqtbl1q_u8, vreinterpretq_s8_u8,
};

use crate::arch::neon_int8::{Dot, Neon, instruction};
use crate::int8::quads::{PAIRS, STEP_OF_PAIRS, each};
use crate::int8::vector::{Int8Kernel, MAX_PANEL_VECTORS, QUARTER};

/// Dot products out of products of 16 bits.
#[derive(Clone, Copy)]
pub(crate) struct Widening;

/// Runs a kernel.
///
/// # Safety
///
/// What the kernel requires of its fields holds.
#[inline(never)]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<Neon<Widening>>() }
}

/// The group of a row's four that is at this place, for four columns in their order.
const fn spread(group: u8) -> [u8; QUARTER] {
    let mut places = [0; QUARTER];
    let mut i = 0;
    while i < QUARTER {
        places[i] = 4 * group + PAIRS[i] % 4;
        i += 1;
    }
    places
}

impl Dot for Widening {
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS] = [8, 6, 4, 4];
    const SIGNED: bool = true;
    const STEP_ORDER: [u8; 2 * QUARTER] = STEP_OF_PAIRS;

    type Kept = int32x4_t;
    type Inputs = uint8x16_t;

    #[inline(always)]
    unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's promise.
        unsafe { run(kernel) }
    }

    #[inline(always)]
    fn dot1(sums: int32x4_t, [a, w]: [uint8x16_t; 2]) -> int32x4_t {
        instruction!({
            let (a, w) = (vreinterpretq_s8_u8(a), vreinterpretq_s8_u8(w));
            let low = vmull_s8(vget_low_s8(a), vget_low_s8(w));
            vpadalq_s16(sums, vpaddq_s16(low, vmull_high_s8(a, w)))
        })
    }

    #[inline(always)]
    fn inputs<const MR: usize>(codes: [uint8x16_t; MR]) -> [uint8x16_t; MR] {
        codes
    }

    #[inline(always)]
    fn step<const MR: usize, const NV: usize, const HIGH: bool>(
        mut kept: [[int32x4_t; NV]; MR],
        inputs: [uint8x16_t; MR],
        [w, v]: [[uint8x16_t; NV]; 2],
    ) -> [[int32x4_t; NV]; MR] {
        const PLACES: [[u8; QUARTER]; 4] = [spread(0), spread(1), spread(2), spread(3)];
        instruction!({
            let first = vld1q_u8(PLACES[2 * usize::from(HIGH)].as_ptr());
            let second = vld1q_u8(PLACES[2 * usize::from(HIGH) + 1].as_ptr());
            each!(i < MR => {
                let a = vreinterpretq_s8_u8(vqtbl1q_u8(inputs[i], first));
                let b = vreinterpretq_s8_u8(vqtbl1q_u8(inputs[i], second));
                each!(j < NV => {
                    let (w, v) = (vreinterpretq_s8_u8(w[j]), vreinterpretq_s8_u8(v[j]));
                    let low = vmull_s8(vget_low_s8(a), vget_low_s8(w));
                    let low = vmlal_s8(low, vget_low_s8(b), vget_low_s8(v));
                    let high = vmlal_high_s8(vmull_high_s8(a, w), b, v);
                    kept[i][j] = vpadalq_s16(vpadalq_s16(kept[i][j], low), high);
                });
            });
        });
        kept
    }

    #[inline(always)]
    fn keep<const MR: usize, const NV: usize>(
        sums: [[int32x4_t; NV]; MR],
    ) -> [[int32x4_t; NV]; MR] {
        sums
    }

    #[inline(always)]
    fn give<const MR: usize, const NV: usize>(
        kept: [[int32x4_t; NV]; MR],
    ) -> [[int32x4_t; NV]; MR] {
        kept
    }
}
