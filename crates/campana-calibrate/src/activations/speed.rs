//! Outputs of layers that are rounded for speed alone: as far as that costs little.
//!
//! Runtimes of the QDQ form compute a layer on integers only where its output is
//! rounded, also where what reads it takes floats. Each such rounding is one more error.
//! What they all do to the outputs is measured first; where that is too much, what sets
//! of them do, and those of least error are rounded.

use campana_quantize::Error;

use crate::activations::measure::Measure;

/// The factor by which what rounding does to the outputs may grow: half a dB.
const MAX_GROWTH: f64 = 1.122_018;

/// Into how many sets the activations are divided at most.
const SETS: usize = 12;

/// Which of the activations are rounded: those that are not `for_speed`, but for those
/// that stay floats, and of the others as many as cost little.
///
/// # Errors
///
/// Of kind `Interrupted` where the measure's progress says so.
pub(super) fn affordable(
    measure: &Measure<'_>,
    for_speed: &[bool],
    is_float: &[bool],
) -> Result<Vec<bool>, Error> {
    let error = |rounded: &[bool]| measure.error(|at| rounded[at].then_some(0));
    let places = for_speed.iter().zip(is_float);
    let needed: Vec<bool> = places.map(|(speed, float)| !speed && !float).collect();
    let optional: Vec<usize> = (0..needed.len()).filter(|&at| for_speed[at]).collect();
    if optional.is_empty() {
        return Ok(needed);
    }
    let with = |rounded: &[bool], more: &[usize]| {
        let mut rounded = rounded.to_vec();
        more.iter().for_each(|&at| rounded[at] = true);
        rounded
    };
    let least = error(&needed)?;
    let allowed = MAX_GROWTH * least;
    let all = with(&needed, &optional);
    if error(&all)? <= allowed {
        return Ok(all);
    }
    let mut costs = Vec::new();
    for set in optional.chunks(optional.len().div_ceil(SETS)) {
        costs.push((error(&with(&needed, set))? - least, set));
    }
    costs.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let mut rounded = needed;
    for (_, set) in costs {
        let more = with(&rounded, set);
        if error(&more)? > allowed {
            break;
        }
        rounded = more;
    }
    Ok(rounded)
}

#[cfg(test)]
mod tests {
    use campana_ir::graph::{Dim, Graph, Node, Value};
    use campana_quantize::{ActivationScale, Silent};
    use campana_tensor::{ElementType, Tensor, TensorData};

    use super::*;
    use crate::samples::{Batches, Samples};

    const CHANNELS: usize = 4;

    /// One output made of three values.
    fn network() -> Graph {
        let shape = vec![Dim::Symbol("N".into()), Dim::Fixed(CHANNELS)];
        Graph {
            nodes: vec![
                Node::new("Sin", &["x"], &["a"]),
                Node::new("Cos", &["x"], &["b"]),
                Node::new("Tanh", &["x"], &["c"]),
                Node::new("Sum", &["a", "b", "c"], &["y"]),
            ],
            inputs: vec![Value {
                element_type: Some(ElementType::F32),
                shape: Some(shape),
                ..Value::named("x")
            }],
            outputs: vec![Value::named("y")],
            opsets: [(String::new(), 17)].into(),
            ..Graph::default()
        }
    }

    /// Which are rounded where these are their steps, all but the first for speed.
    fn rounded(steps: [f32; 3]) -> Vec<bool> {
        let graph = network();
        let values = (0..32u16).map(|at| f32::from(at * 37 % 32) / 16.0 - 1.0);
        let array = Tensor::new(vec![8, CHANNELS], TensorData::F32(values.collect())).unwrap();
        let samples = Samples::Arrays(vec![("x".into(), array)]);
        let batches = Batches::of_length(&graph.inputs, &samples, 4).unwrap();
        let scale = |at: usize| ActivationScale {
            name: ["a", "b", "c"][at].to_owned(),
            scale: steps[at],
            zero_point: 128,
        };
        let scales: [ActivationScale; 3] = std::array::from_fn(scale);
        let candidates = scales.each_ref().map(std::slice::from_ref);
        let measure = Measure::new(&graph, &candidates, 8, &batches, 1, &Silent).unwrap();
        affordable(&measure, &[false, true, true], &[false; 3]).unwrap()
    }

    #[test]
    fn what_costs_little_is_rounded_for_speed() {
        assert_eq!(rounded([0.1, 0.01, 0.01]), [true; 3]);
        assert_eq!(rounded([0.1, 0.01, 0.5]), [true, true, false]);
        assert_eq!(rounded([0.01, 0.5, 0.5]), [true, false, false]);
    }
}
