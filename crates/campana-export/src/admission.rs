//! What a network must be for a target, asked before any work is done for it.

use std::collections::{BTreeMap, HashMap, HashSet};

use campana_coreml::Precision;
use campana_ir::decoder::encode::Decoder;
use campana_ir::format::onnx;
use campana_ir::weights::{ModelTensor, Role, constant_tensors};
use campana_onnx::{AttributeValue, Graph, Model, Node, TensorProto};
use campana_quantize::{Error, ErrorKind, Options, Target};
use campana_runtime::{Plan, PlanOptions};
use campana_tensor::ElementType;

use crate::aliases::without_aliases;
use crate::computed_weights::with_folded_weights;
use crate::coreml_form::coreml_package;
use crate::data_inside::with_data_inside;
use crate::global_pools::with_global_pools;
use crate::inline_functions::{has_layers_in_functions, with_inlined_functions};
use crate::opset;
use crate::opset_upgrade;
use crate::single_precision::{Border, in_single_precision};
use crate::tflite_form::tflite_bytes;
use crate::whole_slices::without_whole_slices;
use crate::wide_constants::with_wide_constants;

/// Bits of the codes that uint4 tensors hold.
const UINT4_BITS: u8 = 4;

/// The model as the options' target takes it: its functions inlined, weights that
/// it computes from constants folded, raised to the opset that the target's form
/// needs, and with its data inside where that is one file.
///
/// # Errors
///
/// Where the network is none to quantize (it has no weights, or was quantized
/// before), normalizes by the batch as in training, or has what the target
/// cannot be written with; the message names the node or tensor.
pub fn admit(model: Model, options: &Options) -> Result<Model, Error> {
    let target = options.target;
    let is_tflite = target.ending() == "tflite";
    let is_float32_form = is_tflite || target.is_folder();
    let changes_graph = target.rounds_activations() || is_float32_form;
    let mut model = inlined(model, target, changes_graph)?;
    if changes_graph {
        // Inputs and outputs of TFLite and Core ML are float32.
        let border = match is_float32_form {
            true => Border::Widened,
            false => Border::Kept,
        };
        model = with_float32_weights(model, border)?;
    }
    if let Some(direct) = without_aliases(&model)? {
        model = direct;
    }
    if let Some(folded) = with_folded_weights(&model, |name| options.keeps(name))? {
        model = folded;
    }
    let tensors = constant_tensors(&model);
    check_inference(&model)?;
    check_weights(&model, &tensors)?;
    if target.rounds_activations() {
        check_rounding(&model, &tensors, target)?;
    } else if target.onnx_form() != Target::Float {
        opset::at_least(&model, Decoder::MIN_OPSET)?;
    }
    let core_ml = match target {
        Target::CoreMl => Some(Precision::Float16),
        Target::CoreMlFloat32 => Some(Precision::Float32),
        _ => None,
    };
    let raised_to = match target {
        Target::LutUint4 if has_codes_of_4_bits(&tensors, options) => {
            Some(Decoder::MIN_OPSET_UINT4)
        }
        Target::LutUint4 => Some(opset_upgrade::RAISED_TO),
        _ if target.rounds_activations() || is_tflite || core_ml.is_some() => {
            Some(opset_upgrade::RAISED_TO)
        }
        _ => None,
    };
    let raised = match raised_to {
        Some(opset) => opset_upgrade::upgraded(&model, opset)?,
        None => None,
    };
    drop(tensors);
    let mut model = raised.unwrap_or(model);
    if target.rounds_activations() {
        check_runs(&model, target)?;
        if let Some(pooled) = with_global_pools(&model)? {
            model = pooled;
        }
        if let Some(direct) = without_whole_slices(&model)? {
            model = direct;
        }
    }
    if target.ending() != "onnx"
        && let Some(whole) = with_data_inside(&model, target)?
    {
        model = whole;
    }
    if is_tflite {
        tflite_bytes(&model, target)?;
    }
    if let Some(precision) = core_ml {
        coreml_package(&model, &campana_coreml::Options::new(precision))?;
    }
    Ok(model)
}

/// The model without calls of its own functions, where these hold layers or
/// the target changes more than weights. Where calls cannot be replaced they stay,
/// unless that would leave activations unrounded.
fn inlined(model: Model, target: Target, changes_graph: bool) -> Result<Model, Error> {
    if !changes_graph && !has_layers_in_functions(&model) {
        return Ok(model);
    }
    match with_inlined_functions(&model) {
        Ok(inlined) => Ok(inlined.unwrap_or(model)),
        Err(_) if !target.rounds_activations() => Ok(model),
        Err(reason) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "--target {target} rounds activations, and those of the model's functions cannot be reached: \
                 {reason}; inline them first (onnx.inliner.inline_local_functions), or use --target lut"
            ),
        )),
    }
}

/// The model with weights of float32 where it has some of half precision, as
/// far as it can be written so.
fn with_float32_weights(model: Model, border: Border) -> Result<Model, Error> {
    let model = with_wide_constants(&model)?.unwrap_or(model);
    let is_half_weight = |tensor: &ModelTensor<'_>| {
        matches!(tensor.role, Role::Weight { .. })
            && matches!(
                tensor.proto.element_type,
                ElementType::F16 | ElementType::Bf16
            )
    };
    if !constant_tensors(&model).iter().any(is_half_weight) {
        return Ok(model);
    }
    Ok(in_single_precision(&model, border)?.unwrap_or(model))
}

/// Whether some weights are to have codes of 4 bits, as far as can be said
/// without their data.
fn has_codes_of_4_bits(tensors: &[ModelTensor<'_>], options: &Options) -> bool {
    tensors.iter().any(|tensor| {
        matches!(tensor.role, Role::Weight { .. })
            && !options.keeps(tensor.name)
            && options.choice_of(tensor.name).bits == Some(UINT4_BITS)
    })
}

/// Refuses what campana cannot run: activations are rounded by what it sees.
fn check_runs(model: &Model, target: Target) -> Result<(), Error> {
    let refused = |cause: Box<dyn std::error::Error + Send + Sync>| {
        let message = format!(
            "--target {target} rounds activations, and campana cannot run the network to see their ranges; use \
             --target lut"
        );
        Error::new(ErrorKind::Unsupported, message).with_source(cause)
    };
    let graph = onnx::graph(model).map_err(|error| refused(error.into()))?;
    Plan::new(&graph, PlanOptions::default()).map_err(|error| refused(error.into()))?;
    Ok(())
}

/// Refuses normalizations by the statistics of a batch: these are computed
/// anew from each input, so that nothing that was learnt stays.
fn check_inference(model: &Model) -> Result<(), Error> {
    let opset = opset::version(model);
    let trains = |node: &Node| {
        let is_named = |output: &String| !output.is_empty();
        node.op_type == "BatchNormalization"
            && opset::is_onnx(&node.domain)
            && match opset {
                ..7 => node.int("is_test").unwrap_or(0) == 0,
                7..14 => node.outputs.iter().skip(1).any(is_named),
                _ => node.int("training_mode").unwrap_or(0) != 0,
            }
    };
    let graphs = model.graphs().into_iter();
    match graphs
        .flat_map(|graph| &graph.nodes)
        .find(|&node| trains(node))
    {
        None => Ok(()),
        Some(node) => Err(Error::new(
            ErrorKind::InvalidModel,
            format!(
                "{} is in training form; export the model for inference (torch: model.eval())",
                named(node)
            ),
        )),
    }
}

fn named(node: &Node) -> String {
    let output = node.outputs.first().map_or("", String::as_str);
    let name = if node.name.is_empty() {
        output
    } else {
        &node.name
    };
    format!("node '{name}' ({})", node.op_type)
}

/// Refuses what holds no float weights, and says what it holds instead.
fn check_weights(model: &Model, tensors: &[ModelTensor<'_>]) -> Result<(), Error> {
    let is_weight = |tensor: &&ModelTensor<'_>| matches!(tensor.role, Role::Weight { .. });
    // Extents that are none are refused, with the tensor's name, when its data is read.
    let count = |dims: &[i64]| {
        let extents = dims.iter().map(|&dim| dim.max(0));
        extents.fold(1i64, i64::saturating_mul)
    };
    let floats: i64 = tensors
        .iter()
        .filter(is_weight)
        .map(|tensor| count(&tensor.proto.dims))
        .fold(0, i64::saturating_add);
    let mut quantized = (0i64, "");
    for graph in model.graphs() {
        for (tensor, form) in quantized_weights(graph) {
            quantized.0 = quantized.0.saturating_add(count(&tensor.dims));
            quantized.1 = form;
        }
    }
    if quantized.0 > floats {
        let (count, form) = quantized;
        return Err(Error::new(
            ErrorKind::InvalidModel,
            format!(
                "the model is quantized already: {count} of its stored values are {form}, {floats} are float \
                 weights; start from the float model"
            ),
        ));
    }
    if !tensors.iter().any(|tensor| is_weight(&tensor)) {
        let held = match tensors
            .iter()
            .find(|tensor| tensor.proto.element_type == ElementType::F64)
        {
            Some(_) => {
                "; its float64 tensors are not quantized, convert the model to float32".to_owned()
            }
            None => String::new(),
        };
        return Err(Error::new(
            ErrorKind::InvalidModel,
            format!(
                "the model has no weights to quantize: no convolution, matrix product or recurrent layer \
                 reads a constant float tensor{held}"
            ),
        ));
    }
    Ok(())
}

/// The constants of a graph that are quantized weights, with the form they are
/// in.
fn quantized_weights(graph: &Graph) -> Vec<(&TensorProto, &'static str)> {
    use ElementType::{I4, I8, U4, U8};
    let initializers = graph
        .initializers
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor));
    let constants = graph
        .nodes
        .iter()
        .filter_map(|node| match &node.attribute("value")?.value {
            AttributeValue::Tensor(tensor) => Some((node.outputs.first()?.as_str(), &**tensor)),
            _ => None,
        });
    let bytes: HashMap<&str, &TensorProto> = initializers
        .chain(constants)
        .filter(|(_, tensor)| matches!(tensor.element_type, I4 | I8 | U4 | U8))
        .collect();
    let mut found = BTreeMap::new();
    // Values that are bytes cast to positions.
    let mut positions: HashMap<&str, &str> = HashMap::new();
    for node in &graph.nodes {
        let input = |index: usize| node.inputs.get(index).map_or("", String::as_str);
        let (name, form) = match node.op_type.as_str() {
            "DequantizeLinear" => (input(0), "integers behind DequantizeLinear"),
            "QLinearConv" | "QLinearMatMul" => (input(3), "integers of QLinear operators"),
            "ConvInteger" | "MatMulInteger" => (input(1), "weights of integer operators"),
            "MatMulNBits" => (input(1), "codes of MatMulNBits"),
            "Cast" => {
                let output = node.outputs.first().map_or("", String::as_str);
                positions.insert(output, input(0));
                continue;
            }
            "Gather" => {
                let codes = positions.get(input(1)).copied().unwrap_or("");
                (codes, "codes of a codebook form as campana writes it")
            }
            _ => continue,
        };
        if let Some(&tensor) = bytes.get(name) {
            found.insert(name, (tensor, form));
        }
    }
    found.into_values().collect()
}

/// Refuses what a target that rounds activations cannot be written with: weights
/// of half precision, and networks all of whose weights are read by graphs
/// inside of nodes, where no activation is rounded.
fn check_rounding(model: &Model, tensors: &[ModelTensor<'_>], target: Target) -> Result<(), Error> {
    let refused = |reason: String| {
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("--target {target} rounds activations, and {reason}; use --target lut"),
        ))
    };
    let weights = || {
        let is_weight = |tensor: &&ModelTensor<'_>| matches!(tensor.role, Role::Weight { .. });
        tensors.iter().filter(is_weight)
    };
    let mut others = weights().filter(|tensor| tensor.proto.element_type != ElementType::F32);
    if let Some(tensor) = others.next() {
        let kind = tensor.proto.element_type;
        return refused(format!(
            "the weights '{}' are {kind}, not float32",
            tensor.name
        ));
    }
    let reads = model.graph.nodes.iter().flat_map(|node| &node.inputs);
    let read: HashSet<&str> = reads.map(String::as_str).collect();
    let is_inside =
        |tensor: &ModelTensor<'_>| tensor.is_nested(model) || !read.contains(tensor.name);
    match weights().next() {
        Some(first) if weights().all(is_inside) => refused(format!(
            "the weights '{}' and all others are read by graphs inside of nodes, where none are rounded",
            first.name
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
