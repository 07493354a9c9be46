//! Which operator set and which version of the format a model relies on.

use campana_onnx::{Content, Edits, MessageId, Model, schema};
use campana_quantize::{Error, ErrorKind};

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

/// Raises the version of the format to at least this one: later ones only
/// accept more.
pub(crate) fn raise_ir(model: &Model, edits: &mut Edits<'_>, ir: i64) -> Result<(), Error> {
    if model.ir_version.unwrap_or(0) >= ir {
        return Ok(());
    }
    let model_message = MessageId::MODEL;
    let runs = model
        .fields(model_message)
        .map_err(|error| Error::new(ErrorKind::Io, "cannot read the model").with_source(error))?;
    let raised = || Content::default().int(schema::model::IR_VERSION, ir);
    match runs
        .iter()
        .find(|run| run.number == schema::model::IR_VERSION)
    {
        Some(run) => edits.replace_fields(model_message, run.span, raised()),
        None => edits.prepend(model_message, raised()),
    }
    Ok(())
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
