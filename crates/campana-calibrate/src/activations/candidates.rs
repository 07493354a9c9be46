//! Ranges of activations by what rounding does to the outputs: of each activation's
//! candidates the one with which the outputs' error is least.
//!
//! A range that leaves out rare values has smaller steps; which of both does less
//! depends on what reads them. One method for all activations is measured first, then
//! others for sets of them. Which stay floats is decided before: a set's error may be
//! that of one activation whose best range is none.

use std::ops::Range;

use campana_quantize::{ActivationScale, Error, RangeMethod};

use crate::activations::measure::Measure;
use crate::activations::range::Histogram;
use crate::activations::sensitive::{FIRST_SETS, SMALL};

/// The methods that are measured, those before others at equal errors.
pub(super) const METHODS: [RangeMethod; 3] = [
    RangeMethod::Mse,
    RangeMethod::MinMax,
    RangeMethod::Percentile,
];

/// By what share an error must fall for another method: what less does on the few
/// samples may be chance.
const LEAST_GAIN: f64 = 0.03;

/// The parameters that an activation may be rounded with.
pub(super) struct Candidates {
    /// Those that differ, the first method's first.
    pub(super) scales: Vec<ActivationScale>,
    /// Which of them each method gives.
    of_methods: Vec<usize>,
}

impl Candidates {
    /// What these methods give for the values of an activation.
    pub(super) fn new(name: &str, histogram: &Histogram, methods: &[RangeMethod]) -> Self {
        let mut scales: Vec<ActivationScale> = Vec::new();
        let mut of_methods = Vec::with_capacity(methods.len());
        for &method in methods {
            let range = histogram.range(method);
            // Those that are told to cover what was seen do.
            let range = match method == RangeMethod::Mse || methods.len() > 1 {
                true => histogram.with_room(range),
                false => range,
            };
            let scale = covering(name, range);
            let known = scales.iter().position(|known| *known == scale);
            of_methods.push(known.unwrap_or(scales.len()));
            if known.is_none() {
                scales.push(scale);
            }
        }
        Self { scales, of_methods }
    }
}

/// The parameters with which 256 codes cover a range.
fn covering(name: &str, Range { start, end }: Range<f32>) -> ActivationScale {
    let scale = (end - start) / 255.0;
    // A value that is always zero has no scale of its own.
    let scale = if scale.is_normal() { scale } else { 1.0 };
    ActivationScale {
        name: name.to_owned(),
        scale,
        zero_point: (-start / scale).round().clamp(0.0, 255.0) as u8,
    }
}

/// For each activation the candidate of least error, where `rounded` ones are.
///
/// # Errors
///
/// Of kind `Interrupted` where the measure's progress says so.
pub(super) fn of_least_error(
    measure: &Measure<'_>,
    candidates: &[Candidates],
    rounded: &[bool],
) -> Result<Vec<usize>, Error> {
    let len = candidates.len();
    let mut chosen = vec![0; len];
    if candidates.iter().all(|own| own.scales.len() == 1) {
        return Ok(chosen);
    }
    let error = |chosen: &[usize]| measure.error(|at| rounded[at].then_some(chosen[at]));
    let mut least = error(&chosen)?;
    let methods = candidates[0].of_methods.len();
    let set_len = len.div_ceil(FIRST_SETS).max(1);
    let sets = (0..len).step_by(set_len).map(|start| (start, set_len));
    for (start, set_len) in std::iter::once((0, len)).chain(sets) {
        for method in 0..methods {
            if set_len < len && least <= SMALL {
                return Ok(chosen);
            }
            let mut other = chosen.clone();
            let pairs = other.iter_mut().zip(candidates);
            for (own, candidates) in pairs.skip(start).take(set_len) {
                *own = candidates.of_methods[method];
            }
            if other == chosen {
                continue;
            }
            let with_other = error(&other)?;
            if with_other < (1.0 - LEAST_GAIN) * least {
                (chosen, least) = (other, with_other);
            }
        }
    }
    Ok(chosen)
}

/// What was chosen, or one method for all activations where that has the lesser error
/// on samples that the choice was not made on: it fits the few that it was made on. With
/// it comes this error.
///
/// # Errors
///
/// Of kind `Interrupted` where the measure's progress says so.
pub(super) fn confirmed(
    chosen: Vec<usize>,
    held_out: &Measure<'_>,
    candidates: &[Candidates],
    rounded: &[bool],
) -> Result<(Vec<usize>, f64), Error> {
    let error = |chosen: &[usize]| held_out.error(|at| rounded[at].then_some(chosen[at]));
    let methods = candidates.first().map_or(0, |own| own.of_methods.len());
    let mut least = error(&chosen)?;
    let mut best = chosen;
    for method in 0..methods {
        let all = candidates.iter().map(|own| own.of_methods[method]);
        let other: Vec<usize> = all.collect();
        if other == best {
            continue;
        }
        let with_other = error(&other)?;
        if with_other < (1.0 - LEAST_GAIN) * least {
            (best, least) = (other, with_other);
        }
    }
    Ok((best, least))
}

#[cfg(test)]
mod tests {
    use campana_ir::graph::{Dim, Graph, Node, Value};
    use campana_quantize::Silent;
    use campana_tensor::{ElementType, Tensor, TensorData};

    use super::*;
    use crate::samples::{Batches, Samples};

    const CHANNELS: usize = 4;

    #[test]
    fn each_set_has_the_range_that_its_readers_want() {
        // The first product needs its rare large values, the second cuts them off.
        let square = |factor: f32| {
            let values = (0..16).map(|at| factor * f32::from(u8::from(at % 5 == 0)));
            Tensor::new(vec![CHANNELS; 2], TensorData::F32(values.collect())).unwrap()
        };
        let bound = |value| Tensor::new(Vec::new(), TensorData::F32(vec![value])).unwrap();
        let shape = vec![Dim::Symbol("N".into()), Dim::Fixed(CHANNELS)];
        let graph = Graph {
            nodes: vec![
                Node::new("Identity", &["x"], &["a"]),
                Node::new("MatMul", &["a", "w"], &["large"]),
                Node::new("Identity", &["x"], &["b"]),
                Node::new("Clip", &["b", "low", "high"], &["small"]),
                Node::new("MatMul", &["small", "w"], &["y"]),
            ],
            inputs: vec![Value {
                element_type: Some(ElementType::F32),
                shape: Some(shape),
                ..Value::named("x")
            }],
            outputs: vec![Value::named("large"), Value::named("y")],
            constants: [
                ("w".to_owned(), square(1.0)),
                ("low".to_owned(), bound(-1.0)),
                ("high".to_owned(), bound(1.0)),
            ]
            .into(),
            opsets: [(String::new(), 17)].into(),
            ..Graph::default()
        };
        let values = (0..32u16).map(|at| {
            if at % 8 == 0 {
                100.0
            } else {
                f32::from(at) / 32.0
            }
        });
        let array = Tensor::new(vec![8, CHANNELS], TensorData::F32(values.collect())).unwrap();
        let samples = Samples::Arrays(vec![("x".into(), array)]);
        let batches = Batches::of_length(&graph.inputs, &samples, 4).unwrap();
        let scale = |name: &str, largest: f32| ActivationScale {
            name: name.to_owned(),
            scale: largest / 255.0,
            zero_point: 0,
        };
        let candidates = ["a", "b"].map(|name| Candidates {
            scales: vec![scale(name, 1.0), scale(name, 100.0)],
            of_methods: vec![0, 1, 0],
        });
        let scales = candidates.each_ref().map(|own| &*own.scales);
        let measure = Measure::new(&graph, &scales, 1, &batches, 1, &Silent).unwrap();
        let chosen = of_least_error(&measure, &candidates, &[true; 2]).unwrap();
        assert_eq!(chosen, [1, 0]);
    }
}
