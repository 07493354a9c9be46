//! Rounding of activations, and whole numbers as weights, in ONNX: pairs of
//! QuantizeLinear and DequantizeLinear, which engines that compute on codes
//! recognize and all others compute as they stand.

use campana_codebook::QuantizedTensor;
use campana_model::weights::Role;
use campana_onnx::{Content, Edits, Model, NewAttribute, NewNode, NewTensor, schema};
use campana_tensor::ElementType;

use super::{remove_constant, unreadable};
use crate::quantize::TensorOutcome;
use crate::{ActivationScale, Error, ErrorKind};

/// Oldest opset with QuantizeLinear.
pub(super) const MIN_OPSET: i64 = 10;

/// Oldest opset with a scale for each channel.
pub(super) const MIN_OPSET_PER_CHANNEL: i64 = 13;

/// Puts a pair behind each of these values, so that everything that read the
/// value reads its rounded form.
pub(super) fn add_pairs(
    model: &Model,
    edits: &mut Edits<'_>,
    scales: &[ActivationScale],
    prefix: &str,
) -> Result<(), Error> {
    let graph = &model.graph;
    let mut before_all = Content::default();
    for (i, scale) in scales.iter().enumerate() {
        let name = |what: &str| format!("{prefix}a{i}{what}");
        let parameters = [
            NewTensor::raw(
                &name("s"),
                &[],
                ElementType::F32,
                scale.scale.to_le_bytes().to_vec(),
            ),
            NewTensor::raw(&name("z"), &[], ElementType::U8, vec![scale.zero_point]),
        ];
        for tensor in parameters {
            let field = Content::default().message(schema::graph::INITIALIZER, tensor);
            edits.append(graph.message, field);
        }
        let maker = graph
            .nodes
            .iter()
            .find(|node| node.outputs.contains(&scale.name));
        // A node's output gets another name; an input of the graph keeps its
        // own, and its readers read another.
        let (raw, rounded) = match maker {
            Some(_) => (name("r"), scale.name.clone()),
            None => (scale.name.clone(), name("d")),
        };
        let parameters = [name("s"), name("z")];
        let operator = |op_type: &str, input: String, output: String| {
            let inputs = [vec![input], parameters.to_vec()].concat();
            NewNode::new(op_type, inputs, [output])
        };
        let pair = Content::default()
            .message(
                schema::graph::NODE,
                operator("QuantizeLinear", raw.clone(), name("q")),
            )
            .message(
                schema::graph::NODE,
                operator("DequantizeLinear", name("q"), rounded.clone()),
            );
        let Some(maker) = maker else {
            before_all = before_all.then(pair);
            for node in graph
                .nodes
                .iter()
                .filter(|node| node.inputs.contains(&scale.name))
            {
                rename(
                    model,
                    edits,
                    node,
                    schema::node::INPUT,
                    &scale.name,
                    &rounded,
                )?;
            }
            continue;
        };
        rename(model, edits, maker, schema::node::OUTPUT, &scale.name, &raw)?;
        edits.insert_after(maker.message, pair);
    }
    if let Some(first) = graph.nodes.first()
        && !before_all.is_empty()
    {
        edits.insert_before(first.message, before_all);
    }
    Ok(())
}

/// Another name in a node's list of inputs or outputs.
fn rename(
    model: &Model,
    edits: &mut Edits<'_>,
    node: &campana_onnx::Node,
    field: u32,
    from: &str,
    to: &str,
) -> Result<(), Error> {
    let names = if field == schema::node::INPUT {
        &node.inputs
    } else {
        &node.outputs
    };
    let mut names = Some(names.iter().fold(Content::default(), |content, name| {
        content.string(field, if name == from { to } else { name })
    }));
    for run in model.fields(node.message).map_err(unreadable)? {
        if run.number == field {
            edits.replace_fields(node.message, run.span, names.take().unwrap_or_default());
        }
    }
    Ok(())
}

/// Weights as 8-bit numbers, and a DequantizeLinear before all other
/// operators for each.
pub(super) fn add_integer_weights(
    model: &Model,
    edits: &mut Edits<'_>,
    changed: &[(&TensorOutcome<'_>, &QuantizedTensor)],
    prefix: &str,
) -> Result<(), Error> {
    let graph = &model.graph;
    let mut nodes = Content::default();
    for (i, (outcome, tensor)) in changed.iter().enumerate() {
        let (numbers, scales) = numbers_and_scales(tensor);
        let axis = match outcome.tensor.role {
            _ if scales.len() == 1 => None,
            Role::Weight {
                channel_axis: Some(axis),
                ..
            } if tensor.shape.get(axis) == Some(&scales.len()) => Some(axis),
            _ => {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!(
                        "'{}' has {} scales, which DequantizeLinear cannot apply; use --granularity channel or tensor",
                        outcome.tensor.name,
                        scales.len()
                    ),
                ));
            }
        };
        remove_constant(model, edits, &outcome.tensor);
        let name = |what: &str| format!("{prefix}w{i}{what}");
        let dims = if axis.is_some() {
            vec![scales.len()]
        } else {
            Vec::new()
        };
        let zeros = vec![0; scales.len()];
        let scale_bytes: Vec<u8> = scales
            .iter()
            .flat_map(|scale| scale.to_le_bytes())
            .collect();
        let numbers: Vec<u8> = numbers.into_iter().map(i8::cast_unsigned).collect();
        let tensors = [
            NewTensor::raw(&name("n"), &tensor.shape, ElementType::I8, numbers),
            NewTensor::raw(&name("s"), &dims, ElementType::F32, scale_bytes),
            NewTensor::raw(&name("z"), &dims, ElementType::I8, zeros),
        ];
        for tensor in tensors {
            let field = Content::default().message(schema::graph::INITIALIZER, tensor);
            edits.append(graph.message, field);
        }
        let inputs = ["n", "s", "z"].map(name);
        let mut node = NewNode::new("DequantizeLinear", inputs, [outcome.tensor.name]);
        if let Some(axis) = axis {
            node = node.attribute("axis", NewAttribute::Int(axis as i64));
        }
        nodes = nodes.message(schema::graph::NODE, node);
    }
    match graph.nodes.first() {
        Some(first) => edits.insert_before(first.message, nodes),
        None => edits.prepend(graph.message, nodes),
    }
    Ok(())
}

/// The numbers of a tensor whose levels are whole, and the scale of each group.
fn numbers_and_scales(tensor: &QuantizedTensor) -> (Vec<i8>, Vec<f32>) {
    let groups = tensor.partition.group_count();
    let codes = tensor.codes();
    let mut numbers = vec![0; codes.len()];
    let mut scales = Vec::with_capacity(groups);
    for group in 0..groups {
        let table = tensor
            .table_of_group
            .as_ref()
            .map_or(0, |tables| usize::from(tables[group]));
        let shift = tensor
            .shift
            .as_ref()
            .map_or(0.0, |(shifts, _)| shifts[group]);
        let table = tensor.tables.table(table);
        for run in tensor.partition.runs(group) {
            for (number, &code) in numbers[run.clone()].iter_mut().zip(&codes[run]) {
                *number = (table[usize::from(code)] + shift) as i8;
            }
        }
        scales.push(tensor.group_scale(group).unwrap_or(1.0));
    }
    (numbers, scales)
}
