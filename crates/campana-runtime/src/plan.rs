//! A graph made ready to run, whatever the shapes of its inputs.

mod bodies;
mod coded;
mod fold;
mod fuse;
mod int8;
mod pack;
mod quantized;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use campana_codebook::QuantizedTensor;
use campana_ir::graph::{Graph, Node, Value};
use campana_kernels::int8::QuantParams;
use campana_kernels::{Isa, ThreadPool};
use campana_tensor::{Tensor, TensorData};

use crate::error::PlanError;
use crate::limits::{Interrupt, Limits};
use crate::ops::{
    Call, Fault, OWN_DOMAIN, check_windows, is_control_flow, operator, refuse_training,
};
use crate::program::StageCache;

pub(crate) use bodies::Body;
pub(crate) use int8::{Int8Layer, Int8Weights, quant_params_of};
pub(crate) use pack::Packed;

/// How a graph is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanOptions {
    /// Whether batch normalization, activations and residual sums become part
    /// of the convolution before them. Default: true.
    pub fuse: bool,
    /// Threads that lay out weights, the caller's included; 0 counts as 1. Default: 1.
    pub threads: usize,
    /// What values computed from constants may take.
    pub limits: Limits,
    /// Stops planning once it is set. Default: none.
    pub interrupt: Option<Interrupt>,
    /// Whether weights are also kept as they were, which only the reference fallback of
    /// operators needs.
    pub(crate) keep_weights: bool,
    /// Whether the whole numbers of layers on codes are also kept as they were,
    /// for those who write them elsewhere.
    pub(crate) keep_numbers: bool,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            fuse: true,
            threads: 1,
            limits: Limits::default(),
            interrupt: None,
            keep_weights: false,
            keep_numbers: false,
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
    pub(crate) limits: Limits,
    /// Programs of the parts between nodes whose shapes only a run knows.
    pub(crate) stages: StageCache,
}

/// A node, and what became part of it.
#[derive(Debug)]
pub(crate) struct PlannedNode {
    pub(crate) node: Node,
    /// Weights laid out for a kernel.
    pub(crate) packed: Option<Packed>,
    /// Factors of the weights of each output channel; empty for none.
    pub(crate) factors: Vec<f32>,
    /// A value that is added to the result.
    pub(crate) residual: Option<String>,
    /// Bounds that the result is held to after that.
    pub(crate) bounds: [f32; 2],
    /// What the result is rounded to after that.
    pub(crate) quantize: Option<QuantParams>,
    /// Graphs that it runs.
    pub(crate) bodies: Vec<Body>,
}

impl PlannedNode {
    /// A node that nothing became part of.
    fn new(node: Node) -> Self {
        Self {
            node,
            packed: None,
            factors: Vec::new(),
            residual: None,
            bounds: UNBOUNDED,
            quantize: None,
            bodies: Vec::new(),
        }
    }
}

/// No bounds.
pub(crate) const UNBOUNDED: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// Constants while a plan is made: the graph's own, or computed.
pub(crate) type Constants<'g> = HashMap<String, Cow<'g, Tensor>>;

/// Constants that stay codes, by name.
pub(crate) type Quantized<'g> = HashMap<String, Cow<'g, QuantizedTensor>>;

impl Plan {
    /// Plans a graph. What is laid out of a graph that is given away is freed
    /// at once, so that large models need less memory.
    ///
    /// # Errors
    ///
    /// Where a node's operator is not supported, or a node cannot be computed
    /// on the constants it is given; the error names the node and the operator.
    pub fn new<'g>(
        graph: impl Into<Cow<'g, Graph>>,
        options: PlanOptions,
    ) -> Result<Self, PlanError> {
        match graph.into() {
            Cow::Borrowed(graph) => {
                let constants = borrowed(&graph.constants);
                Self::of(graph, constants, borrowed(&graph.quantized), options)
            }
            Cow::Owned(mut graph) => {
                let constants = owned(std::mem::take(&mut graph.constants));
                let quantized = owned(std::mem::take(&mut graph.quantized));
                Self::of(&graph, constants, quantized, options)
            }
        }
    }

    /// Plans a graph with these constants.
    fn of(
        graph: &Graph,
        mut constants: Constants<'_>,
        quantized: Quantized<'_>,
        options: PlanOptions,
    ) -> Result<Self, PlanError> {
        let opset = graph
            .opsets
            .get("")
            .or(graph.opsets.get("ai.onnx"))
            .copied()
            .unwrap_or(DEFAULT_OPSET);
        let given = bodies::with_captures(&graph.nodes);
        for node in given.iter() {
            check_node(node, opset)?;
        }
        let (mut quantized, as_values) = readable_as_codes(graph, &given, quantized);
        for (name, tensor) in as_values {
            let values = expanded(&name, &tensor, &[])?;
            constants.insert(name, Cow::Owned(values));
        }
        let outputs: HashSet<&str> = graph
            .outputs
            .iter()
            .map(|value| value.name.as_str())
            .collect();
        let nodes = fold::fold(&given, &mut constants, &outputs, &options, opset)?;
        drop(given);
        check_names(graph, &nodes, &constants, &quantized)?;
        // The reference fallback needs the weights as they are.
        let plain = options.keep_weights;
        if plain {
            for (name, tensor) in quantized.drain() {
                let values = expanded(&name, &tensor, &[])?;
                constants.insert(name, Cow::Owned(values));
            }
        }
        let mut nodes: Vec<PlannedNode> = nodes
            .into_iter()
            .map(|node| {
                Ok(PlannedNode {
                    bodies: bodies::plan(&node, &constants, &options)?,
                    ..PlannedNode::new(node)
                })
            })
            .collect::<Result<_, PlanError>>()?;
        if options.fuse {
            quantized::join(&mut nodes, &constants, &outputs);
            fuse::fuse(&mut nodes, &mut constants, &quantized, &outputs, opset);
        }
        let mut codes = HashMap::new();
        if options.fuse && !plain {
            int8::fuse(&mut nodes, &constants, &outputs, opset);
            codes = int8::codes(&nodes, opset);
        }
        let graph_inputs: HashSet<&str> = graph
            .inputs
            .iter()
            .map(|value| value.name.as_str())
            .collect();
        let mut packed_inputs: HashSet<(usize, usize)> = HashSet::new();
        // Layers do not depend on each other; what was laid out is freed.
        let layers: Vec<_> = nodes.iter().zip(weights_of(&nodes, quantized)).collect();
        let packed = on_threads(options.threads, &layers, |(planned, weights)| {
            let weights = weights
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let coded = weights.as_deref();
            let packed = match int8::pack(planned, &constants, coded, &codes, &options, opset) {
                Some(packed) => Some(packed),
                None => pack::pack(planned, &constants, coded, &graph_inputs, opset)?,
            };
            let is_needed = plain || packed.is_none();
            Ok((packed, weights.filter(|_| is_needed)))
        });
        drop(layers);
        for ((i, planned), packed) in nodes.iter_mut().enumerate().zip(packed) {
            let (packed, weights) = packed?;
            if let Some((packed, inputs)) = packed {
                planned.packed = Some(packed);
                packed_inputs.extend(inputs.into_iter().map(|input| (i, input)));
                if !plain {
                    continue;
                }
            }
            // The reference fallback reads weights as floats, with their factors.
            expand_weights(planned, &mut constants, weights.as_deref())?;
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
            limits: options.limits,
            stages: StageCache::default(),
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
        let bodies = self.nodes.iter().flat_map(|planned| &planned.bodies);
        constants
            + packed.map(Packed::len_bytes).sum::<usize>()
            + bodies.map(|body| body.plan.weight_bytes()).sum::<usize>()
    }
}

/// A node can be run: its operator is known, and it is for inference.
fn check_node(node: &Node, opset: i64) -> Result<(), PlanError> {
    let known = node.domain != OWN_DOMAIN
        && (operator(&node.domain, &node.op_type).is_some()
            || is_control_flow(&node.domain, &node.op_type));
    if !known {
        return Err(PlanError::unsupported(node, "this operator"));
    }
    if node.outputs.is_empty() {
        return Err(PlanError::at(node, Fault::invalid("no outputs")));
    }
    let call = constant_call(node, opset, |_| None);
    match node.op_type.as_str() {
        "BatchNormalization" => refuse_training(&call),
        name if name.contains("Conv") || name.ends_with("Pool") => check_windows(&call),
        _ => Ok(()),
    }
    .map_err(|fault| PlanError::at(node, fault))
}

/// What a function makes of each of these, in their order.
fn on_threads<T: Sync, R: Send + Sync>(
    threads: usize,
    of: &[T],
    f: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let results: Vec<OnceLock<R>> = of.iter().map(|_| OnceLock::new()).collect();
    ThreadPool::new(threads).run(of.len(), |i| {
        results[i].get_or_init(|| f(&of[i]));
    });
    results
        .into_iter()
        .filter_map(OnceLock::into_inner)
        .collect()
}

fn borrowed<T: Clone>(values: &BTreeMap<String, T>) -> HashMap<String, Cow<'_, T>> {
    let values = values.iter();
    values
        .map(|(name, value)| (name.clone(), Cow::Borrowed(value)))
        .collect()
}

fn owned<T: Clone>(values: BTreeMap<String, T>) -> HashMap<String, Cow<'static, T>> {
    let values = values.into_iter();
    values
        .map(|(name, value)| (name, Cow::Owned(value)))
        .collect()
}

/// The quantized tensors that nothing reads but as weights of operators that
/// can decode them, and the others.
fn readable_as_codes<'g>(
    graph: &Graph,
    nodes: &[Node],
    quantized: Quantized<'g>,
) -> (Quantized<'g>, Quantized<'g>) {
    let outputs = graph.outputs.iter().map(|value| value.name.as_str());
    let other_uses = nodes.iter().flat_map(|node| {
        let decodes = matches!(node.op_type.as_str(), "Conv" | "Gemm" | "MatMul");
        let inputs = node.inputs.iter().enumerate();
        inputs.filter_map(move |(index, name)| {
            (!decodes || index != 1 || !node.domain.is_empty()).then_some(name.as_str())
        })
    });
    let as_values: HashSet<&str> = outputs.chain(other_uses).collect();
    let tensors = quantized.into_iter();
    tensors.partition(|(name, _)| !as_values.contains(name.as_str()))
}

/// Weights that stay codes, of a node that takes them.
type NodeWeights<'g> = Mutex<Option<Cow<'g, QuantizedTensor>>>;

/// The coded weights of each node, if any: the tensors themselves, where no
/// other node needs them too.
fn weights_of<'g>(nodes: &[PlannedNode], mut quantized: Quantized<'g>) -> Vec<NodeWeights<'g>> {
    let names = || nodes.iter().map(|planned| planned.node.inputs.get(1));
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for name in names().flatten() {
        *uses.entry(name).or_default() += 1;
    }
    let weights = names().map(|name| {
        let name = name?.as_str();
        let left = uses.get_mut(name)?;
        *left -= 1;
        match left {
            0 => quantized.remove(name),
            _ => quantized.get(name).cloned(),
        }
    });
    weights.map(Mutex::new).collect()
}

/// A quantized tensor as floats, those of each first index multiplied with its
/// factor, unless there are none.
fn expanded(name: &str, tensor: &QuantizedTensor, factors: &[f32]) -> Result<Tensor, PlanError> {
    scaled(tensor.shape.clone(), tensor.dequantize(), factors)
        .ok_or_else(|| PlanError::graph(format!("the parts of weights {name:?} do not fit")))
}

fn scaled(shape: Vec<usize>, mut values: Vec<f32>, factors: &[f32]) -> Option<Tensor> {
    let len = values.len() / factors.len().max(1);
    for (values, factor) in values.chunks_mut(len.max(1)).zip(factors) {
        values.iter_mut().for_each(|value| *value *= factor);
    }
    Tensor::new(shape, TensorData::F32(values))
}

/// Gives a node its own weights as floats where they have factors or are codes.
fn expand_weights(
    planned: &mut PlannedNode,
    constants: &mut Constants<'_>,
    coded: Option<&QuantizedTensor>,
) -> Result<(), PlanError> {
    let Some(name) = planned.node.inputs.get(1) else {
        return Ok(());
    };
    let factors = planned.factors.as_slice();
    let weights = match (coded, constants.get(name)) {
        (Some(tensor), _) => expanded(name, tensor, factors)?,
        (None, Some(tensor)) if !factors.is_empty() => match tensor.data() {
            TensorData::F32(values) => scaled(tensor.shape().to_vec(), values.clone(), factors)
                .ok_or_else(|| PlanError::graph(format!("weights {name:?} have no shape")))?,
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    // A name that no graph can contain: its own end where the zero begins.
    let own_name = format!("{}\0weights", planned.node.outputs[0]);
    constants.insert(own_name.clone(), Cow::Owned(weights));
    planned.node.inputs[1] = own_name;
    Ok(())
}

/// The operator set of graphs that name none.
const DEFAULT_OPSET: i64 = 17;

/// Every value that is used exists.
fn check_names(
    graph: &Graph,
    nodes: &[Node],
    constants: &Constants<'_>,
    quantized: &Quantized<'_>,
) -> Result<(), PlanError> {
    let mut known: HashSet<&str> = graph
        .inputs
        .iter()
        .map(|value| value.name.as_str())
        .collect();
    let exists = |known: &HashSet<&str>, name: &str| {
        name.is_empty()
            || known.contains(name)
            || constants.contains_key(name)
            || quantized.contains_key(name)
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
        isa: Isa::detect(),
        pool: SERIAL,
        max_bytes: None,
        interrupt: None,
    }
}
