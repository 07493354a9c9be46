//! NumPy's `.npy`: a magic number, a header that is a Python dict, the data.

use std::io::Read;

use campana_tensor::ElementType;

use crate::error::shown;
use crate::place::{Bytes, MAX_RANK, Place, count, element_len};
use crate::source::Source;
use crate::stream::stream;
use crate::{Error, ErrorKind, Result, TensorEntry};

/// Bytes of a header at most; NumPy itself warns from 10,000 on.
const MAX_HEADER: usize = 1 << 20;

/// The array in these bytes of a file.
pub(crate) fn read(source: &Source, index: usize, name: &str, bytes: Bytes) -> Result<TensorEntry> {
    let mut stream = stream(source, bytes);
    let mut head = [0; 8];
    stream.read_exact(&mut head).map_err(ended)?;
    if !head.starts_with(b"\x93NUMPY") {
        return Err(Error::malformed(format!("'{name}' is no NumPy array")));
    }
    let (len, prefix) = if head[6] == 1 {
        let mut len = [0; 2];
        stream.read_exact(&mut len).map_err(ended)?;
        (usize::from(u16::from_le_bytes(len)), 10)
    } else {
        let mut len = [0; 4];
        stream.read_exact(&mut len).map_err(ended)?;
        (u32::from_le_bytes(len) as usize, 12)
    };
    if len > MAX_HEADER {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!("array '{name}' has a header of {len} bytes, expected at most {MAX_HEADER}"),
        ));
    }
    let mut text = vec![0; len];
    stream.read_exact(&mut text).map_err(ended)?;
    let text = String::from_utf8_lossy(&text);
    let header = Header::parse(&text).ok_or_else(|| {
        Error::malformed(format!(
            "array '{name}' has the header {}, expected a dict with descr, fortran_order and shape",
            shown(text.trim_end())
        ))
    })?;
    let element_type = element_type(name, &header.descr)?;
    let data_start = prefix + len as u64;
    let size = count(name, &header.shape)? as u64;
    let expected = size.checked_mul(element_len(name, element_type)?);
    let found = bytes.len().saturating_sub(data_start);
    if expected.is_none_or(|expected| expected > found) {
        return Err(Error::malformed(format!(
            "array '{name}' of shape {:?} and type {} has only {found} bytes of data",
            header.shape, header.descr
        )));
    }
    let place = Place {
        source: index,
        bytes,
        offset: data_start,
        strides: header.fortran_order.then(|| column_major(&header.shape)),
    };
    Ok(TensorEntry {
        name: name.to_owned(),
        element_type,
        type_name: header.descr,
        len_bytes: expected.unwrap_or(0),
        shape: header.shape,
        place,
    })
}

struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, as
    /// written by every version of NumPy.
    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let at = text.find(&format!("'{key}':"))?;
            Some(text[at + key.len() + 3..].trim_start())
        };
        let descr = value("descr")?;
        let descr = match descr.strip_prefix('\'') {
            Some(rest) => rest.split_once('\'')?.0.to_owned(),
            // A list of fields: a structured array.
            None => descr.split_once(']')?.0.to_owned() + "]",
        };
        let order = value("fortran_order")?;
        let fortran_order = order.starts_with("True");
        if !fortran_order && !order.starts_with("False") {
            return None;
        }
        let (shape, _) = value("shape")?.strip_prefix('(')?.split_once(')')?;
        let shape = shape
            .split(',')
            .map(str::trim)
            .filter(|extent| !extent.is_empty())
            // One too many is refused, whatever follows.
            .take(MAX_RANK + 1)
            .map(|extent| extent.trim_end_matches('L').parse().ok())
            .collect::<Option<_>>()?;
        Some(Self {
            descr,
            fortran_order,
            shape,
        })
    }
}

fn element_type(name: &str, descr: &str) -> Result<ElementType> {
    let kind = descr.trim_start_matches(['<', '|', '=', '>']);
    if kind.starts_with('O') {
        return Err(Error::unsupported(format!(
            "array '{name}' holds Python objects (type {descr}), which are not read; save an array of numbers"
        )));
    }
    let element_type = match kind {
        "f8" => ElementType::F64,
        "f4" => ElementType::F32,
        "f2" => ElementType::F16,
        "i8" => ElementType::I64,
        "i4" => ElementType::I32,
        "i2" => ElementType::I16,
        "i1" => ElementType::I8,
        "u8" => ElementType::U64,
        "u4" => ElementType::U32,
        "u2" => ElementType::U16,
        "u1" => ElementType::U8,
        "b1" => ElementType::Bool,
        _ => {
            return Err(Error::unsupported(format!(
                "array '{name}' has elements of type {descr}, expected whole numbers or floats"
            )));
        }
    };
    if descr.starts_with('>') && element_type.is_float() {
        return Err(Error::unsupported(format!(
            "array '{name}' is big-endian (type {descr}); save it with .astype('<{kind}')"
        )));
    }
    Ok(element_type)
}

fn column_major(shape: &[usize]) -> Vec<usize> {
    let mut stride: usize = 1;
    shape
        .iter()
        .map(|&extent| {
            let this = stride;
            // Overflows only where an array has no elements.
            stride = stride.saturating_mul(extent.max(1));
            this
        })
        .collect()
}

fn ended(cause: std::io::Error) -> Error {
    Error::read(
        "the header of the NumPy array cannot be read; it is damaged or truncated",
        cause,
    )
}
