//! Writing of FlatBuffers: tables of numbered fields, vectors and texts, each
//! referred to by its distance.
//!
//! # References
//!
//! FlatBuffers internals, <https://flatbuffers.dev/internals/>.

use std::collections::BTreeMap;

/// Alignment of bytes, so that kernels may map them.
const BYTES_ALIGNMENT: usize = 16;

/// A field of a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Field {
    Bool(bool),
    I8(i8),
    I32(i32),
    U32(u32),
    F32(f32),
    Text(String),
    Bytes(Vec<u8>),
    I32s(Vec<i32>),
    I64s(Vec<i64>),
    F32s(Vec<f32>),
    Table(Table),
    Tables(Vec<Table>),
}

/// Fields by their number in the schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table(pub(crate) Vec<(usize, Field)>);

/// The file whose root is a table; `identifier` are the four bytes that tell
/// its schema.
pub(crate) fn file(root: Table, identifier: [u8; 4]) -> Vec<u8> {
    let mut writer = Writer {
        bytes: vec![0; 4],
        shared: BTreeMap::new(),
    };
    writer.bytes.extend(identifier);
    let at = writer.table(root);
    writer.refer(0, at);
    writer.write_shared();
    writer.bytes
}

struct Writer {
    bytes: Vec<u8>,
    /// Lists of long integers, which are written once each and behind all that
    /// refer to them: those of zero points repeat.
    shared: BTreeMap<Vec<i64>, Vec<usize>>,
}

impl Field {
    /// Bytes inside of the table: the number itself, or a distance.
    fn len(&self) -> usize {
        match self {
            Self::Bool(_) | Self::I8(_) => 1,
            _ => 4,
        }
    }
}

impl Writer {
    /// Writes a table and all that it refers to; returns its place.
    fn table(&mut self, Table(mut fields): Table) -> usize {
        // Larger fields first, so that all are aligned.
        fields.sort_by_key(|(_, field)| std::cmp::Reverse(field.len()));
        let slots = fields.iter().map(|(slot, _)| slot + 1).max().unwrap_or(0);
        let mut offsets = vec![0u16; slots];
        let mut len = 4;
        for (slot, field) in &fields {
            offsets[*slot] = len;
            len += field.len() as u16;
        }
        let vtable_len = 4 + 2 * slots;
        self.pad(4, vtable_len);
        let vtable = self.bytes.len();
        self.bytes.extend((vtable_len as u16).to_le_bytes());
        self.bytes.extend(len.to_le_bytes());
        for offset in offsets {
            self.bytes.extend(offset.to_le_bytes());
        }
        let table = self.bytes.len();
        self.bytes.extend(((table - vtable) as i32).to_le_bytes());
        let mut referred = Vec::new();
        for (_, field) in fields {
            match field {
                Field::Bool(value) => self.bytes.push(value.into()),
                Field::I8(value) => self.bytes.extend(value.to_le_bytes()),
                Field::I32(value) => self.bytes.extend(value.to_le_bytes()),
                Field::U32(value) => self.bytes.extend(value.to_le_bytes()),
                Field::F32(value) => self.bytes.extend(value.to_le_bytes()),
                other => referred.push((self.hole(), other)),
            }
        }
        for (hole, field) in referred {
            if let Field::I64s(values) = field {
                self.shared.entry(values).or_default().push(hole);
                continue;
            }
            let at = self.referred(field);
            self.refer(hole, at);
        }
        table
    }

    /// Writes what a table refers to; returns its place.
    fn referred(&mut self, field: Field) -> usize {
        match field {
            Field::Text(text) => {
                let at = self.vector(4, text.len(), text.bytes());
                self.bytes.push(0);
                at
            }
            Field::Bytes(bytes) => self.vector(BYTES_ALIGNMENT, bytes.len(), bytes),
            Field::I32s(values) => self.vector(4, values.len(), flat(&values, i32::to_le_bytes)),
            Field::F32s(values) => self.vector(4, values.len(), flat(&values, f32::to_le_bytes)),
            Field::Table(table) => self.table(table),
            Field::Tables(tables) => {
                let at = self.vector(4, tables.len(), []);
                let holes: Vec<usize> = tables.iter().map(|_| self.hole()).collect();
                for (hole, table) in holes.into_iter().zip(tables) {
                    let at = self.table(table);
                    self.refer(hole, at);
                }
                at
            }
            Field::Bool(_)
            | Field::I8(_)
            | Field::I32(_)
            | Field::U32(_)
            | Field::F32(_)
            | Field::I64s(_) => unreachable!("numbers are in the table, shared lists at the end"),
        }
    }

    /// Writes the lists that several tables may refer to.
    fn write_shared(&mut self) {
        for (values, holes) in std::mem::take(&mut self.shared) {
            let at = self.vector(8, values.len(), flat(&values, i64::to_le_bytes));
            for hole in holes {
                self.refer(hole, at);
            }
        }
    }

    /// Writes the number of elements and the elements, which are aligned.
    fn vector(
        &mut self,
        alignment: usize,
        count: usize,
        bytes: impl IntoIterator<Item = u8>,
    ) -> usize {
        self.pad(alignment.max(4), 4);
        let at = self.bytes.len();
        self.bytes.extend((count as u32).to_le_bytes());
        self.bytes.extend(bytes);
        at
    }

    /// Zeros, until what follows `len` more bytes is aligned.
    fn pad(&mut self, alignment: usize, len: usize) {
        let end = (self.bytes.len() + len).next_multiple_of(alignment);
        self.bytes.resize(end - len, 0);
    }

    /// Room for a distance.
    fn hole(&mut self) -> usize {
        let at = self.bytes.len();
        self.bytes.extend([0; 4]);
        at
    }

    fn refer(&mut self, hole: usize, at: usize) {
        self.bytes[hole..hole + 4].copy_from_slice(&((at - hole) as u32).to_le_bytes());
    }
}

fn flat<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&value| bytes(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u32_at(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    /// The place of a field of the table at a place.
    fn field(bytes: &[u8], table: usize, slot: usize) -> Option<usize> {
        let vtable = table - u32_at(bytes, table);
        let len = usize::from(bytes[vtable]);
        let at = 4 + 2 * slot;
        let offset = (at < len).then(|| usize::from(bytes[vtable + at]))?;
        (offset != 0).then_some(table + offset)
    }

    #[test]
    fn fields_are_found_by_their_number() {
        let inner = Table(vec![(1, Field::I8(-3)), (3, Field::I64s(vec![7, -1]))]);
        let root = Table(vec![
            (0, Field::U32(3)),
            (2, Field::Tables(vec![Table::default(), inner])),
            (5, Field::Bytes(vec![1, 2, 3])),
            (6, Field::Text("ab".to_owned())),
        ]);
        let bytes = file(root, *b"TEST");
        assert_eq!(&bytes[4..8], b"TEST");
        let root = u32_at(&bytes, 0);
        let at = |slot| field(&bytes, root, slot).unwrap();
        let follow = |at: usize| at + u32_at(&bytes, at);
        assert_eq!(u32_at(&bytes, at(0)), 3);
        assert_eq!(field(&bytes, root, 1), None);
        let data = follow(at(5));
        assert_eq!((u32_at(&bytes, data), (data + 4) % BYTES_ALIGNMENT), (3, 0));
        assert_eq!(bytes[data + 4..data + 7], [1, 2, 3]);
        let text = follow(at(6));
        assert_eq!(&bytes[text + 4..text + 7], b"ab\0");
        let tables = follow(at(2));
        assert_eq!(u32_at(&bytes, tables), 2);
        let inner = follow(tables + 8);
        assert_eq!(bytes[field(&bytes, inner, 1).unwrap()].cast_signed(), -3);
        let longs = follow(field(&bytes, inner, 3).unwrap());
        assert_eq!((u32_at(&bytes, longs), (longs + 4) % 8), (2, 0));
    }
}
