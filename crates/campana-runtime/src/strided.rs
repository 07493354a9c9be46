//! Moving and combining elements of tensors of any rank.

use campana_kernels::Isa;
use campana_kernels::elementwise::{Binary, zip, zip_scalar};

/// Elements from one index to the next on each axis of a dense tensor.
pub(crate) fn strides_of(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// A block of elements to copy: `dims` of them, from and to places that lie
/// `strides` apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) dims: Vec<usize>,
    pub(crate) from: usize,
    pub(crate) from_strides: Vec<isize>,
    pub(crate) to: usize,
    pub(crate) to_strides: Vec<usize>,
}

impl Region {
    /// Copies the block.
    pub(crate) fn copy<T: Copy>(&self, input: &[T], output: &mut [T]) {
        if self.dims.contains(&0) {
            return;
        }
        let Some((&inner, outer)) = self.dims.split_last() else {
            output[self.to] = input[self.from];
            return;
        };
        let from_step = self.from_strides[outer.len()];
        let to_step = self.to_strides[outer.len()];
        let mut index = vec![0; outer.len()];
        let (mut from, mut to) = (self.from as isize, self.to);
        loop {
            if from_step == 1 && to_step == 1 {
                let from = from as usize;
                output[to..to + inner].copy_from_slice(&input[from..from + inner]);
            } else {
                for i in 0..inner {
                    output[to + i * to_step] = input[(from + i as isize * from_step) as usize];
                }
            }
            let mut axis = outer.len();
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                index[axis] += 1;
                from += self.from_strides[axis];
                to += self.to_strides[axis];
                if index[axis] < outer[axis] {
                    break;
                }
                from -= self.from_strides[axis] * outer[axis] as isize;
                to -= self.to_strides[axis] * outer[axis];
                index[axis] = 0;
            }
        }
    }
}

/// How two operands are broadcast over an output without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BroadcastPlan {
    pub(crate) dims: Vec<usize>,
    pub(crate) left: Vec<usize>,
    pub(crate) right: Vec<usize>,
}

impl BroadcastPlan {
    /// For operands of these shapes, both of the output's rank.
    pub(crate) fn new(left: &[usize], right: &[usize], output: &[usize]) -> Self {
        let strides = |shape: &[usize]| -> Vec<usize> {
            let own = strides_of(shape);
            (0..shape.len())
                .map(|a| if shape[a] == 1 { 0 } else { own[a] })
                .collect()
        };
        let (all_left, all_right) = (strides(left), strides(right));
        let mut plan = Self {
            dims: vec![],
            left: vec![],
            right: vec![],
        };
        // Axes along which both operands go on as they do inside become one.
        for axis in 0..output.len() {
            let (dim, l, r) = (output[axis], all_left[axis], all_right[axis]);
            if dim == 1 {
                continue;
            }
            match plan.dims.last_mut() {
                Some(last)
                    if plan.left.last() == Some(&(l * dim))
                        && plan.right.last() == Some(&(r * dim)) =>
                {
                    *last *= dim;
                    plan.left.pop();
                    plan.right.pop();
                }
                _ => plan.dims.push(dim),
            }
            plan.left.push(l);
            plan.right.push(r);
        }
        if plan.dims.is_empty() {
            plan = Self {
                dims: vec![1],
                left: vec![0],
                right: vec![0],
            };
        }
        plan
    }

    /// Computes the output.
    pub(crate) fn run(
        &self,
        isa: Isa,
        op: Binary,
        left: &[f32],
        right: &[f32],
        output: &mut [f32],
    ) {
        let rank = self.dims.len();
        let (inner, outer) = (self.dims[rank - 1], &self.dims[..rank - 1]);
        if output.is_empty() {
            return;
        }
        let (l_step, r_step) = (self.left[rank - 1], self.right[rank - 1]);
        let mut index = vec![0; rank - 1];
        let (mut l, mut r) = (0, 0);
        for output in output.chunks_exact_mut(inner) {
            match (l_step, r_step) {
                (1, 1) => zip(isa, op, &left[l..l + inner], &right[r..r + inner], output),
                (1, 0) => zip_scalar(isa, op, &left[l..l + inner], right[r], output),
                (0, 1) if op.commutes() => {
                    zip_scalar(isa, op, &right[r..r + inner], left[l], output);
                }
                _ => {
                    for (i, output) in output.iter_mut().enumerate() {
                        let (a, b) = (left[l + i * l_step], right[r + i * r_step]);
                        *output = op.apply(a, b);
                    }
                }
            }
            for axis in (0..outer.len()).rev() {
                index[axis] += 1;
                l += self.left[axis];
                r += self.right[axis];
                if index[axis] < outer[axis] {
                    break;
                }
                l -= self.left[axis] * outer[axis];
                r -= self.right[axis] * outer[axis];
                index[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_broadcast_as_numpy_does() {
        let left: Vec<f32> = (0..24).map(|v| v as f32).collect();
        for right_shape in [
            [2, 3, 4],
            [1, 3, 4],
            [2, 1, 4],
            [2, 3, 1],
            [1, 1, 4],
            [1, 3, 1],
            [1, 1, 1],
        ] {
            let count: usize = right_shape.iter().product();
            let right: Vec<f32> = (0..count).map(|v| v as f32 * 100.0).collect();
            let strides = strides_of(&right_shape);
            let at = |i: usize| {
                let index = [i / 12, i / 4 % 3, i % 4];
                (0..3)
                    .map(|a| {
                        if right_shape[a] == 1 {
                            0
                        } else {
                            index[a] * strides[a]
                        }
                    })
                    .sum::<usize>()
            };
            for swap in [false, true] {
                let (a, b) = ([2, 3, 4], right_shape);
                let plan = if swap {
                    BroadcastPlan::new(&b, &a, &a)
                } else {
                    BroadcastPlan::new(&a, &b, &a)
                };
                let mut output = vec![0.0; 24];
                let (x, y) = if swap {
                    (&right, &left)
                } else {
                    (&left, &right)
                };
                plan.run(Isa::detect(), Binary::Sub, x, y, &mut output);
                for i in 0..24 {
                    let expected = left[i] - right[at(i)];
                    assert_eq!(output[i], if swap { -expected } else { expected });
                }
            }
        }
    }

    #[test]
    fn regions_are_copied_backwards_and_with_steps() {
        let input: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let region = Region {
            dims: vec![2, 2],
            from: 11,
            from_strides: vec![-8, -2],
            to: 1,
            to_strides: vec![3, 1],
        };
        let mut output = vec![0.0; 6];
        region.copy(&input, &mut output);
        assert_eq!(output, [0.0, 11.0, 9.0, 0.0, 3.0, 1.0]);
    }
}
