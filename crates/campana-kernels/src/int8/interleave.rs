//! Four rows of codes side by side, for the four-way dot products of columns.

use super::vector::{Int8, Int8Kernel};

/// Rows that are interleaved.
pub(super) const GROUP: usize = 4;

/// Vectors of sums of as many channels as a vector has bytes.
pub(super) const VECTORS: usize = 4;

/// Four rows of `len` bytes: the four first, the four second, ..
pub(super) struct InterleaveRows {
    pub(super) rows: [*const u8; GROUP],
    pub(super) len: usize,
    pub(super) to: *mut u8,
}

impl Int8Kernel for InterleaveRows {
    type Output = ();

    /// # Safety
    ///
    /// Rows may be read, and `to` written up to the next whole vector.
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        for at in (0..self.len).step_by(V::BYTES) {
            let len = V::BYTES.min(self.len - at);
            // SAFETY: the caller's promise.
            unsafe {
                let mut rows = [V::splat(0); GROUP];
                for i in 0..GROUP {
                    rows[i] = V::shift(V::load_first(self.rows[i].add(at), len));
                }
                let interleaved = V::interleave(rows);
                for j in 0..VECTORS {
                    V::store(interleaved[j], self.to.add(GROUP * at + j * V::BYTES));
                }
            }
        }
    }
}

/// One block of the channels of four rows of pixels, [`VECTORS`] vectors for each pixel.
pub(super) struct InterleaveBlock {
    pub(super) rows: [*const u8; GROUP],
    /// The block's first channel.
    pub(super) first: usize,
    pub(super) channels: usize,
    pub(super) pixels: usize,
    pub(super) to: *mut u8,
}

impl Int8Kernel for InterleaveBlock {
    type Output = ();

    /// # Safety
    ///
    /// Rows may be read, and `to` written.
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        for x in 0..self.pixels {
            // SAFETY: the caller's promise.
            unsafe {
                let mut rows = [V::splat(0); GROUP];
                for i in 0..GROUP {
                    let from = self.rows[i].add(x * self.channels + self.first);
                    rows[i] = V::shift(V::load(from));
                }
                let interleaved = V::interleave_quarters(rows);
                for j in 0..VECTORS {
                    let to = self.to.add((VECTORS * x + j) * V::BYTES);
                    V::store(interleaved[j], to);
                }
            }
        }
    }
}
