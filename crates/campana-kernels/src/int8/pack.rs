//! Weights in the order in which the product kernel reads them.

use std::collections::VecDeque;
use std::ops::Range;

use super::vector::{MAX_PAIR_SUM, VectorShape};
use crate::aligned::AlignedBuffer;
use crate::level::Level;

/// Input values that one 32-bit sum takes at once.
pub(crate) const GROUP: usize = 4;

/// Groups that a group is tried with before it stays alone.
const MAX_TRIES: usize = 64;

/// Bytes of a panel's group where groups are paired.
const PAIRED_BYTES: usize = 64;

/// A matrix `[columns, rows]`, of whole numbers or of codes into a table of them.
#[derive(Clone, Copy, Debug)]
pub enum StoredWeights<'a> {
    /// -127 to 127.
    Int8(&'a [i8]),
    /// Codes 0 to 15, or 0 to 3 where `bits` is 2, and the numbers they stand for.
    Codes {
        /// 2 or 4.
        bits: u8,
        /// The number of each code.
        table: [i8; 16],
        /// The codes.
        codes: &'a [u8],
    },
}

impl StoredWeights<'_> {
    /// The code of zero, where there is one; codes beyond those used count too.
    fn zero(&self) -> Option<u8> {
        let Self::Codes { bits, table, .. } = self else {
            return None;
        };
        let codes = 1usize << bits;
        let place = table.iter().take(codes).position(|&number| number == 0)?;
        u8::try_from(place).ok()
    }

    fn len(&self) -> usize {
        match self {
            Self::Int8(numbers) => numbers.len(),
            Self::Codes { codes, .. } => codes.len(),
        }
    }

    /// The weights `at..at + len`, up to four of them, and zeros behind them.
    #[inline(always)]
    fn weights(&self, at: usize, len: usize) -> [i8; GROUP] {
        let mut weights = [0; GROUP];
        match self {
            Self::Int8(numbers) if len == GROUP => {
                if let Some(four) = numbers[at..].first_chunk() {
                    weights = *four;
                }
            }
            Self::Int8(numbers) => weights[..len].copy_from_slice(&numbers[at..at + len]),
            Self::Codes { table, codes, .. } => {
                for (weight, code) in weights.iter_mut().zip(&codes[at..at + len]) {
                    *weight = table[usize::from(code & 15)];
                }
            }
        }
        weights
    }

    /// The sums of each column's weights below and above zero.
    fn sums(&self, rows: usize, columns: usize) -> Vec<[i32; 2]> {
        if rows == 0 {
            return vec![[0; 2]; columns];
        }
        match self {
            Self::Int8(numbers) => numbers
                .chunks_exact(rows)
                .map(|column| by_sign(column.iter().copied()))
                .collect(),
            Self::Codes { table, codes, .. } => codes
                .chunks_exact(rows)
                .map(|column| by_sign(column.iter().map(|code| table[usize::from(code & 15)])))
                .collect(),
        }
    }
}

/// The sums of the numbers below and above zero.
fn by_sign(numbers: impl Iterator<Item = i8>) -> [i32; 2] {
    numbers.fold([0; 2], |[below, above], number| {
        let number = i32::from(number);
        [below + number.min(0), above + number.max(0)]
    })
}

/// The largest magnitude of a sum of these weights, each times a code less one
/// zero point, whatever the codes and the zero point are.
pub fn largest_sum(weights: impl Iterator<Item = i8>) -> u64 {
    largest_of(by_sign(weights))
}

fn largest_of([below, above]: [i32; 2]) -> u64 {
    u64::from(u8::MAX) * u64::from(below.unsigned_abs().max(above.unsigned_abs()))
}

/// A right-hand matrix `[rows, columns]` of whole numbers, laid out for a level.
///
/// The left-hand rows lie in memory as runs (see [`gemm`](crate::gemm)); four
/// consecutive values of a run are a *group*, one step of a 32-bit sum. Columns
/// are cut into panels of as many vectors as the level's kernels take at once.
///
/// A step holds two groups, for each vector of columns its bytes each; with
/// 4-bit codes the two share the halves of bytes, with 2-bit codes two steps
/// share bytes.
///
/// Where a level sums four products in 32 bits, groups are in their order.
/// Elsewhere they are put together two by two, in each panel, such that no
/// input can overflow the sum of both in 16 bits; those that fit nowhere stay
/// apart, and those too large by themselves are split into two halves of each
/// weight.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    level: Level,
    rows: usize,
    columns: usize,
    bits: u8,
    table: [u8; 16],
    panels: Vec<Panel>,
    /// Run, and place in the run, of each group, two for each step.
    places: Vec<[u32; 2]>,
    runs: usize,
    data: AlignedBuffer,
    sums: Vec<i32>,
    largest_sum: u64,
}

/// Where the groups of [`PackedWeights`] find their inputs, from the start of a row.
#[derive(Clone, Debug)]
pub struct GroupOffsets {
    pub(crate) offsets: Vec<u32>,
    pub(crate) reach: usize,
}

impl GroupOffsets {
    /// Bytes that are read behind the start of a left-hand row.
    pub fn reach(&self) -> usize {
        self.reach
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Panel {
    pub(crate) column: usize,
    pub(crate) vectors: usize,
    /// Where its bytes and its groups start.
    pub(crate) start: usize,
    pub(crate) offsets: usize,
    /// Steps whose groups are summed together in 16 bits.
    pub(crate) joined: usize,
    /// Steps after those, whose groups are widened one by one.
    pub(crate) apart: usize,
}

/// What of weights is summed in one step; both halves one after the
/// other where the whole could overflow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Share {
    Whole,
    Low,
    High,
}

impl Share {
    pub(crate) fn of(self, weight: i8) -> i8 {
        match self {
            Self::Whole => weight,
            Self::Low => weight >> 1,
            Self::High => weight - (weight >> 1),
        }
    }
}

/// A group, or half of each of its weights.
type Slot = (usize, Share);

/// Where a group's weights are in a column, and what of them is meant.
#[derive(Clone, Copy)]
struct Piece {
    row: usize,
    len: usize,
    share: Share,
}

/// The groups of a panel in the order in which they are summed, two for each step.
struct Order {
    /// `None` fills up the last step.
    slots: Vec<Option<Slot>>,
    /// Steps whose groups are summed together.
    joined: usize,
}

/// How the rows of a matrix are cut into groups.
#[derive(Clone, Copy)]
struct Groups {
    runs: usize,
    run_len: usize,
    in_run: usize,
}

impl Groups {
    fn new(runs: usize, run_len: usize) -> Self {
        let in_run = run_len.div_ceil(GROUP);
        Self {
            runs,
            run_len,
            in_run,
        }
    }

    fn count(self) -> usize {
        self.runs * self.in_run
    }

    /// Run, and place in the run.
    fn place(self, group: usize) -> [usize; 2] {
        [group / self.in_run, group % self.in_run * GROUP]
    }

    /// Where a group's rows start, and how many there are.
    fn rows(self, group: usize) -> (usize, usize) {
        let [run, place] = self.place(group);
        (run * self.run_len + place, GROUP.min(self.run_len - place))
    }
}

impl PackedWeights {
    /// Lays out a matrix whose row `r * run_len + i` is multiplied with value
    /// `i` of the left-hand row's run `r`.
    ///
    /// Codes are kept as they are where that is possible: where no weight is so
    /// large that it must be split, and a code of zero or whole groups need no
    /// filling up.
    ///
    /// # Panics
    ///
    /// Where there are 2^32 rows or more, or not as many weights as rows and columns say.
    pub fn pack(
        level: Level,
        runs: usize,
        run_len: usize,
        columns: usize,
        stored: StoredWeights<'_>,
    ) -> Self {
        assert!(
            u32::try_from(runs * run_len).is_ok(),
            "rows that can be numbered"
        );
        let rows = runs * run_len;
        assert_eq!(stored.len(), rows * columns, "weights of each column");
        let shape = VectorShape::of(level);
        let groups = Groups::new(runs, run_len);
        let panels = panels(columns, shape);
        let orders: Vec<Order> = if shape.exact {
            vec![in_order(groups.count())]
        } else {
            let order = |&(column, vectors): &(usize, usize)| {
                let end = columns.min(column + vectors * shape.sums);
                paired(parts(column..end, groups, stored))
            };
            panels.iter().map(order).collect()
        };
        let bits = match stored {
            StoredWeights::Codes { bits, .. } if fits_codes(&orders, groups, stored) => bits,
            _ => 8,
        };
        let sums = stored.sums(rows, columns);
        let mut result = Self {
            level,
            rows,
            columns,
            bits,
            table: match stored {
                StoredWeights::Codes { bits: 2, table, .. } => {
                    core::array::from_fn(|i| table[i % 4].cast_unsigned())
                }
                StoredWeights::Codes { table, .. } => table.map(i8::cast_unsigned),
                StoredWeights::Int8(_) => [0; 16],
            },
            panels: Vec::with_capacity(panels.len()),
            places: Vec::new(),
            runs,
            data: AlignedBuffer::default(),
            sums: sums.iter().map(|[below, above]| below + above).collect(),
            largest_sum: sums.iter().copied().map(largest_of).max().unwrap_or(0),
        };
        for order in &orders {
            // What fills up the last step has weights of zero.
            let slots = order.slots.iter();
            let place = |slot: &Option<Slot>| groups.place(slot.map_or(0, |(group, _)| group));
            let places = slots.map(|slot| place(slot).map(|n| n as u32));
            result.places.extend(places);
        }
        result.lay_out(&panels, &orders, shape, groups, stored);
        result
    }

    fn lay_out(
        &mut self,
        panels: &[(usize, usize)],
        orders: &[Order],
        shape: VectorShape,
        groups: Groups,
        stored: StoredWeights<'_>,
    ) {
        // Groups that share bytes.
        let fields = usize::from(8 / self.bits);
        let units = |order: &Order| order.slots.len().div_ceil(fields);
        let order_of = |panel: usize| &orders[panel.min(orders.len() - 1)];
        let panel_bytes = |panel: usize| units(order_of(panel)) * panels[panel].1 * shape.bytes;
        let len: usize = (0..panels.len()).map(panel_bytes).sum();
        let mut data = AlignedBuffer::zeros(len.div_ceil(size_of::<f32>()));
        let filling = [stored.zero().unwrap_or(0); GROUP];
        let (mut start, mut offsets) = (0, 0);
        let mut pieces = Vec::new();
        for (p, &(column, vectors)) in panels.iter().enumerate() {
            let order = order_of(p);
            if p < orders.len() {
                let piece = |slot: &Option<Slot>| {
                    slot.map(|(group, share)| {
                        let (row, len) = groups.rows(group);
                        Piece { row, len, share }
                    })
                };
                pieces = order.slots.iter().map(piece).collect();
            }
            let bytes = &mut data.as_mut_bytes()[start..start + panel_bytes(p)];
            let width = vectors * shape.sums;
            // Blocks small enough for what is read and written to stay in the nearest cache.
            for (b, block) in bytes.chunks_mut(UNITS_AT_ONCE * width * GROUP).enumerate() {
                let pieces = &pieces[b * UNITS_AT_ONCE * fields..];
                for c in 0..width {
                    let column = column + c;
                    let units = block.chunks_exact_mut(width * GROUP);
                    for (unit, pieces) in units.zip(pieces.chunks(fields)) {
                        let mut word = 0;
                        for field in 0..fields {
                            let piece = pieces.get(field).copied().flatten();
                            let four = match piece.filter(|_| column < self.columns) {
                                Some(piece) => self.four(piece, column, filling, stored),
                                None if self.bits == 8 => [0; GROUP],
                                None => filling,
                            };
                            let shift = usize::from(self.bits) * field;
                            word |= u32::from_le_bytes(four) << shift;
                        }
                        unit[c * GROUP..][..GROUP].copy_from_slice(&word.to_le_bytes());
                    }
                }
            }
            let steps = order.slots.len() / 2;
            self.panels.push(Panel {
                column,
                vectors,
                start,
                offsets,
                joined: order.joined,
                apart: steps - order.joined,
            });
            start += bytes.len();
            if orders.len() > 1 {
                offsets += order.slots.len();
            }
        }
        self.data = data;
    }

    /// The weights, or codes, of a group in a column.
    #[inline(always)]
    fn four(
        &self,
        Piece { row, len, share }: Piece,
        column: usize,
        filling: [u8; GROUP],
        stored: StoredWeights<'_>,
    ) -> [u8; GROUP] {
        let at = column * self.rows + row;
        match stored {
            StoredWeights::Codes { codes, .. } if self.bits != 8 => {
                match codes[at..].first_chunk() {
                    Some(four) if len == GROUP => *four,
                    _ => {
                        let mut four = filling;
                        four[..len].copy_from_slice(&codes[at..at + len]);
                        four
                    }
                }
            }
            _ => {
                let (weights, mut four) = (stored.weights(at, len), [0; GROUP]);
                for i in 0..GROUP {
                    four[i] = share.of(weights[i]).cast_unsigned();
                }
                four
            }
        }
    }

    /// The level that it is laid out for.
    #[inline]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Number of rows.
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[inline]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bits in which a weight is kept: 2, 4 or 8.
    #[inline]
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The sum of each column's weights.
    pub fn column_sums(&self) -> &[i32] {
        &self.sums
    }

    /// The largest of the columns' [`largest_sum`].
    pub fn largest_sum(&self) -> u64 {
        self.largest_sum
    }

    /// Where the groups are in rows whose runs start at these offsets.
    ///
    /// # Panics
    ///
    /// Where there are not as many runs as in the packing, or an offset does
    /// not fit 32 bits.
    pub fn offsets(&self, runs: &[usize]) -> GroupOffsets {
        assert_eq!(runs.len(), self.runs, "offsets of all runs");
        let offset = |&[run, place]: &[u32; 2]| {
            let offset = runs[run as usize].checked_add(place as usize);
            u32::try_from(offset.expect("a row in memory")).expect("offsets of 32 bits")
        };
        let offsets: Vec<u32> = self.places.iter().map(offset).collect();
        let last = offsets.iter().max();
        GroupOffsets {
            reach: last.map_or(0, |&last| last as usize + GROUP),
            offsets,
        }
    }

    /// Bytes in memory.
    pub fn len_bytes(&self) -> usize {
        self.data.len_bytes()
            + size_of_val(self.places.as_slice())
            + size_of_val(self.sums.as_slice())
    }

    pub(crate) fn group_count(&self) -> usize {
        self.places.len()
    }

    #[inline]
    pub(crate) fn panels(&self) -> &[Panel] {
        &self.panels
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.data.as_bytes()
    }

    #[inline]
    pub(crate) fn table(&self) -> &[u8; 16] {
        &self.table
    }
}

/// Units of a panel, each of as many groups as share bytes, that are laid out at once.
const UNITS_AT_ONCE: usize = 16;

/// First column, and vectors, of each panel: as few panels as there may be, of like width.
fn panels(columns: usize, shape: VectorShape) -> Vec<(usize, usize)> {
    let mut vectors = columns.div_ceil(shape.sums);
    let mut panels = Vec::new();
    let mut column = 0;
    while vectors > 0 {
        let width = vectors.div_ceil(vectors.div_ceil(shape.panel_vectors));
        panels.push((column, width));
        column += width * shape.sums;
        vectors -= width;
    }
    panels
}

/// Whether weights can stay codes: no weight is split, and there is a code of
/// zero where something must be filled up.
fn fits_codes(orders: &[Order], groups: Groups, stored: StoredWeights<'_>) -> bool {
    let mut slots = orders.iter().flat_map(|order| &order.slots);
    let split = slots
        .clone()
        .flatten()
        .any(|&(_, share)| share != Share::Whole);
    let filled = !groups.run_len.is_multiple_of(GROUP) || slots.any(Option::is_none);
    !split && (!filled || stored.zero().is_some())
}

/// All groups one after the other.
fn in_order(groups: usize) -> Order {
    let mut slots: Vec<_> = (0..groups)
        .map(|group| Some((group, Share::Whole)))
        .collect();
    slots.resize(groups.next_multiple_of(2), None);
    Order {
        joined: slots.len() / 2,
        slots,
    }
}

/// What a panel has of a group, where groups are paired.
struct Part {
    slot: Slot,
    /// Sums of the positive, and of the negative, weights of each two.
    bounds: [u8; PAIRED_BYTES],
    max_bound: u8,
}

impl Part {
    fn new(slot: Slot, weights: &[i8; PAIRED_BYTES]) -> Self {
        let mut bounds = [0; PAIRED_BYTES];
        let (positive, negative) = bounds.split_at_mut(PAIRED_BYTES / 2);
        let signs = positive.iter_mut().zip(negative);
        for ((positive, negative), pair) in signs.zip(weights.chunks_exact(2)) {
            let (a, b) = (i16::from(slot.1.of(pair[0])), i16::from(slot.1.of(pair[1])));
            *positive = (a.max(0) + b.max(0)) as u8;
            *negative = (-(a.min(0) + b.min(0))).min(255) as u8;
        }
        Self {
            slot,
            max_bound: bounds.iter().fold(0, |max, &bound| max.max(bound)),
            bounds,
        }
    }

    fn fits(&self, other: &Self) -> bool {
        let sums = self.bounds.iter().zip(&other.bounds);
        sums.fold(0, |max: u8, (a, b)| max.max(a.saturating_add(*b))) <= MAX_PAIR_SUM as u8
    }
}

/// The groups of these columns, those too large in halves.
fn parts(columns: Range<usize>, groups: Groups, stored: StoredWeights<'_>) -> Vec<Part> {
    let rows = groups.runs * groups.run_len;
    let mut parts = Vec::with_capacity(groups.count());
    for group in 0..groups.count() {
        let mut weights = [0; PAIRED_BYTES];
        let (row, len) = groups.rows(group);
        for (column, weights) in columns.clone().zip(weights.chunks_exact_mut(GROUP)) {
            weights.copy_from_slice(&stored.weights(column * rows + row, len));
        }
        let part = Part::new((group, Share::Whole), &weights);
        if i32::from(part.max_bound) > MAX_PAIR_SUM {
            let halves = [Share::Low, Share::High];
            parts.extend(halves.map(|half| Part::new((group, half), &weights)));
        } else {
            parts.push(part);
        }
    }
    parts
}

/// Puts parts together; neighbours where all fit all, which keeps the reads in order.
fn paired(parts: Vec<Part>) -> Order {
    let largest = parts.iter().map(|part| part.max_bound).max().unwrap_or(0);
    let mut joined = Vec::with_capacity(parts.len() / 2);
    let mut alone = Vec::new();
    if 2 * i32::from(largest) <= MAX_PAIR_SUM {
        joined.extend((0..parts.len() / 2).map(|i| [2 * i, 2 * i + 1]));
        alone.extend((parts.len() % 2 == 1).then(|| parts.len() - 1));
    } else {
        // The largest first, each with the smallest that it fits.
        let mut order: Vec<usize> = (0..parts.len()).collect();
        order.sort_by_key(|&part| parts[part].max_bound);
        // Parts leave at both ends; a vector would move all others each time.
        let mut order = VecDeque::from(order);
        while let Some(part) = order.pop_back() {
            let mut tried = order.iter().take(MAX_TRIES);
            let place = tried.position(|&other| parts[part].fits(&parts[other]));
            match place.and_then(|place| order.remove(place)) {
                Some(other) => joined.push([part.min(other), part.max(other)]),
                None => alone.push(part),
            }
        }
        joined.sort_unstable();
        alone.sort_unstable();
    }
    let all = joined.iter().flatten().chain(&alone);
    let mut slots: Vec<_> = all.map(|&part| Some(parts[part].slot)).collect();
    slots.resize(slots.len().next_multiple_of(2), None);
    Order {
        slots,
        joined: joined.len(),
    }
}
