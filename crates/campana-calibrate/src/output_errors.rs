//! What of a network's outputs is wrong, relative to what was expected.

use campana_tensor::{Tensor, TensorData};

use crate::divergence::error_and_energy;

/// Squared errors of a network's float outputs, each relative to the energy of
/// the expected output, added up.
#[derive(Clone, Debug, Default)]
pub(crate) struct OutputErrors {
    /// For each output the energy of the error, and that of what was expected.
    outputs: Vec<[f64; 2]>,
}

impl OutputErrors {
    pub(crate) fn add(&mut self, expected: &[Tensor], found: &[Tensor]) {
        self.outputs.resize(expected.len(), [0.0; 2]);
        let pairs = expected.iter().zip(found);
        for ([error, energy], (expected, found)) in self.outputs.iter_mut().zip(pairs) {
            let (TensorData::F32(expected), TensorData::F32(found)) =
                (expected.data(), found.data())
            else {
                continue;
            };
            let [own, all] = error_and_energy(expected, found);
            *error += own;
            *energy += all;
        }
    }

    pub(crate) fn total(&self) -> f64 {
        let relative = self.outputs.iter().filter(|[_, energy]| *energy > 0.0);
        relative.map(|[error, energy]| error / energy).sum()
    }
}
