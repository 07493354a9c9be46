//! Bytes and 32-bit sums, whatever the instruction set.

use super::groups::Groups;
use crate::vector::Vector;

/// Bytes in the longest vector of any ISA.
pub(crate) const MAX_BYTES: usize = 64;

/// 32-bit sums in the longest vector of any ISA: one for four bytes.
pub(crate) const MAX_SUMS: usize = MAX_BYTES / 4;

/// Vectors of columns in the widest panel of any ISA.
pub(crate) const MAX_PANEL_VECTORS: usize = 4;

/// The greatest sum of weights of one sign that may meet in a 16-bit sum:
/// 255 times it stays below 2^15.
pub(crate) const MAX_PAIR_SUM: i32 = 128;

/// Bytes of a vector that are arranged on their own: the four of a group, of
/// each of four columns.
pub(crate) const QUARTER: usize = 16;

/// Bytes that keep their places.
pub(crate) const IN_ORDER: [u8; 2 * QUARTER] = in_order();

const fn in_order() -> [u8; 2 * QUARTER] {
    let mut places = [0; 2 * QUARTER];
    let mut i = 0;
    while i < places.len() {
        places[i] = i as u8;
        i += 1;
    }
    places
}

/// Where lane `lane` of vector `vector` of four goes where they are packed into
/// one vector of bytes, 16 bytes at a time.
pub(crate) const fn place_of(vector: usize, lane: usize) -> usize {
    4 * vector + lane % 4 + 16 * (lane / 4)
}

/// Integer vectors of one instruction set.
///
/// Values exist only inside [`Int8Kernel::run`],
/// whose caller has proven that the processor has the instructions; that is
/// why the arithmetic is safe to call.
pub(crate) trait Int8: Copy {
    /// Bytes in a vector: 16, 32 or 64.
    const BYTES: usize;

    /// 32-bit sums in a vector: one for four bytes.
    const SUMS: usize = Self::BYTES / 4;

    /// Whether four products are summed in 32 bits, so that any weights may
    /// meet in [`dot2`](Self::dot2).
    const EXACT: bool;

    /// Rows that a panel of one, two, .. vectors of columns takes at once; 0
    /// where panels are not that wide.
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS];

    /// Whether tiles read four groups of a row at once where they lie side by
    /// side, so that packing puts such groups first.
    const QUADS: bool = false;

    /// Whether dot products take signed inputs: codes less 128, as
    /// [`shift`](Self::shift) makes them. Sums then start 128 times the sum of
    /// their weights higher.
    const SIGNED: bool = false;

    /// Which weight of a step of four columns is where in the tile's two vectors:
    /// at place `p` of both together the one of group `STEP_ORDER[p] / 16`,
    /// column `STEP_ORDER[p] / 4 % 4` and row `STEP_ORDER[p] % 4` of the group.
    const STEP_ORDER: [u8; 2 * QUARTER] = IN_ORDER;

    /// Runs a kernel in a function of its own, which keeps the caller small.
    ///
    /// # Safety
    ///
    /// What the kernel requires of its fields holds.
    unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output;

    /// A vector of bytes.
    type Bytes: Copy;
    /// A vector of 32-bit integers.
    type Sums: Copy;
    /// As many floats.
    type Floats: Vector;

    /// Reads a vector of bytes, at any alignment.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading them.
    unsafe fn load(from: *const u8) -> Self::Bytes;

    /// Reads the first `len` bytes; what is behind them may be anything.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading them; they are no more than a vector has.
    #[inline(always)]
    unsafe fn load_first(from: *const u8, len: usize) -> Self::Bytes {
        let mut all = [0u8; MAX_BYTES];
        // SAFETY: the caller's promise; `all` holds the longest vector.
        unsafe {
            if len == Self::BYTES {
                return Self::load(from);
            }
            core::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), len);
            Self::load(all.as_ptr())
        }
    }

    /// Writes a vector of bytes, at any alignment.
    ///
    /// # Safety
    ///
    /// `to` is valid for writing them.
    unsafe fn store(bytes: Self::Bytes, to: *mut u8);

    /// Writes the first `len` bytes.
    ///
    /// # Safety
    ///
    /// `to` is valid for writing them; they are no more than a vector has.
    #[inline(always)]
    unsafe fn store_first(bytes: Self::Bytes, to: *mut u8, len: usize) {
        let mut all = [0u8; MAX_BYTES];
        // SAFETY: the caller's promise; `all` holds the longest vector.
        unsafe {
            if len == Self::BYTES {
                return Self::store(bytes, to);
            }
            Self::store(bytes, all.as_mut_ptr());
            core::ptr::copy_nonoverlapping(all.as_ptr(), to, len);
        }
    }

    /// The four bytes at `from` over and over.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading four bytes.
    unsafe fn broadcast4(from: *const u8) -> Self::Bytes;

    /// The 16 bytes at `from` over and over.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading 16 bytes.
    unsafe fn table(from: *const u8) -> Self::Bytes;

    /// The table's byte for each byte's low bits, shifted down by `SHIFT` and
    /// masked with `MASK` (3 or 15). With a mask of 3 the table repeats itself
    /// every four bytes.
    fn lookup<const SHIFT: i32, const MASK: u8>(
        table: Self::Bytes,
        codes: Self::Bytes,
    ) -> Self::Bytes;

    /// Reads a vector of integers.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading them.
    unsafe fn load_sums(from: *const i32) -> Self::Sums;

    /// Writes a vector of integers.
    ///
    /// # Safety
    ///
    /// `to` is valid for writing them.
    unsafe fn store_sums(sums: Self::Sums, to: *mut i32);

    /// Codes as dot products take them; see [`SIGNED`](Self::SIGNED).
    #[inline(always)]
    fn shift(codes: Self::Bytes) -> Self::Bytes {
        codes
    }

    /// Adds the products of `MR` rows and `NV` vectors of columns to the sums of
    /// a tile; weights are in `BITS` bits.
    ///
    /// # Safety
    ///
    /// Offsets from the inputs and weights are where the groups' fields say; the
    /// packing put only such groups together as [`dot2`](Self::dot2) takes.
    unsafe fn add_products<const MR: usize, const NV: usize, const BITS: u8>(
        groups: &Groups<'_>,
        sums: [[Self::Sums; NV]; MR],
    ) -> [[Self::Sums; NV]; MR];

    /// `sums[i] + Σ a[4 i + b] w[4 i + b] + Σ a'[..] w'[..]` with unsigned `a`
    /// (or [`SIGNED`](Self::SIGNED)) and signed `w`.
    ///
    /// Unless the ISA is [`EXACT`](Self::EXACT), the weights of both products
    /// that meet in the first, and in the last, two of four bytes sum up to at
    /// most [`MAX_PAIR_SUM`] for each sign.
    #[inline(always)]
    fn dot2(sums: Self::Sums, first: [Self::Bytes; 2], second: [Self::Bytes; 2]) -> Self::Sums {
        Self::dot1(Self::dot1(sums, first), second)
    }

    /// `sums[i] + Σ a[4 i + b] w[4 i + b]`; the weights as in [`dot2`](Self::dot2).
    fn dot1(sums: Self::Sums, product: [Self::Bytes; 2]) -> Self::Sums;

    /// Has the line of memory at `at`, which may be any address, brought to a
    /// near cache: the second, so that what is in use keeps the first.
    #[inline(always)]
    fn prefetch(at: *const u8) {
        let _ = at;
    }

    /// Keeps the compiler from reading ahead what comes behind, until there are
    /// more vectors than registers.
    #[inline(always)]
    fn hold_loads() {}

    /// Four vectors of four bytes a channel, out of four rows of as many
    /// channels as a vector has bytes:
    /// `result[i][4 l + r] = rows[r][SUMS i + l]`.
    fn interleave(rows: [Self::Bytes; 4]) -> [Self::Bytes; 4];

    /// The same within each 16 bytes: `result[j][16 q + 4 l + r] = rows[r][16 q + 4 j + l]`.
    fn interleave_quarters(rows: [Self::Bytes; 4]) -> [Self::Bytes; 4];

    /// The sums as floats, rounded to nearest.
    fn to_floats(sums: Self::Sums) -> Self::Floats;

    /// The floats that have the sums' bits.
    fn as_floats(sums: Self::Sums) -> Self::Floats;

    /// The greater of each two unsigned bytes.
    fn max(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;

    /// The lesser of each two unsigned bytes.
    fn min(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;

    /// This byte over and over.
    fn splat(byte: u8) -> Self::Bytes;

    /// Four vectors of floats as bytes, each where [`place_of`] says: rounded
    /// to nearest, ties to even, and held to 0 to 255.
    fn pack(values: [Self::Floats; 4]) -> Self::Bytes;

    /// What [`pack`](Self::pack) gave, each vector's bytes after those of the
    /// vector before.
    fn in_order(packed: Self::Bytes) -> Self::Bytes;

    /// What [`pack`](Self::pack) gave of three vectors (the fourth is left out),
    /// byte by byte one of each: three quarters of a vector.
    fn triples(packed: Self::Bytes) -> Self::Bytes;

    /// Bytes as a vector of floats.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading as many bytes.
    unsafe fn load_floats(from: *const u8) -> Self::Floats;

    /// The first `len` bytes as floats, zeros beyond them.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading `len` bytes, at most as many as floats in a vector.
    #[inline(always)]
    unsafe fn load_first_floats(from: *const u8, len: usize) -> Self::Floats {
        let mut lanes = [0u8; MAX_SUMS];
        // SAFETY: the caller's promise; `lanes` holds the longest vector's.
        unsafe {
            if len == Self::SUMS {
                return Self::load_floats(from);
            }
            core::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), len);
            Self::load_floats(lanes.as_ptr())
        }
    }

    /// Writes floats as bytes: rounded to nearest, ties to even. They are
    /// within 0 and 255; NaN gives some byte.
    ///
    /// # Safety
    ///
    /// `to` is valid for writing a byte for each float.
    unsafe fn store_floats(values: Self::Floats, to: *mut u8);

    /// Writes the first `len` floats as bytes; as [`store_floats`](Self::store_floats).
    ///
    /// # Safety
    ///
    /// `to` is valid for writing `len` bytes, at most as many as floats in a vector.
    #[inline(always)]
    unsafe fn store_first_floats(values: Self::Floats, to: *mut u8, len: usize) {
        let mut lanes = [0u8; MAX_SUMS];
        // SAFETY: the caller's promise; `lanes` holds the longest vector's.
        unsafe {
            if len == Self::SUMS {
                return Self::store_floats(values, to);
            }
            Self::store_floats(values, lanes.as_mut_ptr());
            core::ptr::copy_nonoverlapping(lanes.as_ptr(), to, len);
        }
    }
}

/// A computation written once over the integer vectors of any ISA.
///
/// Implementations mark `run` as `#[inline(always)]`, as those of [`Kernel`](crate::vector::Kernel).
pub(crate) trait Int8Kernel {
    /// What the computation returns.
    type Output;

    /// Runs it.
    ///
    /// # Safety
    ///
    /// The processor supports the instructions of `V`, and whatever the
    /// implementation requires of its own fields holds.
    unsafe fn run<V: Int8>(self) -> Self::Output;
}
