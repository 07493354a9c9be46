//! Models that are looked up: cheap to decode with, renewed now and then.

use alloc::boxed::Box;
use alloc::vec;

use crate::entropy::model::{Distribution, Interval, PROBABILITY_BITS, SYMBOLS};

/// Points that a table tells apart; each stands for [`POINT_LEN`] of the coder's.
const POINTS: usize = 1 << 13;

/// The coder's points that fall on one of a table.
const POINT_LEN: u32 = (1 << PROBABILITY_BITS) / POINTS as u32;

/// What a symbol that was seen adds to its weight.
pub(crate) const SEEN: u32 = 32;

/// Weight above which all are halved: what lies back counts less.
const MAX_WEIGHT: u32 = 2048 * SEEN;

/// The same for what other tensors had.
const MAX_WEIGHT_OF_OTHERS: u32 = 128 * SEEN;

/// A distribution over [`SYMBOLS`] symbols that stays as it is while symbols
/// are counted, until it is [renewed](Self::renew_if_due).
///
/// Every symbol keeps at least one point.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    symbols: Box<[u8; POINTS]>,
    intervals: [Interval; SYMBOLS],
    weights: [u32; SYMBOLS],
    /// How often each symbol was seen since the last renewal.
    fresh: [u32; SYMBOLS],
    /// How many symbols make it due for the next.
    due: u32,
}

impl Table {
    /// Bytes of memory that one takes.
    pub(crate) const LEN_BYTES: usize = POINTS + size_of::<Self>();

    /// Symbols with these weights, in 32nds of a symbol seen.
    pub(crate) fn new(weights: [u32; SYMBOLS]) -> Self {
        let symbols = vec![0; POINTS].into_boxed_slice();
        let mut table = Self {
            symbols: symbols.try_into().expect("a symbol for each point"),
            intervals: [Interval { start: 0, len: 0 }; SYMBOLS],
            weights,
            fresh: [0; SYMBOLS],
            due: 0,
        };
        table.spread();
        table
    }

    /// Counts a symbol.
    #[inline(always)]
    pub(crate) fn count(&mut self, symbol: u16) {
        self.fresh[usize::from(symbol) % SYMBOLS] += 1;
    }

    /// Takes the counted symbols into account where they are a fourth of what
    /// was known, or 1024.
    pub(crate) fn renew_if_due(&mut self) {
        if self.fresh.iter().sum::<u32>() < self.due {
            return;
        }
        for (weight, fresh) in self.weights.iter_mut().zip(&mut self.fresh) {
            *weight += core::mem::take(fresh) * SEEN;
        }
        self.halve_above(MAX_WEIGHT);
        self.spread();
    }

    /// Makes what was seen count less, for symbols of another tensor.
    pub(crate) fn forget(&mut self) {
        self.halve_above(MAX_WEIGHT_OF_OTHERS);
        self.due = self.due.min(MAX_WEIGHT_OF_OTHERS / SEEN / 4);
    }

    fn halve_above(&mut self, most: u32) {
        while self.weights.iter().sum::<u32>() > most {
            self.weights.iter_mut().for_each(|weight| *weight /= 2);
        }
    }

    /// Gives each symbol its share of the points.
    fn spread(&mut self) {
        let total = self.weights.iter().sum::<u32>().max(1);
        self.due = (total / SEEN / 4).clamp(16, 1024);
        let free = (POINTS - SYMBOLS) as u32;
        let mut before = 0;
        let mut start = 0;
        for symbol in 0..SYMBOLS {
            before += self.weights[symbol];
            let share = u64::from(before) * u64::from(free) / u64::from(total);
            let end = match symbol + 1 {
                SYMBOLS => POINTS,
                number => share as usize + number,
            };
            self.symbols[start..end].fill(symbol as u8);
            self.intervals[symbol] = Interval {
                start: start as u32 * POINT_LEN,
                len: (end - start) as u32 * POINT_LEN,
            };
            start = end;
        }
    }
}

impl Distribution for Table {
    #[inline(always)]
    fn interval(&self, symbol: u16) -> Interval {
        self.intervals[usize::from(symbol) % SYMBOLS]
    }

    #[inline(always)]
    fn symbol_at(&self, point: u32) -> u16 {
        u16::from(self.symbols[(point / POINT_LEN) as usize % POINTS])
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::assert_tiles;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn intervals_tile_the_range_whatever_was_seen(
            weights in proptest::array::uniform16(0u32..100_000),
            symbols in proptest::collection::vec(0..SYMBOLS as u16, 0..600),
            repeated in 0..SYMBOLS as u16,
        ) {
            let mut table = Table::new(weights);
            for &symbol in symbols.iter().chain(&[repeated; 5000]) {
                table.count(symbol);
                table.renew_if_due();
            }
            assert_tiles(&table);
        }
    }

    #[test]
    fn what_is_always_there_becomes_almost_free() {
        let mut table = Table::new([SEEN; SYMBOLS]);
        (0..8000).for_each(|_| {
            table.count(5);
            table.renew_if_due();
        });
        assert!(table.interval(5).len > 65_300, "{:?}", table.interval(5));
    }
}
