//! Operators that move elements: reshapes, and whatever gives elements of its
//! inputs in another order, some of them several times or not at all.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use campana_ir::graph::{Graph, Value};
use campana_ir::network::Network;
use campana_ir::op::Op;
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::{Tensor, TensorData};

use crate::error::Fault;
use crate::rule::{Gradients, Reads, Rule, Step};

/// Elements in the order of the input.
#[derive(Debug)]
pub(crate) struct Same;

impl Rule for Same {
    fn reads(&self, _: &[bool]) -> Reads {
        Reads::NOTHING
    }

    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault> {
        let mut gradients = vec![None; at.node.inputs.len()];
        gradients[0] = Some(Step::first(outputs)?);
        Ok(gradients)
    }
}

/// Elements in another order. Where each comes from is found by running the
/// operator on numbers in place of elements.
#[derive(Debug)]
pub(crate) struct Moved {
    opset: i64,
    /// How many of the first inputs have the elements; others say where they go.
    moved: usize,
    /// Inputs that say where elements go.
    by: Vec<usize>,
    /// Whether these are the same in every pass.
    is_fixed: bool,
    found: OnceLock<Vec<Vec<i64>>>,
}

impl Moved {
    pub(crate) fn new(network: &Network<'_>, node: usize) -> Self {
        let found = network.node(node);
        let moved = match network.op(node) {
            Op::Concat { .. } => found.inputs.len(),
            _ => 1,
        };
        let is_there = |&input: &usize| !found.inputs[input].is_empty();
        let by: Vec<usize> = (moved..found.inputs.len()).filter(is_there).collect();
        Self {
            opset: network.graph().opset(),
            moved,
            is_fixed: by
                .iter()
                .all(|&input| network.is_parameter(&found.inputs[input])),
            by,
            found: OnceLock::new(),
        }
    }

    /// Of each output the number of each element, counted from 1 over the inputs;
    /// 0 where it comes from none.
    fn numbers(&self, at: &Step<'_>) -> Result<Cow<'_, [Vec<i64>]>, Fault> {
        if let Some(found) = self.found.get() {
            return Ok(Cow::Borrowed(found));
        }
        let numbers = self.numbers_of(at)?;
        Ok(match self.is_fixed {
            true => Cow::Borrowed(self.found.get_or_init(|| numbers)),
            false => Cow::Owned(numbers),
        })
    }

    fn numbers_of(&self, at: &Step<'_>) -> Result<Vec<Vec<i64>>, Fault> {
        let mut node = at.node.clone();
        if node.op_type == "Pad"
            && node.text("mode", "constant") == "constant"
            && node.inputs.len() > 2
        {
            // The border counts as no element.
            node.inputs[2].clear();
        }
        let mut next = 1i64;
        let mut constants = BTreeMap::new();
        for (input, name) in node.inputs.iter_mut().enumerate() {
            if name.is_empty() {
                continue;
            }
            let tensor = if input < self.moved {
                let shape = at.shape(input)?.to_vec();
                let len = shape.iter().product::<usize>() as i64;
                let numbers = TensorData::I64((next..next + len).collect());
                next += len;
                Tensor::new(shape, numbers).ok_or_else(|| Fault::invalid("a shape"))?
            } else {
                at.tensor(input)?.clone()
            };
            // A value may be there twice.
            *name = format!("input {input}");
            constants.insert(name.clone(), tensor);
        }
        let named = |name: &String| Value::named(name);
        let graph = Graph {
            outputs: node.outputs.iter().map(named).collect(),
            nodes: vec![node],
            constants,
            opsets: BTreeMap::from([(String::new(), self.opset)]),
            ..Graph::default()
        };
        let failed =
            |error: &dyn std::error::Error| Fault::unsupported(format!("its gradient: {error}"));
        let plan = Plan::new(graph, PlanOptions::default()).map_err(|error| failed(&error))?;
        let inputs: [(&str, Input<'_>); 0] = [];
        let outputs = Session::new(plan, 1)
            .run(&inputs)
            .map_err(|error| failed(&error))?;
        let numbers = outputs.into_iter().map(|output| match output.into_parts() {
            (_, TensorData::I64(numbers)) => Ok(numbers),
            _ => Err(Fault::unsupported("the gradient of what is not moved")),
        });
        numbers.collect()
    }
}

impl Rule for Moved {
    fn reads(&self, _: &[bool]) -> Reads {
        Reads::inputs(&self.by)
    }

    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault> {
        let numbers = self.numbers(at)?;
        let mut starts = Vec::new();
        let mut len = 1;
        for input in 0..at.node.inputs.len() {
            starts.push(len);
            if input < self.moved {
                len += at.shape(input)?.iter().product::<usize>();
            }
        }
        let mut sums = vec![0.0; len];
        for (numbers, gradient) in numbers.iter().zip(outputs) {
            let Some(gradient) = gradient else { continue };
            if numbers.len() != gradient.len() {
                return Err(Fault::invalid("a gradient of another size"));
            }
            for (&number, gradient) in numbers.iter().zip(gradient) {
                sums[number as usize] += gradient;
            }
        }
        let of = |input: usize| -> Result<Option<Vec<f32>>, Fault> {
            if !at.wants(input) {
                return Ok(None);
            }
            let len = at.shape(input)?.iter().product::<usize>();
            Ok(Some(sums[starts[input]..][..len].to_vec()))
        };
        (0..at.node.inputs.len()).map(of).collect()
    }
}
