//! Which weights share parameters that are broadcast to them.

use campana_tensor::Partition;

/// The groups that a tensor falls into under parameters with an extent of 1
/// along some axes.
pub(super) struct Groups {
    view: Vec<usize>,
    /// Whether the index along this axis tells groups apart.
    tells_apart: Vec<bool>,
    extents: [usize; 5],
}

impl Groups {
    /// The groups of a tensor of the shape `view` under parameters of these
    /// shapes; `None` where no [`Partition`] has them.
    pub(super) fn of<'a>(
        view: &[usize],
        parameters: impl Iterator<Item = &'a [usize]>,
    ) -> Option<Self> {
        let mut tells_apart = vec![false; view.len()];
        for dims in parameters {
            if !broadcasts_to(dims, view) {
                return None;
            }
            let missing = view.len() - dims.len();
            for (axis, &extent) in dims.iter().enumerate() {
                tells_apart[missing + axis] |= extent > 1;
            }
        }
        // Neighbouring axes of a kind, extents of 1 left out.
        let mut runs: Vec<(bool, Vec<usize>)> = Vec::new();
        for (&extent, &apart) in view.iter().zip(&tells_apart).filter(|(e, _)| **e != 1) {
            match runs.last_mut() {
                Some((kind, extents)) if *kind == apart => extents.push(extent),
                _ => runs.push((apart, vec![extent])),
            }
        }
        let mut runs = runs.into_iter().peekable();
        let mut take = |kind: bool| match runs.next_if(|(found, _)| *found == kind) {
            Some((_, extents)) => extents,
            None => Vec::new(),
        };
        let (first, second) = (take(true), take(false));
        let (third, fourth) = (take(true), take(false));
        if runs.next().is_some() {
            return None;
        }
        let product = |extents: &[usize]| extents.iter().product::<usize>();
        let channels = |extents: &[usize]| match extents {
            [] => [1, 1],
            [channels, blocks @ ..] => [*channels, product(blocks)],
        };
        let extents = if third.is_empty() {
            let [channels, blocks] = channels(&first);
            [1, 1, channels, blocks, product(&second)]
        } else {
            let [channels, blocks] = channels(&third);
            [
                product(&first),
                product(&second),
                channels,
                blocks,
                product(&fourth),
            ]
        };
        Some(Self {
            view: view.to_vec(),
            tells_apart,
            extents,
        })
    }

    /// The groups as a partition.
    pub(super) fn partition(&self) -> Partition {
        Partition::from_extents(self.extents)
    }

    /// A parameter's value for each group, row-major over the axes that tell
    /// them apart.
    pub(super) fn expand<T: Copy>(&self, dims: &[usize], values: &[T]) -> Vec<T> {
        let missing = self.view.len() - dims.len();
        let mut positions = vec![0];
        let mut stride = 1;
        // From the last axis, so that strides are known; each axis repeats all so far.
        for (axis, &extent) in self.view.iter().enumerate().rev() {
            let own = if axis < missing {
                1
            } else {
                dims[axis - missing]
            };
            if self.tells_apart[axis] {
                let step = if own == 1 { 0 } else { stride };
                positions = (0..extent)
                    .flat_map(|index| positions.iter().map(move |at| at + index * step))
                    .collect();
            }
            stride *= own;
        }
        positions.into_iter().map(|at| values[at]).collect()
    }
}

/// Whether a tensor of these extents can be broadcast to `view` without
/// making that larger.
pub(super) fn broadcasts_to(dims: &[usize], view: &[usize]) -> bool {
    dims.len() <= view.len()
        && dims
            .iter()
            .rev()
            .zip(view.iter().rev())
            .all(|(&own, &extent)| own == extent || own == 1)
}
