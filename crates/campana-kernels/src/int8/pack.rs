//! Weights in the order in which the product kernel reads them.

use std::collections::VecDeque;
use std::ops::Range;

use super::arrange::arrange_steps;
use super::columns::{Columns, Encoding, GROUP, Reader, largest_of};
use super::shape::VectorShape;
use super::vector::{IN_ORDER, MAX_PAIR_SUM};
use crate::aligned::AlignedBuffer;
use crate::isa::Isa;

/// Groups that a group is tried with before it stays alone.
const MAX_TRIES: usize = 64;

/// Bytes of a panel's group where groups are paired.
const PAIRED_BYTES: usize = 64;

/// A right-hand matrix `[rows, columns]` of whole numbers, laid out for an ISA.
///
/// The left-hand rows lie in memory as runs (see [`gemm`](crate::gemm)); four
/// consecutive values of a run are a *group*, one step of a 32-bit sum. Columns
/// are cut into panels of as many vectors as the ISA's kernels take at once.
///
/// A step holds two groups, for each vector of columns its bytes each; with
/// 4-bit codes the two share the halves of bytes, with 2-bit codes two steps
/// share bytes.
///
/// Where an ISA sums four products in 32 bits, groups are in their order, or
/// those first of which four lie side by side in a run. Elsewhere they are put together two by two, in each panel, such that no
/// input can overflow the sum of both in 16 bits; those that fit nowhere stay
/// apart, and those too large by themselves are split into two halves of each
/// weight.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    isa: Isa,
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
    /// Steps whose groups are summed together in 16 bits, or two by two lie side
    /// by side in a row.
    pub(crate) joined: usize,
    /// Steps after those, whose groups are widened, or read, one by one.
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

/// The groups of a panel in the order in which they are summed, two for each step.
struct Order {
    /// `None` fills up the last step.
    slots: Vec<Option<Slot>>,
    /// Steps whose groups are summed together, or are those of whole quads.
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

    /// A group's rows.
    fn rows(self, group: usize) -> Range<usize> {
        let [run, place] = self.place(group);
        let start = run * self.run_len + place;
        start..start + GROUP.min(self.run_len - place)
    }

    /// Whether no group is shorter than others.
    fn are_whole(self) -> bool {
        self.run_len.is_multiple_of(GROUP)
    }
}

impl PackedWeights {
    /// Lays out a matrix whose row `r * run_len + i` is multiplied with value
    /// `i` of the left-hand row's run `r`.
    ///
    /// `write` is given the number of a column and where its bytes go, one for
    /// each row, and comes to each column once or twice.
    ///
    /// Codes are kept as they are where that is possible: where no weight is so
    /// large that it must be split, and a code of zero or whole groups need no
    /// filling up.
    ///
    /// # Panics
    ///
    /// Where there are 2^32 rows or more.
    pub fn pack(
        isa: Isa,
        runs: usize,
        run_len: usize,
        columns: usize,
        encoding: Encoding,
        write: impl FnMut(usize, &mut [u8]),
    ) -> Self {
        assert!(
            u32::try_from(runs * run_len).is_ok(),
            "rows that can be numbered"
        );
        let rows = runs * run_len;
        let shape = VectorShape::of(isa);
        let groups = Groups::new(runs, run_len);
        let panels = panels(columns, shape);
        let columns_of = |&(column, vectors): &(usize, usize)| {
            column..columns.min(column + vectors * shape.sums)
        };
        let widest = columns.min(shape.panel_vectors * shape.sums);
        let mut reader = Reader::new(encoding, rows, widest, write);
        let orders: Vec<Order> = if shape.quads {
            vec![by_quads(groups)]
        } else if shape.exact {
            vec![in_order(groups.count())]
        } else {
            let order = |panel| paired(parts(&reader.columns(columns_of(panel)), groups));
            panels.iter().map(order).collect()
        };
        let (bits, table) = match encoding {
            Encoding::Codes { bits, table } if fits_codes(&orders, groups, encoding) => {
                (bits, table)
            }
            _ => (8, [0; 16]),
        };
        let mut result = Self {
            isa,
            rows,
            columns,
            bits,
            table: match bits {
                2 => core::array::from_fn(|i| table[i % 4].cast_unsigned()),
                _ => table.map(i8::cast_unsigned),
            },
            panels: Vec::with_capacity(panels.len()),
            places: Vec::new(),
            runs,
            data: AlignedBuffer::default(),
            sums: Vec::with_capacity(columns),
            largest_sum: 0,
        };
        for order in &orders {
            // What fills up the last step has weights of zero.
            let slots = order.slots.iter();
            let place = |slot: &Option<Slot>| groups.place(slot.map_or(0, |(group, _)| group));
            let places = slots.map(|slot| place(slot).map(|n| n as u32));
            result.places.extend(places);
        }
        let order_of = |panel: usize| &orders[panel.min(orders.len() - 1)];
        let fields = usize::from(8 / bits);
        let units = |panel: usize| order_of(panel).slots.len().div_ceil(fields);
        let panel_bytes = |panel: usize| units(panel) * panels[panel].1 * shape.bytes;
        let len: usize = (0..panels.len()).map(panel_bytes).sum();
        let mut data = AlignedBuffer::zeros(len.div_ceil(size_of::<f32>()));
        let (mut start, mut offsets) = (0, 0);
        for (p, panel) in panels.iter().enumerate() {
            let order = order_of(p);
            let columns = reader.columns(columns_of(panel));
            for column in 0..columns.count() {
                let sums = columns.sums(isa, column);
                result.sums.push(sums[0] + sums[1]);
                result.largest_sum = result.largest_sum.max(largest_of(sums));
            }
            let to = &mut data.as_mut_bytes()[start..start + panel_bytes(p)];
            let layout = Layout {
                bits,
                groups,
                order,
                width: panel.1 * shape.sums,
            };
            layout.write(&columns, to);
            if shape.step_order != IN_ORDER {
                arrange_steps(to, bits, panel.1 * shape.bytes, &shape.step_order);
            }
            let steps = order.slots.len() / 2;
            result.panels.push(Panel {
                column: panel.0,
                vectors: panel.1,
                start,
                offsets,
                joined: order.joined,
                apart: steps - order.joined,
            });
            start += to.len();
            if orders.len() > 1 {
                offsets += order.slots.len();
            }
        }
        result.sums.resize(columns, 0);
        result.data = data;
        result
    }

    /// The ISA that it is laid out for.
    #[inline]
    pub fn isa(&self) -> Isa {
        self.isa
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

    /// The largest of the columns' [`largest_sum`](super::largest_sum).
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

/// How a panel's weights lie in memory: unit after unit, in each four bytes for
/// each column.
struct Layout<'a> {
    bits: u8,
    groups: Groups,
    order: &'a Order,
    /// Columns that there is room for.
    width: usize,
}

impl Layout<'_> {
    /// Writes the columns of a panel.
    fn write(&self, columns: &Columns<'_>, to: &mut [u8]) {
        let fields = usize::from(8 / self.bits);
        let filling = match self.bits {
            8 => 0,
            _ => columns.encoding.zero().unwrap_or(0),
        };
        let (words, _) = to.as_chunks_mut::<GROUP>();
        // What is beyond the last column.
        if filling != 0 && columns.count() < self.width {
            let byte = (0..fields).fold(0, |byte, _| byte << self.bits | filling);
            words.fill([byte; GROUP]);
        }
        // Codes that do not stay codes are looked up one by one.
        let stays = self.bits != 8 || matches!(columns.encoding, Encoding::Int8);
        let is_plain = |&(i, slot): &(usize, &Option<Slot>)| *slot == Some((i, Share::Whole));
        let slots = self.order.slots.iter().enumerate();
        let plain_units = match self.groups.are_whole() && stays {
            true => slots.take_while(is_plain).count() / fields,
            false => 0,
        };
        let (plain, others) = words.split_at_mut(plain_units * self.width);
        // Blocks small enough for what is read and written to stay in the nearest cache.
        let mut row = 0;
        for block in plain.chunks_mut(UNITS_AT_ONCE * self.width) {
            let len = block.len() / self.width * fields * GROUP;
            for column in 0..columns.count() {
                let (fours, _) = columns.bytes(column, row..row + len).as_chunks();
                let words = block[column..].iter_mut().step_by(self.width);
                join(self.bits, fours, words);
            }
            row += len;
        }
        let slots = self.order.slots[plain_units * fields..].chunks(fields);
        for (words, slots) in others.chunks_mut(self.width).zip(slots) {
            for (column, word) in words.iter_mut().enumerate().take(columns.count()) {
                let mut fours = [[filling; GROUP]; 4];
                for (four, slot) in fours.iter_mut().zip(slots) {
                    if let Some((group, share)) = *slot {
                        *four = self.four(columns, column, group, share, filling);
                    }
                }
                join(self.bits, &fours[..fields], std::iter::once(word));
            }
        }
    }

    /// The weights, or codes, of a group in a column.
    #[inline(always)]
    fn four(
        &self,
        columns: &Columns<'_>,
        column: usize,
        group: usize,
        share: Share,
        filling: u8,
    ) -> [u8; GROUP] {
        let rows = self.groups.rows(group);
        let mut four = [filling; GROUP];
        if self.bits == 8 {
            let weights = columns.weights(column, rows);
            for i in 0..GROUP {
                four[i] = share.of(weights[i]).cast_unsigned();
            }
        } else {
            four[..rows.len()].copy_from_slice(columns.bytes(column, rows));
        }
        four
    }
}

/// Makes words of groups in so many bits, of as many as share bytes each.
#[inline(always)]
fn join<'w>(bits: u8, fours: &[[u8; GROUP]], words: impl Iterator<Item = &'w mut [u8; GROUP]>) {
    let number = |four: [u8; GROUP]| u32::from_le_bytes(four);
    match bits {
        8 => {
            for (word, &four) in words.zip(fours) {
                *word = four;
            }
        }
        4 => {
            for (word, &[a, b]) in words.zip(fours.as_chunks().0) {
                *word = (number(a) | number(b) << 4).to_le_bytes();
            }
        }
        _ => {
            for (word, &[a, b, c, d]) in words.zip(fours.as_chunks().0) {
                let low = number(a) | number(b) << 2;
                *word = (low | number(c) << 4 | number(d) << 6).to_le_bytes();
            }
        }
    }
}

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
fn fits_codes(orders: &[Order], groups: Groups, encoding: Encoding) -> bool {
    let mut slots = orders.iter().flat_map(|order| &order.slots);
    let split = slots
        .clone()
        .flatten()
        .any(|&(_, share)| share != Share::Whole);
    let filled = !groups.are_whole() || slots.any(Option::is_none);
    !split && (!filled || encoding.zero().is_some())
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

/// First the groups of which four lie side by side in a run, then those of which
/// two do, then the others.
fn by_quads(groups: Groups) -> Order {
    let mut parts: [Vec<Option<Slot>>; 3] = Default::default();
    for run in 0..groups.runs {
        let mut first = run * groups.in_run;
        let end = first + groups.in_run;
        while first < end {
            let (part, len) = match end - first {
                1 => (2, 1),
                2 | 3 => (1, 2),
                _ => (0, 4),
            };
            parts[part].extend((first..first + len).map(|group| Some((group, Share::Whole))));
            first += len;
        }
    }
    let joined = parts[0].len() / 2;
    let mut slots = parts.concat();
    slots.resize(slots.len().next_multiple_of(2), None);
    Order { slots, joined }
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
fn parts(columns: &Columns<'_>, groups: Groups) -> Vec<Part> {
    let mut parts = Vec::with_capacity(groups.count());
    for group in 0..groups.count() {
        let mut weights = [0; PAIRED_BYTES];
        for (column, weights) in weights
            .chunks_exact_mut(GROUP)
            .enumerate()
            .take(columns.count())
        {
            weights.copy_from_slice(&columns.weights(column, groups.rows(group)));
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
