//! Median and D of many weights from counts in buckets.

use rayon::prelude::*;

use super::statistic::{self, CDF_SLACK};
use crate::grid::Grid;
use crate::order::{from_key, key};
use campana_codebook::vectorized;

/// Weights that one parallel task looks through.
const TASK: usize = 1 << 18;

/// Weights that are read twice from the first-level cache.
const CACHED: usize = 4096;

/// Weights that are passed over at a time: two AVX2 registers. Near the middle
/// of a distribution most blocks of 64 hold a weight that is looked for.
const BLOCK: usize = 16;

/// Intervals that all cells are first covered with.
const COVERS: usize = 4;

/// Collecting and sorting this share of the weights is cheaper than another
/// pass that counts them more finely.
const MAX_COLLECTED_SHARE: usize = 24;

/// As many weights are always collected.
const MIN_COLLECTED: usize = 1 << 14;

/// Counters of a finer count.
const MAX_FINER: usize = 1 << 20;

/// Copies of those counters at most, however many threads there are.
const MAX_COPIES: usize = 8;

/// Weights counted into 32-bit counters at most.
const MAX_COUNTED: usize = 1 << 31;

/// Buckets searched one by one; longer ranges are cut into as many parts.
const PARTS: usize = 8;

/// Weights with their counts in the buckets of a grid.
pub(super) struct Counted<'a> {
    weights: &'a [f32],
    grid: Grid,
    below: Vec<u64>,
}

/// All weights with keys from `first` to `last`.
#[derive(Clone, Copy, Debug)]
struct Cell {
    first: u32,
    last: u32,
    /// Number of weights below the cell.
    before: u64,
    /// Number of weights in it.
    count: u64,
}

impl<'a> Counted<'a> {
    pub(super) fn new(weights: &'a [f32], grid: Grid) -> Self {
        Self {
            weights,
            grid,
            below: grid.count_below(weights),
        }
    }

    pub(super) fn buckets(&self) -> usize {
        self.grid.buckets()
    }

    /// The lowest weight that bucket `index` could hold.
    pub(super) fn edge(&self, index: usize) -> f64 {
        f64::from(from_key(self.grid.first_key(index)))
    }

    /// The share of the weights in buckets before this one.
    pub(super) fn share_below(&self, index: usize) -> f64 {
        self.below[index] as f64 / self.weights.len() as f64
    }

    /// Number of weights in a bucket.
    pub(super) fn count(&self, bucket: usize) -> u64 {
        self.below[bucket + 1] - self.below[bucket]
    }

    /// The buckets of the two middle weights; twice the same one where there is
    /// one, or where one bucket has both.
    pub(super) fn middle_buckets(&self) -> [usize; 2] {
        self.middle_ranks()
            .map(|rank| self.below.partition_point(|&below| below <= rank) - 1)
    }

    fn middle_ranks(&self) -> [u64; 2] {
        let n = self.weights.len() as u64;
        [(n - 1) / 2, n / 2]
    }

    fn cell(&self, bucket: usize) -> Cell {
        Cell {
            first: self.grid.first_key(bucket),
            last: if bucket + 1 == self.grid.buckets() {
                u32::MAX
            } else {
                self.grid.first_key(bucket + 1) - 1
            },
            before: self.below[bucket],
            count: self.count(bucket),
        }
    }

    /// Whether to collect that many weights rather than to count them more
    /// finely.
    fn few(&self, count: u64) -> bool {
        count <= (self.weights.len() / MAX_COLLECTED_SHARE).max(MIN_COLLECTED) as u64
    }

    /// The exact median, by finer and finer counts around the middle ranks, and
    /// the mean absolute deviation from it.
    pub(super) fn median_and_deviation(&self) -> (f64, f64) {
        let n = self.weights.len() as u64;
        let ranks = self.middle_ranks();
        let mut cells: Vec<Cell> = self
            .middle_buckets()
            .map(|bucket| self.cell(bucket))
            .to_vec();
        cells.dedup_by_key(|cell| cell.first);
        loop {
            if cells.iter().all(|cell| cell.first == cell.last) {
                break;
            }
            if self.few(cells.iter().map(|cell| cell.count).sum()) {
                let origin = f64::from(from_key(cells[0].first));
                let (collected, deviations) = self.collect_sorted(&cells, Some(origin));
                let start = cells[0].before;
                let skipped = cells
                    .get(1)
                    .map_or(0, |next| next.before - start - cells[0].count);
                debug_assert_eq!(skipped, 0, "cells of neighbouring ranks are neighbours");
                let at = |rank: u64| f64::from(collected[(rank - start) as usize]);
                let median = 0.5 * (at(ranks[0]) + at(ranks[1]));
                // All weights below the cells are below the origin, and all
                // above them above the median.
                let above = n - start - collected.len() as u64;
                let moved = (median - origin) * (start as f64 - above as f64);
                let moved_inside: f64 = collected
                    .iter()
                    .map(|&x| (f64::from(x) - median).abs() - (f64::from(x) - origin).abs())
                    .sum();
                let deviation = (deviations + moved + moved_inside) / n as f64;
                if deviation.is_finite() {
                    return (median, deviation);
                }
                return (
                    median,
                    statistic::mean_absolute_deviation(self.weights, median),
                );
            }
            let finer = self.split(&cells);
            cells = ranks
                .map(|rank| finer[finer.partition_point(|cell| cell.before <= rank) - 1])
                .to_vec();
            cells.dedup_by_key(|cell| cell.first);
        }
        let value = |cell: &Cell| f64::from(from_key(cell.first));
        let median = 0.5 * (value(&cells[0]) + value(cells.last().expect("one or two cells")));
        (
            median,
            statistic::mean_absolute_deviation(self.weights, median),
        )
    }

    /// D of each fitted distribution function.
    pub(super) fn statistics<const N: usize>(&self, fits: [&dyn Fn(f64) -> f64; N]) -> [f64; N] {
        let mut searches = fits.map(|cdf| Search::new(cdf, self.weights.len()));
        let range = Range {
            len: self.grid.buckets(),
            first_key: &|bucket| self.grid.first_key(bucket),
            below: &|bucket| self.below[bucket],
        };
        let mut cells = candidates(&mut searches, &range, &|bucket| self.cell(bucket));

        loop {
            // A cell of one value is no interval: its distances are known.
            cells.retain(|cell| {
                let resolved = cell.first == cell.last;
                if resolved {
                    let value = from_key(cell.first);
                    for search in &mut searches {
                        search.visit_ties(value, cell);
                    }
                }
                !resolved
            });
            if self.few(cells.iter().map(|cell| cell.count).sum()) {
                break;
            }
            let finer = self.split(&cells);
            cells.clear();
            for part in finer.chunk_by(|a, b| a.before + a.count == b.before && a.last < b.first) {
                let end = part[part.len() - 1];
                let range = Range {
                    len: part.len(),
                    first_key: &|index| {
                        part.get(index)
                            .map_or(end.last.saturating_add(1), |cell| cell.first)
                    },
                    below: &|index| {
                        part.get(index)
                            .map_or(end.before + end.count, |cell| cell.before)
                    },
                };
                cells.extend(candidates(&mut searches, &range, &|index| part[index]));
            }
        }
        let (collected, _) = self.collect_sorted(&cells, None);
        let mut run = &collected[..];
        for cell in &cells {
            let (weights, rest) = run.split_at(cell.count as usize);
            run = rest;
            for search in &mut searches {
                let n = self.weights.len() as u64;
                statistic::raise_by_run(search.cdf, weights, cell.before, n, &mut search.greatest);
            }
        }
        searches.map(|search| search.greatest)
    }

    /// Splits each cell at equal steps of keys and counts its weights anew, in
    /// one pass over all weights; cells without weights are left out.
    fn split(&self, cells: &[Cell]) -> Vec<Cell> {
        let locator = Locator::new(self.grid, cells);
        let share = (MAX_FINER / cells.len()).max(2);
        let mut base = 0usize;
        let splits: Vec<Split> = cells
            .iter()
            .map(|cell| {
                let span = u64::from(cell.last - cell.first) + 1;
                let shift = span
                    .div_ceil(share as u64)
                    .next_power_of_two()
                    .trailing_zeros();
                let len = span.div_ceil(1 << shift) as usize;
                base += len;
                Split {
                    first: cell.first,
                    shift,
                    base: base - len,
                    len,
                }
            })
            .collect();
        let copies = rayon::current_num_threads().clamp(1, MAX_COPIES);
        let part = self.weights.len().div_ceil(copies).clamp(1, MAX_COUNTED);
        let counts = self
            .weights
            .par_chunks(part)
            .map(|part| {
                let mut counts = vec![0u32; base];
                locator.visit(part, |cell, key, _| {
                    let split = &splits[cell];
                    counts[split.base + ((key - split.first) >> split.shift) as usize] += 1;
                });
                counts
            })
            .collect::<Vec<_>>()
            .into_iter()
            .fold(vec![0u64; base], |mut sums, counts| {
                sums.iter_mut()
                    .zip(counts)
                    .for_each(|(sum, count)| *sum += u64::from(count));
                sums
            });
        let mut finer = Vec::new();
        for (cell, split) in cells.iter().zip(&splits) {
            let mut before = cell.before;
            for (index, &count) in counts[split.base..split.base + split.len]
                .iter()
                .enumerate()
            {
                if count > 0 {
                    let first = split.first + ((index as u32) << split.shift);
                    let last = first.saturating_add(((1u64 << split.shift) - 1) as u32);
                    finer.push(Cell {
                        first,
                        last: last.min(cell.last),
                        before,
                        count,
                    });
                }
                before += count;
            }
        }
        finer
    }

    /// All weights of the cells, in ascending order, and the sum of the absolute
    /// deviations of *all* weights from an origin, where one is given: both need
    /// a pass over memory.
    fn collect_sorted(&self, cells: &[Cell], origin: Option<f64>) -> (Vec<f32>, f64) {
        if cells.is_empty() {
            return (Vec::new(), 0.0);
        }
        let locator = Locator::new(self.grid, cells);
        let parts: Vec<(Vec<f32>, f64)> = self
            .weights
            .par_chunks(TASK)
            .map(|task| {
                let mut found = Vec::new();
                let mut deviations = 0.0;
                for part in task.chunks(CACHED) {
                    if let Some(origin) = origin {
                        deviations += statistic::sum_of_deviations(part, origin);
                    }
                    locator.visit(part, |_, _, x| found.push(x));
                }
                (found, deviations)
            })
            .collect();
        let deviations = parts.iter().map(|(_, deviations)| deviations).sum();
        let mut all = Vec::with_capacity(parts.iter().map(|(found, _)| found.len()).sum());
        parts.iter().for_each(|(found, _)| all.extend(found));
        all.par_sort_unstable_by(f32::total_cmp);
        (all, deviations)
    }
}

/// Where a cell's finer counters are.
struct Split {
    first: u32,
    shift: u32,
    base: usize,
    len: usize,
}

/// Finds the cell of a weight; each cell lies within one bucket of the grid.
struct Locator<'a> {
    grid: Grid,
    cells: &'a [Cell],
    /// For each bucket the first cell in it or beyond.
    start: Vec<u32>,
    covers: Covers,
}

impl<'a> Locator<'a> {
    fn new(grid: Grid, cells: &'a [Cell]) -> Self {
        let mut start = vec![0u32; grid.buckets() + 1];
        for cell in cells {
            start[grid.bucket(from_key(cell.first)) as usize + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut start {
            sum += *start;
            *start = sum;
        }
        Self {
            grid,
            cells,
            start,
            covers: Covers::new(cells),
        }
    }

    /// Calls `f` with cell, key and weight for each weight in a cell.
    fn visit(&self, weights: &[f32], mut f: impl FnMut(usize, u32, f32)) {
        let mut near = [false; CACHED / BLOCK];
        for part in weights.chunks(CACHED) {
            self.covers.mark(part, &mut near);
            for (block, _) in part.chunks(BLOCK).zip(near).filter(|(_, near)| *near) {
                for &x in block {
                    if !self.covers.contains(x) {
                        continue;
                    }
                    let bucket = self.grid.bucket(x) as usize;
                    let (from, to) = (self.start[bucket] as usize, self.start[bucket + 1] as usize);
                    let key = key(x);
                    let cells = &self.cells[from..to];
                    let index = from + cells.partition_point(|cell| cell.first <= key);
                    if index > from && key <= self.cells[index - 1].last {
                        f(index - 1, key, x);
                    }
                }
            }
        }
    }
}

/// A few intervals of floats that cover all cells, for a quick first test.
struct Covers(Vec<(f32, f32)>);

impl Covers {
    fn new(cells: &[Cell]) -> Self {
        // Apart at the gaps that hold the most weights.
        let mut gaps: Vec<usize> = (1..cells.len()).collect();
        let before = |i: usize| cells[i].before - cells[i - 1].before - cells[i - 1].count;
        gaps.sort_by_key(|&i| std::cmp::Reverse(before(i)));
        gaps.truncate(COVERS - 1);
        gaps.sort_unstable();
        let mut from = 0;
        let covers = gaps.into_iter().chain([cells.len()]).map(|to| {
            let highest = from_key(cells[to - 1].last);
            let highest = if highest.is_nan() {
                f32::INFINITY
            } else {
                highest
            };
            let lowest = from_key(cells[from].first);
            from = to;
            (lowest, highest)
        });
        Self(covers.collect())
    }

    fn contains(&self, x: f32) -> bool {
        self.0.iter().any(|&(low, high)| x >= low && x <= high)
    }

    /// Marks the blocks that have a weight in any interval.
    fn mark(&self, weights: &[f32], near: &mut [bool; CACHED / BLOCK]) {
        let (blocks, rest) = weights.as_chunks::<BLOCK>();
        vectorized(
            #[inline(always)]
            || {
                for (block, near) in blocks.iter().zip(&mut *near) {
                    let mut inside = [false; BLOCK];
                    for &(low, high) in &self.0 {
                        for lane in 0..BLOCK {
                            inside[lane] |= (block[lane] >= low) & (block[lane] <= high);
                        }
                    }
                    *near = inside.iter().fold(false, |any, &inside| any | inside);
                }
            },
        );
        if !rest.is_empty() {
            near[blocks.len()] = true;
        }
    }
}

/// Adjacent intervals of keys with the numbers of weights below them.
struct Range<'a> {
    len: usize,
    /// First key of interval `0..=len`.
    first_key: &'a dyn Fn(usize) -> u32,
    /// Number of weights below interval `0..=len`.
    below: &'a dyn Fn(usize) -> u64,
}

/// The search for the D of one fit.
struct Search<'a> {
    cdf: &'a dyn Fn(f64) -> f64,
    count: f64,
    /// Greatest distance known.
    greatest: f64,
    /// Intervals that may hold a greater one, with the bound on it.
    open: Vec<(usize, f64)>,
}

/// The intervals of the range that may hold a greater distance for any fit.
fn candidates(
    searches: &mut [Search<'_>],
    range: &Range<'_>,
    cell: &dyn Fn(usize) -> Cell,
) -> Vec<Cell> {
    let mut indices = Vec::new();
    for search in searches {
        search.raise_at_edges(range);
        let greatest = search.greatest;
        indices.extend(
            search
                .open
                .drain(..)
                .filter(|open| open.1 > greatest)
                .map(|open| open.0),
        );
    }
    indices.sort_unstable();
    indices.dedup();
    indices.into_iter().map(cell).collect()
}

impl<'a> Search<'a> {
    fn new(cdf: &'a dyn Fn(f64) -> f64, count: usize) -> Self {
        Self {
            cdf,
            count: count as f64,
            greatest: 0.0,
            open: Vec::new(),
        }
    }

    /// Distances just below and at `cell.count` weights of the same value.
    fn visit_ties(&mut self, value: f32, cell: &Cell) {
        let cdf = (self.cdf)(f64::from(value));
        let before = cell.before as f64 / self.count;
        let after = (cell.before + cell.count) as f64 / self.count;
        self.greatest = self.greatest.max(cdf - before).max(after - cdf);
    }

    /// Fitted probability below the first value of an interval. The distance
    /// there is a lower bound of D.
    fn visit_edge(&mut self, range: &Range<'_>, index: usize) -> f64 {
        let value = from_key((range.first_key)(index));
        // The last interval of all ends beyond infinity, at a NaN.
        let cdf = if value.is_nan() {
            1.0
        } else {
            (self.cdf)(f64::from(value))
        };
        let share = (range.below)(index) as f64 / self.count;
        self.greatest = self.greatest.max((cdf - share).abs());
        cdf
    }

    /// Raises the greatest distance by those at edges and collects the
    /// intervals that may hold a greater one, by branch and bound.
    fn raise_at_edges(&mut self, range: &Range<'_>) {
        self.open.clear();
        let (from, to) = (self.visit_edge(range, 0), self.visit_edge(range, range.len));
        self.branch(range, (0, from), (range.len, to));
    }

    fn branch(&mut self, range: &Range<'_>, from: (usize, f64), to: (usize, f64)) {
        let below = |index| (range.below)(index);
        if below(from.0) == below(to.0) {
            return;
        }
        let share = |index| below(index) as f64 / self.count;
        let bound = CDF_SLACK + (to.1 - share(from.0)).max(share(to.0) - from.1);
        if bound <= self.greatest {
            return;
        }
        let len = to.0 - from.0;
        if len == 1 {
            self.open.push((from.0, bound));
            return;
        }
        // Wide before deep, so that bounds meet a greatest distance that is
        // near the final one.
        let parts = PARTS.min(len);
        let mut edges = [from; PARTS + 1];
        for (part, edge) in edges.iter_mut().enumerate().take(parts).skip(1) {
            let index = from.0 + len * part / parts;
            *edge = (index, self.visit_edge(range, index));
        }
        edges[parts] = to;
        for pair in edges[..=parts].windows(2) {
            self.branch(range, pair[0], pair[1]);
        }
    }
}
