//! A quantized model as ONNX: the parts that changed, everything else copied.

mod activations;
mod integers;
mod removal;
mod wiring;

use std::collections::HashMap;
use std::io::Write;

use campana_codebook::QuantizedTensor;
use campana_ir::decoder::encode::{Decoder, StoredTensor, are_halves, new_node, new_tensor};
use campana_onnx::schema;
use campana_onnx::{Content, DataLocation, Edits, Model, NewTensor, NewValueInfo, TensorProto};
use campana_quantize::{
    ActivationScale, Error, ErrorKind, QuantizedModel, Target, TensorOutcome, quantized_graph,
};
use campana_tensor::ElementType;

use self::removal::{remove_constant, unreadable};
use self::wiring::Wiring;
use crate::external::{DataFile, ExternalOutput, NewValues, Placement, set_external};
use crate::opset;

/// First IR version whose initializers need not be inputs of the graph.
const IR_WITHOUT_INPUTS: i64 = 4;

/// First IR version with 4-bit element types.
const IR_WITH_UINT4: i64 = 10;

/// Fields of a tensor that hold its elements or say where they are.
const DATA_FIELDS: [u32; 9] = [
    schema::tensor::FLOAT_DATA,
    schema::tensor::INT32_DATA,
    schema::tensor::STRING_DATA,
    schema::tensor::INT64_DATA,
    schema::tensor::RAW_DATA,
    schema::tensor::DOUBLE_DATA,
    schema::tensor::UINT64_DATA,
    schema::tensor::EXTERNAL_DATA,
    schema::tensor::DATA_LOCATION,
];

/// A model to be written, and the files of external data beside it.
#[derive(Debug)]
pub struct OutputModel<'a> {
    edits: Edits<'a>,
    /// The files beside the model.
    pub data_files: Vec<DataFile<'a>>,
}

impl<'a> OutputModel<'a> {
    /// A model with its quantized tensors in the form of `target`, and with its
    /// activations rounded. With no tensor quantized and no activation rounded
    /// it is the input, byte for byte.
    ///
    /// # Errors
    ///
    /// Where the target needs another opset than the model's, or reading
    /// fails.
    pub fn new(
        model: &'a Model,
        quantized: &'a QuantizedModel<'_>,
        activations: &[ActivationScale],
        target: Target,
        placement: &Placement,
    ) -> Result<Self, Error> {
        let mut edits = Edits::new(model);
        let mut wiring = Wiring::new(model);
        let integers = if target == Target::Int8 {
            opset::at_least(model, integers::MIN_OPSET)?;
            let network = quantized_graph(model, quantized)?;
            Some(integers::layers(
                model,
                &network,
                quantized,
                activations,
                &mut wiring,
            )?)
        } else {
            None
        };
        let changed: Vec<_> = quantized
            .tensors
            .iter()
            .filter_map(|outcome| Some((outcome, outcome.quantized.as_ref()?)))
            .collect();
        let corrected: Vec<_> = quantized
            .tensors
            .iter()
            .filter_map(|outcome| Some((outcome, outcome.corrected.as_deref()?)))
            .collect();
        let messages: Vec<_> = changed
            .iter()
            .map(|(outcome, _)| outcome)
            .chain(corrected.iter().map(|(outcome, _)| outcome))
            .map(|outcome| outcome.tensor.proto.message)
            .collect();
        let mut external = ExternalOutput::plan(model, &mut edits, &messages, placement)?;
        let is_decoded = !matches!(target, Target::Int8 | Target::Float) && !changed.is_empty();
        let (parameters, corrected): (Vec<_>, Vec<_>) = corrected
            .into_iter()
            .partition(|(outcome, values)| is_decoded && is_parameter_list(outcome, values));
        for (outcome, values) in corrected {
            let name = outcome.tensor.name;
            if integers
                .as_ref()
                .is_some_and(|layers| layers.has_merged(name))
            {
                continue;
            }
            let values = NewValues::Given(values);
            replace_data(model, &mut edits, &mut external, outcome, values)?;
        }
        match target {
            _ if changed.is_empty() => {}
            Target::Float => {
                for (outcome, tensor) in changed {
                    let values = NewValues::Decoded(tensor);
                    replace_data(model, &mut edits, &mut external, outcome, values)?;
                }
            }
            Target::Lut | Target::LutUint4 | Target::W4a8 | Target::Campana => {
                let uint4 = target == Target::LutUint4;
                let (edits, external) = (&mut edits, &mut external);
                add_decoder(model, edits, external, &changed, &parameters, uint4)?;
            }
            Target::Int8 => {
                if let Some(layers) = integers {
                    let prefix = unused_prefix(model);
                    layers.write(model, &mut edits, quantized, &mut wiring, &prefix);
                }
            }
        }
        if !activations.is_empty() {
            opset::at_least(model, activations::MIN_OPSET)?;
            let prefix = unused_prefix(model);
            let mut scales = activations.to_vec();
            if target == Target::Int8 {
                scales.extend(activations::moved(model, activations));
            }
            activations::add_pairs(model, &mut edits, &scales, &mut wiring, &prefix);
        }
        wiring.apply(&mut edits)?;
        Ok(Self {
            edits,
            data_files: external.into_files(),
        })
    }

    /// The bytes that the model and the files beside it take together.
    ///
    /// # Errors
    ///
    /// As those of [`write`](Self::write).
    pub fn len_bytes(mut self) -> Result<u64, Error> {
        let mut counter = Counter(0);
        for file in std::mem::take(&mut self.data_files) {
            file.write(&mut counter)?;
        }
        self.write(&mut counter)?;
        Ok(counter.0)
    }

    /// Writes the model without the files beside it; returns its length in
    /// bytes.
    ///
    /// # Errors
    ///
    /// Where reading or writing fails, or the model would be larger than ONNX
    /// readers accept.
    pub fn write(self, out: &mut impl Write) -> Result<u64, Error> {
        self.edits
            .write(out)
            .map_err(|error| Error::new(ErrorKind::Io, "cannot write the model").with_source(error))
    }
}

/// Counts what is written.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The same tensor with other values as its data; all its other fields are
/// kept.
fn replace_data<'a>(
    model: &'a Model,
    edits: &mut Edits<'a>,
    external: &mut ExternalOutput<'a>,
    outcome: &TensorOutcome<'_>,
    values: NewValues<'a>,
) -> Result<(), Error> {
    let proto = outcome.tensor.proto;
    let element_type = proto.element_type;
    let len = outcome.report.input_bytes;
    if let Some(place) = external.add_values(proto, values, len) {
        return set_external(model, edits, proto, &place);
    }
    let data = Content::stream(len, move |out| {
        // A block at a time would save memory, at the price of a second
        // decoder; the decoded tensor is as large as the one that was read.
        out.write_all(&values.to_bytes(element_type))
    });
    let data = Content::default().message(schema::tensor::RAW_DATA, data);
    let fields = model.fields(proto.message).map_err(unreadable)?;
    let mut data = Some(data);
    for run in fields {
        if DATA_FIELDS.contains(&run.number) {
            edits.replace_fields(proto.message, run.span, data.take().unwrap_or_default());
        }
    }
    if let Some(data) = data {
        edits.append(proto.message, data);
    }
    Ok(())
}

/// Codes and levels in the tensors' places, and the operators that decode
/// them before all others.
fn add_decoder<'a>(
    model: &'a Model,
    edits: &mut Edits<'a>,
    external: &mut ExternalOutput<'a>,
    changed: &[(&TensorOutcome<'_>, &'a QuantizedTensor)],
    parameters: &[(&TensorOutcome<'_>, &[f32])],
    uint4: bool,
) -> Result<(), Error> {
    let uint4 = uint4
        && changed
            .iter()
            .any(|(_, tensor)| tensor.packing == campana_codebook::Packing::densest(16));
    let opset = if uint4 {
        opset::raise(model, edits, Decoder::MIN_OPSET_UINT4, IR_WITH_UINT4)?
    } else {
        opset::at_least(model, Decoder::MIN_OPSET)?
    };
    let mut decoder = Decoder::new(unused_prefix(model), opset, uint4);
    let graph = &model.graph;
    // The tensors whose codes the decoder stores, by the codes' names.
    let mut origins = HashMap::new();
    for (outcome, tensor) in changed {
        let origin = &outcome.tensor;
        let codes = decoder.add(tensor, origin.name, origin.proto.element_type);
        origins.insert(codes, origin.proto);
    }
    let lists: Vec<_> = parameters
        .iter()
        .map(|(outcome, values)| (outcome.tensor.name, *values))
        .collect();
    decoder.add_parameters(&lists);
    let changed = changed.iter().map(|(outcome, _)| outcome);
    for outcome in changed.chain(parameters.iter().map(|(outcome, _)| outcome)) {
        remove_constant(model, edits, &outcome.tensor);
    }
    let list_inputs = model.ir_version.unwrap_or(0) < IR_WITHOUT_INPUTS;
    for tensor in decoder.tensors {
        if list_inputs {
            let input = value_info(&tensor);
            edits.append(
                graph.message,
                Content::default().message(schema::graph::INPUT, input),
            );
        }
        let tensor = match origins.get(&tensor.name) {
            Some(origin) => new_codes(external, origin, tensor),
            None => new_tensor(tensor),
        };
        edits.append(
            graph.message,
            Content::default().message(schema::graph::INITIALIZER, tensor),
        );
    }
    let mut nodes = Content::default();
    for operator in decoder.operators {
        nodes = nodes.message(schema::graph::NODE, new_node(operator));
    }
    match graph.nodes.first() {
        Some(first) => edits.insert_before(first.message, nodes),
        None => edits.prepend(graph.message, nodes),
    }
    Ok(())
}

/// Whether a corrected tensor is a list of values that 16 bits hold, in the
/// model itself.
fn is_parameter_list(outcome: &TensorOutcome<'_>, values: &[f32]) -> bool {
    let proto = outcome.tensor.proto;
    proto.element_type == ElementType::F32
        && proto.dims.len() == 1
        && !matches!(proto.data, DataLocation::External(_))
        && !values.is_empty()
        && are_halves(values)
}

/// Codes go where the weights were: into the model or a file beside it.
fn new_codes(
    external: &mut ExternalOutput<'_>,
    origin: &TensorProto,
    tensor: StoredTensor,
) -> NewTensor<'static> {
    let StoredTensor {
        name,
        dims,
        element_type,
        data,
    } = tensor;
    match external.add_codes(origin, data) {
        Ok(place) => NewTensor::external(&name, &dims, element_type, &place),
        Err(data) => NewTensor::raw(&name, &dims, element_type, data),
    }
}

fn value_info(tensor: &StoredTensor) -> NewValueInfo {
    let dims: Vec<_> = tensor
        .dims
        .iter()
        .map(|&dim| campana_onnx::Dim::Value(dim as i64))
        .collect();
    NewValueInfo::tensor(&tensor.name, tensor.element_type, Some(&dims))
}

/// The shortest of `q`, `qq`, `qqq`, ... with which no name of the graph
/// begins.
fn unused_prefix(model: &Model) -> String {
    let graph = &model.graph;
    let tensors = graph.initializers.iter().map(|tensor| tensor.name.as_str());
    let sparse = graph
        .sparse_initializers
        .iter()
        .map(campana_onnx::SparseTensor::name);
    let values = graph.inputs.iter().map(|input| input.name.as_str());
    let made = graph
        .nodes
        .iter()
        .flat_map(|node| node.outputs.iter().map(String::as_str));
    let longest = tensors
        .chain(sparse)
        .chain(values)
        .chain(made)
        .map(|name| name.bytes().take_while(|&byte| byte == b'q').count())
        .max();
    "q".repeat(longest.unwrap_or(0) + 1)
}

#[cfg(test)]
mod tests;
