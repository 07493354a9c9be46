//! Networks of half precision as networks of single precision, for targets on
//! integers.
//!
//! float32 holds every value of float16 and bfloat16: constants stay what they
//! are, and results differ by the rounding that is left out. Inputs and outputs
//! keep their types, with a Cast at each, where the target's form has these
//! types.

use std::collections::{HashMap, HashSet};
use std::io;

use campana_formats::encode_f32;
use campana_onnx::{
    AttributeValue, Content, Edits, Graph, Model, NewNode, NewValueInfo, Node, TensorProto,
    TensorType, ValueInfo, ValueType, schema,
};
use campana_quantize::{Error, ErrorKind};
use campana_tensor::ElementType;

use crate::aliases::rename;
use crate::write::replace_data_fields;

/// Attributes that name the type of an operator's output.
const TYPE_ATTRIBUTES: [&str; 3] = ["to", "dtype", "output_dtype"];

/// What becomes of inputs and outputs of half precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Border {
    /// They stay.
    Kept,
    /// They are of single precision too.
    Widened,
}

/// The model with single precision wherever it has half; `None` where it has
/// functions of its own, or inputs or outputs that no Cast can stand beside.
///
/// # Errors
///
/// Where the model cannot be read, or would be larger than readers of ONNX
/// accept.
pub(crate) fn in_single_precision(model: &Model, border: Border) -> Result<Option<Model>, Error> {
    let failed = |error: campana_onnx::Error| {
        let message = "cannot store the network of half precision as float32";
        Error::new(ErrorKind::InvalidModel, message).with_source(error)
    };
    let Some(casts) = Casts::of(model, border) else {
        return Ok(None);
    };
    let mut edits = Edits::new(model);
    for tensor in model
        .tensors()
        .into_iter()
        .filter(|t| is_half(t.element_type))
    {
        widen(model, &mut edits, tensor)?;
    }
    for (depth, graph) in model.graphs().into_iter().enumerate() {
        for node in &graph.nodes {
            widen_attributes(model, &mut edits, node).map_err(failed)?;
            rename(model, &mut edits, node, &casts.names).map_err(failed)?;
        }
        let lists = [
            (schema::graph::INPUT, &graph.inputs),
            (schema::graph::OUTPUT, &graph.outputs),
            (schema::graph::VALUE_INFO, &graph.value_info),
        ];
        for (field, values) in lists {
            for value in values {
                let stays = depth == 0
                    && field != schema::graph::VALUE_INFO
                    && casts.names.contains_key(value.name.as_str());
                if !stays {
                    widen_value(&mut edits, field, value);
                }
            }
        }
    }
    casts.add(&model.graph, &mut edits);
    edits.into_model().map(Some).map_err(failed)
}

pub(crate) fn is_half(element_type: ElementType) -> bool {
    matches!(element_type, ElementType::F16 | ElementType::Bf16)
}

/// The type of a value, where it is a tensor of half precision.
fn half_tensor(value: &ValueInfo) -> Option<&TensorType> {
    match &value.value_type {
        Some(ValueType::Tensor(tensor)) => Some(tensor).filter(|t| is_half(t.element_type)),
        _ => None,
    }
}

/// Declares a value to be of float32 where it is of half precision; `field` is
/// that of the graph that it is in.
pub(crate) fn widen_value(edits: &mut Edits<'_>, field: u32, value: &ValueInfo) {
    if let Some(declared) = half_tensor(value) {
        let shape = declared.shape.as_deref();
        let wide = NewValueInfo::tensor(&value.name, ElementType::F32, shape);
        edits.replace(value.message, Content::default().message(field, wide));
    }
}

/// The casts between the network and its inputs and outputs.
struct Casts<'m> {
    /// What these are called inside.
    names: HashMap<&'m str, String>,
    inputs: Vec<&'m str>,
    outputs: Vec<(&'m str, ElementType)>,
}

impl<'m> Casts<'m> {
    fn of(model: &'m Model, border: Border) -> Option<Self> {
        let graph = &model.graph;
        if !model.functions.is_empty() || graph.nodes.is_empty() {
            return None;
        }
        let mut casts = Self {
            names: HashMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        if border == Border::Widened {
            return Some(casts);
        }
        let stored = graph.initializers_by_name();
        let is_fed = |value: &&ValueInfo| !stored.contains_key(value.name.as_str());
        let halves = graph.inputs.iter().filter(is_fed);
        casts.inputs = halves
            .filter(|value| half_tensor(value).is_some())
            .map(|value| value.name.as_str())
            .collect();
        for output in &graph.outputs {
            if let Some(tensor) = half_tensor(output) {
                casts.outputs.push((&output.name, tensor.element_type));
            }
        }
        let made = graph.nodes.iter().flat_map(|node| &node.outputs);
        let made: HashSet<&str> = made.map(String::as_str).collect();
        if !casts.outputs.iter().all(|(name, _)| made.contains(name)) {
            return None;
        }
        let used = model.value_names();
        let outputs = casts.outputs.iter().map(|(name, _)| *name);
        for name in casts.inputs.iter().copied().chain(outputs) {
            let mut inside = format!("{name}_float32");
            let is_used = |casts: &Self, name: &String| {
                used.contains(name.as_str()) || casts.names.values().any(|other| other == name)
            };
            while is_used(&casts, &inside) {
                inside.push('_');
            }
            casts.names.insert(name, inside);
        }
        let mut nested = model.graphs().into_iter().skip(1);
        let is_named_again = |graph: &Graph| {
            let values = graph.inputs.iter().chain(&graph.outputs);
            let mut names = values.map(|value| value.name.as_str());
            names.any(|name| casts.names.contains_key(name))
        };
        (!nested.any(is_named_again)).then_some(casts)
    }

    /// Puts them before and behind the graph's nodes.
    fn add(&self, graph: &Graph, edits: &mut Edits<'_>) {
        let cast = |from: &str, to: &str, kind: ElementType| {
            let node = NewNode::new("Cast", [from], [to]);
            node.attribute("to", i64::from(kind.to_onnx()))
        };
        let [mut before, mut behind] = [Content::default(), Content::default()];
        for name in &self.inputs {
            let node = cast(name, &self.names[name], ElementType::F32);
            before = before.message(schema::graph::NODE, node);
        }
        for (name, kind) in &self.outputs {
            let node = cast(&self.names[name], name, *kind);
            behind = behind.message(schema::graph::NODE, node);
        }
        if let [first, ..] = &*graph.nodes {
            edits.insert_before(first.message, before);
        }
        if let [.., last] = &*graph.nodes {
            edits.insert_after(last.message, behind);
        }
    }
}

/// Stores the values of a tensor as float32.
pub(crate) fn widen<'m>(
    model: &'m Model,
    edits: &mut Edits<'m>,
    tensor: &'m TensorProto,
) -> Result<(), Error> {
    let unreadable = |error: campana_onnx::Error| {
        Error::new(ErrorKind::InvalidModel, "cannot read the model").with_source(error)
    };
    let count = tensor.count().map_err(unreadable)? as u64;
    let len = count.saturating_mul(size_of::<f32>() as u64);
    let data = Content::stream(len, move |out| {
        let values = model.read_f32(tensor).map_err(io::Error::other)?;
        out.write_all(&encode_f32(&values, ElementType::F32))
    });
    let data = Content::default().message(schema::tensor::RAW_DATA, data);
    replace_data_fields(model, edits, tensor.message, data)?;
    for run in model.fields(tensor.message).map_err(unreadable)? {
        if run.number == schema::tensor::DATA_TYPE {
            let kind = ElementType::F32.to_onnx().into();
            let wide = Content::default().int(schema::tensor::DATA_TYPE, kind);
            edits.replace_fields(tensor.message, run.span, wide);
        }
    }
    Ok(())
}

/// Has a node make float32 where it is told to make half precision.
fn widen_attributes(
    model: &Model,
    edits: &mut Edits<'_>,
    node: &Node,
) -> Result<(), campana_onnx::Error> {
    for attribute in &node.attributes {
        let AttributeValue::Int(number) = attribute.value else {
            continue;
        };
        let named = i32::try_from(number).map(ElementType::from_onnx);
        if !TYPE_ATTRIBUTES.contains(&&*attribute.name) || !named.is_ok_and(is_half) {
            continue;
        }
        for run in model.fields(attribute.message)? {
            if run.number == schema::attribute::I {
                let kind = ElementType::F32.to_onnx().into();
                let wide = Content::default().int(schema::attribute::I, kind);
                edits.replace_fields(attribute.message, run.span, wide);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use campana_onnx::NewAttribute;

    use super::*;
    use crate::small_models::SmallGraph;

    const HALF: ElementType = ElementType::F16;

    /// A product with weights of half precision, and a choice that reads its
    /// input inside.
    fn network() -> Model {
        let branch = |name: &str| {
            let node = NewNode::new("Add", ["x", "x"], [name]);
            let graph = SmallGraph::new().node(node);
            NewAttribute::Graph(graph.output_of(name, &[1, 2], HALF).into_fields())
        };
        SmallGraph::new()
            .input_of("x", &[1, 2], HALF)
            .input("c", &[])
            .tensor("w", &[2, 2], HALF, encode_f32(&[0.5, -2.0, 4.0, 1.0], HALF))
            .node(NewNode::new("MatMul", ["x", "w"], ["p"]))
            .node(
                NewNode::new("If", ["c"], ["i"])
                    .attribute("then_branch", branch("a"))
                    .attribute("else_branch", branch("b")),
            )
            .node(NewNode::new("Cast", ["p"], ["h"]).attribute("to", 10))
            .node(NewNode::new("Add", ["h", "i"], ["y"]))
            .output_of("y", &[1, 2], HALF)
            .into_model()
    }

    fn kinds(values: &[ValueInfo]) -> Vec<Option<ElementType>> {
        let kind = |value: &ValueInfo| Some(half_tensor(value)?.element_type);
        values.iter().map(kind).collect()
    }

    #[test]
    fn inputs_and_outputs_keep_their_types_behind_casts() {
        let wide = in_single_precision(&network(), Border::Kept);
        let wide = wide.unwrap().expect("a network of half precision");
        assert_eq!(kinds(&wide.graph.inputs), [Some(HALF), None]);
        assert_eq!(kinds(&wide.graph.outputs), [Some(HALF)]);
        let nodes = &wide.graph.nodes;
        let cast = |at: usize| (&*nodes[at].inputs[0], &*nodes[at].outputs[0]);
        assert_eq!(cast(0), ("x", "x_float32"));
        assert_eq!(cast(5), ("y_float32", "y"));
        let to: Vec<_> = [0, 3, 5].map(|at| nodes[at].int("to")).to_vec();
        assert_eq!(to, [Some(1), Some(1), Some(10)]);
        assert_eq!(nodes[1].inputs, ["x_float32", "w"]);
        for graph in &wide.graphs()[1..] {
            assert_eq!(graph.nodes[0].inputs, ["x_float32", "x_float32"]);
            assert_eq!(kinds(&graph.outputs), [None]);
        }
        let weights = &wide.graph.initializers[0];
        assert_eq!(weights.element_type, ElementType::F32);
        assert_eq!(wide.read_f32(weights).unwrap(), [0.5, -2.0, 4.0, 1.0]);
    }

    #[test]
    fn inputs_and_outputs_are_widened_where_they_may_be() {
        let wide = in_single_precision(&network(), Border::Widened);
        let wide = wide.unwrap().expect("a network of half precision");
        assert_eq!(kinds(&wide.graph.inputs), [None, None]);
        assert_eq!(kinds(&wide.graph.outputs), [None]);
        assert_eq!(wide.graph.nodes.len(), network().graph.nodes.len());
    }
}
