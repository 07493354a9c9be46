//! How many samples go through a network at once, and along which axis of each
//! input they lie.

use std::collections::HashMap;

use campana_ir::graph::{Dim, Value};

/// Extents of one run's inputs.
pub(super) struct Shapes<'v> {
    /// Samples that run at once.
    pub(super) batch: usize,
    /// Extents that equal symbols share.
    pub(super) symbols: HashMap<&'v str, usize>,
    /// Whether an input leaves the number of samples open.
    is_open: bool,
}

impl<'v> Shapes<'v> {
    /// `len` samples a batch, unless an input fixes their number.
    pub(super) fn new(inputs: &'v [Value], len: usize) -> Self {
        let first = |input: &'v Value| input.shape.as_ref().and_then(|shape| shape.first());
        let mut shapes = Self {
            batch: len,
            symbols: HashMap::new(),
            is_open: inputs
                .iter()
                .any(|input| matches!(first(input), Some(Dim::Symbol(_))) || input.shape.is_none()),
        };
        shapes.symbols = inputs
            .iter()
            .filter_map(|input| match first(input) {
                Some(Dim::Symbol(name)) if !name.is_empty() => Some((name.as_str(), len)),
                _ => None,
            })
            .collect();
        let fixed = inputs.iter().find_map(|input| match &input.shape {
            // A vector of fixed length says nothing of a number of samples.
            Some(shape) if shape.len() > 1 && shapes.batch_axis(input).is_none() => shape.first(),
            _ => None,
        });
        shapes.batch = match fixed {
            // What is fixed beside open inputs (a state) belongs to one sample.
            Some(_) if shapes.is_open => 1,
            Some(Dim::Fixed(extent)) => (*extent).max(1),
            _ => len,
        };
        for extent in shapes.symbols.values_mut() {
            *extent = shapes.batch;
        }
        shapes
    }

    /// The axis of an input that counts samples, where it leaves their number
    /// open: the first, or one that shares its symbol with the first of another
    /// input, or the second of a recurrent state `[layers, batch, hidden]`.
    pub(super) fn batch_axis(&self, input: &Value) -> Option<usize> {
        let Some(dims) = &input.shape else {
            return Some(0);
        };
        if let [Dim::Symbol(_), ..] = dims.as_slice() {
            return Some(0);
        }
        let is_shared = |dim: &Dim| matches!(dim, Dim::Symbol(name) if self.symbols.contains_key(name.as_str()));
        let shared = dims.iter().position(is_shared);
        shared.or(match dims.as_slice() {
            [Dim::Fixed(_), Dim::Symbol(name), Dim::Fixed(_)]
                if self.is_open && name.is_empty() =>
            {
                Some(1)
            }
            _ => None,
        })
    }
}
