//! Outputs that are no ONNX files, and what outputs take.

use campana_coreml::Package;
use campana_eval::Sidecar;
use campana_export::{OutputModel, coreml_package, tflite_bytes};
use campana_ir::format::container;
use campana_onnx::{Model, Source};
use campana_quantize::Target;

use crate::core_ml::options;

/// An output whose target is no ONNX form; it has no files beside it.
pub(crate) enum Encoded {
    /// The bytes of a file.
    File(Vec<u8>),
    /// The files of a folder.
    Folder(Package),
}

impl Encoded {
    fn len_bytes(&self) -> u64 {
        match self {
            Self::File(bytes) => bytes.len() as u64,
            Self::Folder(package) => package.len_bytes(),
        }
    }
}

/// A model in a form other than ONNX; `sidecar` is the input's.
pub(crate) fn encoded(
    written: OutputModel<'_>,
    target: Target,
    sidecar: Option<&Sidecar>,
) -> Result<Encoded, campana_quantize::Error> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        campana_quantize::Error::new(campana_quantize::ErrorKind::Io, "cannot pack the model")
            .with_source(error)
    };
    let mut plain = Vec::new();
    written.write(&mut plain)?;
    let plain = Model::parse(Source::from_bytes(plain)).map_err(|error| failed(error.into()))?;
    Ok(match target {
        Target::TfLite | Target::TfLiteFloat | Target::TfLiteMicro => {
            Encoded::File(tflite_bytes(&plain, target)?)
        }
        Target::CoreMl | Target::CoreMlFloat32 => {
            Encoded::Folder(coreml_package(&plain, &options(target, sidecar))?)
        }
        _ => Encoded::File(container::pack(&plain).map_err(|error| failed(error.into()))?),
    })
}

/// Whether a target is another form than ONNX, with no files beside it.
pub(crate) fn is_encoded(target: Target) -> bool {
    target.ending() != "onnx"
}

/// Bytes of an output and of the files beside it.
pub(crate) fn output_len(
    written: OutputModel<'_>,
    target: Target,
    sidecar: Option<&Sidecar>,
) -> Result<u64, campana_quantize::Error> {
    if is_encoded(target) {
        return Ok(encoded(written, target, sidecar)?.len_bytes());
    }
    written.len_bytes()
}
