//! How a weight tensor falls into groups that share a scale or a codebook.

use core::fmt;
use core::str::FromStr;

/// What shares a codebook or a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// The whole tensor.
    PerTensor,
    /// The weights of one output channel.
    PerChannel,
    /// About this many consecutive weights of one output channel: the length
    /// is the divisor of the channel's that is nearest (by ratio, and at least
    /// half of it), so that all groups of a tensor are equally long.
    PerGroup(usize),
}

/// `tensor`, `channel` or `group=N`.
impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerTensor => f.write_str("tensor"),
            Self::PerChannel => f.write_str("channel"),
            Self::PerGroup(len) => write!(f, "group={len}"),
        }
    }
}

/// What [`Display`](fmt::Display) writes; a group has at least one weight.
impl FromStr for Granularity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tensor" => Ok(Self::PerTensor),
            "channel" => Ok(Self::PerChannel),
            _ => match text.strip_prefix("group=").map(str::parse) {
                Some(Ok(len)) if len > 0 => Ok(Self::PerGroup(len)),
                _ => Err("use tensor, channel or group=N with N from 1 on"),
            },
        }
    }
}

/// The groups of one tensor.
///
/// A tensor of shape `[d0, .., dn]` with channel axis `a` is seen as
/// `[outer, channels, inner]`; groups cut `inner` (or, where `inner` cannot be
/// cut that finely, `outer`) into equal blocks. Seen as five axes
/// `[outer_blocks, outer_block, channels, inner_blocks, inner_block]`, a group
/// is one index into the first, third and fourth of them; groups are numbered
/// row-major over these three. Per tensor, all of it is one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    outer_blocks: usize,
    outer_block: usize,
    channels: usize,
    inner_blocks: usize,
    inner_block: usize,
}

impl Partition {
    /// The groups of a tensor of this shape.
    ///
    /// Without a channel axis, or where that axis is out of range, every
    /// granularity is per tensor.
    pub fn new(shape: &[usize], channel_axis: Option<usize>, granularity: Granularity) -> Self {
        let count = shape.iter().product();
        let per_tensor = Self {
            outer_blocks: 1,
            outer_block: 1,
            channels: 1,
            inner_blocks: 1,
            inner_block: count,
        };
        let Some(axis) = channel_axis.filter(|&axis| axis < shape.len()) else {
            return per_tensor;
        };
        let outer: usize = shape[..axis].iter().product();
        let inner: usize = shape[axis + 1..].iter().product();
        let per_channel = Self {
            outer_blocks: 1,
            outer_block: outer,
            channels: shape[axis],
            inner_blocks: 1,
            inner_block: inner,
        };
        match granularity {
            Granularity::PerTensor => per_tensor,
            Granularity::PerChannel => per_channel,
            Granularity::PerGroup(_) if count == 0 => per_channel,
            Granularity::PerGroup(len) if inner >= outer => {
                let inner_block = nearest_divisor(inner, len.div_ceil(outer));
                Self {
                    inner_blocks: inner / inner_block,
                    inner_block,
                    ..per_channel
                }
            }
            Granularity::PerGroup(len) => {
                let outer_block = nearest_divisor(outer, len.div_ceil(inner));
                Self {
                    outer_blocks: outer / outer_block,
                    outer_block,
                    ..per_channel
                }
            }
        }
    }

    /// The groups of a tensor seen as `[outer_blocks, outer_block, channels,
    /// inner_blocks, inner_block]`, as [`extents`](Self::extents) gives them.
    pub fn from_extents(extents: [usize; 5]) -> Self {
        let [
            outer_blocks,
            outer_block,
            channels,
            inner_blocks,
            inner_block,
        ] = extents;
        Self {
            outer_blocks,
            outer_block,
            channels,
            inner_blocks,
            inner_block,
        }
    }

    /// Number of groups.
    pub fn group_count(&self) -> usize {
        self.outer_blocks * self.channels * self.inner_blocks
    }

    /// Weights in each group.
    pub fn group_len(&self) -> usize {
        self.outer_block * self.inner_block
    }

    /// Weights in the tensor.
    pub fn len(&self) -> usize {
        self.group_count() * self.group_len()
    }

    /// Whether the tensor has no weights.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether each group is one contiguous run of the row-major tensor.
    pub fn is_contiguous(&self) -> bool {
        self.outer_block == 1
    }

    /// The five extents `[outer_blocks, outer_block, channels, inner_blocks,
    /// inner_block]`; their product is [`len`](Self::len).
    pub fn extents(&self) -> [usize; 5] {
        [
            self.outer_blocks,
            self.outer_block,
            self.channels,
            self.inner_blocks,
            self.inner_block,
        ]
    }

    /// The group of the weight at this row-major position.
    ///
    /// # Panics
    ///
    /// Where the tensor is empty.
    pub fn group_of(&self, position: usize) -> usize {
        let inner_block = position / self.inner_block;
        let channel = inner_block / self.inner_blocks;
        let outer = channel / self.channels / self.outer_block;
        (outer * self.channels + channel % self.channels) * self.inner_blocks
            + inner_block % self.inner_blocks
    }

    /// The contiguous runs of one group, as ranges of row-major positions.
    ///
    /// # Panics
    ///
    /// Where `group` is not below [`group_count`](Self::group_count).
    pub fn runs(&self, group: usize) -> GroupIndices {
        assert!(group < self.group_count(), "group {group} out of range");
        let inner = group % self.inner_blocks;
        let channel = group / self.inner_blocks % self.channels;
        let outer = group / self.inner_blocks / self.channels;
        let row = self.inner_blocks * self.inner_block;
        GroupIndices {
            next: (outer * self.outer_block * self.channels + channel) * row
                + inner * self.inner_block,
            stride: self.channels * row,
            len: self.inner_block,
            remaining: self.outer_block,
        }
    }
}

/// The contiguous runs of one group: an iterator over ranges of positions.
#[derive(Clone, Debug)]
pub struct GroupIndices {
    next: usize,
    stride: usize,
    len: usize,
    remaining: usize,
}

impl Iterator for GroupIndices {
    type Item = core::ops::Range<usize>;

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        let start = self.next;
        self.next += self.stride;
        Some(start..start + self.len)
    }
}

/// The divisor of `n` nearest to `target` by ratio, but never less than half
/// of it (a scale for every weight or two would cost more than it gains).
fn nearest_divisor(n: usize, target: usize) -> usize {
    let target = target.clamp(1, n);
    let below = (target.div_ceil(2)..=target)
        .rev()
        .find(|d| n.is_multiple_of(*d));
    let above = (target..=n).find(|d| n.is_multiple_of(*d));
    match (below, above) {
        // above / target <= target / below
        (Some(below), Some(above)) if above * below <= target * target => above,
        (Some(below), _) => below,
        (None, above) => above.unwrap_or(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    struct Case {
        shape: &'static [usize],
        axis: Option<usize>,
        granularity: Granularity,
        groups: usize,
        len: usize,
    }

    const CASES: &[Case] = &[
        Case {
            shape: &[16, 3, 3, 3],
            axis: Some(0),
            granularity: Granularity::PerTensor,
            groups: 1,
            len: 432,
        },
        Case {
            shape: &[16, 3, 3, 3],
            axis: Some(0),
            granularity: Granularity::PerChannel,
            groups: 16,
            len: 27,
        },
        Case {
            shape: &[16, 3, 3, 3],
            axis: None,
            granularity: Granularity::PerChannel,
            groups: 1,
            len: 432,
        },
        Case {
            shape: &[8, 16, 3, 3],
            axis: Some(0),
            granularity: Granularity::PerGroup(32),
            groups: 32,
            len: 36,
        },
        Case {
            shape: &[64, 10],
            axis: Some(1),
            granularity: Granularity::PerChannel,
            groups: 10,
            len: 64,
        },
        Case {
            shape: &[64, 10],
            axis: Some(1),
            granularity: Granularity::PerGroup(16),
            groups: 40,
            len: 16,
        },
        Case {
            shape: &[4, 6, 3, 3],
            axis: Some(1),
            granularity: Granularity::PerGroup(12),
            groups: 18,
            len: 12,
        },
        Case {
            shape: &[5, 31],
            axis: Some(0),
            granularity: Granularity::PerGroup(16),
            groups: 5,
            len: 31,
        },
        Case {
            shape: &[0, 31],
            axis: Some(0),
            granularity: Granularity::PerGroup(16),
            groups: 0,
            len: 31,
        },
    ];

    #[test]
    fn every_position_is_in_exactly_the_group_whose_runs_hold_it() {
        for case in CASES {
            let partition = Partition::new(case.shape, case.axis, case.granularity);
            assert_eq!(partition.group_count(), case.groups, "{:?}", case.shape);
            assert_eq!(partition.group_len(), case.len, "{:?}", case.shape);
            let mut owner = vec![usize::MAX; partition.len()];
            for group in 0..partition.group_count() {
                for position in partition.runs(group).flatten() {
                    assert_eq!(owner[position], usize::MAX);
                    owner[position] = group;
                    assert_eq!(partition.group_of(position), group);
                }
            }
            assert!(owner.iter().all(|&group| group != usize::MAX));
        }
    }

    #[test]
    fn the_nearest_divisor_is_nearest_by_ratio() {
        let found: Vec<_> = [(144, 64), (147, 32), (31, 16), (31, 4), (7, 100), (1, 1)]
            .map(|(n, target)| nearest_divisor(n, target))
            .into();
        assert_eq!(found, [72, 21, 31, 31, 7, 1]);
    }
}
