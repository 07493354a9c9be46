//! The protobuf wire format: fields, their numbers and their extents.
//!
//! Reading is by position: a caller walks the fields of a message and decides
//! which payloads to look into; everything else is skipped without being read.
//!
//! # References
//!
//! Protocol Buffers, "Encoding", protobuf.dev/programming-guides/encoding.

use crate::source::Span;
use crate::{Error, ErrorKind, Result, Source};

/// Groups, which no writer of ONNX makes, may be nested this deep, as in other
/// readers.
const MAX_DEPTH: usize = 100;

/// Bytes read ahead. Small beside a weight tensor, so that little of its
/// payload is read when only its header is wanted.
const READ_AHEAD: u64 = 8192;

/// One occurrence of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) number: u32,
    /// The whole occurrence, tag included.
    pub(crate) span: Span,
    /// Length of the tag.
    pub(crate) tag_len: u8,
    pub(crate) value: Value,
}

/// What a field holds, as far as the wire format tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Varint(u64),
    Fixed64(u64),
    Bytes(Span),
    Group,
    Fixed32(u32),
}

impl Value {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Varint(_) => "a varint",
            Self::Fixed64(_) => "8 fixed bytes",
            Self::Bytes(_) => "a length and bytes",
            Self::Group => "a group",
            Self::Fixed32(_) => "4 fixed bytes",
        }
    }
}

/// Reads fields and numbers at any position of a source.
#[derive(Debug)]
pub(crate) struct Reader<'s> {
    source: &'s Source,
    buffer: Vec<u8>,
    buffer_start: u64,
}

impl<'s> Reader<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            buffer_start: 0,
        }
    }

    pub(crate) fn source(&self) -> &'s Source {
        self.source
    }

    /// The field at `at` of the message `body`, or `None` at its end; moves
    /// `at` past it.
    pub(crate) fn field(&mut self, at: &mut u64, body: Span) -> Result<Option<Field>> {
        if *at >= body.end {
            return Ok(None);
        }
        let start = *at;
        let (number, wire_type) = self.tag(at, body)?;
        let tag_len = (*at - start) as u8;
        let value = match wire_type {
            0 => Value::Varint(self.varint(at, body)?),
            1 => Value::Fixed64(u64::from_le_bytes(self.fixed(at, body)?)),
            2 => {
                let len = self.varint(at, body)?;
                let left = body.end - *at;
                if len > left {
                    let message =
                        format!("field {number} should hold {len} bytes, but {left} are left");
                    return Err(self.cut_off(body, &message).at(start));
                }
                let payload = Span {
                    start: *at,
                    end: *at + len,
                };
                *at = payload.end;
                Value::Bytes(payload)
            }
            3 => {
                self.skip_group(at, body, number)?;
                Value::Group
            }
            4 => {
                let message = format!("end of group {number}, which has not begun");
                return Err(Error::new(ErrorKind::Malformed, message).at(start));
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.fixed(at, body)?)),
            other => {
                let message = format!("field {number} has wire type {other}, which does not exist");
                return Err(Error::new(ErrorKind::Malformed, message).at(start));
            }
        };
        let span = Span { start, end: *at };
        Ok(Some(Field {
            number,
            span,
            tag_len,
            value,
        }))
    }

    fn tag(&mut self, at: &mut u64, body: Span) -> Result<(u32, u8)> {
        let start = *at;
        let tag = self.varint(at, body)?;
        let number = tag >> 3;
        if number == 0 || number >= 1 << 29 {
            let message = format!("field number {number} is outside 1 to 536870911");
            return Err(Error::new(ErrorKind::Malformed, message).at(start));
        }
        Ok((number as u32, (tag & 7) as u8))
    }

    /// A group's fields are skipped one by one: only they tell where it ends.
    fn skip_group(&mut self, at: &mut u64, body: Span, number: u32) -> Result<()> {
        let start = *at;
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            if *at >= body.end {
                let message = format!("group {innermost} has no end");
                return Err(self.cut_off(body, &message).at(start));
            }
            let field_start = *at;
            let (number, wire_type) = self.tag(at, body)?;
            match wire_type {
                3 => {
                    open.push(number);
                    if open.len() > MAX_DEPTH {
                        let message = format!("groups are nested deeper than {MAX_DEPTH}");
                        return Err(Error::new(ErrorKind::Limit, message).at(field_start));
                    }
                }
                4 if number == innermost => drop(open.pop()),
                4 => {
                    let message = format!("end of group {number} where that of {innermost} is due");
                    return Err(Error::new(ErrorKind::Malformed, message).at(field_start));
                }
                _ => {
                    *at = field_start;
                    self.field(at, body)?;
                }
            }
        }
        Ok(())
    }

    /// A number of up to 64 bits, 7 to a byte, least significant first. Longer
    /// forms of a small number are accepted, as everywhere.
    pub(crate) fn varint(&mut self, at: &mut u64, body: Span) -> Result<u64> {
        let start = *at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            if *at >= body.end {
                return Err(self.cut_off(body, "a number is cut off").at(start));
            }
            let byte = self.byte(*at)?;
            *at += 1;
            if shift == 63 && byte & 0x7f > 1 {
                let message = "a number does not fit in 64 bits";
                return Err(Error::new(ErrorKind::Malformed, message).at(start));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        let message = "a number is longer than 10 bytes";
        Err(Error::new(ErrorKind::Malformed, message).at(start))
    }

    pub(crate) fn fixed<const N: usize>(&mut self, at: &mut u64, body: Span) -> Result<[u8; N]> {
        let left = body.end - *at;
        if left < N as u64 {
            let message = format!("a number of {N} bytes is cut off after {left}");
            return Err(self.cut_off(body, &message).at(*at));
        }
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte(*at)?;
            *at += 1;
        }
        Ok(bytes)
    }

    /// Only the file as a whole can be cut off; a message inside it whose
    /// fields overrun it is malformed.
    fn cut_off(&self, body: Span, what: &str) -> Error {
        if body == self.source.span() {
            let message = format!(
                "the file is cut off: it ends at byte {}, where {what}; copy or download it again",
                body.end
            );
            Error::new(ErrorKind::Truncated, message)
        } else {
            let message = format!("{what} before its message ends at byte {}", body.end);
            Error::new(ErrorKind::Malformed, message)
        }
    }

    /// The bytes of a range; short ones, such as names, by way of the buffer.
    pub(crate) fn bytes(&mut self, span: Span) -> Result<Vec<u8>> {
        if span.len() > READ_AHEAD {
            return self.source.read(span);
        }
        let len = span.len() as usize;
        if let Some(bytes) = self.buffered(span.start).get(..len) {
            return Ok(bytes.to_vec());
        }
        self.fill(span.start)?;
        Ok(self.buffer[..len].to_vec())
    }

    fn byte(&mut self, at: u64) -> Result<u8> {
        if let Some(&byte) = self.buffered(at).first() {
            return Ok(byte);
        }
        self.fill(at)?;
        Ok(self.buffer[0])
    }

    /// What the buffer holds from this position on.
    fn buffered(&self, at: u64) -> &[u8] {
        let index = at.checked_sub(self.buffer_start);
        let index = index.and_then(|index| usize::try_from(index).ok());
        index.map_or(&[], |index| self.buffer.get(index..).unwrap_or(&[]))
    }

    fn fill(&mut self, at: u64) -> Result<()> {
        let len = (self.source.len().saturating_sub(at)).min(READ_AHEAD);
        self.buffer.clear();
        self.buffer.resize(len as usize, 0);
        self.buffer_start = at;
        let result = self.source.read_at(at, &mut self.buffer);
        if result.is_err() {
            self.buffer.clear();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the fields of `bytes`, seen as a message inside a larger source
    /// (`nested`) or as the source itself.
    fn fields(bytes: &[u8], nested: bool) -> Result<Vec<Field>> {
        let mut all = bytes.to_vec();
        if nested {
            all.push(0);
        }
        let source = Source::from_bytes(all);
        let body = Span {
            start: 0,
            end: bytes.len() as u64,
        };
        let mut reader = Reader::new(&source);
        let (mut at, mut fields) = (0, Vec::new());
        while let Some(field) = reader.field(&mut at, body)? {
            fields.push(field);
        }
        Ok(fields)
    }

    #[test]
    fn every_wire_type_is_read() {
        let bytes = [
            0x08, 0x96, 0x01, // 1: 150
            0x11, 1, 0, 0, 0, 0, 0, 0, 0, // 2: fixed64
            0x1a, 0x02, 0xaa, 0xbb, // 3: two bytes
            0x23, 0x08, 0x01, 0x2b, 0x2c, 0x1a, 0x01, 0xcc, 0x24, // 4: group in group
            0x35, 2, 0, 0, 0, // 6: fixed32
        ];
        let fields = fields(&bytes, false).expect("valid");
        let values: Vec<_> = fields.iter().map(|f| (f.number, f.value)).collect();
        let payload = Span { start: 14, end: 16 };
        assert_eq!(
            values,
            [
                (1, Value::Varint(150)),
                (2, Value::Fixed64(1)),
                (3, Value::Bytes(payload)),
                (4, Value::Group),
                (6, Value::Fixed32(2)),
            ]
        );
        assert_eq!(fields[3].span, Span { start: 16, end: 25 });
    }

    #[test]
    fn malformed_bytes_are_named_with_their_place() {
        let deep = [vec![0x0b; MAX_DEPTH + 2], vec![0x0c; MAX_DEPTH + 2]].concat();
        let cases: [(&[u8], ErrorKind, &str); 11] = [
            (&[0x08, 0x80], ErrorKind::Malformed, "number is cut off"),
            (&[0x08], ErrorKind::Malformed, "number is cut off"),
            (
                &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
                ErrorKind::Malformed,
                "64 bits",
            ),
            (
                &[0x08, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1],
                ErrorKind::Malformed,
                "10 bytes",
            ),
            (
                &[0x0a, 0x03, 0, 0],
                ErrorKind::Malformed,
                "should hold 3 bytes, but 2",
            ),
            (&[0x0d, 0, 0, 0], ErrorKind::Malformed, "cut off after 3"),
            (&[0x00, 0x00], ErrorKind::Malformed, "field number 0"),
            (&[0x0e, 0x00], ErrorKind::Malformed, "wire type 6"),
            (&[0x0c], ErrorKind::Malformed, "not begun"),
            (&[0x0b, 0x14], ErrorKind::Malformed, "end of group 2"),
            (&deep, ErrorKind::Limit, "deeper"),
        ];
        for (bytes, kind, message) in cases {
            let error = fields(bytes, true).expect_err(message);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains(message), "{error}");
            assert!(error.offset().is_some(), "{error}");
        }
    }

    #[test]
    fn only_the_whole_file_is_called_cut_off() {
        let bytes = [0x0a, 0x03, 0, 0];
        let error = fields(&bytes, false).expect_err("cut off");
        assert_eq!(error.kind(), ErrorKind::Truncated);
        assert_eq!(error.offset(), Some(0));
        let error = fields(&[0x0b, 0x08, 0x01], false).expect_err("cut off");
        assert_eq!(error.kind(), ErrorKind::Truncated);
    }

    #[test]
    fn long_forms_of_small_numbers_are_accepted() {
        let bytes = [0x88, 0x80, 0x00, 0x85, 0x80, 0x80, 0x00];
        let fields = fields(&bytes, false).expect("valid");
        assert_eq!((fields[0].number, fields[0].value), (1, Value::Varint(5)));
        assert_eq!(fields[0].tag_len, 3);
    }

    #[test]
    fn the_largest_number_is_read() {
        let bytes = [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        let fields = fields(&bytes, false).expect("valid");
        assert_eq!(fields[0].value, Value::Varint(u64::MAX));
    }
}
