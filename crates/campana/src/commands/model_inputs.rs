//! The inputs that models are timed and verified on: what they declare, what
//! the user states, and what a sidecar says of images.

use std::path::Path;

use anyhow::{Result, anyhow};
use campana_calibrate::{open_size, run_shapes};
use campana_eval::Sidecar;
use campana_ir::format::onnx::{InputShape, state_shapes};
use campana_ir::graph::{Dim, Graph, Value};

/// The inputs of a model, and extents for one run.
pub(crate) struct ModelInputs {
    pub(crate) values: Vec<Value>,
    pub(crate) shapes: Vec<Vec<usize>>,
}

impl ModelInputs {
    /// Extents for `batch` samples at once.
    ///
    /// Extents that are left open are the sidecar's for the only input of four
    /// axes, that of `model` or else of `reference`, and otherwise a usual size
    /// that the network runs on.
    pub(crate) fn new(
        graph: &Graph,
        stated: &[InputShape],
        [model, reference]: [Option<&Path>; 2],
        batch: usize,
    ) -> Result<Self> {
        let mut values = graph.inputs.clone();
        state_shapes(&mut values, stated).map_err(|message| anyhow!(message))?;
        if let [input] = values.as_mut_slice()
            && is_open_image(input)
            && let Some(sidecar) = sidecar_of(model, reference)?
        {
            let image = sidecar.preprocessing.input_shape(batch);
            fill(input, &image);
        }
        let shapes = run_shapes(&values, batch, open_size(graph, &values))?;
        Ok(Self { values, shapes })
    }

    /// Each input's name and extents: `x 1x3x32x32, state 2x1x128`.
    pub(crate) fn text(&self) -> String {
        let pairs = self.values.iter().zip(&self.shapes);
        let texts: Vec<String> = pairs
            .map(|(value, shape)| {
                let extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
                format!("{} {}", value.name, extents.join("x"))
            })
            .collect();
        texts.join(", ")
    }
}

fn sidecar_of(model: Option<&Path>, reference: Option<&Path>) -> Result<Option<Sidecar>> {
    for path in [model, reference].into_iter().flatten() {
        if let Some(sidecar) = Sidecar::beside(path)? {
            return Ok(Some(sidecar));
        }
    }
    Ok(None)
}

/// Whether an input may be images and leaves more than their number open.
fn is_open_image(input: &Value) -> bool {
    let Some(dims) = &input.shape else {
        return true;
    };
    dims.len() == 4 && dims[1..].iter().any(|dim| matches!(dim, Dim::Symbol(_)))
}

/// Fixes the extents behind the first that an input leaves open.
fn fill(input: &mut Value, image: &[usize; 4]) {
    let own = input.shape.take();
    let dims = own.unwrap_or_else(|| vec![Dim::Symbol(String::new()); image.len()]);
    let filled = dims.into_iter().zip(image).enumerate();
    let filled = filled.map(|(axis, (dim, extent))| match dim {
        Dim::Symbol(_) if axis > 0 => Dim::Fixed(*extent),
        dim => dim,
    });
    input.shape = Some(filled.collect());
}
