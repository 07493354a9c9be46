//! A network that runs.

use campana_ir::format;
use campana_ir::graph::{Dim, Value};
use campana_runtime::{Input, Plan, PlanOptions};
use campana_tensor::{ElementType, Limits, Tensor, TensorData};

use crate::Error;

/// A network that is ready to run, on one thread.
#[derive(Debug)]
pub struct Session(campana_runtime::Session);

/// What a network declares of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Its type as NumPy calls it; empty where none is declared.
    pub element_type: String,
    /// Its extents, -1 where a run decides; `None` where not even the rank is declared.
    pub dims: Option<Vec<i32>>,
}

impl Described {
    fn of(value: &Value) -> Self {
        let extent = |dim: &Dim| match dim {
            Dim::Fixed(extent) => i32::try_from(*extent).unwrap_or(-1),
            _ => -1,
        };
        let dims = value.shape.as_ref();
        Self {
            name: value.name.clone(),
            element_type: value
                .element_type
                .map_or_else(String::new, |element_type| element_type.to_string()),
            dims: dims.map(|dims| dims.iter().map(extent).collect()),
        }
    }
}

impl Session {
    /// Opens an ONNX file or a container.
    ///
    /// # Errors
    ///
    /// Where the bytes are no network, or one that the engine cannot run.
    pub fn open(bytes: Vec<u8>) -> Result<Self, Error> {
        let failed = |error: &dyn std::error::Error| Error::of("cannot open the network", error);
        let graph =
            format::parse_within(bytes, &Limits::DEFAULT).map_err(|error| failed(&error))?;
        let plan = Plan::new(&graph, PlanOptions::default()).map_err(|error| failed(&error))?;
        Ok(Self(campana_runtime::Session::new(plan, 1)))
    }

    /// The inputs that a run takes.
    pub fn inputs(&self) -> Vec<Described> {
        self.0.plan().inputs().iter().map(Described::of).collect()
    }

    /// The outputs that a run gives.
    pub fn outputs(&self) -> Vec<Described> {
        self.0.plan().outputs().iter().map(Described::of).collect()
    }

    /// Bytes of weights and other constants in memory.
    pub fn weight_bytes(&self) -> usize {
        self.0.weight_bytes()
    }

    /// Runs on inputs by name, and gives the outputs in their order.
    ///
    /// # Errors
    ///
    /// Where an input is missing, unknown, of another shape or type, or a value
    /// cannot be computed.
    pub fn run(&self, inputs: &[(String, Tensor)]) -> Result<Vec<Tensor>, Error> {
        let inputs: Vec<(&str, Input<'_>)> = inputs
            .iter()
            .map(|(name, tensor)| (&**name, Input::from(tensor)))
            .collect();
        let outputs = self.0.run(&inputs);
        outputs.map_err(|error| Error::of("cannot run the network", &error))
    }
}

/// A tensor of a type, extents and elements in memory order, little-endian.
///
/// # Errors
///
/// Where there is no such type, or the bytes are not as many as the extents need.
pub fn tensor(element_type: &str, dims: Vec<usize>, bytes: &[u8]) -> Result<Tensor, Error> {
    let known = element_type.parse::<ElementType>();
    let known = known.map_err(|()| Error::new(format!("no element type '{element_type}'")))?;
    let data = TensorData::from_le_bytes(known, bytes)
        .ok_or_else(|| Error::new(format!("{} bytes are no {element_type}", bytes.len())))?;
    let len = data.len();
    let message = format!("{len} elements do not have the shape {dims:?}");
    Tensor::new(dims, data).ok_or_else(|| Error::new(message))
}

#[cfg(test)]
mod tests;
