//! Writing safetensors: a header that is known when all tensors are, before
//! data that should not wait in memory.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

use campana_tensor::ElementType;
use serde_json::{Map, Value, json};

use crate::safetensors::type_name;
use crate::{Error, Result, TensorEntry};

/// Data begin at multiples of this, for readers that map the file.
const HEADER_ALIGNMENT: usize = 8;

/// A safetensors file under way. Tensors go to a file without a name until
/// all are known; the header then comes before them.
#[derive(Debug)]
pub struct SafetensorsWriter {
    header: Map<String, Value>,
    metadata: Map<String, Value>,
    data: BufWriter<File>,
    len: u64,
}

impl SafetensorsWriter {
    /// Begins a file; the data waits in `folder`.
    ///
    /// # Errors
    ///
    /// Where no file can be made there.
    pub fn new(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder)
            .map_err(|cause| Error::io(format!("cannot write to '{}'", folder.display()), cause))?;
        Ok(Self {
            header: Map::new(),
            metadata: Map::new(),
            data: BufWriter::with_capacity(1 << 20, file),
            len: 0,
        })
    }

    /// Adds free text.
    pub fn metadata(&mut self, key: &str, text: &str) {
        self.metadata.insert(key.to_owned(), text.into());
    }

    /// Adds a tensor of little-endian elements, row-major.
    ///
    /// # Errors
    ///
    /// Where writing fails, the format has no such type, or there is a tensor
    /// of that name.
    pub fn tensor(
        &mut self,
        name: &str,
        element_type: ElementType,
        shape: &[usize],
        bytes: &[u8],
    ) -> Result<()> {
        let type_name = type_name(element_type).ok_or_else(|| {
            Error::unsupported(format!(
                "tensor '{name}' has a type that safetensors does not know"
            ))
        })?;
        self.add(name, type_name, shape, bytes)
    }

    /// Adds a tensor as it is in another file.
    ///
    /// # Errors
    ///
    /// As of [`tensor`](Self::tensor).
    pub fn copy(&mut self, tensor: &TensorEntry, bytes: &[u8]) -> Result<()> {
        let name = type_name(tensor.element_type).unwrap_or(&tensor.type_name);
        self.add(&tensor.name, name, &tensor.shape, bytes)
    }

    fn add(&mut self, name: &str, type_name: &str, shape: &[usize], bytes: &[u8]) -> Result<()> {
        let end = self.len + bytes.len() as u64;
        let info = json!({"dtype": type_name, "shape": shape, "data_offsets": [self.len, end]});
        if name == "__metadata__" || self.header.insert(name.to_owned(), info).is_some() {
            return Err(Error::unsupported(format!(
                "two tensors would have the name '{name}' in the output"
            )));
        }
        self.len = end;
        self.data
            .write_all(bytes)
            .map_err(|cause| Error::io("cannot write the output's data", cause))
    }

    /// Writes the whole file; returns its length in bytes.
    ///
    /// # Errors
    ///
    /// Where reading back or writing fails.
    pub fn finish(self, out: &mut dyn Write) -> Result<u64> {
        let (header, mut data) = self.into_parts()?;
        let mut write = || {
            out.write_all(&header)?;
            io::copy(&mut data, out)
        };
        let copied = write().map_err(|cause| Error::io("cannot write the output", cause))?;
        Ok(header.len() as u64 + copied)
    }

    /// The two parts of the whole file: the header, its length before it, and
    /// a file of all data, at its start.
    ///
    /// # Errors
    ///
    /// Where writing fails.
    pub fn into_parts(mut self) -> Result<(Vec<u8>, File)> {
        if !self.metadata.is_empty() {
            self.header
                .insert("__metadata__".to_owned(), Value::Object(self.metadata));
        }
        let header = Value::Object(self.header).to_string();
        let len = header.len().next_multiple_of(HEADER_ALIGNMENT);
        let mut bytes = (len as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(8 + len, b' ');
        let rewound = || -> io::Result<File> {
            let mut data = self.data.into_inner()?;
            data.rewind()?;
            Ok(data)
        };
        let data = rewound().map_err(|cause| Error::io("cannot write the output's data", cause))?;
        Ok((bytes, data))
    }
}
