//! Where values lie in the arena: those that are never needed at the same time
//! share memory.

/// Bytes that places in the arena are multiples of.
const ALIGNMENT: usize = 4;

/// Memory that is needed during some steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) len_bytes: usize,
    /// The steps during which it is needed, both included.
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl Block {
    fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// The place of each block, and the bytes of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arena {
    pub(crate) offsets: Vec<usize>,
    pub(crate) len_bytes: usize,
}

/// Places blocks one by one at the lowest place that is free, in several orders,
/// and takes the smallest arena.
pub(crate) fn place(blocks: &[Block]) -> Arena {
    let by_size: fn(&Block) -> (usize, usize) = |block| (usize::MAX - block.len_bytes, block.first);
    let by_time: fn(&Block) -> (usize, usize) = |block| (block.first, usize::MAX - block.len_bytes);
    let by_life: fn(&Block) -> (usize, usize) = |block| {
        (
            usize::MAX - (block.last - block.first),
            usize::MAX - block.len_bytes,
        )
    };
    let arenas = [by_size, by_time, by_life].map(|key| {
        let mut order: Vec<usize> = (0..blocks.len()).collect();
        order.sort_by_key(|&i| key(&blocks[i]));
        place_in_order(blocks, &order)
    });
    let smallest = arenas.into_iter().min_by_key(|arena| arena.len_bytes);
    smallest.unwrap_or_default()
}

fn place_in_order(blocks: &[Block], order: &[usize]) -> Arena {
    let mut arena = Arena {
        offsets: vec![0; blocks.len()],
        len_bytes: 0,
    };
    let mut placed: Vec<usize> = Vec::with_capacity(blocks.len());
    for &i in order {
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&other| blocks[other].meets(&blocks[i]))
            .map(|&other| (arena.offsets[other], blocks[other].len_bytes))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, len) in taken {
            if offset + blocks[i].len_bytes <= start {
                break;
            }
            offset = offset.max((start + len).next_multiple_of(ALIGNMENT));
        }
        arena.offsets[i] = offset;
        arena.len_bytes = arena.len_bytes.max(offset + blocks[i].len_bytes);
        placed.push(i);
    }
    arena.len_bytes = arena.len_bytes.next_multiple_of(ALIGNMENT);
    arena
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(len_bytes: usize, first: usize, last: usize) -> Block {
        Block {
            len_bytes,
            first,
            last,
        }
    }

    #[test]
    fn a_chain_of_values_needs_two_at_a_time() {
        let blocks = [
            block(100, 0, 1),
            block(60, 1, 2),
            block(100, 2, 3),
            block(40, 3, 4),
        ];
        assert_eq!(place(&blocks).len_bytes, 160);
    }

    #[test]
    fn blocks_that_meet_do_not_overlap() {
        let blocks: Vec<Block> = (0..60)
            .map(|i| block(1 + i * 37 % 91, i, i + 1 + i * 13 % 7))
            .collect();
        let arena = place(&blocks);
        for (i, a) in blocks.iter().enumerate() {
            for (j, b) in blocks.iter().enumerate().skip(i + 1) {
                let (x, y) = (arena.offsets[i], arena.offsets[j]);
                let apart = x + a.len_bytes <= y || y + b.len_bytes <= x;
                assert!(apart || !a.meets(b), "{a:?} at {x} and {b:?} at {y}");
            }
        }
    }
}
