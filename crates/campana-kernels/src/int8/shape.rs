//! How an ISA's vectors decide the layout of weights.

use super::vector::{Int8, Int8Kernel, QUARTER};
use crate::isa::Isa;

/// What of an ISA's vectors decides how weights are laid out for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VectorShape {
    /// As [`Int8::BYTES`].
    pub(crate) bytes: usize,
    /// As [`Int8::SUMS`].
    pub(crate) sums: usize,
    /// As [`Int8::EXACT`].
    pub(crate) exact: bool,
    /// As [`Int8::QUADS`].
    pub(crate) quads: bool,
    /// What sums must start with for each unit of their weights' sum.
    pub(crate) excess: i32,
    /// As [`Int8::STEP_ORDER`].
    pub(crate) step_order: [u8; 2 * QUARTER],
    /// Vectors of columns in the widest panel.
    pub(crate) panel_vectors: usize,
}

impl VectorShape {
    /// The shape of an ISA's vectors.
    pub(crate) fn of(isa: Isa) -> Self {
        struct Ask;
        impl Int8Kernel for Ask {
            type Output = VectorShape;

            #[inline(always)]
            unsafe fn run<V: Int8>(self) -> VectorShape {
                VectorShape {
                    bytes: V::BYTES,
                    sums: V::SUMS,
                    exact: V::EXACT,
                    quads: V::QUADS,
                    excess: excess::<V>(),
                    step_order: V::STEP_ORDER,
                    panel_vectors: V::TILE_ROWS.iter().filter(|&&rows| rows > 0).count(),
                }
            }
        }
        // SAFETY: the kernel reads constants.
        unsafe { isa.run_int8(Ask) }
    }
}

/// How much less than codes the inputs of an ISA's dot products are.
pub(crate) const fn excess<V: Int8>() -> i32 {
    if V::SIGNED { 128 } else { 0 }
}
