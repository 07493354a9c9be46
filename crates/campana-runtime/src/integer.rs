//! What a network computes on codes of 8 bits, as plain values: for those who
//! write it in another language.
//!
//! [`IntegerNetwork::new`] plans a graph as a [`Session`](crate::Session) does
//! and gives the steps that it runs, with the weights, multipliers and bounds
//! of the kernels. Whoever does what [`Operation`] says, in float32 arithmetic
//! or with what equals it, gets the session's results bit for bit.
//!
//! Codes are bytes from 0 to 255, channels last where a value says so.

mod float;
mod operation;
mod translate;

#[cfg(test)]
mod tests;

use campana_ir::graph::{Dim, Graph};
use campana_tensor::ElementType;

pub use campana_kernels::int8::{ChannelParams, QuantParams};
pub use operation::{
    Averages, Block, Combination, Encoding, Extents, Operation, Pair, Product, Rounding, Sum,
};

use crate::error::PlanError;
use crate::plan::{Plan, PlanOptions};
use crate::program::{InputShape, compile_unassigned};

/// A network whose layers compute on codes.
#[derive(Clone, Debug)]
pub struct IntegerNetwork {
    /// All values, in the order in which they come to be.
    pub values: Vec<Value>,
    /// Places in `values` of what the caller gives: codes of the graph's inputs.
    pub inputs: Vec<usize>,
    /// Places in `values` of what the caller gets, in the graph's order.
    pub outputs: Vec<usize>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// A value: an input, or what one step writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The name of an input or output of the graph; empty for others.
    pub name: String,
    /// The extents as ONNX has them.
    pub shape: Vec<usize>,
    /// Whether axis 1 lies behind all others in memory.
    pub channels_last: bool,
    /// What its codes stand for; `None` where it is float32.
    pub codes: Option<QuantParams>,
}

impl Value {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// The node that it belongs to: its name, or its first output's.
    pub node: String,
    /// The node's operator.
    pub op_type: String,
    /// Places in the network's values of what is read.
    pub reads: Vec<usize>,
    /// Place in the network's values of what is written.
    pub writes: usize,
    /// What is done.
    pub operation: Operation,
}

impl IntegerNetwork {
    /// The steps of a graph whose inputs have fixed shapes.
    ///
    /// # Errors
    ///
    /// Where a node computes in floats, for want of activations that are rounded
    /// to 8 bits or of an operator on codes; names it. Where the graph cannot be
    /// planned, or an input's shape is open.
    pub fn new(graph: &Graph) -> Result<Self, PlanError> {
        let options = PlanOptions {
            keep_numbers: true,
            ..PlanOptions::default()
        };
        let plan = Plan::new(graph, options)?;
        let shapes = plan.inputs().iter().map(|input| {
            let shape = input.shape.as_ref().and_then(|dims| {
                let fixed = dims.iter().map(|dim| match dim {
                    Dim::Fixed(extent) => Some(*extent),
                    Dim::Symbol(_) => None,
                });
                fixed.collect::<Option<Vec<usize>>>()
            });
            let open = || PlanError::graph(format!("the shape of input {:?} is open", input.name));
            Ok(InputShape {
                shape: shape.ok_or_else(open)?,
                element_type: input.element_type.unwrap_or(ElementType::F32),
            })
        });
        let shapes: Vec<InputShape> = shapes.collect::<Result<_, PlanError>>()?;
        let program = compile_unassigned(&plan, &shapes)?;
        let program =
            program.ok_or_else(|| PlanError::graph("the shapes of values depend on values"))?;
        translate::translate(&plan, &shapes, &program)
    }
}
