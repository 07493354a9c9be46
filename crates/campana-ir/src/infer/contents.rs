//! Contents of integer values that shapes and constants determine.

use campana_tensor::{Tensor, TensorData};

use crate::graph::Dim;

/// Values of more elements are data, not shapes.
pub(super) const MAX_LEN: usize = 64;

/// One integer of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Known(i64),
    /// An extent that only a run knows; the name may be empty.
    Extent(String),
}

impl Number {
    pub(super) fn of_extent(dim: &Dim) -> Self {
        match dim {
            Dim::Fixed(extent) => {
                i64::try_from(*extent).map_or_else(|_| Self::Extent(String::new()), Self::Known)
            }
            Dim::Symbol(name) => Self::Extent(name.clone()),
        }
    }
}

/// The integers of a value, and whether it is a scalar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) numbers: Vec<Number>,
    pub(super) is_scalar: bool,
}

impl Contents {
    /// The integers of a small tensor of rank 0 or 1.
    pub(super) fn of_tensor(tensor: &Tensor) -> Option<Self> {
        if tensor.shape().len() > 1 || tensor.len() > MAX_LEN {
            return None;
        }
        let numbers = match tensor.data() {
            TensorData::I64(values) => values.iter().map(|&v| Number::Known(v)).collect(),
            TensorData::I32(values) => {
                let values = values.iter();
                values.map(|&v| Number::Known(i64::from(v))).collect()
            }
            _ => return None,
        };
        Some(Self {
            numbers,
            is_scalar: tensor.shape().is_empty(),
        })
    }

    /// The integers, where all are known.
    pub(super) fn known(&self) -> Option<Vec<i64>> {
        let known = |number: &Number| match number {
            Number::Known(value) => Some(*value),
            Number::Extent(_) => None,
        };
        self.numbers.iter().map(known).collect()
    }

    pub(super) fn list(numbers: Vec<Number>) -> Self {
        Self {
            numbers,
            is_scalar: false,
        }
    }
}
