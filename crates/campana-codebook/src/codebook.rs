//! Levels and the decision thresholds between them.

use alloc::vec::Vec;
use core::fmt;

use crate::assign;

/// The ordered levels of a scalar quantizer and the thresholds between them.
///
/// A threshold is the midpoint of two neighbouring levels, rounded down to
/// `f32`, so that comparing a weight with it is comparing it with the exact
/// midpoint: assignment is to the nearest level, on a tie to the lower. Only
/// [`with_thresholds`](Codebook::with_thresholds) puts them elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Codebook {
    levels: Vec<f32>,
    thresholds: Vec<f32>,
}

/// Why levels do not make a codebook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodebookError {
    /// There are none, or more than 256.
    Count(usize),
    /// The level at this position is NaN or infinite.
    NotFinite(usize),
    /// The level at this position is below the one before it.
    Descending(usize),
}

impl fmt::Display for CodebookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "a codebook has 1 to 256 levels, not {count}"),
            Self::NotFinite(at) => write!(f, "level {at} is not finite"),
            Self::Descending(at) => write!(f, "level {at} is below level {}", at - 1),
        }
    }
}

impl core::error::Error for CodebookError {}

impl Codebook {
    /// A codebook of 1 to 256 finite levels in ascending order. Equal
    /// neighbours are allowed; the first of them is the one that is used.
    ///
    /// # Errors
    ///
    /// Where the levels are too few or too many, not finite or descending.
    pub fn new(levels: Vec<f32>) -> Result<Self, CodebookError> {
        if levels.is_empty() || levels.len() > 256 {
            return Err(CodebookError::Count(levels.len()));
        }
        if let Some(at) = levels.iter().position(|level| !level.is_finite()) {
            return Err(CodebookError::NotFinite(at));
        }
        if let Some(at) = levels.windows(2).position(|pair| pair[1] < pair[0]) {
            return Err(CodebookError::Descending(at + 1));
        }
        let thresholds = levels
            .windows(2)
            .map(|pair| midpoint_below(pair[0], pair[1]))
            .collect();
        Ok(Self { levels, thresholds })
    }

    /// The same with other thresholds than the midpoints: weights are then not
    /// always assigned to the nearest level. They ascend, and are rounded down
    /// to `f32`; a weight on one belongs below it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// Where the thresholds are not one fewer than the levels, or do not
    /// ascend.
    pub fn with_thresholds(levels: Vec<f32>, thresholds: &[f64]) -> Result<Self, CodebookError> {
        let codebook = Self::new(levels)?;
        assert_eq!(
            thresholds.len(),
            codebook.thresholds.len(),
            "a threshold between levels"
        );
        assert!(thresholds.is_sorted(), "thresholds ascend");
        Ok(Self {
            thresholds: thresholds
                .iter()
                .map(|&exact| rounded_down(exact))
                .collect(),
            ..codebook
        })
    }

    /// All levels and thresholds times a factor. With a power of two weights
    /// times the same factor get the same codes.
    ///
    /// # Panics
    ///
    /// Where the factor is not positive, or a level would be infinite.
    #[must_use]
    pub fn scaled(&self, factor: f32) -> Self {
        assert!(factor > 0.0, "a positive factor");
        let times =
            |values: &[f32]| -> Vec<f32> { values.iter().map(|value| value * factor).collect() };
        let scaled = Self {
            levels: times(&self.levels),
            thresholds: times(&self.thresholds),
        };
        let is_finite = scaled.levels.iter().all(|level| level.is_finite());
        assert!(is_finite, "finite levels");
        scaled
    }

    /// The levels, ascending.
    pub fn levels(&self) -> &[f32] {
        &self.levels
    }

    /// The thresholds: one fewer than the levels. A weight belongs to level
    /// `k` where `k` thresholds are below it.
    pub fn thresholds(&self) -> &[f32] {
        &self.thresholds
    }

    /// The code of the level nearest to each weight. NaN gets code 0.
    ///
    /// # Panics
    ///
    /// Where the two slices differ in length.
    pub fn assign(&self, weights: &[f32], codes: &mut [u8]) {
        assert_eq!(weights.len(), codes.len(), "one code a weight");
        assign::assign(&self.thresholds, weights, codes);
    }

    /// [`assign`](Self::assign) and [`squared_error`](Self::squared_error) in
    /// one pass, with the same results.
    ///
    /// # Panics
    ///
    /// Where the two slices differ in length.
    pub fn assign_with_error(&self, weights: &[f32], codes: &mut [u8]) -> f64 {
        assert_eq!(weights.len(), codes.len(), "one code a weight");
        assign::assign_with_error(&self.thresholds, &self.levels, weights, codes)
    }

    /// Sum of the squared differences of the weights and their levels.
    ///
    /// # Panics
    ///
    /// Where the two slices differ in length or a code has no level.
    pub fn squared_error(&self, weights: &[f32], codes: &[u8]) -> f64 {
        assert_eq!(weights.len(), codes.len(), "one code a weight");
        assign::squared_error(&self.levels, weights, codes)
    }
}

/// The largest `f32` that is not above the midpoint of two levels.
fn midpoint_below(low: f32, high: f32) -> f32 {
    rounded_down(f64::midpoint(f64::from(low), f64::from(high)))
}

/// The largest `f32` that is not above `exact`.
fn rounded_down(exact: f64) -> f32 {
    let rounded = exact as f32;
    if f64::from(rounded) > exact {
        rounded.next_down()
    } else {
        rounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn a_power_of_two_on_weights_and_levels_leaves_the_codes() {
        let codebook = Codebook::with_thresholds(vec![-1.0, 0.5, 0.7], &[-0.3, 0.65]).unwrap();
        let weights = [-0.4f32, -0.3, 0.6, 0.66, 9.0];
        let factor = 2f32.powi(-80);
        let small = weights.map(|weight| weight * factor);
        let (mut codes, mut expected) = ([0; 5], [0; 5]);
        codebook.assign(&weights, &mut expected);
        codebook.scaled(factor).assign(&small, &mut codes);
        assert_eq!(codes, expected);
    }

    #[test]
    fn weights_are_assigned_by_thresholds_off_the_middle() {
        let codebook = Codebook::with_thresholds(vec![0.0, 1.0], &[0.75]).unwrap();
        let mut codes = [9; 3];
        let error = codebook.assign_with_error(&[0.5, 0.75, 0.76], &mut codes);
        assert_eq!(codes, [0, 0, 1]);
        assert!((error - (0.25 + 0.5625 + 0.0576)).abs() < 1e-6, "{error}");
    }

    #[test]
    fn levels_that_make_no_codebook_are_refused() {
        assert_eq!(Codebook::new(vec![]), Err(CodebookError::Count(0)));
        assert_eq!(
            Codebook::new(vec![0.0; 257]),
            Err(CodebookError::Count(257))
        );
        assert_eq!(
            Codebook::new(vec![0.0, f32::NAN]),
            Err(CodebookError::NotFinite(1))
        );
        assert_eq!(
            Codebook::new(vec![1.0, 0.0]),
            Err(CodebookError::Descending(1))
        );
    }

    #[test]
    fn thresholds_of_extreme_levels_do_not_overflow() {
        let codebook = Codebook::new(vec![f32::MIN, f32::MAX]).unwrap();
        assert_eq!(codebook.thresholds(), [0.0]);
    }

    /// The nearest level by exhaustive search in `f64`, the lower on a tie.
    fn reference_nearest(levels: &[f32], weight: f32) -> u8 {
        let distance = |level: f32| (f64::from(level) - f64::from(weight)).abs();
        let mut best = 0;
        for (code, &level) in levels.iter().enumerate() {
            if distance(level) < distance(levels[best]) {
                best = code;
            }
        }
        best as u8
    }

    fn sorted_levels() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-1000.0f32..1000.0, 1..257).prop_map(|mut levels| {
            levels.sort_by(f32::total_cmp);
            levels.dedup();
            levels
        })
    }

    proptest! {
        #[test]
        fn assignment_is_to_the_nearest_level(
            levels in sorted_levels(),
            mut weights in prop::collection::vec(-1100.0f32..1100.0, 0..200),
        ) {
            let codebook = Codebook::new(levels.clone()).unwrap();
            weights.extend_from_slice(&levels);
            weights.extend_from_slice(codebook.thresholds());
            let mut codes = vec![0; weights.len()];
            codebook.assign(&weights, &mut codes);
            for (&weight, &code) in weights.iter().zip(&codes) {
                prop_assert_eq!(code, reference_nearest(&levels, weight), "weight {}", weight);
            }
        }

        #[test]
        fn a_level_is_assigned_to_itself(levels in sorted_levels()) {
            let codebook = Codebook::new(levels.clone()).unwrap();
            let mut codes = vec![0; levels.len()];
            codebook.assign(&levels, &mut codes);
            prop_assert!(codes.iter().enumerate().all(|(at, &code)| at == usize::from(code)));
        }
    }
}
