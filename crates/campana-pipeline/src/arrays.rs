//! Weights in memory, without a graph or a file: what a framework's state dict
//! holds.

use campana_quantize::inspect::{Inspection, TensorInspection, inspect_values};
use campana_quantize::{Options, Prices, Weights, quantize_weights};
use rayon::prelude::*;

use crate::monitor::check;
use crate::tensor_file::{CHANNEL_AXIS, no_weight_by_shape};
use crate::{Error, ErrorKind, Monitor};

/// A float array with a name.
#[derive(Clone, Copy, Debug)]
pub struct NamedArray<'a> {
    /// What patterns of names are compared with.
    pub name: &'a str,
    /// Extents, outermost first; output channels are on the first axis.
    pub shape: &'a [usize],
    /// Bytes of an element where the array came from, before it was widened.
    pub element_bytes: usize,
    /// The elements, row-major; as many as the product of the extents.
    pub values: &'a [f32],
}

impl NamedArray<'_> {
    fn is_weight(&self) -> bool {
        no_weight_by_shape(self.name, self.shape).is_none()
    }

    fn check(&self) -> Result<(), Error> {
        let count = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if count == Some(self.values.len()) {
            return Ok(());
        }
        let message = format!(
            "'{}' has {} elements, which its shape {:?} does not",
            self.name,
            self.values.len(),
            self.shape
        );
        Err(Error::new(ErrorKind::InvalidArgument, message))
    }
}

/// Quantizes the weights among some arrays as [`quantize_file`] does those of
/// a file without a graph: the decoded values of each array, `None` where it
/// stays as it is.
///
/// # Errors
///
/// Where an option is out of range or a pattern fits no weight, an array does
/// not have the elements of its shape or holds NaN or infinity, or `monitor`
/// says to stop.
///
/// [`quantize_file`]: crate::quantize_file
pub fn quantize_arrays(
    arrays: &[NamedArray<'_>],
    options: &Options,
    monitor: &dyn Monitor,
) -> Result<Vec<Option<Vec<f32>>>, Error> {
    let options = Options {
        means_are_corrected: false,
        ..options.clone()
    };
    options.check()?;
    let weights = arrays.iter().filter(|array| array.is_weight());
    options.check_names(&weights.map(|array| array.name).collect::<Vec<_>>())?;
    let changes = |array: &NamedArray<'_>| array.is_weight() && !options.keeps(array.name);
    let counts = arrays
        .iter()
        .filter(|array| changes(array))
        .map(|array| array.values.len());
    let total = counts.clone().sum();
    monitor.start(total as u64);
    let prices = Prices::new(counts.count(), total);
    let outcomes: Vec<Result<Option<Vec<f32>>, Error>> = arrays
        .par_iter()
        .map(|array| {
            check(monitor)?;
            array.check()?;
            if !changes(array) {
                return Ok(None);
            }
            let weights = Weights {
                name: array.name,
                op: "",
                shape: array.shape,
                channel_axis: Some(CHANNEL_AXIS),
                float_bytes: array.element_bytes * array.values.len(),
                values: array.values,
            };
            let quantized = quantize_weights(&weights, &options, prices)?;
            monitor.tensor_done(array.name, array.values.len() as u64);
            Ok(quantized.map(|quantized| quantized.tensor.dequantize()))
        })
        .collect();
    // The first error in the arrays' order, whichever thread met one first.
    outcomes.into_iter().collect()
}

/// Describes the weights among some arrays, as [`inspect_file`] does those of
/// a file; `name` is what the model is called.
///
/// # Errors
///
/// Where an array does not have the elements of its shape or holds NaN or
/// infinity, or `monitor` says to stop.
///
/// [`inspect_file`]: crate::inspect_file
pub fn inspect_arrays(
    name: &str,
    arrays: &[NamedArray<'_>],
    monitor: &dyn Monitor,
) -> Result<Inspection, Error> {
    let weights = arrays.iter().filter(|array| array.is_weight());
    monitor.start(weights.clone().map(|array| array.values.len() as u64).sum());
    let weights: Vec<&NamedArray<'_>> = weights.collect();
    let outcomes: Vec<Result<TensorInspection, Error>> = weights
        .par_iter()
        .map(|array| {
            check(monitor)?;
            array.check()?;
            let inspected = inspect_values(array.name, "", array.shape.to_vec(), array.values)?;
            monitor.tensor_done(array.name, inspected.count);
            Ok(inspected)
        })
        .collect();
    let tensors = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(Inspection::new(name.to_owned(), tensors))
}

#[cfg(test)]
mod tests {
    use campana_quantize::Silent;

    use super::*;

    /// Values without a pattern that a quantizer could use.
    fn values(count: usize) -> Vec<f32> {
        let value = |i: usize| (i as f32 * 0.7).sin() + (i as f32 * 0.13).sin();
        (0..count).map(value).collect()
    }

    fn array<'a>(name: &'a str, shape: &'a [usize], values: &'a [f32]) -> NamedArray<'a> {
        NamedArray {
            name,
            shape,
            element_bytes: 4,
            values,
        }
    }

    #[test]
    fn weights_are_decoded_and_all_else_is_left() {
        let values = values(4096);
        let arrays = [
            array("fc.weight", &[64, 64], &values),
            array("fc.bias", &[64, 64], &values),
            array("norm.weight", &[4096], &values),
            array("head.weight", &[64, 64], &values),
        ];
        let options = Options {
            bits: 3,
            keep: vec!["head*".parse().unwrap()],
            ..Options::default()
        };
        let outcomes = quantize_arrays(&arrays, &options, &Silent).unwrap();
        let changed: Vec<bool> = outcomes.iter().map(Option::is_some).collect();
        assert_eq!(changed, [true, false, false, false]);
        let decoded = outcomes[0].as_ref().unwrap();
        let error: f32 = decoded
            .iter()
            .zip(&values)
            .map(|(a, b)| (a - b).powi(2))
            .sum();
        let energy: f32 = values.iter().map(|value| value.powi(2)).sum();
        // 3 bits of the best uniform quantizer would leave 1/64.
        assert!(error > 0.0 && error < energy / 32.0, "{error} of {energy}");
    }

    #[test]
    fn an_array_that_lacks_elements_is_refused() {
        let values = values(10);
        for shape in [&[3, 4][..], &[usize::MAX, 2]] {
            let arrays = [array("w", shape, &values)];
            let error = quantize_arrays(&arrays, &Options::default(), &Silent).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.chain().contains("'w' has 10 elements"), "{error}");
            inspect_arrays("", &arrays, &Silent).unwrap_err();
        }
    }

    #[test]
    fn a_pattern_that_fits_no_weight_is_refused() {
        let values = values(4096);
        let arrays = [array("norm.weight", &[4096], &values)];
        let options = Options {
            keep: vec!["norm*".parse().unwrap()],
            ..Options::default()
        };
        let error = quantize_arrays(&arrays, &options, &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn only_weights_are_inspected() {
        let values = values(4096);
        let arrays = [
            array("norm.weight", &[4096], &values),
            array("fc.weight", &[64, 64], &values),
        ];
        let inspection = inspect_arrays("dict", &arrays, &Silent).unwrap();
        assert_eq!((inspection.weights, inspection.tensors.len()), (4096, 1));
        assert_eq!(inspection.tensors[0].shape, [64, 64]);
    }
}
