//! How the weights in a file are distributed.

use std::path::Path;

use campana_formats::Format;
use campana_onnx::Model;
use campana_quantize::inspect::{Inspection, inspect};

use crate::error::Context;
use crate::{Error, Monitor, tensor_file};

/// Reads a model and describes its weight tensors.
///
/// # Errors
///
/// Where the file cannot be read, a weight is not finite, or `monitor` says to
/// stop.
pub fn inspect_file(path: &Path, monitor: &dyn Monitor) -> Result<Inspection, Error> {
    let name = path.display();
    if Format::of(path).is_some() {
        return tensor_file::inspect(path, monitor);
    }
    let model = Model::open(path).context(|| format!("cannot read '{name}'"))?;
    inspect(&model, &name.to_string(), monitor).context(|| format!("cannot inspect '{name}'"))
}
