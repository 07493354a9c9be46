//! Levels and scales that suit codes best.

use crate::moment::SecondMoment;
use crate::vector::{add_scaled, dot};

/// Weight of staying where a level is, as a share of the mean diagonal: keeps
/// the system solvable where two levels cannot be told apart by their error.
const RIDGE: f64 = 1e-4;

/// The linear system for the levels of a table of least output error, with the
/// codes of one or more rows given.
///
/// Row `r` is decoded as `(table[c] + shift_r) * scale_r`. Its error is a
/// quadratic form of the table's entries; the system sums the forms of all
/// rows added.
#[derive(Clone, Debug)]
pub struct LevelSystem {
    levels: usize,
    matrix: Vec<f64>,
    right: Vec<f64>,
}

impl LevelSystem {
    /// A system for this many levels, with no rows yet.
    pub fn new(levels: usize) -> Self {
        Self {
            levels,
            matrix: vec![0.0; levels * levels],
            right: vec![0.0; levels],
        }
    }

    /// Adds a row of weights with its codes, scale and shift.
    ///
    /// # Panics
    ///
    /// Where weights or codes are not as many as the moment's inputs, or a
    /// code has no level.
    pub fn add_row(
        &mut self,
        moment: &SecondMoment,
        weights: &[f32],
        codes: &[u8],
        scale: f32,
        shift: f32,
    ) {
        assert_eq!(codes.len(), moment.inputs(), "one code an input");
        let k = self.levels;
        let scale = f64::from(scale);
        let target: Vec<f32> = weights
            .iter()
            .map(|weight| weight - (scale * f64::from(shift)) as f32)
            .collect();
        let wanted = moment.times(&target);
        // For each level the sum of the moments of its inputs, row by row: one
        // pass over the moments in vectors.
        let n = codes.len();
        let mut sums = vec![0f32; k * n];
        for (input, &code) in codes.iter().enumerate() {
            let code = usize::from(code);
            self.right[code] += scale * f64::from(wanted[input]);
            add_scaled(&mut sums[code * n..][..n], moment.row(input), 1.0);
        }
        for (level, sums) in sums.chunks_exact(n.max(1)).enumerate() {
            for (&code, &sum) in codes.iter().zip(sums) {
                self.matrix[usize::from(code) * k + level] += scale * scale * f64::from(sum);
            }
        }
    }

    /// Adds all rows of another system.
    ///
    /// # Panics
    ///
    /// Where the numbers of levels differ.
    pub fn add(&mut self, other: &Self) {
        assert_eq!(self.levels, other.levels, "equal numbers of levels");
        let pairs = self.matrix.iter_mut().zip(&other.matrix);
        for (sum, value) in pairs.chain(self.right.iter_mut().zip(&other.right)) {
            *sum += value;
        }
    }

    /// The levels of least error; those without a code, and all where the
    /// system cannot be solved, stay as they are in `levels`.
    ///
    /// # Panics
    ///
    /// Where `levels` are not as many as the system's.
    pub fn solve(&self, levels: &[f64]) -> Vec<f64> {
        self.solve_but(levels, None)
    }

    /// The same with the level at `zero`, which is 0, left as it is.
    ///
    /// # Panics
    ///
    /// As [`solve`](Self::solve), and where that level is not 0.
    pub fn solve_around_zero(&self, levels: &[f64], zero: usize) -> Vec<f64> {
        assert_eq!(levels[zero], 0.0, "a level of zero");
        self.solve_but(levels, Some(zero))
    }

    fn solve_but(&self, levels: &[f64], kept: Option<usize>) -> Vec<f64> {
        assert_eq!(levels.len(), self.levels, "as many levels as the system");
        let used: Vec<usize> = (0..self.levels)
            .filter(|&level| self.matrix[level * (self.levels + 1)] > 0.0)
            .filter(|&level| Some(level) != kept)
            .collect();
        let m = used.len();
        let trace: f64 = used
            .iter()
            .map(|&level| self.matrix[level * (self.levels + 1)])
            .sum();
        let ridge = RIDGE * trace / m.max(1) as f64;
        let mut matrix: Vec<f64> = used
            .iter()
            .flat_map(|&a| used.iter().map(move |&b| self.matrix[a * self.levels + b]))
            .collect();
        let mut right: Vec<f64> = used
            .iter()
            .map(|&level| self.right[level] + ridge * levels[level])
            .collect();
        (0..m).for_each(|i| matrix[i * m + i] += ridge);
        let mut solved = levels.to_vec();
        if solve_symmetric(&mut matrix, &mut right) {
            for (&level, value) in used.iter().zip(right) {
                solved[level] = value;
            }
        }
        solved
    }
}

/// Solves a positive definite system in place by elimination; `false` where it
/// is not positive definite.
fn solve_symmetric(matrix: &mut [f64], right: &mut [f64]) -> bool {
    let n = right.len();
    for i in 0..n {
        let pivot = matrix[i * n + i];
        if !(pivot > 0.0 && pivot.is_finite()) {
            return false;
        }
        for j in i + 1..n {
            let factor = matrix[j * n + i] / pivot;
            if factor != 0.0 {
                for k in i..n {
                    matrix[j * n + k] -= factor * matrix[i * n + k];
                }
                right[j] -= factor * right[i];
            }
        }
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|k| matrix[i * n + k] * right[k]).sum();
        right[i] = (right[i] - known) / matrix[i * n + i];
    }
    right.iter().all(|value| value.is_finite())
}

/// The factor on decoded weights of least output error; 1 where that is not
/// positive.
///
/// # Panics
///
/// Where the lengths differ from the moment's number of inputs.
pub fn best_scale(moment: &SecondMoment, weights: &[f32], decoded: &[f32]) -> f32 {
    let product = moment.times(decoded);
    let own = dot(&product, decoded);
    let scale = dot(&product, weights) / own;
    if own > 0.0 && scale > 0.0 && scale.is_finite() {
        scale
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_LEVEL_ERROR: f64 = 1e-3;

    fn correlated() -> SecondMoment {
        SecondMoment::new(
            4,
            vec![
                2.0, 0.5, 0.1, 0.3, 0.5, 1.0, 0.2, 0.1, 0.1, 0.2, 3.0, 0.4, 0.3, 0.1, 0.4, 1.5,
            ],
        )
    }

    #[test]
    fn weights_that_have_levels_get_them_back() {
        let codes = [0, 1, 2, 1];
        let levels = [-0.5, 0.25, 1.0];
        let weights: Vec<f32> = codes
            .iter()
            .map(|&code| ((levels[usize::from(code)] + 0.5) * 2.0) as f32)
            .collect();
        let mut system = LevelSystem::new(4);
        system.add_row(&correlated(), &weights, &codes, 2.0, 0.5);
        let solved = system.solve(&[-0.4, 0.1, 1.1, 7.0]);
        for (found, expected) in solved.iter().zip(levels.iter().chain(&[7.0])) {
            assert!((found - expected).abs() < MAX_LEVEL_ERROR, "{solved:?}");
        }
    }

    #[test]
    fn a_level_of_zero_stays() {
        let weights = [-1.1, 0.2, 0.9, 0.1];
        let mut system = LevelSystem::new(3);
        system.add_row(&correlated(), &weights, &[0, 1, 2, 1], 1.0, 0.0);
        let solved = system.solve_around_zero(&[-1.0, 0.0, 1.0], 1);
        assert_eq!(solved[1], 0.0);
        assert!(solved[0] < -1.0 && solved[2] < 1.0, "{solved:?}");
    }

    #[test]
    fn the_best_scale_undoes_a_factor() {
        let weights = [1.0, -2.0, 0.5, 3.0];
        let decoded: Vec<f32> = weights.iter().map(|w| w / 1.25).collect();
        let scale = best_scale(&correlated(), &weights, &decoded);
        assert!((scale - 1.25).abs() < 1e-5);
        assert_eq!(best_scale(&correlated(), &weights, &[0.0; 4]), 1.0);
    }
}
