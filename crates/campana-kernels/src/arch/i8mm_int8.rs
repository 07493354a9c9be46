//! Dot products of ARMv8.6: `usmmla` multiplies two rows of eight codes with two
//! columns of eight weights, twice as many products as a dot product has.
//!
//! The sums of two rows and four columns then are in two registers, those of
//! the first two columns of both rows before those of the last two. The weights
//! of a step lie so: both groups of the first two columns, then of the last two.
//! An odd last row is taken twice.
//!
//! The intrinsics are not stable, so each instruction is a line of assembly.

use core::arch::aarch64::{
    int32x4_t, uint8x16_t, uint64x2_t, vreinterpretq_s32_u64, vreinterpretq_u8_u64,
    vreinterpretq_u64_s32, vreinterpretq_u64_u8, vzip1q_u64, vzip2q_u64,
};
use core::arch::asm;

use crate::arch::neon_int8::{Dot, Neon, instruction};
use crate::int8::quads::each;
use crate::int8::vector::{Int8Kernel, MAX_PANEL_VECTORS, QUARTER};

/// Products of unsigned matrices with signed ones.
#[derive(Clone, Copy)]
pub(crate) struct I8mm;

/// Compiles a kernel with the matrix products, and runs it.
///
/// # Safety
///
/// The processor has them, and what the kernel requires of its fields holds.
#[inline(never)]
#[target_feature(enable = "neon,dotprod,i8mm")]
pub(crate) unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<Neon<I8mm>>() }
}

/// Adds the products of two rows of codes and two columns of weights.
#[inline(always)]
fn usmmla(mut sums: int32x4_t, rows: uint8x16_t, columns: uint8x16_t) -> int32x4_t {
    // SAFETY: below `run`, whose caller promised the instruction; it touches
    // nothing but its operands.
    unsafe {
        asm!(
            "usmmla {sums:v}.4s, {rows:v}.16b, {columns:v}.16b",
            sums = inout(vreg) sums,
            rows = in(vreg) rows,
            columns = in(vreg) columns,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// The low, and the high, halves of two registers.
#[inline(always)]
fn zip(a: uint64x2_t, b: uint64x2_t) -> [uint64x2_t; 2] {
    instruction!([vzip1q_u64(a, b), vzip2q_u64(a, b)])
}

impl Dot for I8mm {
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS] = [8, 8, 6, 4];
    const SIGNED: bool = false;
    const STEP_ORDER: [u8; 2 * QUARTER] = {
        let mut order = [0; 2 * QUARTER];
        let mut i = 0;
        while i < 2 * QUARTER {
            // Of eight rows of a column, four are the first group's.
            let (column, row) = (i / 8, i % 8);
            order[i] = (row / 4 * QUARTER + column * 4 + row % 4) as u8;
            i += 1;
        }
        order
    };

    /// At the even rows the sums of theirs and the next.
    type Kept = [int32x4_t; 2];

    /// At the even rows the low, and the high, halves of theirs and the next.
    type Inputs = [uint8x16_t; 2];

    #[inline(always)]
    unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's promise.
        unsafe { run(kernel) }
    }

    #[inline(always)]
    fn dot1(mut sums: int32x4_t, [a, w]: [uint8x16_t; 2]) -> int32x4_t {
        // SAFETY: as in `usmmla`.
        unsafe {
            asm!(
                "usdot {sums:v}.4s, {a:v}.16b, {w:v}.16b",
                sums = inout(vreg) sums,
                a = in(vreg) a,
                w = in(vreg) w,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }

    #[inline(always)]
    fn inputs<const MR: usize>(codes: [uint8x16_t; MR]) -> [[uint8x16_t; 2]; MR] {
        let mut inputs = [[codes[0]; 2]; MR];
        instruction!({
            each!(i < MR => {
                if i.is_multiple_of(2) {
                    let next = codes[(i + 1).min(MR - 1)];
                    let [low, high] =
                        zip(vreinterpretq_u64_u8(codes[i]), vreinterpretq_u64_u8(next));
                    inputs[i] = [vreinterpretq_u8_u64(low), vreinterpretq_u8_u64(high)];
                }
            });
        });
        inputs
    }

    #[inline(always)]
    fn step<const MR: usize, const NV: usize, const HIGH: bool>(
        mut kept: [[[int32x4_t; 2]; NV]; MR],
        inputs: [[uint8x16_t; 2]; MR],
        weights: [[uint8x16_t; NV]; 2],
    ) -> [[[int32x4_t; 2]; NV]; MR] {
        each!(j < NV => each!(i < MR => {
            if i.is_multiple_of(2) {
                let rows = inputs[i][usize::from(HIGH)];
                kept[i][j][0] = usmmla(kept[i][j][0], rows, weights[0][j]);
            }
        }));
        each!(j < NV => each!(i < MR => {
            if i.is_multiple_of(2) {
                let rows = inputs[i][usize::from(HIGH)];
                kept[i][j][1] = usmmla(kept[i][j][1], rows, weights[1][j]);
            }
        }));
        kept
    }

    #[inline(always)]
    fn keep<const MR: usize, const NV: usize>(
        sums: [[int32x4_t; NV]; MR],
    ) -> [[[int32x4_t; 2]; NV]; MR] {
        let mut kept = [[[sums[0][0]; 2]; NV]; MR];
        instruction!({
            each!(j < NV => each!(i < MR => {
                if i.is_multiple_of(2) {
                    let next = vreinterpretq_u64_s32(sums[(i + 1).min(MR - 1)][j]);
                    let [first, last] = zip(vreinterpretq_u64_s32(sums[i][j]), next);
                    kept[i][j] = [vreinterpretq_s32_u64(first), vreinterpretq_s32_u64(last)];
                }
            }));
        });
        kept
    }

    #[inline(always)]
    fn give<const MR: usize, const NV: usize>(
        kept: [[[int32x4_t; 2]; NV]; MR],
    ) -> [[int32x4_t; NV]; MR] {
        let mut sums = [[kept[0][0][0]; NV]; MR];
        instruction!({
            each!(j < NV => each!(i < MR => {
                let [first, last] = kept[i / 2 * 2][j];
                let [row, next] = zip(vreinterpretq_u64_s32(first), vreinterpretq_u64_s32(last));
                sums[i][j] = vreinterpretq_s32_u64(if i.is_multiple_of(2) { row } else { next });
            }));
        });
        sums
    }
}
