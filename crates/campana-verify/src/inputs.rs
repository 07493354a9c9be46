//! What the models are asked: random values, and images where there are some.

use std::path::Path;

use campana_ir::format;
use campana_ir::graph::Dim;
use campana_tensor::ElementType;

use crate::{Error, ErrorKind};

/// Inputs of one shape, one after another.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Extents of one input, the batch of 1 first.
    pub shape: Vec<usize>,
    /// The random inputs, then the given ones; row-major.
    pub data: Vec<f32>,
    /// How many of them are random.
    pub random: usize,
}

impl Inputs {
    /// So many random inputs, always the same, followed by those in `given`.
    ///
    /// Random values are uniform from -1 to 1, the range of normalized images.
    ///
    /// # Errors
    ///
    /// Where `given` is no whole number of inputs, or there is none at all.
    pub fn new(shape: Vec<usize>, random: usize, given: &[f32]) -> Result<Self, Error> {
        let len = shape
            .iter()
            .try_fold(1usize, |product, &dim| product.checked_mul(dim))
            .filter(|&len| len > 0)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Argument,
                    format!("an input of shape {shape:?} has no values"),
                )
            })?;
        if !given.len().is_multiple_of(len) {
            return Err(Error::new(
                ErrorKind::Argument,
                format!(
                    "{} values are no whole number of inputs of shape {shape:?}",
                    given.len()
                ),
            ));
        }
        let mut data = random_values(random * len);
        data.extend_from_slice(given);
        if data.is_empty() {
            return Err(Error::new(
                ErrorKind::Argument,
                "there is nothing to run the models on",
            ));
        }
        Ok(Self {
            shape,
            data,
            random,
        })
    }

    /// Number of values of one input.
    pub fn len_of_one(&self) -> usize {
        self.shape.iter().product()
    }

    /// Number of inputs.
    pub fn count(&self) -> usize {
        self.data.len() / self.len_of_one()
    }
}

/// A linear congruential sequence: the same on every machine.
fn random_values(len: usize) -> Vec<f32> {
    let mut state = 1u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// The shape of one input that a model declares, batch 1; `None` where an
/// extent other than the batch is open.
///
/// # Errors
///
/// Where the model cannot be read, or does not take exactly one float input.
pub fn declared_shape(model: &Path) -> Result<Option<Vec<usize>>, Error> {
    let graph = format::load(model).map_err(|error| {
        Error::new(
            ErrorKind::Model,
            format!("cannot read '{}'", model.display()),
        )
        .with_source(error)
    })?;
    let [input] = graph.inputs.as_slice() else {
        let message = format!(
            "'{}' has {} inputs, but one is needed",
            model.display(),
            graph.inputs.len()
        );
        return Err(Error::new(ErrorKind::Model, message));
    };
    if input
        .element_type
        .is_some_and(|found| found != ElementType::F32)
    {
        let message = format!(
            "input '{}' of '{}' is not float32, which alone can be verified",
            input.name,
            model.display()
        );
        return Err(Error::new(ErrorKind::Model, message));
    }
    let Some(dims) = &input.shape else {
        return Ok(None);
    };
    let extents = dims.iter().enumerate().map(|(axis, dim)| match dim {
        Dim::Fixed(extent) if axis > 0 || *extent == 1 => Some(*extent),
        // Models that were saved for a larger batch run it only.
        Dim::Fixed(extent) => Some(*extent),
        Dim::Symbol(_) if axis == 0 => Some(1),
        Dim::Symbol(_) => None,
    });
    Ok(extents.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_inputs_are_within_one_and_always_the_same() {
        let inputs = Inputs::new(vec![1, 3, 2, 2], 5, &[]).unwrap();
        assert_eq!((inputs.count(), inputs.random), (5, 5));
        assert!(inputs.data.iter().all(|value| value.abs() <= 1.0));
        let mean = inputs.data.iter().sum::<f32>() / 60.0;
        assert!(mean.abs() < 0.3, "{mean}");
        assert_eq!(
            Inputs::new(vec![1, 3, 2, 2], 5, &[]).unwrap().data,
            inputs.data
        );
    }

    #[test]
    fn given_inputs_follow_the_random_ones() {
        let inputs = Inputs::new(vec![1, 2], 1, &[7.0, 8.0]).unwrap();
        assert_eq!(inputs.data[2..], [7.0, 8.0]);
        assert_eq!((inputs.count(), inputs.random), (2, 1));
    }

    #[test]
    fn parts_of_inputs_and_none_at_all_are_refused() {
        for (shape, random, given) in [
            (vec![1, 2], 1, &[7.0][..]),
            (vec![1, 2], 0, &[]),
            (vec![1, 0], 1, &[]),
            (vec![usize::MAX, 2], 1, &[]),
        ] {
            let error = Inputs::new(shape, random, given).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
        }
    }
}
