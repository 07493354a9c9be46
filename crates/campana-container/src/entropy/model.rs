//! Adaptive models of symbols.

/// Symbols that a model tells apart.
pub(crate) const SYMBOLS: usize = 16;

/// Bits of the probabilities that the coder uses.
pub(crate) const PROBABILITY_BITS: u32 = 16;

/// Bits of the cumulative probabilities that adapt, and those among them that
/// the coder does not see.
const CUMULATIVE_BITS: u32 = 24;
const HIDDEN_BITS: u32 = CUMULATIVE_BITS - PROBABILITY_BITS;

/// The least probability of a symbol, in units of the cumulative ones: two
/// steps of the coder, so that one is left whatever is hidden.
const MIN_GAP: i32 = 2 << HIDDEN_BITS;

/// How far a model moves towards a symbol: `2^-rate`, by how many it has seen.
/// Slower and slower, as the estimate of a frequency does.
const SLOWEST: u8 = 8;

/// An adaptive distribution over [`SYMBOLS`] symbols.
///
/// It never gives a symbol less than one step of the coder: where two
/// cumulative probabilities are at least [`MIN_GAP`] apart and their targets
/// are, so are they after a step, since the floors of two quotients differ by
/// no less than the floor of their difference.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Model {
    /// Cumulative probability before each symbol; the first is 0.
    cumulative: [i32; SYMBOLS],
    seen: u16,
}

/// A symbol with its share of the coder's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// What the coder asks of a model.
pub(crate) trait Distribution {
    /// The symbol's interval.
    fn interval(&self, symbol: u16) -> Interval;

    /// The symbol in whose interval this point lies.
    fn symbol_at(&self, point: u32) -> u16;

    /// The symbol in whose interval this point lies, and the interval.
    #[inline(always)]
    fn find(&self, point: u32) -> (u16, Interval) {
        let symbol = self.symbol_at(point);
        (symbol, self.interval(symbol))
    }
}

impl Model {
    /// All symbols equally likely.
    pub(crate) fn uniform() -> Self {
        let step = (1 << CUMULATIVE_BITS) / SYMBOLS as i32;
        let cumulative = core::array::from_fn(|symbol| symbol as i32 * step);
        Self {
            cumulative,
            seen: 0,
        }
    }

    /// Makes the symbol more likely.
    #[inline(always)]
    pub(crate) fn update(&mut self, symbol: u16) {
        let seen = usize::from(self.seen) % RATES.len();
        let rate = RATES[seen];
        self.seen = (seen + 1).min(RATES.len() - 1) as u16;
        let (before, target) = (self.cumulative, TARGETS[usize::from(symbol) % SYMBOLS]);
        let mut after = before;
        for i in 0..SYMBOLS {
            after[i] = before[i] + ((target[i] - before[i]) >> (rate & 31));
        }
        self.cumulative = after;
    }
}

impl Distribution for Model {
    #[inline(always)]
    fn interval(&self, symbol: u16) -> Interval {
        let symbol = usize::from(symbol);
        let start = (self.cumulative[symbol % SYMBOLS] >> HIDDEN_BITS) as u32;
        let next = (self.cumulative[(symbol + 1) % SYMBOLS] >> HIDDEN_BITS) as u32;
        Interval {
            start,
            // After the last symbol comes the first, 0, which stands for the
            // whole range.
            len: next.wrapping_sub(start) % (1 << PROBABILITY_BITS),
        }
    }

    #[inline(always)]
    fn symbol_at(&self, point: u32) -> u16 {
        let last = (point << HIDDEN_BITS | ((1 << HIDDEN_BITS) - 1)) as i32;
        let mut count = 0i32;
        for &start in &self.cumulative {
            count += i32::from(start <= last);
        }
        (count - 1) as u16 % SYMBOLS as u16
    }
}

/// Where the cumulative probabilities go when a symbol is seen.
static TARGETS: [[i32; SYMBOLS]; SYMBOLS] = {
    let mut targets = [[0; SYMBOLS]; SYMBOLS];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        let mut i = 0;
        while i < SYMBOLS {
            targets[symbol][i] = i as i32 * MIN_GAP;
            if i > symbol {
                targets[symbol][i] += (1 << CUMULATIVE_BITS) - SYMBOLS as i32 * MIN_GAP;
            }
            i += 1;
        }
        symbol += 1;
    }
    targets
};

/// The rate after each number of symbols seen.
static RATES: [u8; 512] = {
    let mut rates = [SLOWEST; 512];
    let mut seen = 0usize;
    while seen < 512 {
        // The rate whose power of two is nearest to the number of symbols.
        let rate = (usize::BITS - (seen * 2 / 3 + 1).leading_zeros()) as u8;
        rates[seen] = if rate < SLOWEST { rate } else { SLOWEST };
        seen += 1;
    }
    rates
};

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether intervals tile the range in the order of their symbols, and are
    /// found from each of their ends.
    pub(in crate::entropy) fn assert_tiles(model: &impl Distribution) {
        let mut at = 0;
        for symbol in 0..SYMBOLS as u16 {
            let Interval { start, len } = model.interval(symbol);
            assert_eq!(start, at);
            assert!(len >= 1);
            assert_eq!(model.symbol_at(at), symbol);
            at += len;
            assert_eq!(model.symbol_at(at - 1), symbol);
        }
        assert_eq!(at, 1 << PROBABILITY_BITS);
    }

    proptest! {
        #[test]
        fn intervals_tile_the_range_whatever_was_seen(
            symbols in proptest::collection::vec(0..SYMBOLS as u16, 0..600),
            repeated in 0..SYMBOLS as u16,
        ) {
            let mut model = Model::uniform();
            for &symbol in symbols.iter().chain(&[repeated; 2000]) {
                model.update(symbol);
            }
            assert_tiles(&model);
        }
    }

    #[test]
    fn what_is_always_there_becomes_almost_free() {
        let mut model = Model::uniform();
        (0..4000).for_each(|_| model.update(5));
        assert!(model.interval(5).len > 65_300, "{:?}", model.interval(5));
    }
}
