//! Element types and shapes of all values of a graph, without running it.
//!
//! Extents that only a run knows are symbols. Integer values that shapes and
//! constants determine (`Shape`, `Gather`, `Concat`, arithmetic on int64) are
//! followed as contents, so that a `Reshape` or `Pad` by computed numbers has a
//! known shape. What cannot be told is `None`, never a guess.

mod arithmetic;
mod contents;
mod extents;
mod named_shapes;
mod scope;
mod shapes;
mod value;

#[cfg(test)]
mod tests;

use campana_tensor::{ElementType, TensorData};

use crate::graph::{Attribute, Dim, Graph, Node};
use crate::op::{Op, OpError, ResultTypes};
use contents::Contents;
use scope::Scope;
pub use value::{ValueInfo, Values};

/// Elements of constants that may be the factors of extents.
const MAX_FLOATS: usize = 8;

/// Infers the values of a graph whose nodes were parsed to `ops`, one a node.
///
/// # Errors
///
/// Where a node of a subgraph is no valid use of its operator.
pub fn infer(graph: &Graph, ops: &[Op]) -> Result<Values, OpError> {
    let mut scope = Scope::default();
    scope.run(graph, ops)?;
    Ok(scope.values)
}

impl Scope {
    fn run(&mut self, graph: &Graph, ops: &[Op]) -> Result<(), OpError> {
        self.opset = graph.opset();
        for (name, tensor) in &graph.constants {
            if let Some(contents) = Contents::of_tensor(tensor) {
                self.contents.insert(name.clone(), contents);
            }
            if let TensorData::F32(values) = tensor.data()
                && values.len() <= MAX_FLOATS
            {
                self.floats.insert(name.clone(), values.clone());
            }
            self.values
                .insert(name.clone(), ValueInfo::of_tensor(tensor));
        }
        for (name, tensor) in &graph.quantized {
            let extents = tensor.shape.iter().map(|&extent| Dim::Fixed(extent));
            let info = ValueInfo {
                element_type: Some(ElementType::F32),
                shape: Some(extents.collect()),
                integers: None,
            };
            self.values.insert(name.clone(), info);
        }
        for input in &graph.inputs {
            let info = ValueInfo {
                element_type: input.element_type,
                shape: input.shape.clone(),
                integers: None,
            };
            self.values.entry(input.name.clone()).or_insert(info);
        }
        for (node, op) in graph.nodes.iter().zip(ops) {
            self.node(node, op)?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, op: &Op) -> Result<(), OpError> {
        if *op == Op::ControlFlow {
            return self.control_flow(node);
        }
        let shapes = shapes::output_shapes(self, node, op);
        let contents = arithmetic::output_contents(self, node, op);
        for (i, name) in node.outputs.iter().enumerate() {
            if name.is_empty() {
                continue;
            }
            let info = ValueInfo {
                element_type: self.output_type(node, op, i),
                shape: shapes.get(i).cloned().flatten(),
                integers: contents
                    .as_ref()
                    .filter(|_| i == 0)
                    .and_then(Contents::known),
            };
            self.values.insert(name.clone(), info);
        }
        if let (Some(contents), Some(name)) = (contents, node.outputs.first()) {
            self.contents.insert(name.clone(), contents);
        }
        Ok(())
    }

    fn output_type(&self, node: &Node, op: &Op, output: usize) -> Option<ElementType> {
        let input = |index| self.input(node, index)?.element_type;
        match op {
            Op::Cast(to) => Some(*to),
            Op::Shape { .. } => Some(ElementType::I64),
            Op::MaxPool(_) if output > 0 => Some(ElementType::I64),
            Op::QuantizeLinear { output } => output.or_else(|| input(2)).or(Some(ElementType::U8)),
            Op::DequantizeLinear => input(1),
            Op::Other(types) => match (types, output) {
                (ResultTypes::Input(index) | ResultTypes::First(index, _), 0)
                | (ResultTypes::Input(index), _) => input(*index),
                (ResultTypes::Fixed(element_type) | ResultTypes::First(_, element_type), _) => {
                    Some(*element_type)
                }
                (ResultTypes::DynamicQuantization, 1) => Some(ElementType::F32),
                (ResultTypes::DynamicQuantization, _) => Some(ElementType::U8),
                (ResultTypes::Unknown, _) => None,
            },
            _ => input(0),
        }
    }

    /// Types of what a control flow operator gives: those of its subgraph.
    /// Shapes may differ from run to run.
    fn control_flow(&mut self, node: &Node) -> Result<(), OpError> {
        let subgraphs = node.attributes.values().filter_map(|value| match value {
            Attribute::Graph(graph) => Some(&**graph),
            _ => None,
        });
        let mut types: Vec<Option<ElementType>> = Vec::new();
        for subgraph in subgraphs {
            let mut inner = self.clone();
            // Loop's body begins with a counter and a condition, Scan's with its states.
            let carried = subgraph.inputs.len().saturating_sub(node.inputs.len());
            for (i, input) in subgraph.inputs.iter().enumerate() {
                let outer = i.checked_sub(carried).and_then(|i| self.input(node, i));
                let info = ValueInfo {
                    element_type: input
                        .element_type
                        .or(outer.and_then(|info| info.element_type)),
                    shape: None,
                    integers: None,
                };
                inner.values.insert(input.name.clone(), info);
            }
            let ops = subgraph
                .nodes
                .iter()
                .map(|node| Op::parse(node, self.opset))
                .collect::<Result<Vec<_>, _>>()?;
            inner.run(subgraph, &ops)?;
            let outputs = subgraph.outputs.iter();
            let skipped = subgraph.outputs.len().saturating_sub(node.outputs.len());
            types = outputs
                .skip(skipped)
                .map(|output| inner.values.get(&output.name)?.element_type)
                .collect();
        }
        for (i, name) in node.outputs.iter().enumerate() {
            let info = ValueInfo {
                element_type: types.get(i).copied().flatten(),
                shape: None,
                integers: None,
            };
            self.values.insert(name.clone(), info);
        }
        Ok(())
    }
}
