//! Writing NumPy archives: arrays by their names, each as a `.npy`, stored without
//! compression as `numpy.savez` does.

use std::io::{Seek, Write};

use campana_tensor::{ElementType, Tensor, TensorData};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::{Error, ErrorKind, Result};

/// Data begin at multiples of this.
const ALIGNMENT: usize = 64;

/// Magic number, version and length of a header of version 1.0.
const PREAMBLE: usize = 10;

/// Writes arrays as an archive; those of bfloat16, which NumPy lacks, as float32.
///
/// # Errors
///
/// Where writing fails, two arrays have one name, or one is of strings.
pub fn write_npz<'a>(
    out: impl Write + Seek,
    arrays: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<()> {
    let failed = |cause: std::io::Error| Error::io("cannot write arrays", cause);
    let mut archive = ZipWriter::new(out);
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(true);
    for (name, array) in arrays {
        let bytes = npy(name, array)?;
        let started = archive.start_file(format!("{name}.npy"), options);
        started.map_err(|error| failed(error.into()))?;
        archive.write_all(&bytes).map_err(failed)?;
    }
    let mut out = archive.finish().map_err(|error| failed(error.into()))?;
    out.flush().map_err(failed)
}

/// An array as a file of its own.
fn npy(name: &str, array: &Tensor) -> Result<Vec<u8>> {
    let wide = match array.data() {
        TensorData::Bf16(values) => {
            Some(TensorData::F32(values.iter().map(|v| v.to_f32()).collect()))
        }
        _ => None,
    };
    let data = wide.as_ref().unwrap_or(array.data());
    let (Some(descr), Some(elements)) = (descr(data.element_type()), data.to_le_bytes()) else {
        let message = format!("'{name}' has elements that NumPy archives have no type for");
        return Err(Error::new(ErrorKind::Unsupported, message));
    };
    let extents: Vec<String> = array.shape().iter().map(ToString::to_string).collect();
    let shape = match &extents[..] {
        [single] => format!("({single},)"),
        extents => format!("({})", extents.join(", ")),
    };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let len = (PREAMBLE + header.len() + 1).next_multiple_of(ALIGNMENT) - PREAMBLE;
    header.extend(std::iter::repeat_n(' ', len - header.len() - 1));
    header.push('\n');
    // Tensors have a few axes, and headers of this version 64 kB.
    let len = u16::try_from(len).map_err(|_| {
        Error::new(
            ErrorKind::Unsupported,
            format!("'{name}' has too many axes"),
        )
    })?;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(len.to_le_bytes());
    bytes.extend(header.into_bytes());
    bytes.extend(elements);
    Ok(bytes)
}

fn descr(element_type: ElementType) -> Option<&'static str> {
    Some(match element_type {
        ElementType::F16 => "<f2",
        ElementType::F32 => "<f4",
        ElementType::F64 => "<f8",
        ElementType::I8 => "|i1",
        ElementType::I16 => "<i2",
        ElementType::I32 => "<i4",
        ElementType::I64 => "<i8",
        ElementType::U8 => "|u1",
        ElementType::U16 => "<u2",
        ElementType::U32 => "<u4",
        ElementType::U64 => "<u8",
        ElementType::Bool => "|b1",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{Limits, TensorFile};

    #[test]
    fn arrays_are_read_as_they_were_written() {
        let floats = Tensor::new(vec![2, 3], TensorData::F32(vec![0.5; 6])).unwrap();
        let indices = Tensor::new(vec![3], TensorData::I64(vec![1, -2, 3])).unwrap();
        let scalar = Tensor::new(Vec::new(), TensorData::Bool(vec![true])).unwrap();
        let mut out = Cursor::new(Vec::new());
        let arrays = [("a", &floats), ("b", &indices), ("c", &scalar)];
        write_npz(&mut out, arrays).unwrap();
        let file = TensorFile::from_bytes("m.npz", out.into_inner(), &Limits::DEFAULT).unwrap();
        for ((name, array), entry) in arrays.iter().zip(file.tensors()) {
            assert_eq!((&*entry.name, &*entry.shape), (*name, array.shape()));
            let bytes = array.data().to_le_bytes().unwrap();
            assert_eq!(file.read_bytes(entry).unwrap(), bytes);
        }
        let strings = Tensor::new(vec![1], TensorData::String(vec!["s".to_owned()])).unwrap();
        let error = write_npz(Cursor::new(Vec::new()), [("s", &strings)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
