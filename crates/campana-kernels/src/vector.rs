//! Several floats at once, whatever the instruction set.

/// What kernels read as vectors is padded to a multiple of so many floats: those
/// of an ISA's [`Narrow`](Vector::Narrow) vector, or several such vectors.
pub(crate) const MIN_LANES: usize = 8;

/// Floats in the widest vectors of any ISA.
pub(crate) const MAX_LANES: usize = 16;

/// [`LANES`](Self::LANES) floats.
///
/// Values exist only inside [`Kernel::run`], whose
/// caller has proven that the processor has the instructions; that is why the
/// arithmetic is safe to call.
pub(crate) trait Vector: Copy {
    /// Floats in the vector: 4, 8 or 16.
    const LANES: usize;

    /// Vectors that the processor has registers for.
    const REGISTERS: usize;

    /// The same ISA's vector of [`MIN_LANES`] floats, or of fewer where it has
    /// no longer ones.
    type Narrow: Vector;

    /// Reads [`LANES`](Self::LANES) floats, at any alignment.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading them.
    unsafe fn load(from: *const f32) -> Self;

    /// Writes [`LANES`](Self::LANES) floats, at any alignment.
    ///
    /// # Safety
    ///
    /// `to` is valid for writing them.
    unsafe fn store(self, to: *mut f32);

    /// As many times the same.
    fn splat(value: f32) -> Self;

    /// The sum.
    fn add(self, other: Self) -> Self;

    /// The difference.
    fn sub(self, other: Self) -> Self;

    /// The product.
    fn mul(self, other: Self) -> Self;

    /// The quotient.
    fn div(self, other: Self) -> Self;

    /// `self * factor + addend`, rounded once or twice.
    fn mul_add(self, factor: Self, addend: Self) -> Self;

    /// `self * factor + addend`, rounded once; `self` is a whole number.
    #[inline(always)]
    fn fused(self, factor: Self, addend: Self) -> Self {
        self.mul_add(factor, addend)
    }

    /// The greater; where `self` is NaN, NaN.
    fn at_least(self, bound: Self) -> Self;

    /// The lesser; where `self` is NaN, NaN.
    fn at_most(self, bound: Self) -> Self;

    /// The nearest whole number, ties to even.
    fn round(self) -> Self;

    /// 2 to this power, for whole numbers of -126 to 127.
    fn exp2_whole(self) -> Self;

    /// The floats of a table of 16 at positions below 16: those of
    /// [`LANES`](Self::LANES) lanes from `first_lane` on, out of 16 bytes.
    ///
    /// # Safety
    ///
    /// `table` is valid for reading 16 floats; the lanes are among the bytes'.
    unsafe fn look_up(table: *const f32, positions: [u64; 2], first_lane: usize) -> Self;

    /// The same for a table of `2^BITS` floats, which are 32 to 256.
    ///
    /// # Safety
    ///
    /// `table` is valid for reading its floats, and all positions are in it; the
    /// lanes are among the bytes'.
    #[inline(always)]
    unsafe fn look_up_long<const BITS: usize>(
        table: *const f32,
        positions: [u64; 2],
        first_lane: usize,
    ) -> Self {
        let mut lanes = [0.0f32; MAX_LANES];
        // SAFETY: the caller's promise; `lanes` holds a vector.
        unsafe {
            for lane in 0..Self::LANES {
                let position = positions[(first_lane + lane) / 8] >> ((first_lane + lane) % 8 * 8);
                lanes[lane] = *table.add(usize::from(position as u8));
            }
            Self::load(lanes.as_ptr())
        }
    }

    /// Reads the first `len` floats, or all; zeros beyond them.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading `len` floats, at most [`LANES`](Self::LANES).
    #[inline(always)]
    unsafe fn load_first(from: *const f32, len: usize) -> Self {
        let mut lanes = [0.0f32; MAX_LANES];
        // SAFETY: the caller's promise; `lanes` holds a vector.
        unsafe {
            if len == Self::LANES {
                return Self::load(from);
            }
            core::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), len);
            Self::load(lanes.as_ptr())
        }
    }

    /// Writes the first `len` floats, or all.
    ///
    /// # Safety
    ///
    /// `to` is valid for writing `len` floats, at most [`LANES`](Self::LANES).
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, len: usize) {
        let mut lanes = [0.0f32; MAX_LANES];
        // SAFETY: the caller's promise; `lanes` holds a vector.
        unsafe {
            if len == Self::LANES {
                return self.store(to);
            }
            self.store(lanes.as_mut_ptr());
            core::ptr::copy_nonoverlapping(lanes.as_ptr(), to, len);
        }
    }
}

/// A computation written once over any [`Vector`].
///
/// Implementations mark `run` as `#[inline(always)]`: it is compiled inside
/// a function that enables the ISA's instructions.
pub(crate) trait Kernel {
    /// What the computation returns.
    type Output;

    /// Runs it.
    ///
    /// # Safety
    ///
    /// The processor supports the instructions of `V`, and whatever the
    /// implementation requires of its own fields holds.
    unsafe fn run<V: Vector>(self) -> Self::Output;
}

#[cfg(not(target_feature = "simd128"))]
mod portable;
#[cfg(not(target_feature = "simd128"))]
pub(crate) use portable::Portable;
