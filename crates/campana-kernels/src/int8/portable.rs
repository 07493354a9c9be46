//! Bytes and 32-bit sums in plain Rust.

use super::groups::Groups;
use super::steps::add_steps;
use super::vector::{Int8, Int8Kernel, MAX_PANEL_VECTORS, place_of};
use crate::vector::Portable;

/// Bytes in a vector of plain Rust.
const BYTES: usize = 32;

/// Sums in a vector of plain Rust.
const SUMS: usize = BYTES / 4;

/// Plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct PortableInt8;

impl Int8 for PortableInt8 {
    const BYTES: usize = BYTES;
    const EXACT: bool = false;
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS] = [4, 4, 0, 0];

    #[inline(never)]
    unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's promise.
        unsafe { kernel.run::<Self>() }
    }

    type Bytes = [u8; BYTES];
    type Sums = [i32; SUMS];
    type Floats = Portable;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Bytes {
        // SAFETY: the caller's promise; bytes may be read at any alignment.
        unsafe { from.cast::<Self::Bytes>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(bytes: Self::Bytes, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<Self::Bytes>().write_unaligned(bytes) }
    }

    #[inline(always)]
    unsafe fn broadcast4(from: *const u8) -> Self::Bytes {
        // SAFETY: the caller's promise.
        let four = unsafe { from.cast::<[u8; 4]>().read_unaligned() };
        core::array::from_fn(|i| four[i % 4])
    }

    #[inline(always)]
    unsafe fn table(from: *const u8) -> Self::Bytes {
        // SAFETY: the caller's promise.
        let table = unsafe { from.cast::<[u8; 16]>().read_unaligned() };
        core::array::from_fn(|i| table[i % 16])
    }

    #[inline(always)]
    fn lookup<const SHIFT: i32, const MASK: u8>(
        table: Self::Bytes,
        codes: Self::Bytes,
    ) -> Self::Bytes {
        codes.map(|code| table[usize::from((code >> SHIFT) & MASK)])
    }

    #[inline(always)]
    unsafe fn load_sums(from: *const i32) -> Self::Sums {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<Self::Sums>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store_sums(sums: Self::Sums, to: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<Self::Sums>().write_unaligned(sums) }
    }

    #[inline(always)]
    unsafe fn add_products<const MR: usize, const NV: usize, const BITS: u8>(
        groups: &Groups<'_>,
        sums: [[Self::Sums; NV]; MR],
    ) -> [[Self::Sums; NV]; MR] {
        // SAFETY: the caller's promise.
        unsafe { add_steps::<Self, MR, NV, BITS>(groups, sums) }
    }

    #[inline(always)]
    fn dot1(mut sums: Self::Sums, [a, w]: [Self::Bytes; 2]) -> Self::Sums {
        for (i, sum) in sums.iter_mut().enumerate() {
            for j in 4 * i..4 * i + 4 {
                *sum += i32::from(a[j]) * i32::from(w[j].cast_signed());
            }
        }
        sums
    }

    #[inline(always)]
    fn interleave(rows: [Self::Bytes; 4]) -> [Self::Bytes; 4] {
        core::array::from_fn(|i| core::array::from_fn(|j| rows[j % 4][SUMS * i + j / 4]))
    }

    #[inline(always)]
    fn interleave_quarters(rows: [Self::Bytes; 4]) -> [Self::Bytes; 4] {
        core::array::from_fn(|j| {
            core::array::from_fn(|i| rows[i % 4][i / 16 * 16 + 4 * j + i % 16 / 4])
        })
    }

    #[inline(always)]
    fn to_floats(sums: Self::Sums) -> Self::Floats {
        Portable::from_array(sums.map(|sum| sum as f32))
    }

    #[inline(always)]
    fn as_floats(sums: Self::Sums) -> Self::Floats {
        Portable::from_array(sums.map(|sum| f32::from_bits(sum.cast_unsigned())))
    }

    #[inline(always)]
    fn max(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        core::array::from_fn(|i| a[i].max(b[i]))
    }

    #[inline(always)]
    fn min(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        core::array::from_fn(|i| a[i].min(b[i]))
    }

    #[inline(always)]
    fn splat(byte: u8) -> Self::Bytes {
        [byte; BYTES]
    }

    #[inline(always)]
    fn pack(values: [Self::Floats; 4]) -> Self::Bytes {
        let mut bytes = [0; BYTES];
        for (i, values) in values.into_iter().enumerate() {
            for (lane, value) in values.to_array().into_iter().enumerate() {
                bytes[place_of(i, lane)] = value.round_ties_even().clamp(0.0, 255.0) as u8;
            }
        }
        bytes
    }

    #[inline(always)]
    fn triples(packed: Self::Bytes) -> Self::Bytes {
        core::array::from_fn(|i| packed[place_of(i % 3, i / 3 % SUMS)])
    }

    #[inline(always)]
    fn in_order(packed: Self::Bytes) -> Self::Bytes {
        core::array::from_fn(|i| packed[place_of(i / SUMS, i % SUMS)])
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const u8) -> Self::Floats {
        // SAFETY: the caller's promise.
        let bytes = unsafe { from.cast::<[u8; SUMS]>().read_unaligned() };
        Portable::from_array(bytes.map(f32::from))
    }

    #[inline(always)]
    unsafe fn store_floats(values: Self::Floats, to: *mut u8) {
        let bytes = values.to_array().map(|v| v.round_ties_even() as u8);
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[u8; SUMS]>().write_unaligned(bytes) }
    }
}
