//! What is known of one value.

use std::collections::HashMap;

use campana_tensor::{ElementType, Tensor};

use super::contents::Contents;
use crate::graph::Dim;

/// What is known of a value before a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValueInfo {
    /// Type of the elements.
    pub element_type: Option<ElementType>,
    /// Extents, outermost first; `None` where not even the rank is known.
    pub shape: Option<Vec<Dim>>,
    /// The elements of a list or scalar of integers, where shapes and constants
    /// determine all of them.
    pub integers: Option<Vec<i64>>,
}

impl ValueInfo {
    pub(super) fn of_tensor(tensor: &Tensor) -> Self {
        Self {
            element_type: Some(tensor.data().element_type()),
            shape: Some(
                tensor
                    .shape()
                    .iter()
                    .map(|&extent| Dim::Fixed(extent))
                    .collect(),
            ),
            integers: Contents::of_tensor(tensor).and_then(|contents| contents.known()),
        }
    }

    /// The extents, where all are known.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        let fixed = |dim: &Dim| match dim {
            Dim::Fixed(extent) => Some(*extent),
            Dim::Symbol(_) => None,
        };
        self.shape.as_ref()?.iter().map(fixed).collect()
    }
}

/// What is known of the values of a graph, by name.
pub type Values = HashMap<String, ValueInfo>;
