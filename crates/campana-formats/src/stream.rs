//! Runs of bytes as streams.

use std::io::{BufReader, Read};

use flate2::read::DeflateDecoder;

use crate::place::Bytes;
use crate::source::Source;

/// The bytes of a run as a stream, decompressed.
pub(crate) fn stream(source: &Source, bytes: Bytes) -> Box<dyn Read + '_> {
    match bytes {
        Bytes::Plain { start, len } => Box::new(source.reader(start, len)),
        Bytes::Deflated {
            start,
            packed_len,
            len,
        } => {
            let packed = BufReader::new(source.reader(start, packed_len));
            Box::new(DeflateDecoder::new(packed).take(len))
        }
    }
}
