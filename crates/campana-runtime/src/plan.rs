//! A graph made ready to run, whatever the shapes of its inputs.

mod fold;
mod fuse;
mod pack;
mod quantized;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use campana_kernels::{Level, ThreadPool};
use campana_model::graph::{Graph, Node, Value};
use campana_tensor::{Tensor, TensorData};

use crate::error::PlanError;
use crate::ops::{Call, Fault, OWN_DOMAIN, operator, shape_operands};

pub(crate) use pack::Packed;

/// How a graph is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanOptions {
    /// Whether batch normalization, activations and residual sums become part
    /// of the convolution before them. Default: true.
    pub fuse: bool,
    /// Whether weights are also kept as they were, which only the plain form of
    /// operators needs.
    pub(crate) keep_weights: bool,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            fuse: true,
            keep_weights: false,
        }
    }
}

/// A graph made ready to run.
#[derive(Debug)]
pub struct Plan {
    pub(crate) nodes: Vec<PlannedNode>,
    pub(crate) inputs: Vec<Value>,
    pub(crate) outputs: Vec<Value>,
    pub(crate) constants: HashMap<String, Arc<Tensor>>,
    pub(crate) opset: i64,
}

/// A node, and what became part of it.
#[derive(Debug)]
pub(crate) struct PlannedNode {
    pub(crate) node: Node,
    /// Weights laid out for a kernel.
    pub(crate) packed: Option<Packed>,
    /// A value that is added to the result.
    pub(crate) residual: Option<String>,
    /// Bounds that the result is held to after that.
    pub(crate) bounds: [f32; 2],
}

/// No bounds.
pub(crate) const UNBOUNDED: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// Constants while a plan is made: the graph's own, or computed.
pub(crate) type Constants<'g> = HashMap<String, Cow<'g, Tensor>>;

impl Plan {
    /// Plans a graph.
    ///
    /// # Errors
    ///
    /// Where a node's operator is not supported, or a node cannot be computed
    /// on the constants it is given; the error names the node and the operator.
    pub fn new(graph: &Graph, options: PlanOptions) -> Result<Self, PlanError> {
        for node in &graph.nodes {
            if operator(&node.domain, &node.op_type).is_none() || node.domain == OWN_DOMAIN {
                return Err(PlanError::unsupported(node, "this operator"));
            }
            if node.outputs.is_empty() {
                return Err(PlanError::at(node, Fault::invalid("no outputs")));
            }
        }
        let opset = graph
            .opsets
            .get("")
            .or(graph.opsets.get("ai.onnx"))
            .copied()
            .unwrap_or(DEFAULT_OPSET);
        let mut constants: Constants<'_> = graph
            .constants
            .iter()
            .map(|(name, tensor)| (name.clone(), Cow::Borrowed(tensor)))
            .collect();
        for (name, quantized) in &graph.quantized {
            let values = TensorData::F32(quantized.dequantize());
            let tensor = Tensor::new(quantized.shape.clone(), values).ok_or_else(|| {
                PlanError::graph(format!("the parts of weights {name:?} do not fit"))
            })?;
            constants.insert(name.clone(), Cow::Owned(tensor));
        }
        let nodes = fold::fold(&graph.nodes, &mut constants, opset)?;
        check_names(graph, &nodes, &constants)?;
        let mut nodes: Vec<PlannedNode> = nodes
            .into_iter()
            .map(|node| PlannedNode {
                node,
                packed: None,
                residual: None,
                bounds: UNBOUNDED,
            })
            .collect();
        let outputs: HashSet<&str> = graph
            .outputs
            .iter()
            .map(|value| value.name.as_str())
            .collect();
        if options.fuse {
            quantized::join(&mut nodes, &constants, &outputs);
            fuse::fuse(&mut nodes, &mut constants, &outputs, opset);
        }
        // Where shapes depend on values, everything runs in its plain form,
        // which needs the weights as they are.
        let plain = options.keep_weights
            || nodes.iter().any(|planned| {
                shape_operands(&planned.node.op_type).iter().any(|&index| {
                    let name = planned.node.inputs.get(index).map_or("", String::as_str);
                    !name.is_empty() && !constants.contains_key(name)
                })
            });
        let graph_inputs: HashSet<&str> = graph
            .inputs
            .iter()
            .map(|value| value.name.as_str())
            .collect();
        let mut packed_inputs: HashSet<(usize, usize)> = HashSet::new();
        for (i, planned) in nodes.iter_mut().enumerate() {
            if let Some((packed, inputs)) = pack::pack(planned, &constants, &graph_inputs, opset)? {
                planned.packed = Some(packed);
                packed_inputs.extend(inputs.into_iter().map(|input| (i, input)));
            }
        }
        let needed: HashSet<&str> = nodes
            .iter()
            .enumerate()
            .flat_map(|(i, planned)| {
                let kept = planned.node.inputs.iter().enumerate();
                let packed_inputs = &packed_inputs;
                kept.filter(move |(index, _)| plain || !packed_inputs.contains(&(i, *index)))
                    .map(|(_, name)| name.as_str())
                    .chain(planned.residual.as_deref())
            })
            .chain(outputs.iter().copied())
            .collect();
        let constants = constants
            .into_iter()
            .filter(|(name, _)| needed.contains(name.as_str()))
            .map(|(name, tensor)| (name, Arc::new(tensor.into_owned())))
            .collect();
        Ok(Self {
            nodes,
            inputs: graph.inputs.clone(),
            outputs: graph.outputs.clone(),
            constants,
            opset,
        })
    }

    /// What the caller must give.
    pub fn inputs(&self) -> &[Value] {
        &self.inputs
    }

    /// What a run gives back.
    pub fn outputs(&self) -> &[Value] {
        &self.outputs
    }

    /// Bytes of weights and other constants in memory.
    pub fn weight_bytes(&self) -> usize {
        let constants: usize = self
            .constants
            .values()
            .map(|tensor| {
                tensor
                    .data()
                    .element_type()
                    .len_bytes(tensor.len())
                    .unwrap_or(0)
            })
            .sum();
        let packed = self
            .nodes
            .iter()
            .filter_map(|planned| planned.packed.as_ref());
        constants + packed.map(Packed::len_bytes).sum::<usize>()
    }
}

/// The operator set of graphs that name none.
const DEFAULT_OPSET: i64 = 17;

/// Every value that is used exists.
fn check_names(graph: &Graph, nodes: &[Node], constants: &Constants<'_>) -> Result<(), PlanError> {
    let mut known: HashSet<&str> = graph
        .inputs
        .iter()
        .map(|value| value.name.as_str())
        .collect();
    let exists = |known: &HashSet<&str>, name: &str| {
        name.is_empty() || known.contains(name) || constants.contains_key(name)
    };
    for node in nodes {
        if let Some(name) = node.inputs.iter().find(|name| !exists(&known, name)) {
            return Err(PlanError::graph(format!(
                "nothing before {:?} makes {name:?}",
                node.op_type
            )));
        }
        known.extend(node.outputs.iter().map(String::as_str));
    }
    match graph
        .outputs
        .iter()
        .find(|value| !exists(&known, &value.name))
    {
        Some(value) => Err(PlanError::graph(format!(
            "nothing makes the output {:?}",
            value.name
        ))),
        None => Ok(()),
    }
}

/// A call of a node on constants, for planning.
pub(crate) fn constant_call<'a>(
    node: &'a Node,
    opset: i64,
    mut constant: impl FnMut(&str) -> Option<&'a Tensor>,
) -> Call<'a> {
    const SERIAL: &ThreadPool = &ThreadPool::serial();
    Call {
        node,
        inputs: node
            .inputs
            .iter()
            .map(|name| {
                if name.is_empty() {
                    None
                } else {
                    constant(name)
                }
            })
            .collect(),
        opset,
        level: Level::detect(),
        pool: SERIAL,
    }
}
