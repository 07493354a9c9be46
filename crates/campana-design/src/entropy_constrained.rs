//! Entropy-constrained scalar quantization: the least squared error at a rate,
//! the entropy of the codes.
//!
//! An entropy coder spends `-log2 p` bits on a code of probability `p`, so more
//! levels than `2^bits` are worth having where the outer ones are rare. What is
//! minimized is the error plus a price times the bits:
//!
//! ```text
//! sum over weights of (w - level)^2 + price * length(level)
//! ```
//!
//! In turn each weight goes to the level that is cheapest for it (the cells are
//! those of the lower envelope of one parabola a level, so thresholds lie off
//! the middle, towards the longer code), levels move to their cells' centroids,
//! and lengths follow the cells' shares. Neither step raises the sum. It begins
//! at a uniform grid with a level at zero, whose step is right for the price at
//! high rates, and whose excess is a few hundredths of the error at any. The
//! price that gives the rate is searched.
//!
//! # References
//!
//! P. A. Chou, T. Lookabaugh, R. M. Gray, "Entropy-constrained vector
//! quantization", IEEE Trans. Acoust. Speech Signal Process. 37(1), 1989,
//! doi:10.1109/29.17498. H. Gish, J. Pierce, "Asymptotically efficient
//! quantizing", IEEE Trans. Inf. Theory 14(5), 1968,
//! doi:10.1109/TIT.1968.1054193.

use std::f64::consts::LN_2;

use crate::Empirical;
use crate::kmeans::kmeans;

/// Codes are bytes.
const MAX_LEVELS: usize = 256;

/// Steps for one price at most; most take a few dozen.
const MAX_STEPS: usize = 400;

/// Relative fall of the sum in one step that is worth another.
const MIN_GAIN: f64 = 1e-9;

/// Prices that are tried at most.
const MAX_PRICES: usize = 48;

/// Octaves that prices differ at least.
const MIN_PRICE_STEP: f64 = 1e-3;

/// How closely cuts between two sets of cells are sought, as a share of the way.
const MIN_SHARE: f64 = 1e-3;

/// Octaves from the variance down to the least price.
const MAX_OCTAVES: f64 = 60.0;

/// How far below the rate the entropy may end, in bits: 0.03 % of the error.
const MAX_UNUSED_BITS: f64 = 2e-4;

/// Where the search leaves grids: rates, or logarithms of prices, are as close.
const MAX_JUMP_BITS: f64 = 0.1;

/// Levels with thresholds of their own.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EntropyConstrained {
    /// The levels, strictly ascending, each the mean of its cell; at most 256.
    pub levels: Vec<f64>,
    /// The thresholds between them, ascending: one fewer. A weight on one
    /// belongs below it.
    pub thresholds: Vec<f64>,
    /// Entropy of the codes of these weights, in bits.
    pub entropy_bits: f64,
}

/// The levels and thresholds of least squared error found whose codes have an
/// entropy of at most `bits`. Weights that are all equal get one level, as do
/// none: 0.
///
/// # Panics
///
/// If `bits` is not positive.
pub fn entropy_constrained(empirical: &Empirical, bits: f64) -> EntropyConstrained {
    assert!(bits > 0.0, "the rate must be positive, not {bits}");
    let atoms = empirical.len();
    if atoms == 0 {
        return Cells { ends: vec![0] }.described(empirical);
    }
    let distinct = Cells {
        ends: (1..=atoms).collect(),
    };
    if atoms <= MAX_LEVELS && distinct.entropy_bits(empirical) <= bits {
        return distinct.described(empirical);
    }
    Search::new(empirical, bits).run().described(empirical)
}

/// Consecutive runs of atoms, none empty.
#[derive(Clone, Debug, PartialEq)]
struct Cells {
    /// Where each ends.
    ends: Vec<usize>,
}

impl Cells {
    /// Those that these thresholds, ascending and less the centre, cut.
    fn between(empirical: &Empirical, thresholds: impl Iterator<Item = f64>) -> Self {
        let (counts, _) = empirical.prefix_sums();
        let mut ends = Vec::new();
        let mut before = 0.0;
        for threshold in thresholds {
            let end = empirical.position_of(threshold + empirical.centre());
            // Atoms of no weight beside the rest make no cell.
            if counts[end] > before && counts[end] < empirical.total() {
                before = counts[end];
                ends.push(end);
            }
        }
        ends.push(empirical.len());
        Self { ends }
    }

    /// Share of the weights, and mean less the centre, of each cell.
    fn shares_and_means<'a>(
        &'a self,
        empirical: &'a Empirical,
    ) -> impl Iterator<Item = (f64, f64)> + 'a {
        let (counts, sums) = empirical.prefix_sums();
        let total = empirical.total();
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(move |(start, &end)| {
            let count = counts[end] - counts[start];
            let mean = (sums[end] - sums[start]) / count;
            // Beside outliers the difference of the sums is rounded.
            let within = [start, end - 1].map(|atom| empirical.value(atom) - empirical.centre());
            (count / total, mean.clamp(within[0], within[1]))
        })
    }

    fn entropy_bits(&self, empirical: &Empirical) -> f64 {
        let cells = self.shares_and_means(empirical);
        cells.map(|(share, _)| -share * share.log2()).sum()
    }

    /// The minimized sum for one weight, less what no cells change.
    fn cost(&self, empirical: &Empirical, price: f64) -> f64 {
        let cells = self.shares_and_means(empirical);
        cells
            .map(|(share, mean)| -share * (mean * mean + price * share.log2()))
            .sum()
    }

    /// What the levels take off the variance.
    fn explained(&self, empirical: &Empirical) -> f64 {
        let cells = self.shares_and_means(empirical);
        cells.map(|(share, mean)| share * mean * mean).sum()
    }

    /// Those in which each weight has the level that is cheapest for it, with
    /// the levels and lengths of these.
    fn cheaper(&self, empirical: &Empirical, price: f64) -> Self {
        // Of level y and length l: y^2 + price l - 2 w y; the envelope of
        // lines that fall ever more steeply, from left to right.
        let mut envelope: Vec<(f64, f64)> = Vec::with_capacity(self.ends.len());
        let mut thresholds: Vec<f64> = Vec::with_capacity(self.ends.len());
        for (share, level) in self.shares_and_means(empirical) {
            let offset = level * level - price * share.log2();
            let mut threshold = None;
            while let Some(&(last, last_offset)) = envelope.last() {
                let distance = (2.0 * (level - last)).max(f64::MIN_POSITIVE);
                let crossing = (offset - last_offset) / distance;
                if thresholds.last().is_none_or(|&before| crossing > before) {
                    threshold = Some(crossing);
                    break;
                }
                envelope.pop();
                thresholds.pop();
            }
            thresholds.extend(threshold);
            envelope.push((level, offset));
        }
        Self::between(empirical, thresholds.into_iter())
    }

    /// Cells whose cuts lie this share of the way to those of as many others.
    fn towards(&self, others: &Self, share: f64) -> Self {
        let pairs = self.ends.iter().zip(&others.ends);
        let ends = pairs
            .map(|(&from, &to)| (from as f64 + share * (to as f64 - from as f64)).round() as usize);
        Self {
            ends: ends.collect(),
        }
    }

    fn described(&self, empirical: &Empirical) -> EntropyConstrained {
        if empirical.is_empty() {
            return EntropyConstrained {
                levels: vec![0.0],
                thresholds: Vec::new(),
                entropy_bits: 0.0,
            };
        }
        let cells = self.shares_and_means(empirical);
        let cuts = &self.ends[..self.ends.len() - 1];
        EntropyConstrained {
            levels: cells.map(|(_, mean)| mean + empirical.centre()).collect(),
            thresholds: cuts
                .iter()
                .map(|&cut| f64::midpoint(empirical.value(cut - 1), empirical.value(cut)))
                .collect(),
            entropy_bits: self.entropy_bits(empirical),
        }
    }
}

/// The search for the price of a bit.
struct Search<'e> {
    empirical: &'e Empirical,
    bits: f64,
    /// The highest price known at which the codes take more bits than they may,
    /// and these bits.
    dear: Option<(f64, f64)>,
    /// The lowest price known at which they do not, and these bits.
    cheap: Option<(f64, f64)>,
    /// The cells of least error among these, and what they take off the
    /// variance.
    best: Option<(f64, Cells)>,
    /// The cells at the price `dear`.
    over: Option<Cells>,
    /// Where the search begins at each price, if not at a grid.
    start: Option<Cells>,
    /// Where a grid would have too many levels.
    finest: Option<Cells>,
}

impl<'e> Search<'e> {
    fn new(empirical: &'e Empirical, bits: f64) -> Self {
        Self {
            empirical,
            bits,
            dear: None,
            cheap: None,
            best: None,
            over: None,
            start: None,
            finest: None,
        }
    }

    fn run(mut self) -> Cells {
        // Logarithms to base 2: an octave of the price is worth half a bit.
        let empirical = self.empirical;
        let variance = (empirical.sse(&[empirical.centre()]) / empirical.total()).log2();
        let mut price = variance - 2.0 * self.bits;
        for _ in 0..MAX_PRICES {
            let cells = self.settled(price.exp2());
            let entropy = cells.entropy_bits(empirical);
            if entropy > self.bits {
                self.dear = Some((price, entropy));
                self.over = Some(cells);
            } else {
                let is_enough = self.bits - entropy <= MAX_UNUSED_BITS;
                self.cheap = Some((price, entropy));
                self.offer(cells);
                if is_enough {
                    break;
                }
            }
            self.leave_grids();
            let next = self.next_price();
            // Nothing lies between, or levels are too few for the rate.
            if (next - price).abs() < MIN_PRICE_STEP || next < variance - MAX_OCTAVES {
                break;
            }
            price = next;
        }
        self.meet();
        let all = Cells {
            ends: vec![empirical.len()],
        };
        self.best.map_or(all, |(_, cells)| cells)
    }

    /// As many cells within the rate and over it.
    fn neighbours(&self) -> Option<(&Cells, &Cells)> {
        let ((_, within), over) = (self.best.as_ref()?, self.over.as_ref()?);
        (within.ends.len() == over.ends.len()).then_some((within, over))
    }

    /// Keeps cells that are within the rate where none are better.
    fn offer(&mut self, cells: Cells) {
        let explained = cells.explained(self.empirical);
        if self.best.as_ref().is_none_or(|(most, _)| explained > *most) {
            self.best = Some((explained, cells));
        }
    }

    /// A descent may end in either of two sets of cells that differ by more bits
    /// than are to be left unused, whatever the price: then cuts between theirs
    /// meet the rate.
    fn meet(&mut self) {
        let Some((within, over)) = self.neighbours() else {
            return;
        };
        let (within, over) = (within.clone(), over.clone());
        let (mut low, mut high) = (0.0, 1.0);
        while high - low > MIN_SHARE {
            let share = f64::midpoint(low, high);
            let between = within.towards(&over, share);
            if between.entropy_bits(self.empirical) <= self.bits {
                self.offer(between);
                low = share;
            } else {
                high = share;
            }
        }
    }

    /// Grids of close steps may end in cells of different number, with nothing
    /// between. From there on the best cells are kept, and their price falls.
    fn leave_grids(&mut self) {
        if self.start.is_none()
            && self.neighbours().is_none()
            && let (Some((low, most)), Some((high, least))) = (self.dear, self.cheap)
            && (most - least < MAX_JUMP_BITS || high - low < MAX_JUMP_BITS)
        {
            self.start = self.best.as_ref().map(|(_, cells)| cells.clone());
            (self.dear, self.over) = (None, None);
        }
    }

    fn next_price(&self) -> f64 {
        match (self.dear, self.cheap) {
            (Some((low, most)), Some((high, least))) => {
                // Straight between them, but not next to either end.
                let share = (most - self.bits) / (most - least);
                low + (high - low) * share.clamp(0.1, 0.9)
            }
            (Some((price, entropy)), None) => price + (2.0 * (entropy - self.bits)).max(0.5),
            (None, Some((price, entropy))) => price - (2.0 * (self.bits - entropy)).max(0.5),
            (None, None) => 0.0,
        }
    }

    /// Cells that no step makes better at this price.
    fn settled(&mut self, price: f64) -> Cells {
        if let Some(cells) = &self.start {
            return self.descended(cells.clone(), price).0;
        }
        let (grid, is_whole) = self.grid((6.0 * price / LN_2).sqrt());
        let (cells, cost) = self.descended(grid, price);
        if is_whole {
            return cells;
        }
        let finest = self.finest();
        let (others, other_cost) = self.descended(finest, price);
        if other_cost < cost { others } else { cells }
    }

    /// The cells that steps from these lead to, and their cost.
    fn descended(&self, mut cells: Cells, price: f64) -> (Cells, f64) {
        let empirical = self.empirical;
        let mut cost = cells.cost(empirical, price);
        for _ in 0..MAX_STEPS {
            let next = cells.cheaper(empirical, price);
            let lower = next.cost(empirical, price);
            if next == cells {
                break;
            }
            let gain = cost - lower;
            (cells, cost) = (next, lower);
            if gain <= MIN_GAIN * price {
                break;
            }
        }
        (cells, cost)
    }

    /// A grid with a level at zero, and whether it is whole: where it would have
    /// too many levels, the outer ones are left out.
    fn grid(&self, step: f64) -> (Cells, bool) {
        let (low, high) = self.empirical.range().unwrap_or((0.0, 0.0));
        let centre = self.empirical.centre();
        let [first, last] = [low, high].map(|end| (end / step).round());
        let half = MAX_LEVELS as f64 / 2.0;
        let middle = (centre / step).round();
        let inner = [first.max(middle - half), last.min(middle + half - 1.0)];
        let count = (inner[1] - inner[0]) as usize;
        let threshold = |at| (inner[0] + at as f64 + 0.5) * step - centre;
        let cells = Cells::between(self.empirical, (0..count).map(threshold));
        (cells, inner == [first, last])
    }

    /// The cells of least squared error of as many levels as there can be.
    fn finest(&mut self) -> Cells {
        let finest = self.finest.get_or_insert_with(|| {
            let levels = kmeans(self.empirical, MAX_LEVELS).levels;
            let centre = self.empirical.centre();
            let thresholds = levels
                .windows(2)
                .map(|pair| f64::midpoint(pair[0], pair[1]) - centre);
            Cells::between(self.empirical, thresholds)
        });
        finest.clone()
    }
}

#[cfg(test)]
mod tests;
