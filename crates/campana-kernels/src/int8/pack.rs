//! Weights in the order in which the product kernel reads them.

use std::collections::VecDeque;

use crate::aligned::AlignedBuffer;
use crate::int8::vector::{BYTES, MAX_PAIR_SUM, SUMS};

/// Input values that one 32-bit sum takes at once.
pub(crate) const GROUP: usize = 4;

/// Vectors of columns in the widest panel.
pub(crate) const MAX_PANEL_VECTORS: usize = 2;

/// Groups that a group is tried with before it stays alone.
const MAX_TRIES: usize = 64;

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

    fn weight(&self, at: usize) -> i8 {
        match self {
            Self::Int8(numbers) => numbers[at],
            Self::Codes { table, codes, .. } => table[usize::from(codes[at] & 15)],
        }
    }
}

/// A right-hand matrix `[rows, columns]` of whole numbers.
///
/// The left-hand rows lie in memory as runs (see [`gemm`](crate::gemm)); four
/// consecutive values of a run are a *group*, one step of a 32-bit sum. Columns
/// are cut into panels of 16, the last of 8 where that is enough. In each panel
/// groups are put together two by two such that no input can overflow the sum
/// of both in 16 bits; those that fit nowhere stay apart, and those too large
/// by themselves are split into two halves of each weight.
///
/// A step holds two groups, for each vector of 8 columns 32 bytes each; with
/// 4-bit codes the two share the halves of 32 bytes, with 2-bit codes two
/// steps share 32 bytes.
#[derive(Clone, Debug)]
pub struct PackedWeights {
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

/// A group of one panel and its weights `[columns, 4]`.
struct Part {
    group: usize,
    weights: [i8; BYTES * MAX_PANEL_VECTORS],
    /// Sums of the positive, and of the negative, weights of each two.
    bounds: [u8; BYTES * MAX_PANEL_VECTORS],
    max_bound: u8,
}

impl Part {
    fn new(group: usize, weights: [i8; BYTES * MAX_PANEL_VECTORS]) -> Self {
        let mut bounds = [0; BYTES * MAX_PANEL_VECTORS];
        let (positive, negative) = bounds.split_at_mut(BYTES);
        let signs = positive.iter_mut().zip(negative);
        for ((positive, negative), pair) in signs.zip(weights.chunks_exact(2)) {
            let (a, b) = (i16::from(pair[0]), i16::from(pair[1]));
            *positive = (a.max(0) + b.max(0)) as u8;
            *negative = (-(a.min(0) + b.min(0))).min(255) as u8;
        }
        Self {
            group,
            weights,
            max_bound: bounds.iter().fold(0, |max, &bound| max.max(bound)),
            bounds,
        }
    }

    fn fits(&self, other: &Self) -> bool {
        let sums = self.bounds.iter().zip(&other.bounds);
        sums.fold(0, |max: u8, (a, b)| max.max(a.saturating_add(*b))) <= MAX_PAIR_SUM as u8
    }

    /// Two parts with half of each weight.
    fn halves(&self) -> [Self; 2] {
        let low = self.weights.map(|w| w >> 1);
        let high = core::array::from_fn(|i| self.weights[i] - low[i]);
        [low, high].map(|weights| Self::new(self.group, weights))
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
    pub fn pack(runs: usize, run_len: usize, columns: usize, stored: StoredWeights<'_>) -> Self {
        let groups_in_run = run_len.div_ceil(GROUP);
        let groups = runs * groups_in_run;
        assert!(
            u32::try_from(runs * run_len).is_ok(),
            "rows that can be numbered"
        );
        let rows = runs * run_len;
        assert_eq!(stored.len(), rows * columns, "weights of each column");
        let whole = run_len.is_multiple_of(GROUP);
        let mut bits = match stored {
            StoredWeights::Codes { bits, .. } if whole || stored.zero().is_some() => bits,
            _ => 8,
        };
        let mut result = Self {
            rows,
            columns,
            bits,
            table: match stored {
                StoredWeights::Codes { table, .. } => table.map(i8::cast_unsigned),
                StoredWeights::Int8(_) => [0; 16],
            },
            panels: Vec::new(),
            places: Vec::new(),
            runs,
            data: AlignedBuffer::default(),
            sums: vec![0; columns],
        };
        let mut steps_of_panels = Vec::new();
        let mut column = 0;
        while column < columns {
            let vectors = MAX_PANEL_VECTORS.min((columns - column).div_ceil(SUMS));
            let width = vectors * SUMS;
            let mut parts = Vec::with_capacity(groups);
            for group in 0..groups {
                let (run, place) = (group / groups_in_run, group % groups_in_run * GROUP);
                let mut weights = [0; BYTES * MAX_PANEL_VECTORS];
                for c in 0..width.min(columns - column) {
                    for i in 0..GROUP.min(run_len - place) {
                        let row = run * run_len + place + i;
                        let weight = stored.weight((column + c) * rows + row);
                        weights[c * GROUP + i] = weight;
                        result.sums[column + c] += i32::from(weight);
                    }
                }
                let part = Part::new(group, weights);
                if i32::from(part.max_bound) > MAX_PAIR_SUM {
                    bits = 8;
                    parts.extend(part.halves());
                } else {
                    parts.push(part);
                }
            }
            // What fills up the last step must be zero.
            if parts.len() % 2 == 1 && stored.zero().is_none() {
                bits = 8;
            }
            steps_of_panels.push((column, vectors, steps(parts)));
            column += width;
        }
        result.bits = bits;
        result.lay_out(&steps_of_panels, run_len, groups_in_run, stored);
        result
    }

    fn lay_out(
        &mut self,
        panels: &[(usize, usize, Steps)],
        run_len: usize,
        groups_in_run: usize,
        stored: StoredWeights<'_>,
    ) {
        let step_bytes = |vectors: usize| 2 * vectors * BYTES;
        let panel_bytes = |vectors: usize, steps: usize| match self.bits {
            8 => steps * step_bytes(vectors),
            4 => steps * step_bytes(vectors) / 2,
            _ => steps.div_ceil(2) * step_bytes(vectors) / 2,
        };
        let len: usize = panels
            .iter()
            .map(|(_, vectors, steps)| panel_bytes(*vectors, steps.len()))
            .sum();
        let mut data = AlignedBuffer::zeros(len.div_ceil(size_of::<f32>()));
        let mut start = 0;
        for (column, vectors, steps) in panels {
            let width = vectors * SUMS;
            let bytes = &mut data.as_mut_bytes()[start..start + panel_bytes(*vectors, steps.len())];
            let zero = stored.zero().unwrap_or(0);
            let code = |part: Option<&Part>, lane: usize| -> u8 {
                let (StoredWeights::Codes { codes, .. }, Some(part)) = (stored, part) else {
                    return zero;
                };
                let run = part.group / groups_in_run;
                let place = part.group % groups_in_run * GROUP + lane % GROUP;
                let column = column + lane / GROUP;
                if column >= self.columns || place >= run_len {
                    return zero;
                }
                codes[column * self.rows + run * run_len + place]
            };
            for (s, step) in steps.all().enumerate() {
                for (half, part) in step.iter().enumerate() {
                    for lane in 0..width * GROUP {
                        match self.bits {
                            8 => {
                                bytes[s * step_bytes(*vectors) + half * width * GROUP + lane] =
                                    part.map_or(0, |part| part.weights[lane].cast_unsigned());
                            }
                            4 => bytes[s * width * GROUP + lane] |= code(*part, lane) << (4 * half),
                            _ => {
                                let field = 2 * (s % 2) + half;
                                bytes[s / 2 * width * GROUP + lane] |=
                                    code(*part, lane) << (2 * field);
                            }
                        }
                    }
                }
            }
            self.panels.push(Panel {
                column: *column,
                vectors: *vectors,
                start,
                offsets: self.places.len(),
                joined: steps.joined.len(),
                apart: steps.apart.len(),
            });
            for part in steps.all().flatten() {
                // What fills up the last step has weights of zero.
                let group = part.map_or(0, |part| part.group);
                let place = [group / groups_in_run, group % groups_in_run * GROUP];
                self.places.push(place.map(|n| n as u32));
            }
            start += bytes.len();
        }
        self.data = data;
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

    /// Share of the steps whose groups had to stay apart.
    pub fn apart_share(&self) -> f64 {
        let apart: usize = self.panels.iter().map(|panel| panel.apart).sum();
        let joined: usize = self.panels.iter().map(|panel| panel.joined).sum();
        apart as f64 / (apart + joined).max(1) as f64
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

/// The groups of a panel, two by two.
struct Steps {
    parts: Vec<Part>,
    joined: Vec<[usize; 2]>,
    apart: Vec<[Option<usize>; 2]>,
}

impl Steps {
    fn len(&self) -> usize {
        self.joined.len() + self.apart.len()
    }

    fn all(&self) -> impl Iterator<Item = [Option<&Part>; 2]> {
        let joined = self.joined.iter().map(|pair| pair.map(Some));
        let all = joined.chain(self.apart.iter().copied());
        all.map(|pair| pair.map(|part| part.map(|part| &self.parts[part])))
    }
}

/// Puts parts together; neighbours where all fit all, which keeps the reads in order.
fn steps(parts: Vec<Part>) -> Steps {
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
    let apart = alone
        .chunks(2)
        .map(|pair| [pair.first().copied(), pair.get(1).copied()])
        .collect();
    Steps {
        parts,
        joined,
        apart,
    }
}
