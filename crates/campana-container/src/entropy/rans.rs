//! Interleaved asymmetric numeral systems: several states take turns in one
//! stream of words, so that a processor decodes several symbols at once.
//!
//! # References
//!
//! Duda, "Asymmetric numeral systems: entropy coding combining speed of
//! Huffman coding with compression rate of arithmetic coding", 2013,
//! arXiv 1311.2540. Giesen, "Interleaved entropy coders", 2014,
//! arXiv 1402.3392.

use alloc::vec::Vec;

use crate::Error;
use crate::entropy::model::{Distribution, Interval, PROBABILITY_BITS};

/// States that take turns.
pub(crate) const LANES: usize = 8;

/// The least value of a state between two symbols.
const LEAST: u64 = 1 << 31;

/// Bytes of the states at the start of a stream.
const STATES_LEN: usize = LANES * 8;

/// Collects symbols in the order in which they will be decoded.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    /// Lane, start and length of each symbol's interval: 3, 16 and 17 bits.
    symbols: Vec<u64>,
}

impl Encoder {
    /// Adds a symbol by its interval.
    pub(crate) fn push(&mut self, lane: usize, interval: Interval) {
        self.symbols.push(
            u64::from(interval.len) << 32 | u64::from(interval.start) << 8 | (lane % LANES) as u64,
        );
    }

    /// Adds `bits` equally likely bits.
    pub(crate) fn push_bits(&mut self, lane: usize, value: u16, bits: u32) {
        let len = 1 << (PROBABILITY_BITS - bits);
        let start = u32::from(value) * len;
        self.push(lane, Interval { start, len });
    }

    /// The stream: the states, then the words.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut states = [LEAST; LANES];
        let mut words: Vec<u32> = Vec::new();
        for &symbol in self.symbols.iter().rev() {
            let state = &mut states[(symbol & 0xff) as usize];
            let (start, len) = (symbol >> 8 & 0xff_ffff, symbol >> 32);
            if *state >= (LEAST >> PROBABILITY_BITS << 32) * len {
                words.push(*state as u32);
                *state >>= 32;
            }
            *state = ((*state / len) << PROBABILITY_BITS) + *state % len + start;
        }
        let mut stream: Vec<u8> = states
            .iter()
            .flat_map(|state| state.to_le_bytes())
            .collect();
        stream.extend(words.iter().rev().flat_map(|word| word.to_le_bytes()));
        stream
    }
}

/// Reads the symbols of a stream.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    states: [u64; LANES],
    words: &'a [[u8; 4]],
    at: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder at the start of a stream.
    pub(crate) fn new(stream: &'a [u8]) -> Result<Self, Error> {
        let (states, words) = stream
            .split_at_checked(STATES_LEN)
            .ok_or_else(|| Error::truncated("the coded data"))?;
        let (words, rest) = words.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(Error::malformed(
                "the coded data is no whole number of words",
            ));
        }
        let mut decoder = Self {
            states: [LEAST; LANES],
            words,
            at: 0,
        };
        for (state, bytes) in decoder.states.iter_mut().zip(states.as_chunks::<8>().0) {
            *state = u64::from_le_bytes(*bytes);
            if !(LEAST..LEAST << 32).contains(state) {
                return Err(Error::malformed("a state of the coder is out of range"));
            }
        }
        Ok(decoder)
    }

    /// The next symbol of each of the first lanes; `find` says which symbol lies
    /// at a lane's point, and its interval.
    #[inline(always)]
    pub(crate) fn symbols(
        &mut self,
        lanes: usize,
        find: impl Fn(usize, u32) -> (u16, Interval),
    ) -> [u16; LANES] {
        // Past the end zeros are read: `finish` tells.
        let words = self.words.get(self.at..).unwrap_or(&[]);
        let mut padded = [[0; 4]; LANES];
        let words = words.first_chunk::<LANES>().unwrap_or_else(|| {
            padded[..words.len()].copy_from_slice(words);
            &padded
        });
        let mut symbols = [0; LANES];
        let mut taken = 0;
        for (lane, place) in symbols.iter_mut().enumerate().take(lanes) {
            let (symbol, refill) = self.advance(lane, words[taken % LANES], &find);
            taken += usize::from(refill);
            *place = symbol;
        }
        self.at += taken;
        symbols
    }

    /// The next symbol of a lane; the model is left as it is.
    #[inline(always)]
    pub(crate) fn symbol(&mut self, lane: usize, model: &impl Distribution) -> u16 {
        let word = self.words.get(self.at).copied().unwrap_or_default();
        let (symbol, refill) = self.advance(lane, word, |_, point| model.find(point));
        self.at += usize::from(refill);
        symbol
    }

    /// The next `bits` equally likely bits of each of the first lanes.
    #[inline(always)]
    pub(crate) fn bits(&mut self, lanes: usize, bits: u32) -> [u16; LANES] {
        let len = 1 << (PROBABILITY_BITS - bits);
        self.symbols(lanes, |_, point| {
            let start = point / len * len;
            ((point / len) as u16, Interval { start, len })
        })
    }

    /// A lane's symbol, and whether its state took the word.
    #[inline(always)]
    fn advance(
        &mut self,
        lane: usize,
        word: [u8; 4],
        find: impl Fn(usize, u32) -> (u16, Interval),
    ) -> (u16, bool) {
        let state = self.states[lane];
        let point = (state & ((1 << PROBABILITY_BITS) - 1)) as u32;
        let (symbol, interval) = find(lane, point);
        let next = u64::from(interval.len) * (state >> PROBABILITY_BITS)
            + u64::from(point - interval.start);
        let refill = next < LEAST;
        self.states[lane] = if refill {
            next << 32 | u64::from(u32::from_le_bytes(word))
        } else {
            next
        };
        (symbol, refill)
    }

    /// Whether more words were read than there are.
    pub(crate) fn is_past_end(&self) -> bool {
        self.at > self.words.len()
    }

    /// Checks that the stream ended with the last symbol.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.is_past_end() {
            return Err(Error::truncated("the coded data"));
        }
        if self.at < self.words.len() || self.states != [LEAST; LANES] {
            return Err(Error::malformed(
                "the coded data does not end where it must",
            ));
        }
        Ok(())
    }
}
