//! Sums of products as matrix products, two factors at a time from the left.
//!
//! The axes of two factors are of four kinds: those that both have and that
//! are read later (`batch`), those that both have and that are summed
//! (`depth`), and those that one of them has (`rows`, `columns`). Axes that one
//! factor alone has and nothing reads later are summed beforehand.

use std::borrow::Cow;

use campana_kernels::gemm::PackedMatrix;

use super::{Axis, MAX_PRODUCTS};
use crate::ops::call::{Call, Fault, count_of};
use crate::ops::linear::product;
use crate::strided::{Region, strides_of};

/// Products of one matrix from which packing it is worth it.
const MIN_PACKED_PRODUCTS: usize = 1 << 9;

/// Floats with named axes of more than one element, row-major.
pub(super) struct Factor<'a> {
    axes: Vec<Axis>,
    dims: Vec<usize>,
    values: Cow<'a, [f32]>,
}

impl<'a> Factor<'a> {
    /// An operand without its axes of one element, which are broadcast; `None`
    /// where an axis occurs twice (a diagonal) or has no elements.
    pub(super) fn of(axes: &[Axis], shape: &[usize], values: &'a [f32]) -> Option<Self> {
        let repeats = (1..axes.len()).any(|i| axes[..i].contains(&axes[i]));
        if repeats || shape.contains(&0) {
            return None;
        }
        let named = axes.iter().copied().zip(shape.iter().copied());
        let (axes, dims) = named.filter(|(_, dim)| *dim != 1).unzip();
        Some(Self {
            axes,
            dims,
            values: Cow::Borrowed(values),
        })
    }

    fn dim(&self, axis: Axis) -> usize {
        let at = self.axes.iter().position(|own| *own == axis);
        at.map_or(1, |at| self.dims[at])
    }

    /// The axes that are (or are not) in another list.
    fn axes_where(&self, is_wanted: impl Fn(Axis) -> bool) -> Vec<Axis> {
        let axes = self.axes.iter().copied();
        axes.filter(|&axis| is_wanted(axis)).collect()
    }

    fn extent(&self, axes: &[Axis]) -> usize {
        axes.iter().map(|&axis| self.dim(axis)).product()
    }

    /// The elements in another order of the axes.
    fn arranged(&self, order: &[Axis]) -> Cow<'_, [f32]> {
        if self.axes == order {
            return Cow::Borrowed(&self.values);
        }
        let own = strides_of(&self.dims);
        let stride = |axis: &Axis| {
            let at = self.axes.iter().position(|own| own == axis);
            at.map_or(0, |at| own[at] as isize)
        };
        let dims: Vec<usize> = order.iter().map(|&axis| self.dim(axis)).collect();
        let region = Region {
            from: 0,
            from_strides: order.iter().map(stride).collect(),
            to: 0,
            to_strides: strides_of(&dims),
            dims,
        };
        let mut values = vec![0.0; self.values.len()];
        region.copy(&self.values, &mut values);
        Cow::Owned(values)
    }

    /// The sums over the axes that nothing needs.
    fn reduced(self, is_needed: impl Fn(Axis) -> bool) -> Self {
        let kept = self.axes_where(&is_needed);
        let summed = self.axes_where(|axis| !is_needed(axis));
        if summed.is_empty() {
            return self;
        }
        let order: Vec<Axis> = kept.iter().chain(&summed).copied().collect();
        let values = self.arranged(&order);
        let sum = |part: &[f32]| part.iter().map(|&v| f64::from(v)).sum::<f64>() as f32;
        let sums = values.chunks_exact(self.extent(&summed)).map(sum);
        Self {
            dims: kept.iter().map(|&axis| self.dim(axis)).collect(),
            values: sums.collect(),
            axes: kept,
        }
    }
}

/// The sums of products of all factors over the axes that the result, `kept`,
/// does not have; `None` where an intermediate result would be larger than all
/// that is given and asked for.
pub(super) fn contracted(
    call: &Call<'_>,
    factors: Vec<Factor<'_>>,
    kept: &[Axis],
    count: usize,
) -> Result<Option<Vec<f32>>, Fault> {
    let lens = factors.iter().map(|factor| factor.values.len());
    let most = lens.max().unwrap_or(0).max(count);
    let mut rest = factors.into_iter();
    let Some(mut result) = rest.next() else {
        return Ok(None);
    };
    while let Some(next) = rest.next() {
        let later = rest.as_slice();
        let is_needed =
            |axis| kept.contains(&axis) || later.iter().any(|factor| factor.axes.contains(&axis));
        match multiplied(call, result, next, is_needed, most)? {
            Some(product) => result = product,
            None => return Ok(None),
        }
    }
    let result = result.reduced(|axis| kept.contains(&axis));
    let order: Vec<Axis> = kept
        .iter()
        .copied()
        .filter(|axis| result.axes.contains(axis))
        .collect();
    Ok(Some(result.arranged(&order).into_owned()))
}

/// The product of two factors, summed over the axes that nothing needs.
fn multiplied<'a>(
    call: &Call<'_>,
    left: Factor<'a>,
    right: Factor<'a>,
    is_needed: impl Fn(Axis) -> bool,
    most: usize,
) -> Result<Option<Factor<'a>>, Fault> {
    let left = left.reduced(|axis| is_needed(axis) || right.axes.contains(&axis));
    let right = right.reduced(|axis| is_needed(axis) || left.axes.contains(&axis));
    let batch = left.axes_where(|axis| right.axes.contains(&axis) && is_needed(axis));
    let depth = left.axes_where(|axis| right.axes.contains(&axis) && !is_needed(axis));
    let rows = left.axes_where(|axis| !right.axes.contains(&axis));
    let columns = right.axes_where(|axis| !left.axes.contains(&axis));
    let axes = [&batch[..], &rows, &columns].concat();
    let dim = |axis: &Axis| left.dim(*axis).max(right.dim(*axis));
    let dims: Vec<usize> = axes.iter().map(dim).collect();
    let count = count_of(&dims)?;
    let extents = [
        left.extent(&rows),
        left.extent(&depth),
        right.extent(&columns),
    ];
    let products = count.saturating_mul(extents[1]);
    if products as u64 > MAX_PRODUCTS {
        return Err(Fault::unsupported(format!("{products} products")));
    }
    if count > most {
        return Ok(None);
    }
    let left = left
        .arranged(&[&batch[..], &rows, &depth].concat())
        .into_owned();
    let right = right
        .arranged(&[&batch[..], &columns, &depth].concat())
        .into_owned();
    let mut values = vec![0.0; count];
    matrix_products(call, &left, &right, extents, &mut values)?;
    Ok(Some(Factor {
        axes,
        dims,
        values: values.into(),
    }))
}

/// The products of matrices `[rows, depth]` and `[columns, depth]` that follow
/// each other.
fn matrix_products(
    call: &Call<'_>,
    left: &[f32],
    right: &[f32],
    [rows, depth, columns]: [usize; 3],
    output: &mut [f32],
) -> Result<(), Fault> {
    let is_small = rows * columns == 1 || rows * columns * depth < MIN_PACKED_PRODUCTS;
    let matrices = left
        .chunks_exact(rows * depth)
        .zip(right.chunks_exact(columns * depth));
    for (n, ((left, right), output)) in matrices
        .zip(output.chunks_exact_mut(rows * columns))
        .enumerate()
    {
        if n % 256 == 0 || !is_small {
            call.check_interrupt()?;
        }
        if !is_small {
            let packed = PackedMatrix::pack(depth, columns, |r, c| right[c * depth + r]);
            product(call, left, &packed, rows, output);
            continue;
        }
        for (left, output) in left
            .chunks_exact(depth)
            .zip(output.chunks_exact_mut(columns))
        {
            for (right, output) in right.chunks_exact(depth).zip(output) {
                let products = left.iter().zip(right).map(|(a, b)| f64::from(a * b));
                *output = products.sum::<f64>() as f32;
            }
        }
    }
    Ok(())
}
