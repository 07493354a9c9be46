//! Reductions over axes.

use campana_ir::op::{Reduce, ReduceKind, axis_from_start};

use super::{Converter, NO_FORM};
use crate::error::Converted;
use crate::layout::{laid_out, place, without};
use crate::schema::{Code, Options};
use crate::values::Made;

impl Converter<'_> {
    pub(super) fn reduce(&mut self, at: usize, reduce: &Reduce) -> Converted {
        let node = self.network.node(at);
        let code = match node.op_type.as_str() {
            _ if reduce.kind == ReduceKind::Mean => Code::Mean,
            "ReduceSum" => Code::Sum,
            "ReduceMax" => Code::ReduceMax,
            "ReduceMin" => Code::ReduceMin,
            "ReduceProd" => Code::ReduceProd,
            _ => return Err(NO_FORM.to_owned()),
        };
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
        self.reduced(at, code, order, (&axes, reduce.keep_axes))
    }

    /// A reduction over axes, which stay with one element or go, of a value in
    /// this order.
    pub(super) fn reduced(
        &mut self,
        at: usize,
        code: Code,
        mut order: Vec<usize>,
        (axes, keeps_axes): (&[usize], bool),
    ) -> Converted {
        let node = self.network.node(at);
        let input = node.inputs[0].as_str();
        let mut reduced = self.values.shape(input)?;
        let epilogue = self.epilogue(&node.outputs[0]);
        let own = self.values.params(input).filter(|_| code == Code::Mean);
        let params = own.zip(self.rounded(epilogue.value));
        let tensor = self
            .values
            .operand(input, params.map(|(input, _)| input), &order)?;
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
            values.operator(code, vec![tensor, places], output, options);
        });
        Ok(())
    }
}
