//! Broadcast operands: where each element of a result comes from, and sums of
//! gradients over what was repeated.

use crate::error::Fault;

/// Runs of a broadcast result over which the place in an operand stays or moves
/// by one each element.
pub(crate) struct Runs {
    /// Extents of the result.
    shape: Vec<usize>,
    /// Elements of the operand from one position of each axis to the next; 0
    /// where it is repeated.
    strides: Vec<usize>,
    /// Axes from which on elements form a run.
    inner: usize,
    /// Elements of a run.
    len: usize,
    /// From one element of a run to the next in the operand: 0 or 1.
    step: usize,
}

impl Runs {
    /// Of an operand in a result of these extents.
    pub(crate) fn new(operand: &[usize], result: &[usize]) -> Result<Self, Fault> {
        let Some(lead) = result.len().checked_sub(operand.len()) else {
            return Err(unfit(operand, result));
        };
        let mut strides = vec![0; result.len()];
        let mut stride = 1;
        for (axis, &extent) in operand.iter().enumerate().rev() {
            if extent == result[lead + axis] {
                strides[lead + axis] = if extent == 1 { 0 } else { stride };
            } else if extent != 1 {
                return Err(unfit(operand, result));
            }
            stride *= extent;
        }
        // The last axes together, as long as all of them are repeated or none.
        let mut inner = result.len();
        let (mut len, mut step) = (1, None);
        while let Some(axis) = inner.checked_sub(1) {
            let fits = match (result[axis], step) {
                (1, _) => true,
                (_, None) => {
                    step = Some(strides[axis]);
                    strides[axis] <= 1
                }
                (_, Some(0)) => strides[axis] == 0,
                (_, Some(_)) => strides[axis] == len,
            };
            if !fits {
                break;
            }
            len *= result[axis];
            inner = axis;
        }
        Ok(Self {
            shape: result.to_vec(),
            strides,
            inner,
            len,
            step: step.unwrap_or(0),
        })
    }

    /// Shows each run: where it starts in the result and in the operand.
    pub(crate) fn visit(&self, mut run: impl FnMut(std::ops::Range<usize>, usize)) {
        let outer = &self.shape[..self.inner];
        let count: usize = outer.iter().product();
        let mut position = vec![0; outer.len()];
        let mut operand = 0;
        for at in 0..count {
            run(at * self.len..(at + 1) * self.len, operand);
            for axis in (0..outer.len()).rev() {
                position[axis] += 1;
                operand += self.strides[axis];
                if position[axis] < outer[axis] {
                    break;
                }
                operand -= self.strides[axis] * outer[axis];
                position[axis] = 0;
            }
        }
    }

    /// From one element of a run to the next in the operand: 0 or 1.
    pub(crate) fn step(&self) -> usize {
        self.step
    }
}

/// An operand as long as the result.
pub(crate) fn expand(
    values: &[f32],
    operand: &[usize],
    result: &[usize],
) -> Result<Vec<f32>, Fault> {
    if operand == result {
        return Ok(values.to_vec());
    }
    let runs = Runs::new(operand, result)?;
    let mut expanded = vec![0.0; result.iter().product()];
    runs.visit(|run, at| match runs.step() {
        0 => expanded[run].fill(values[at]),
        _ => {
            let len = run.len();
            expanded[run].copy_from_slice(&values[at..at + len]);
        }
    });
    Ok(expanded)
}

/// The gradient of an operand by that of the result: summed where the operand
/// was repeated.
pub(crate) fn reduce(
    gradient: Vec<f32>,
    result: &[usize],
    operand: &[usize],
) -> Result<Vec<f32>, Fault> {
    if operand == result {
        return Ok(gradient);
    }
    let runs = Runs::new(operand, result)?;
    let mut sums = vec![0.0; operand.iter().product()];
    runs.visit(|run, at| match runs.step() {
        0 => sums[at] += gradient[run].iter().sum::<f32>(),
        _ => {
            let gradient = &gradient[run];
            for (sum, gradient) in sums[at..].iter_mut().zip(gradient) {
                *sum += gradient;
            }
        }
    });
    Ok(sums)
}

fn unfit(operand: &[usize], result: &[usize]) -> Fault {
    Fault::invalid(format!("{operand:?} does not broadcast to {result:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_repeated_and_their_gradients_summed() {
        let values = [10.0, 20.0];
        for (operand, result, expected) in [
            (
                vec![2],
                vec![3, 2],
                vec![10.0, 20.0, 10.0, 20.0, 10.0, 20.0],
            ),
            (vec![2, 1], vec![2, 2], vec![10.0, 10.0, 20.0, 20.0]),
            (
                vec![2, 1, 1],
                vec![2, 2, 1, 2],
                vec![10.0, 10.0, 20.0, 20.0, 10.0, 10.0, 20.0, 20.0],
            ),
            (vec![1, 2, 1], vec![1, 2, 1], vec![10.0, 20.0]),
        ] {
            let expanded = expand(&values, &operand, &result).unwrap();
            assert_eq!(expanded, expected, "{operand:?} in {result:?}");
            let ones = vec![1.0; expected.len()];
            let count = expected.len() as f32 / 2.0;
            assert_eq!(reduce(ones, &result, &operand).unwrap(), [count; 2]);
        }
        assert!(expand(&values, &[2], &[3]).is_err());
    }

    #[test]
    fn a_scalar_is_everywhere() {
        assert_eq!(expand(&[4.0], &[], &[2, 2]).unwrap(), [4.0; 4]);
        assert_eq!(reduce(vec![1.0; 4], &[2, 2], &[]).unwrap(), [4.0]);
    }
}
