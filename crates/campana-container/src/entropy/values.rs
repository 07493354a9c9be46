//! Float and other numeric values, byte by byte without loss: what is alike in
//! neighbouring values (signs, exponents, zero mantissas) costs little.

use alloc::vec;
use alloc::vec::Vec;

use crate::Error;
use crate::entropy::model::{Distribution, Model, SYMBOLS};
use crate::entropy::rans::{Decoder, Encoder, LANES};

/// Sets of models: values of one kind share one.
pub(crate) const KINDS: usize = 8;

/// Widest value, in bytes.
pub(crate) const MAX_WIDTH: usize = 8;

/// Values after which a damaged stream is noticed.
const CHECK_EVERY: usize = 1 << 16;

/// Models for each kind and width of values, made when they are needed.
#[derive(Clone, Debug, Default)]
pub(crate) struct ValueModels {
    sets: Vec<(usize, usize, Vec<Model>)>,
}

impl ValueModels {
    fn set(&mut self, kind: usize, width: usize) -> &mut [Model] {
        let known = self
            .sets
            .iter()
            .position(|(k, w, _)| (*k, *w) == (kind, width));
        let place = known.unwrap_or_else(|| {
            let models = vec![Model::uniform(); width * PER_BYTE];
            self.sets.push((kind, width, models));
            self.sets.len() - 1
        });
        &mut self.sets[place].2
    }
}

/// Models of one byte of a value: the high half under the byte above, the low
/// half under the high half.
const PER_BYTE: usize = 2 * SYMBOLS;

/// The model of a half of a byte.
#[inline(always)]
fn place(width: usize, byte: usize, half: usize, context: u16) -> usize {
    // Below the sign, the exponent and the first bits of the mantissa nothing
    // is to be known from the bits above.
    let context = if byte + 2 >= width { context } else { 0 };
    byte * PER_BYTE + half * SYMBOLS + usize::from(context)
}

/// Adds values of `width` bytes to a stream.
pub(crate) fn encode_values(
    bytes: &[u8],
    width: usize,
    kind: usize,
    models: &mut ValueModels,
    encoder: &mut Encoder,
) {
    let models = models.set(kind, width);
    for (i, value) in bytes.chunks_exact(width).enumerate() {
        let lane = i % LANES;
        let mut above = 0;
        for (byte, &bits) in value.iter().enumerate().rev() {
            let halves = [u16::from(bits >> 4), u16::from(bits & 15)];
            for (half, symbol) in halves.into_iter().enumerate() {
                let model = &mut models[place(width, byte, half, above)];
                encoder.push(lane, model.interval(symbol));
                model.update(symbol);
                above = symbol;
            }
        }
    }
}

/// The next values of a stream.
pub(crate) fn decode_values(
    width: usize,
    kind: usize,
    models: &mut ValueModels,
    decoder: &mut Decoder<'_>,
    bytes: &mut [u8],
) -> Result<(), Error> {
    let models = models.set(kind, width);
    for (i, value) in bytes.chunks_exact_mut(width).enumerate() {
        let lane = i % LANES;
        let mut above = 0;
        for byte in (0..width).rev() {
            let mut bits = 0;
            for half in 0..2 {
                let model = &mut models[place(width, byte, half, above)];
                let symbol = decoder.symbol(lane, model);
                model.update(symbol);
                above = symbol;
                bits = bits << 4 | symbol as u8;
            }
            value[byte] = bits;
        }
        if i % CHECK_EVERY == CHECK_EVERY - 1 && decoder.is_past_end() {
            return Err(Error::truncated("the coded data"));
        }
    }
    Ok(())
}
