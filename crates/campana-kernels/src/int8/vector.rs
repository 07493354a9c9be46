//! Bytes and 32-bit sums, whatever the instruction set.

use crate::vector::{Portable, Vector};

/// Bytes in a vector, at every level.
pub(crate) const BYTES: usize = 32;

/// 32-bit sums in a vector: one for four bytes.
pub(crate) const SUMS: usize = 8;

/// The greatest sum of weights of one sign that may meet in a 16-bit sum:
/// 255 times it stays below 2^15.
pub(crate) const MAX_PAIR_SUM: i32 = 128;

/// The channel in lane `lane` of vector `vector` of 32 interleaved channels:
/// what unpacking gives where registers are pairs of 16 bytes.
pub(crate) const fn channel_of(vector: usize, lane: usize) -> usize {
    4 * vector + lane % 4 + 16 * (lane / 4)
}

/// Integer vectors of one instruction set.
///
/// Values exist only inside [`Int8Kernel::run`](crate::level::Int8Kernel::run),
/// whose caller has proven that the processor has the instructions; that is
/// why the arithmetic is safe to call.
pub(crate) trait Int8: Copy {
    /// Thirty-two bytes.
    type Bytes: Copy;
    /// Eight 32-bit integers.
    type Sums: Copy;
    /// Eight floats.
    type Floats: Vector;

    /// Reads 32 bytes, at any alignment.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading them.
    unsafe fn load(from: *const u8) -> Self::Bytes;

    /// Writes 32 bytes, at any alignment.
    ///
    /// # Safety
    ///
    /// `to` is valid for writing them.
    unsafe fn store(bytes: Self::Bytes, to: *mut u8);

    /// Eight times the four bytes at `from`.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading four bytes.
    unsafe fn broadcast4(from: *const u8) -> Self::Bytes;

    /// Twice the 16 bytes at `from`.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading 16 bytes.
    unsafe fn table(from: *const u8) -> Self::Bytes;

    /// The table's byte for each byte's low four bits shifted down by `SHIFT`
    /// and masked with `MASK` (3 or 15).
    fn lookup<const SHIFT: i32, const MASK: u8>(
        table: Self::Bytes,
        codes: Self::Bytes,
    ) -> Self::Bytes;

    /// Reads eight integers.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading them.
    unsafe fn load_sums(from: *const i32) -> Self::Sums;

    /// `sums[i] + Σ a[4 i + b] w[4 i + b] + Σ a'[..] w'[..]` with unsigned `a`
    /// and signed `w`.
    ///
    /// The weights of both products that meet in the first, and in the last,
    /// two of four bytes sum up to at most [`MAX_PAIR_SUM`] for each sign.
    fn dot2(sums: Self::Sums, first: [Self::Bytes; 2], second: [Self::Bytes; 2]) -> Self::Sums;

    /// `sums[i] + Σ a[4 i + b] w[4 i + b]`; the weights as in [`dot2`](Self::dot2).
    fn dot1(sums: Self::Sums, product: [Self::Bytes; 2]) -> Self::Sums;

    /// The same for two products whose weights may not meet in a 16-bit sum.
    #[inline(always)]
    fn dot2_apart(
        sums: Self::Sums,
        first: [Self::Bytes; 2],
        second: [Self::Bytes; 2],
    ) -> Self::Sums {
        Self::dot1(Self::dot1(sums, first), second)
    }

    /// Four vectors of four bytes a channel, out of four rows of 32 channels:
    /// `result[i][4 l + r] = rows[r][channel_of(i, l)]`.
    fn interleave(rows: [Self::Bytes; 4]) -> [Self::Bytes; 4];

    /// The sums as floats, rounded to nearest.
    fn to_floats(sums: Self::Sums) -> Self::Floats;

    /// The greater of each two unsigned bytes.
    fn max(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;

    /// The lesser of each two unsigned bytes.
    fn min(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;

    /// 32 times this byte.
    fn splat(byte: u8) -> Self::Bytes;

    /// Floats of interleaved channels as bytes in the channels' order: rounded
    /// to nearest, ties to even, and held to 0 to 255.
    fn pack(values: [Self::Floats; 4]) -> Self::Bytes;

    /// Writes sixteen floats as bytes: rounded to nearest, ties to even, and
    /// held to 0 to 255 and to the bounds.
    ///
    /// # Safety
    ///
    /// `to` is valid for writing 16 bytes.
    unsafe fn store_pair(values: [Self::Floats; 2], bounds: [Self::Bytes; 2], to: *mut u8);

    /// Eight bytes as floats.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading eight bytes.
    unsafe fn load_floats(from: *const u8) -> Self::Floats;

    /// Writes eight floats as bytes: rounded to nearest, ties to even. They
    /// are within 0 and 255; NaN gives some byte.
    ///
    /// # Safety
    ///
    /// `to` is valid for writing eight bytes.
    unsafe fn store_floats(values: Self::Floats, to: *mut u8);
}

/// Plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct PortableInt8;

impl Int8 for PortableInt8 {
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
    fn dot2(
        mut sums: Self::Sums,
        [a, w]: [Self::Bytes; 2],
        [b, v]: [Self::Bytes; 2],
    ) -> Self::Sums {
        for (i, sum) in sums.iter_mut().enumerate() {
            for j in 4 * i..4 * i + 4 {
                *sum += i32::from(a[j]) * i32::from(w[j].cast_signed())
                    + i32::from(b[j]) * i32::from(v[j].cast_signed());
            }
        }
        sums
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
        core::array::from_fn(|i| core::array::from_fn(|j| rows[j % 4][channel_of(i, j / 4)]))
    }

    #[inline(always)]
    fn to_floats(sums: Self::Sums) -> Self::Floats {
        Portable::from_array(sums.map(|sum| sum as f32))
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
                bytes[channel_of(i, lane)] = value.round_ties_even().clamp(0.0, 255.0) as u8;
            }
        }
        bytes
    }

    #[inline(always)]
    unsafe fn store_pair(values: [Self::Floats; 2], bounds: [Self::Bytes; 2], to: *mut u8) {
        let mut bytes = [0; 2 * SUMS];
        for (i, byte) in bytes.iter_mut().enumerate() {
            let value = values[i / SUMS].to_array()[i % SUMS];
            let code = value.round_ties_even().clamp(0.0, 255.0) as u8;
            *byte = code.max(bounds[0][i]).min(bounds[1][i]);
        }
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[u8; 2 * SUMS]>().write_unaligned(bytes) }
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
