//! WebAssembly's vectors of 128 bits, for floats.
//!
//! Features of WebAssembly are a module's, not found when it runs, and the
//! intrinsics are safe functions. With `relaxed-simd` products and sums are
//! rounded together, which [`is_fused`] makes sure of.

use core::arch::wasm32::{
    f32x4, f32x4_add, f32x4_div, f32x4_gt, f32x4_lt, f32x4_mul, f32x4_nearest, f32x4_splat,
    f32x4_sub, i8x16_swizzle, i32x4_add, i32x4_shl, i32x4_splat, i32x4_trunc_sat_f32x4, u8x16,
    u8x16_add, u8x16_shl, u8x16_splat, u8x16_sub, u64x2, v128, v128_bitselect, v128_load,
    v128_load32_zero, v128_load64_zero, v128_or, v128_store, v128_store32_lane, v128_store64_lane,
};
#[cfg(not(target_feature = "relaxed-simd"))]
use core::arch::wasm32::{
    f32x4_demote_f64x2_zero, f64x2_add, f64x2_mul, f64x2_promote_low_f32x4, i32x4_shuffle,
    i64x2_eq, i64x2_splat, v128_and, v128_any_true,
};
#[cfg(target_feature = "relaxed-simd")]
use core::arch::wasm32::{f32x4_extract_lane, f32x4_relaxed_madd};

use crate::vector::{Kernel, Vector};

/// Runs a kernel.
///
/// # Safety
///
/// What the kernel requires of its fields holds.
pub(crate) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise; the module has the instructions.
    unsafe { kernel.run::<F32x4>() }
}

/// Four floats in a 128-bit register.
#[derive(Clone, Copy)]
pub(crate) struct F32x4(pub(super) v128);

/// Whether the relaxed multiply-add rounds once. An engine does it always or
/// never: the standard has one parameter for all that it runs.
#[cfg(target_feature = "relaxed-simd")]
pub(crate) fn is_fused() -> bool {
    // (1 + 2^-12)^2 - (1 + 2^-11) is 2^-24, which a product that is rounded loses.
    let near_one = std::hint::black_box(1.0 + 2f32.powi(-12));
    let product = F32x4::splat(near_one).mul_add(
        F32x4::splat(near_one),
        F32x4::splat(-(1.0 + 2f32.powi(-11))),
    );
    f32x4_extract_lane::<0>(product.0) == 2f32.powi(-24)
}

/// `a * b + c`, rounded once, without an instruction for it; `a` is a whole number.
///
/// In 64 bits the product is exact and the sum is rounded, and rounding again to
/// 32 bits gives the same unless the sum then is midway between two floats of
/// 32 bits: those are taken one by one. Sums too small for all bits of a
/// float are exact in 64 bits, since the product has no smaller bits than `b`.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
fn fused(a: v128, b: v128, c: v128) -> v128 {
    /// What 32 bits of a fraction lack, and that at a midpoint.
    const LOST: i64 = (1 << 29) - 1;
    const MIDWAY: i64 = 1 << 28;
    let [low, high] = [
        [a, b, c],
        [a, b, c].map(|x| i32x4_shuffle::<2, 3, 2, 3>(x, x)),
    ]
    .map(|[a, b, c]| [a, b, c].map(|x| f64x2_promote_low_f32x4(x)))
    .map(|[a, b, c]| f64x2_add(f64x2_mul(a, b), c));
    let midway =
        [low, high].map(|sum| i64x2_eq(v128_and(sum, i64x2_splat(LOST)), i64x2_splat(MIDWAY)));
    if v128_any_true(v128_or(midway[0], midway[1])) {
        return fused_one_by_one(a, b, c);
    }
    i32x4_shuffle::<0, 1, 4, 5>(f32x4_demote_f64x2_zero(low), f32x4_demote_f64x2_zero(high))
}

#[cfg(not(target_feature = "relaxed-simd"))]
#[cold]
#[inline(never)]
fn fused_one_by_one(a: v128, b: v128, c: v128) -> v128 {
    let [a, b, c] = [a, b, c].map(|x| {
        let mut lanes = [0.0f32; 4];
        // SAFETY: an array of four floats.
        unsafe { v128_store(lanes.as_mut_ptr().cast(), x) };
        lanes
    });
    let sum = |i: usize| fused_one(a[i], b[i], c[i]);
    f32x4(sum(0), sum(1), sum(2), sum(3))
}

/// Not by the library, whose function needs modes of rounding that WebAssembly
/// has not: the sum is rounded to odd first (Boldo and Melquiond, "Emulation of
/// FMA and correctly rounded sums", 2008, doi:10.1109/TC.2007.70819).
#[cfg(not(target_feature = "relaxed-simd"))]
fn fused_one(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    let of_c = sum - product;
    let error = (product - (sum - of_c)) + (c - of_c);
    let bits = sum.to_bits();
    if error == 0.0 || bits & 1 == 1 || !error.is_finite() {
        return sum as f32;
    }
    let is_larger = (error > 0.0) == (sum > 0.0);
    f64::from_bits(if is_larger { bits + 1 } else { bits - 1 }) as f32
}

impl Vector for F32x4 {
    const LANES: usize = 4;
    const REGISTERS: usize = 16;
    type Narrow = Self;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; vectors are read at any alignment.
        Self(unsafe { v128_load(from.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { v128_store(to.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, len: usize) -> Self {
        // SAFETY: the caller's promise; no more than `len` lanes are read.
        unsafe {
            match len {
                4 => Self::load(from),
                0 => Self::splat(0.0),
                1 => Self(v128_load32_zero(from.cast())),
                2 => Self(v128_load64_zero(from.cast())),
                _ => Self(f32x4(*from, *from.add(1), *from.add(2), 0.0)),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, len: usize) {
        // SAFETY: the caller's promise; no more than `len` lanes are written.
        unsafe {
            match len {
                4 => self.store(to),
                0 => {}
                1 => v128_store32_lane::<0>(self.0, to.cast()),
                2 => v128_store64_lane::<0>(self.0, to.cast()),
                _ => {
                    v128_store64_lane::<0>(self.0, to.cast());
                    v128_store32_lane::<2>(self.0, to.add(2).cast());
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn look_up(table: *const f32, positions: [u64; 2], first_lane: usize) -> Self {
        // The four bytes of each float are next to each other in a table of 64
        // bytes, whose quarters give zeros for what is not in them.
        let lane = first_lane as u8;
        let lanes = u8x16_add(
            u8x16(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),
            u8x16_splat(lane),
        );
        let bytes = u8x16(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
        let positions = i8x16_swizzle(u64x2(positions[0], positions[1]), lanes);
        let places = u8x16_add(u8x16_shl(positions, 2), bytes);
        let mut found = u8x16_splat(0);
        for quarter in 0..4u8 {
            // SAFETY: the caller's promise.
            let table = unsafe { v128_load(table.add(4 * usize::from(quarter)).cast()) };
            let places = u8x16_sub(places, u8x16_splat(16 * quarter));
            found = v128_or(found, i8x16_swizzle(table, places));
        }
        Self(found)
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(f32x4_splat(value))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(f32x4_add(self.0, other.0))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(f32x4_sub(self.0, other.0))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(f32x4_mul(self.0, other.0))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(f32x4_div(self.0, other.0))
    }

    #[cfg(not(target_feature = "relaxed-simd"))]
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        self.mul(factor).add(addend)
    }

    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(f32x4_relaxed_madd(self.0, factor.0, addend.0))
    }

    #[cfg(not(target_feature = "relaxed-simd"))]
    #[inline(always)]
    fn fused(self, factor: Self, addend: Self) -> Self {
        Self(fused(self.0, factor.0, addend.0))
    }

    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        // Not the pseudo-maximum: compilers make a relaxed one of it, which loses NaN.
        Self(v128_bitselect(bound.0, self.0, f32x4_lt(self.0, bound.0)))
    }

    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        Self(v128_bitselect(bound.0, self.0, f32x4_gt(self.0, bound.0)))
    }

    #[inline(always)]
    fn round(self) -> Self {
        Self(f32x4_nearest(self.0))
    }

    #[inline(always)]
    fn exp2_whole(self) -> Self {
        let exponent = i32x4_add(i32x4_trunc_sat_f32x4(self.0), i32x4_splat(127));
        Self(i32x4_shl(exponent, 23))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_between_two_floats_is_rounded_once() {
        // The product is just below half a step of the sum, which 64 bits do not tell from half.
        let whole = 8_388_609.0;
        let factor = (1.0 - 2f32.powi(-23)) * 2f32.powi(-47);
        let addends = [1.0 + 2f32.powi(-23), 1.0, -3.5, 0.0];
        let mut found = [0.0; 4];
        // SAFETY: arrays of four floats; the module has the instructions.
        unsafe {
            let addend = F32x4::load(addends.as_ptr());
            let sum = F32x4::splat(whole).fused(F32x4::splat(factor), addend);
            sum.store(found.as_mut_ptr());
        }
        assert_eq!(found, [addends[0], addends[1], addends[2], 2f32.powi(-24)]);
    }
}
