//! Runs of bytes as streams: decompressed, and checked against their CRC.

use std::io::{self, BufReader, Read};

use flate2::read::DeflateDecoder;

use crate::place::Bytes;
use crate::source::Source;

/// Bytes read at a time: a checksum is computed while they are in the cache.
const BLOCK: usize = 1 << 18;

/// The bytes of a run as a stream, decompressed. The last read fails with
/// `InvalidData` where the run has a checksum that is not that of its bytes,
/// and with `UnexpectedEof` where they are fewer than the file says.
pub(crate) fn stream(source: &Source, bytes: Bytes) -> Box<dyn Read + '_> {
    match bytes {
        Bytes::Plain {
            start,
            len,
            crc: None,
        } => Box::new(source.reader(start, len)),
        Bytes::Plain {
            start,
            len,
            crc: Some(crc),
        } => Box::new(Checked::new(source.reader(start, len), len, crc)),
        Bytes::Deflated {
            start,
            packed_len,
            len,
            crc,
        } => {
            let packed = BufReader::new(source.reader(start, packed_len));
            Box::new(Checked::new(DeflateDecoder::new(packed), len, crc))
        }
    }
}

/// Reads to the end, so that a checksum is compared.
pub(crate) fn drain(stream: &mut dyn Read) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    while stream.read(&mut block)? > 0 {}
    Ok(())
}

/// A stream of known length and checksum.
struct Checked<R> {
    inner: R,
    left: u64,
    hasher: crc32fast::Hasher,
    expected: u32,
}

impl<R> Checked<R> {
    fn new(inner: R, len: u64, expected: u32) -> Self {
        Self {
            inner,
            left: len,
            hasher: crc32fast::Hasher::new(),
            expected,
        }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(BLOCK) as u64;
        let block = &mut buffer[..self.left.min(most) as usize];
        let count = self.inner.read(block)?;
        if count == 0 && !block.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.hasher.update(&block[..count]);
        self.left -= count as u64;
        if self.left == 0 && self.hasher.clone().finalize() != self.expected {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its checksum (CRC-32) is not that of its bytes; the file is damaged",
            ));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], len: u64, crc: u32) -> io::Result<Vec<u8>> {
        let source = Source::from_bytes("m", bytes.to_vec());
        let run = Bytes::Plain {
            start: 1,
            len,
            crc: Some(crc),
        };
        let mut found = Vec::new();
        stream(&source, run).read_to_end(&mut found)?;
        Ok(found)
    }

    #[test]
    fn bytes_come_with_the_right_checksum_alone() {
        let bytes: Vec<u8> = (0..600_000u32).map(|i| (i % 253) as u8).collect();
        let crc = crc32fast::hash(&bytes[1..500_001]);
        assert_eq!(read(&bytes, 500_000, crc).unwrap(), bytes[1..500_001]);
        let error = read(&bytes, 500_000, crc ^ 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(read(&bytes, 0, 0).unwrap().is_empty());
        assert!(read(&bytes, 0, 1).is_err());
    }

    #[test]
    fn a_run_that_is_shorter_than_said_is_an_error() {
        let source = Source::from_bytes("m", vec![3, 0]);
        let run = Bytes::Deflated {
            start: 0,
            packed_len: 2,
            len: 5,
            crc: 0,
        };
        let error = drain(&mut *stream(&source, run)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
