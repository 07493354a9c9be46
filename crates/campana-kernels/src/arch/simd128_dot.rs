//! Dot products of `simd128`, which multiplies and adds pairs of 16 bits.
//!
//! Bytes become 16 bits first. For all pairs to be added to the sums of four
//! columns without being moved, the weights of a tile lie two by two: first the
//! first two of each column's group, then the last two. A row's 16 bytes are
//! widened once for all columns, and each two of them are brought to all columns.

use core::arch::wasm32::{
    i8x16_swizzle, i16x8_extend_high_i8x16, i16x8_extend_low_i8x16, i32x4_add, i32x4_dot_i16x8,
    i32x4_shuffle, i64x2_shuffle, u16x8_extend_high_u8x16, u16x8_extend_low_u8x16, v128,
    v128_load32_lane, v128_load32_zero, v128_load64_splat,
};

use crate::arch::simd128_int8::{Products, Wasm};
use crate::int8::groups::Groups;
use crate::int8::quads::{Quads, STEP_OF_PAIRS, add_quads, each};
use crate::int8::vector::{Int8Kernel, MAX_PANEL_VECTORS, QUARTER};

/// Runs a kernel.
///
/// # Safety
///
/// What the kernel requires of its fields holds.
#[inline(never)]
pub(crate) unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise; the module has the instructions.
    unsafe { kernel.run::<Wasm<Widening>>() }
}

/// Dot products out of products of 16 bits.
#[derive(Clone, Copy)]
pub(crate) struct Widening;

impl Products for Widening {
    const EXACT: bool = true;
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS] = [4, 4, 0, 0];
    const QUADS: bool = true;
    const STEP_ORDER: [u8; 2 * QUARTER] = STEP_OF_PAIRS;

    #[inline(always)]
    fn select(table: v128, places: v128) -> v128 {
        i8x16_swizzle(table, places)
    }

    #[inline(always)]
    fn dot1(sums: v128, [a, w]: [v128; 2]) -> v128 {
        let low = i32x4_dot_i16x8(u16x8_extend_low_u8x16(a), i16x8_extend_low_i8x16(w));
        let high = i32x4_dot_i16x8(u16x8_extend_high_u8x16(a), i16x8_extend_high_i8x16(w));
        let first = i32x4_shuffle::<0, 2, 4, 6>(low, high);
        let last = i32x4_shuffle::<1, 3, 5, 7>(low, high);
        i32x4_add(sums, i32x4_add(first, last))
    }

    #[inline(always)]
    unsafe fn add_products<const MR: usize, const NV: usize, const BITS: u8>(
        groups: &Groups<'_>,
        sums: [[v128; NV]; MR],
    ) -> [[v128; NV]; MR] {
        // SAFETY: the caller's promise.
        unsafe { add_quads::<Wasm<Self>, MR, NV, BITS>(groups, sums) }
    }
}

impl Quads for Wasm<Widening> {
    type Kept = v128;
    /// The low, and the high, half of the codes in 16 bits.
    type Inputs = [v128; 2];

    #[inline(always)]
    unsafe fn load_half(from: *const u8) -> v128 {
        // SAFETY: the caller's promise; the half is read at any alignment.
        unsafe { v128_load64_splat(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_apart(first: *const u8, second: *const u8) -> v128 {
        // SAFETY: the caller's promise; lanes are read at any alignment.
        unsafe {
            let half = v128_load32_zero(first.cast());
            let half = v128_load32_lane::<1>(half, second.cast());
            i64x2_shuffle::<0, 0>(half, half)
        }
    }

    #[inline(always)]
    fn inputs<const MR: usize>(codes: [v128; MR]) -> [[v128; 2]; MR] {
        let mut inputs = [[codes[0]; 2]; MR];
        each!(i < MR => {
            inputs[i] = [u16x8_extend_low_u8x16(codes[i]), u16x8_extend_high_u8x16(codes[i])];
        });
        inputs
    }

    #[inline(always)]
    fn step<const MR: usize, const NV: usize, const HIGH: bool>(
        mut kept: [[v128; NV]; MR],
        inputs: [[v128; 2]; MR],
        weights: [[v128; NV]; 2],
    ) -> [[v128; NV]; MR] {
        // One group after the other: its two pairs, and the weights of both.
        macro_rules! group {
            ($group:literal, $first:literal, $last:literal) => {
                let mut wide = [[weights[0][0]; 2]; NV];
                each!(j < NV => {
                    let w = weights[$group][j];
                    wide[j] = [i16x8_extend_low_i8x16(w), i16x8_extend_high_i8x16(w)];
                });
                each!(i < MR => {
                    let a = inputs[i][usize::from(HIGH)];
                    let first = i32x4_shuffle::<$first, $first, $first, $first>(a, a);
                    let last = i32x4_shuffle::<$last, $last, $last, $last>(a, a);
                    each!(j < NV => {
                        kept[i][j] = i32x4_add(kept[i][j], i32x4_dot_i16x8(first, wide[j][0]));
                        kept[i][j] = i32x4_add(kept[i][j], i32x4_dot_i16x8(last, wide[j][1]));
                    });
                });
            };
        }
        group!(0, 0, 1);
        group!(1, 2, 3);
        kept
    }

    #[inline(always)]
    fn keep<const MR: usize, const NV: usize>(sums: [[v128; NV]; MR]) -> [[v128; NV]; MR] {
        sums
    }

    #[inline(always)]
    fn give<const MR: usize, const NV: usize>(kept: [[v128; NV]; MR]) -> [[v128; NV]; MR] {
        kept
    }
}
