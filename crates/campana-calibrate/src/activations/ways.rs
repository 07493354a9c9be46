//! Ranges of activations by what rounding does to the outputs: of each activation the
//! way of rounding with which the outputs' error is least.
//!
//! A range that leaves out rare values has smaller steps; which of both does less
//! depends on what reads them. One method for all activations is measured first, then
//! others for sets of them. Which stay floats is decided before: a set's error may be
//! that of one activation whose best range is none.

use campana_quantize::{Error, RangeMethod};

use crate::activations::measure::Measure;
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

/// For each activation its way of least error, where `rounded` ones are;
/// `ways` are those that each of the methods is for it.
///
/// # Errors
///
/// Of kind `Interrupted` where the measure's progress says so.
pub(super) fn of_least_error(
    measure: &Measure<'_>,
    ways: &[[usize; METHODS.len()]],
    rounded: &[bool],
) -> Result<Vec<usize>, Error> {
    let mut chosen: Vec<usize> = ways.iter().map(|ways| ways[0]).collect();
    if ways
        .iter()
        .all(|ways| ways.iter().all(|&way| way == ways[0]))
    {
        return Ok(chosen);
    }
    let error = |chosen: &[usize]| measure.error(|at| rounded[at].then_some(chosen[at]));
    let mut least = error(&chosen)?;
    let len = ways.len();
    let set_len = len.div_ceil(FIRST_SETS).max(1);
    let sets = (0..len).step_by(set_len).map(|start| (start, set_len));
    for (start, set_len) in std::iter::once((0, len)).chain(sets) {
        for method in 0..METHODS.len() {
            if set_len < len && least <= SMALL {
                return Ok(chosen);
            }
            let mut other = chosen.clone();
            let pairs = other.iter_mut().zip(ways);
            for (own, ways) in pairs.skip(start).take(set_len) {
                *own = ways[method];
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

#[cfg(test)]
mod tests {
    use campana_ir::graph::{Dim, Graph, Node, Value};
    use campana_quantize::{ActivationScale, Silent};
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
        let ways = ["a", "b"].map(|name| vec![scale(name, 1.0), scale(name, 100.0)]);
        let measure = Measure::new(&graph, &ways, &batches, 1, &Silent).unwrap();
        let of_methods = [[0, 1, 0]; 2];
        let chosen = of_least_error(&measure, &of_methods, &[true; 2]).unwrap();
        assert_eq!(chosen, [1, 0]);
    }
}
