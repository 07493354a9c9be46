//! From a container to the file.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use campana_codebook::Packing;
use campana_tensor::{Limits, MemoryBudget, MemoryExceeded};
use miniz_oxide::inflate::decompress_slice_iter_to_slice;

use crate::entropy::{
    CodeLayout, CodeModels, Decoder, KINDS, LANES, MAX_WIDTH, ValueModels, decode_codes,
    decode_values,
};
use crate::format::{CODES, Cursor, MAGIC, STREAM_SYMBOLS, TEXT, VALUES, VERSION, packing_of};
use crate::{Error, ErrorKind};

/// Bytes that one byte of deflated data can become at most.
const MAX_INFLATION: usize = 1_032;

/// A piece of the file as the list describes it.
enum Described {
    Text {
        len: usize,
    },
    Codes {
        layout: CodeLayout,
        packing: Packing,
        len: usize,
    },
    Values {
        width: usize,
        kind: usize,
        len: usize,
    },
}

impl Described {
    fn len(&self) -> usize {
        match *self {
            Self::Text { len } | Self::Codes { len, .. } | Self::Values { len, .. } => len,
        }
    }

    fn symbols(&self) -> usize {
        match *self {
            Self::Text { .. } => 0,
            Self::Codes { layout, .. } => layout.count,
            Self::Values { len, .. } => len,
        }
    }

    /// Bytes that decoding it needs beside the file.
    fn memory(&self) -> usize {
        match self {
            // Two bytes a column, and the codes of eight rows; the codes
            // themselves have a buffer for all pieces.
            Self::Codes { layout, .. } => layout
                .row_len
                .saturating_mul(2 + LANES)
                .saturating_add(CodeModels::LEN_BYTES),
            _ => 0,
        }
    }

    /// Codes that it holds.
    fn codes(&self) -> usize {
        match self {
            Self::Codes { layout, .. } => layout.count,
            _ => 0,
        }
    }
}

/// The head of a container.
struct Head<'a> {
    file_len: usize,
    checksum: u32,
    list_len: usize,
    rest: Cursor<'a>,
}

impl<'a> Head<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut rest = Cursor {
            rest: bytes,
            what: "its head",
        };
        if !bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())]) || bytes.is_empty() {
            return Err(Error::new(
                ErrorKind::NotContainer,
                "these bytes are no campana container, which begins with \"CMPN\"",
            ));
        }
        rest.bytes(MAGIC.len())?;
        let version = rest.byte()?;
        if version != VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the container is of version {version} of the format; this is a reader of \
                     version {VERSION}"
                ),
            ));
        }
        let file_len = rest.number()?;
        let checksum = rest.bytes(4)?.try_into().map(u32::from_le_bytes);
        Ok(Self {
            file_len,
            checksum: checksum.expect("four bytes"),
            list_len: rest.number()?,
            rest,
        })
    }
}

/// Bytes of the file in a container.
///
/// # Errors
///
/// Where the head is of another format or version, or cut off.
pub fn unpacked_len(container: &[u8]) -> Result<usize, Error> {
    Head::read(container).map(|head| head.file_len)
}

/// The file in a container, byte for byte.
///
/// Memory: the file, the list of its pieces, and while a tensor of codes is
/// decoded a byte for each of them, ten for each of its columns. All of it is
/// held to [`Limits::memory_for`] the container's length before it is taken,
/// and the pieces to [`Limits::max_pieces`].
///
/// # Errors
///
/// Where the bytes are of another format or version, cut off or damaged, or
/// the limits do not suffice; see [`ErrorKind`].
pub fn unpack(container: &[u8], limits: &Limits) -> Result<Vec<u8>, Error> {
    let Head {
        file_len,
        checksum,
        list_len,
        mut rest,
    } = Head::read(container)?;
    let mut budget = MemoryBudget::new(limits, container.len() as u64);
    budget
        .take(file_len.saturating_add(list_len))
        .map_err(limit)?;
    let (body, end) = container
        .len()
        .checked_sub(4)
        .map(|at| container.split_at(at))
        .ok_or_else(|| Error::truncated("its head"))?;
    if crc32fast::hash(body).to_le_bytes() != *end {
        return Err(Error::malformed(
            "the container's checksum is not that of its bytes; it was damaged or cut off",
        ));
    }
    rest.rest = &rest.rest[..rest.rest.len().saturating_sub(4)];
    rest.what = "its list of pieces";
    let deflated_len = rest.number()?;
    let list = inflated(rest.bytes(deflated_len)?, list_len)?;
    let mut list = Cursor {
        rest: &list,
        what: "its list of pieces",
    };
    let pieces = describe(&mut list, file_len, limits, &mut budget)?;
    let most = |memory: fn(&Described) -> usize| pieces.iter().map(memory).max().unwrap_or(0);
    budget
        .take(most(Described::memory).saturating_add(most(Described::codes)))
        .map_err(limit)?;
    let file = assemble(&pieces, list, rest, file_len)?;
    if crc32fast::hash(&file) != checksum {
        return Err(Error::malformed(
            "the checksum of the file is not that of what was unpacked",
        ));
    }
    Ok(file)
}

fn limit(exceeded: MemoryExceeded) -> Error {
    Error::new(ErrorKind::Limit, format!("the container: {exceeded}"))
}

/// The list of pieces, which is said to have `len` bytes.
fn inflated(deflated: &[u8], len: usize) -> Result<Vec<u8>, Error> {
    if len > deflated.len().saturating_mul(MAX_INFLATION) {
        return Err(Error::malformed(format!(
            "the list of pieces is said to have {len} bytes, more than {} compressed bytes can hold",
            deflated.len()
        )));
    }
    let mut list = vec![0; len];
    let found = decompress_slice_iter_to_slice(&mut list, core::iter::once(deflated), false, true)
        .map_err(|status| {
            Error::malformed(format!("the list of pieces cannot be read: {status:?}"))
        })?;
    if found != len {
        return Err(Error::malformed(format!(
            "the list of pieces has {found} bytes, not {len}"
        )));
    }
    Ok(list)
}

/// The list of pieces; together they are as long as the file.
fn describe(
    list: &mut Cursor<'_>,
    file_len: usize,
    limits: &Limits,
    budget: &mut MemoryBudget,
) -> Result<Vec<Described>, Error> {
    let count = list.number()?;
    if count > limits.max_pieces {
        let message = format!(
            "the container has {count} pieces, more than the limit of {}",
            limits.max_pieces
        );
        return Err(Error::new(ErrorKind::Limit, message));
    }
    // Each piece takes two bytes of the list at least.
    if count > list.rest.len() / 2 {
        return Err(Error::malformed(
            "there are more pieces than their list holds",
        ));
    }
    budget
        .take(count.saturating_mul(size_of::<Described>()))
        .map_err(limit)?;
    let mut pieces = Vec::with_capacity(count);
    let mut left = file_len;
    for _ in 0..count {
        let piece = match list.byte()? {
            TEXT => Described::Text {
                len: list.number()?,
            },
            CODES => describe_codes(list)?,
            VALUES => describe_values(list)?,
            kind => {
                return Err(Error::malformed(format!(
                    "there is no piece of kind {kind}"
                )));
            }
        };
        left = left
            .checked_sub(piece.len())
            .ok_or_else(|| Error::malformed("the pieces are longer than the file"))?;
        pieces.push(piece);
    }
    if left > 0 {
        return Err(Error::malformed("the pieces are shorter than the file"));
    }
    Ok(pieces)
}

fn describe_codes(list: &mut Cursor<'_>) -> Result<Described, Error> {
    let number = list.byte()?;
    let packing = packing_of(number)
        .ok_or_else(|| Error::malformed(format!("there is no packing {number}")))?;
    let len = list.number()?;
    let count = (len / packing.planes())
        .checked_mul(packing.codes_per_byte())
        .filter(|_| len.is_multiple_of(packing.planes()))
        .ok_or_else(|| Error::malformed(format!("{len} bytes are no whole bit planes")))?;
    let layout = CodeLayout {
        count,
        row_len: list.number()?,
        centre: list.byte()?,
        low_bits: list.byte()?,
        mean: list.byte()?,
    };
    if layout.row_len == 0 || layout.row_len > count.max(1) || layout.low_bits > 7 {
        return Err(Error::malformed(
            "the layout of a tensor's codes is impossible",
        ));
    }
    Ok(Described::Codes {
        layout,
        packing,
        len,
    })
}

fn describe_values(list: &mut Cursor<'_>) -> Result<Described, Error> {
    let (width, kind) = (usize::from(list.byte()?), usize::from(list.byte()?));
    let len = list.number()?.checked_mul(width);
    match len {
        Some(len) if (1..=MAX_WIDTH).contains(&width) && kind < KINDS => {
            Ok(Described::Values { width, kind, len })
        }
        _ => Err(Error::malformed("the layout of values is impossible")),
    }
}

/// Codes that a packing can tell apart.
fn levels(packing: &Packing) -> usize {
    match packing {
        Packing::Digits { base, .. } => *base,
        _ => 1 << packing.planes(),
    }
}

/// The file out of its text and its coded pieces.
fn assemble(
    pieces: &[Described],
    mut text: Cursor<'_>,
    mut streams: Cursor<'_>,
    file_len: usize,
) -> Result<Vec<u8>, Error> {
    text.what = "the text";
    streams.what = "the coded data";
    let mut file = vec![0; file_len];
    let mut free = file.as_mut_slice();
    let most_codes = pieces.iter().map(Described::codes).max().unwrap_or(0);
    let mut codes = vec![0; most_codes];
    let mut code_models: Option<CodeModels> = None;
    let mut value_models = ValueModels::default();
    let mut decoder: Option<Decoder<'_>> = None;
    let mut symbols = 0;
    for piece in pieces {
        let (bytes, later) = free.split_at_mut(piece.len());
        free = later;
        if piece.symbols() > 0 && decoder.is_none() {
            let len = streams.number()?;
            decoder = Some(Decoder::new(streams.bytes(len)?)?);
        }
        match (piece, &mut decoder) {
            (
                Described::Codes {
                    layout, packing, ..
                },
                Some(decoder),
            ) => {
                let codes = &mut codes[..layout.count];
                let models = code_models.get_or_insert_with(CodeModels::new);
                decode_codes(layout, models, decoder, codes)?;
                let levels = levels(packing);
                if codes.iter().any(|&code| usize::from(code) >= levels) {
                    return Err(Error::malformed("a code is larger than its packing holds"));
                }
                packing.pack(codes, bytes);
            }
            (Described::Values { width, kind, .. }, Some(decoder)) => {
                decode_values(*width, *kind, &mut value_models, decoder, bytes)?;
            }
            (Described::Text { len }, _) => bytes.copy_from_slice(text.bytes(*len)?),
            // Pieces of no bytes.
            _ => {}
        }
        symbols += piece.symbols();
        if symbols >= STREAM_SYMBOLS {
            symbols = 0;
            decoder.take().map_or(Ok(()), Decoder::finish)?;
        }
    }
    decoder.map_or(Ok(()), Decoder::finish)?;
    if !text.rest.is_empty() || !streams.rest.is_empty() {
        return Err(Error::malformed("there is more than the pieces need"));
    }
    Ok(file)
}
