//! Where a tensor's elements are.

use campana_tensor::ElementType;

use crate::{Error, ErrorKind, Result};

/// Where the elements of a tensor are in one of the files.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Index of the file.
    pub(crate) source: usize,
    /// The bytes among which the elements are.
    pub(crate) bytes: Bytes,
    /// First element, counted from the start of `bytes`, in bytes.
    pub(crate) offset: u64,
    /// Elements from one index to the next, for each axis; `None` where the
    /// elements are row-major without gaps.
    pub(crate) strides: Option<Vec<usize>>,
}

/// A run of bytes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// As they are, from this byte on.
    Plain {
        /// The first byte in the file.
        start: u64,
        /// Number of bytes.
        len: u64,
        /// Their CRC-32, where the file has one.
        crc: Option<u32>,
    },
    /// Compressed by deflate.
    Deflated {
        /// The first compressed byte in the file.
        start: u64,
        /// Number of compressed bytes.
        packed_len: u64,
        /// Number of bytes after decompression.
        len: u64,
        /// The CRC-32 of the bytes after decompression.
        crc: u32,
    },
}

impl Bytes {
    pub(crate) fn len(self) -> u64 {
        match self {
            Self::Plain { len, .. } | Self::Deflated { len, .. } => len,
        }
    }
}

/// Axes of a tensor at most, as in NumPy and PyTorch.
pub(crate) const MAX_RANK: usize = 64;

/// Elements of a shape; an error where there are too many to count.
pub(crate) fn count(name: &str, shape: &[usize]) -> Result<usize> {
    if shape.len() > MAX_RANK {
        return Err(Error::malformed(format!(
            "tensor '{name}' has {} axes, expected at most {MAX_RANK}",
            shape.len()
        )));
    }
    shape
        .iter()
        .try_fold(1_usize, |count, &extent| count.checked_mul(extent))
        .ok_or_else(|| {
            Error::malformed(format!(
                "tensor '{name}': its shape {shape:?} has too many elements"
            ))
        })
}

/// Bytes of one element.
pub(crate) fn element_len(name: &str, element_type: ElementType) -> Result<u64> {
    match element_type.bits() {
        Some(bits) if bits >= 8 => Ok(bits as u64 / 8),
        _ => Err(Error::unsupported(format!(
            "tensor '{name}' has elements of a type that is not read"
        ))),
    }
}

impl Place {
    /// A view of `bytes` from `first_element` on; row-major ones are told
    /// apart from those whose elements must be gathered.
    ///
    /// # Errors
    ///
    /// Where elements would be outside of `bytes`, or the view has more
    /// elements than there are (it would refer to some of them many times).
    pub(crate) fn view(
        name: &str,
        source: usize,
        bytes: Bytes,
        first_element: u64,
        element_type: ElementType,
        shape: &[usize],
        strides: &[usize],
    ) -> Result<Self> {
        let len = element_len(name, element_type)?;
        let count = count(name, shape)?;
        let available = bytes.len() / len;
        let last = shape
            .iter()
            .zip(strides)
            .try_fold(first_element, |last, (&extent, &stride)| {
                let reach = (extent.saturating_sub(1) as u64).checked_mul(stride as u64)?;
                last.checked_add(reach)
            });
        if count > 0 && last.is_none_or(|last| last >= available) {
            return Err(Error::malformed(format!(
                "tensor '{name}' of shape {shape:?} and strides {strides:?} from element {first_element} on leaves \
                 its storage of {available} elements"
            )));
        }
        if count as u64 > available {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "tensor '{name}' of shape {shape:?} refers to a storage of only {available} elements"
                ),
            ));
        }
        let mut dense: usize = 1;
        let row_major = shape.iter().zip(strides).rev().all(|(&extent, &stride)| {
            let fits = extent <= 1 || stride == dense;
            // Without any element there is nothing to gather.
            dense = dense.saturating_mul(extent.max(1));
            fits
        });
        Ok(Self {
            source,
            bytes,
            offset: if count == 0 { 0 } else { first_element * len },
            strides: (!row_major && count > 0).then(|| strides.to_vec()),
        })
    }

    /// Elements from the first to after the last, gaps included.
    pub(crate) fn span(&self, shape: &[usize]) -> usize {
        if shape.contains(&0) {
            return 0;
        }
        match &self.strides {
            None => shape.iter().product(),
            Some(strides) => {
                1 + shape
                    .iter()
                    .zip(strides)
                    .map(|(&extent, &stride)| (extent - 1) * stride)
                    .sum::<usize>()
            }
        }
    }
}

/// Calls `visit` with the position of each element, in row-major order.
pub(crate) fn for_each_element(shape: &[usize], strides: &[usize], mut visit: impl FnMut(usize)) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    let mut position = 0;
    loop {
        visit(position);
        let mut axis = shape.len();
        loop {
            let Some(next) = axis.checked_sub(1) else {
                return;
            };
            axis = next;
            index[axis] += 1;
            position += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            position -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(first: u64, shape: &[usize], strides: &[usize]) -> Result<Place> {
        let bytes = Bytes::Plain {
            start: 0,
            len: 24,
            crc: None,
        };
        Place::view("w", 0, bytes, first, ElementType::F32, shape, strides)
    }

    #[test]
    fn a_transposed_view_is_gathered_in_order() {
        let place = view(0, &[3, 2], &[1, 3]).unwrap();
        let mut order = Vec::new();
        for_each_element(&[3, 2], &place.strides.unwrap(), |at| order.push(at));
        assert_eq!(order, [0, 3, 1, 4, 2, 5]);
    }

    #[test]
    fn a_row_major_view_needs_no_strides() {
        assert!(view(0, &[2, 1, 3], &[3, 7, 1]).unwrap().strides.is_none());
    }

    #[test]
    fn a_view_that_leaves_its_storage_is_refused() {
        for (first, shape, strides) in [
            (1, [2, 3], [3, 1]),
            (0, [2, 3], [4, 1]),
            (u64::MAX, [2, 3], [3, 1]),
            (0, [2, 3], [usize::MAX, usize::MAX]),
        ] {
            let error = view(first, &shape, &strides).unwrap_err();
            assert!(error.to_string().contains("leaves"), "{error}");
        }
    }

    #[test]
    fn more_axes_than_any_tensor_has_are_refused() {
        let error = count("w", &[1; MAX_RANK + 1]).unwrap_err();
        assert!(error.to_string().contains("65 axes"), "{error}");
        assert_eq!(count("w", &[1; MAX_RANK]).unwrap(), 1);
    }

    #[test]
    fn a_view_that_repeats_a_few_elements_is_refused() {
        let error = view(0, &[1 << 20, 1 << 20], &[0, 0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    }
}
