//! Vectors of codes: what a byte stands for in a vector codebook.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// Vectors in a table: one for each value of a byte.
const VECTORS: usize = 256;

/// A table of a tensor's own takes at most one of so many bytes of its codes.
const CODES_FOR_A_TABLE: usize = 16;

/// 256 vectors of 2 to 8 codes each, of which a byte names one: a codebook
/// whose entries are vectors ("vector quantization"), with the codes of a
/// scalar table as their components. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct VectorCodes {
    /// Vector by vector.
    table: Arc<[u8]>,
    dimension: usize,
}

impl fmt::Debug for VectorCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VectorCodes of {}", self.dimension)
    }
}

impl VectorCodes {
    /// Vectors of `dimension` codes, one after another; fewer than 256 are
    /// filled up with vectors of zeros. `None` where the dimension is not 2 to
    /// 8, or the table is no list of 1 to 256 such vectors.
    pub fn new(mut table: Vec<u8>, dimension: usize) -> Option<Self> {
        let fits = (2..=8).contains(&dimension)
            && !table.is_empty()
            && table.len() <= VECTORS * dimension
            && table.len().is_multiple_of(dimension);
        table.resize(VECTORS * dimension, 0);
        fits.then(|| Self {
            table: table.into(),
            dimension,
        })
    }

    /// Whether so many vectors are enough for a table of their own; tensors of
    /// fewer share one.
    pub fn have_own_table(vectors: usize, dimension: usize) -> bool {
        vectors >= CODES_FOR_A_TABLE * VECTORS * dimension
    }

    /// Codes in a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The codes of all vectors, shape `[256, dimension]`.
    pub fn table(&self) -> &[u8] {
        &self.table
    }

    /// The codes of one vector.
    pub fn vector(&self, number: u8) -> &[u8] {
        &self.table[usize::from(number) * self.dimension..][..self.dimension]
    }

    /// The numbers of all vectors in the order of their codes, to
    /// [find](Self::find) vectors by.
    pub(crate) fn order(&self) -> Vec<u8> {
        let mut order: Vec<u8> = (0..=u8::MAX).collect();
        order.sort_by(|&a, &b| self.vector(a).cmp(self.vector(b)));
        order
    }

    /// The number of the vector that begins with these codes; `None` where
    /// there is none.
    pub(crate) fn find(&self, order: &[u8], codes: &[u8]) -> Option<u8> {
        let at = order.partition_point(|&number| self.vector(number) < codes);
        let number = *order.get(at)?;
        self.vector(number).starts_with(codes).then_some(number)
    }
}
