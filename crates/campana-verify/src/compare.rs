//! How like each other the outputs of two runs are.

use crate::exchange::{Output, OutputSet};

/// How alike the outputs of one model are to those of another, over all runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Likeness {
    /// Largest difference of a value.
    pub(crate) max_difference: f64,
    /// The largest share that a difference is of the largest value of its output.
    pub(crate) relative_difference: f64,
    /// Signal to noise ratio in dB of the output where it is least; infinite
    /// for equal values.
    pub(crate) sqnr_db: f64,
    /// Cosine of the output where it is least.
    pub(crate) cosine: f64,
    /// Share of the runs with the same largest score; `None` where the first
    /// output is no list of scores.
    pub(crate) agreement: Option<f64>,
}

/// Compares outputs with those expected; `None` where their number or shapes
/// differ.
pub(crate) fn likeness(expected: &[OutputSet], found: &[OutputSet]) -> Option<Likeness> {
    let pairs = || expected.iter().zip(found);
    let is_same = |(a, b): (&OutputSet, &OutputSet)| {
        let values = a
            .iter()
            .zip(b)
            .all(|(a, b)| a.values.len() == b.values.len());
        a.len() == b.len() && values
    };
    if expected.len() != found.len() || !pairs().all(is_same) {
        return None;
    }
    let outputs = expected.first()?.len();
    let mut all = Likeness {
        max_difference: 0.0,
        relative_difference: 0.0,
        sqnr_db: f64::INFINITY,
        cosine: 1.0,
        agreement: agreement(expected, found),
    };
    for position in 0..outputs {
        let of_runs = pairs().map(|(a, b)| (&a[position], &b[position]));
        let sums = of_runs.fold(Sums::default(), |sums, (a, b)| sums.with(a, b));
        all.max_difference = all.max_difference.max(sums.max_difference);
        all.relative_difference = all.relative_difference.max(sums.relative_difference());
        all.sqnr_db = all.sqnr_db.min(sums.sqnr_db());
        all.cosine = all.cosine.min(sums.cosine());
    }
    Some(all)
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

/// Share of the runs in which the largest value of the first output is the
/// same; `None` where that is no list of scores.
fn agreement(expected: &[OutputSet], found: &[OutputSet]) -> Option<f64> {
    let first = |sets: &[OutputSet]| -> Option<Vec<usize>> {
        let outputs = sets.iter().map(|set| set.first());
        let best = outputs.map(|output| output.filter(|output| are_scores(output)).map(best));
        best.collect()
    };
    let (expected, found) = (first(expected)?, first(found)?);
    let same = expected.iter().zip(&found).filter(|(a, b)| a == b).count();
    Some(same as f64 / expected.len().max(1) as f64)
}

/// Whether an output is one list of scores, one for each class: floats, of
/// which one axis behind the first alone has more than one.
fn are_scores(output: &Output) -> bool {
    let Some((&batch, rest)) = output.shape.split_first() else {
        return false;
    };
    let long = rest.iter().filter(|&&extent| extent != 1).count();
    output.is_float && batch == 1 && long == 1 && !output.values.is_empty()
}

/// Position of the largest value, the first of equals.
fn best(output: &Output) -> usize {
    let mut best = 0;
    for (position, value) in output.values.iter().enumerate() {
        if *value > output.values[best] {
            best = position;
        }
    }
    best
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
        let of = |a: &[f32], b: &[f32]| likeness(&one(a), &one(b)).unwrap();
        let half = of(&[1.0, 2.0], &[1.5, 2.25]);
        assert_eq!((half.max_difference, half.relative_difference), (0.5, 0.25));
        let same = of(&[nan, infinity], &[nan, infinity]);
        assert_eq!((same.max_difference, same.cosine), (0.0, 1.0));
        assert_eq!(same.sqnr_db, f64::INFINITY);
        assert_eq!(of(&[1.0], &[nan]).max_difference, f64::INFINITY);
        assert_eq!(of(&[1.0], &[nan]).sqnr_db, f64::NEG_INFINITY);
    }

    #[test]
    fn the_worst_output_counts() {
        let set = |second: f32| {
            vec![vec![
                output(&[1, 2], &[1.0, 0.0]),
                output(&[1, 2, 2], &[second, 1.0, 1.0, 1.0]),
            ]]
        };
        let found = likeness(&set(1.0), &set(1.2)).unwrap();
        assert!((found.sqnr_db - 10.0 * (4.0f64 / 0.04).log10()).abs() < 1e-4);
        assert!(found.cosine < 1.0);
        assert_eq!(found.agreement, Some(1.0));
    }

    #[test]
    fn boxes_have_no_best_answer_and_other_shapes_no_likeness() {
        let boxes = vec![vec![output(&[1, 2, 2], &[1.0, 0.0, 3.0, 2.0])]];
        assert_eq!(likeness(&boxes, &boxes).unwrap().agreement, None);
        assert_eq!(likeness(&boxes, &one(&[1.0])), None);
    }

    #[test]
    fn the_first_of_equal_answers_is_best() {
        assert_eq!(best(&output(&[1, 3], &[0.0, 3.0, 3.0])), 1);
        assert_eq!(best(&output(&[1, 2], &[f32::NAN, 1.0])), 0);
    }
}
