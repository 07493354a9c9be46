//! The order in which the axes of a value lie in memory.
//!
//! An order names, for each axis as it lies, outermost first, the axis of ONNX
//! that it is: `[0, 2, 3, 1]` is an image with its channels last.

/// The order that a value of this rank has in ONNX.
pub(crate) fn native(rank: usize) -> Vec<usize> {
    (0..rank).collect()
}

/// Channels, which are axis 1 in ONNX, behind all others.
pub(crate) fn channels_last(rank: usize) -> Vec<usize> {
    match rank {
        0..=2 => native(rank),
        _ => [0].into_iter().chain(2..rank).chain([1]).collect(),
    }
}

/// The extents as they lie.
pub(crate) fn laid_out(shape: &[usize], order: &[usize]) -> Vec<usize> {
    order.iter().map(|&axis| shape[axis]).collect()
}

/// Where an axis of ONNX lies.
pub(crate) fn place(order: &[usize], axis: usize) -> usize {
    order
        .iter()
        .position(|&own| own == axis)
        .unwrap_or_default()
}

/// Whether elements lie alike in two orders: axes of more than one element
/// follow each other alike.
pub(crate) fn lie_alike(shape: &[usize], from: &[usize], to: &[usize]) -> bool {
    let long = |order: &[usize]| -> Vec<usize> {
        let axes = order.iter().copied();
        axes.filter(|&axis| shape[axis] != 1).collect()
    };
    long(from) == long(to)
}

/// The order of what is left where axes are taken out.
pub(crate) fn without(order: &[usize], removed: &[usize]) -> Vec<usize> {
    let kept = order.iter().filter(|axis| !removed.contains(axis));
    kept.map(|axis| axis - removed.iter().filter(|&other| other < axis).count())
        .collect()
}

/// Elements of a row-major tensor in another order of its axes.
pub(crate) fn permuted<T: Copy>(values: &[T], shape: &[usize], order: &[usize]) -> Vec<T> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let extents = laid_out(shape, order);
    let steps: Vec<usize> = order.iter().map(|&axis| strides[axis]).collect();
    let mut index = vec![0; extents.len()];
    let mut from = 0;
    let mut found = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        found.push(values[from]);
        for axis in (0..extents.len()).rev() {
            index[axis] += 1;
            from += steps[axis];
            if index[axis] < extents[axis] {
                break;
            }
            from -= steps[axis] * extents[axis];
            index[axis] = 0;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_follow_their_axes() {
        let values: Vec<usize> = (0..24).collect();
        let order = channels_last(3);
        let found = permuted(&values, &[2, 3, 4], &order);
        for (b, c, x) in (0..24).map(|i| (i / 12, i / 4 % 3, i % 4)) {
            assert_eq!(found[(b * 4 + x) * 3 + c], values[(b * 3 + c) * 4 + x]);
        }
    }

    #[test]
    fn axes_of_one_element_may_lie_anywhere() {
        let (native, last) = (native(4), channels_last(4));
        assert!(lie_alike(&[2, 5, 1, 1], &native, &last));
        assert!(lie_alike(&[1, 1, 4, 4], &native, &last));
        assert!(!lie_alike(&[1, 5, 4, 1], &native, &last));
    }

    #[test]
    fn axes_are_counted_anew_where_some_are_taken_out() {
        assert_eq!(without(&[0, 2, 3, 1], &[2, 3]), [0, 1]);
        assert_eq!(without(&[0, 2, 3, 1], &[1]), [0, 1, 2]);
    }
}
