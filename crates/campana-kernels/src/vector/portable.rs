//! Floats in plain Rust.

use super::{MIN_LANES, Vector};

/// Plain Rust, which compilers turn into whatever vectors the target has.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; MIN_LANES]);

impl Portable {
    #[inline(always)]
    pub(crate) fn from_array(lanes: [f32; MIN_LANES]) -> Self {
        Self(lanes)
    }

    #[inline(always)]
    pub(crate) fn to_array(self) -> [f32; MIN_LANES] {
        self.0
    }

    #[inline(always)]
    fn zip(self, other: Self, op: impl Fn(f32, f32) -> f32) -> Self {
        Self(core::array::from_fn(|i| op(self.0[i], other.0[i])))
    }
}

impl Vector for Portable {
    const LANES: usize = MIN_LANES;
    const REGISTERS: usize = 16;
    type Narrow = Self;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; an array of floats may be read unaligned.
        Self(unsafe { from.cast::<[f32; MIN_LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; MIN_LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn look_up(table: *const f32, positions: [u64; 2], first_lane: usize) -> Self {
        let positions = positions[first_lane / 8].to_le_bytes();
        // SAFETY: the caller's promise; the mask holds positions to the table.
        Self(positions.map(|position| unsafe { *table.add(usize::from(position & 15)) }))
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; MIN_LANES])
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // Not f32::mul_add: without the instruction it is a slow library call.
        self.mul(factor).add(addend)
    }

    #[inline(always)]
    fn fused(self, factor: Self, addend: Self) -> Self {
        // A library call where the target has no such instruction: ISAs must agree to the bit.
        Self(core::array::from_fn(|i| {
            self.0[i].mul_add(factor.0[i], addend.0[i])
        }))
    }

    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        self.zip(bound, |x, bound| if x < bound { bound } else { x })
    }

    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        self.zip(bound, |x, bound| if x > bound { bound } else { x })
    }

    #[inline(always)]
    fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }

    #[inline(always)]
    fn exp2_whole(self) -> Self {
        Self(
            self.0
                .map(|x| f32::from_bits(((x as i32 + 127) as u32) << 23)),
        )
    }
}
