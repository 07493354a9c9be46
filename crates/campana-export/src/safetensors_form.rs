//! Quantized tensors as a safetensors file, for weights that come without a
//! graph; `docs/safetensors-form.md` describes it byte by byte.

use std::fs::File;
use std::path::Path;

use campana_codebook::{Packing, QuantizedTensor, Storage};
use campana_formats::{Result, SafetensorsWriter, TensorEntry};
use campana_tensor::ElementType;
use serde_json::{Map, Value, json};

/// Key of the metadata that says how tensors are decoded.
const METADATA_KEY: &str = "campana";

/// Versions of the form; readers refuse others. The second has codes in vectors,
/// and is written where there are some.
const VERSION: u32 = 1;
const VERSION_WITH_VECTORS: u32 = 2;

/// A safetensors file under way.
#[derive(Debug)]
pub struct SafetensorsForm {
    writer: SafetensorsWriter,
    tensors: Map<String, Value>,
    version: u32,
}

impl SafetensorsForm {
    /// Begins a file; what it holds waits in `folder` until it is finished.
    ///
    /// # Errors
    ///
    /// Where nothing can be written there.
    pub fn new(folder: &Path) -> Result<Self> {
        Ok(Self {
            writer: SafetensorsWriter::new(folder)?,
            tensors: Map::new(),
            version: VERSION,
        })
    }

    /// Adds free text.
    pub fn metadata(&mut self, key: &str, text: &str) {
        self.writer.metadata(key, text);
    }

    /// Adds a tensor as it is in another file.
    ///
    /// # Errors
    ///
    /// Where writing fails, or there is a tensor of that name.
    pub fn copy(&mut self, tensor: &TensorEntry, bytes: &[u8]) -> Result<()> {
        self.writer.copy(tensor, bytes)
    }

    /// Adds the codes, levels, scales and shifts of a tensor; returns their
    /// bytes. `type_name` is what the tensor was stored in before.
    ///
    /// # Errors
    ///
    /// As of [`copy`](Self::copy).
    pub fn add(&mut self, name: &str, type_name: &str, tensor: &QuantizedTensor) -> Result<u64> {
        let QuantizedTensor { tables, .. } = tensor;
        let mut len_bytes = 0;
        let mut part = |suffix: &str, element_type, shape: &[usize], bytes: &[u8]| {
            len_bytes += bytes.len() as u64;
            let name = format!("{name}.{suffix}");
            self.writer.tensor(&name, element_type, shape, bytes)
        };
        let packed = &tensor.packed;
        part("codes", ElementType::U8, &[packed.len()], packed)?;
        let levels = tables.storage().encode(tables.values());
        let shape = [tables.count(), tables.levels()];
        part("levels", element_type(tables.storage()), &shape, &levels)?;
        if let Some(numbers) = &tensor.table_of_group {
            let (bytes, wide) = table_numbers(numbers, tables.count());
            let element_type = if wide {
                ElementType::U16
            } else {
                ElementType::U8
            };
            part("table", element_type, &[numbers.len()], &bytes)?;
        }
        for (suffix, values) in [("scale", &tensor.scale), ("shift", &tensor.shift)] {
            if let Some((values, storage)) = values {
                let bytes = storage.encode(values);
                part(suffix, element_type(*storage), &[values.len()], &bytes)?;
            }
        }
        let packing = match &tensor.packing {
            Packing::Planes { bits } => json!({"planes": bits}),
            Packing::Digits { base, per_byte } => json!({"base": base, "per_byte": per_byte}),
            Packing::Vectors(vectors) => {
                let shape = [256, vectors.dimension()];
                self.version = VERSION_WITH_VECTORS;
                part("vectors", ElementType::U8, &shape, vectors.table())?;
                json!({"vectors": vectors.dimension()})
            }
            other => unreachable!("{other:?} has no description"),
        };
        let description = json!({
            "dtype": type_name,
            "shape": tensor.shape,
            "groups": tensor.partition.extents(),
            "packing": packing,
            "scale_unit": tensor.scale_unit.map(f64::from),
        });
        self.tensors.insert(name.to_owned(), description);
        Ok(len_bytes)
    }

    /// The two parts of the whole file: the header, its length before it, and
    /// a file of all data, at its start.
    ///
    /// # Errors
    ///
    /// Where writing fails.
    pub fn into_parts(mut self) -> Result<(Vec<u8>, File)> {
        if !self.tensors.is_empty() {
            let description = json!({"version": self.version, "tensors": self.tensors});
            self.writer.metadata(METADATA_KEY, &description.to_string());
        }
        self.writer.into_parts()
    }
}

/// Numbers of tables among `tables`, in one byte each where that is enough.
fn table_numbers(numbers: &[u16], tables: usize) -> (Vec<u8>, bool) {
    if tables <= 256 {
        (numbers.iter().map(|&number| number as u8).collect(), false)
    } else {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        (bytes.collect(), true)
    }
}

fn element_type(storage: Storage) -> ElementType {
    match storage {
        Storage::F32 => ElementType::F32,
        Storage::F16 => ElementType::F16,
        Storage::I8 => ElementType::I8,
        other => unreachable!("{other:?} is not written"),
    }
}
