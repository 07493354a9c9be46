//! The inputs that models are timed and verified on: what they declare, what
//! the user states, and what a sidecar says of images.

use std::path::Path;

use anyhow::{Result, anyhow};
use campana_calibrate::{has_open_size, open_size, run_shapes};
use campana_ir::format::onnx::{InputShape, state_shapes};
use campana_ir::graph::{Dim, Graph, Value};
use campana_pipeline::find_sidecar;

/// The inputs of a model, and extents for one run.
pub(crate) struct ModelInputs {
    pub(crate) values: Vec<Value>,
    pub(crate) shapes: Vec<Vec<usize>>,
    /// Whether the model leaves extents of the input open.
    are_open: Vec<bool>,
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
        (model, reference): (&Path, Option<&Path>),
        batch: usize,
    ) -> Result<Self> {
        let mut values = graph.inputs.clone();
        let are_open = values.iter().map(is_open).collect();
        state_shapes(&mut values, stated).map_err(|message| anyhow!(message))?;
        if let [input] = values.as_mut_slice()
            && (input.shape.is_none() || has_open_size(std::slice::from_ref(input)))
            && let Some(sidecar) = find_sidecar(model, reference)?
        {
            let image = sidecar.preprocessing.input_shape(batch);
            fill(input, &image);
        }
        let shapes = run_shapes(&values, batch, open_size(graph, &values))?;
        Ok(Self {
            values,
            shapes,
            are_open,
        })
    }

    /// The extents of the inputs that the model leaves open, as `--shape` states
    /// them.
    pub(crate) fn stated(&self) -> Vec<String> {
        let inputs = self.values.iter().zip(&self.shapes).zip(&self.are_open);
        let open = inputs.filter(|(_, is_open)| **is_open);
        let stated = open.map(|((value, shape), _)| InputShape {
            input: Some(value.name.clone()),
            dims: shape.iter().map(|&extent| Dim::Fixed(extent)).collect(),
        });
        stated.map(|shape| shape.to_string()).collect()
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

/// Whether an input leaves extents open, or even its rank.
fn is_open(input: &Value) -> bool {
    let dims = input.shape.as_deref();
    dims.is_none_or(|dims| dims.iter().any(|dim| matches!(dim, Dim::Symbol(_))))
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
