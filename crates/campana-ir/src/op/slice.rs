//! Which elements a `Slice` by constants takes.

use super::axis_from_start;

/// A part of a tensor, taken forwards: one entry an axis each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slices {
    /// The first element.
    pub begins: Vec<usize>,
    /// Where elements end.
    pub ends: Vec<usize>,
    /// From one element to the next.
    pub strides: Vec<usize>,
    /// Elements that are taken.
    pub shape: Vec<usize>,
}

impl Slices {
    /// Of a tensor of this shape by the operator's lists; of `axes` and `steps`
    /// that are left out, the first axes and 1.
    ///
    /// # Errors
    ///
    /// Says of the node what is wrong, or what engines for devices lack: steps
    /// backwards and parts without elements.
    pub fn forwards(
        shape: &[usize],
        [starts, ends]: [&[i64]; 2],
        [axes, steps]: [Option<Vec<i64>>; 2],
    ) -> Result<Self, &'static str> {
        let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err("has bounds of different lengths");
        }
        let mut slices = Self {
            begins: vec![0; shape.len()],
            ends: shape.to_vec(),
            strides: vec![1; shape.len()],
            shape: shape.to_vec(),
        };
        for (i, &axis) in axes.iter().enumerate() {
            let axis = axis_from_start(axis, shape.len()).ok_or("has no such axis")?;
            let stride = usize::try_from(steps[i]).ok().filter(|&step| step > 0);
            let stride = stride.ok_or("is sliced backwards")?;
            let extent = shape[axis] as i64;
            let bound = |at: i64| {
                let from_start = match at < 0 {
                    true => at.saturating_add(extent),
                    false => at,
                };
                from_start.clamp(0, extent) as usize
            };
            let [begin, end] = [starts[i], ends[i]].map(bound);
            slices.begins[axis] = begin;
            slices.ends[axis] = end;
            slices.strides[axis] = stride;
            slices.shape[axis] = end.saturating_sub(begin).div_ceil(stride);
        }
        match slices.shape.contains(&0) {
            true => Err("leaves nothing"),
            false => Ok(slices),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_counted_from_either_end_and_held_to_the_tensor() {
        let slices = |starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]| {
            let lists = [axes, steps].map(|list| Some(list.to_vec()));
            Slices::forwards(&[5, 8], [starts, ends], lists)
        };
        let found = slices(&[-3], &[i64::MAX], &[-1], &[2]).unwrap();
        assert_eq!(found.begins, [0, 5]);
        assert_eq!(found.ends, [5, 8]);
        assert_eq!(found.strides, [1, 2]);
        assert_eq!(found.shape, [5, 2]);
        for (error, found) in [
            ("is sliced backwards", slices(&[7], &[0], &[1], &[-1])),
            ("leaves nothing", slices(&[3], &[3], &[0], &[1])),
            ("has no such axis", slices(&[0], &[1], &[2], &[1])),
            (
                "has bounds of different lengths",
                slices(&[0], &[1, 2], &[0], &[1]),
            ),
        ] {
            assert_eq!(found, Err(error));
        }
    }
}
