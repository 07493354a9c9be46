//! Transcendental functions of vectors.

use crate::vector::Vector;

/// A polynomial, its highest coefficient first.
#[inline(always)]
fn polynomial<V: Vector, const N: usize>(x: V, coefficients: [f32; N]) -> V {
    let mut sum = V::splat(coefficients[0]);
    for coefficient in &coefficients[1..] {
        sum = sum.mul_add(x, V::splat(*coefficient));
    }
    sum
}

/// The whole `n` and the `r` of `x = n ln 2 + r`, `|r| <= ln 2 / 2`.
#[inline(always)]
fn reduced<V: Vector>(x: V) -> [V; 2] {
    // ln 2 in two parts, of which the first times a whole number of 8 bits is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
    let r = n.mul_add(V::splat(-LN_2_HIGH), x);
    [n, n.mul_add(V::splat(-LN_2_LOW), r)]
}

/// Coefficients of the Taylor polynomial of `(e^r - 1 - r) / r^2`; with those of
/// 1 and r it has degree 7 (truncation below 2^-27 for `|r| <= ln 2 / 2`).
const EXP_TAIL: [f32; 6] = [
    1.0 / 5040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
];

/// `e^x`: `2^n e^r` with `n` whole and `|r| <= ln 2 / 2`, where `e^r` is its
/// Taylor polynomial.
#[inline(always)]
pub(super) fn exp<V: Vector>(x: V) -> V {
    // Beyond these the result is 0 or infinite.
    let bounded = x.at_least(V::splat(-87.3)).at_most(V::splat(89.0));
    let [n, r] = reduced(bounded);
    let one = V::splat(1.0);
    let sum = polynomial(r, EXP_TAIL).mul_add(r, one).mul_add(r, one);
    // 2^128 is no float: two factors.
    let half = n.mul(V::splat(0.5)).round();
    let result = sum.mul(half.exp2_whole()).mul(n.sub(half).exp2_whole());
    // e^-87.3 and e^89 at the bounds become 0 and infinity beyond them:
    // shifting by the excess does that without a comparison, and keeps NaN.
    let below = x.sub(bounded).at_most(V::splat(0.0));
    result.mul(below.add(one).at_least(V::splat(0.0)))
}

/// `e^x - 1` for `x` up to 80: `2^n (e^r - 1) + 2^n - 1`, where nothing
/// cancels near zero.
#[inline(always)]
pub(super) fn exp_m1<V: Vector>(x: V) -> V {
    let [n, r] = reduced(x.at_least(V::splat(-80.0)).at_most(V::splat(80.0)));
    let tail = polynomial(r, EXP_TAIL);
    let power = n.exp2_whole();
    // `r` itself comes last: it is most of the sum.
    let below_one = tail.mul(r).mul_add(r, r);
    below_one.mul_add(power, power.sub(V::splat(1.0)))
}

#[inline(always)]
pub(super) fn sigmoid<V: Vector>(x: V) -> V {
    let one = V::splat(1.0);
    one.div(one.add(exp(V::splat(0.0).sub(x))))
}

/// `(e^2x - 1) / (e^2x + 1)`, which is 1 in float32 from 9.02 on.
#[inline(always)]
pub(super) fn tanh<V: Vector>(x: V) -> V {
    let bounded = x.at_least(V::splat(-9.1)).at_most(V::splat(9.1));
    let grown = exp_m1(bounded.add(bounded));
    grown.div(grown.add(V::splat(2.0)))
}

/// `x P(x^2) / Q(x^2)` up to 3.92, from where the function is 1 in float32.
///
/// The polynomials of degree 5 have the least greatest relative error there,
/// 1.9e-8, found by Lawson's iteration on least squares weighted by `1 / Q`.
#[inline(always)]
pub(super) fn erf<V: Vector>(x: V) -> V {
    let bounded = x.at_least(V::splat(-3.92)).at_most(V::splat(3.92));
    let square = bounded.mul(bounded);
    let above = polynomial(
        square,
        [
            2.050_136e-6,
            2.848_809_1e-4,
            3.765_463_5e-3,
            5.274_824_7e-2,
            0.190_402_66,
            std::f32::consts::FRAC_2_SQRT_PI,
        ],
    );
    let below = polynomial(
        square,
        [
            3.809_213e-5,
            1.162_501_6e-3,
            1.496_890_5e-2,
            0.114_107_56,
            0.502_072_7,
            1.0,
        ],
    );
    let result = bounded.mul(above).div(below);
    result.at_least(V::splat(-1.0)).at_most(V::splat(1.0))
}

/// `max(x, 0) + ln(1 + u)` with `u = e^-|x|`; the logarithm is
/// `2 atanh(u / (2 + u))` by its Taylor series up to the power 15 (truncation
/// below 2^-28, the argument is at most 1/3).
#[inline(always)]
pub(super) fn softplus<V: Vector>(x: V) -> V {
    let zero = V::splat(0.0);
    let small = exp(x.at_most(zero.sub(x)));
    let s = small.div(small.add(V::splat(2.0)));
    let series = polynomial(
        s.mul(s),
        [
            2.0 / 15.0,
            2.0 / 13.0,
            2.0 / 11.0,
            2.0 / 9.0,
            2.0 / 7.0,
            2.0 / 5.0,
            2.0 / 3.0,
            2.0,
        ],
    );
    series.mul_add(s, x.at_least(zero))
}

/// `x n / (n + 2)` with `n = e^x (e^x + 2)`: what `tanh` of a logarithm is.
/// From 20 on the quotient is 1 in float32.
#[inline(always)]
pub(super) fn mish<V: Vector>(x: V) -> V {
    let two = V::splat(2.0);
    let power = exp(x.at_most(V::splat(20.0)));
    let n = power.mul(power.add(two));
    x.mul(n.div(n.add(two)))
}
