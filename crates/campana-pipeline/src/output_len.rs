//! What an output takes.

use campana_export::OutputModel;
use campana_ir::format::container;
use campana_onnx::{Model, Source};
use campana_quantize::Target;

/// The container of an output without files beside it.
pub(crate) fn packed(written: OutputModel<'_>) -> Result<Vec<u8>, campana_quantize::Error> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        campana_quantize::Error::new(campana_quantize::ErrorKind::Io, "cannot pack the model")
            .with_source(error)
    };
    let mut plain = Vec::new();
    written.write(&mut plain)?;
    let plain = Model::parse(Source::from_bytes(plain)).map_err(|error| failed(error.into()))?;
    container::pack(&plain).map_err(|error| failed(error.into()))
}

/// Bytes of an output and of the files beside it.
pub(crate) fn output_len(
    written: OutputModel<'_>,
    target: Target,
) -> Result<u64, campana_quantize::Error> {
    if target == Target::Campana && written.data_files.is_empty() {
        return Ok(packed(written)?.len() as u64);
    }
    written.len_bytes()
}
