//! A quantized model as ONNX: the parts that changed, everything else copied.

mod activations;
mod integers;
mod wiring;

use std::collections::{HashMap, HashSet};
use std::io::Write;

use campana_codebook::QuantizedTensor;
use campana_model::weights::{ModelTensor, Origin};
use campana_onnx::schema;
use campana_onnx::{
    Content, DataLocation, Edits, Graph, MessageId, Model, NewAttribute, NewNode, NewTensor,
    NewValueInfo, TensorProto,
};
use campana_tensor::ElementType;

use self::wiring::Wiring;
use crate::correct::quantized_graph;
use crate::external::{DataFile, ExternalOutput, NewValues, Placement, set_external};
use crate::lut::parameters::are_halves;
use crate::lut::{Attribute, Decoder, Operator, StoredTensor};
use crate::opset;
use crate::quantize::{QuantizedModel, TensorOutcome};
use crate::{ActivationScale, Error, ErrorKind, Target};

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
        quantized: &'a QuantizedModel<'a>,
        activations: &[ActivationScale],
        target: Target,
        placement: &Placement,
    ) -> Result<Self, Error> {
        let mut edits = Edits::new(model);
        let mut wiring = Wiring::new(model);
        let activations = activations::within_range(model, activations);
        let integers = if target.rounds_activations() && quantized.has_changes() {
            opset::at_least(model, integers::MIN_OPSET)?;
            let network = quantized_graph(model, quantized)?;
            Some(integers::layers(
                model,
                &network,
                quantized,
                &activations,
                &mut wiring,
            ))
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
            .filter(|(outcome, _)| {
                let layers = integers.as_ref();
                layers.is_none_or(|layers| !layers.has_merged(outcome.tensor.name))
            })
            .partition(|(outcome, values)| {
                is_decoded && !outcome.tensor.is_nested(model) && is_parameter_list(outcome, values)
            });
        for (outcome, values) in corrected {
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
            _ => {
                let uint4 = target == Target::LutUint4;
                let mut writer = DecoderWriter::new(model, &mut edits, &changed, uint4)?;
                if let Some(layers) = integers {
                    layers.write(&mut writer, &mut wiring, &mut edits, quantized);
                }
                for (outcome, tensor) in &changed {
                    writer.add(outcome, tensor);
                }
                writer.write(&mut edits, &mut external, &parameters);
            }
        }
        round_activations(model, &mut edits, &mut wiring, activations, target)?;
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

/// Puts pairs of QuantizeLinear and DequantizeLinear behind values.
fn round_activations(
    model: &Model,
    edits: &mut Edits<'_>,
    wiring: &mut Wiring<'_>,
    mut scales: Vec<ActivationScale>,
    target: Target,
) -> Result<(), Error> {
    if scales.is_empty() {
        return Ok(());
    }
    opset::at_least(model, activations::MIN_OPSET)?;
    if target == Target::Int8 {
        scales.extend(activations::moved(model, &scales));
    }
    activations::add_pairs(model, edits, &scales, wiring, &unused_prefix(model));
    Ok(())
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

pub(crate) fn float_bytes(weights: &[f32], element_type: ElementType) -> Vec<u8> {
    match element_type {
        ElementType::F16 => weights
            .iter()
            .flat_map(|&w| half::f16::from_f32(w).to_le_bytes())
            .collect(),
        ElementType::Bf16 => weights
            .iter()
            .flat_map(|&w| half::bf16::from_f32(w).to_le_bytes())
            .collect(),
        _ => weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
    }
}

/// What takes the places of quantized tensors: codes and levels, and the
/// operators that decode them before all others of their graph.
struct DecoderWriter<'a, 'm> {
    model: &'m Model,
    decoder: Decoder,
    /// The tensors whose codes the decoder stores, by the codes' names.
    origins: HashMap<String, &'a TensorProto>,
    /// Tensors that operators make from now on.
    replaced: HashSet<MessageId>,
    /// Operators of graphs inside of nodes, by graph.
    nested: Vec<(&'a Graph, Vec<Operator>)>,
    removed: Vec<&'a ModelTensor<'a>>,
}

impl<'a, 'm> DecoderWriter<'a, 'm> {
    fn new(
        model: &'m Model,
        edits: &mut Edits<'_>,
        changed: &[(&TensorOutcome<'_>, &QuantizedTensor)],
        uint4: bool,
    ) -> Result<Self, Error> {
        let densest = campana_codebook::Packing::densest(16);
        let uint4 = uint4 && changed.iter().any(|(_, tensor)| tensor.packing == densest);
        let opset = if uint4 {
            opset::raise(model, edits, Decoder::MIN_OPSET_UINT4, IR_WITH_UINT4)?
        } else {
            opset::at_least(model, Decoder::MIN_OPSET)?
        };
        Ok(Self {
            model,
            decoder: Decoder::new(unused_prefix(model), opset, uint4),
            origins: HashMap::new(),
            replaced: HashSet::new(),
            nested: Vec::new(),
            removed: Vec::new(),
        })
    }

    /// Adds the decoder of a tensor that has none yet.
    fn add(&mut self, outcome: &'a TensorOutcome<'_>, tensor: &QuantizedTensor) {
        let origin = &outcome.tensor;
        if self.replaced.contains(&origin.proto.message) {
            return;
        }
        let first = self.decoder.operators.len();
        let codes = self
            .decoder
            .add(tensor, origin.name, origin.proto.element_type);
        self.take_place(outcome, codes);
        if origin.is_nested(self.model) {
            let own = self.decoder.take_unshared(first);
            self.nested.push((origin.graph, own));
        }
    }

    /// Notes that operators make a tensor, out of codes of this name.
    fn take_place(&mut self, outcome: &'a TensorOutcome<'_>, codes: String) {
        let origin = &outcome.tensor;
        self.origins.insert(codes, origin.proto);
        self.replaced.insert(origin.proto.message);
        self.removed.push(origin);
    }

    /// Writes it all, and small parameter lists with it.
    fn write(
        mut self,
        edits: &mut Edits<'_>,
        external: &mut ExternalOutput<'_>,
        parameters: &[(&TensorOutcome<'_>, &[f32])],
    ) {
        let model = self.model;
        let graph = &model.graph;
        let lists: Vec<_> = parameters
            .iter()
            .map(|(outcome, values)| (outcome.tensor.name, *values))
            .collect();
        self.decoder.add_parameters(&lists);
        for tensor in self.removed {
            remove_constant(edits, tensor);
        }
        for (outcome, _) in parameters {
            remove_constant(edits, &outcome.tensor);
        }
        for tensor in self.decoder.tensors {
            let input = declared_input(model, &tensor);
            let tensor = match self.origins.get(&tensor.name) {
                Some(origin) => new_codes(external, origin, tensor),
                None => new_tensor(tensor),
            };
            let fields = input.message(schema::graph::INITIALIZER, tensor);
            edits.append(graph.message, fields);
        }
        add_first(edits, graph, self.decoder.operators);
        for (graph, operators) in self.nested {
            add_first(edits, graph, operators);
        }
    }
}

/// Puts operators before all others of a graph.
fn add_first(edits: &mut Edits<'_>, graph: &Graph, operators: Vec<Operator>) {
    let nodes = operators
        .into_iter()
        .fold(Content::default(), |nodes, operator| {
            nodes.message(schema::graph::NODE, new_node(operator))
        });
    match graph.nodes.first() {
        Some(first) => edits.insert_before(first.message, nodes),
        None => edits.prepend(graph.message, nodes),
    }
}

/// The input that declares a new initializer, where the model's IR version
/// asks for one; empty elsewhere.
fn declared_input(model: &Model, tensor: &StoredTensor) -> Content<'static> {
    if model.ir_version.unwrap_or(0) >= IR_WITHOUT_INPUTS {
        return Content::default();
    }
    Content::default().message(schema::graph::INPUT, value_info(tensor))
}

/// Adds an initializer to the model's graph.
fn add_initializer(model: &Model, edits: &mut Edits<'_>, tensor: StoredTensor) {
    let input = declared_input(model, &tensor);
    let fields = input.message(schema::graph::INITIALIZER, new_tensor(tensor));
    edits.append(model.graph.message, fields);
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

/// Takes a constant that operators will make out of the graph.
fn remove_constant(edits: &mut Edits<'_>, tensor: &ModelTensor<'_>) {
    let graph = tensor.graph;
    edits.remove(match tensor.origin {
        Origin::Initializer(_) => tensor.proto.message,
        Origin::ConstantNode(index) => graph.nodes[index].message,
    });
    // What an operator makes cannot be an input of the graph as well.
    for input in graph
        .inputs
        .iter()
        .filter(|input| input.name == tensor.name)
    {
        edits.remove(input.message);
    }
}

/// Bytes that a tensor of this name takes in a model with a decoder: codes,
/// tables, operators and names. What all tensors of a packing share is left
/// out.
pub(crate) fn decoded_len_bytes(tensor: &QuantizedTensor, name: &str) -> u64 {
    let mut decoder = Decoder::new("q".to_owned(), Decoder::MIN_OPSET, false);
    decoder.share_byte_table(tensor.packing);
    let shared = (decoder.tensors.len(), decoder.operators.len());
    decoder.add(tensor, name, ElementType::F32);
    let tensors = decoder.tensors.split_off(shared.0);
    fields_len(tensors, decoder.operators.split_off(shared.1))
}

/// Bytes that all tensors of a packing share in a model with a decoder.
pub(crate) fn shared_len_bytes(packing: campana_codebook::Packing) -> u64 {
    let mut decoder = Decoder::new("q".to_owned(), Decoder::MIN_OPSET, false);
    decoder.share_byte_table(packing);
    fields_len(decoder.tensors, decoder.operators)
}

fn fields_len(tensors: Vec<StoredTensor>, operators: Vec<Operator>) -> u64 {
    let tensors = tensors
        .into_iter()
        .fold(Content::default(), |fields, tensor| {
            fields.message(schema::graph::INITIALIZER, new_tensor(tensor))
        });
    let operators = operators
        .into_iter()
        .fold(Content::default(), |fields, operator| {
            fields.message(schema::graph::NODE, new_node(operator))
        });
    tensors.len() + operators.len()
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

fn new_tensor(tensor: StoredTensor) -> NewTensor<'static> {
    NewTensor::raw(&tensor.name, &tensor.dims, tensor.element_type, tensor.data)
}

fn value_info(tensor: &StoredTensor) -> NewValueInfo {
    let dims: Vec<_> = tensor
        .dims
        .iter()
        .map(|&dim| campana_onnx::Dim::Value(dim as i64))
        .collect();
    NewValueInfo::tensor(&tensor.name, tensor.element_type, Some(&dims))
}

fn new_node(operator: Operator) -> NewNode<'static> {
    let mut node = NewNode::new(operator.op_type, &operator.inputs, &operator.outputs);
    for (name, value) in operator.attributes {
        node = node.attribute(
            name,
            match value {
                Attribute::Int(value) => NewAttribute::from(value),
                Attribute::Ints(values) => NewAttribute::from(values),
            },
        );
    }
    node
}

/// The shortest of `q`, `qq`, `qqq`, ... with which no name of the graph
/// begins.
fn unused_prefix(model: &Model) -> String {
    let names = opset::graphs(model).into_iter().flat_map(|graph| {
        let tensors = graph.initializers.iter().map(|tensor| tensor.name.as_str());
        let sparse = &graph.sparse_initializers;
        let sparse = sparse.iter().map(campana_onnx::SparseTensor::name);
        let values = graph.inputs.iter().map(|input| input.name.as_str());
        let made = graph.nodes.iter().flat_map(|node| &node.outputs);
        tensors
            .chain(sparse)
            .chain(values)
            .chain(made.map(String::as_str))
    });
    let longest = names
        .map(|name| name.bytes().take_while(|&byte| byte == b'q').count())
        .max();
    "q".repeat(longest.unwrap_or(0) + 1)
}

fn unreadable(error: campana_onnx::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot read the model").with_source(error)
}

#[cfg(test)]
mod tests;
