//! Outputs that are no ONNX files, and what outputs take.

use campana_export::{OutputModel, tflite_bytes};
use campana_ir::format::container;
use campana_onnx::{Model, Source};
use campana_quantize::Target;

/// The bytes of an output whose target is no ONNX form; it has no files beside
/// it.
pub(crate) fn encoded(
    written: OutputModel<'_>,
    target: Target,
) -> Result<Vec<u8>, campana_quantize::Error> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        campana_quantize::Error::new(campana_quantize::ErrorKind::Io, "cannot pack the model")
            .with_source(error)
    };
    let mut plain = Vec::new();
    written.write(&mut plain)?;
    let plain = Model::parse(Source::from_bytes(plain)).map_err(|error| failed(error.into()))?;
    match target {
        Target::TfLite | Target::TfLiteFloat => tflite_bytes(&plain),
        _ => container::pack(&plain).map_err(|error| failed(error.into())),
    }
}

/// Whether a target is another form than ONNX, of one file.
pub(crate) fn is_encoded(target: Target) -> bool {
    target.ending() != "onnx"
}

/// Bytes of an output and of the files beside it.
pub(crate) fn output_len(
    written: OutputModel<'_>,
    target: Target,
) -> Result<u64, campana_quantize::Error> {
    if is_encoded(target) && written.data_files.is_empty() {
        return Ok(encoded(written, target)?.len() as u64);
    }
    written.len_bytes()
}
