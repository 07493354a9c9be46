//! Reductions over axes.

use campana_ir::op::Reduce;

use crate::broadcast::expand;
use crate::error::Fault;
use crate::rule::{Gradients, Reads, Rule, Step};

/// A reduction.
#[derive(Clone, Debug)]
pub(crate) struct Reduction {
    kind: Kind,
    axes: Axes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sum,
    Mean,
    Extremum,
    SumOfSquares,
    /// The root of the sum of squares.
    Norm,
}

#[derive(Clone, Debug)]
enum Axes {
    /// All behind those of batch and channels.
    Spatial,
    /// By the attribute, or else by input 1.
    Given(Option<Vec<i64>>),
}

impl Reduction {
    pub(crate) fn global_mean() -> Self {
        Self {
            kind: Kind::Mean,
            axes: Axes::Spatial,
        }
    }

    pub(crate) fn global_max() -> Self {
        Self {
            kind: Kind::Extremum,
            axes: Axes::Spatial,
        }
    }

    /// Of an operator of this name.
    pub(crate) fn of(name: &str, reduce: &Reduce) -> Result<Self, Fault> {
        let kind = match name {
            "ReduceSum" => Kind::Sum,
            "ReduceMean" => Kind::Mean,
            "ReduceMax" | "ReduceMin" => Kind::Extremum,
            "ReduceSumSquare" => Kind::SumOfSquares,
            "ReduceL2" => Kind::Norm,
            _ => return Err(Fault::no_gradient()),
        };
        Ok(Self {
            kind,
            axes: Axes::Given(reduce.axes.clone()),
        })
    }
}

impl Rule for Reduction {
    fn reads(&self, _: &[bool]) -> Reads {
        let mut reads = match self.kind {
            Kind::Sum | Kind::Mean => Reads::NOTHING,
            Kind::SumOfSquares => Reads::inputs(&[0]),
            Kind::Extremum | Kind::Norm => Reads {
                inputs: vec![0],
                output: true,
            },
        };
        if matches!(self.axes, Axes::Given(None)) {
            reads.inputs.push(1);
        }
        reads
    }

    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault> {
        let gradient = Step::first(outputs)?;
        let shape = at.shape(0)?;
        let axes = match &self.axes {
            Axes::Spatial => (2..shape.len()).collect(),
            Axes::Given(None) if at.node.int("noop_with_empty_axes", 0) != 0 && !at.has(1) => {
                Vec::new()
            }
            Axes::Given(axes) => at.axes(axes.as_deref(), shape.len())?,
        };
        // The extents of the result if all axes were kept.
        let mut kept = shape.to_vec();
        let mut count = 1;
        for axis in axes {
            count *= std::mem::replace(&mut kept[axis], 1);
        }
        let spread = |values: &[f32]| expand(values, &kept, shape);
        let mut own = spread(&gradient)?;
        let pairs = |own: &mut Vec<f32>, values: &[f32], of: &dyn Fn(f32) -> f32| {
            for (own, &value) in own.iter_mut().zip(values) {
                *own *= of(value);
            }
        };
        match self.kind {
            Kind::Sum => {}
            Kind::Mean => own.iter_mut().for_each(|value| *value /= count as f32),
            Kind::SumOfSquares => pairs(&mut own, at.floats(0)?, &|x| 2.0 * x),
            Kind::Norm => {
                let norms = spread(at.output()?)?;
                pairs(&mut own, at.floats(0)?, &|x| x);
                pairs(&mut own, &norms, &|norm| {
                    if norm > 0.0 { norm.recip() } else { 0.0 }
                });
            }
            Kind::Extremum => {
                let extrema = spread(at.output()?)?;
                let pairs = own.iter_mut().zip(at.floats(0)?).zip(&extrema);
                for ((own, x), extremum) in pairs {
                    if x != extremum {
                        *own = 0.0;
                    }
                }
            }
        }
        let mut gradients = vec![None; at.node.inputs.len()];
        gradients[0] = Some(own);
        Ok(gradients)
    }
}
