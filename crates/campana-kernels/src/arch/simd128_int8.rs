//! Bytes and sums in WebAssembly's vectors of 128 bits: what its ISAs share.
//!
//! They differ in their dot products ([`Products`]): those of `simd128` are
//! in `simd128_dot.rs`, those of `relaxed-simd` in `relaxed_dot.rs`.

use core::arch::wasm32::{
    f32x4_add, f32x4_convert_i32x4, f32x4_gt, f32x4_pmin, f32x4_splat, i8x16_shuffle,
    i16x8_narrow_i32x4, i32x4_splat, i32x4_sub, u8x16_max, u8x16_min, u8x16_narrow_i16x8,
    u8x16_shr, u8x16_splat, u16x8_extend_low_u8x16, u32x4_extend_low_u16x8, v128, v128_and,
    v128_load, v128_load32_splat, v128_load32_zero, v128_store, v128_store32_lane,
    v128_store64_lane,
};
use core::marker::PhantomData;

use crate::arch::simd128::F32x4;
use crate::int8::groups::Groups;
use crate::int8::vector::{Int8, Int8Kernel, MAX_PANEL_VECTORS, QUARTER};

/// The dot products of an ISA.
pub(crate) trait Products: Copy {
    /// As [`Int8::EXACT`].
    const EXACT: bool;

    /// As [`Int8::TILE_ROWS`].
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS];

    /// As [`Int8::QUADS`].
    const QUADS: bool;

    /// As [`Int8::STEP_ORDER`].
    const STEP_ORDER: [u8; 2 * QUARTER];

    /// The bytes of `table` at `places`, which are below 16.
    fn select(table: v128, places: v128) -> v128;

    /// As [`Int8::dot1`].
    fn dot1(sums: v128, product: [v128; 2]) -> v128;

    /// As [`Int8::add_products`].
    ///
    /// # Safety
    ///
    /// As there.
    unsafe fn add_products<const MR: usize, const NV: usize, const BITS: u8>(
        groups: &Groups<'_>,
        sums: [[v128; NV]; MR],
    ) -> [[v128; NV]; MR];
}

/// WebAssembly's integer vectors, with these dot products.
#[derive(Clone, Copy)]
pub(crate) struct Wasm<P>(PhantomData<P>);

/// Adding it to a float of 0 to 255 rounds that to a whole number, ties to even,
/// and leaves it in the low bits.
const ROUNDING: f32 = 1.5 * (1 << 23) as f32;

impl<P: Products> Wasm<P> {
    /// Floats as whole numbers of 0 to 255; NaN gives 0.
    #[inline(always)]
    fn whole(values: F32x4) -> v128 {
        let positive = v128_and(values.0, f32x4_gt(values.0, f32x4_splat(0.0)));
        // No lane is NaN here.
        let values = f32x4_pmin(positive, f32x4_splat(255.0));
        let bits = f32x4_add(values, f32x4_splat(ROUNDING));
        i32x4_sub(bits, i32x4_splat(ROUNDING.to_bits().cast_signed()))
    }
}

impl<P: Products> Int8 for Wasm<P> {
    const BYTES: usize = 16;
    const EXACT: bool = P::EXACT;
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS] = P::TILE_ROWS;
    const QUADS: bool = P::QUADS;
    const STEP_ORDER: [u8; 2 * QUARTER] = P::STEP_ORDER;

    #[inline(never)]
    unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's promise; the module has the instructions.
        unsafe { kernel.run::<Self>() }
    }

    type Bytes = v128;
    type Sums = v128;
    type Floats = F32x4;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> v128 {
        // SAFETY: the caller's promise; vectors are read at any alignment.
        unsafe { v128_load(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(bytes: v128, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { v128_store(to.cast(), bytes) }
    }

    #[inline(always)]
    unsafe fn store_first(bytes: v128, to: *mut u8, len: usize) {
        let mut all = [0u8; 16];
        // SAFETY: the caller's promise; `all` holds a vector, lanes are written
        // at any alignment.
        unsafe {
            match len {
                16 => Self::store(bytes, to),
                12 => {
                    v128_store64_lane::<0>(bytes, to.cast());
                    v128_store32_lane::<2>(bytes, to.add(8).cast());
                }
                8 => v128_store64_lane::<0>(bytes, to.cast()),
                4 => v128_store32_lane::<0>(bytes, to.cast()),
                _ => {
                    Self::store(bytes, all.as_mut_ptr());
                    core::ptr::copy_nonoverlapping(all.as_ptr(), to, len);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn broadcast4(from: *const u8) -> v128 {
        // SAFETY: the caller's promise; the word is read at any alignment.
        unsafe { v128_load32_splat(from.cast()) }
    }

    #[inline(always)]
    unsafe fn table(from: *const u8) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { v128_load(from.cast()) }
    }

    #[inline(always)]
    fn lookup<const SHIFT: i32, const MASK: u8>(table: v128, codes: v128) -> v128 {
        let codes = match SHIFT {
            0 => codes,
            _ => u8x16_shr(codes, SHIFT.cast_unsigned()),
        };
        P::select(table, v128_and(codes, u8x16_splat(MASK)))
    }

    #[inline(always)]
    unsafe fn load_sums(from: *const i32) -> v128 {
        // SAFETY: the caller's promise.
        unsafe { v128_load(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_sums(sums: v128, to: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe { v128_store(to.cast(), sums) }
    }

    #[inline(always)]
    unsafe fn add_products<const MR: usize, const NV: usize, const BITS: u8>(
        groups: &Groups<'_>,
        sums: [[v128; NV]; MR],
    ) -> [[v128; NV]; MR] {
        // SAFETY: the caller's promise.
        unsafe { P::add_products::<MR, NV, BITS>(groups, sums) }
    }

    #[inline(always)]
    fn dot1(sums: v128, product: [v128; 2]) -> v128 {
        P::dot1(sums, product)
    }

    #[inline(always)]
    fn interleave([a, b, c, d]: [v128; 4]) -> [v128; 4] {
        let [low, high] = unpack_bytes(a, b);
        let [low2, high2] = unpack_bytes(c, d);
        let [first, second] = unpack_pairs(low, low2);
        let [third, fourth] = unpack_pairs(high, high2);
        [first, second, third, fourth]
    }

    #[inline(always)]
    fn interleave_quarters(rows: [v128; 4]) -> [v128; 4] {
        // A vector is one quarter.
        Self::interleave(rows)
    }

    #[inline(always)]
    fn to_floats(sums: v128) -> F32x4 {
        F32x4(f32x4_convert_i32x4(sums))
    }

    #[inline(always)]
    fn as_floats(sums: v128) -> F32x4 {
        F32x4(sums)
    }

    #[inline(always)]
    fn max(a: v128, b: v128) -> v128 {
        u8x16_max(a, b)
    }

    #[inline(always)]
    fn min(a: v128, b: v128) -> v128 {
        u8x16_min(a, b)
    }

    #[inline(always)]
    fn splat(byte: u8) -> v128 {
        u8x16_splat(byte)
    }

    #[inline(always)]
    fn pack([a, b, c, d]: [F32x4; 4]) -> v128 {
        let low = i16x8_narrow_i32x4(Self::whole(a), Self::whole(b));
        let high = i16x8_narrow_i32x4(Self::whole(c), Self::whole(d));
        u8x16_narrow_i16x8(low, high)
    }

    #[inline(always)]
    fn triples(packed: v128) -> v128 {
        i8x16_shuffle::<0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11, 12, 13, 14, 15>(packed, packed)
    }

    #[inline(always)]
    fn in_order(packed: v128) -> v128 {
        packed
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const u8) -> F32x4 {
        // SAFETY: the caller's promise; the word is read at any alignment.
        let bytes = unsafe { v128_load32_zero(from.cast()) };
        let words = u32x4_extend_low_u16x8(u16x8_extend_low_u8x16(bytes));
        F32x4(f32x4_convert_i32x4(words))
    }

    #[inline(always)]
    unsafe fn store_floats(values: F32x4, to: *mut u8) {
        let bits = f32x4_add(values.0, f32x4_splat(ROUNDING));
        let bytes = i8x16_shuffle::<0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12>(bits, bits);
        // SAFETY: the caller's promise; the word is written at any alignment.
        unsafe { v128_store32_lane::<0>(bytes, to.cast()) }
    }
}

/// The bytes of both by turns: those of the low halves, and of the high ones.
#[inline(always)]
fn unpack_bytes(a: v128, b: v128) -> [v128; 2] {
    [
        i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b),
        i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(a, b),
    ]
}

/// The pairs of bytes of both by turns.
#[inline(always)]
fn unpack_pairs(a: v128, b: v128) -> [v128; 2] {
    [
        i8x16_shuffle::<0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23>(a, b),
        i8x16_shuffle::<8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31>(a, b),
    ]
}
