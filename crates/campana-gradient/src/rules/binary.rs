//! Functions of broadcast operands.

use campana_tensor::TensorData;
use rayon::prelude::*;

use crate::broadcast::{expand, reduce};
use crate::error::Fault;
use crate::rule::{Gradients, Reads, Rule, Step};

/// A function of broadcast operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    PRelu,
    /// Of any number of operands: the sum, times one over their number.
    Mean,
    /// The largest operand's element, or the smallest.
    Extremum,
    /// By a condition that has no gradient.
    Where,
}

/// The rule of an operator of this name.
pub(crate) fn of(name: &str) -> Result<Function, Fault> {
    Ok(match name {
        "Add" | "Sum" => Function::Add,
        "Sub" => Function::Sub,
        "Mul" => Function::Mul,
        "Div" => Function::Div,
        "Pow" => Function::Pow,
        "PRelu" => Function::PRelu,
        "Mean" => Function::Mean,
        "Max" | "Min" => Function::Extremum,
        "Where" => Function::Where,
        _ => return Err(Fault::no_gradient()),
    })
}

impl Rule for Function {
    fn reads(&self, wanted: &[bool]) -> Reads {
        let of = |input: usize| wanted.get(input).copied().unwrap_or(false);
        match self {
            Self::Add | Self::Sub | Self::Mean => Reads::NOTHING,
            Self::Mul => Reads::of_product(wanted),
            Self::Div if !of(1) => Reads::inputs(&[1]),
            Self::Div | Self::Pow | Self::PRelu => Reads::inputs(&[0, 1]),
            Self::Extremum => Reads {
                inputs: (0..wanted.len()).collect(),
                output: true,
            },
            Self::Where => Reads::inputs(&[0]),
        }
    }

    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault> {
        let gradient = Step::first(outputs)?;
        let shape = at.output_shape(0)?;
        let operand = |input: usize| expand(at.floats(input)?, at.shape(input)?, shape);
        let wanted: Vec<usize> = (0..at.node.inputs.len()).filter(|&i| at.wants(i)).collect();
        let mut gradients = vec![None; at.node.inputs.len()];
        for input in wanted {
            let own = match self {
                Self::Add => gradient.clone(),
                Self::Sub if input == 0 => gradient.clone(),
                Self::Sub => gradient.par_iter().map(|value| -value).collect(),
                Self::Mean => {
                    let share = (at.node.inputs.len() as f32).recip();
                    gradient.par_iter().map(|value| share * value).collect()
                }
                Self::Mul => zip(&gradient, &operand(1 - input)?, |g, other| g * other),
                Self::Div if input == 0 => zip(&gradient, &operand(1)?, |g, divisor| g / divisor),
                Self::Div => {
                    let by = zip(&operand(0)?, &operand(1)?, |a, b| -a / (b * b));
                    zip(&gradient, &by, |g, by| g * by)
                }
                Self::Pow => {
                    let (base, exponent) = (operand(0)?, operand(1)?);
                    let by = match input {
                        0 => zip(&base, &exponent, |a, b| b * a.powf(b - 1.0)),
                        _ => zip(&base, &exponent, |a, b| a.powf(b) * a.ln()),
                    };
                    zip(&gradient, &by, |g, by| g * by)
                }
                Self::PRelu => {
                    let other = operand(1 - input)?;
                    match input {
                        0 => {
                            let x = at.floats(0)?;
                            let by = zip(x, &other, |x, slope| if x < 0.0 { slope } else { 1.0 });
                            zip(&gradient, &by, |g, by| g * by)
                        }
                        _ => zip(&gradient, &other, |g, x| g * x.min(0.0)),
                    }
                }
                Self::Extremum => {
                    let chosen = zip(&operand(input)?, at.output()?, |x, y| {
                        f32::from(u8::from(x == y))
                    });
                    zip(&gradient, &chosen, |g, by| g * by)
                }
                Self::Where => {
                    let TensorData::Bool(condition) = at.tensor(0)?.data() else {
                        return Err(Fault::invalid("a condition that is not boolean"));
                    };
                    let holds: Vec<f32> = condition
                        .iter()
                        .map(|&holds| f32::from(u8::from(holds == (input == 1))))
                        .collect();
                    let holds = expand(&holds, at.shape(0)?, shape)?;
                    zip(&gradient, &holds, |g, by| g * by)
                }
            };
            gradients[input] = Some(reduce(own, shape, at.shape(input)?)?);
        }
        Ok(gradients)
    }
}

fn zip(left: &[f32], right: &[f32], of: impl Fn(f32, f32) -> f32 + Sync + Send) -> Vec<f32> {
    let pairs = left.par_iter().zip(right);
    pairs.map(|(&left, &right)| of(left, right)).collect()
}
