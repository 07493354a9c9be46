//! The safetensors format: the length of a JSON header, the header, the data.

use std::collections::HashSet;
use std::fmt;

use campana_tensor::ElementType;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::place::{Bytes, Place, count, element_len};
use crate::source::Source;
use crate::{Error, ErrorKind, Result, TensorEntry};

/// Bytes of a header at most, as the format's own reader has it.
const MAX_HEADER: u64 = 100_000_000;

/// Free text by its key.
pub(crate) type Metadata = Vec<(String, String)>;

/// A header: tensors in the file's order, and free text.
#[derive(Debug, Default)]
pub(crate) struct Header {
    pub(crate) tensors: Vec<(String, Info)>,
    pub(crate) metadata: Metadata,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

#[derive(Default)]
struct Pairs(Metadata);

/// The tensors of a file; its index among the files is `index`.
pub(crate) fn read(source: &Source, index: usize) -> Result<(Vec<TensorEntry>, Metadata)> {
    let mut len = [0; 8];
    if source.len() < 8 {
        return Err(Error::malformed(format!(
            "it has {} bytes, expected a safetensors header",
            source.len()
        )));
    }
    source.read_at(0, &mut len)?;
    let len = u64::from_le_bytes(len);
    if len > MAX_HEADER {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!("its header has {len} bytes, expected at most {MAX_HEADER}"),
        ));
    }
    if len > source.len() - 8 {
        return Err(Error::malformed(format!(
            "its header has {len} bytes, but the file only {}: it is truncated or no safetensors file",
            source.len()
        )));
    }
    let mut text = vec![0; len as usize];
    source.read_at(8, &mut text)?;
    let header: Header = serde_json::from_slice(&text)
        .map_err(|error| Error::malformed(format!("its header is wrong: {error}")))?;
    let data = Bytes::Plain {
        start: 8 + len,
        len: source.len() - 8 - len,
        crc: None,
    };
    let tensors = header
        .tensors
        .iter()
        .map(|(name, info)| entry(name, info, index, data))
        .collect::<Result<Vec<_>>>()?;
    check_overlaps(&header, data.len())?;
    Ok((tensors, header.metadata))
}

fn entry(name: &str, info: &Info, source: usize, data: Bytes) -> Result<TensorEntry> {
    let element_type = element_type(&info.dtype);
    let [begin, end] = info.data_offsets;
    if begin > end || end > data.len() {
        return Err(Error::malformed(format!(
            "tensor '{name}' has the bytes from {begin} to {end}, outside of the data of {} bytes",
            data.len()
        )));
    }
    let count = count(name, &info.shape)?;
    if let Some(element_type) = element_type {
        let expected = element_len(name, element_type)?.checked_mul(count as u64);
        if expected != Some(end - begin) {
            return Err(Error::malformed(format!(
                "tensor '{name}' has {} bytes, but {} elements of {}",
                end - begin,
                count,
                info.dtype
            )));
        }
    }
    Ok(TensorEntry {
        name: name.to_owned(),
        element_type: element_type.unwrap_or(ElementType::Other(0)),
        type_name: info.dtype.clone(),
        shape: info.shape.clone(),
        place: Place {
            source,
            bytes: data,
            offset: begin,
            strides: None,
        },
        len_bytes: end - begin,
    })
}

fn check_overlaps(header: &Header, data_len: u64) -> Result<()> {
    let mut ranges: Vec<_> = header
        .tensors
        .iter()
        .map(|(name, info)| (info.data_offsets, name))
        .collect();
    ranges.sort();
    for pair in ranges.windows(2) {
        let [([_, end], first), ([begin, _], second)] = pair else {
            continue;
        };
        if begin < end {
            return Err(Error::malformed(format!(
                "tensors '{first}' and '{second}' overlap: one ends at byte {end}, the other begins at {begin}"
            )));
        }
        if begin > end {
            return Err(Error::malformed(format!(
                "there is a hole between the tensors '{first}' and '{second}': bytes {end} to {begin} belong to none"
            )));
        }
    }
    let end = ranges.last().map_or(0, |([_, end], _)| *end);
    if end != data_len {
        return Err(Error::malformed(format!(
            "its tensors end at byte {end} of the data, which has {data_len} bytes"
        )));
    }
    Ok(())
}

/// The type of this name; `None` where its values are not read, and are only
/// copied.
fn element_type(name: &str) -> Option<ElementType> {
    Some(match name {
        "F64" => ElementType::F64,
        "F32" => ElementType::F32,
        "F16" => ElementType::F16,
        "BF16" => ElementType::Bf16,
        "I64" => ElementType::I64,
        "I32" => ElementType::I32,
        "I16" => ElementType::I16,
        "I8" => ElementType::I8,
        "U64" => ElementType::U64,
        "U32" => ElementType::U32,
        "U16" => ElementType::U16,
        "U8" => ElementType::U8,
        "BOOL" => ElementType::Bool,
        _ => return None,
    })
}

/// The name of a type; `None` where the format has none for it.
pub(crate) fn type_name(element_type: ElementType) -> Option<&'static str> {
    Some(match element_type {
        ElementType::F64 => "F64",
        ElementType::F32 => "F32",
        ElementType::F16 => "F16",
        ElementType::Bf16 => "BF16",
        ElementType::I64 => "I64",
        ElementType::I32 => "I32",
        ElementType::I16 => "I16",
        ElementType::I8 => "I8",
        ElementType::U64 => "U64",
        ElementType::U32 => "U32",
        ElementType::U16 => "U16",
        ElementType::U8 => "U8",
        ElementType::Bool => "BOOL",
        _ => return None,
    })
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with an entry for each tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header::default();
                let mut names = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("'{name}' is there twice")));
                    }
                    if name == "__metadata__" {
                        header.metadata = map.next_value::<Pairs>()?.0;
                    } else {
                        header.tensors.push((name, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Pairs::default();
                while let Some(pair) = map.next_entry()? {
                    pairs.0.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
