//! Deterministic pseudo-random weights for tests.

/// Densities that [`draw`] takes weights from, all of scale 0.05.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Gaussian,
    Laplace,
    /// Gaussian with one weight in ten exactly zero.
    Pruned,
    /// Sixteen distinct values.
    Ties,
    /// Gaussian with a few weights a million times as large.
    Outliers,
}

/// All shapes, for tests that sweep them.
pub(crate) const SHAPES: [Shape; 5] = [
    Shape::Gaussian,
    Shape::Laplace,
    Shape::Pruned,
    Shape::Ties,
    Shape::Outliers,
];

/// `count` weights of `shape`; the same `seed` gives the same weights.
pub(crate) fn draw(shape: Shape, count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    // xorshift64*, Vigna 2016.
    let mut uniform = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        (bits as f64 + 0.5) / (1u64 << 53) as f64
    };
    (0..count)
        .map(|_| {
            let (u, v) = (uniform(), uniform());
            let gaussian = 0.05 * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
            let weight = match shape {
                Shape::Gaussian => gaussian,
                Shape::Laplace => 0.05 * if v < 0.5 { u.ln() } else { -u.ln() },
                Shape::Pruned if u < 0.1 => 0.0,
                Shape::Pruned => gaussian,
                Shape::Ties => (u * 16.0).floor() * 0.01 - 0.07,
                Shape::Outliers if u < 1e-4 => gaussian * 1e6,
                Shape::Outliers => gaussian,
            };
            weight as f32
        })
        .collect()
}
