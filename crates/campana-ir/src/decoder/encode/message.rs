//! What a decoder adds to a model, as ONNX messages, and how long these are.

use campana_codebook::{Packing, QuantizedTensor};
use campana_onnx::{Content, NewAttribute, NewNode, NewTensor, schema};
use campana_tensor::ElementType;

use super::operators::{Attribute, Decoder, Operator, StoredTensor};

/// Bytes that a tensor of this name takes in a model with a decoder: codes,
/// tables, operators and names. What all tensors of a packing share is left
/// out.
pub fn decoded_len_bytes(tensor: &QuantizedTensor, name: &str) -> u64 {
    let mut decoder = Decoder::new("q".to_owned(), Decoder::MIN_OPSET, false);
    decoder.share_byte_table(&tensor.packing);
    let shared = (decoder.tensors.len(), decoder.operators.len());
    decoder.add(tensor, name, ElementType::F32);
    let tensors = decoder.tensors.split_off(shared.0);
    fields_len(tensors, decoder.operators.split_off(shared.1))
}

/// Bytes that all tensors of a packing share in a model with a decoder.
pub fn shared_len_bytes(packing: &Packing) -> u64 {
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

/// A stored tensor as an initializer.
pub fn new_tensor(tensor: StoredTensor) -> NewTensor<'static> {
    NewTensor::raw(&tensor.name, &tensor.dims, tensor.element_type, tensor.data)
}

/// An operator as a node.
pub fn new_node(operator: Operator) -> NewNode<'static> {
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
