//! Adam's steps.

/// Decay of the mean and of the mean square of gradients from step to step.
const DECAY: [f32; 2] = [0.9, 0.99];

/// Added to the root of the mean square.
const EPSILON: f32 = 1e-12;

/// The largest step, as a share of a parameter's magnitude.
pub(super) const LEARNING_RATE: f32 = 2e-3;

/// The part of the steps over which they become larger: the first running means
/// are those of few gradients.
const WARM_UP: f64 = 0.1;

/// The share of the largest step that one of all steps takes: rising at first,
/// then a half cosine.
pub(super) fn schedule([step, steps]: [u32; 2]) -> f32 {
    let at = f64::from(step) / f64::from(steps.max(1));
    let rise = (f64::from(step + 1) / (WARM_UP * f64::from(steps)).max(1.0)).min(1.0);
    (rise * (0.5 + 0.5 * (std::f64::consts::PI * at).cos())) as f32
}

/// The running means of a parameter's gradients.
#[derive(Clone, Debug)]
pub(super) struct Adam {
    mean: Vec<f32>,
    mean_square: Vec<f32>,
}

impl Adam {
    pub(super) fn new(len: usize) -> Self {
        Self {
            mean: vec![0.0; len],
            mean_square: vec![0.0; len],
        }
    }

    /// Moves values against their gradients by at most about `rate` times their
    /// units, in the step of this number, counted from 0.
    pub(super) fn step(
        &mut self,
        values: &mut [f32],
        gradient: &[f32],
        units: &[f32],
        rate: f32,
        step: u32,
    ) {
        let [decay, square_decay] = DECAY;
        let power = i32::try_from(step + 1).unwrap_or(i32::MAX);
        let corrections = [1.0 - decay.powi(power), 1.0 - square_decay.powi(power)];
        let means = self.mean.iter_mut().zip(&mut self.mean_square);
        let given = gradient.iter().zip(units);
        for ((value, (mean, square)), (gradient, unit)) in values.iter_mut().zip(means).zip(given) {
            *mean = decay * *mean + (1.0 - decay) * gradient;
            *square = square_decay * *square + (1.0 - square_decay) * gradient * gradient;
            let root = (*square / corrections[1]).sqrt() + EPSILON;
            *value -= rate * unit * (*mean / corrections[0]) / root;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quadratic_is_descended() {
        // (a - 3)^2 + 100 (b + 1)^2: steps do not depend on the curvature.
        let mut values = [0.0f32, 0.0];
        let mut adam = Adam::new(2);
        for step in 0..400 {
            let gradient = [2.0 * (values[0] - 3.0), 200.0 * (values[1] + 1.0)];
            adam.step(
                &mut values,
                &gradient,
                &[1.0; 2],
                0.05 * schedule([step, 400]),
                step,
            );
        }
        assert!((values[0] - 3.0).abs() < 0.02, "{values:?}");
        assert!((values[1] + 1.0).abs() < 0.02, "{values:?}");
    }

    #[test]
    fn steps_rise_and_fall() {
        assert!(schedule([0, 100]) < 0.11);
        assert!(schedule([10, 100]) > 0.95);
        assert!(schedule([100, 100]).abs() < 1e-6);
        assert_eq!(schedule([0, 1]), 1.0);
    }
}
