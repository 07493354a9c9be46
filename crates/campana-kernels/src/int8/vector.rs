//! Bytes and 32-bit sums, whatever the instruction set.

use crate::vector::{Portable, Vector};

/// Bytes in the longest vector of any level.
pub(crate) const MAX_BYTES: usize = 64;

/// 32-bit sums in the longest vector of any level: one for four bytes.
pub(crate) const MAX_SUMS: usize = MAX_BYTES / 4;

/// Vectors of columns in the widest panel of any level.
pub(crate) const MAX_PANEL_VECTORS: usize = 4;

/// The greatest sum of weights of one sign that may meet in a 16-bit sum:
/// 255 times it stays below 2^15.
pub(crate) const MAX_PAIR_SUM: i32 = 128;

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
    /// Bytes in a vector, 32 or 64.
    const BYTES: usize;

    /// 32-bit sums in a vector: one for four bytes.
    const SUMS: usize = Self::BYTES / 4;

    /// Whether four products are summed in 32 bits, so that any weights may
    /// meet in [`dot2`](Self::dot2).
    const EXACT: bool;

    /// Rows that a panel of one, two, .. vectors of columns takes at once; 0
    /// where panels are not that wide.
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS];

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

    /// `sums[i] + Σ a[4 i + b] w[4 i + b] + Σ a'[..] w'[..]` with unsigned `a`
    /// and signed `w`.
    ///
    /// Unless the level is [`EXACT`](Self::EXACT), the weights of both products
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

/// A computation written once over the integer vectors of any level.
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
