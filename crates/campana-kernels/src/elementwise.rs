//! Functions of each element, a vector at a time.
//!
//! Bounds of the approximations, held by the tests over the whole range:
//! [`Unary::Exp`] within [`MAX_EXP_ERROR_ULPS`], [`Unary::Sigmoid`] and
//! [`Unary::Silu`] within [`MAX_SIGMOID_ERROR`] absolutely (relative to 1 and
//! to the argument), [`Unary::Tanh`], [`Unary::Erf`], [`Unary::Softplus`],
//! [`Unary::Mish`] and [`Unary::Elu`] within [`MAX_RELATIVE_ERROR`].

mod functions;

use crate::isa::{Isa, Kernel};
use crate::vector::Vector;
use functions::{erf, exp, exp_m1, mish, sigmoid, softplus, tanh};

/// Greatest error of the exponential, in units of the last place of results
/// that are normal numbers; smaller ones become 0.
pub const MAX_EXP_ERROR_ULPS: u32 = 3;

/// Greatest error of the sigmoid function.
pub const MAX_SIGMOID_ERROR: f32 = 2e-7;

/// Greatest error of the functions that are made of exponentials and
/// quotients, relative to results that are normal numbers.
pub const MAX_RELATIVE_ERROR: f32 = 6e-7;

/// A function of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// `min(max(x, at_least), at_most)`; NaN stays NaN.
    Clamp {
        /// Lower bound.
        at_least: f32,
        /// Upper bound.
        at_most: f32,
    },
    /// `e^x`.
    Exp,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `x / (1 + e^-x)`.
    Silu,
    /// `min(max(alpha x + beta, 0), 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x min(max(x / 6 + 1/2, 0), 1)`.
    HardSwish,
    /// What quantizing to whole numbers and back leaves of `x`:
    /// `scale (min(max(round(x / scale) + zero_point, low), high) - zero_point)`,
    /// ties to even.
    QuantizeDequantize {
        /// Distance of the levels.
        scale: f32,
        /// The code of 0, a whole number.
        zero_point: f32,
        /// The lowest code.
        low: f32,
        /// The highest code.
        high: f32,
    },
    /// `x` where it is not negative, `alpha x` elsewhere.
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// `slope x` where `x` is positive, `alpha (e^(rate x) - 1)` elsewhere:
    /// Elu, Selu and Celu.
    Elu {
        /// Slope above zero.
        slope: f32,
        /// What the function tends to below zero, negated.
        alpha: f32,
        /// Factor of the exponent, not negative.
        rate: f32,
    },
    /// The hyperbolic tangent.
    Tanh,
    /// The error function.
    Erf,
    /// `x (1 + erf(x / sqrt 2)) / 2`.
    Gelu,
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.
    GeluTanh,
    /// `ln(1 + e^x)`.
    Softplus,
    /// `x tanh(ln(1 + e^x))`.
    Mish,
}

/// A function of two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is named after what it computes")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    /// The greater; NaN where either is.
    Max,
    /// The lesser; NaN where either is.
    Min,
    /// `left` where it is not negative, `left right` elsewhere; `right` is finite.
    Prelu,
}

impl Binary {
    /// The function of two floats.
    pub fn apply(self, left: f32, right: f32) -> f32 {
        match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div => left / right,
            Self::Max if left > right || left.is_nan() => left,
            Self::Min if left < right || left.is_nan() => left,
            Self::Max | Self::Min => right,
            Self::Prelu if left < 0.0 => left * right,
            Self::Prelu => left,
        }
    }

    /// Whether operands may change places.
    pub fn commutes(self) -> bool {
        matches!(self, Self::Add | Self::Mul | Self::Max | Self::Min)
    }
}

/// Applies the function to every element.
pub fn map(isa: Isa, op: Unary, values: &mut [f32]) {
    // SAFETY: the kernel only asks for the slice's own length.
    unsafe { isa.run(Map { op, values }) }
}

struct Map<'a> {
    op: Unary,
    values: &'a mut [f32],
}

impl Kernel for Map<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let values = self.values;
        // Not a closure, which would be compiled without the ISA's instructions.
        macro_rules! each {
            ($x:ident => $result:expr) => {
                for at in (0..values.len()).step_by(V::LANES) {
                    let len = V::LANES.min(values.len() - at);
                    // SAFETY: `len` floats from `at` are inside the slice.
                    unsafe {
                        let place = values.as_mut_ptr().add(at);
                        let $x = V::load_first(place, len);
                        let result: V = $result;
                        result.store_first(place, len);
                    }
                }
            };
        }
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        match self.op {
            Unary::Clamp { at_least, at_most } => {
                let (at_least, at_most) = (V::splat(at_least), V::splat(at_most));
                each!(x => x.at_least(at_least).at_most(at_most));
            }
            Unary::Exp => each!(x => exp(x)),
            Unary::Sigmoid => each!(x => sigmoid(x)),
            Unary::Silu => each!(x => x.mul(sigmoid(x))),
            Unary::HardSigmoid { alpha, beta } => {
                let (alpha, beta) = (V::splat(alpha), V::splat(beta));
                each!(x => x.mul_add(alpha, beta).at_least(zero).at_most(one));
            }
            Unary::HardSwish => {
                let (alpha, beta) = (V::splat(1.0 / 6.0), V::splat(0.5));
                each!(x => x.mul(x.mul_add(alpha, beta).at_least(zero).at_most(one)));
            }
            Unary::QuantizeDequantize {
                scale,
                zero_point,
                low,
                high,
            } => {
                let (scale, zero_point) = (V::splat(scale), V::splat(zero_point));
                let (low, high) = (V::splat(low), V::splat(high));
                each!(x => {
                    let code = x.div(scale).round().add(zero_point);
                    code.at_least(low).at_most(high).sub(zero_point).mul(scale)
                });
            }
            Unary::LeakyRelu { alpha } => {
                let alpha = V::splat(alpha);
                each!(x => prelu(x, alpha));
            }
            Unary::Elu { slope, alpha, rate } => {
                let (slope, alpha, rate) = (V::splat(slope), V::splat(alpha), V::splat(rate));
                each!(x => {
                    let below = exp_m1(x.at_most(zero).mul(rate));
                    below.mul_add(alpha, x.at_least(zero).mul(slope))
                });
            }
            Unary::Tanh => each!(x => tanh(x)),
            Unary::Erf => each!(x => erf(x)),
            Unary::Gelu => {
                let (half, factor) = (V::splat(0.5), V::splat(std::f32::consts::FRAC_1_SQRT_2));
                each!(x => x.mul(half).mul(one.add(erf(x.mul(factor)))));
            }
            Unary::GeluTanh => {
                // `1 + tanh y` is `2 sigmoid(2 y)`; the factor is `sqrt(8 / pi)`.
                let (factor, cubic) = (V::splat(1.595_769), V::splat(0.044_715));
                each!(x => {
                    let inner = x.mul(x).mul_add(cubic, one).mul(x).mul(factor);
                    x.mul(sigmoid(inner))
                });
            }
            Unary::Softplus => each!(x => softplus(x)),
            Unary::Mish => each!(x => mish(x)),
        }
    }
}

/// `x` where it is not negative, `slope x` elsewhere.
#[inline(always)]
fn prelu<V: Vector>(x: V, slope: V) -> V {
    let zero = V::splat(0.0);
    x.at_least(zero).add(x.at_most(zero).mul(slope))
}

/// NaN where `x` is, 0 elsewhere.
#[inline(always)]
fn nan_of<V: Vector>(x: V) -> V {
    x.at_least(V::splat(0.0)).at_most(V::splat(0.0))
}

/// `output[i] = left[i] op right[i]`.
///
/// # Panics
///
/// Where the lengths differ.
pub fn zip(isa: Isa, op: Binary, left: &[f32], right: &[f32], output: &mut [f32]) {
    assert_eq!(left.len(), right.len(), "operands' lengths");
    assert_eq!(left.len(), output.len(), "output's length");
    // SAFETY: the lengths are equal.
    unsafe {
        isa.run(Zip {
            op,
            left,
            right: Right::Slice(right),
            output,
        });
    }
}

/// `output[i] = left[i] op right`.
///
/// # Panics
///
/// Where the lengths differ.
pub fn zip_scalar(isa: Isa, op: Binary, left: &[f32], right: f32, output: &mut [f32]) {
    assert_eq!(left.len(), output.len(), "output's length");
    // SAFETY: the lengths are equal.
    unsafe {
        isa.run(Zip {
            op,
            left,
            right: Right::Scalar(right),
            output,
        });
    }
}

enum Right<'a> {
    Slice(&'a [f32]),
    Scalar(f32),
}

struct Zip<'a> {
    op: Binary,
    left: &'a [f32],
    right: Right<'a>,
    output: &'a mut [f32],
}

impl Kernel for Zip<'_> {
    type Output = ();

    /// # Safety
    ///
    /// The slices are equally long.
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        match self.op {
            Binary::Add => self.with::<V>(V::add),
            Binary::Sub => self.with::<V>(V::sub),
            Binary::Mul => self.with::<V>(V::mul),
            Binary::Div => self.with::<V>(V::div),
            // These keep NaN of the first operand alone.
            Binary::Max => self.with::<V>(|a, b| a.at_least(b).add(nan_of(b))),
            Binary::Min => self.with::<V>(|a, b| a.at_most(b).add(nan_of(b))),
            Binary::Prelu => self.with::<V>(prelu),
        }
    }
}

impl Zip<'_> {
    #[inline(always)]
    fn with<V: Vector>(self, op: impl Fn(V, V) -> V) {
        let len = self.output.len();
        let mut at = 0;
        while at < len {
            let lanes = V::LANES.min(len - at);
            // SAFETY: `lanes` elements from `at` are inside all three slices.
            unsafe {
                let read = |slice: &[f32]| V::load_first(slice.as_ptr().add(at), lanes);
                let right = match self.right {
                    Right::Slice(right) => read(right),
                    Right::Scalar(right) => V::splat(right),
                };
                let result = op(read(self.left), right);
                result.store_first(self.output.as_mut_ptr().add(at), lanes);
            }
            at += V::LANES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_BINARY: [Binary; 7] = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Max,
        Binary::Min,
        Binary::Prelu,
    ];

    /// Multiply-adds round once or twice.
    const MAX_LINE_ERROR: f32 = 1e-6;

    fn arguments() -> Vec<f32> {
        let mut arguments: Vec<f32> = (-88_000..=88_000).map(|i| i as f32 * 1e-3).collect();
        arguments.extend([0.0, -0.0, 1e-30, 7.5]);
        arguments
    }

    #[test]
    fn the_exponential_is_within_its_bound() {
        for isa in Isa::available() {
            let mut values = arguments();
            map(isa, Unary::Exp, &mut values);
            for (x, value) in arguments().into_iter().zip(values) {
                let exact = f64::from(x).exp() as f32;
                if exact >= f32::MIN_POSITIVE * 2.0 {
                    let ulps = exact.to_bits().abs_diff(value.to_bits());
                    assert!(
                        ulps <= MAX_EXP_ERROR_ULPS,
                        "{}: e^{x} = {value}",
                        isa.name()
                    );
                }
            }
        }
    }

    #[test]
    fn the_exponential_keeps_its_limits() {
        for isa in Isa::available() {
            let mut values = [f32::NEG_INFINITY, -200.0, f32::INFINITY, 200.0, f32::NAN];
            map(isa, Unary::Exp, &mut values);
            assert_eq!(values[..4], [0.0, 0.0, f32::INFINITY, f32::INFINITY]);
            assert!(values[4].is_nan());
        }
    }

    #[test]
    fn activations_equal_their_definitions() {
        let sigmoid = |x: f32| (1.0 / (1.0 + (-f64::from(x)).exp())) as f32;
        for isa in Isa::available() {
            for x in arguments().chunks(37) {
                let apply = |op| {
                    let mut values = x.to_vec();
                    map(isa, op, &mut values);
                    values
                };
                let silu = apply(Unary::Silu);
                let hard = apply(Unary::HardSwish);
                let leaky = apply(Unary::LeakyRelu { alpha: 0.1 });
                let hard_sigmoid = apply(Unary::HardSigmoid {
                    alpha: 0.2,
                    beta: 0.5,
                });
                for (i, sig) in apply(Unary::Sigmoid).into_iter().enumerate() {
                    let x = x[i];
                    assert!((sig - sigmoid(x)).abs() <= MAX_SIGMOID_ERROR);
                    let tolerance = MAX_SIGMOID_ERROR * x.abs().max(1.0);
                    assert!((silu[i] - x * sigmoid(x)).abs() <= tolerance);
                    let line = (x / 6.0 + 0.5).clamp(0.0, 1.0);
                    assert!((hard[i] - x * line).abs() <= MAX_LINE_ERROR * x.abs().max(1.0));
                    let line = (0.2 * x + 0.5).clamp(0.0, 1.0);
                    assert!((hard_sigmoid[i] - line).abs() <= MAX_LINE_ERROR);
                    assert_eq!(leaky[i], if x < 0.0 { 0.1 * x } else { x });
                }
            }
        }
    }

    #[test]
    fn quantizing_and_back_gives_the_nearest_level() {
        for isa in Isa::available() {
            let mut values = [-1.0, -0.26, 0.25, 0.74, 0.76, 9.0, 100.0, -100.0, 1.25];
            let op = Unary::QuantizeDequantize {
                scale: 0.5,
                zero_point: 2.0,
                low: 0.0,
                high: 15.0,
            };
            map(isa, op, &mut values);
            assert_eq!(values, [-1.0, -0.5, 0.0, 0.5, 1.0, 6.5, 6.5, -1.0, 1.0]);
        }
    }

    #[test]
    fn two_operands_of_every_length_are_combined() {
        for isa in Isa::available() {
            for len in [0, 1, 7, 8, 9, 15, 16, 17, 40] {
                let left: Vec<f32> = (0..len).map(|i| i as f32 * 1.5 - 9.25).collect();
                let right: Vec<f32> = left.iter().map(|v| v * 0.5 + 2.0).collect();
                let mut output = vec![0.0; len];
                for op in ALL_BINARY {
                    zip(isa, op, &left, &right, &mut output);
                    assert!((0..len).all(|i| output[i] == op.apply(left[i], right[i])));
                    zip_scalar(isa, op, &left, 3.0, &mut output);
                    assert!((0..len).all(|i| output[i] == op.apply(left[i], 3.0)));
                }
            }
        }
    }

    #[test]
    fn greatest_and_least_keep_nan_of_either_operand() {
        let (nan, infinity) = (f32::NAN, f32::INFINITY);
        let left = [nan, 1.0, nan, infinity, -infinity];
        let right = [2.0, nan, nan, -1.0, 3.0];
        for isa in Isa::available() {
            for op in [Binary::Max, Binary::Min] {
                let mut output = [0.0; 5];
                zip(isa, op, &left, &right, &mut output);
                for (i, value) in output.into_iter().enumerate() {
                    let expected = op.apply(left[i], right[i]);
                    assert!(value == expected || value.is_nan() && expected.is_nan());
                }
            }
        }
    }

    #[test]
    fn functions_of_exponentials_and_quotients_are_within_their_bound() {
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        // The definition of erf, by its series.
        let erf = |x: f64| {
            let mut term = 2.0 / std::f64::consts::PI.sqrt() * x * (-x * x).exp();
            let mut sum = term;
            for k in 1..200 {
                term *= 2.0 * x * x / f64::from(2 * k + 1);
                sum += term;
            }
            sum
        };
        let elu = Unary::Elu {
            slope: 1.25,
            alpha: 0.5,
            rate: 2.0,
        };
        type Function<'a> = &'a dyn Fn(f64) -> f64;
        let cases: [(Unary, Function<'_>); 5] = [
            (Unary::Tanh, &f64::tanh),
            (Unary::Erf, &|x| {
                if x.abs() > 6.0 { x.signum() } else { erf(x) }
            }),
            (Unary::Softplus, &softplus),
            (Unary::Mish, &|x| x * softplus(x).tanh()),
            (elu, &|x| {
                1.25 * x.max(0.0) + 0.5 * (2.0 * x.min(0.0)).exp_m1()
            }),
        ];
        for isa in Isa::available() {
            for (op, exact) in cases {
                let mut values = arguments();
                map(isa, op, &mut values);
                for (x, value) in arguments().into_iter().zip(values) {
                    let exact = exact(f64::from(x));
                    let error = (f64::from(value) - exact).abs();
                    let bound = f64::from(MAX_RELATIVE_ERROR) * exact.abs();
                    // Results below the normal numbers may be 0.
                    let least = f64::from(f32::MIN_POSITIVE) * 256.0;
                    assert!(
                        error <= bound.max(least),
                        "{}: {op:?} of {x} = {value}",
                        isa.name()
                    );
                }
            }
        }
    }

    #[test]
    fn gelu_is_within_the_error_of_what_it_is_made_of() {
        let tanh = |x: f64| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        };
        for isa in Isa::available() {
            let x: Vec<f32> = arguments().into_iter().filter(|x| x.abs() < 20.0).collect();
            let mut values = x.clone();
            map(isa, Unary::GeluTanh, &mut values);
            let mut halves: Vec<f32> = x.iter().map(|x| x * 0.5f32.sqrt()).collect();
            map(isa, Unary::Erf, &mut halves);
            let mut exact = x.clone();
            map(isa, Unary::Gelu, &mut exact);
            for i in 0..x.len() {
                let tolerance = MAX_RELATIVE_ERROR * x[i].abs();
                assert!((f64::from(values[i]) - tanh(f64::from(x[i]))).abs() <= tolerance.into());
                assert!((exact[i] - 0.5 * x[i] * (1.0 + halves[i])).abs() <= tolerance);
            }
        }
    }

    #[test]
    fn functions_keep_nan_and_their_limits() {
        let (infinity, nan) = (f32::INFINITY, f32::NAN);
        let elu = Unary::Elu {
            slope: 1.0,
            alpha: 2.0,
            rate: 1.0,
        };
        let cases = [
            (Unary::Tanh, [-1.0, 1.0]),
            (Unary::Erf, [-1.0, 1.0]),
            (Unary::Softplus, [0.0, infinity]),
            (elu, [-2.0, infinity]),
        ];
        for isa in Isa::available() {
            for (op, limits) in cases {
                let mut values = [-infinity, infinity, nan];
                map(isa, op, &mut values);
                assert_eq!(values[..2], limits, "{op:?}");
                assert!(values[2].is_nan(), "{op:?}");
            }
        }
    }
}
