//! From a file's pieces to a container.

use alloc::vec;
use alloc::vec::Vec;

use campana_codebook::Packing;
use miniz_oxide::deflate::{CompressionLevel, compress_to_vec};

use crate::entropy::{
    CodeLayout, CodeModels, Encoder, KINDS, MAX_WIDTH, ValueModels, encode_codes, encode_values,
};
use crate::format::{
    CODES, MAGIC, STREAM_SYMBOLS, TEXT, VALUES, VERSION, packing_number, put_number,
};

/// A run of a file's bytes, by how it is coded best.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece<'a> {
    /// Anything.
    Text(&'a [u8]),
    /// Packed codes of a weight tensor.
    Codes {
        /// The codes as [`Packing::pack`] lays them.
        packed: &'a [u8],
        /// How they lie.
        packing: Packing,
        /// Codes of one output channel, or of whatever else is alike.
        row_len: usize,
    },
    /// Numbers of `width` bytes each, little-endian.
    Values {
        /// The numbers.
        bytes: &'a [u8],
        /// Bytes of a number: 1 to 8.
        width: usize,
        /// Values of one kind share statistics: 0 to 7, as the caller sees fit.
        kind: usize,
    },
}

/// Codes the pieces of a file. Pieces that do not have the form they claim
/// (codes with something in their padding, half a value) are stored as text.
pub fn pack(pieces: &[Piece<'_>]) -> Vec<u8> {
    let mut list = Vec::new();
    let mut text: Vec<&[u8]> = Vec::new();
    let mut checksum = crc32fast::Hasher::new();
    let mut file_len = 0;
    let mut streams = Streams::default();
    put_number(&mut list, pieces.len());
    for piece in pieces {
        let bytes = match piece {
            Piece::Codes {
                packed,
                packing,
                row_len,
            } => {
                if streams
                    .add_codes(packed, packing, *row_len, &mut list)
                    .is_none()
                {
                    add_text(packed, &mut list, &mut text);
                }
                *packed
            }
            &Piece::Values { bytes, width, kind } => {
                let fits = (1..=MAX_WIDTH).contains(&width) && bytes.len().is_multiple_of(width);
                if fits && kind < KINDS {
                    streams.add_values(bytes, width, kind, &mut list);
                } else {
                    add_text(bytes, &mut list, &mut text);
                }
                bytes
            }
            &Piece::Text(bytes) => {
                add_text(bytes, &mut list, &mut text);
                bytes
            }
        };
        checksum.update(bytes);
        file_len += bytes.len();
    }
    text.iter().for_each(|bytes| list.extend_from_slice(bytes));
    let deflated = compress_to_vec(&list, CompressionLevel::UberCompression as u8);
    let mut out = Vec::from(MAGIC);
    out.push(VERSION);
    put_number(&mut out, file_len);
    out.extend(checksum.finalize().to_le_bytes());
    put_number(&mut out, list.len());
    put_number(&mut out, deflated.len());
    out.extend(deflated);
    for stream in streams.finish() {
        put_number(&mut out, stream.len());
        out.extend(stream);
    }
    let checksum = crc32fast::hash(&out);
    out.extend(checksum.to_le_bytes());
    out
}

fn add_text<'a>(bytes: &'a [u8], list: &mut Vec<u8>, text: &mut Vec<&'a [u8]>) {
    list.push(TEXT);
    put_number(list, bytes.len());
    text.push(bytes);
}

/// The streams of coded pieces.
#[derive(Default)]
struct Streams {
    encoder: Encoder,
    symbols: usize,
    codes: Option<CodeModels>,
    values: ValueModels,
    done: Vec<Vec<u8>>,
}

impl Streams {
    /// `None`, and nothing changed, where the codes cannot be had back.
    fn add_codes(
        &mut self,
        packed: &[u8],
        packing: &Packing,
        row_len: usize,
        list: &mut Vec<u8>,
    ) -> Option<()> {
        let number = packing_number(packing)?;
        if !packed.len().is_multiple_of(packing.planes()) {
            return None;
        }
        let count = packed.len() / packing.planes() * packing.codes_per_byte();
        let codes = packing.unpack(packed, count);
        let mut again = vec![0; packed.len()];
        packing.pack(&codes, &mut again);
        if again != packed {
            return None;
        }
        let layout = CodeLayout::of(&codes, row_len);
        list.extend([CODES, number]);
        put_number(list, packed.len());
        put_number(list, layout.row_len);
        list.extend([layout.centre, layout.low_bits, layout.mean]);
        let models = self.codes.get_or_insert_with(CodeModels::new);
        encode_codes(&codes, &layout, models, &mut self.encoder);
        self.end_piece(count);
        Some(())
    }

    fn add_values(&mut self, bytes: &[u8], width: usize, kind: usize, list: &mut Vec<u8>) {
        list.extend([VALUES, width as u8, kind as u8]);
        put_number(list, bytes.len() / width);
        encode_values(bytes, width, kind, &mut self.values, &mut self.encoder);
        self.end_piece(bytes.len());
    }

    fn end_piece(&mut self, symbols: usize) {
        self.symbols += symbols;
        if self.symbols >= STREAM_SYMBOLS {
            self.symbols = 0;
            self.done.push(core::mem::take(&mut self.encoder).finish());
        }
    }

    fn finish(mut self) -> Vec<Vec<u8>> {
        if self.symbols > 0 {
            self.done.push(self.encoder.finish());
        }
        self.done
    }
}
