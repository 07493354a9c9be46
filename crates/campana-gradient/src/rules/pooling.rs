//! Pools over windows.

use campana_ir::op::Pool;
use rayon::prelude::*;

use crate::error::Fault;
use crate::rule::{Gradients, Reads, Rule, Step};
use crate::window::Windows;

/// `MaxPool`.
#[derive(Debug)]
pub(crate) struct Max(pub(crate) Pool);

/// `AveragePool`.
#[derive(Debug)]
pub(crate) struct Average(Pool);

fn windows(pool: &Pool, at: &Step<'_>) -> Result<Windows, Fault> {
    let ([_, _, input @ ..], [_, _, output @ ..]) = (at.shape(0)?, at.output_shape(0)?) else {
        return Err(Fault::invalid("fewer than two axes"));
    };
    Windows::new(&pool.window, &pool.window.kernel, input, output)
}

impl Average {
    /// The rule, where how many elements a mean counts is known.
    pub(crate) fn new(pool: Pool) -> Result<Self, Fault> {
        match pool.count_padding && pool.ceil {
            false => Ok(Self(pool)),
            true => Err(Fault::unsupported(
                "no gradient of means that count padding in windows beyond it is known",
            )),
        }
    }
}

impl Rule for Max {
    fn reads(&self, _: &[bool]) -> Reads {
        Reads {
            inputs: vec![0],
            output: true,
        }
    }

    /// The first of equal elements has the gradient.
    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault> {
        let gradient = Step::first(outputs)?;
        let windows = windows(&self.0, at)?;
        let (input, output) = (at.floats(0)?, at.output()?);
        let mut own = vec![0.0; input.len()];
        let planes = own
            .par_chunks_exact_mut(windows.input.max(1))
            .zip(input.par_chunks_exact(windows.input.max(1)));
        let results = output
            .par_chunks_exact(windows.output.max(1))
            .zip(gradient.par_chunks_exact(windows.output.max(1)));
        planes
            .zip(results)
            .for_each(|((own, input), (output, gradient))| {
                let mut is_found = vec![false; windows.output];
                for span in &windows.spans {
                    for (place, result) in span.inputs(windows.stride).zip(span.outputs()) {
                        if input[place] == output[result] && !is_found[result] {
                            is_found[result] = true;
                            own[place] += gradient[result];
                        }
                    }
                }
            });
        Ok(vec![Some(own)])
    }
}

impl Rule for Average {
    fn reads(&self, _: &[bool]) -> Reads {
        Reads::NOTHING
    }

    fn backward(&self, at: &Step<'_>, outputs: Gradients) -> Result<Gradients, Fault> {
        let mut gradient = Step::first(outputs)?;
        let pool = &self.0;
        let windows = windows(pool, at)?;
        let mut counts = vec![0f32; windows.output];
        for span in &windows.spans {
            counts[span.outputs()]
                .iter_mut()
                .for_each(|count| *count += 1.0);
        }
        if pool.count_padding {
            counts.fill(windows.taps as f32);
        }
        let mut own = vec![0.0; at.shape(0)?.iter().product()];
        let planes = own.par_chunks_exact_mut(windows.input.max(1));
        let gradients = gradient.par_chunks_exact_mut(windows.output.max(1));
        planes.zip(gradients).for_each(|(own, gradient)| {
            for (gradient, count) in gradient.iter_mut().zip(&counts) {
                *gradient /= count.max(1.0);
            }
            for span in &windows.spans {
                windows.add_span(span, own, &gradient[span.outputs()], 1.0);
            }
        });
        Ok(vec![Some(own)])
    }
}
