//! What is known of one tensor of a file.

use campana_tensor::ElementType;

use crate::place::Place;

/// One tensor of a file.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    /// Its name; parts of nested dicts are joined by dots.
    pub name: String,
    /// Type of its elements; `Other` where the values are not read.
    pub element_type: ElementType,
    /// The type as the file calls it.
    pub type_name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Bytes of its elements.
    pub len_bytes: u64,
    pub(crate) place: Place,
}

impl TensorEntry {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether its elements are floats that [`TensorFile::read_f32`](crate::TensorFile::read_f32) reads.
    pub fn is_float(&self) -> bool {
        self.element_type.is_float()
    }
}
