//! New bytes of a model: fields under construction, large payloads not yet made.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use crate::source::Span;
use crate::{Error, ErrorKind, Result, Source};

/// Writes a payload when its turn comes.
type WritePayload<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'a>;

/// Fields of a protobuf message, or any bytes, to be written.
///
/// Methods add one field each and return the whole. Payloads can be borrowed,
/// copied from the model ([`copy`](Self::copy)) or made while they are written
/// ([`stream`](Self::stream)), so that memory use stays small.
#[derive(Debug, Default)]
pub struct Content<'a> {
    parts: Vec<Part<'a>>,
    len: u64,
}

enum Part<'a> {
    Bytes(Cow<'a, [u8]>),
    Copy(Span),
    Stream { len: u64, write: WritePayload<'a> },
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Copy(span) => write!(f, "copy of {span:?}"),
            Self::Stream { len, .. } => write!(f, "stream of {len} bytes"),
        }
    }
}

impl<'a> Content<'a> {
    /// Bytes as they are.
    pub fn bytes(bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        let bytes = bytes.into();
        Self {
            len: bytes.len() as u64,
            parts: vec![Part::Bytes(bytes)],
        }
    }

    /// Bytes of the model that is being edited.
    pub fn copy(span: Span) -> Self {
        Self {
            len: span.len(),
            parts: vec![Part::Copy(span)],
        }
    }

    /// Exactly `len` bytes that `write` makes when they are due.
    pub fn stream(
        len: u64,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'a,
    ) -> Self {
        let write = Box::new(write);
        Self {
            len,
            parts: vec![Part::Stream { len, write }],
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds other content at the end.
    #[must_use]
    pub fn then(mut self, other: impl Into<Content<'a>>) -> Self {
        let other = other.into();
        self.len += other.len;
        self.parts.extend(other.parts);
        self
    }

    /// Adds an integer field. Zero is written too.
    #[must_use]
    pub fn int(mut self, number: u32, value: i64) -> Self {
        self.write_small(|bytes| {
            put_varint(bytes, u64::from(number) << 3);
            put_varint(bytes, value as u64);
        });
        self
    }

    /// Adds a float field.
    #[must_use]
    pub fn float(mut self, number: u32, value: f32) -> Self {
        self.write_small(|bytes| {
            put_varint(bytes, u64::from(number) << 3 | 5);
            bytes.extend(value.to_le_bytes());
        });
        self
    }

    /// Adds a string field.
    #[must_use]
    pub fn string(self, number: u32, value: &str) -> Self {
        self.message(number, Content::bytes(value.as_bytes().to_vec()))
    }

    /// Adds a packed field of integers.
    #[must_use]
    pub fn ints(self, number: u32, values: &[i64]) -> Self {
        let mut bytes = Vec::with_capacity(values.len());
        for &value in values {
            put_varint(&mut bytes, value as u64);
        }
        self.message(number, Content::bytes(bytes))
    }

    /// Adds a packed field of floats.
    #[must_use]
    pub fn floats(self, number: u32, values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.message(number, Content::bytes(bytes))
    }

    /// Adds a field that holds a message, or bytes, with their length before
    /// them.
    #[must_use]
    pub fn message(mut self, number: u32, body: impl Into<Content<'a>>) -> Self {
        let body = body.into();
        self.write_small(|bytes| {
            put_varint(bytes, u64::from(number) << 3 | 2);
            put_varint(bytes, body.len);
        });
        self.then(body)
    }

    /// All bytes, in memory.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write) does, and [`ErrorKind::Argument`] where parts are
    /// to be copied: there is no model to copy them from.
    pub fn into_bytes(self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write(&Source::from_bytes(Vec::new()), &mut bytes)?;
        Ok(bytes)
    }

    /// Writes everything; `source` is what parts are copied from.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] where `out`, `source` or the maker of a payload fails,
    /// [`ErrorKind::Argument`] where a payload is not as long as was said or a
    /// copy lies outside `source`.
    pub fn write(self, source: &Source, out: &mut dyn Write) -> Result<()> {
        let cannot_write = |cause| Error::io("cannot write the output", cause);
        for part in self.parts {
            match part {
                Part::Bytes(bytes) => out.write_all(&bytes).map_err(cannot_write)?,
                Part::Copy(span) => source.copy_to(span, out)?,
                Part::Stream { len, write } => {
                    let mut counted = Counted { out, written: 0 };
                    write(&mut counted).map_err(cannot_write)?;
                    if counted.written != len {
                        let message =
                            format!("a payload announced as {len} bytes has {}", counted.written);
                        return Err(Error::new(ErrorKind::Argument, message));
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds a few bytes, to the last part where it is owned bytes: most content
    /// is many small fields in a row.
    fn write_small(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(Part::Bytes(Cow::Owned(bytes))) = self.parts.last_mut() {
            let before = bytes.len();
            write(bytes);
            self.len += (bytes.len() - before) as u64;
            return;
        }
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.len += bytes.len() as u64;
        self.parts.push(Part::Bytes(bytes.into()));
    }
}

impl From<Vec<u8>> for Content<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::bytes(bytes)
    }
}

impl<'a> From<&'a [u8]> for Content<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::bytes(bytes)
    }
}

/// Counts what passes through.
struct Counted<'o> {
    out: &'o mut dyn Write,
    written: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.out.write(bytes)?;
        self.written += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Appends a number in its shortest form.
pub(crate) fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Bytes of a number in its shortest form.
pub(crate) fn varint_len(value: u64) -> u64 {
    u64::from((value | 1).ilog2() / 7 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_length_that_is_foretold() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                assert_eq!(bytes.len() as u64, varint_len(value), "{value}");
            }
        }
    }

    #[test]
    fn small_fields_share_a_part() {
        let content = Content::default().int(1, 5).int(2, -1).float(3, 1.0);
        assert_eq!(content.parts.len(), 1);
        assert_eq!(content.len(), 2 + 11 + 5);
        let content = content.message(4, Content::stream(2, |out| out.write_all(b"ab")));
        let bytes = content.into_bytes().expect("written");
        assert_eq!(bytes[..2], [0x08, 0x05]);
        assert_eq!(bytes[18..], [0x22, 2, b'a', b'b']);
    }

    #[test]
    fn a_payload_of_another_length_is_refused() {
        for len in [1, 3] {
            let content = Content::stream(len, |out| out.write_all(b"ab"));
            let error = content.into_bytes().expect_err("a wrong length");
            assert_eq!(error.kind(), ErrorKind::Argument);
        }
    }

    #[test]
    fn a_payload_that_cannot_be_made_is_an_error() {
        let content = Content::stream(1, |_| Err(io::Error::other("no")));
        let error = content.into_bytes().expect_err("no payload");
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
