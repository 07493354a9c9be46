//! Functions of each element alone: their derivatives.

use rayon::prelude::*;

use crate::error::Fault;
use crate::rule::{Gradients, Reads, Rule, Step};

/// Elements that are worked on at once.
const PART: usize = 1 << 15;

/// A function by its derivative.
#[derive(Clone, Copy)]
pub(crate) struct Function {
    of: Of,
    /// The derivative by the element, or by the result, and the attributes.
    derivative: fn(f32, &Attributes) -> f32,
    /// Attributes with their defaults.
    attributes: [(&'static str, f32); 2],
    /// Whether inputs 1 and 2 are its bounds.
    has_bounds: bool,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a function of the {:?}", self.of)
    }
}

/// What a derivative is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Nothing,
    Input,
    Output,
}

/// Numbers that a derivative depends on besides.
#[derive(Clone, Copy, Debug)]
struct Attributes {
    /// The first two attributes of the operator, or the bounds of a clip.
    values: [f32; 2],
    /// Whether a `Gelu` is approximated by the hyperbolic tangent.
    is_tanh: bool,
}

const NONE: [(&str, f32); 2] = [("", 0.0); 2];

/// The rule of an operator of this name.
pub(crate) fn of(name: &str) -> Result<Function, Fault> {
    let function = |of, derivative, attributes| Function {
        of,
        derivative,
        attributes,
        has_bounds: name == "Clip",
    };
    let [alpha, beta] = ["alpha", "beta"];
    Ok(match name {
        "Identity" | "Dropout" => function(Of::Nothing, |_, _| 1.0, NONE),
        "Neg" => function(Of::Nothing, |_, _| -1.0, NONE),
        "Relu" => function(Of::Output, |y, _| f32::from(u8::from(y > 0.0)), NONE),
        "Clip" => function(Of::Output, inside, NONE),
        "LeakyRelu" => function(Of::Input, leaky, [(alpha, 0.01), ("", 0.0)]),
        "Elu" => function(
            Of::Output,
            |y, a| if y > 0.0 { 1.0 } else { y + a.values[0] },
            [(alpha, 1.0), ("", 0.0)],
        ),
        "Selu" => function(
            Of::Output,
            |y, a| {
                let [alpha, gamma] = a.values;
                if y > 0.0 { gamma } else { y + alpha * gamma }
            },
            [(alpha, 1.673_263_2), ("gamma", 1.050_701)],
        ),
        "Celu" => function(
            Of::Output,
            |y, a| if y > 0.0 { 1.0 } else { y / a.values[0] + 1.0 },
            [(alpha, 1.0), ("", 0.0)],
        ),
        "Sigmoid" => function(Of::Output, |y, _| y * (1.0 - y), NONE),
        "HardSigmoid" => function(
            Of::Output,
            |y, a| if y > 0.0 && y < 1.0 { a.values[0] } else { 0.0 },
            [(alpha, 0.2), (beta, 0.5)],
        ),
        "HardSwish" => function(Of::Input, hard_swish, NONE),
        "Swish" => function(
            Of::Input,
            |x, a| {
                let gate = sigmoid(a.values[0] * x);
                gate + a.values[0] * x * gate * (1.0 - gate)
            },
            [(alpha, 1.0), ("", 0.0)],
        ),
        "Tanh" => function(Of::Output, |y, _| 1.0 - y * y, NONE),
        "Softplus" => function(Of::Input, |x, _| sigmoid(x), NONE),
        "Softsign" => function(Of::Input, |x, _| (1.0 + x.abs()).powi(-2), NONE),
        "Mish" => function(Of::Input, mish, NONE),
        "Gelu" => function(Of::Input, gelu, NONE),
        "Erf" => function(
            Of::Input,
            |x, _| std::f32::consts::FRAC_2_SQRT_PI * (-x * x).exp(),
            NONE,
        ),
        "Exp" => function(Of::Output, |y, _| y, NONE),
        "Log" => function(Of::Input, |x, _| x.recip(), NONE),
        "Sqrt" => function(Of::Output, |y, _| 0.5 / y, NONE),
        "Reciprocal" => function(Of::Output, |y, _| -y * y, NONE),
        "Abs" => function(
            Of::Input,
            |x, _| if x == 0.0 { 0.0 } else { x.signum() },
            NONE,
        ),
        "Sin" => function(Of::Input, |x, _| x.cos(), NONE),
        "Cos" => function(Of::Input, |x, _| -x.sin(), NONE),
        "ThresholdedRelu" => function(
            Of::Input,
            |x, a| f32::from(u8::from(x > a.values[0])),
            [(alpha, 1.0), ("", 0.0)],
        ),
        _ => return Err(Fault::no_gradient()),
    })
}

fn inside(y: f32, bounds: &Attributes) -> f32 {
    let [low, high] = bounds.values;
    f32::from(u8::from(y > low && y < high))
}

fn leaky(x: f32, attributes: &Attributes) -> f32 {
    if x < 0.0 { attributes.values[0] } else { 1.0 }
}

fn hard_swish(x: f32, _: &Attributes) -> f32 {
    match x {
        x if x <= -3.0 => 0.0,
        x if x >= 3.0 => 1.0,
        x => x / 3.0 + 0.5,
    }
}

fn sigmoid(x: f32) -> f32 {
    (1.0 + (-x).exp()).recip()
}

/// Of `x tanh(softplus(x))`.
fn mish(x: f32, _: &Attributes) -> f32 {
    let softplus = if x > 20.0 { x } else { x.exp().ln_1p() };
    let tanh = softplus.tanh();
    tanh + x * (1.0 - tanh * tanh) * sigmoid(x)
}

/// Of `x Phi(x)` with the normal distribution's `Phi`, or of its approximation.
fn gelu(x: f32, attributes: &Attributes) -> f32 {
    const CUBIC: f32 = 0.044_715;
    let root = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
    if attributes.is_tanh {
        let tanh = (root * (x + CUBIC * x * x * x)).tanh();
        let inner = root * (1.0 + 3.0 * CUBIC * x * x);
        return 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner;
    }
    let density = 0.5 * root * (-0.5 * x * x).exp();
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * density
}

/// The error function to 1.5e-7.
///
/// # References
///
/// Abramowitz, Stegun, "Handbook of Mathematical Functions", 1964, formula 7.1.26.
fn erf(x: f32) -> f32 {
    let t = (1.0 + 0.327_591_1 * x.abs()).recip();
    let polynomial = [
        1.061_405_4,
        -1.453_152,
        1.421_413_7,
        -0.284_496_74,
        0.254_829_6,
    ]
    .iter()
    .fold(0.0, |sum, coefficient| (sum + coefficient) * t);
    (1.0 - polynomial * (-x * x).exp()).copysign(x)
}

impl Rule for Function {
    fn reads(&self, _: &[bool]) -> Reads {
        match self.of {
            Of::Nothing => Reads::NOTHING,
            Of::Input => Reads::inputs(&[0]),
            Of::Output if self.has_bounds => Reads {
                inputs: vec![1, 2],
                output: true,
            },
            Of::Output => Reads::OUTPUT,
        }
    }

    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault> {
        let mut gradient = Step::first(outputs)?;
        let mut gradients = vec![None; at.node.inputs.len()];
        let values = match self.of {
            Of::Nothing => {
                let factor = (self.derivative)(0.0, &self.attributes(at)?);
                if factor != 1.0 {
                    gradient.iter_mut().for_each(|value| *value *= factor);
                }
                gradients[0] = Some(gradient);
                return Ok(gradients);
            }
            Of::Input => at.floats(0)?,
            Of::Output => at.output()?,
        };
        if values.len() != gradient.len() {
            return Err(Fault::invalid("a gradient of another size"));
        }
        let attributes = self.attributes(at)?;
        for input in [1, 2] {
            if at.wants(input) {
                // What is held to a bound moves with it.
                let bound = attributes.values[input - 1];
                let held = gradient.iter().zip(values);
                let held = held.filter(|(_, value)| **value == bound);
                gradients[input] = Some(vec![held.map(|(gradient, _)| gradient).sum()]);
            }
        }
        let parts = gradient.par_chunks_mut(PART).zip(values.par_chunks(PART));
        parts.for_each(|(gradient, values)| {
            for (gradient, &value) in gradient.iter_mut().zip(values) {
                *gradient *= (self.derivative)(value, &attributes);
            }
        });
        gradients[0] = Some(gradient);
        Ok(gradients)
    }
}

impl Function {
    fn attributes(&self, at: &Step<'_>) -> Result<Attributes, Fault> {
        if self.has_bounds {
            return Ok(Attributes {
                values: [
                    bound(at, 1, "min", f32::NEG_INFINITY)?,
                    bound(at, 2, "max", f32::INFINITY)?,
                ],
                is_tanh: false,
            });
        }
        Ok(Attributes {
            values: self
                .attributes
                .map(|(name, default)| at.node.float(name, default)),
            is_tanh: at.node.text("approximate", "none") == "tanh",
        })
    }
}

/// A bound of a clip: an input since opset 11, an attribute before.
fn bound(at: &Step<'_>, input: usize, attribute: &str, default: f32) -> Result<f32, Fault> {
    if !at.has(input) {
        return Ok(at.node.float(attribute, default));
    }
    let values = at.floats(input)?;
    values
        .first()
        .copied()
        .ok_or_else(|| Fault::invalid("a bound without elements"))
}
