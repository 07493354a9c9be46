//! Dot products of `relaxed-simd`: four products of bytes in one instruction.
//!
//! The second operand's bytes are signed or not as the engine chooses, and
//! [`is_unsigned`] asks which: codes are unsigned, as on x86. Where that
//! machine sums two products in 16 bits on the way, packing keeps them small
//! enough, as for AVX2.

use core::arch::wasm32::{
    i8x16_relaxed_swizzle, i32x4_extract_lane, i32x4_relaxed_dot_i8x16_i7x16_add, i32x4_splat,
    u8x16_splat, v128,
};

use crate::arch::simd128_int8::{Products, Wasm};
use crate::int8::groups::Groups;
use crate::int8::steps::add_steps;
use crate::int8::vector::{IN_ORDER, Int8Kernel, MAX_PANEL_VECTORS, QUARTER};

/// Runs a kernel.
///
/// # Safety
///
/// What the kernel requires of its fields holds.
#[inline(never)]
pub(crate) unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise; the module has the instructions.
    unsafe { kernel.run::<Wasm<Relaxed>>() }
}

/// Whether the engine takes the second operand's bytes as unsigned. The standard
/// has one parameter for all that an engine runs.
pub(crate) fn is_unsigned() -> bool {
    // Twice 200 times 60: below 2^15, as packing promises.
    let [codes, weights] = std::hint::black_box([200u8, 60]).map(|byte| u8x16_splat(byte));
    let sums = i32x4_relaxed_dot_i8x16_i7x16_add(weights, codes, i32x4_splat(7));
    i32x4_extract_lane::<0>(sums) == 4 * 200 * 60 + 7
}

/// Dot products of one instruction.
#[derive(Clone, Copy)]
pub(crate) struct Relaxed;

impl Products for Relaxed {
    const EXACT: bool = false;
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS] = [8, 6, 0, 0];
    const QUADS: bool = false;
    const STEP_ORDER: [u8; 2 * QUARTER] = IN_ORDER;

    #[inline(always)]
    fn select(table: v128, places: v128) -> v128 {
        i8x16_relaxed_swizzle(table, places)
    }

    #[inline(always)]
    fn dot1(sums: v128, [a, w]: [v128; 2]) -> v128 {
        i32x4_relaxed_dot_i8x16_i7x16_add(w, a, sums)
    }

    #[inline(always)]
    unsafe fn add_products<const MR: usize, const NV: usize, const BITS: u8>(
        groups: &Groups<'_>,
        sums: [[v128; NV]; MR],
    ) -> [[v128; NV]; MR] {
        // SAFETY: the caller's promise.
        unsafe { add_steps::<Wasm<Self>, MR, NV, BITS>(groups, sums) }
    }
}
