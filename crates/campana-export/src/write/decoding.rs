//! Codes in the places of quantized tensors.

use std::collections::{HashMap, HashSet};

use campana_codebook::{Packing, QuantizedTensor};
use campana_ir::decoder::encode::{Decoder, Operator, StoredTensor, new_node, new_tensor};
use campana_ir::weights::ModelTensor;
use campana_onnx::{Content, Edits, Graph, MessageId, Model, NewTensor, TensorProto, schema};
use campana_quantize::{Error, TensorOutcome};

use super::initializers::{declared_input, unused_prefix};
use super::removal::remove_constant;
use crate::external::ExternalOutput;
use crate::opset;

/// First IR version with 4-bit element types.
const IR_WITH_UINT4: i64 = 10;

/// What takes the places of quantized tensors: codes and levels, and the
/// operators that decode them before all others of their graph.
pub(super) struct DecoderWriter<'a, 'm> {
    pub(super) model: &'m Model,
    pub(super) decoder: Decoder,
    /// The tensors whose codes the decoder stores, by the codes' names.
    origins: HashMap<String, &'a TensorProto>,
    /// Tensors that operators make from now on.
    replaced: HashSet<MessageId>,
    /// Operators of graphs inside of nodes, by graph.
    nested: Vec<(&'a Graph, Vec<Operator>)>,
    removed: Vec<&'a ModelTensor<'a>>,
}

impl<'a, 'm> DecoderWriter<'a, 'm> {
    pub(super) fn new(
        model: &'m Model,
        edits: &mut Edits<'_>,
        changed: &[(&TensorOutcome<'_>, &QuantizedTensor)],
        uint4: bool,
    ) -> Result<Self, Error> {
        let densest = Packing::densest(16);
        let opset = opset::at_least(model, Decoder::MIN_OPSET)?;
        let uint4 = uint4
            && opset >= Decoder::MIN_OPSET_UINT4
            && changed.iter().any(|(_, tensor)| tensor.packing == densest);
        if uint4 {
            opset::raise_ir(model, edits, IR_WITH_UINT4)?;
        }
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
    pub(super) fn add(&mut self, outcome: &'a TensorOutcome<'_>, tensor: &QuantizedTensor) {
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
    pub(super) fn take_place(&mut self, outcome: &'a TensorOutcome<'_>, codes: String) {
        let origin = &outcome.tensor;
        self.origins.insert(codes, origin.proto);
        self.replaced.insert(origin.proto.message);
        self.removed.push(origin);
    }

    /// Writes it all, and small parameter lists with it.
    pub(super) fn write(
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
