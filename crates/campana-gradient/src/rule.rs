//! What the rules of all operators have in common.

use std::collections::HashMap;
use std::fmt::Debug;

use campana_ir::graph::{Graph, Node};
use campana_tensor::{Tensor, TensorData};

use crate::error::Fault;

/// The way back through an operator.
pub(crate) trait Rule: Debug + Send + Sync {
    /// Which values the rule reads where gradients of these inputs are wanted.
    fn reads(&self, wanted: &[bool]) -> Reads;

    /// The gradient of each wanted input, by those of the outputs (`None` where
    /// nothing that counts reads an output); at least one is there.
    ///
    /// # Errors
    ///
    /// Where values do not fit the operator.
    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault>;
}

/// Gradients of the inputs or outputs of a node, row-major.
pub(crate) type Gradients = Vec<Option<Vec<f32>>>;

/// Values of a forward pass that a rule reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Inputs, by their positions.
    pub(crate) inputs: Vec<usize>,
    /// Whether the first output.
    pub(crate) output: bool,
}

impl Reads {
    pub(crate) const NOTHING: Self = Self {
        inputs: Vec::new(),
        output: false,
    };

    pub(crate) const OUTPUT: Self = Self {
        inputs: Vec::new(),
        output: true,
    };

    /// Of a product of inputs 0 and 1: each where the other's gradient is wanted.
    pub(crate) fn of_product(wanted: &[bool]) -> Self {
        let is_wanted = |input: usize| wanted.get(input).copied().unwrap_or(false);
        let read = [0, 1].into_iter().filter(|input| is_wanted(1 - input));
        Self {
            inputs: read.collect(),
            output: false,
        }
    }

    pub(crate) fn inputs(inputs: &[usize]) -> Self {
        Self {
            inputs: inputs.to_vec(),
            output: false,
        }
    }
}

/// One node on the way back.
pub(crate) struct Step<'a> {
    pub(crate) node: &'a Node,
    /// Which inputs' gradients are wanted.
    pub(crate) wanted: &'a [bool],
    pub(crate) graph: &'a Graph,
    /// Values of the forward pass that rules asked for.
    pub(crate) values: &'a HashMap<&'a str, &'a Tensor>,
    /// Extents of every float value.
    pub(crate) shapes: &'a HashMap<String, Vec<usize>>,
}

impl<'a> Step<'a> {
    pub(crate) fn wants(&self, input: usize) -> bool {
        self.wanted.get(input).copied().unwrap_or(false)
    }

    /// Whether an input is there.
    pub(crate) fn has(&self, input: usize) -> bool {
        self.node
            .inputs
            .get(input)
            .is_some_and(|name| !name.is_empty())
    }

    /// The gradient of the only output that counts.
    pub(crate) fn first(mut outputs: Gradients) -> Result<Vec<f32>, Fault> {
        match outputs.is_empty() {
            true => None,
            false => outputs.swap_remove(0),
        }
        .ok_or_else(|| Fault::unsupported("the gradient of a further output"))
    }

    fn tensor_named(&self, name: &str) -> Result<&'a Tensor, Fault> {
        let value = self.values.get(name).copied();
        value
            .or_else(|| self.graph.constants.get(name))
            .ok_or_else(|| Fault::invalid(format!("no value of {name:?}")))
    }

    /// An input of any type.
    pub(crate) fn tensor(&self, input: usize) -> Result<&'a Tensor, Fault> {
        let name = self.node.inputs.get(input).map_or("", String::as_str);
        self.tensor_named(name)
    }

    /// The elements of a float input.
    pub(crate) fn floats(&self, input: usize) -> Result<&'a [f32], Fault> {
        floats(self.tensor(input)?)
    }

    /// The elements of the first output.
    pub(crate) fn output(&self) -> Result<&'a [f32], Fault> {
        floats(self.tensor_named(&self.node.outputs[0])?)
    }

    /// Integers of an input, such as axes.
    pub(crate) fn integers(&self, input: usize) -> Result<Vec<i64>, Fault> {
        match self.tensor(input)?.data() {
            TensorData::I64(values) => Ok(values.clone()),
            TensorData::I32(values) => Ok(values.iter().map(|&v| i64::from(v)).collect()),
            _ => Err(Fault::invalid(format!(
                "input {input} is no list of integers"
            ))),
        }
    }

    /// Extents of an input.
    pub(crate) fn shape(&self, input: usize) -> Result<&'a [usize], Fault> {
        let name = self.node.inputs.get(input).map_or("", String::as_str);
        self.shape_named(name)
    }

    /// Extents of an output.
    pub(crate) fn output_shape(&self, output: usize) -> Result<&'a [usize], Fault> {
        let name = self.node.outputs.get(output).map_or("", String::as_str);
        self.shape_named(name)
    }

    fn shape_named(&self, name: &str) -> Result<&'a [usize], Fault> {
        let known = self.shapes.get(name).map(Vec::as_slice);
        known
            .or_else(|| self.graph.constants.get(name).map(Tensor::shape))
            .ok_or_else(|| Fault::invalid(format!("no shape of {name:?}")))
    }

    /// Axes of a node from the start, by an attribute or else an input; all
    /// where neither says.
    pub(crate) fn axes(&self, attribute: Option<&[i64]>, rank: usize) -> Result<Vec<usize>, Fault> {
        let given = match attribute {
            Some(axes) => axes.to_vec(),
            None if self.has(1) => self.integers(1)?,
            None => Vec::new(),
        };
        if given.is_empty() {
            return Ok((0..rank).collect());
        }
        let axes = given.iter().map(|&axis| {
            campana_ir::op::axis_from_start(axis, rank)
                .ok_or_else(|| Fault::invalid(format!("axis {axis} of {rank}")))
        });
        axes.collect()
    }
}

pub(crate) fn floats(tensor: &Tensor) -> Result<&[f32], Fault> {
    match tensor.data() {
        TensorData::F32(values) => Ok(values),
        other => Err(Fault::unsupported(format!(
            "values of {}",
            other.element_type()
        ))),
    }
}
