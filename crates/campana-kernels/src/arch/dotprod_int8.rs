//! Dot products of ARMv8.2: `sdot` of signed bytes, one group of a row with
//! four columns.
//!
//! The intrinsics are not stable, so each instruction is a line of assembly.

use core::arch::aarch64::{int32x4_t, uint8x16_t};
use core::arch::asm;

use crate::arch::neon_int8::{Dot, Neon};
use crate::int8::quads::each;
use crate::int8::vector::{IN_ORDER, Int8Kernel, MAX_PANEL_VECTORS, QUARTER};

/// Dot products of signed bytes.
#[derive(Clone, Copy)]
pub(crate) struct DotProd;

/// Compiles a kernel with the dot products, and runs it.
///
/// # Safety
///
/// The processor has them, and what the kernel requires of its fields holds.
#[inline(never)]
#[target_feature(enable = "neon,dotprod")]
pub(crate) unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<Neon<DotProd>>() }
}

/// Adds the products of four columns' weights with group `GROUP` of a row's four.
#[inline(always)]
fn sdot<const GROUP: usize>(
    mut sums: int32x4_t,
    weights: uint8x16_t,
    row: uint8x16_t,
) -> int32x4_t {
    // SAFETY: below `run`, whose caller promised the instruction; it touches
    // nothing but its operands.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {weights:v}.16b, {row:v}.4b[{group}]",
            sums = inout(vreg) sums,
            weights = in(vreg) weights,
            row = in(vreg) row,
            group = const GROUP,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

impl Dot for DotProd {
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS] = [8, 8, 6, 5];
    const SIGNED: bool = true;
    const STEP_ORDER: [u8; 2 * QUARTER] = IN_ORDER;

    type Kept = int32x4_t;
    type Inputs = uint8x16_t;

    #[inline(always)]
    unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's promise.
        unsafe { run(kernel) }
    }

    #[inline(always)]
    fn dot1(mut sums: int32x4_t, [a, w]: [uint8x16_t; 2]) -> int32x4_t {
        // SAFETY: as in `sdot`.
        unsafe {
            asm!(
                "sdot {sums:v}.4s, {a:v}.16b, {w:v}.16b",
                sums = inout(vreg) sums,
                a = in(vreg) a,
                w = in(vreg) w,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }

    #[inline(always)]
    fn inputs<const MR: usize>(codes: [uint8x16_t; MR]) -> [uint8x16_t; MR] {
        codes
    }

    #[inline(always)]
    fn step<const MR: usize, const NV: usize, const HIGH: bool>(
        mut kept: [[int32x4_t; NV]; MR],
        inputs: [uint8x16_t; MR],
        weights: [[uint8x16_t; NV]; 2],
    ) -> [[int32x4_t; NV]; MR] {
        each!(j < NV => each!(i < MR => {
            kept[i][j] = match HIGH {
                false => sdot::<0>(kept[i][j], weights[0][j], inputs[i]),
                true => sdot::<2>(kept[i][j], weights[0][j], inputs[i]),
            };
        }));
        each!(j < NV => each!(i < MR => {
            kept[i][j] = match HIGH {
                false => sdot::<1>(kept[i][j], weights[1][j], inputs[i]),
                true => sdot::<3>(kept[i][j], weights[1][j], inputs[i]),
            };
        }));
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
