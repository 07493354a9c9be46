//! Which operator set a model relies on, and raising it where that changes
//! nothing.

use campana_onnx::{AttributeValue, Content, Edits, Graph, MessageId, Model, Node, schema};
use campana_quantize::{Error, ErrorKind};

/// From this opset on [`CHANGED_AFTER_13`] knows what changed.
const MIN_RAISED: i64 = 13;

/// Operators whose meaning or form changed between opset 13 and 21, with the
/// version that changed them; later versions of all others only accept more
/// (types, attributes with a default that keeps the meaning). From ONNX's
/// operator changelog.
const CHANGED_AFTER_13: &[(&str, i64)] = &[
    ("BatchNormalization", 14), // outputs in training mode
    ("RoiAlign", 16),           // half-pixel centres by default
    ("ReduceL1", 18),           // axes became an input
    ("ReduceL2", 18),
    ("ReduceLogSum", 18),
    ("ReduceLogSumExp", 18),
    ("ReduceMax", 18),
    ("ReduceMean", 18),
    ("ReduceMin", 18),
    ("ReduceProd", 18),
    ("ReduceSumSquare", 18),
    ("Split", 18),              // number of outputs must be said
    ("Resize", 18),             // rounding of sizes and scales
    ("GridSample", 20),         // names of the modes
    ("DFT", 20),                // axis became an input
    ("GroupNormalization", 21), // shape of scale and bias
];

/// The version of ONNX's own operator set, which must be at least `minimum`.
pub(crate) fn at_least(model: &Model, minimum: i64) -> Result<i64, Error> {
    let found = version(model);
    if found < minimum {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the model uses opset {found}, but decoding needs {minimum}; convert it first \
                 (onnx.version_converter.convert_version(model, 13))"
            ),
        ));
    }
    Ok(found)
}

/// Raises opset and IR version to at least these, where every operator of the
/// model means the same there; returns the opset.
pub(crate) fn raise(
    model: &Model,
    edits: &mut Edits<'_>,
    opset: i64,
    ir: i64,
) -> Result<i64, Error> {
    let found = version(model);
    if found < opset {
        check_raise(model, found, opset)?;
        set_version(model, edits, opset);
    }
    if model.ir_version.unwrap_or(0) < ir {
        let model_message = MessageId::MODEL;
        let runs = model.fields(model_message).map_err(|error| {
            Error::new(ErrorKind::Io, "cannot read the model").with_source(error)
        })?;
        let raised = || Content::default().int(schema::model::IR_VERSION, ir);
        match runs
            .iter()
            .find(|run| run.number == schema::model::IR_VERSION)
        {
            Some(run) => edits.replace_fields(model_message, run.span, raised()),
            None => edits.prepend(model_message, raised()),
        }
    }
    Ok(found.max(opset))
}

/// Says that the model relies on this version of ONNX's own operator set.
pub(crate) fn set_version(model: &Model, edits: &mut Edits<'_>, opset: i64) {
    let imports = model.opset_imports.iter();
    for import in imports.filter(|import| is_onnx(&import.domain)) {
        let raised = campana_onnx::opset_import(&import.domain, opset);
        edits.replace(
            import.message,
            Content::default().message(schema::model::OPSET_IMPORT, raised),
        );
    }
}

/// The version of ONNX's own operator set that a model relies on.
pub(crate) fn version(model: &Model) -> i64 {
    let versions = model
        .opset_imports
        .iter()
        .filter(|import| is_onnx(&import.domain));
    // Files without an import rely on the first version.
    versions.map(|import| import.version).max().unwrap_or(1)
}

/// Whether a domain is ONNX's own.
pub(crate) fn is_onnx(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// The model's graph and all graphs inside of its nodes, outer ones first.
pub(crate) fn graphs(model: &Model) -> Vec<&Graph> {
    let mut found = vec![&model.graph];
    let mut next = 0;
    while let Some(&graph) = found.get(next) {
        next += 1;
        for attribute in graph.nodes.iter().flat_map(|node| &node.attributes) {
            match &attribute.value {
                AttributeValue::Graph(graph) => found.push(graph),
                AttributeValue::Graphs(graphs) => found.extend(graphs),
                _ => {}
            }
        }
    }
    found
}

fn check_raise(model: &Model, from: i64, to: i64) -> Result<(), Error> {
    let advice = format!(
        "convert the model to opset {to} first (onnx.version_converter), or use --target lut"
    );
    if from < MIN_RAISED {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("uint4 tensors need opset {to}, and the model uses {from}; {advice}"),
        ));
    }
    if !model.functions.is_empty() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "uint4 tensors need opset {to}, and the model's functions are written for {from}; {advice}"
            ),
        ));
    }
    let changed = |node: &Node| {
        is_onnx(&node.domain)
            && CHANGED_AFTER_13.iter().any(|&(op_type, version)| {
                node.op_type == op_type && from < version && version <= to
                    // In inference it has one output before and after.
                    && !(op_type == "BatchNormalization" && node.outputs.len() == 1)
            })
    };
    let mut nodes = graphs(model).into_iter().flat_map(|graph| &graph.nodes);
    if let Some(node) = nodes.find(|&node| changed(node)) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "uint4 tensors need opset {to}, and node '{}' ({}) means something else there than in opset {from}; \
                 {advice}",
                node.name, node.op_type
            ),
        ));
    }
    Ok(())
}
