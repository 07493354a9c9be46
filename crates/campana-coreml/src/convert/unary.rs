//! Functions of one element.

use super::{Converter, NO_FORM};
use crate::error::Converted;
use crate::program::Given;

/// Slope of HardSigmoid where none is given.
const HARD_SIGMOID_SLOPE: f32 = 0.2;

/// Constants of Selu where none are given.
const SELU_ALPHA: f32 = 1.673_263_2;
const SELU_GAMMA: f32 = 1.050_701;

impl Converter<'_> {
    pub(super) fn unary(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let alpha = |default| node.float("alpha", default);
        let kind = match node.op_type.as_str() {
            "HardSigmoid" => {
                let beta = node.float("beta", 0.5);
                let constants = [("alpha", alpha(HARD_SIGMOID_SLOPE)), ("beta", beta)];
                return self.function(at, "sigmoid_hard", &constants);
            }
            "LeakyRelu" => return self.function(at, "leaky_relu", &[("alpha", alpha(0.01))]),
            "Elu" => return self.function(at, "elu", &[("alpha", alpha(1.0))]),
            "ThresholdedRelu" => {
                return self.function(at, "thresholded_relu", &[("alpha", alpha(1.0))]);
            }
            "Log" => {
                // Core ML adds this before it takes the logarithm.
                return self.function(at, "log", &[("epsilon", 0.0)]);
            }
            "Selu" => return self.selu(at),
            "Gelu" => return self.gelu(at),
            "HardSwish" => return self.hard_swish(at),
            "Mish" => return self.gated(at, &["softplus", "tanh"]),
            "Swish" if alpha(1.0) == 1.0 => return self.plain(at, "silu"),
            "Neg" => return self.with_number(at, "mul", -1.0, false),
            "Reciprocal" => return self.with_number(at, "real_div", 1.0, true),
            "Sigmoid" => "sigmoid",
            "Tanh" => "tanh",
            "Softplus" => "softplus",
            "Softsign" => "softsign",
            "Erf" => "erf",
            "Exp" => "exp",
            "Abs" => "abs",
            "Sqrt" => "sqrt",
            "Sin" => "sin",
            "Cos" => "cos",
            "Tan" => "tan",
            "Asin" => "asin",
            "Acos" => "acos",
            "Atan" => "atan",
            "Sinh" => "sinh",
            "Cosh" => "cosh",
            "Atanh" => "atanh",
            "Floor" => "floor",
            "Ceil" => "ceil",
            "Round" => "round",
            "Sign" => "sign",
            _ => return Err(NO_FORM.to_owned()),
        };
        self.plain(at, kind)
    }

    /// A function with constants beside its operand.
    fn function(&mut self, at: usize, kind: &str, constants: &[(&str, f32)]) -> Converted {
        let x = self.activation(&self.network.node(at).inputs[0])?;
        let shape = x.shape.clone();
        let mut inputs: Vec<(&str, Given)> = vec![("x", x.into())];
        for &(name, value) in constants {
            inputs.push((name, self.program.float(value)?.into()));
        }
        self.make(at, kind, inputs, &shape)
    }

    /// A function of the operand and a number, which may stand first.
    fn with_number(&mut self, at: usize, kind: &str, number: f32, is_first: bool) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let number = self.program.float(number)?;
        let (x, y) = if is_first { (number, x) } else { (x, number) };
        let var = self.two(kind, &x, &y)?;
        self.define(at, var);
        Ok(())
    }

    /// The operand times functions of it, one after another.
    fn gated(&mut self, at: usize, functions: &[&str]) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let mut gate = x.clone();
        for kind in functions {
            let inputs = vec![("x", gate.into())];
            gate = self.program.operation(kind, inputs, &x.shape)?;
        }
        let var = self.two("mul", &x, &gate)?;
        self.define(at, var);
        Ok(())
    }

    fn gelu(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let mode = match node.text("approximate", "none") {
            "tanh" => "TANH_APPROXIMATION",
            _ => "EXACT",
        };
        let x = self.activation(&node.inputs[0])?;
        let shape = x.shape.clone();
        let mode = self.program.text(mode);
        self.make(
            at,
            "gelu",
            vec![("x", x.into()), ("mode", mode.into())],
            &shape,
        )
    }

    /// `x * clamp(x / 6 + 1 / 2, 0, 1)`.
    fn hard_swish(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let (alpha, beta) = (self.program.float(1.0 / 6.0)?, self.program.float(0.5)?);
        let inputs = vec![
            ("x", (&x).into()),
            ("alpha", alpha.into()),
            ("beta", beta.into()),
        ];
        let gate = self.program.operation("sigmoid_hard", inputs, &x.shape)?;
        let var = self.two("mul", &x, &gate)?;
        self.define(at, var);
        Ok(())
    }

    fn selu(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let gamma = node.float("gamma", SELU_GAMMA);
        let alpha = node.float("alpha", SELU_ALPHA);
        self.function(at, "elu", &[("alpha", alpha)])?;
        let x = self.activation(&node.outputs[0])?;
        let gamma = self.program.float(gamma)?;
        let var = self.two("mul", &x, &gamma)?;
        self.define(at, var);
        Ok(())
    }
}
