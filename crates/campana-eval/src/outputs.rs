//! How like those of another model a model's outputs are, whatever they mean.

use campana_tensor::{Tensor, TensorData};
use serde::Serialize;

/// The outputs of one run, in the model's order.
pub type OutputSet = Vec<Output>;

/// One output of a run: whatever its type, as float32.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The output's name.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Whether the model gives floats.
    pub is_float: bool,
    /// The values, row-major.
    pub values: Vec<f32>,
}

impl Output {
    /// An output tensor as float32; `None` for a type without numbers.
    pub fn new(name: &str, tensor: Tensor) -> Option<Self> {
        let is_float = tensor.data().element_type().is_float();
        let (shape, data) = tensor.into_parts();
        let values = match data {
            TensorData::F32(values) => values,
            TensorData::F64(values) => values.iter().map(|&value| value as f32).collect(),
            TensorData::F16(values) => values.iter().map(|value| value.to_f32()).collect(),
            TensorData::Bf16(values) => values.iter().map(|value| value.to_f32()).collect(),
            TensorData::I64(values) => values.iter().map(|&value| value as f32).collect(),
            TensorData::I32(values) => values.iter().map(|&value| value as f32).collect(),
            TensorData::I16(values) => values.iter().map(|&value| f32::from(value)).collect(),
            TensorData::I8(values) => values.iter().map(|&value| f32::from(value)).collect(),
            TensorData::U64(values) => values.iter().map(|&value| value as f32).collect(),
            TensorData::U32(values) => values.iter().map(|&value| value as f32).collect(),
            TensorData::U16(values) => values.iter().map(|&value| f32::from(value)).collect(),
            TensorData::U8(values) => values.iter().map(|&value| f32::from(value)).collect(),
            TensorData::Bool(values) => values
                .iter()
                .map(|&value| f32::from(u8::from(value)))
                .collect(),
            _ => return None,
        };
        Some(Self {
            name: name.to_owned(),
            shape,
            is_float,
            values,
        })
    }

    /// Whether this is one list of scores, one for each class: floats, of which
    /// one axis behind the first alone has more than one.
    pub fn is_scores(&self) -> bool {
        let Some((&batch, rest)) = self.shape.split_first() else {
            return false;
        };
        let long = rest.iter().filter(|&&extent| extent != 1).count();
        self.is_float && batch == 1 && long == 1 && !self.values.is_empty()
    }

    /// Position of the largest value, the first of equals.
    fn best(&self) -> usize {
        let mut best = 0;
        for (position, value) in self.values.iter().enumerate() {
            if *value > self.values[best] {
                best = position;
            }
        }
        best
    }
}

/// How alike one output of two models is, over all runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Likeness {
    /// The output's name.
    pub output: String,
    /// Signal to noise ratio in dB, 10 log10 of the sum of squares of the
    /// expected values over that of the differences; infinite for equal values.
    pub sqnr_db: f64,
    /// Cosine of the angle between all values: 1 for the same direction.
    pub cosine: f64,
    /// Largest difference of a value.
    pub max_difference: f64,
    /// The same as a share of the largest expected value.
    pub relative_difference: f64,
    /// Share of the runs with the same largest value, where the output is one
    /// list of scores in each.
    pub agreement: Option<f64>,
}

/// Compares each output with that expected; `None` where the number of runs or
/// outputs, or the size of one, differs.
pub fn likeness(expected: &[OutputSet], found: &[OutputSet]) -> Option<Vec<Likeness>> {
    let pairs = || expected.iter().zip(found);
    let is_same = |(a, b): (&OutputSet, &OutputSet)| {
        let mut values = a.iter().zip(b);
        a.len() == b.len() && values.all(|(a, b)| a.values.len() == b.values.len())
    };
    if expected.len() != found.len() || !pairs().all(is_same) {
        return None;
    }
    let outputs = expected.first()?.iter().enumerate();
    let compared = outputs.map(|(position, output)| {
        let of_runs = || pairs().map(|(a, b)| (&a[position], &b[position]));
        let sums = of_runs().fold(Sums::default(), |sums, (a, b)| sums.with(a, b));
        let are_scores = of_runs().all(|(a, b)| a.is_scores() && b.is_scores());
        let same = of_runs().filter(|(a, b)| a.best() == b.best()).count();
        Likeness {
            output: output.name.clone(),
            sqnr_db: sums.sqnr_db(),
            cosine: sums.cosine(),
            max_difference: sums.max_difference,
            relative_difference: sums.relative_difference(),
            agreement: are_scores.then(|| same as f64 / expected.len() as f64),
        }
    });
    Some(compared.collect())
}

/// What is summed over the values of one output.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    max_difference: f64,
    largest: f64,
    /// Squares of the expected values, of those found, of their differences,
    /// and products of both.
    expected: f64,
    found: f64,
    noise: f64,
    product: f64,
}

impl Sums {
    fn with(mut self, expected: &Output, found: &Output) -> Self {
        for (&a, &b) in expected.values.iter().zip(&found.values) {
            let both_nan = a.is_nan() && b.is_nan();
            let (a, b) = (f64::from(a), f64::from(b));
            let difference = if a == b || both_nan {
                0.0
            } else {
                (a - b).abs()
            };
            let difference = if difference.is_nan() {
                f64::INFINITY
            } else {
                difference
            };
            self.max_difference = self.max_difference.max(difference);
            self.noise += difference * difference;
            if a.is_finite() && b.is_finite() {
                self.largest = self.largest.max(a.abs());
                self.expected += a * a;
                self.found += b * b;
                self.product += a * b;
            }
        }
        self
    }

    fn relative_difference(&self) -> f64 {
        match self.max_difference {
            0.0 => 0.0,
            difference => difference / self.largest,
        }
    }

    fn sqnr_db(&self) -> f64 {
        match self.noise {
            0.0 => f64::INFINITY,
            noise => 10.0 * (self.expected / noise).log10(),
        }
    }

    fn cosine(&self) -> f64 {
        match self.noise {
            0.0 => 1.0,
            _ if self.expected == 0.0 || self.found == 0.0 => 0.0,
            _ => self.product / (self.expected.sqrt() * self.found.sqrt()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(shape: &[usize], values: &[f32]) -> Output {
        Output {
            name: "y".into(),
            shape: shape.to_vec(),
            is_float: true,
            values: values.to_vec(),
        }
    }

    fn one(values: &[f32]) -> Vec<OutputSet> {
        vec![vec![output(&[1, values.len()], values)]]
    }

    #[test]
    fn differences_see_numbers_that_are_none() {
        let (nan, infinity) = (f32::NAN, f32::INFINITY);
        let of = |a: &[f32], b: &[f32]| likeness(&one(a), &one(b)).unwrap().remove(0);
        let half = of(&[1.0, 2.0], &[1.5, 2.25]);
        assert_eq!((half.max_difference, half.relative_difference), (0.5, 0.25));
        let same = of(&[nan, infinity], &[nan, infinity]);
        assert_eq!((same.max_difference, same.cosine), (0.0, 1.0));
        assert_eq!(same.sqnr_db, f64::INFINITY);
        assert_eq!(of(&[1.0], &[nan]).max_difference, f64::INFINITY);
        assert_eq!(of(&[1.0], &[nan]).sqnr_db, f64::NEG_INFINITY);
    }

    #[test]
    fn each_output_is_compared_by_itself() {
        let set = |second: f32| {
            vec![vec![
                output(&[1, 2], &[1.0, 0.0]),
                output(&[1, 2, 2], &[second, 1.0, 1.0, 1.0]),
            ]]
        };
        let found = likeness(&set(1.0), &set(1.2)).unwrap();
        assert_eq!((found[0].cosine, found[0].agreement), (1.0, Some(1.0)));
        assert!((found[1].sqnr_db - 10.0 * (4.0f64 / 0.04).log10()).abs() < 1e-4);
        assert!(found[1].cosine < 1.0);
    }

    #[test]
    fn boxes_have_no_best_answer_and_other_shapes_no_likeness() {
        let boxes = vec![vec![output(&[1, 2, 2], &[1.0, 0.0, 3.0, 2.0])]];
        assert_eq!(likeness(&boxes, &boxes).unwrap()[0].agreement, None);
        assert_eq!(likeness(&boxes, &one(&[1.0])), None);
    }

    #[test]
    fn the_first_of_equal_answers_is_best() {
        assert_eq!(output(&[1, 3], &[0.0, 3.0, 3.0]).best(), 1);
        assert_eq!(output(&[1, 2], &[f32::NAN, 1.0]).best(), 0);
    }
}
