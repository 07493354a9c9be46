//! Functions of each element, a vector at a time.
//!
//! Bounds of the approximations, held by the tests over the whole range:
//! [`Unary::Exp`] within [`MAX_EXP_ERROR_ULPS`], [`Unary::Sigmoid`] and
//! [`Unary::Silu`] within [`MAX_SIGMOID_ERROR`] absolutely (relative to 1 and
//! to the argument).

use crate::isa::{Isa, Kernel};
use crate::vector::Vector;

/// Greatest error of the exponential, in units of the last place of results
/// that are normal numbers; smaller ones become 0.
pub const MAX_EXP_ERROR_ULPS: u32 = 3;

/// Greatest error of the sigmoid function.
pub const MAX_SIGMOID_ERROR: f32 = 2e-7;

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
}

/// A function of two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is named after what it computes")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
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
                each!(x => x.at_least(zero).add(x.at_most(zero).mul(alpha)));
            }
        }
    }
}

/// `e^x`: `2^n e^r` with `n` whole and `|r| <= ln 2 / 2`, where `e^r` is its
/// Taylor polynomial of degree 7 (truncation below 2^-27).
#[inline(always)]
fn exp<V: Vector>(x: V) -> V {
    // ln 2 in two parts, of which the first times a whole number of 8 bits is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Beyond these the result is 0 or infinite.
    let bounded = x.at_least(V::splat(-87.3)).at_most(V::splat(89.0));
    let n = bounded.mul(V::splat(std::f32::consts::LOG2_E)).round();
    let r = n.mul_add(V::splat(-LN_2_HIGH), bounded);
    let r = n.mul_add(V::splat(-LN_2_LOW), r);
    let mut sum = V::splat(1.0 / 5040.0);
    for coefficient in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        sum = sum.mul_add(r, V::splat(coefficient));
    }
    // 2^128 is no float: two factors.
    let half = n.mul(V::splat(0.5)).round();
    let result = sum.mul(half.exp2_whole()).mul(n.sub(half).exp2_whole());
    // e^-87.3 and e^89 at the bounds become 0 and infinity beyond them:
    // shifting by the excess does that without a comparison, and keeps NaN.
    let below = x.sub(bounded).at_most(V::splat(0.0));
    result.mul(below.add(V::splat(1.0)).at_least(V::splat(0.0)))
}

#[inline(always)]
fn sigmoid<V: Vector>(x: V) -> V {
    let one = V::splat(1.0);
    one.div(one.add(exp(V::splat(0.0).sub(x))))
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
                let left: Vec<f32> = (0..len).map(|i| i as f32 + 1.0).collect();
                let right: Vec<f32> = left.iter().map(|v| v * 0.5 + 2.0).collect();
                let mut output = vec![0.0; len];
                for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
                    let plain = |a: f32, b: f32| match op {
                        Binary::Add => a + b,
                        Binary::Sub => a - b,
                        Binary::Mul => a * b,
                        Binary::Div => a / b,
                    };
                    zip(isa, op, &left, &right, &mut output);
                    assert!((0..len).all(|i| output[i] == plain(left[i], right[i])));
                    zip_scalar(isa, op, &left, 3.0, &mut output);
                    assert!((0..len).all(|i| output[i] == plain(left[i], 3.0)));
                }
            }
        }
    }
}
