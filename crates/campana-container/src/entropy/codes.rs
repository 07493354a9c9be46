//! Codes of weights: each symbol under a model that its neighbours choose.
//!
//! Weights lie in rows (output channels) of columns (inputs). [`LANES`] rows at
//! a time form a strip, one row a lane, column after column. A weight's code
//! is its distance from the most frequent code, without its `low_bits` lowest
//! bits, which are stored as they are. Magnitudes in the same column of the
//! strips before, in the same row before, and of the last two weights say how
//! large the next one will be.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use campana_codebook::vectorized;

use crate::Error;
use crate::entropy::model::{Model, SYMBOLS};
use crate::entropy::rans::{Decoder, Encoder, LANES};

/// Models of the first symbol, by the expected magnitude.
const CONTEXTS: usize = 16;

/// The symbol that says: the value is larger, another symbol follows.
const ESCAPE: usize = SYMBOLS - 1;

/// Magnitudes above count as this one.
const MAX_MAGNITUDE: u32 = 15;

/// Fixed-point units of one step of magnitude.
const UNIT: u32 = 256;

/// Symbols after which a damaged stream is noticed.
const CHECK_EVERY: usize = 1 << 16;

/// How the codes of a tensor are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodeLayout {
    /// Number of codes.
    pub(crate) count: usize,
    /// Codes in a row; at least 1.
    pub(crate) row_len: usize,
    /// The most frequent code.
    pub(crate) centre: u8,
    /// Bits of a code that are stored as they are.
    pub(crate) low_bits: u8,
    /// Mean magnitude, in sixteenths.
    pub(crate) mean: u8,
}

/// The models of all codes of a file.
#[derive(Clone, Debug)]
pub(crate) struct CodeModels {
    first: Box<[Model; CONTEXTS]>,
    escaped: [Model; 2],
}

impl CodeModels {
    /// As they are before the first symbol.
    pub(crate) fn new() -> Self {
        let first = core::array::from_fn(|context| {
            // Two-sided geometric, with the magnitude that the context stands
            // for: the weights of 0, 1, -1, 2, -2, ...
            let mean = u64::from(CENTRES[context]);
            let mut weight = 1u64 << 24;
            let mut weights = [0; SYMBOLS];
            for (symbol, entry) in weights.iter_mut().enumerate() {
                if symbol % 2 == 1 {
                    weight = weight * mean / (mean + u64::from(UNIT));
                }
                *entry = weight as u32 + 1;
            }
            Model::from_weights(weights, PRIOR)
        });
        Self {
            first: Box::new(first),
            escaped: [Model::uniform(), Model::uniform()],
        }
    }
}

/// How much a context's first distribution counts, in symbols.
const PRIOR: u16 = 12;

/// Expected magnitude that each context stands for.
const CENTRES: [u32; CONTEXTS] = [
    12, 30, 50, 72, 98, 128, 164, 206, 256, 320, 400, 500, 640, 850, 1200, 1900,
];

/// The context of each expected magnitude, in sixteenths.
const CONTEXT_OF: [u8; 256] = {
    let mut contexts = [0; 256];
    let mut i = 0;
    while i < 256 {
        let magnitude = (i as u32 * 2 + 1) * (UNIT / 32);
        let mut context = 0;
        while context + 1 < CONTEXTS
            && magnitude * magnitude > CENTRES[context] * CENTRES[context + 1]
        {
            context += 1;
        }
        contexts[i] = context as u8;
        i += 1;
    }
    contexts
};

/// What is known of magnitudes around a place.
struct Neighbours {
    /// For each column, of the rows before.
    columns: Vec<u16>,
    /// For each lane, of its row so far.
    rows: [u32; LANES],
    /// For each lane, of the last weights.
    last: [u32; LANES],
}

impl Neighbours {
    fn new(layout: &CodeLayout) -> Self {
        let mean = u32::from(layout.mean) * (UNIT / 16);
        Self {
            columns: vec![mean as u16; layout.row_len.min(layout.count)],
            rows: [mean; LANES],
            last: [mean; LANES],
        }
    }

    fn start_strip(&mut self, layout: &CodeLayout) {
        let mean = u32::from(layout.mean) * (UNIT / 16);
        self.rows = [mean; LANES];
        self.last = [mean; LANES];
    }

    #[inline(always)]
    fn contexts(&self, column: usize) -> [usize; LANES] {
        core::array::from_fn(|lane| self.context(column, lane))
    }

    #[inline(always)]
    fn context(&self, column: usize, lane: usize) -> usize {
        let expected =
            (u32::from(self.columns[column]) * 2 + self.rows[lane] + self.last[lane]) / 4;
        usize::from(CONTEXT_OF[((expected * 16 / UNIT) as usize).min(255)]) % CONTEXTS
    }

    #[inline(always)]
    fn add(&mut self, lane: usize, magnitude: u32) {
        let value = magnitude * UNIT;
        self.rows[lane] = (self.rows[lane] * 15 + value) / 16;
        self.last[lane] = (self.last[lane] + value) / 2;
    }

    #[inline(always)]
    fn add_column(&mut self, column: usize, sum: u32, lanes: usize) {
        let mean = sum * UNIT / lanes as u32;
        let before = u32::from(self.columns[column]);
        self.columns[column] = ((before * 3 + mean) / 4) as u16;
    }
}

impl CodeLayout {
    /// How these codes are coded best.
    pub(crate) fn of(codes: &[u8], row_len: usize) -> Self {
        let mut counts = [0usize; 256];
        codes
            .iter()
            .for_each(|&code| counts[usize::from(code)] += 1);
        let centre = (0..256).rev().max_by_key(|&code| counts[code]).unwrap_or(0);
        let mut layout = Self {
            count: codes.len(),
            row_len: row_len.clamp(1, codes.len().max(1)),
            centre: centre as u8,
            low_bits: 0,
            mean: 0,
        };
        let mean = |layout: &Self| {
            let total: u64 = (0..256)
                .map(|code| {
                    let (coarse, _) = layout.split(code as u8);
                    counts[code] as u64 * u64::from(coarse.unsigned_abs().min(MAX_MAGNITUDE))
                })
                .sum();
            total as f32 / codes.len().max(1) as f32
        };
        // As many symbols as one model has, and few escapes.
        while layout.low_bits < 5 && mean(&layout) > 3.0 {
            layout.low_bits += 1;
        }
        layout.mean = (mean(&layout) * 16.0 + 0.5) as u8;
        layout
    }

    /// A code without its lowest bits, as a distance from the centre, and these
    /// bits.
    #[inline(always)]
    fn split(&self, code: u8) -> (i32, u32) {
        let half = (1 << self.low_bits) / 2;
        let distance = i32::from(code) - i32::from(self.centre) + half;
        let low = distance & ((1 << self.low_bits) - 1);
        (distance >> self.low_bits, low as u32)
    }

    #[inline(always)]
    fn join(&self, coarse: i32, low: u32) -> u8 {
        let half = (1 << self.low_bits) / 2;
        ((coarse << self.low_bits) + low as i32 - half + i32::from(self.centre)) as u8
    }
}

/// Lanes that have a weight at a column of a strip of this many.
#[inline(always)]
fn lanes_at(strip_len: usize, row_len: usize, column: usize) -> usize {
    (strip_len + row_len - 1 - column) / row_len
}

/// 0, 1, -1, 2, -2, ... as 0, 1, 2, 3, 4, ...
#[inline(always)]
fn fold(value: i32) -> usize {
    if value > 0 {
        value as usize * 2 - 1
    } else {
        value.unsigned_abs() as usize * 2
    }
}

#[inline(always)]
fn unfold(index: usize) -> i32 {
    let magnitude = index.div_ceil(2) as i32;
    if index % 2 == 1 {
        magnitude
    } else {
        -magnitude
    }
}

/// Adds the codes to a stream.
pub(crate) fn encode_codes(
    codes: &[u8],
    layout: &CodeLayout,
    models: &mut CodeModels,
    encoder: &mut Encoder,
) {
    let mut near = Neighbours::new(layout);
    for strip in codes.chunks(layout.row_len * LANES) {
        near.start_strip(layout);
        for column in 0..layout.row_len {
            let lanes = lanes_at(strip.len(), layout.row_len, column);
            if lanes == 0 {
                break;
            }
            let mut symbols = [(0, 0); LANES];
            let mut split = [(0, 0); LANES];
            for lane in 0..lanes {
                let code = strip[lane * layout.row_len + column];
                split[lane] = layout.split(code);
                let context = near.context(column, lane);
                let symbol = fold(split[lane].0).min(ESCAPE);
                encoder.push(lane, models.first[context].interval(symbol));
                symbols[lane] = (context, symbol);
            }
            let mut sum = 0;
            for lane in 0..lanes {
                let (context, symbol) = symbols[lane];
                models.first[context].update(symbol);
                let mut rest = fold(split[lane].0);
                if symbol == ESCAPE {
                    let mut escaped = 0;
                    while rest >= ESCAPE {
                        rest -= ESCAPE;
                        let symbol = rest.min(ESCAPE);
                        let model = &mut models.escaped[escaped];
                        encoder.push(lane, model.interval(symbol));
                        model.update(symbol);
                        escaped = 1;
                    }
                }
                if layout.low_bits > 0 {
                    encoder.push_bits(lane, split[lane].1, u32::from(layout.low_bits));
                }
                let magnitude = split[lane].0.unsigned_abs().min(MAX_MAGNITUDE);
                near.add(lane, magnitude);
                sum += magnitude;
            }
            near.add_column(column, sum, lanes);
        }
    }
}

/// The next codes of a stream, one byte each.
pub(crate) fn decode_codes(
    layout: &CodeLayout,
    models: &mut CodeModels,
    decoder: &mut Decoder<'_>,
    codes: &mut [u8],
) -> Result<(), Error> {
    debug_assert_eq!(codes.len(), layout.count, "room for the codes");
    vectorized(
        #[inline(always)]
        || {
            let mut near = Neighbours::new(layout);
            let strip_len = layout.row_len * LANES;
            let mut since_check = 0;
            for strip in codes.chunks_mut(strip_len) {
                near.start_strip(layout);
                if strip.len() == strip_len {
                    full_strip(strip, layout, models, decoder, &mut near)?;
                } else {
                    part_of_strip(strip, layout, models, decoder, &mut near)?;
                }
                since_check += strip.len();
                if since_check >= CHECK_EVERY {
                    since_check = 0;
                    if decoder.is_past_end() {
                        return Err(Error::truncated("the coded data"));
                    }
                }
            }
            Ok(())
        },
    )
}

/// A strip with a row for each lane.
#[inline(always)]
fn full_strip(
    strip: &mut [u8],
    layout: &CodeLayout,
    models: &mut CodeModels,
    decoder: &mut Decoder<'_>,
    near: &mut Neighbours,
) -> Result<(), Error> {
    for column in 0..layout.row_len {
        let contexts = near.contexts(column);
        let mut symbols = [0; LANES];
        for lane in 0..LANES {
            symbols[lane] = decoder.symbol(lane, &models.first[contexts[lane]]);
        }
        for lane in 0..LANES {
            models.first[contexts[lane]].update(symbols[lane]);
        }
        let mut low = [0; LANES];
        if layout.low_bits > 0 || symbols.contains(&ESCAPE) {
            for lane in 0..LANES {
                (symbols[lane], low[lane]) = rest_of(lane, symbols[lane], layout, models, decoder)?;
            }
        }
        let coarse = symbols.map(unfold);
        let magnitudes = coarse.map(|coarse| coarse.unsigned_abs().min(MAX_MAGNITUDE));
        for lane in 0..LANES {
            strip[lane * layout.row_len + column] = layout.join(coarse[lane], low[lane]);
        }
        for (lane, &magnitude) in magnitudes.iter().enumerate() {
            near.add(lane, magnitude);
        }
        near.add_column(column, magnitudes.iter().sum(), LANES);
    }
    Ok(())
}

/// The last strip, which has fewer rows, and the last of them may be shorter.
#[inline(always)]
fn part_of_strip(
    strip: &mut [u8],
    layout: &CodeLayout,
    models: &mut CodeModels,
    decoder: &mut Decoder<'_>,
    near: &mut Neighbours,
) -> Result<(), Error> {
    for column in 0..layout.row_len {
        let lanes = lanes_at(strip.len(), layout.row_len, column);
        if lanes == 0 {
            break;
        }
        let mut symbols = [(0, 0); LANES];
        for (lane, symbol) in symbols.iter_mut().enumerate().take(lanes) {
            let context = near.context(column, lane);
            *symbol = (context, decoder.symbol(lane, &models.first[context]));
        }
        let mut sum = 0;
        for (lane, (context, symbol)) in symbols.into_iter().enumerate().take(lanes) {
            models.first[context].update(symbol);
            let (index, low) = rest_of(lane, symbol, layout, models, decoder)?;
            let coarse = unfold(index);
            strip[lane * layout.row_len + column] = layout.join(coarse, low);
            let magnitude = coarse.unsigned_abs().min(MAX_MAGNITUDE);
            near.add(lane, magnitude);
            sum += magnitude;
        }
        near.add_column(column, sum, lanes);
    }
    Ok(())
}

/// What follows a code's first symbol: the whole index and the low bits.
#[inline(always)]
fn rest_of(
    lane: usize,
    symbol: usize,
    layout: &CodeLayout,
    models: &mut CodeModels,
    decoder: &mut Decoder<'_>,
) -> Result<(usize, u32), Error> {
    let mut index = symbol;
    if symbol == ESCAPE {
        index += escaped(decoder, models, lane)?;
    }
    let mut low = 0;
    if layout.low_bits > 0 {
        low = decoder.bits(lane, u32::from(layout.low_bits));
    }
    Ok((index, low))
}

/// What symbols after an escape add.
#[cold]
#[inline(never)]
fn escaped(
    decoder: &mut Decoder<'_>,
    models: &mut CodeModels,
    lane: usize,
) -> Result<usize, Error> {
    let mut index = 0;
    let mut escaped = 0;
    loop {
        let model = &mut models.escaped[escaped];
        let symbol = decoder.symbol(lane, model);
        model.update(symbol);
        index += symbol;
        if symbol != ESCAPE {
            return Ok(index);
        }
        if index > 2 * 256 {
            return Err(Error::malformed("a code is larger than a byte"));
        }
        escaped = 1;
    }
}
