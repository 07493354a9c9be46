//! What forms add to a graph's initializers, and under which names.

use campana_ir::decoder::encode::{StoredTensor, new_tensor};
use campana_onnx::{Content, Dim, Edits, Model, NewValueInfo, schema};

/// First IR version whose initializers need not be inputs of the graph.
const IR_WITHOUT_INPUTS: i64 = 4;

/// The input that declares a new initializer, where the model's IR version
/// asks for one; empty elsewhere.
pub(super) fn declared_input(model: &Model, tensor: &StoredTensor) -> Content<'static> {
    if model.ir_version.unwrap_or(0) >= IR_WITHOUT_INPUTS {
        return Content::default();
    }
    Content::default().message(schema::graph::INPUT, value_info(tensor))
}

/// Adds an initializer to the model's graph.
pub(super) fn add_initializer(model: &Model, edits: &mut Edits<'_>, tensor: StoredTensor) {
    let input = declared_input(model, &tensor);
    let fields = input.message(schema::graph::INITIALIZER, new_tensor(tensor));
    edits.append(model.graph.message, fields);
}

fn value_info(tensor: &StoredTensor) -> NewValueInfo {
    let dims: Vec<_> = tensor
        .dims
        .iter()
        .map(|&dim| Dim::Value(dim as i64))
        .collect();
    NewValueInfo::tensor(&tensor.name, tensor.element_type, Some(&dims))
}

/// The shortest of `q`, `qq`, `qqq`, ... with which no name of the graph
/// begins.
pub(super) fn unused_prefix(model: &Model) -> String {
    let names = model.value_names().into_iter();
    let longest = names
        .map(|name| name.bytes().take_while(|&byte| byte == b'q').count())
        .max();
    "q".repeat(longest.unwrap_or(0) + 1)
}
