//! Functions of one element, and those that normalize.

use campana_ir::op::axis_from_start;

use super::{Converter, NO_FORM};
use crate::error::Converted;
use crate::layout::{self, laid_out};
use crate::schema::{Activation, Code, Options};
use crate::values::{Made, Params};

/// What TFLite's int8 LOGISTIC and SOFTMAX give: values from 0 to 1.
const PROBABILITY: Params = Params {
    scale: 1.0 / 256.0,
    zero_point: -128,
};

/// What TFLite's int8 TANH gives: values from -1 to 1.
const SYMMETRIC: Params = Params {
    scale: 1.0 / 128.0,
    zero_point: 0,
};

/// Slope of HardSigmoid where none is given, and of HardSwish.
const HARD_SIGMOID_SLOPE: f32 = 0.2;

/// How an operator computes on int8.
enum OnIntegers {
    No,
    /// Any parameters of input and output.
    Any,
    /// The output has these.
    Output(Params),
}

impl Converter<'_> {
    pub(super) fn unary(&mut self, at: usize) -> Converted {
        use OnIntegers::{Any, No, Output};
        let node = self.network.node(at);
        let (code, options, on_integers) = match node.op_type.as_str() {
            "HardSigmoid" => return self.hard_sigmoid(at),
            "Reciprocal" => return self.reciprocal(at),
            "Elu" if node.float("alpha", 1.0) != 1.0 => {
                return Err("has an alpha other than 1, which TFLite's ELU has not".to_owned());
            }
            "Sigmoid" => (Code::Logistic, Options::None, Output(PROBABILITY)),
            "Tanh" => (Code::Tanh, Options::None, Output(SYMMETRIC)),
            "HardSwish" => (Code::HardSwish, Options::None, Any),
            "LeakyRelu" => {
                let alpha = node.float("alpha", 0.01);
                (Code::LeakyRelu, Options::LeakyRelu { alpha }, Any)
            }
            "Gelu" => {
                let approximate = node.text("approximate", "none") == "tanh";
                (Code::Gelu, Options::Gelu { approximate }, No)
            }
            "Elu" => (Code::Elu, Options::None, No),
            "Exp" => (Code::Exp, Options::None, No),
            "Log" => (Code::Log, Options::None, No),
            "Abs" => (Code::Abs, Options::None, No),
            "Neg" => (Code::Neg, Options::None, No),
            "Sqrt" => (Code::Sqrt, Options::None, No),
            "Sin" => (Code::Sin, Options::None, No),
            "Cos" => (Code::Cos, Options::None, No),
            "Floor" => (Code::Floor, Options::None, No),
            "Ceil" => (Code::Ceil, Options::None, No),
            "Round" => (Code::Round, Options::None, No),
            _ => return Err(NO_FORM.to_owned()),
        };
        let order = self.values.order(&node.inputs[0])?;
        self.function(at, (code, options, on_integers), order)
    }

    /// An operator that keeps the extents of its input.
    fn function(
        &mut self,
        at: usize,
        (code, options, on_integers): (Code, Options, OnIntegers),
        order: Vec<usize>,
    ) -> Converted {
        let node = self.network.node(at);
        let (input, output) = (node.inputs[0].as_str(), node.outputs[0].as_str());
        let shape = self.values.shape(input)?;
        let own = self.values.params(input);
        let params = own.zip(self.rounded(output));
        let params = match on_integers {
            OnIntegers::No => None,
            OnIntegers::Any => params,
            OnIntegers::Output(own) => params.map(|(input, _)| (input, own)),
        };
        let tensor = self
            .values
            .operand(input, params.map(|(input, _)| input), &order)?;
        let extents = laid_out(&shape, &order);
        let made = self
            .values
            .activation(output, extents, params.map(|(_, output)| output));
        self.values.operator(code, vec![tensor], made, options);
        let made = match self.rounded(output).filter(|_| params.is_some()) {
            Some(rounded) => self.values.retyped(made, Some(rounded)),
            None => made,
        };
        self.values.define(output, shape, order, made);
        Ok(())
    }

    /// `clamp(alpha x + beta, 0, 1)` by its arithmetic.
    fn hard_sigmoid(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let (input, output) = (node.inputs[0].as_str(), node.outputs[0].as_str());
        let (alpha, beta) = (
            node.float("alpha", HARD_SIGMOID_SLOPE),
            node.float("beta", 0.5),
        );
        let order = self.values.order(input)?;
        let shape = self.values.shape(input)?;
        let extents = laid_out(&shape, &order);
        let mut tensor = self.values.operand(input, None, &order)?;
        let steps = [
            (Code::Mul, Options::Mul(Activation::None), alpha),
            (Code::Add, Options::Add(Activation::None), beta),
        ];
        for (code, options, constant) in steps {
            let constant = self.values.scalar(constant, None);
            let next = self.values.activation(output, extents.clone(), None);
            self.values
                .operator(code, vec![tensor, constant], next, options);
            tensor = next;
        }
        let clamped = self.clamped(tensor, [0.0, 1.0], None);
        self.values.define(output, shape, order, clamped);
        Ok(())
    }

    fn reciprocal(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let (input, output) = (node.inputs[0].as_str(), node.outputs[0].as_str());
        let order = self.values.order(input)?;
        let shape = self.values.shape(input)?;
        let tensor = self.values.operand(input, None, &order)?;
        let one = self.values.scalar(1.0, None);
        let made = Made {
            shape,
            order,
            params: None,
        };
        let operator = (Code::Div, Options::Div(Activation::None));
        self.values.make(output, made, operator, vec![one, tensor]);
        Ok(())
    }

    /// Softmax and its logarithm over the axis that lies last, and other
    /// normalizations.
    pub(super) fn normalized(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let function = match node.op_type.as_str() {
            "Softmax" => (
                Code::Softmax,
                Options::Softmax,
                OnIntegers::Output(PROBABILITY),
            ),
            "LogSoftmax" => (Code::LogSoftmax, Options::None, OnIntegers::No),
            "LRN" => return self.response_normalization(at),
            _ => return Err(NO_FORM.to_owned()),
        };
        let input = node.inputs[0].as_str();
        let rank = self.values.shape(input)?.len();
        let axis = axis_from_start(node.int("axis", -1), rank).ok_or("has no such axis")?;
        let mut order = self.values.order(input)?;
        if order.last() != Some(&axis) {
            order.retain(|&own| own != axis);
            order.push(axis);
        }
        self.function(at, function, order)
    }

    /// Local response normalization over neighbouring channels.
    fn response_normalization(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let size = usize::try_from(node.int("size", 0)).unwrap_or(0);
        if size.is_multiple_of(2) {
            return Err("has an even number of neighbours".to_owned());
        }
        let options = Options::LocalResponseNormalization {
            radius: size / 2,
            bias: node.float("bias", 1.0),
            alpha: node.float("alpha", 1e-4) / size as f32,
            beta: node.float("beta", 0.75),
        };
        let rank = self.values.shape(&node.inputs[0])?.len();
        let code = Code::LocalResponseNormalization;
        let order = layout::channels_last(rank);
        self.function(at, (code, options, OnIntegers::No), order)
    }
}
