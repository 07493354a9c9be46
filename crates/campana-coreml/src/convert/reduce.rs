//! Reductions over axes.

use campana_ir::op::{Reduce, ReduceKind, axis_from_start};

use super::{Converter, NO_FORM};
use crate::error::Converted;

impl Converter<'_> {
    pub(super) fn reduce(&mut self, at: usize, reduce: &Reduce) -> Converted {
        let node = self.network.node(at);
        let kind = match node.op_type.as_str() {
            _ if reduce.kind == ReduceKind::Mean => "reduce_mean",
            "ReduceSum" => "reduce_sum",
            "ReduceMax" => "reduce_max",
            "ReduceMin" => "reduce_min",
            "ReduceProd" => "reduce_prod",
            "ReduceL1" => "reduce_l1_norm",
            "ReduceL2" => "reduce_l2_norm",
            "ReduceSumSquare" => "reduce_sum_square",
            "ReduceLogSumExp" => "reduce_log_sum_exp",
            _ => return Err(NO_FORM.to_owned()),
        };
        let rank = self.activation(&node.inputs[0])?.shape.len();
        let given = match (&reduce.axes, self.list(at, 1)?) {
            (Some(axes), _) => axes.clone(),
            (None, Some(axes)) if !axes.is_empty() => axes,
            _ => {
                if node.int("noop_with_empty_axes", 0) != 0 {
                    return self.identity(at);
                }
                (0..rank as i64).collect()
            }
        };
        let axes = given.iter().map(|&axis| axis_from_start(axis, rank));
        let axes: Option<Vec<usize>> = axes.collect();
        let axes = axes
            .filter(|axes| !axes.is_empty())
            .ok_or("has no such axes")?;
        self.reduced(at, kind, &axes, reduce.keep_axes)
    }

    /// A reduction over axes, which stay with one element or go.
    fn reduced(&mut self, at: usize, kind: &str, axes: &[usize], keeps_axes: bool) -> Converted {
        let x = self.activation(&self.network.node(at).inputs[0])?;
        let extents = x.shape.iter().enumerate();
        let shape: Vec<usize> = match keeps_axes {
            true => extents
                .map(|(i, &extent)| if axes.contains(&i) { 1 } else { extent })
                .collect(),
            false => extents
                .filter(|(i, _)| !axes.contains(i))
                .map(|(_, &e)| e)
                .collect(),
        };
        if shape.is_empty() {
            return Err(
                "makes a single number without axes, which no program is written with".to_owned(),
            );
        }
        let axes = self.program.ints(axes);
        let keeps = self.program.flag(keeps_axes);
        let inputs = vec![
            ("x", x.into()),
            ("axes", axes.into()),
            ("keep_dims", keeps.into()),
        ];
        self.make(at, kind, inputs, &shape)
    }

    /// A reduction over all axes behind the channels, which stay.
    pub(super) fn over_spatial_axes(&mut self, at: usize, kind: &str) -> Converted {
        let rank = self
            .activation(&self.network.node(at).inputs[0])?
            .shape
            .len();
        if rank < 3 {
            return Err("has no spatial axes".to_owned());
        }
        let axes: Vec<usize> = (2..rank).collect();
        self.reduced(at, kind, &axes, true)
    }
}
