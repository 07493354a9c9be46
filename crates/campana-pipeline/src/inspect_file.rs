//! How the weights in a file are distributed, and how it holds quantized ones.

use std::path::Path;

use campana_codebook::{Packing, QuantizedTensor, VectorCodebook};
use campana_formats::Format;
use campana_ir::format::{container, onnx};
use campana_ir::graph::{Graph, Node};
use campana_quantize::inspect::{Inspection, QuantizedInspection, inspect};
use campana_tensor::{ElementType, Tensor};

use crate::error::Context;
use crate::{Error, Monitor, tensor_file};

/// Reads a model, or one in a container, and describes its weight tensors:
/// those that are floats by their distribution, quantized ones by their form.
///
/// # Errors
///
/// Where the file cannot be read, a weight is not finite, or `monitor` says to
/// stop.
pub fn inspect_file(path: &Path, monitor: &dyn Monitor) -> Result<Inspection, Error> {
    let name = path.display();
    if Format::of(path).is_some() {
        return tensor_file::inspect(path, monitor);
    }
    let model = container::open(path).context(|| format!("cannot read '{name}'"))?;
    let inspection = inspect(&model, &name.to_string(), monitor);
    let mut inspection = inspection.context(|| format!("cannot inspect '{name}'"))?;
    // What cannot be run has float weights to tell of nevertheless.
    if let Ok(graph) = onnx::graph(&model) {
        inspection.quantized = quantized_weights(&graph);
    }
    Ok(inspection)
}

fn quantized_weights(graph: &Graph) -> Vec<QuantizedInspection> {
    let codebooks = graph.quantized.iter();
    let codebooks = codebooks.map(|(name, tensor)| codebook(name, tensor));
    let linear = graph.nodes.iter().filter_map(|node| linear(graph, node));
    codebooks.chain(linear).collect()
}

fn codebook(name: &str, tensor: &QuantizedTensor) -> QuantizedInspection {
    let parts = [&tensor.scale, &tensor.shift].into_iter().flatten();
    let of_groups: usize = parts
        .map(|(values, storage)| values.len() * storage.len_bytes())
        .sum();
    let numbers = tensor
        .table_of_group
        .as_ref()
        .map_or(0, |tables| 2 * tables.len());
    let (form, levels) = match &tensor.packing {
        Packing::Vectors(_) => ("vectors", VectorCodebook::LEN),
        _ => ("codebook", tensor.tables.levels()),
    };
    let bytes = tensor.packed.len() + tensor.tables_len_bytes() + of_groups + numbers;
    let count = tensor.partition.len();
    QuantizedInspection {
        name: name.to_owned(),
        form,
        shape: tensor.shape.clone(),
        count: count as u64,
        levels: levels as u64,
        tables: tensor.tables.count() as u64,
        bits_per_weight: 8.0 * bytes as f64 / count.max(1) as f64,
    }
}

/// Integers with scales: the constant of two axes or more that a
/// `DequantizeLinear` reads.
fn linear(graph: &Graph, node: &Node) -> Option<QuantizedInspection> {
    use ElementType::{I4, I8, I16, U4, U8, U16};
    let constant = |input: usize| -> Option<(&String, &Tensor)> {
        graph.constants.get_key_value(node.inputs.get(input)?)
    };
    let (name, values) = constant(0).filter(|_| node.op_type == "DequantizeLinear")?;
    let element_type = values.data().element_type();
    let is_integer = matches!(element_type, I4 | U4 | I8 | U8 | I16 | U16);
    let bits = element_type
        .bits()
        .filter(|_| is_integer && values.shape().len() > 1)?;
    let scales = constant(1).map_or(1, |(_, scales)| scales.len());
    let count = values.len();
    Some(QuantizedInspection {
        name: name.clone(),
        form: "linear",
        shape: values.shape().to_vec(),
        count: count as u64,
        levels: 1 << bits,
        tables: scales as u64,
        bits_per_weight: bits as f64 + 32.0 * scales as f64 / count.max(1) as f64,
    })
}
