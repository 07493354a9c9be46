//! Gauss–Legendre quadrature.

use std::f64::consts::PI;
use std::sync::OnceLock;

/// Nodes of the rule. On panels of unit length in standard deviations, 20
/// nodes reach rounding for the densities here; 24 leave a margin.
const NODES: usize = 24;

/// Nodes and weights of a rule on [0, 1].
pub(crate) struct Rule {
    nodes: [f64; NODES],
    weights: [f64; NODES],
}

impl Rule {
    /// The rule, computed at first use.
    pub(crate) fn get() -> &'static Self {
        static RULE: OnceLock<Rule> = OnceLock::new();
        RULE.get_or_init(Self::solve)
    }

    /// Newton's method on the Legendre polynomial from Chebyshev-like starts
    /// (Abramowitz and Stegun 22.16.6 and 25.4.29).
    fn solve() -> Self {
        let n = NODES as f64;
        let mut rule = Self {
            nodes: [0.0; NODES],
            weights: [0.0; NODES],
        };
        for i in 0..NODES / 2 {
            let mut x = (PI * (i as f64 + 0.75) / (n + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..10 {
                let (mut previous, mut value) = (1.0, x);
                for degree in 2..=NODES {
                    let k = degree as f64;
                    let next = ((2.0 * k - 1.0) * x * value - (k - 1.0) * previous) / k;
                    (previous, value) = (value, next);
                }
                slope = n * (x * value - previous) / (x * x - 1.0);
                x -= value / slope;
            }
            let weight = 1.0 / ((1.0 - x * x) * slope * slope);
            rule.nodes[i] = 0.5 * (1.0 - x);
            rule.nodes[NODES - 1 - i] = 0.5 * (1.0 + x);
            rule.weights[i] = weight;
            rule.weights[NODES - 1 - i] = weight;
        }
        rule
    }

    /// Integrates `density(u) u^m` over `0..length` for m = 0, 1 and 2.
    pub(crate) fn moments(&self, length: f64, density: impl Fn(f64) -> f64) -> [f64; 3] {
        let mut sums = [0.0; 3];
        for (node, weight) in self.nodes.iter().zip(self.weights) {
            let u = length * node;
            let mass = weight * density(u);
            sums[0] += mass;
            sums[1] += mass * u;
            sums[2] += mass * u * u;
        }
        sums.map(|sum| sum * length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_are_integrated_exactly() {
        for power in 0..2 * NODES as i32 - 2 {
            let [found, first, second] = Rule::get().moments(1.0, |u| u.powi(power));
            for (found, shift) in [(found, 1), (first, 2), (second, 3)] {
                let expected = 1.0 / f64::from(power + shift);
                if power + shift <= 2 * NODES as i32 {
                    assert!((found - expected).abs() < 1e-15, "{power}: {found}");
                }
            }
        }
    }
}
