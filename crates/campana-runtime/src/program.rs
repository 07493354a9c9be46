//! A plan worked out for inputs of given shapes: a list of steps, with
//! layouts, conversions and memory decided.

mod assign;
mod compile;
mod control;
mod elementwise;
mod execute;
pub(crate) mod int8;
mod lower;
mod run_int8;
mod separate;
mod stages;
pub(crate) mod step;

pub(crate) use compile::{InputShape, compile, compile_unassigned};
pub(crate) use execute::{Frame, InputData, Machine};
pub(crate) use separate::is_separable;
#[cfg(test)]
pub(crate) use stages::run_plainly;
pub(crate) use stages::{StageCache, run_in_stages};

use std::collections::HashMap;
use std::sync::Arc;

use campana_kernels::int8::QuantParams;
use campana_tensor::Tensor;
use step::Step;

/// Where a value is while a program runs.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Known beforehand, whatever its type.
    Constant(Arc<Tensor>),
    /// Given by the caller.
    Input(usize),
    /// Floats in a buffer of the frame.
    Buffer(usize),
    /// A tensor that an operator by its reference fallback made.
    Slot(usize),
}

/// The order of a value's elements in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    /// As the shape says: `[batch, channels, ..]`.
    First,
    /// `[batch, .., channels]`.
    Last,
}

/// A value: its shape as ONNX sees it, and where and how it lies in memory.
#[derive(Clone, Debug)]
pub(crate) struct Val {
    pub(crate) shape: Vec<usize>,
    pub(crate) place: Place,
    pub(crate) layout: Layout,
    /// Whether the elements are float32.
    pub(crate) is_float: bool,
    /// What they stand for, where a buffer holds codes instead.
    pub(crate) codes: Option<QuantParams>,
}

impl Val {
    /// Whether the elements lie alike whether channels come first or last.
    fn is_in_both_layouts(&self) -> bool {
        let shape = &self.shape;
        shape.len() < 3 || shape[1] == 1 || shape[2..].iter().product::<usize>() == 1
    }
}

/// A plan for inputs of given shapes.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) steps: Vec<Step>,
    pub(crate) outputs: Vec<Val>,
    /// Floats in each buffer of a frame.
    pub(crate) buffers: Vec<usize>,
    pub(crate) slots: usize,
    /// Shapes of all values that a run computes.
    pub(crate) shapes: HashMap<String, Vec<usize>>,
    /// Values that are not the plan's constants but known from shapes alone.
    pub(crate) derived: HashMap<String, Arc<Tensor>>,
    /// Whether something works across the first axis.
    pub(crate) mixes_batch: bool,
    /// Whether shapes depend on values, so that the plan runs in stages.
    pub(crate) staged: bool,
}
