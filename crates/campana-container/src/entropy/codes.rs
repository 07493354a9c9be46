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
use crate::entropy::model::{Distribution, Model, SYMBOLS};
use crate::entropy::rans::{Decoder, Encoder, LANES};
use crate::entropy::table::{SEEN, Table};

/// Models of the first symbol, by the expected magnitude.
const CONTEXTS: usize = 16;

/// The symbol that says: the value is larger, another symbol follows.
const ESCAPE: u16 = SYMBOLS as u16 - 1;

/// Magnitudes above count as this one.
const MAX_MAGNITUDE: u16 = 15;

/// Fixed-point units of one step of magnitude.
const UNIT: u16 = 256;

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
    first: Box<[Table; CONTEXTS]>,
    escaped: [Model; 2],
    /// Columns since the tables were last looked after.
    columns: usize,
}

impl CodeModels {
    /// Bytes of memory that they take.
    pub(crate) const LEN_BYTES: usize = CONTEXTS * Table::LEN_BYTES;

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
                *entry = weight;
            }
            let total: u64 = weights.iter().sum();
            Table::new(weights.map(|weight| (weight * PRIOR / total) as u32))
        });
        Self {
            first: Box::new(first),
            escaped: [Model::uniform(), Model::uniform()],
            columns: 0,
        }
    }

    /// Prepares for the codes of another tensor.
    fn begin(&mut self) {
        self.first.iter_mut().for_each(Table::forget);
    }

    /// Renews the tables that are due, after each [`COLUMNS`] columns.
    #[inline(always)]
    fn end_column(&mut self) {
        self.columns += 1;
        if self.columns == COLUMNS {
            self.columns = 0;
            self.renew();
        }
    }

    #[inline(never)]
    fn renew(&mut self) {
        self.first.iter_mut().for_each(Table::renew_if_due);
    }
}

/// How much a context's first distribution counts: as if 12 symbols had been
/// seen.
const PRIOR: u64 = 12 * SEEN as u64;

/// Columns after which tables may be renewed.
const COLUMNS: usize = 32;

/// Expected magnitude that each context stands for.
const CENTRES: [u32; CONTEXTS] = [
    12, 30, 50, 72, 98, 128, 164, 206, 256, 320, 400, 500, 640, 850, 1200, 1900,
];

/// The context of each expected magnitude, in sixteenths.
const CONTEXT_OF: [u8; 256] = {
    let mut contexts = [0; 256];
    let mut i = 0;
    while i < 256 {
        let magnitude = (i as u32 * 2 + 1) * (UNIT as u32 / 32);
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
    rows: [u16; LANES],
    /// For each lane, of the last weights.
    last: [u16; LANES],
}

impl Neighbours {
    fn new(layout: &CodeLayout) -> Self {
        let mean = u16::from(layout.mean) * (UNIT / 16);
        Self {
            columns: vec![mean; layout.row_len.min(layout.count)],
            rows: [mean; LANES],
            last: [mean; LANES],
        }
    }

    fn start_strip(&mut self, layout: &CodeLayout) {
        let mean = u16::from(layout.mean) * (UNIT / 16);
        self.rows = [mean; LANES];
        self.last = [mean; LANES];
    }

    /// The context of each lane's next code.
    #[inline(always)]
    fn contexts(&self, column: usize) -> [usize; LANES] {
        let of_column = 2 * self.columns[column];
        let mut expected = [0; LANES];
        for (lane, expected) in expected.iter_mut().enumerate() {
            let sum = of_column + self.rows[lane] + self.last[lane];
            *expected = (sum / (4 * UNIT / 16)).min(255);
        }
        let mut contexts = [0; LANES];
        for lane in 0..LANES {
            contexts[lane] = usize::from(CONTEXT_OF[usize::from(expected[lane])]) % CONTEXTS;
        }
        contexts
    }

    /// Learns the magnitudes of a column's first lanes.
    #[inline(always)]
    fn add(&mut self, column: usize, magnitudes: &[u16; LANES], lanes: usize) {
        let mut sum = 0;
        for (lane, &magnitude) in magnitudes.iter().enumerate() {
            let value = magnitude * UNIT;
            sum += magnitude;
            self.rows[lane] = (self.rows[lane] * 15 + value) / 16;
            self.last[lane] = (self.last[lane] + value) / 2;
        }
        // Lanes without a code have magnitude 0, and nothing follows in them.
        let mean = sum * UNIT / lanes as u16;
        let before = self.columns[column];
        self.columns[column] = (before * 3 + mean) / 4;
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
                    counts[code] as u64 * u64::from(magnitude(coarse))
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
    fn split(&self, code: u8) -> (i16, u16) {
        let half = (1 << self.low_bits) / 2;
        let distance = i16::from(code) - i16::from(self.centre) + half;
        let low = distance & ((1 << self.low_bits) - 1);
        (distance >> self.low_bits, low.cast_unsigned())
    }

    #[inline(always)]
    fn join(&self, coarse: i16, low: u16) -> u8 {
        let half = (1u16 << self.low_bits) / 2;
        (coarse.cast_unsigned() << self.low_bits)
            .wrapping_add(low)
            .wrapping_sub(half)
            .wrapping_add(u16::from(self.centre)) as u8
    }
}

/// Lanes that have a weight at a column of a strip of this many.
#[inline(always)]
fn lanes_at(strip_len: usize, row_len: usize, column: usize) -> usize {
    (strip_len + row_len - 1 - column) / row_len
}

/// 0, 1, -1, 2, -2, ... as 0, 1, 2, 3, 4, ...
#[inline(always)]
fn fold(value: i16) -> u16 {
    let magnitude = value.unsigned_abs();
    if value > 0 {
        2 * magnitude - 1
    } else {
        2 * magnitude
    }
}

#[inline(always)]
fn unfold(index: u16) -> i16 {
    let magnitude = (index.cast_signed() + 1) / 2;
    if index % 2 == 1 {
        magnitude
    } else {
        -magnitude
    }
}

/// A magnitude as neighbours count it.
#[inline(always)]
fn magnitude(value: i16) -> u16 {
    value.unsigned_abs().min(MAX_MAGNITUDE)
}

/// Adds the codes to a stream.
pub(crate) fn encode_codes(
    codes: &[u8],
    layout: &CodeLayout,
    models: &mut CodeModels,
    encoder: &mut Encoder,
) {
    models.begin();
    let mut near = Neighbours::new(layout);
    for strip in codes.chunks(layout.row_len * LANES) {
        near.start_strip(layout);
        for column in 0..layout.row_len {
            let lanes = lanes_at(strip.len(), layout.row_len, column);
            if lanes == 0 {
                break;
            }
            let contexts = near.contexts(column);
            let mut split = [(0, 0); LANES];
            let mut magnitudes = [0; LANES];
            for lane in 0..lanes {
                split[lane] = layout.split(strip[lane * layout.row_len + column]);
                magnitudes[lane] = magnitude(split[lane].0);
                let symbol = fold(split[lane].0).min(ESCAPE);
                encoder.push(lane, models.first[contexts[lane]].interval(symbol));
            }
            for lane in 0..lanes {
                let mut rest = fold(split[lane].0);
                models.first[contexts[lane]].count(rest.min(ESCAPE));
                let mut escaped = 0;
                while rest >= ESCAPE {
                    rest -= ESCAPE;
                    let model = &mut models.escaped[escaped];
                    let symbol = rest.min(ESCAPE);
                    encoder.push(lane, model.interval(symbol));
                    model.update(symbol);
                    escaped = 1;
                }
            }
            if layout.low_bits > 0 {
                for (lane, (_, low)) in split.iter().enumerate().take(lanes) {
                    encoder.push_bits(lane, *low, u32::from(layout.low_bits));
                }
            }
            near.add(column, &magnitudes, lanes);
            models.end_column();
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
    models.begin();
    vectorized(
        #[inline(always)]
        || {
            let mut strips = Strips {
                layout,
                models,
                decoder,
                near: Neighbours::new(layout),
                codes: vec![[0; LANES]; layout.row_len.min(layout.count)],
            };
            let strip_len = layout.row_len * LANES;
            let mut since_check = 0;
            for strip in codes.chunks_mut(strip_len) {
                strips.decode(strip)?;
                since_check += strip.len();
                if since_check >= CHECK_EVERY {
                    since_check = 0;
                    if strips.decoder.is_past_end() {
                        return Err(Error::truncated("the coded data"));
                    }
                }
            }
            Ok(())
        },
    )
}

/// What decoding a tensor's strips takes.
struct Strips<'a, 's> {
    layout: &'a CodeLayout,
    models: &'a mut CodeModels,
    decoder: &'a mut Decoder<'s>,
    near: Neighbours,
    /// The codes of one strip, by column.
    codes: Vec<[u8; LANES]>,
}

impl Strips<'_, '_> {
    /// The codes of a strip. The last one may have fewer rows, and its last row
    /// may be shorter.
    #[inline(always)]
    fn decode(&mut self, strip: &mut [u8]) -> Result<(), Error> {
        let row_len = self.layout.row_len;
        self.near.start_strip(self.layout);
        if strip.len() == row_len * LANES {
            for column in 0..row_len {
                self.decode_column(column, LANES)?;
            }
        } else {
            for column in 0..row_len.min(strip.len()) {
                self.decode_column(column, lanes_at(strip.len(), row_len, column))?;
            }
        }
        for (lane, row) in strip.chunks_mut(row_len).enumerate() {
            for (code, column) in row.iter_mut().zip(&self.codes) {
                *code = column[lane % LANES];
            }
        }
        Ok(())
    }

    /// The codes of a column, in the first lanes.
    #[inline(always)]
    fn decode_column(&mut self, column: usize, lanes: usize) -> Result<(), Error> {
        let contexts = self.near.contexts(column);
        let tables = &mut self.models.first;
        let mut symbols = self.decoder.symbols(
            lanes,
            #[inline(always)]
            |lane, point| tables[contexts[lane]].find(point),
        );
        let mut any_escaped = false;
        for lane in 0..lanes {
            tables[contexts[lane]].count(symbols[lane]);
            any_escaped |= symbols[lane] == ESCAPE;
        }
        if any_escaped {
            self.add_escaped(&mut symbols[..lanes])?;
        }
        let low = match self.layout.low_bits {
            0 => [0; LANES],
            bits => self.decoder.bits(lanes, u32::from(bits)),
        };
        let mut magnitudes = [0; LANES];
        for lane in 0..LANES {
            let coarse = unfold(symbols[lane]);
            magnitudes[lane] = magnitude(coarse);
            self.codes[column][lane] = self.layout.join(coarse, low[lane]);
        }
        self.near.add(column, &magnitudes, lanes);
        self.models.end_column();
        Ok(())
    }

    /// Adds what symbols after an escape say.
    #[cold]
    #[inline(never)]
    fn add_escaped(&mut self, symbols: &mut [u16]) -> Result<(), Error> {
        for (lane, index) in symbols.iter_mut().enumerate() {
            let mut last = *index;
            let mut escaped = 0;
            while last == ESCAPE {
                if *index > 2 * 256 {
                    return Err(Error::malformed("a code is larger than a byte"));
                }
                let model = &mut self.models.escaped[escaped];
                last = self.decoder.symbol(lane, model);
                model.update(last);
                *index += last;
                escaped = 1;
            }
        }
        Ok(())
    }
}
