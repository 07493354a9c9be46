//! Reductions over axes.

use campana_ir::op::{Reduce, axis_from_start};

use super::{Converter, NO_FORM};
use crate::error::Converted;
use crate::layout::{laid_out, place, without};
use crate::schema::{Activation, Code, Options};
use crate::values::Made;

/// A reduction, and the functions of elements before and behind it.
#[derive(Clone, Copy)]
pub(super) struct Reduction {
    before: Before,
    code: Code,
    behind: Option<Code>,
}

/// What becomes of elements before they are reduced.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    Magnitudes,
    Squares,
}

impl From<Code> for Reduction {
    fn from(code: Code) -> Self {
        Self {
            before: Before::Nothing,
            code,
            behind: None,
        }
    }
}

impl Reduction {
    fn of(op_type: &str) -> Option<Self> {
        let sum = |before, behind| Self {
            before,
            code: Code::Sum,
            behind,
        };
        Some(match op_type {
            "ReduceMean" => Code::Mean.into(),
            "ReduceSum" => Code::Sum.into(),
            "ReduceMax" => Code::ReduceMax.into(),
            "ReduceMin" => Code::ReduceMin.into(),
            "ReduceProd" => Code::ReduceProd.into(),
            "ReduceL1" => sum(Before::Magnitudes, None),
            "ReduceL2" => sum(Before::Squares, Some(Code::Sqrt)),
            "ReduceSumSquare" => sum(Before::Squares, None),
            "ReduceLogSum" => sum(Before::Nothing, Some(Code::Log)),
            _ => return None,
        })
    }
}

impl Converter<'_> {
    pub(super) fn reduce(&mut self, at: usize, reduce: &Reduce) -> Converted {
        let node = self.network.node(at);
        let reduction = Reduction::of(&node.op_type).ok_or(NO_FORM)?;
        let input = node.inputs[0].as_str();
        let shape = self.values.shape(input)?;
        let order = self.values.order(input)?;
        let given = match (&reduce.axes, node.inputs.get(1)) {
            (Some(axes), _) => axes.clone(),
            (None, Some(name)) if !name.is_empty() => {
                let axes = self.parameters.integer_list(name);
                axes.ok_or("has axes that only a run knows")?
            }
            _ => (0..shape.len() as i64).collect(),
        };
        let axes = given.iter().map(|&axis| axis_from_start(axis, shape.len()));
        let axes: Option<Vec<usize>> = axes.collect();
        let axes = axes
            .filter(|axes| !axes.is_empty())
            .ok_or("has no such axes")?;
        self.reduced(at, reduction, order, (&axes, reduce.keep_axes))
    }

    /// A reduction over axes, which stay with one element or go, of a value in
    /// this order.
    pub(super) fn reduced(
        &mut self,
        at: usize,
        reduction: Reduction,
        mut order: Vec<usize>,
        (axes, keeps_axes): (&[usize], bool),
    ) -> Converted {
        let node = self.network.node(at);
        let input = node.inputs[0].as_str();
        let mut reduced = self.values.shape(input)?;
        let epilogue = self.epilogue(&node.outputs[0]);
        let own = self
            .values
            .params(input)
            .filter(|_| reduction.code == Code::Mean);
        let params = own.zip(self.rounded(epilogue.value));
        let tensor = self
            .values
            .operand(input, params.map(|(input, _)| input), &order)?;
        let tensor = self.before_reduction(tensor, reduction.before);
        let places: Vec<i32> = axes
            .iter()
            .map(|&axis| place(&order, axis) as i32)
            .collect();
        let places = self.values.integers("axes", &places);
        for &axis in axes {
            reduced[axis] = 1;
        }
        if !keeps_axes {
            order = without(&order, axes);
            let kept = reduced
                .iter()
                .enumerate()
                .filter(|(i, _)| !axes.contains(i));
            reduced = kept.map(|(_, &extent)| extent).collect();
        }
        let extents = laid_out(&reduced, &order);
        let made = Made {
            shape: reduced,
            order,
            params: params.map(|(_, output)| output),
        };
        self.finish(&epilogue, made, extents, |values, output| {
            let options = Options::Reducer { keeps_axes };
            let inputs = vec![tensor, places];
            let Some(behind) = reduction.behind else {
                values.operator(reduction.code, inputs, output, options);
                return;
            };
            let extents = values.model.tensors[output].shape.clone();
            let sums = values.activation("sums", extents, None);
            values.operator(reduction.code, inputs, sums, options);
            values.operator(behind, vec![sums], output, Options::None);
        });
        Ok(())
    }

    /// What is reduced, of floats.
    fn before_reduction(&mut self, tensor: usize, before: Before) -> usize {
        let (code, inputs, options) = match before {
            Before::Nothing => return tensor,
            Before::Magnitudes => (Code::Abs, vec![tensor], Options::None),
            Before::Squares => {
                let options = Options::Mul(Activation::None);
                (Code::Mul, vec![tensor, tensor], options)
            }
        };
        let extents = self.values.model.tensors[tensor].shape.clone();
        let changed = self.values.activation("terms", extents, None);
        self.values.operator(code, inputs, changed, options);
        changed
    }
}
